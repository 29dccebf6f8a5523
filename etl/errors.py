"""What can go wrong with a source, and whether trying again may help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import KasparroError


class SourceError(KasparroError):
    """A source could not be read. `permanent`: the same request would fail again until somebody changes something."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class FetchError(SourceError):
    """An upstream did not answer with what was asked for; `status` is its HTTP status, if it sent one."""

    def __init__(self, message: str, *, permanent: bool = False, status: int | None = None) -> None:
        super().__init__(message, permanent=permanent)
        self.status = status


class Transient(Exception):
    """A failure of one try that another may mend; `after` is what upstream asked us to wait, in seconds."""

    def __init__(self, message: str, status: int | None = None, after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.after = status, after


class Locked(KasparroError):
    """Another run holds the source."""


class Fenced(KasparroError):
    """The lease was taken over while this run slept; it must write nothing more."""


class Stopped(KasparroError):
    """The operator or the platform asked the run to stop; `signal` is the number of SIGINT or SIGTERM, None for a deadline."""

    def __init__(self, message: str, signal: int | None = 2) -> None:
        super().__init__(message)
        self.signal = signal


class Blocked(SourceError):
    """Another session's lock kept the run from writing for longer than it waits."""


class FailureInjected(SourceError):
    """`ETL_FAIL_AFTER_N_RECORDS` was reached: the failure that was asked for."""


class Refused(SourceError):
    """The breaker or the shrink guard stopped the run: what upstream sent looks wrong as a whole."""


class Unrecognised(SourceError):
    """A file has no column for a field it needs; `records` are its rows under its own header, `stream` names files of its kind."""

    def __init__(self, message: str, stream: str, records: Sequence[tuple[str | None, Mapping[str, Any]]]) -> None:
        super().__init__(message, permanent=True)
        self.stream, self.records = stream, records


class CutShort(KeyboardInterrupt):
    """The batch in hand took longer than a stop may. Of this kind because the driver answers it by cancelling its statement."""


SEPARATOR = "; "


def kind_of(error: BaseException) -> str:
    """The word for an error in tables and reports: of several files or feeds, what went wrong with each where that is the same."""
    if not isinstance(error, OneOfMany):
        return type(error).__name__
    kinds = {kind_of(cause) for cause in error.causes}
    return kinds.pop() if len(kinds) == 1 else SourceError.__name__


class OneOfMany(SourceError):
    """The failures of some files or feeds, each a part; the rest were read. `causes` are the errors themselves."""

    def __init__(self, message: str, parts: Sequence[str], *, permanent: bool, causes: Sequence[SourceError] = ()) -> None:
        super().__init__(message, permanent=permanent)
        self.parts, self.causes = parts, causes


def one_of_many(what: str, total: int, failures: Sequence[tuple[str, SourceError]]) -> SourceError:
    """Fold the failures of some files or feeds into one error; the rest were read."""
    parts = [str(error) if name in str(error) else f"{name}: {error}" for name, error in failures]
    told = SEPARATOR.join(parts)
    message = told if total == 1 else f"{len(failures)} of {total} {what} failed: {told}"
    causes = [error for _, error in failures]
    return OneOfMany(message, parts, permanent=all(error.permanent for error in causes), causes=causes)
