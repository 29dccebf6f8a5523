"""CoinGecko: from a recorded-shape body to rows, field by field, paging and keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis.strategies import builds, integers, just, lists, one_of, uuids

from etl.errors import SourceError
from etl.source import Payload, Response
from etl.sources import coingecko
from etl.sources.coingecko import SOURCE, Page, Reading, look_back
from etl.validate import validate
from shared.settings import Settings

MakeSettings = Callable[..., Settings]


def rows(body: bytes) -> list[dict[str, Any]]:
    payload = Payload(body, "http://127.0.0.1/coins/markets", {}, datetime.now(UTC))
    result = validate(SOURCE, list(SOURCE.parse(payload)), 0)
    assert not result.rejected
    return [row._asdict() for _, row in result.accepted]


def test_a_market_becomes_a_row_with_every_digit(payload: Callable[[str], bytes]) -> None:
    assert rows(payload("coingecko/markets.json"))[0] == {
        "kind": "asset",
        "external_id": "bitcoin",
        "symbol": "BTC",
        "name": "Bitcoin",
        "category": "cryptocurrency",
        "price_usd": Decimal(20277),
        "market_cap_usd": Decimal(388069566235),
        "volume_24h_usd": Decimal(28438323628),
        "percent_change_24h": Decimal("3.36381"),
        "rank": 1,
        "url": None,
        "tags": None,
        "source_updated_at": datetime(2022, 8, 30, 0, 6, 2, 240000, tzinfo=UTC),
    }


def test_an_unranked_coin_has_no_market_cap_but_a_true_volume(payload: Callable[[str], bytes]) -> None:
    row = rows(payload("coingecko/markets.json"))[1]
    assert (row["market_cap_usd"], row["rank"], row["percent_change_24h"]) == (None, None, None)
    assert (row["volume_24h_usd"], str(row["price_usd"])) == (Decimal(0), "1.2345678901234567E-8")


def test_any_figure_may_be_null(payload: Callable[[str], bytes]) -> None:
    row = rows(payload("coingecko/markets.json"))[2]
    figures = ("price_usd", "market_cap_usd", "volume_24h_usd", "percent_change_24h", "rank", "source_updated_at")
    assert [row[name] for name in figures] == [None] * 6


class Pages:
    """A fetch over a market of so many coins, noting every request."""

    def __init__(self, coins: int) -> None:
        self.coins, self.asked = coins, list[dict[str, Any]]()

    def __call__(
        self, url: str, *, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, follow_redirects: bool = False
    ) -> Response:
        assert params
        assert not follow_redirects
        self.asked.append({"url": url, "headers": headers, **params})
        size = int(params["per_page"])
        first = (int(params["page"]) - 1) * size
        body = [{"id": f"coin-{n}"} for n in range(first, min(first + size, self.coins))]
        return Response(200, json.dumps(body).encode(), {}, url)


def asked(fetch: Pages) -> str:
    """The requests in short: the page's number; with a dash when only its edge to the page before was looked over."""
    return " ".join(request["page"] if request["per_page"] == "250" else f"-{request['page']}" for request in fetch.asked)


@pytest.mark.parametrize(
    ("coins", "pages", "told"),
    [
        (1000, "1", "1"),
        (1000, "2", "1 2 -2"),
        (1000, "4", "1 2 -2 3 -3 4 -4"),
        (600, "4", "1 2 -2 3 -3"),
        (500, "0", "1 2 -2 3 -3"),
        (10, "0", "1"),
        (20, "0", "1 2"),
        (249, "1", "1 2"),
        (0, "4", "1"),
    ],
)
def test_pages_are_fetched_until_the_setting_or_a_page_that_is_not_full(settings: MakeSettings, coins: int, pages: str, told: str) -> None:
    fetch = Pages(coins)
    payloads = list(SOURCE.extract(settings(COINGECKO_MAX_PAGES=pages), fetch, {}))
    assert asked(fetch) == told
    assert {(r["vs_currency"], r["order"]) for r in fetch.asked} == {("usd", "market_cap_desc")}
    assert len(ids(payloads)) == len(set(ids(payloads))) == min(coins, 250 * int(pages) or coins)
    assert [payload.notes for payload in payloads] == [()] * len(payloads)
    assert payloads[-1].cursor == {}


