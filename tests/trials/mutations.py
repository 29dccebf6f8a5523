"""Mutations of real payloads, by seed: parsed, validated and staged, they may cost their own records or be refused, and nothing else.

    python -m tests.trials.mutations [--count N] [--seed N] [--kinds csv,rss] [--show csv:17]

Payload `csv:17` of seed 1 is the same on every machine that has the same seeds. `--show` prints one with what is wrong with it.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

from etl.batch import staged
from etl.errors import SourceError
from etl.source import Payload, Row
from etl.sources import SOURCES
from etl.validate import validate
from shared.settings import Settings
from tests.trials.mutators import MUTATORS
from tests.trials.payloads import Upstream, seeds

SHARES = {"coinpaprika": 41, "coingecko": 41, "csv": 6, "rss": 12}
"""How many of a hundred payloads are of a kind: the slow kinds have fewer."""
HANG = 10.0
"""Seconds of processor time that no payload of this size may cost."""
CHUNK = 250


@dataclass(slots=True)
class Tally:
    """What became of mutated payloads, and what must not have."""

    mutations: int = 0
    accepted: int = 0
    rejected: int = 0
    refused: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add what another process found."""
        for name in ("mutations", "accepted", "rejected", "refused", "violations"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def mutated(kind: str, seed: int, number: int) -> tuple[str, bytes]:
    """The payload of this number: one of the seeds after one to six mutations. Returns its name and its bytes."""
    rng = Random(f"{seed}:{kind}:{number}")
    name, body = rng.choice(seeds(kind))
    done = []
    for _ in range(rng.randint(1, 6)):
        mutator = rng.choice(MUTATORS["json" if kind.startswith("coin") else kind])
        body = mutator(rng, body)
        done.append(mutator.__name__)
    return f"{kind}:{number} of seed {seed} ({name}: {', '.join(done)})", body


def check(upstream: Upstream, seed: int, number: int) -> Tally:
    """Take one mutated payload through parsing, validation and staging, and note what must not be."""
    name, body = mutated(upstream.kind, seed, number)
    tally, begun = Tally(mutations=1), time.process_time()
    upstream.serve(body)
    try:
        for payload in upstream.extract(Settings(), None, {}):
            values = list(SOURCES[upstream.kind].parse(payload))
            tally.violations += [f"{name}: {fault}" for fault in go_through(upstream.kind, payload, values, tally)]
    except SourceError as error:
        tally.refused = 1
        if re.search("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", str(error)) or len(str(error)) > 2000:
            tally.violations.append(f"{name}: not one short line: {str(error)[:300]!r}")
    except Exception as crash:
        where = traceback.extract_tb(crash.__traceback__)[-1]
        tally.violations.append(f"{name}: {type(crash).__name__} in {where.name} ({where.filename}:{where.lineno}): {str(crash)[:200]}")
    if time.process_time() - begun > HANG:
        tally.violations.append(f"{name}: took {time.process_time() - begun:.1f} s")
    return tally


def go_through(kind: str, payload: Payload, values: list[Any], tally: Tally) -> Iterator[str]:
    """Validate, stage and excerpt the values of one payload. Yields what must not be."""
    source = SOURCES[kind]
    found = validate(source, values, 0)
    tally.accepted, tally.rejected = tally.accepted + len(found.accepted), tally.rejected + len(found.rejected)
    if sorted([place for place, _ in found.accepted] + [bad.position for bad in found.rejected]) != list(range(len(values))):
        yield "a record ended twice or nowhere"
    yield from (f"position {place}: {fault}" for place, row in found.accepted for fault in faults_of(row))
    if len(list(csv.reader(StringIO(staged(found.accepted).decode(), newline="")))) != len(found.accepted):
        yield "staged lines are not the accepted rows"
    kept = json.dumps([dict(payload.meta), dict(payload.cursor), [bad.errors for bad in found.rejected]])
    if re.search(r"(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f]..)", re.sub(r"\\ud[89ab]..\\ud[c-f]..", "", kept)):
        yield "meta, cursor or reasons hold what jsonb cannot"
    odd = payload.meta.get("encoding", "").startswith("utf-16") and len(payload.body) % 2
    try:
        excerpts = source.excerpts(payload, [bad.position for bad in found.rejected])
        for bad in found.rejected:
            if not bad.errors or not all(error["reason"].strip() for error in bad.errors):
                yield f"position {bad.position}: rejected without a reason"
            excerpt = excerpts.get(bad.position)
            if not isinstance(excerpt, bytes) or not excerpt:
                yield f"position {bad.position}: rejected without its bytes"
            elif kind != "rss" and (excerpt[:-2] if odd else excerpt) not in payload.body:
                yield f"position {bad.position}: excerpt {excerpt[:60]!r} is not in the payload"
            elif kind.startswith("coin"):
                again = list(source.parse(replace(payload, body=b"[" + excerpt + b"]")))
                if repr(again) != repr([values[bad.position]]):
                    yield f"position {bad.position}: excerpt {excerpt[:60]!r} is another record"
    except SourceError as error:
        yield f"the excerpts of a payload that was parsed cannot be had: {error}"


def faults_of(row: Row) -> Iterator[str]:
    """What the tables would refuse in an accepted row."""
    texts = [text for text in (row.external_id, row.symbol, row.name, row.category, row.url, row.tags) if text is not None]
    if not row.external_id or not row.name or not row.category:
        yield "an accepted row without id, name or category"
    if any(re.search("[\0\ud800-\udfff]", text) for text in texts) or len(row.external_id.encode(errors="replace")) > 2500:
        yield "an accepted row with text that Postgres refuses"
    for place, value in enumerate((row.price_usd, row.market_cap_usd, row.volume_24h_usd, row.percent_change_24h)):
        number = Decimal(0 if value is None else value)
        plain = isinstance(value, str | Decimal | None) and re.fullmatch(r"[\x21-\x7e]*", str(value or ""))
        if not plain or not number.is_finite() or (number < 0 and place < 3) or "_" in str(value):
            yield f"an accepted row with the number {str(value)[:60]!r}"
    if row.rank is not None and not (re.fullmatch("[0-9]{1,10}", str(row.rank)) and 0 < int(row.rank) < 2**31):
        yield f"an accepted row with the rank {row.rank!r}"
    stamp = row.source_updated_at
    moment = datetime.fromisoformat(stamp) if isinstance(stamp, str) else stamp
    if moment and not (moment.tzinfo and 1969 <= moment.year <= 2101):
        yield f"an accepted row with the time {stamp!r}"


def check_range(seed: int, part: tuple[str, int, int]) -> Tally:
    """Check the payloads of a kind from one number up to another."""
    kind, first, end = part
    tally = Tally()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="kasparro-mutations-", dir=memory) as folder:
        upstream = Upstream(kind, Path(folder))
        for number in range(first, end):
            tally.add(check(upstream, seed, number))
    return tally


