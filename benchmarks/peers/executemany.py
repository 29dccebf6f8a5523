"""`executemany FILE.csv|ADDRESS`: psycopg's executemany of an upsert, a transaction for every thousand records."""

from __future__ import annotations

import os
import sys

import psycopg

from benchmarks.peers.records import BATCH, COLUMNS, read

UPSERT = f"""insert into peer ({", ".join(COLUMNS)}) values ({", ".join(f"%({name})s" for name in COLUMNS)})
on conflict (id) do update set {", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])}"""

records = read(sys.argv[1])
with psycopg.connect(os.environ["DATABASE_URL"]) as conn:
    for first in range(0, len(records), BATCH):
        with conn.cursor() as cursor:
            cursor.executemany(UPSERT.encode(), records[first : first + BATCH])
        conn.commit()
