"""Backfills: the history of a past range, or of files, in chunks that several processes share and that are resumed one by one."""
