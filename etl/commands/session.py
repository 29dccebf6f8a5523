"""What every command opens first: settings, logs and a database whose schema this version knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shared import logs
from shared.db import Connection, database
from shared.migrations import migrate, require_schema
from shared.settings import Settings, read_settings


@contextmanager
def session() -> Iterator[tuple[Settings, Connection]]:
    """Open settings, logs and database for a command.

    An embedded database is brought to the schema we need by itself; a `DATABASE_URL` is somebody's, so it is checked, not changed.
    Raises SettingsError, DatabaseError, SchemaError.
    """
    settings = read_settings()
    logs.configure(settings)
    with database(settings, "kasparro-etl") as conn:
        if settings.database_url is None:
            migrate(conn)
        require_schema(conn)
        yield settings, conn
