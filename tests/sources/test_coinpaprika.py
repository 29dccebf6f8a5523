"""CoinPaprika: from a recorded-shape body to rows, field by field, and how it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from etl.errors import SourceError
from etl.source import Payload, Response
from etl.sources.coinpaprika import SOURCE, base_url
from etl.validate import Validated, validate
from shared.settings import Settings

MakeSettings = Callable[..., Settings]
NOW = datetime(2026, 3, 5, tzinfo=UTC)


def of(body: bytes) -> Payload:
    return Payload(body, "http://127.0.0.1/tickers", {}, NOW)


def checked(body: bytes) -> Validated:
    return validate(SOURCE, list(SOURCE.parse(of(body))), 0)


def test_a_ticker_becomes_a_row_with_every_digit(payload: Callable[[str], bytes]) -> None:
    position, row = checked(payload("coinpaprika/tickers.json")).accepted[0]
    assert position == 0
    assert row._asdict() == {
        "kind": "asset",
        "external_id": "btc-bitcoin",
        "symbol": "BTC",
        "name": "Bitcoin",
        "category": "cryptocurrency",
        "price_usd": Decimal("85836.863439736512345678"),
        "market_cap_usd": Decimal("1724781212941"),
        "volume_24h_usd": Decimal("20475465924.682415"),
        "percent_change_24h": Decimal("0.5899999737739563"),
        "rank": 1,
        "url": None,
        "tags": None,
        "source_updated_at": datetime(2026, 3, 5, 9, 36, 15, tzinfo=UTC),
    }


def test_zero_that_means_unknown_becomes_null_and_a_true_zero_stays(payload: Callable[[str], bytes]) -> None:
    row = checked(payload("coinpaprika/tickers.json")).accepted[1][1]
    assert (row.rank, row.market_cap_usd) == (None, None)
    assert (row.volume_24h_usd, row.price_usd) == (Decimal(0), Decimal("1e-08"))


def test_odd_names_and_symbols_are_kept_with_blanks_folded(payload: Callable[[str], bytes]) -> None:
    accepted = checked(payload("coinpaprika/tickers.json")).accepted
    assert [(row.symbol, row.name) for _, row in accepted[2:]] == [("USDC.e", "USD Coin (Bridged)"), ("战旗", "Money")]
    assert str(accepted[2][1].price_usd) == "1.00"


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"id": ""}, "id", "at least 1 character"),
        ({"id": None}, "id", "expected a text"),
        ({"name": "a\x00b"}, "name", "NUL"),
        ({"symbol": "\ud800"}, "symbol", "unicode"),
        ({"symbol": "x" * 201}, "symbol", "at most 200"),
        ({"rank": 1.5}, "rank", "whole number"),
        ({"rank": -1}, "rank", "whole number"),
        ({"rank": 2147483648}, "rank", "whole number"),
        ({"last_updated": 1567773672}, "last_updated", "expected a time"),
        ({"last_updated": "1700000000"}, "last_updated", "expected a time"),
        ({"last_updated": "yesterday"}, "last_updated", "datetime"),
        ({"last_updated": "9999-01-01T00:00:00Z"}, "last_updated", "between 1990 and 2100"),
        ({"quotes": {}}, "quotes.USD", "required"),
        ({"quotes": {"USD": {"volume_24h": 1}}}, "quotes.USD.price", "required"),
        ({"quotes": {"USD": {"price": "1.5"}}}, "quotes.USD.price", "expected a number"),
        ({"quotes": {"USD": {"price": True}}}, "quotes.USD.price", "expected a number"),
        ({"quotes": {"USD": {"price": -1}}}, "quotes.USD.price", "not negative"),
    ],
)
def test_a_broken_field_rejects_its_record_with_the_reason(
    payload: Callable[[str], bytes], change: dict[str, Any], field: str, reason: str
) -> None:
    tickers = json.loads(payload("coinpaprika/tickers.json"))
    tickers[1] |= change
    result = checked(json.dumps(tickers).encode())
    assert [position for position, _ in result.accepted] == [0, 2, 3]
    (rejected,) = result.rejected
    assert rejected.position == 1
    assert any(error["field"] == field and reason in error["reason"] for error in rejected.errors), rejected.errors


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e400", "1e-400", "9" * 5000, "1e99999999999999999999", "1e-99999999999999999999"]
)
def test_a_number_no_price_has_spoils_its_own_record_only(payload: Callable[[str], bytes], number: str) -> None:
    body = payload("coinpaprika/tickers.json").replace(b"1e-08", number.encode())
    result = checked(body)
    assert (len(result.accepted), [bad.position for bad in result.rejected]) == (3, [1])


def test_a_byte_that_is_no_utf8_spoils_its_own_record_only_and_is_kept(payload: Callable[[str], bytes]) -> None:
    body = payload("coinpaprika/tickers.json").replace(b'"HOLD","symbol"', b'"HO\xffLD","symbol"')
    result = checked(body)
    assert (len(result.accepted), [bad.position for bad in result.rejected]) == (3, [1])
    assert b'"HO\xffLD"' in SOURCE.excerpts(of(body), [1])[1]


def test_every_reason_of_a_record_is_told() -> None:
    (rejected,) = checked(b'[{"id": "", "name": 7, "symbol": "X", "last_updated": null, "quotes": {"USD": {"price": -1}}}]').rejected
    assert [error["field"] for error in rejected.errors] == ["id", "name", "quotes.USD.price"]


def test_excerpts_are_the_bytes_that_upstream_sent(payload: Callable[[str], bytes]) -> None:
    body = payload("coinpaprika/tickers.json")
    cut = SOURCE.excerpts(of(body), [3, 0])
    assert sorted(cut) == [0, 3]
    assert all(part in body for part in cut.values())
    assert cut[0].startswith(b'{"id":"btc-bitcoin"')
    assert cut[0].endswith(b'"2025-10-06T19:00:40Z"}}}')
    assert json.loads(cut[3])["id"] == "-money"


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"{}", b'{"error":"id not found"}', b"<html>", b"[1,", b"\xff\xfe", b"[" * 100_000, b'[{"id":"a"}] trailing'],
)
def test_a_body_that_is_no_list_is_one_clear_error(body: bytes) -> None:
    with pytest.raises(SourceError, match="did not answer with") as error:
        list(SOURCE.parse(of(body)))
    assert "\n" not in str(error.value)


class Answer:
    """A fetch that notes how it was asked."""

    def __init__(self, status: int = 200, **headers: str) -> None:
        self.status, self.headers, self.asked = status, headers, dict[str, Any]()

    def __call__(self, url: str, **asked: Any) -> Response:
        self.asked = {"url": url, **asked}
        return Response(self.status, b"[]", {name.replace("_", "-"): value for name, value in self.headers.items()}, url)


def test_the_free_plan_is_asked_without_a_key(settings: MakeSettings) -> None:
    fetch = Answer()
    list(SOURCE.extract(settings(), fetch, {}))
    assert fetch.asked["url"] == "https://api.coinpaprika.com/v1/tickers"
    assert set(fetch.asked["headers"]) == {"Accept"}


def test_a_key_goes_raw_into_authorization_and_to_the_paid_host(settings: MakeSettings) -> None:
    fetch = Answer()
    list(SOURCE.extract(settings(COINPAPRIKA_API_KEY="secret"), fetch, {}))
    assert fetch.asked["url"] == "https://api-pro.coinpaprika.com/v1/tickers"
    assert fetch.asked["headers"]["Authorization"] == "secret"
    assert base_url(settings(COINPAPRIKA_API_KEY="secret", COINPAPRIKA_BASE_URL="http://localhost/v1/")) == "http://localhost/v1"


def test_the_validator_is_kept_with_its_payload_and_sent_next_time(settings: MakeSettings) -> None:
    stamp = "Fri, 06 Sep 2019 12:41:12 GMT"
    (first,) = SOURCE.extract(settings(), Answer(last_modified=stamp), {})
    fetch = Answer(304)
    assert list(SOURCE.extract(settings(), fetch, first.cursor)) == []
    assert fetch.asked["headers"]["If-Modified-Since"] == stamp


def test_the_validator_of_another_address_is_not_sent(settings: MakeSettings) -> None:
    fetch = Answer()
    list(SOURCE.extract(settings(), fetch, {"url": "http://elsewhere/tickers", "last_modified": "x"}))
    assert "If-Modified-Since" not in fetch.asked["headers"]


def test_a_password_in_the_address_is_not_kept(settings: MakeSettings) -> None:
    (first,) = SOURCE.extract(settings(COINPAPRIKA_BASE_URL="http://me:CANARY@h.example/v1"), Answer(last_modified="x"), {})
    assert "CANARY" not in f"{first.url} {first.cursor} {SOURCE.reads_from(settings(COINPAPRIKA_BASE_URL='http://me:CANARY@h.example/v1'))}"


def test_the_rate_limit_is_the_plans_unless_set(settings: MakeSettings) -> None:
    assert str(SOURCE.rate_limit(settings())) == "10/1"
    assert str(SOURCE.rate_limit(settings(COINPAPRIKA_RATE_LIMIT="3/60"))) == "3/60"


def test_a_recorded_list_loads_whole(corpus: Any) -> None:
    body = (corpus / "coinpaprika" / "tickers_usd_2019-09-06.subset.json").read_bytes()
    result = checked(body)
    assert not result.rejected
    assert [row.external_id for _, row in result.accepted] == [ticker["id"] for ticker in json.loads(body)]
