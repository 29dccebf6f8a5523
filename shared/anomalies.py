"""What is unusual about a run: named rules, each against the medians of recent runs of the same source. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

LAST = 10
"""How many runs before it a run is compared with."""
FEWER, MORE = 0.5, 2.0
SLOWER, SECONDS = 3.0, 10.0
WORSE, SHARE = 2.0, 0.05
Rule = Literal["run_failed", "record_count", "duration", "quarantine_ratio", "new_drift"]
BROKEN = ("failed", "refused", "abandoned")
COMPARED = ("records_extracted", "records_inserted", "records_updated", "records_unchanged", "records_quarantined", "duration_seconds")
"""What two runs are compared by."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One thing that is unusual about a run: the rule, what it has, what runs before it have, what it would have had to keep to."""

    rule: Rule
    run_id: int
    value: float | None
    median: float | None
    threshold: float | None
    compared_runs: int
    message: str


def find_anomalies(run: Mapping[str, Any], usual: Mapping[str, Any]) -> list[Anomaly]:
    """Judge a finished run by every rule; `usual` is what get_usual_run tells of successful runs of its source before it."""
    found = [run_failed(run), record_count(run, usual), duration(run, usual), quarantine_ratio(run, usual), new_drift(run, usual)]
    return [anomaly for anomaly in found if anomaly]


def run_failed(run: Mapping[str, Any]) -> Anomaly | None:
    """The run did not succeed; its numbers say how far it came."""
    if run["status"] not in BROKEN:
        return None
    message = f"run {run['id']} ended as {run['status']}: {run['error_message'] or 'no reason is recorded'}"
    return Anomaly("run_failed", run["id"], None, None, None, 0, message)


def record_count(run: Mapping[str, Any], usual: Mapping[str, Any]) -> Anomaly | None:
    """Fewer than half or more than twice the usual number of records; a run that found nothing new is no anomaly."""
    value, median = run["records_extracted"], usual["records_extracted"]
    if not value or not median or FEWER * median <= value <= MORE * median:
        return None
    few = value < median
    words = f"{value} records are {'fewer than half' if few else 'more than twice'} of what is usual"
    return told("record_count", run, value, median, (FEWER if few else MORE) * median, usual["loaded_runs"], words)


def duration(run: Mapping[str, Any], usual: Mapping[str, Any]) -> Anomaly | None:
    """Over three times the usual time, and ten seconds more."""
    value, median = run["duration_seconds"], usual["duration_seconds"]
    if value is None or median is None:
        return None
    threshold = max(SLOWER * median, median + SECONDS)
    if value <= threshold:
        return None
    return told("duration", run, value, median, threshold, usual["runs"], f"{value:g} seconds are much longer than what is usual")


def quarantine_ratio(run: Mapping[str, Any], usual: Mapping[str, Any]) -> Anomaly | None:
    """Over twice the usual share of quarantined records, and a twentieth of all more."""
    median = usual["quarantine_ratio"]
    if not run["records_extracted"] or median is None:
        return None
    value = run["records_quarantined"] / run["records_extracted"]
    threshold = max(WORSE * median, median + SHARE)
    if value <= threshold:
        return None
    return told("quarantine_ratio", run, value, median, threshold, usual["loaded_runs"], f"{value:.1%} of the records were quarantined")


def new_drift(run: Mapping[str, Any], usual: Mapping[str, Any]) -> Anomaly | None:
    """More changes in upstream's fields seen for the first time than usual."""
    value, median = run["new_drift"], usual["new_drift"]
    if median is None or value <= median:
        return None
    words = f"{value} {'change' if value == 1 else 'changes'} in upstream's fields were seen for the first time"
    return told("new_drift", run, value, median, median, usual["runs"], words)


def told(rule: Rule, run: Mapping[str, Any], value: float, median: float, threshold: float, runs: int, words: str) -> Anomaly:
    """An anomaly with its sentence: what the run has, and what it was compared with."""
    before = "run" if runs == 1 else f"{runs} runs"
    message = (
        f"{words}: the median of the last {before} of {run['source']} before run {run['id']} is {median:.4g}, the limit {threshold:.4g}"
    )
    return Anomaly(rule, run["id"], round(value, 4), round(median, 4), round(threshold, 4), runs, message)


def difference(a: float | None, b: float | None) -> dict[str, float | None]:
    """What b has more than a, absolute and in per cent of a; None when one is unknown, or a is zero."""
    if a is None or b is None:
        return {"absolute": None, "percent": None}
    return {"absolute": round(b - a, 3), "percent": round((b - a) / a * 100, 2) if a else None}
