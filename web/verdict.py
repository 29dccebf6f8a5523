"""From what is known of the sources to what a person is told first: states, the verdict, and what only a person can do. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, Literal

from shared.anomalies import BROKEN
from shared.states import SourceState
from web.wording import brief, counted, share, span, utc

Weight = Literal["well", "look", "broken"]
OWN = ("cli", "cron", "api")
"""Triggers of runs that say how fresh a source is: backfills and replays do not."""
PATIENCE = timedelta(minutes=5)
"""How long a run may be queued before somebody is told."""


@dataclass(frozen=True, slots=True)
class SourceBoard:
    """How one source stands. `overdue`: seconds since its data should have been renewed, when it is late."""

    name: str
    state: SourceState
    last_success_at: datetime | None
    next_due_at: datetime | None
    lag: float | None
    overdue: float | None
    runs: tuple[Mapping[str, Any], ...]
    quarantined: int
    oldest: Mapping[str, Any] | None
    drift: int
    stored: int
    budget: Mapping[str, Any] | None
    checkpoint: Mapping[str, Any] | None

    @property
    def last(self) -> Mapping[str, Any] | None:
        """The newest run that came to an end or is under way, backfills and replays aside."""
        return next((run for run in self.runs if run["trigger"] in OWN and run["status"] != "queued"), None)


@dataclass(frozen=True, slots=True)
class Need:
    """What waits for a person: what it is, what is known of it, the command that goes on, and where more is shown."""

    weight: Weight
    title: str
    details: tuple[tuple[str, str], ...]
    command: str
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one line."""

    weight: Weight
    text: str


def is_decision(drift: Mapping[str, Any]) -> bool:
    """Whether a change of an upstream's fields asks for a decision: new fields that nobody loads do not."""
    return bool(drift["relied"] or drift["required"] or drift["suggested_field"])


def judge(sources: tuple[SourceBoard, ...], drift: tuple[Mapping[str, Any], ...]) -> Verdict:
    """Say in one line whether all is well."""
    broken = [each for each in sources if each.state in ("failed", "refused", "stalled") or each.overdue is not None]
    told = [trouble(each) for each in broken]
    decisions, quarantined = sum(map(is_decision, drift)), sum(each.quarantined for each in sources)
    ran = [each for each in sources if each.state != "new"]
    if not ran:
        return Verdict("look", "Nothing has run yet")
    if not broken:
        told.append(freshness(sources, len(ran)))
    told += [counted(decisions, "drift decision")] if decisions else []
    told += [f"{quarantined:,} quarantined"] if quarantined else []
    return Verdict("broken" if broken else "look" if decisions or quarantined else "well", " · ".join(told))


def freshness(sources: tuple[SourceBoard, ...], ran: int) -> str:
    """How many sources are fresh, where none is in trouble."""
    if ran < len(sources):
        return f"{ran} of {len(sources)} sources fresh, {', '.join(each.name for each in sources if each.state == 'new')} never ran"
    return f"All {ran} sources fresh" if ran > 1 else f"{sources[0].name} fresh"


def trouble(source: SourceBoard) -> str:
    """What is wrong with a source, in two or three words."""
    late = f"late {span(source.overdue)}" if source.overdue is not None else ""
    said = "" if source.state in ("late", "up") else source.state
    return f"{source.name} {', '.join(part for part in (said, late) if part)}"


def list_needs(sources: tuple[SourceBoard, ...], drift: tuple[Mapping[str, Any], ...], now: datetime) -> tuple[Need, ...]:
    """All that waits for a person, the most pressing first."""
    found = [need for source in sources for need in (*needs_of(source), *queue_needs(source, now))]
    found += [drift_need(each) for each in drift if is_decision(each)]
    if sources and all(source.state == "new" for source in sources):
        found.append(
            Need(
                "look",
                "Load the sources for the first time",
                (("then", "this page shows the runs as they go on"),),
                "kasparro-etl run --source all",
            )
        )
    weights = ("broken", "look", "well")
    return tuple(sorted(found, key=lambda need: weights.index(need.weight)))


