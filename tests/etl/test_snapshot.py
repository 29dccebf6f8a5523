"""How long an upstream's list is and what it lacks, as runs tell it over CoinGecko's pages of a list that moves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from etl.errors import SourceError
from etl.source import Cursor, Fetch, Payload, Response
from etl.sources import coingecko
from shared.settings import Settings


class Market:
    """CoinGecko's list of so many coins, of which some climb to the top after each request, or after the first `moves` only."""

    def __init__(self, coins: int) -> None:
        self.ids = [f"c{n:05}" for n in range(coins)]
        self.climbing, self.moves, self.asked, self.fails_at = 0, 1000, 0, 0

    def __call__(self, url: str, *, params: Mapping[str, str] | None = None, **_asked: Any) -> Response:
        assert params
        self.asked += 1
        if self.asked == self.fails_at:
            raise SourceError("upstream is down: try again later")
        size, page = int(params["per_page"]), int(params["page"])
        sent = self.ids[(page - 1) * size : page * size]
        if self.climbing and self.asked <= self.moves:
            self.ids = self.ids[-self.climbing :] + self.ids[: -self.climbing]
        return Response(200, json.dumps([{"id": name} for name in sent]).encode(), {}, url)


Moving = Callable[[int], Market]


@pytest.fixture
def moving(world: Any) -> Moving:
    """Make the world's upstream a market of so many coins."""
    world.environ = {"COINGECKO_MAX_PAGES": "0"}

    def serve(coins: int) -> Market:
        market = Market(coins)

        def extract(settings: Settings, _fetch: Fetch, cursor: Cursor) -> Iterator[Payload]:
            yield from coingecko.extract(settings, market, cursor)

        world.extract = extract
        return market

    return serve


LENGTHS = "select snapshot_records from etl_runs order by id"


@pytest.mark.parametrize("climbing", [1, 40])
def test_pages_that_are_looked_at_again_do_not_make_a_list_longer(world: Any, moving: Moving, climbing: int) -> None:
    market = moving(2000)
    for _ in range(3):
        market.climbing = climbing
        assert world.run().status == "success"
    market.climbing = 0
    assert world.run().status == "success"
    stored = world.rows("select count(*) from unified_data")[0][0]
    assert stored == 2000
    assert {length for (length,) in world.rows(LENGTHS)} <= {None, 2000}
    assert world.rows(LENGTHS)[-1] == (2000,)


def test_a_list_that_shrank_is_refused_however_many_pages_were_looked_at_again(world: Any, moving: Moving) -> None:
    moving(2000)
    world.run()
    market = moving(900)
    market.climbing, market.moves = 1, 1
    outcome = world.run()
    assert (outcome.status, market.asked) == ("refused", 8)  # four pages, three looks over an edge, the first page again
    assert "has 900 records, usually 2000" in str(outcome.error)


def test_an_id_that_comes_twice_counts_once_and_a_record_without_one_each_time(world: Any) -> None:
    bodies = [[{"id": "a"}, {"id": "b"}, {}], [{"id": "b"}, {"id": "c"}, {"id": ["x"]}]]

    def extract(_settings: Settings, _fetch: Fetch, cursor: Cursor) -> Iterator[Payload]:
        for payload, place in zip(original({}, None, {}), ("start", "end"), strict=True):
            yield replace(payload, cursor={}, list_start=place == "start", list_end="whole" if place == "end" else "")

    original, world.bodies, world.extract = world.extract, bodies, extract
    world.run()
    assert world.rows(LENGTHS) == [(5,)]


def test_a_run_that_goes_on_in_the_middle_of_a_list_tells_no_length(world: Any, moving: Moving) -> None:
    market = moving(2000)
    world.run()
    market.asked, market.fails_at = 0, 8
    assert world.run().status == "failed"
    assert world.run().status == "success"
    assert world.run().status == "success"
    assert world.rows(LENGTHS) == [(2000,), (None,), (None,), (2000,)]
    assert world.rows("select count(*) from asset_absences") == [(0,)]


def test_a_list_known_to_lack_coins_neither_counts_nor_makes_any_coin_inactive(world: Any, moving: Moving) -> None:
    market = moving(2000)
    world.run()
    market.ids.remove("c01999")
    market.ids[600] = market.ids[400]  # an id that comes twice stands for a coin that may be missing
    for _ in range(3):
        assert world.run().status == "success"
    assert world.rows(LENGTHS) == [(2000,), (None,), (None,), (None,)]
    assert world.rows("select count(*) from asset_absences") == [(0,)]
    whole = moving(2000)
    whole.ids.remove("c01999")
    world.run()
    assert world.rows("select external_id, snapshots from asset_absences") == [("c01999", 1)]
