"""Load a CSV of a million rows fresh, unchanged, appended and edited, beside psql's copy of the same file into the same server.

    python -m benchmarks.csv_load [--rows 1000000] [--rounds 1]

Prints one table a round: seconds, rows a second, peak memory of the client, and the ratio to psql's idempotent load of that round.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cpu import Used, measured
from shared import embedded
from shared.db import connect

COLUMNS = "id,symbol,name,price,market_cap,volume_24h,percent_change_24h,rank,last_updated,category"
PEER = """
create temporary table t (like peer); \\copy t from '{file}' with (format csv, header)
insert into peer select distinct on (id) * from t order by id
on conflict (id) do update
set symbol = excluded.symbol, name = excluded.name, price = excluded.price, market_cap = excluded.market_cap,
    volume_24h = excluded.volume_24h, percent_change_24h = excluded.percent_change_24h, rank = excluded.rank,
    last_updated = excluded.last_updated, category = excluded.category
where (peer.*) is distinct from (excluded.*);
"""
TABLE = """create table {name} (id text collate "C" primary key, symbol text, name text, price numeric, market_cap numeric,
volume_24h numeric, percent_change_24h text, rank integer, last_updated timestamptz, category text)"""


@dataclass(frozen=True, slots=True)
class Case:
    """One case of one round: seconds of ours and of psql, peak MB of ours, and the processor seconds of both sides of each."""

    name: str
    ours: float
    psql: float
    memory: int
    client_cpu: float
    server_cpu: float
    psql_client_cpu: float
    psql_server_cpu: float


def row(n: int, dice: random.Random, price_shift: float = 0.0) -> str:
    """One data row."""
    price = dice.random() * 10 ** dice.randint(-6, 5) + price_shift
    stamp = f"2026-03-{1 + n % 28:02}T{n % 24:02}:{n % 60:02}:00Z"
    return f"coin-{n},C{n},Coin number {n},{price:.10f},{n * 1337},{n * 31},{dice.random() * 20 - 10:.2f}%,{n + 1},{stamp},defi\n"


def write(path: Path, rows: int, edited: float = 0.0) -> None:
    """Write the file; `edited` is the share of rows whose price differs."""
    dice, picks = random.Random(7), random.Random(11)
    with path.open("w") as file:
        file.write(COLUMNS + "\n")
        file.writelines(row(n, dice, 1.0 if picks.random() < edited else 0.0) for n in range(rows))


def etl(dsn: str, file: Path) -> Used:
    """Run the command."""
    command: list[str | Path] = [Path(sys.executable).parent / "kasparro-etl", "run", "--source", "csv", "--quiet"]
    return measured(command, {"PATH": os.environ["PATH"], "DATABASE_URL": dsn, "CSV_PATHS": str(file)}, dsn)


def psql(dsn: str, script: str) -> Used:
    """Run a script in psql."""
    return measured(["psql", "-qX", "-v", "ON_ERROR_STOP=1", dsn], {"PATH": os.environ["PATH"]}, dsn, stdin=script)


def measure(dsn: str, folder: Path, rows: int) -> list[Case]:
    """One round: our four cases, each beside the peer's. Prints as it goes."""
    file = folder / "assets.csv"
    edited = folder / "edited.csv"
    write(file, rows)
    write(edited, rows + 1000, edited=0.01)
    dice = random.Random(13)
    with connect(dsn, "benchmark") as conn:
        for name in ("peer", "plain"):
            conn.execute(TABLE.format(name=name).encode())
    plain = psql(dsn, f"\\copy plain from '{file}' with (format csv, header)\n")
    print(f"{'psql copy, primary key':<26}{plain.seconds:>8.2f} s")

    def appended() -> None:
        with file.open("a") as end:
            end.writelines(row(n, dice) for n in range(rows, rows + 1000))

    cases: list[tuple[str, Callable[[], object]]] = [
        ("fresh", lambda: None),
        ("unchanged", lambda: None),
        ("1,000 rows appended", appended),
        ("1 % edited", lambda: shutil.copyfile(edited, file)),
    ]
    found = []
    print(f"{'case':<22}{'ours s':>8}{'rows/s':>10}{'MB':>6}{'psql s':>8}{'ratio':>7}")
    for name, prepare in cases:
        prepare()
        one, two = etl(dsn, file), psql(dsn, PEER.format(file=file))
        cpu = one.client_cpu, one.server_cpu, two.client_cpu, two.server_cpu
        found.append(Case(name, one.seconds, two.seconds, round(one.memory), *cpu))
        speed = f"{rows / one.seconds:>10,.0f}"
        print(f"{name:<22}{one.seconds:>8.2f}{speed}{one.memory:>6.0f}{two.seconds:>8.2f}{one.seconds / two.seconds:>7.2f}")
    with connect(dsn, "benchmark") as conn:
        print(conn.execute("select status, records_inserted, records_updated, records_unchanged from etl_runs order by id").fetchall())
    return found


def run(dsn: str, folder: Path, rows: int, rounds: int) -> list[Case]:
    """All rounds, each on a database of its own beside that of `dsn`."""
    found = []
    for number in range(rounds):
        with connect(dsn, "benchmark") as conn:
            conn.execute(f"create database round{number}".encode())
        own = dsn.replace("/kasparro?", f"/round{number}?")
        migrate = [str(Path(sys.executable).parent / "kasparro-etl"), "migrate"]
        subprocess.run(migrate, env={"PATH": os.environ["PATH"], "DATABASE_URL": own}, check=True, stdout=subprocess.DEVNULL)
        found += measure(own, folder, rows)
        with connect(dsn, "benchmark") as conn:
            conn.execute(f"drop database round{number}".encode())
    return found


def main() -> None:
    """Read the options and run the rounds, each on a database of its own."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=1)
    told = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kasparro-bench-"))
    try:
        with embedded.serve(folder / "home", settings={"max_wal_size": "8GB"}) as dsn:
            run(dsn, folder, told.rows, told.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
