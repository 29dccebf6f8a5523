"""`kasparro-etl doctor`: checks what a run depends on, a line each with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import click

from etl.doctor.finding import Finding, facts, line
from etl.doctor.machine import check_machine, data_disk
from etl.doctor.server import check_server, check_traces, schema
from etl.doctor.upstreams import check_upstreams
from etl.report import one_object, say
from etl.sources import SOURCES
from etl.terminal import wipe
from shared import logs
from shared.addresses import printable
from shared.db import Connection, database
from shared.errors import DatabaseError, SchemaError
from shared.migrations import migrate
from shared.settings import Settings, read_settings, secret_files


@click.command(short_help="Check what a run depends on, and say how to mend it.")
@click.option("--offline", is_flag=True, help="Ask no upstream.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
@click.pass_context
def doctor(ctx: click.Context, /, offline: bool, as_json: bool) -> None:
    """Check database, clock, disks, folders, secrets' files and every upstream. A line each:
    ✔ well, ! look at it, ✘ mend it. Exits 3 on any ✘, 4 when the database is unreachable.

    \b
    Examples:
      kasparro-etl doctor
      kasparro-etl doctor --offline --json
    """
    settings = read_settings()
    logs.configure(settings)
    hide, marks = logs.redactor(settings), set[str]()
    wipe()

    def tell(findings: Iterable[Finding]) -> None:
        for finding in findings:
            marks.add(finding.mark)
            clean = Finding(finding.mark, finding.name, printable(hide(finding.found)), printable(hide(finding.fix)))
            say(one_object(facts(clean)) if as_json else line(clean))

    tell(check_machine(settings, secret_files()))
    reached = check_database(settings, tell, offline=offline)
    code = 4 if not reached else 3 if "✘" in marks else 0
    if as_json:
        say(one_object({"type": "summary", "exit_code": code}))
    ctx.exit(code)


def check_database(settings: Settings, tell: Callable[[Iterable[Finding]], None], *, offline: bool) -> bool:
    """The checks around the database, and the upstreams within its rate budget. Returns whether it could be reached."""
    try:
        with database(settings, "kasparro-etl doctor") as link:
            if settings.database_url is None:
                migrate(link.conn)
            tell(check_server(settings, link.conn))
            tell(data_disk(link.conn))
            tell(of_tables(settings, link.conn, offline=offline))
            return True
    except (DatabaseError, SchemaError) as error:
        found, _, fix = str(error).rpartition(": ")
        tell([Finding("✘", "database", found or fix, fix if found else "see the message")])
    if not offline:
        tell(check_upstreams(settings, SOURCES, None))
    return False


def of_tables(settings: Settings, conn: Connection, *, offline: bool) -> Iterator[Finding]:
    """What needs our tables: leases, and the rate budget behind each upstream. Without them the upstreams are asked all the same."""
    migrated = schema(conn).mark == "✔"
    if migrated:
        yield from check_traces(settings, conn)
    if not offline:
        yield from check_upstreams(settings, SOURCES, conn if migrated else None)