@pytest.mark.parametrize("edge", [*range(1, 9), 21, 40, 56, 61, 79])
def test_what_looks_over_an_edge_reaches_eighty_places_to_both_sides(settings: MakeSettings, edge: int) -> None:
    fetch = Pages(0)
    list(look_back(settings(), fetch, Reading(edge + 1, "", (), set(), 0, whole=True), Page(Payload(b"", "", {}, datetime.now(UTC)), ())))
    size, page = int(fetch.asked[0]["per_page"]), int(fetch.asked[0]["page"])
    assert (page - 1) * size <= 250 * edge - 80
    assert min(page * size, 250 * edge + 250) >= 250 * edge + 80
    assert size <= 250


def test_an_interrupted_snapshot_goes_on_at_its_next_page_while_it_is_fresh(settings: MakeSettings) -> None:
    first = next(SOURCE.extract(settings(), Pages(1000), {}))
    list(SOURCE.extract(settings(), fetch := Pages(1000), first.cursor))
    assert asked(fetch) == "2 -2 3 -3 4 -4"
    before = {"page": 3, "started": first.cursor["started"], "edge": [f"coin-{n}" for n in range(250, 500)], "top": 500}
    list(SOURCE.extract(settings(), earlier := Pages(1000), before))  # as an earlier release left it
    assert asked(earlier) == "3 -3 4 -4"
    stale = {"page": 3, "started": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}
    list(SOURCE.extract(settings(), old := Pages(1000), stale))
    assert asked(old) == "1 2 -2 3 -3 4 -4"


class Shifting(Pages):
    """A market whose list changes after some requests."""

    def __init__(self, coins: int, *moves: Callable[[list[str]], None]) -> None:
        super().__init__(coins)
        self.market = [f"coin-{n}" for n in range(coins)]
        self.moves = list(moves)

    def __call__(self, url: str, *, params: Mapping[str, str] | None = None, **asked: Any) -> Response:
        assert params
        self.asked.append(dict(params))
        size = int(params["per_page"])
        page = self.market[(int(params["page"]) - 1) * size :][:size]
        if self.moves:
            self.moves.pop(0)(self.market)
        return Response(200, json.dumps([{"id": name} for name in page]).encode(), {}, url)


def climb(name: str, to: int = 0) -> Callable[[list[str]], None]:
    """A coin moves up to a place in the list; a new one enters there."""

    def move(market: list[str]) -> None:
        if name in market:
            market.remove(name)
        market.insert(to, name)

    return move


def leave(*names: str) -> Callable[[list[str]], None]:
    """Coins leave the list, and those below slide up."""
    return lambda market: market.__setitem__(slice(None), [name for name in market if name not in names])


def stay(_market: list[str]) -> None:
    """Nothing changes."""


def ids(payloads: list[Payload]) -> list[str]:
    return [value["id"] for payload in payloads for value in SOURCE.parse(payload)]


@pytest.mark.parametrize(
    ("moves", "told"),
    [
        ([climb("coin-250", 249)], "1 2 -2 3"),
        ([climb("coin-400")], "1 2 -2 1 3"),
        ([climb("coin-400"), stay, stay, climb("coin-600", 260)], "1 2 -2 1 3 -3 2 4"),
        ([stay, stay, climb("coin-600")], "1 2 -2 3 -3 2 1 4"),
        ([climb("new")], "1 2 -2 1 3"),
        ([climb("new"), climb("newer")], "1 2 -2 1 3"),
        ([stay] * 4 + [climb("coin-999"), climb("coin-998")], "1 2 -2 3 -3 4 -4 3 2 1"),
        ([leave("coin-7")], "1 2 -2 3"),
        ([leave("coin-7", "coin-249"), stay, leave("coin-8")], "1 2 -2 3 -3 4"),
        ([climb("coin-7", 600)], "1 2 -2 3"),
        ([leave("coin-7"), climb("new"), leave("coin-8"), climb("newer")], "1 2 -2 3 -3 4"),
        ([leave(*(f"coin-{n}" for n in range(200)))], "1 2 -2 1 3"),
    ],
)
def test_a_list_that_shifts_while_it_is_paged_loses_no_coin(settings: MakeSettings, moves: list[Any], told: str) -> None:
    payloads = list(SOURCE.extract(settings(), fetch := Shifting(1300, *moves), {}))
    assert set(ids(payloads)) >= {f"coin-{n}" for n in range(1000)} & set(fetch.market[:1000])
    assert asked(fetch).startswith(told)
    missed = [note for payload in payloads for note in payload.notes]
    assert [payload.list_end for payload in payloads] == [""] * (len(payloads) - 1) + ["" if missed else "capped"]
    assert [payload.list_start for payload in payloads] == [True] + [False] * (len(payloads) - 1)


