"""Smoke test of a running installation, with nothing but Python: `python3 tests/smoke.py http://127.0.0.1:8000`; exit 1 on a failure.

--api-key-file   also queue a run, and wait for a worker to execute it
--token-file     pass a gate that wants a bearer token, such as that of a Cloud Run service that is not public
--etl COMMAND    how to reach the command line, such as `docker compose exec -T etl`: also fail a run and resume it ("" for this machine)
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

SOURCES = ("coinpaprika", "coingecko", "csv", "rss")
FAMILIES = ("etl_records_processed_total", "etl_runs_total", "etl_run_duration_seconds_bucket", "etl_last_success_timestamp_seconds")
RECORDS = 3
"""Records after which the rehearsed failure strikes."""


class NotAsked(Exception):
    """A check that needs more than it was given."""


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Place:
    """What is tested: where it answers, its key, how to run its command line, how long to wait for it, what lets one in, what it loads."""

    url: str
    key: str
    etl: list[str] | None
    patience: float
    token: str
    sources: tuple[str, ...]

    @property
    def one(self) -> str:
        """The source that single checks are made with: files where there are, for they ask nobody."""
        return "csv" if "csv" in self.sources else self.sources[0]


def call(place: Place, path: str, body: Any = None, **headers: str) -> Answer:
    """Ask, again once a limit on requests lets us; any other status is an answer."""
    told = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if place.token:
        told["Authorization"] = f"Bearer {place.token}"
    request = urllib.request.Request(place.url + path, None if body is None else json.dumps(body).encode(), told)
    end = time.monotonic() + place.patience
    while (answer := ask(request)).status == 429:
        wait = float(answer.headers.get("retry-after", "1"))
        if time.monotonic() + wait > end:
            break
        time.sleep(wait)
    return answer


def ask(request: urllib.request.Request) -> Answer:
    """Ask once; any status is an answer."""
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, response.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


def get(place: Place, path: str, *, status: int = 200, **query: Any) -> Answer:
    """Ask, and expect a status."""
    answer = call(place, path + (f"?{urlencode(query)}" if query else ""))
    expect(answer.status == status, f"{path} answered {answer.status}, not {status}")
    return answer


def expect(met: bool, otherwise: str) -> None:
    """Fail a check."""
    if not met:
        raise AssertionError(otherwise)


def until(place: Place, met: Callable[[], Any]) -> Any:
    """Ask again until there is an answer, for as long as the place is given."""
    end = time.monotonic() + place.patience
    while not (found := met()) and time.monotonic() < end:
        time.sleep(1)
    return found


def health(place: Place) -> str:
    """The API lives, is ready, and has its database."""

    def alive() -> bool:
        try:
            return call(place, "/health/ready").status == 200
        except OSError:
            return False

    expect(until(place, alive), "no answer at /health/ready")
    get(place, "/health/live")
    found = get(place, "/health").json
    expect(found["database_connected"], "no database")
    return f"{found['status']}, version {found['version']}"


def ingestion(place: Place) -> str:
    """Every source was loaded."""

    def missing() -> list[str]:
        seen = {row["source"]: row for row in call(place, "/health").json.get("sources", [])}
        return [name for name in place.sources if not seen.get(name, {}).get("last_success_at")]

    until(place, lambda: not missing())
    expect(not missing(), f"never loaded: {', '.join(missing())}")
    totals = {name: get(place, "/data", source=name, limit=1).json["paging"]["total"] for name in place.sources}
    expect(all(totals.values()), f"nothing of a source is served: {totals}")
    return ", ".join(f"{name} {total:,}" for name, total in totals.items())


def paging(place: Place) -> str:
    """Offsets and cursors walk through the same records; what is out of range is refused."""
    whole = [row["id"] for row in get(place, "/data", source=place.one, sort="id", limit=9).json["data"]]
    by_offset = [row["id"] for at in (0, 3, 6) for row in get(place, "/data", source=place.one, sort="id", limit=3, offset=at).json["data"]]
    by_cursor: list[int] = []
    cursor: dict[str, Any] = {}
    for _ in range(3):
        page = get(place, "/data", source=place.one, sort="id", limit=3, **cursor).json
        by_cursor += [row["id"] for row in page["data"]]
        if page["paging"]["next_cursor"] is None:
            break
        cursor = {"cursor": page["paging"]["next_cursor"]}
    expect(whole == by_offset == by_cursor, f"the pages differ: {whole}, {by_offset}, {by_cursor}")
    refused = get(place, "/data", status=400, limit=0)
    expect(refused.headers["content-type"].startswith("application/problem+json"), "a refusal is not problem+json")
    return f"{len(whole)} records, three ways"


def filters(place: Place) -> str:
    """A filter leaves out what it should, fields show what was asked for, an unchanged page costs a 304."""
    rows = get(place, "/data", kind="asset", min_price="1", sort="-price_usd", fields="kind,symbol,price_usd").json["data"]
    expect(bool(rows) and all(row["kind"] == "asset" and float(row["price_usd"]) >= 1 for row in rows), "a filter lets others through")
    expect(set(rows[0]) == {"kind", "symbol", "price_usd"}, f"other fields than asked for: {sorted(rows[0])}")
    get(place, "/data", status=400, nonsense=1)
    tag = get(place, "/data", source=place.one).headers["etag"]
    expect(call(place, f"/data?source={place.one}", If_None_Match=tag).status == 304, "an unchanged page is sent again")
    lines = get(place, "/data/export", format="ndjson", source=place.one).body.splitlines()
    expect(all(json.loads(line)["source"] == place.one for line in lines), "the export ignores its filter")
    return f"{len(rows)} assets from 1 USD, {len(lines)} lines exported"


def lineage(place: Place) -> str:
    """A record leads to the run and the payload it came from."""
    record = get(place, "/data", kind="asset", limit=1).json["data"][0]
    one = get(place, f"/data/{record['id']}").json
    expect(one.get("data", one)["external_id"] == record["external_id"], "another record")
    get(place, f"/data/{record['id']}/lineage")
    get(place, f"/assets/{record['source']}/{quote(record['external_id'], safe='')}/history")
    return f"{record['source']} {record['external_id']}"


def stats(place: Place) -> str:
    """Statistics, runs and their comparison answer."""
    summary = get(place, "/stats").json["summary"]
    expect(summary["runs_total"] >= len(place.sources) and summary["records_total"] > 0, f"too little was counted: {summary}")
    first = get(place, "/runs", limit=1).json["data"][0]
    get(place, f"/runs/{first['id']}")
    get(place, "/compare-runs")
    return f"{summary['runs_total']:,} runs, {summary['records_total']:,} records"


def metrics(place: Place) -> str:
    """Prometheus finds the families that alerts are made of."""
    text = get(place, "/metrics").body.decode()
    missing = [name for name in FAMILIES if name not in text]
    expect(not missing, f"missing: {', '.join(missing)}")
    return f"{sum(1 for line in text.splitlines() if line and not line.startswith('#')):,} series"


def drift(place: Place) -> str:
    """Changes of the upstreams' fields, and quarantined records, are listed."""
    return f"{len(get(place, '/drift').json['data'])} changes, {len(get(place, '/quarantine').json['data'])} quarantined"


