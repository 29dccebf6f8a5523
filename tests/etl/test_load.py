"""The batch transaction on a real Postgres: what is written, what is left alone, what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from etl.batch import Batch
from etl.lease import Counts
from etl.load import find_payload
from etl.position import Position
from etl.source import Payload
from etl.validate import Validated
from shared.errors import DatabaseError

Coins = Callable[..., list[dict[str, Any]]]


def test_a_fresh_load_fills_every_table(world: Any, coins: Coins) -> None:
    world.bodies = [coins(3)]
    outcome = world.run()
    assert (outcome.status, outcome.counts) == ("success", Counts(inserted=3))
    assert world.rows("select external_id, name, price_usd::text, category, status, raw_position from unified_data order by 1") == [
        (f"c000{n}", f"Coin {n}", "1.5", "test", "active", n) for n in range(3)
    ]
    body = json.dumps(coins(3)).encode()
    assert world.rows("select source, url, sha256, body, meta from raw_api_data") == [
        ("test", "test:0", hashlib.sha256(body).digest(), body, {"number": 0})
    ]
    assert world.rows("select count(*) from price_history") == [(3,)]
    counters = "records_extracted, records_inserted, records_updated, records_unchanged, records_quarantined"
    assert world.rows(f"select status, {counters}, batches, bytes_extracted from etl_runs") == [("success", 3, 3, 0, 0, 0, 1, len(body))]
    assert world.rows("select position, seq, records_total, lease_expires_at from etl_checkpoints") == [
        ({"cursor": {"next": 1}}, 1, 3, None)
    ]
    assert world.rows("select seq, first_position, next_position, inserted from etl_batches") == [(1, 0, 3, 3)]


READ = "select coalesce(sum(idx_tup_read), 0)::int from pg_stat_user_indexes where relname = 'unified_data'"
OTHER = """
insert into unified_data (source, source_type, external_id, kind, name, category, raw_id, raw_position, run_id)
select 'other', 'api', 'c' || lpad(n::text, 4, '0'), 'asset', 'Coin ' || n, 'test', 1, 1, 1 from generate_series(0, 4999) n
"""


def test_the_first_batch_of_an_empty_table_reads_no_index_from_end_to_end(world: Any, coins: Coins) -> None:
    world.bodies, world.batch_size = [coins(1000)], 1000
    world.run()
    world.link.conn.execute("select pg_stat_force_next_flush()")
    assert world.rows(READ)[0][0] < 3000


@pytest.mark.parametrize("dated", [True, False])
def test_a_source_that_the_statistics_do_not_know_reads_no_index_from_end_to_end(world: Any, coins: Coins, dated: bool) -> None:
    world.link.conn.execute(OTHER)
    world.link.conn.execute("alter table unified_data set (autovacuum_enabled = off)")
    world.link.conn.execute("vacuum analyze unified_data")
    dates = {"at": "2026-03-01T00:00:00Z"} if dated else {}
    world.bodies, world.batch_size = [[coin | dates for coin in coins(1000)]], 100
    world.run()
    world.link.conn.execute("select pg_stat_force_next_flush()")
    before = world.rows(READ)[0][0]
    world.again()
    assert world.run().counts == Counts(unchanged=1000)
    world.link.conn.execute("select pg_stat_force_next_flush()")
    assert before < 10_000
    assert world.rows(READ)[0][0] - before < 10_000


SETTINGS = """
create table seen (place text, setting text);
create function note() returns trigger language plpgsql as $$
begin
    insert into seen values (tg_argv[0], current_setting('synchronous_commit'));
    return null;
