"""The one table of exit codes: what each means, and which error leads to which."""

from __future__ import annotations

from etl.errors import Locked, SourceError, Stopped
from shared.errors import DatabaseError, KasparroError, SchemaError, SettingsError, TableLocked

EXIT_CODES: tuple[tuple[type[KasparroError], int], ...] = (
    (SettingsError, 2),
    (SourceError, 3),
    (TableLocked, 3),
    (DatabaseError, 4),
    (SchemaError, 4),
    (Locked, 5),
)

MEANINGS: tuple[tuple[str, str, str], ...] = (
    ("0", "all succeeded; nothing new is success, so is a skip", "nothing"),
    ("1", "a bug: the traceback is in the log", "report it; other sources ran"),
    ("2", "usage or configuration", "mend what the message names"),
    ("3", "a source failed, was refused, is late, differs; output lost", "mend that, run again to go on"),
    ("4", "database unreachable, or not migrated", "start it, or migrate it"),
    ("5", "every source asked for is locked by another run", "try later, or wait for it"),
    ("130", "stopped by SIGINT after a clean end of the batch", "run again to go on"),
    ("143", "stopped by SIGTERM after a clean end of the batch", "run again to go on"),
)
"""Code, meaning, and what to do."""


def exit_code(error: BaseException) -> int:
    """The exit code of an expected failure; of one that nobody foresaw, that of a bug."""
    if isinstance(error, Stopped):
        return 128 + error.signal if error.signal else 3
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)
