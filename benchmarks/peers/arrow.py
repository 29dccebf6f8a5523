"""`arrow FILE.csv`: dlt reads the file as Arrow tables and merges them into a table by id; it validates no rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import dlt
import pyarrow.csv
from psycopg2.extensions import parse_dsn

BLOCK = 16 << 20
DSN = parse_dsn(os.environ["DATABASE_URL"])
os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR", "DATA_WRITER__DISABLE_COMPRESSION": "true"}


@dlt.resource(name="dlt", primary_key="id", write_disposition={"disposition": "merge", "strategy": "upsert"})
def assets() -> Iterator[Any]:
    """The file, 16 MB at a time."""
    yield from pyarrow.csv.open_csv(sys.argv[1], read_options=pyarrow.csv.ReadOptions(block_size=BLOCK))


address = f"postgresql://{DSN['user']}:none@{DSN['host'].replace('/', '%2F')}:{DSN['port']}/{DSN['dbname']}"
pipeline = dlt.pipeline("bench", pipelines_dir=os.environ["HOME"], destination=dlt.destinations.postgres(address), dataset_name="dlt")
pipeline.run(assets(), loader_file_format="csv")
