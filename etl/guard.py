"""The guards that refuse a run: too many invalid records, or a list far shorter than usual. Pure."""

from __future__ import annotations

from etl.errors import Refused
from etl.source import Payload

FEWEST_INVALID = 20
"""Below so many invalid records a ratio says little."""


def find_invalid(seen: int, invalid: int, ratio: float) -> Refused | None:
    """The refusal of a run of which more than `ratio` of the records seen so far are invalid, from 20 invalid ones on."""
    if invalid < FEWEST_INVALID or invalid <= ratio * seen:
        return None
    return Refused(
        f"{invalid} of {seen} records are invalid, more than ETL_MAX_INVALID_RATIO={ratio:g} allows: "
        "see `kasparro-etl quarantine list`, or raise the ratio to load the rest",
        permanent=True,
    )


def find_shrink(source: str, records: int, usual: int | None) -> Refused | None:
    """The refusal of a whole list that has under half of the records it usually has, or none at all."""
    if records and (usual is None or records * 2 >= usual):
        return None
    told = f"usually {usual}" if usual else "it is empty"
    return Refused(
        f"upstream's list has {records} records, {told}: pass --allow-shrink if that is right: "
        f"`kasparro-etl run --source {source} --allow-shrink`",
        permanent=True,
    )


def of_payload(refused: Refused, source: str, payload: Payload, raw_id: int) -> Refused:
    """The refusal of a replay: which stored payload it stopped at, and how to go on behind it or with it."""
    return Refused(
        f"stored payload {raw_id} of {payload.url}, fetched {payload.fetched_at:%Y-%m-%d %H:%M}: {refused}; "
        f"other payloads are replayed by `kasparro-etl replay --source {source} --since DAY` or `--run ID`",
        permanent=True,
    )
