"""The labelled set: what must be found, what must not, and how often a suggested rename is right; real payloads of different years."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from etl.drift.detect import SUGGESTED, compare
from etl.drift.profile import Profile
from tests.etl.drift.labelled import LEVELS, judge, profile

PAYLOADS = {
    "coinpaprika": ("tickers_usd_2019-09-06.subset.json", "ticker_btc_2022-04-19.json", "ticker_btc_2026-10-05.json"),
    "coingecko": ("markets_usd_100_2021-06-24.json", "markets_usd_250_2022-08-30.json", "markets_usd_100_2025-02-16.json"),
}
LATER = {"first_data_at", "quotes.USD.percent_change_15m", "quotes.USD.percent_change_30m", "quotes.USD.percent_change_6h"}
YEAR = {"price_change_percentage_1y_in_currency"}


def test_the_labelled_set_meets_its_targets(corpus: Path) -> None:
    told = judge(corpus)
    assert told.cases >= 200
    assert (told.missed, told.false, told.silent) == ([], [], [])
    assert told.required == told.required_found > 0
    for level in LEVELS:
        chosen = [right for confidence, right, _ in told.suggested if confidence >= level]
        assert sum(chosen) >= 0.95 * len(chosen)
    assert sum(right for confidence, right, _ in told.suggested if confidence >= SUGGESTED) >= 0.85 * told.renames


def recorded(corpus: Path, kind: str, file: str) -> tuple[Profile, dict[str, bool]]:
    value = json.loads((corpus / kind / file).read_text())
    return profile(kind, value if isinstance(value, list) else [value])


@pytest.mark.parametrize(
    ("kind", "one", "other"), [(kind, *pair) for kind, files in PAYLOADS.items() for pair in itertools.permutations(files, 2)]
)
def test_between_years_only_true_differences_are_events(corpus: Path, kind: str, one: str, other: str) -> None:
    (base, model), (new, _) = recorded(corpus, kind, one), recorded(corpus, kind, other)
    findings = compare(base, new, model)
    changed = {event.field for event in findings.events}
    assert changed <= base.fields.keys() ^ new.fields.keys()
    early = {"tickers_usd_2019-09-06.subset.json"} if kind == "coinpaprika" else {"markets_usd_100_2021-06-24.json"}
    expected = (LATER if kind == "coinpaprika" else YEAR) if (one in early) != (other in early) else set()
    assert changed == expected
    assert {event.change for event in findings.events} <= {"added", "missing"}


@pytest.mark.parametrize(("one", "other"), [("coinpaprika", "coingecko"), ("coingecko", "coinpaprika")])
@pytest.mark.parametrize("files", list(itertools.product(*PAYLOADS.values())))
def test_another_upstream_is_one_event(corpus: Path, one: str, other: str, files: tuple[str, str]) -> None:
    names = dict(zip(PAYLOADS, files, strict=True))
    (base, model), (new, _) = recorded(corpus, one, names[one]), recorded(corpus, other, names[other])
    findings = compare(base, new, model)
    assert findings.foreign
    assert [event.field for event in findings.events] == ["*"]
