"""Errors that either shell can meet before any source is read: settings, database, schema."""

from __future__ import annotations


class KasparroError(Exception):
    """An expected failure whose text is one line for an operator, ending in the next step."""


class SettingsError(KasparroError):
    """One or more settings are missing or unusable; the text has one line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class DatabaseError(KasparroError):
    """The database cannot be reached, was lost while in use, or gave up. `passing`: the same may succeed in a moment."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class TableLocked(DatabaseError):
    """Another session held a lock for longer than a statement waits: the transaction was undone."""


class SchemaError(KasparroError):
    """The database's schema is not the one this version works with."""
