"""`kasparro-etl migrate`: bring the database to the schema of this version, and the roles to their rights."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from shared import logs, migrations
from shared.db import Connection, Forbidden, database, one_line
from shared.errors import SchemaError, SettingsError
from shared.roles import Part, ensure_role
from shared.settings import read_dsn, read_settings

FILE = click.Path(path_type=Path)


@click.command(short_help="Bring the database to the schema of this version.")
@click.option("--etl-role", type=FILE, metavar="FILE", help="Also set up the role in the address in this file: it runs the ETL.")
@click.option("--api-role", type=FILE, metavar="FILE", help="The same for the role that serves the API: it reads, and queues runs.")
def migrate(etl_role: Path | None, api_role: Path | None) -> None:
    """Apply the migrations the database has not had. Safe to repeat, and when several start at once.

    The owner of the tables runs it. The files hold the addresses that the ETL and the API get as DATABASE_URL_FILE and
    API_DATABASE_URL_FILE: their roles are made with these passwords, or given them, and what they need.

    \b
    Examples:
      DATABASE_URL=postgresql://owner@db/kasparro kasparro-etl migrate
      kasparro-etl migrate --etl-role /run/etl_url --api-role /run/api_url
    """
    settings = read_settings()
    logs.configure(settings)
    given: tuple[tuple[Part, Path | None], ...] = (("etl", etl_role), ("api", api_role))
    addresses = [(part, read_address(file)) for part, file in given if file]
    with database(settings, "kasparro-etl migrate") as link:
        applied = bring_up(link.conn)
        roles = [(part, ensure_role(link.conn, part, dsn)) for part, dsn in addresses]
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("nothing to apply: the schema is up to date")
    for part, role in roles:
        click.echo(f"role {role} may do what the {part} needs")


def bring_up(conn: Connection) -> list[str]:
    """Apply what is missing, and return its names. Who finds nothing to do needs no right to do it. Raises SchemaError."""
    with suppress(SchemaError):
        migrations.require_schema(conn)
        return []
    try:
        applied = migrations.migrate(conn)
        migrations.require_schema(conn)
    except (SchemaError, *Forbidden) as refused:
        forbidden = refused if isinstance(refused, Forbidden) else refused.__cause__
        if not isinstance(forbidden, Forbidden):
            raise
        reason = one_line(forbidden)
        step = "run it as the owner of the tables, or in an empty database as a role that may create tables"
        raise SchemaError(f"{conn.info.user} may not change the schema: {reason}: {step}") from refused
    return applied


def read_address(file: Path) -> str:
    """Read a Postgres address from a file. Raises SettingsError, without the address: it holds a password."""
    try:
        return read_dsn(file.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{file} cannot be read ({type(error).__name__}): name a file with a Postgres address"]) from None
    except ValueError as error:
        raise SettingsError([f"{file}: {error}"]) from None
