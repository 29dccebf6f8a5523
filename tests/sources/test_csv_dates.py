"""Dates as files write them, and what becomes of each."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter, ValidationError

from etl.sources.csv_files import FIELDS, SOURCE
from etl.sources.csv_files.dates import find_order, put_order

ADAPTER = TypeAdapter(SOURCE.record)
NOON = datetime(2022, 3, 16, 12, 30, tzinfo=UTC)
DAY = datetime(2022, 3, 16, tzinfo=UTC)
DATES = [
    ("2022-03-16T12:30:00Z", NOON),
    ("2022-03-16T12:30:00+00:00", NOON),
    ("2022-03-16T14:30:00+02:00", NOON),
    ("2022-03-16 12:30:00", NOON),
    ("2022-03-16T12:30", NOON),
    ("2022-03-16 12:30:00 UTC", NOON),
    ("2022-03-16 12:30:00.000000", NOON),
    ("2022-03-16 07:00:00-0530", NOON),
    ("2022-03-16", DAY),
    ("2022/03/16", DAY),
    ("2022.03.16", DAY),
    ("20220316", DAY),
    ("16-Mar-22", DAY),
    ("16 Mar 2022", DAY),
    ("16-March-2022", DAY),
    ("Mar 16, 2022", DAY),
    ("March 16, 2022", DAY),
    ("March 16th, 2022", DAY),
    ("Wed, 16 Mar 2022 12:30:00 GMT", NOON),
    ("Mar 16, 2022 12:30 PM", NOON),
    ("Mar 16, 2022, 12:30:00 pm", NOON),
    ("Mar 16 2022", DAY),
    ("1647433800", NOON),
    ("1647433800.0", NOON),
    ("1647433800000", NOON),
    ("1647433800000000", NOON),
    ("1647433800000000000", NOON),
    ("2022-03-16T12:30:00.000Z", NOON),
    ("26-Dec-18", datetime(2018, 12, 26, tzinfo=UTC)),
    ("Apr 27, 2020", datetime(2020, 4, 27, tzinfo=UTC)),
    ("31-Dec-99", datetime(1999, 12, 31, tzinfo=UTC)),
    ("1.6474338E+9", NOON),
    ("2100-12-31", datetime(2100, 12, 31, tzinfo=UTC)),
    ("", None),
    ("-", None),
    ("null", None),
    ("N/A", None),
]
REFUSED = [
    "soon",
    "0001-01-01T00:00:00+05:00",
    "9999-12-31T23:59:59-05:00",
    "2022-03-16T12:00:00+99:99",
    "2022-13-01",
    "2022-02-30",
    "1989-12-31",
    "2101-01-01",
    "0001-01-01",
    "44636",
    "99999999999999999999",
    "16/03/2022",
    "03/16/2022",
    "12:30",
    "Smarch 16, 2022",
    "2022-03-16T25:00:00",
    "-1647433800",
    "2022-03-16 13:30 PM",
    "2022-03-16\x00",
    "\uff12\uff10\uff12\uff12-03-16",
    "March 2022",
]


def record(text: str) -> tuple[str, ...]:
    """One parsed row with this date."""
    return tuple({"symbol": "BTC", "price": "1", "updated_at": text}.get(name, "") for name in FIELDS)


@pytest.mark.parametrize(("text", "moment"), DATES)
def test_a_date_becomes_a_moment_in_utc(text: str, moment: datetime | None) -> None:
    found = SOURCE.normalize(ADAPTER.validate_python(record(text))).source_updated_at
    found = datetime.fromisoformat(found) if isinstance(found, str) else found
    assert found == moment
    assert found is None or found.utcoffset() is not None


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="updated_at: expected a date between 1990 and 2100"):
        ADAPTER.validate_python(record(text))


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        (["16/03/2022", "01/02/2022"], "dmy"),
        (["03/16/2022", "01/02/2022"], "mdy"),
        (["01/02/2022", "03/04/2022"], "?"),
        (["16/03/2022", "03/16/2022"], "?"),
        (["2022-03-16"], ""),
        (["01.02.2022"], "dmy"),
        (["01-02-22"], "?"),
        ([], ""),
    ],
)
def test_a_column_tells_what_comes_first(cells: list[str], order: str) -> None:
    assert find_order(cells) == order


@pytest.mark.parametrize(
    ("text", "order", "iso"),
    [
        ("16/03/2022", "dmy", "2022-03-16"),
        ("3/16/22 12:30", "mdy", "2022-03-16 12:30"),
        ("16.03.2022", "dmy", "2022-03-16"),
        ("n/a", "dmy", "n/a"),
    ],
)
def test_a_date_is_put_in_order(text: str, order: str, iso: str) -> None:
    assert put_order(text, order) == iso
