"""What every command opens first: settings, logs and a database whose schema this version knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from etl.terminal import wipe
from shared import logs
from shared.db import Link, database
from shared.migrations import migrate, require_schema
from shared.settings import Settings, read_settings


@contextmanager
def session(settings: Settings | None = None) -> Iterator[tuple[Settings, Link]]:
    """Open settings, logs and database for a command; settings that were read already are taken as they are.

    An embedded database is brought to the schema we need by itself; a `DATABASE_URL` is somebody's, so it is checked, not changed.
    Raises SettingsError, DatabaseError, SchemaError.
    """
    settings = settings or read_settings()
    logs.configure(settings)
    with database(settings, "kasparro-etl") as link:
        if settings.database_url is None:
            migrate(link.conn)
        require_schema(link.conn)
        wipe()
        yield settings, link