end $$;
create trigger note after insert on etl_batches for each row execute function note('batch');
create trigger note after update of finished_at on etl_runs for each row execute function note('end');
"""


def test_batches_do_not_wait_for_the_disk_and_the_end_of_the_run_does(world: Any, coins: Coins) -> None:
    world.link.conn.execute(SETTINGS)
    world.link.conn.execute("set synchronous_commit = on")
    world.bodies, world.batch_size = [coins(4)], 2
    world.run()
    assert world.rows("select place, setting from seen") == [("batch", "off"), ("batch", "off"), ("end", "on")]


def test_an_unchanged_record_writes_nothing(world: Any, coins: Coins) -> None:
    world.bodies = [coins(50)]
    world.run()
    written = world.rows(
        "select xmin::text, xmax::text, ctid::text from unified_data union all select xmin::text, xmax::text, ctid::text from price_history"
    )
    world.again()
    assert world.run().counts == Counts(unchanged=50)
    after = world.rows(
        "select xmin::text, xmax::text, ctid::text from unified_data union all select xmin::text, xmax::text, ctid::text from price_history"
    )
    assert sorted(after) == sorted(written)
    assert world.rows("select count(*) from raw_api_data") == [(1,)]


def test_only_what_changed_is_updated(world: Any, coins: Coins) -> None:
    world.bodies = [coins(10)]
    world.run()
    world.bodies = [[*coins(8), *coins(2, first=8, price=2.5), *coins(1, first=10)]]
    world.again()
    assert world.run().counts == Counts(inserted=1, updated=2, unchanged=8)
    assert world.rows(
        "select external_id from unified_data where price_usd = 2.5 and run_id = 2 and updated_at > first_seen_at order by 1"
    ) == [
        ("c0008",),
        ("c0009",),
    ]


def test_an_older_record_never_overwrites_a_newer(world: Any) -> None:
    new = {"id": "a", "price": 2, "at": "2026-01-02T00:00:00Z"}
    old = {"id": "a", "price": 1, "at": "2026-01-01T00:00:00Z"}
    world.bodies = [[new], [old]]
    assert world.run().counts == Counts(inserted=1, unchanged=1)
    assert world.rows("select price_usd::int, source_updated_at::date::text from unified_data") == [(2, "2026-01-02")]
    assert world.rows("select price_usd::int from price_history order by observed_at") == [(1,), (2,)]


def test_a_time_in_the_future_does_not_block_its_record_for_ever(world: Any) -> None:
    world.bodies = [[{"id": "a", "price": 1, "at": "2099-01-01T00:00:00Z"}], [{"id": "a", "price": 2, "at": "2026-01-01T00:00:00Z"}]]
    assert world.run().counts == Counts(inserted=1, updated=1)
    assert world.rows("select price_usd::int, source_updated_at::date::text from unified_data") == [(2, "2026-01-01")]


def test_a_record_without_a_time_keeps_the_time_known(world: Any) -> None:
    world.bodies = [[{"id": "a", "price": 2, "at": "2026-01-02T00:00:00Z"}], [{"id": "a", "price": 3}], [{"id": "a", "price": 3}]]
    assert world.run().counts == Counts(inserted=1, updated=1, unchanged=1)
    assert world.rows("select price_usd::int, source_updated_at::date::text from unified_data") == [(3, "2026-01-02")]


def test_of_one_key_twice_in_a_batch_the_newest_wins(world: Any) -> None:
    stamps = ["2026-01-02", "2026-01-03", "2026-01-01"]
    world.bodies = [
        [{"id": "a", "price": n, "at": f"{day}T00:00:00Z"} for n, day in enumerate(stamps)]
        + [{"id": "b", "price": 1}, {"id": "b", "price": 2}]
    ]
    assert world.run().counts == Counts(inserted=2, unchanged=3)
    assert world.rows("select external_id, price_usd::int from unified_data order by 1") == [("a", 1), ("b", 2)]
    assert world.rows("select price_usd::int from price_history where external_id = 'a' order by observed_at") == [(2,), (0,), (1,)]


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("stored", ["2026-01-02", "2099-01-01"])
def test_an_old_record_and_one_without_a_time_count_as_if_each_came_alone(world: Any, stored: str, size: int) -> None:
    world.bodies = [
        [{"id": "a", "price": 1, "at": f"{stored}T00:00:00Z"}],
        [{"id": "a", "price": 2, "at": "2026-01-01T00:00:00Z"}, {"id": "a", "price": 3}],
    ]
    world.batch_size = size
    world.run()
    kept = "2026-01-02" if stored == "2026-01-02" else "2026-01-01"
    assert world.rows("select price_usd::int, source_updated_at::date::text from unified_data") == [(3, kept)]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_the_outcome_does_not_depend_on_how_a_payload_is_cut(world: Any, size: int) -> None:
    days = ["2026-01-02", None, "2026-01-01", "2026-01-03", None]
    world.bodies = [[{"id": "a", "price": n} | ({"at": f"{day}T00:00:00Z"} if day else {}) for n, day in enumerate(days)]]
    world.batch_size = size
    world.run()
    assert world.rows("select price_usd::int, source_updated_at::date::text from unified_data") == [(4, "2026-01-03")]


def test_an_undated_price_is_noted_in_the_history_only_when_it_differs(world: Any) -> None:
    world.bodies = [[{"id": "a", "price": 1}]]
    world.run()
    world.bodies = [[{"id": "a", "price": 1, "name": "renamed"}]]
    world.again()
    assert world.run().counts == Counts(updated=1)
    assert world.rows("select count(*) from price_history") == [(1,)]


def test_prices_keep_every_digit(world: Any) -> None:
    digits = "123456789012345678901234567890.123456789012345678901234567890"
    world.bodies = [b'[{"id": "a", "price": %s}, {"id": "b", "price": 1e-08}, {"id": "c", "price": 1.10}]' % digits.encode()]
    world.run()
    assert world.rows("select price_usd::text from unified_data order by external_id") == [(digits,), ("0.00000001",), ("1.10",)]


def test_text_with_quotes_commas_newlines_and_backslashes_arrives_whole(world: Any) -> None:
    names = [
        'a "quoted" name',
        "a,b",
        "line\nbreak",
        "back\\slash \\N \\.",
        "\\.",
        "tab\there",
        "'; drop table x; --",
        "żółć 战旗 🚀",
        "\r\n",
    ]
    world.bodies = [[{"id": f"{n}", "name": name} for n, name in enumerate(names)]]
    assert world.run().counts == Counts(inserted=len(names))
    assert [name for (name,) in world.rows("select name from unified_data order by id")] == names


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        ({"id": "x\x00y"}, "0x00"),
        ({"id": "x", "name": "a\x00b"}, "0x00"),
        ({"id": "x" * 100_000, "name": "key too long"}, "index row"),
        ({"id": "", "name": "empty key"}, "null"),
        ({"id": "x", "tags": "{broken"}, "array"),
    ],
)
def test_what_only_postgres_refuses_ends_in_quarantine_and_the_rest_loads(
    world: Any, coins: Coins, poison: dict[str, Any], reason: str
) -> None:
    if poison["id"].startswith("x" * 1000):
        poison["id"] = "".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(2000))
    world.bodies = [[*coins(30), poison, *coins(30, first=30)]]
    outcome = world.run()
    assert (outcome.status, outcome.counts) == ("partial", Counts(inserted=60, quarantined=1))
    ((position, record, errors),) = world.rows("select raw_position, record, errors from quarantined_records")
    assert (position, json.loads(record)) == (30, poison)
    assert reason in errors[0]["reason"]
    assert errors[0]["reason"].startswith("refused by Postgres: ")


def test_several_poisoned_records_are_all_found(world: Any, coins: Coins) -> None:
    bad = [7, 8, 31, 63]
    world.bodies = [[coin | ({"name": "\x00"} if n in bad else {}) for n, coin in enumerate(coins(64))]]
    assert world.run().counts == Counts(inserted=60, quarantined=4)
    assert world.rows("select raw_position from quarantined_records order by 1") == [(n,) for n in bad]


def test_an_invalid_record_is_kept_with_its_bytes_and_every_reason(world: Any) -> None:
    world.bodies = [b'[{"id": "a"},  {"id" : 7, "price": -1 } , {"id": "b"}]']
    outcome = world.run()
    assert (outcome.status, outcome.counts) == ("partial", Counts(inserted=2, quarantined=1))
    ((record, position, errors, attempts, resolved),) = world.rows(
        "select record, raw_position, errors, attempts, resolved_at from quarantined_records q join raw_api_data r on r.id = q.raw_id"
    )
    assert (record, position, attempts, resolved) == (b'{"id" : 7, "price": -1 }', 1, 1, None)
    assert [error["field"] for error in errors] == ["id", "price"]


def test_the_same_bad_record_counts_up_instead_of_piling_up(world: Any) -> None:
    world.bodies = [[{"id": 7}]]
    world.run()
    world.again()
    assert world.run().counts == Counts(quarantined=1)
    assert world.rows("select attempts, run_id from quarantined_records") == [(2, 2)]


def test_a_connection_lost_while_a_payload_is_looked_for_is_told_in_our_words(world: Any) -> None:
    payload = Payload(b"[]", "test:0", {}, datetime(2026, 1, 1, tzinfo=UTC))
    batch = Batch(payload, hashlib.sha256(payload.body).digest(), 0, 0, Validated([], []), Position({}))
    assert find_payload(world.link.conn, world.source, batch) == 0
    world.link.conn.close()
    with pytest.raises(DatabaseError):
        find_payload(world.link.conn, world.source, batch)
