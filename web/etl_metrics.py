"""The ETL's metrics, read from the tables when Prometheus asks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from math import inf
from typing import Any, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from shared.errors import DatabaseError, SchemaError
from shared.model import RunStatus, SourceName
from shared.states import STATES, state_of
from sql import queries
from web.db import Connection, Reader, read, snapshot
from web.errors import note_outage
from web.health import read_stands

SOURCES = list(get_args(SourceName))
OUTCOMES = ("inserted", "updated", "unchanged", "quarantined")
FINISHED = [status for status in get_args(RunStatus) if status not in ("queued", "running")]
PATIENCE = 1.2
GAUGES = (
    ("etl_quarantined_records", "Quarantined records that nobody resolved yet.", "open_quarantined"),
    ("etl_schema_drift_open", "Changes in an upstream's fields that nobody accepted yet.", "open_drift"),
    ("etl_stored_records", "Records stored.", "stored"),
    ("etl_runs_in_progress", "Runs under way.", "running"),
    ("etl_runs_queued", "Runs that wait for a worker.", "queued"),
)


class EtlMetrics:
    """A collector over the tables; without a database it says only that."""

    def __init__(self, reader: Reader, interval_minutes: int) -> None:
        self.reader, self.interval = reader, interval_minutes

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as of one instant."""
        up = GaugeMetricFamily("kasparro_database_up", "Whether the database answers and is migrated.")
        try:
            totals, gauges, bounds, stands = read(self.reader, found_totals, PATIENCE)
        except (DatabaseError, SchemaError) as error:
            note_outage(error)
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield processed(totals, gauges)
        yield finished(totals, gauges)
        yield durations(totals, gauges, bounds)
        yield states(stands, self.interval)
        last = GaugeMetricFamily("etl_last_success_timestamp_seconds", "When a source last succeeded, in Unix time.", labels=["source"])
        for line in gauges:
            if line["last_success"] is not None:
                last.add_metric([line["source"]], line["last_success"])
        yield last
        for name, words, column in GAUGES:
            gauge = GaugeMetricFamily(name, words, labels=["source"])
            for line in gauges:
                gauge.add_metric([line["source"]], line[column])
            yield gauge


def found_totals(conn: Connection) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[float], list[dict[str, Any]]]:
    """Read what runs did, what is stored, the bounds of the histogram and how sources stand, as of one instant."""
    with snapshot(conn):
        totals = conn.execute(queries["list_run_totals"]).fetchall()
        gauges = conn.execute(queries["list_source_gauges"], {"sources": SOURCES}).fetchall()
        bounds = conn.execute(queries["list_duration_bounds"]).fetchall()
        stands = read_stands(conn)
    return totals, gauges, [row["le"] for row in bounds], stands


def processed(totals: list[dict[str, Any]], gauges: list[dict[str, Any]]) -> Metric:
    """Records by what became of them, those of runs under way too."""
    family = CounterMetricFamily("etl_records_processed", "Records committed, by what became of them.", labels=["source", "outcome"])
    for line in gauges:
        for outcome in OUTCOMES:
            done = sum(total[outcome] for total in totals if total["source"] == line["source"])
            family.add_metric([line["source"], outcome], done + line[outcome])
    return family


def finished(totals: list[dict[str, Any]], gauges: list[dict[str, Any]]) -> Metric:
    """Runs by how they ended."""
    family = CounterMetricFamily("etl_runs", "Finished runs, by how they ended.", labels=["source", "status"])
    for line in gauges:
        for status in FINISHED:
            ended = (total["runs"] for total in totals if (total["source"], total["status"]) == (line["source"], status))
            family.add_metric([line["source"], status], sum(ended))
    return family


def durations(totals: list[dict[str, Any]], gauges: list[dict[str, Any]], bounds: list[float]) -> Metric:
    """How long finished runs took."""
    family = HistogramMetricFamily("etl_run_duration_seconds", "How long finished runs took.", labels=["source"])
    for line in gauges:
        own = [total for total in totals if total["source"] == line["source"]]
        counts = accumulate(sum(total["runs"] for total in own if total["le"] == bound) for bound in bounds)
        buckets = [("+Inf" if bound == inf else str(bound), count) for bound, count in zip(bounds, counts, strict=True)]
        family.add_metric([line["source"]], buckets, sum(total["seconds"] for total in own))
    return family


def states(stands: list[dict[str, Any]], interval_minutes: int) -> Metric:
    """The state of each source, as /health tells it."""
    family = GaugeMetricFamily("etl_source_state", "1 for the state a source is in, 0 for the others.", labels=["source", "state"])
    for line in stands:
        word = state_of(line["last_run_status"], line["stalled"], line["lag_seconds"], interval_minutes)
        for state in STATES:
            family.add_metric([line["source"], state], state == word)
    return family
