"""Every statement is named once, says what it is for, and is one that the migrated schema can plan."""

from __future__ import annotations

import re
from importlib.resources import files

import psycopg
import pytest

from shared.db import Connection
from sql import queries, read_migrations

VERBS = """list get count find has begin finish abandon acquire advance hold renew release ensure store stage insert upsert quarantine
take create enqueue listen lock bound retake resolve make forget mark end"""
FRAGMENT = "part_"
"""So begin the names of fragments: web/queries.py puts statements together from them, which tests/web/test_data_plans.py plans."""
STATEMENTS = [name for name in queries if not name.startswith(FRAGMENT)]
UNPLANNED = (
    "create_migrations",
    "create_staging",
    "stage_records",
    "listen_queue",
    "create_served",
    "create_served_prices",
    "create_scratch",
    "create_scratch_prices",
    "end_staging",
    "ensure_role",
    "ensure_etl_rights",
    "ensure_api_rights",
)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_has_a_verb_and_says_what_it_is_for(name: str) -> None:
    assert name.split("_")[0] in VERBS.split()
    assert queries[name].startswith(b"-- ")


@pytest.mark.parametrize("name", [name for name in STATEMENTS if name not in UNPLANNED])
def test_a_statement_can_be_planned_against_the_schema(conn: Connection, name: str) -> None:
    statement = re.sub(rb"%\(\w+\)[sb]", b"null", queries[name])
    with conn.transaction(force_rollback=True):
        conn.execute(queries["create_migrations"])
        for made in ("create_staging", "create_served", "create_served_prices"):
            conn.execute(queries[made])
        plan = psycopg.ClientCursor(conn).execute(b"explain " + statement).fetchall()
    assert plan


def test_no_statement_hides_outside_the_named_blocks() -> None:
    for file in files("sql").iterdir():
        if file.name.endswith(".sql"):
            head = file.read_text(encoding="utf-8").split("-- name:")[0]
            assert all(line.startswith("--") for line in head.splitlines() if line.strip()), file.name


def test_migrations_are_numbered_without_gaps() -> None:
    numbers = [int(step.name[:4]) for step in read_migrations()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_scratch_table_of_a_verification_has_the_key_of_the_served_one(conn: Connection) -> None:
    """The look-ups of a batch fit no other index."""
    key = """select array_agg(a.attname::text order by k.place) as key
             from pg_constraint c cross join lateral unnest(c.conkey) with ordinality k(number, place)
             join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.number
             where c.contype = 'u' and c.conrelid = 'unified_data'::regclass"""
    served = conn.execute(key).fetchall()
    with conn.transaction(force_rollback=True):
        conn.execute(queries["create_scratch"])
        assert conn.execute(key).fetchall() == served == [{"key": ["external_id", "source"]}]
