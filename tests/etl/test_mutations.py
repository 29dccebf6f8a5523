"""Mutated payloads: they cost their own records or are refused as a whole; nothing is lost, doubled or stuck."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from etl.chaos import Chaos
from etl.errors import SourceError
from etl.execute import run
from etl.source import Source
from etl.sources import SOURCES
from etl.stop import Stop
from etl.validate import Validated, validate
from etl.work import Options, Outcome, Work
from shared.confined import Bounds, Failed
from shared.db import Connection, Link
from shared.settings import read_settings
from tests.trials.mutations import SHARES, Tally, check, mutated
from tests.trials.payloads import Upstream

SEED = 20_261_121
PARSED, PIPED, REPEATED = 20_000, 400, 100
KINDS = list(SHARES)
GOOD = {
    "coinpaprika": b'[{"id":"good-asset","name":"Good","symbol":"G","last_updated":"2026-01-01T00:00:00Z","quotes":{"USD":{"price":1.5}}}]',
    "coingecko": b'[{"id":"good-asset","symbol":"g","name":"Good","current_price":1.5,"last_updated":"2026-01-01T00:00:00Z"}]',
    "csv": b"id,symbol,name,price\ngood-asset,G,Good,1.5\n",
    "rss": b'<rss version="2.0"><channel><item><guid>good-asset</guid><title>Good</title></item></channel></rss>',
}
KEPT = {
    "unified_data": "select to_jsonb(u) from unified_data u order by id",
    "price_history": "select to_jsonb(p) from price_history p order by external_id, observed_at",
    "quarantined_records": "select record, errors, raw_position from quarantined_records order by id",
    "raw_payloads": "select id, sha256 from raw_payloads order by id",
}
COUNTED = """
select r.sha256, min(b.first_position) as first, max(b.next_position) as next, sum(b.next_position - b.first_position) as records,
       sum(b.inserted + b.updated + b.unchanged) as loaded, sum(b.quarantined) as quarantined
from etl_batches b join raw_payloads r on r.id = b.raw_id where b.run_id = %s group by r.sha256
"""
BROKEN_BOOKS = """
select r.id from etl_runs r
left join (select run_id, count(*) as batches, sum(next_position - first_position) as records, sum(inserted) as inserted,
                  sum(updated) as updated, sum(unchanged) as unchanged, sum(quarantined) as quarantined
           from etl_batches group by run_id) b on b.run_id = r.id
where r.status = 'running' or (r.status <> 'refused' and (r.batches, r.records_extracted, r.records_inserted, r.records_updated,
      r.records_unchanged, r.records_quarantined) is distinct from
      (coalesce(b.batches, 0), coalesce(b.records, 0), coalesce(b.inserted, 0), coalesce(b.updated, 0), coalesce(b.unchanged, 0),
       coalesce(b.quarantined, 0)))
"""


@dataclass
class Stage:
    """A real source whose upstream says what it is told to, on a database."""

    conn: Connection
    link: Link
    upstream: Upstream

    @property
    def source(self) -> Source:
        return replace(SOURCES[self.upstream.kind], extract=self.upstream.extract)

    def run(self, body: bytes, *, batch_size: int = 7, **environ: str) -> Outcome:
        """Load a body that upstream has not said before."""
        self.upstream.serve(body)
        return self.again(batch_size=batch_size, **environ)

    def again(self, *, batch_size: int = 7, **environ: str) -> Outcome:
        """Load what upstream says."""
        options = Options(batch_size, allow_shrink=True)
        return run(
            Work(self.link, self.source, read_settings(environ), options, Stop(), lambda told: None, lambda text: text, Chaos(), comeback=1)
        )

    def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.conn.execute(query.encode(), params).fetchall()]

    def forget(self) -> None:
        """Stand at the start again."""
        self.conn.execute("update etl_checkpoints set position = '{}'")

    def kept(self) -> dict[str, list[tuple[Any, ...]]]:
        """What must not change when the same is loaded again."""
        return {name: self.rows(query) for name, query in KEPT.items()}

    def losses(self, run_id: int) -> list[str]:
        """What the payloads of a run hold, against what became of it: every record counted, kept or quarantined."""
        found, given = list[str](), dict[bytes, list[tuple[list[Any], Validated]]]()
        for payload in self.upstream.given:
            with suppress(SourceError):
                values = list(self.source.parse(payload))
                told = validate(self.source, values, 0)
                given.setdefault(hashlib.sha256(payload.body).digest(), []).append((values, told))
                ids = sorted({row.external_id for _, row in told.accepted})
                if self.rows("select count(*) from unified_data where external_id = any(%s)", ids) != [(len(ids),)]:
                    found.append("an accepted record is not in unified_data")
                excerpts = self.source.excerpts(payload, [bad.position for bad in told.rejected])
                marks = list({hashlib.sha256(excerpt).digest() for excerpt in excerpts.values()})
                if self.rows("select count(*) from quarantined_records where fingerprint = any(%s)", marks) != [(len(marks),)]:
                    found.append("a rejected record is not in quarantine")
        counted = {row[0]: row[1:] for row in self.rows(COUNTED, run_id)}
        for digest, parts in given.items():
            accepted, rejected = sum(len(told.accepted) for _, told in parts), sum(len(told.rejected) for _, told in parts)
            longest = max(len(values) for values, _ in parts)
            if counted.pop(digest, None) != (0, longest, accepted + rejected, accepted, rejected):
                found.append(
                    f"{accepted} accepted and {rejected} rejected of {longest}, but batches say otherwise: {self.rows(COUNTED, run_id)}"
                )
        if counted:
            found.append(f"batches of a payload that upstream did not give: {counted}")
        return found


@pytest.fixture
def stage(world: Any, tmp_path: Path, kind: str) -> Stage:
    """The real source of a kind on the test's database."""
    return Stage(world.conn, world.link, Upstream(kind, tmp_path))