def rate_limits(place: Place) -> str:
    """What may be asked of each upstream, and how much of it is used."""
    budgets = get(place, "/observability/metrics/json").json["rate_limiting"]
    expect(bool(budgets), "no upstream was asked within a limit")
    over = [name for name, budget in budgets.items() if budget["current_calls"] > budget["calls_per_period"]]
    expect(not over, f"over the limit: {', '.join(over)}")
    return ", ".join(f"{name} {b['current_calls']}/{b['calls_per_period']}" for name, b in budgets.items())


def documents(place: Place) -> str:
    """The API describes itself."""
    get(place, "/docs")
    return f"{len(get(place, '/openapi.json').json['paths'])} paths"


def trigger(place: Place) -> str:
    """Nobody queues a run without the key; with it, a worker executes the run."""
    closed = call(place, "/etl/run", {"source": place.one}).status
    expect(closed in (401, 403), f"without a key /etl/run answered {closed}")
    if not place.key:
        raise NotAsked("closed without a key; --api-key-file not given")
    queued = call(place, "/etl/run", {"source": place.one}, X_API_Key=place.key)
    expect(queued.status == 202, f"/etl/run answered {queued.status}")
    run = until(place, lambda: finished(place, queued.headers["location"]))
    expect(run and run["status"] in ("success", "partial"), f"{queued.headers['location']} did not end well: is a worker running?")
    return f"{queued.headers['location']} {run['status']}"