COIN = integers(0, 1099)
CHANGES = one_of(
    just(stay),
    lists(one_of(builds(leave, COIN.map(lambda n: f"coin-{n}")), builds(climb, uuids().map(str), COIN)), max_size=40).map(
        lambda moves: lambda market: [move(market) for move in moves] and None
    ),
)


@given(changes=lists(CHANGES, max_size=12))
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_coin_is_lost_while_up_to_forty_leave_and_enter_between_any_two_requests(settings: MakeSettings, changes: list[Any]) -> None:
    payloads = list(SOURCE.extract(settings(COINGECKO_MAX_PAGES="0"), fetch := Shifting(1100, *changes), {}))
    assert set(ids(payloads)) >= {f"coin-{n}" for n in range(1100)} & set(fetch.market)
    assert len(fetch.asked) <= 4 * 6


@given(moved=COIN, to=COIN, gap=integers(0, 10))
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_coin_is_lost_when_one_moves_anywhere_between_any_two_requests(settings: MakeSettings, moved: int, to: int, gap: int) -> None:
    payloads = list(SOURCE.extract(settings(COINGECKO_MAX_PAGES="0"), Shifting(1100, *[stay] * gap, climb(f"coin-{moved}", to)), {}))
    assert set(ids(payloads)) == {f"coin-{n}" for n in range(1100)}


def test_a_shift_while_a_snapshot_was_interrupted_is_found_too(settings: MakeSettings) -> None:
    fetch = Shifting(1000, stay, stay, climb("coin-700"))
    extract = SOURCE.extract(settings(), fetch, {})
    before = [next(extract), next(extract)]
    leave("coin-900")(fetch.market)
    after = list(SOURCE.extract(settings(), fetch, json.loads(json.dumps(before[-1].cursor))))
    assert set(ids(before + after)) >= {f"coin-{n}" for n in range(1000)} - {"coin-900"}
    assert asked(fetch).startswith("1 2 -2 3 -3 2 1 4")


def test_a_list_that_never_stands_still_is_asked_for_at_most_four_times_and_says_so(settings: MakeSettings) -> None:
    moves = [lambda market: market.insert(0, market.pop())] * 1000
    payloads = list(SOURCE.extract(settings(COINGECKO_MAX_PAGES="0"), fetch := Shifting(5000, *moves), {}))
    assert {payload.list_end for payload in payloads} == {""}  # what may lack coins is not the whole list
    assert len(fetch.asked) <= 4 * 21
    notes = [note for payload in payloads for note in payload.notes]
    assert notes
    assert all("coins may be missing until the next run" in note for note in notes)


def test_what_is_asked_again_leaves_the_place_to_go_on_where_it_was(settings: MakeSettings) -> None:
    payloads = list(SOURCE.extract(settings(), Shifting(1000, climb("coin-400"), stay, stay, leave("coin-3")), {}))
    assert [payload.cursor.get("page") for payload in payloads] == [2, 2, 3, 3, 4, None]
    assert payloads[1].cursor == payloads[0].cursor
    assert payloads[3].cursor == payloads[2].cursor


class Unpaged(Pages):
    """A market that ignores `page`, or gives fewer coins a page than were asked for."""

    def __init__(self, coins: int, *, page: str = "", most: int = 250) -> None:
        super().__init__(coins)
        self.page, self.most = page, most

    def __call__(self, url: str, *, params: Mapping[str, str] | None = None, **asked: Any) -> Response:
        assert params
        size = min(int(params["per_page"]), self.most)
        return super().__call__(url, params={**params, "page": self.page or params["page"], "per_page": str(size)}, **asked)


@pytest.mark.parametrize("pages", ["0", "80"])
def test_an_upstream_that_ignores_the_page_is_refused_at_the_second(settings: MakeSettings, pages: str) -> None:
    extract = SOURCE.extract(settings(COINGECKO_MAX_PAGES=pages), fetch := Unpaged(1000, page="1"), {})
    first = next(extract)
    with pytest.raises(SourceError, match=r"page=2 answered with the coins of page 1 again: upstream ignores `page`: check COINGECKO_BASE"):
        next(extract)
    assert len(fetch.asked) == 2
    with pytest.raises(SourceError, match="ignores `page`"):
        next(SOURCE.extract(settings(), fetch, first.cursor))