def in_this_process(work: Callable[[], Any], _bounds: Bounds) -> Any:
    """Do what a child does, here: a process for each of thousands of small feeds would cost more than their parsing."""
    try:
        return json.loads(json.dumps(work()))
    except Exception as error:
        raise Failed(type(error).__name__) from error


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_of_a_mutated_payload_is_accepted_or_rejected_with_a_reason(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.sources.rss.confined", in_this_process)
    upstream, tally = Upstream(kind, tmp_path), Tally()
    for number in range(PARSED * SHARES[kind] // 100):
        tally.add(check(upstream, SEED, number))
    assert tally.violations == []
    assert min(tally.accepted, tally.rejected, tally.refused) > 100


@pytest.mark.parametrize("kind", KINDS)
def test_no_mutated_payload_crashes_loses_or_wedges_a_run(stage: Stage, kind: str) -> None:
    seen = set()
    for number in range(PIPED // len(KINDS)):
        name, body = mutated(kind, SEED, number)
        outcome = stage.run(body)
        seen.add(outcome.status)
        assert outcome.status in ("success", "partial", "failed", "refused"), name
        assert not outcome.bug, (name, outcome.error)
        assert outcome.error is None or isinstance(outcome.error, SourceError), (name, outcome.error)
        assert outcome.run_id, name
        assert outcome.status == "refused" or stage.losses(outcome.run_id) == [], name
        stage.conn.execute("delete from unified_data where external_id = 'good-asset'")
        following = stage.run(GOOD[kind], ETL_MAX_INVALID_RATIO="1")
        assert following.status in ("success", "partial"), (name, following.error)
        assert stage.rows("select name from unified_data where external_id = 'good-asset'") == [("Good",)], name
        assert stage.rows(BROKEN_BOOKS) == [], name
    assert seen >= {"success", "partial", "failed"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_mutated_payload_loaded_again_changes_nothing(stage: Stage, kind: str) -> None:
    for number in range(PIPED, PIPED + REPEATED // len(KINDS)):
        name, body = mutated(kind, SEED, number)
        first = stage.run(body, batch_size=1000, ETL_MAX_INVALID_RATIO="1")
        kept = stage.kept()
        stage.forget()
        second = stage.again(batch_size=1000, ETL_MAX_INVALID_RATIO="1")
        assert (second.status, str(second.error)) == (first.status, str(first.error)), name
        assert (second.counts.inserted, second.counts.updated) == (0, 0), name
        assert (second.counts.total, second.counts.quarantined) == (first.counts.total, first.counts.quarantined), name
        assert stage.kept() == kept, name


def test_bugs_that_are_planted_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SOURCES["coinpaprika"]
    planted = {
        "another order": replace(source, parse=lambda payload: (value for value in list(source.parse(payload))[::-1])),
        "other bytes": replace(source, excerpts=lambda payload, places: dict.fromkeys(places, b"x")),
        "an empty name": replace(source, normalize=lambda record: source.normalize(record)._replace(name="")),
        "no number": replace(source, normalize=lambda record: source.normalize(record)._replace(price_usd="nan")),
        "a crash": replace(source, normalize=lambda record: 1 // 0),  # type: ignore[arg-type, return-value]
    }
    for name, broken in planted.items():
        monkeypatch.setitem(SOURCES, "coinpaprika", broken)
        upstream, tally = Upstream("coinpaprika", tmp_path), Tally()
        for number in range(100):
            tally.add(check(upstream, SEED, number))
        assert tally.violations, name