def main() -> None:
    """Check any number of mutated payloads on all processors."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=20_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--kinds", default=",".join(SHARES))
    options.add_argument("--show", default="")
    told = options.parse_args()
    if told.show:
        kind, _, number = told.show.partition(":")
        print(*mutated(kind, told.seed, int(number)), *check_range(told.seed, (kind, int(number), int(number) + 1)).violations, sep="\n")
        return
    kinds, total, begun = told.kinds.split(","), Tally(), time.monotonic()
    sizes = {kind: -(-told.count * SHARES[kind] // sum(SHARES[name] for name in kinds)) for kind in kinds}
    parts = [(kind, at, min(at + CHUNK, size)) for kind, size in sizes.items() for at in range(0, size, CHUNK)]
    work: Callable[[tuple[str, int, int]], Tally] = partial(check_range, told.seed)
    with multiprocessing.Pool() as pool:
        for tally in pool.imap_unordered(work, parts):
            total.add(tally)
    print("mutations, accepted, rejected, refused payloads, violations, seconds")
    numbers = total.mutations, total.accepted, total.rejected, total.refused, len(total.violations), round(time.monotonic() - begun)
    print(*numbers, sep=", ")
    print(*total.violations[:20], sep="\n")
    sys.exit(bool(total.violations))


if __name__ == "__main__":
    main()