def needs_of(source: SourceBoard) -> Iterator[Need]:
    """What a source waits for."""
    name, last, again = source.name, source.last, f"kasparro-etl run --source {shlex.quote(source.name)}"
    link = f"/runs/{last['id']}" if last else None
    why = (("why", brief(str((last or {}).get("error_message") or "no reason is recorded"), 600)), *broken_since(source))
    if source.state == "stalled":
        gone = (source.checkpoint or {}).get("expired_seconds")
        since = f"its lease ran out {span(gone)} ago" if gone is not None else "its lease ran out"
        yield Need(
            "broken", f"{name} is stalled", (("why", f"the process of its run is gone, {since}: the next run goes on"),), again, link
        )
    elif source.state == "refused":
        yield Need("broken", f"{name} was refused", why, command_after(name, "refused", (last or {}).get("error_message")), link)
    elif source.state == "failed":
        yield Need("broken", f"{name} failed", (*why, ("then", "run it again: it resumes, nothing twice")), again, link)
    elif source.state == "late":
        yield Need("broken", f"{name} is late", (("why", "no run began when one was due: is the schedule running?"),), again, link)
    if source.quarantined and source.oldest:
        errors = "; ".join(f"{each.get('field') or 'record'}: {each.get('reason')}" for each in source.oldest["errors"])
        more = (("oldest", f"entry {source.oldest['id']}, {brief(errors, 300)}"), ("since", utc(source.oldest["first_seen_at"])))
        command = f"kasparro-etl quarantine list --source {shlex.quote(name)}"
        title = f"{name}: {counted(source.quarantined, 'record')} quarantined"
        yield Need("look", title, more, command, f"/runs/{source.oldest['run_id']}")


def broken_since(source: SourceBoard) -> Iterator[tuple[str, str]]:
    """When a source that is broken began to be, as far as the runs on the board tell."""
    ended = [run for run in source.runs if run["trigger"] in OWN and run["finished_at"]]
    broken = list(takewhile(lambda run: run["status"] in BROKEN, ended))
    if broken:
        yield "since", utc(broken[-1]["finished_at"]) + (f", {len(broken)} runs in a row" if len(broken) > 1 else "")


def queue_needs(source: SourceBoard, now: datetime) -> Iterator[Need]:
    """A run that no worker takes, though no other run of the source is in its way."""
    waiting = [run for run in source.runs if run["status"] == "queued" and now - run["requested_at"] > PATIENCE]
    if waiting and source.state not in ("running", "stalled"):
        title = f"{source.name}: {counted(len(waiting), 'run')} queued, and no worker takes {'it' if len(waiting) == 1 else 'them'}"
        link = f"/runs/{waiting[-1]['id']}"
        yield Need("look", title, (("since", utc(waiting[-1]["requested_at"])),), "kasparro-etl worker --once", link)


def command_after(source: str, word: str, message: str | None) -> str:
    """What to type after a run that did not end well; the message of a refusal names the way."""
    message, name = message or "", shlex.quote(source)
    if word == "refused" and "--allow-shrink" in message:
        return f"kasparro-etl run --source {name} --allow-shrink"
    if word == "refused" and "drift" in message:
        return f"kasparro-etl drift list --source {name}"
    if word == "refused" and "quarantine" in message:
        return f"kasparro-etl quarantine list --source {name}"
    return f"kasparro-etl run --source {name}"


def drift_need(drift: Mapping[str, Any]) -> Need:
    """A change of an upstream's fields that asks for a decision."""
    became = f"looks renamed to {drift['suggested_field']}" if drift["suggested_field"] else f"is {drift['change']}"
    confidence = drift["confidence"]
    details = (
        ("confidence", share(confidence, 1) if confidence is not None else ""),
        ("sample", brief(drift["sample"] or "", 200)),
        ("note", drift["note"] or ""),
    )
    force = " --force" if "magnitude" in (drift["note"] or "") else ""
    command = f"kasparro-etl drift accept {drift['id']}{force}"
    title = f"{drift['source']}: field {brief(drift['field'], 120)} {brief(became, 160)}"
    return Need("look", title, tuple(each for each in details if each[1]), command, f"/runs/{drift['run_id']}")