@pytest.mark.parametrize("pages", ["0", "1", "4"])
@pytest.mark.parametrize("most", [20, 100, 249])
def test_an_upstream_that_caps_its_pages_is_not_taken_for_a_short_list(settings: MakeSettings, most: int, pages: str) -> None:
    extract = SOURCE.extract(settings(COINGECKO_MAX_PAGES=pages), fetch := Unpaged(1000, most=most), {})
    with pytest.raises(SourceError, match=f"gives {most} a page where 250 were asked for, and has more: check COINGECKO_BASE_URL"):
        next(extract)
    assert len(fetch.asked) == 2
    assert len(ids(list(SOURCE.extract(settings(COINGECKO_MAX_PAGES=pages), Unpaged(most, most=most), {})))) == most
    assert len(ids(list(SOURCE.extract(settings(COINGECKO_MAX_PAGES=pages), Unpaged(most, page="1"), {})))) == most


def test_a_list_without_end_ends_at_a_ceiling_and_says_so(settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coingecko, "MOST_PAGES", 3)
    payloads = list(SOURCE.extract(settings(COINGECKO_MAX_PAGES="0"), Pages(5000), {}))
    assert (len(payloads), payloads[-1].list_end, payloads[-1].cursor) == (3, "capped", {})
    assert payloads[-1].notes == ("the list goes on after 3 pages and was read no further: set COINGECKO_MAX_PAGES to read more",)
    bounded = list(SOURCE.extract(settings(COINGECKO_MAX_PAGES="5"), Pages(5000), {}))
    assert (len(bounded), bounded[-1].notes) == (5, ())
    ended = list(SOURCE.extract(settings(COINGECKO_MAX_PAGES="0"), Pages(740), {}))
    assert (ended[-1].list_end, ended[-1].notes) == ("whole", ())


def test_records_without_an_id_or_with_one_no_checkpoint_can_hold_are_not_taken_for_new(settings: MakeSettings) -> None:
    fetch = Shifting(600)
    fetch.market[200:203] = fetch.market[300:303] = ["", "a\0b", "\ud800"]
    payloads = list(SOURCE.extract(settings(), fetch, {}))
    assert asked(fetch) == "1 2 -2 1 3 -3"  # three come twice
    assert len(payloads) == 3
    assert "\\u0000" not in json.dumps([payload.cursor for payload in payloads])


@pytest.mark.parametrize(
    ("base", "header"),
    [("https://api.coingecko.com/api/v3", "x-cg-demo-api-key"), ("https://pro-api.coingecko.com/api/v3", "x-cg-pro-api-key")],
)
def test_the_key_goes_into_the_header_of_its_host(settings: MakeSettings, base: str, header: str) -> None:
    fetch = Pages(1)
    list(SOURCE.extract(settings(COINGECKO_BASE_URL=base, COINGECKO_API_KEY="CG-secret"), fetch, {}))
    assert fetch.asked[0]["headers"] == {"Accept": "application/json", header: "CG-secret"}
    assert "CG-secret" not in json.dumps({k: v for k, v in fetch.asked[0].items() if k != "headers"})


def test_the_rate_limit_follows_the_plan_unless_set(settings: MakeSettings) -> None:
    pro = "https://pro-api.coingecko.com/api/v3"
    assert str(SOURCE.rate_limit(settings())) == "10/60"
    assert str(SOURCE.rate_limit(settings(COINGECKO_API_KEY="CG-x"))) == "30/60"
    assert str(SOURCE.rate_limit(settings(COINGECKO_API_KEY="CG-x", COINGECKO_BASE_URL=pro))) == "250/60"
    assert str(SOURCE.rate_limit(settings(COINGECKO_RATE_LIMIT="7/30"))) == "7/30"


def test_recorded_lists_of_four_years_load_whole(corpus: Any) -> None:
    for name in ("markets_usd_100_2021-06-24", "markets_usd_250_2022-08-30", "markets_usd_100_2025-02-16"):
        body = (corpus / "coingecko" / f"{name}.json").read_bytes()
        assert [row["external_id"] for row in rows(body)] == [coin["id"] for coin in json.loads(body)]
