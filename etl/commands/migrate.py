"""`kasparro-etl migrate`: bring the database to the schema of this version."""

from __future__ import annotations

import click

from shared import logs, migrations
from shared.db import database
from shared.settings import read_settings


@click.command()
def migrate() -> None:
    """Apply the migrations the database has not had. Safe to repeat, and when several start at once.

    \b
    Example:  DATABASE_URL=postgresql://etl@db/kasparro kasparro-etl migrate
    """
    settings = read_settings()
    logs.configure(settings)
    with database(settings, "kasparro-etl migrate") as link:
        applied = migrations.migrate(link.conn)
        migrations.require_schema(link.conn)
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("nothing to apply: the schema is up to date")