def finished(place: Place, path: str) -> Any:
    """A run that ended, or nothing."""
    run = get(place, path).json
    run = run.get("run", run)
    return run if run["finished_at"] else None


def resume(place: Place) -> str:
    """A run that fails after some records keeps them, and the next one goes on right there."""
    if place.etl is None:
        raise NotAsked("--etl not given")
    run = ["kasparro-etl", "run", "--source", place.one, "--if-locked", "wait", "--json"]
    code, failed = told(place, ["env", f"ETL_FAIL_AFTER_N_RECORDS={RECORDS}", *run, "--full-refresh"])
    expect(code == 3 and failed["records_extracted"] == RECORDS, f"exit {code}, {failed.get('records_extracted')} records: not the failure")
    code, resumed = told(place, run)
    expect(code == 0, f"exit {code}: the run after the failure")
    origin = finished(place, f"/runs/{resumed['id']}")["resumed_from"]
    expect(origin == failed["id"], f"run {resumed['id']} goes on from run {origin}, not from {failed['id']}")
    return f"run {failed['id']} failed after {RECORDS} records, run {resumed['id']} went on"


def told(place: Place, command: list[str]) -> tuple[int, dict[str, Any]]:
    """Run the command line; its exit code and what it tells of the first run."""
    done = subprocess.run([*(place.etl or []), *command], capture_output=True, text=True, timeout=600)
    objects = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return done.returncode, next((item for item in objects if item.get("type") == "run"), {})


CHECKS: tuple[Callable[[Place], str], ...] = (
    health, ingestion, paging, filters, lineage, stats, metrics, drift, rate_limits, documents, trigger, resume,
)  # fmt: skip


def carry_out(place: Place, checks: Iterable[Callable[[Place], str]] = CHECKS) -> int:
    """Make every check, print a line each, and give the exit code."""
    failed = 0
    for check in checks:
        try:
            mark, said = "pass", check(place)
        except NotAsked as reason:
            mark, said = "-", f"not asked: {reason}"
        except Exception as error:
            mark, said = "FAIL", f"{error}" if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            failed += 1
        print(f"{check.__name__.replace('_', ' '):<12} {mark:<5} {said}", flush=True)
    print(f"{failed} of {len(CHECKS)} failed" if failed else "all passed")
    return 1 if failed else 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Smoke test of a running installation.")
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--api-key-file", type=Path, help="a file with the API's key, - for standard input")
    parser.add_argument("--token-file", type=Path, help="a file with a bearer token, - for standard input")
    parser.add_argument("--sources", default=",".join(SOURCES), help="what is loaded there, separated by commas")
    parser.add_argument("--etl", help="how to reach the command line")
    parser.add_argument("--wait", type=float, default=120, help="seconds to wait for the API, the first runs, the worker")
    told = parser.parse_args()
    place = Place(
        told.url.rstrip("/"),
        secret(told.api_key_file),
        None if told.etl is None else shlex.split(told.etl),
        told.wait,
        secret(told.token_file),
        tuple(told.sources.split(",")),
    )
    return carry_out(place)


def secret(file: Path | None) -> str:
    """What a file holds, - for standard input; nothing without a file."""
    if file is None:
        return ""
    return (sys.stdin.read() if str(file) == "-" else file.read_text()).strip()


if __name__ == "__main__":
    sys.exit(main())
