"""Drift: what an upstream's records look like, how that changed, and what to do about it."""
