"""Migrations: numbered SQL scripts, append-only, applied in order, each in a transaction of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shared.db import Connection, LockTimeout, Lost, Refused, fetch_one, one_line
from shared.errors import SchemaError
from sql import Migration, queries, read_migrations


def migrate(conn: Connection) -> list[str]:
    """Apply what is missing and return the names applied. Safe when several processes start at once: one applies, the rest wait.

    Raises SchemaError when the database is ahead of this version, an applied script was edited since, or the server refuses one.
    """
    applied: list[str] = []
    require_encoding(conn)
    while True:
        with refusals_named("migration schema_migrations failed"), conn.transaction():
            conn.execute(queries["lock_migrations"])
            conn.execute(queries["create_migrations"])
            missing = missing_migrations(conn)
            if not missing:
                return applied
            with refusals_named(f"migration {missing[0].name} failed"):
                conn.execute(queries["bound_migration"])
                conn.execute(missing[0].script)
                conn.execute(queries["insert_migration"], {"name": missing[0].name, "checksum": missing[0].checksum})
        applied.append(missing[0].name)


@contextmanager
def refusals_named(what: str) -> Iterator[None]:
    """Turn what the server refuses into a SchemaError that says what failed; a lost connection passes."""
    try:
        yield
    except LockTimeout as error:
        raise SchemaError(
            f"{what}: another session holds a lock on a table: {one_line(error)}: nothing of it was kept, try again when runs have ended"
        ) from error
    except Lost:
        raise
    except Refused as error:
        reason = one_line(error)
        raise SchemaError(
            f"{what}: {reason}: nothing of it was kept, use a database of its own and a role that may create tables"
        ) from error


def require_encoding(conn: Connection) -> None:
    """Check that the database keeps text as UTF-8: another encoding cannot hold what upstreams send. Raises SchemaError."""
    row = fetch_one(conn, queries["get_encoding"])
    if row and row["encoding"] != "UTF8":
        raise SchemaError(f"the database keeps text as {row['encoding']}: make one with ENCODING 'UTF8' and name it in DATABASE_URL")


def require_schema(conn: Connection) -> None:
    """Check that the schema is the one this version works with. Raises SchemaError that names the next step."""
    known = read_migrations()
    require_encoding(conn)
    with refusals_named("the schema cannot be checked"):
        present = fetch_one(conn, queries["has_migrations"])
        missing = missing_migrations(conn) if present and next(iter(present.values())) else known
    if not missing:
        return
    at = known[len(known) - len(missing) - 1].name[:4] if len(missing) < len(known) else ""
    state = f"schema is at {at}" if at else "schema is empty"
    raise SchemaError(f"{state}, need {known[-1].name[:4]}: run `kasparro-etl migrate`")


def missing_migrations(conn: Connection) -> list[Migration]:
    """List the migrations this database has not had. Raises SchemaError when what it had is not what we know."""
    known = read_migrations()
    applied = conn.execute(queries["list_migrations"]).fetchall()
    for step, row in zip(known, applied, strict=False):
        if step.name != row["name"]:
            raise SchemaError(f"migration {row['name']} is unknown to this version: install the version of kasparro-etl that made it")
        if step.checksum != row["checksum"]:
            raise SchemaError(f"migration {step.name} was edited after it was applied: restore the file, add a new migration instead")
    if len(applied) > len(known):
        newest = applied[-1]["name"]
        raise SchemaError(f"schema is at {newest[:4]}, this version knows {known[-1].name[:4]}: install a newer kasparro-etl")
    return known[len(applied) :]
