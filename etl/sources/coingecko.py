"""CoinGecko: the market list, 250 coins a page, ordered by market capitalisation."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit
from zlib import crc32

from pydantic import BaseModel, ConfigDict

from etl.errors import SourceError
from etl.json_array import Amount, NonNegative, Rank, ShortText, Stamp, Text, excerpts, identify, parse
from etl.source import Cursor, Fetch, Payload, Row, Source
from shared.addresses import named
from shared.model import RateLimit
from shared.settings import Settings

PER_PAGE = 250
PASSES = 2
"""Pages that may be asked again for each page read, at the most; a list that stands still costs none."""
MOST_PAGES = 400
"""Where a list without a bound ends at the latest: 100,000 coins, five times what was ever listed."""
SMALLEST_CAP = 20
"""A first page of fewer coins is the whole list: nobody caps pages lower, and it costs no further request."""
KEYLESS_LIMIT = RateLimit(10, 60)
"""Nothing is documented without a key; 5 to 15 a minute were reported."""
DEMO_LIMIT = RateLimit(30, 60)
PRO_LIMIT = RateLimit(250, 60)
MOVED = "the list moved while it was paged: up to {} coins may be missing until the next run"
ENDLESS = "the list goes on after {} pages and was read no further: set COINGECKO_MAX_PAGES to read more"
SNAPSHOT = timedelta(minutes=15)
"""How old an interrupted snapshot may be for its next page still to belong to it."""


class Market(BaseModel):
    """What we rely on in a market row (https://docs.coingecko.com, `GET /coins/markets`); any figure may be null."""

    model_config = ConfigDict(frozen=True)

    id: ShortText
    symbol: ShortText
    name: Text
    current_price: NonNegative
    market_cap: NonNegative = None
    market_cap_rank: Rank = None
    total_volume: NonNegative = None
    price_change_percentage_24h: Amount = None
    last_updated: Stamp


@dataclass(frozen=True, slots=True)
class Page:
    """A page as it was sent, with the ids of its coins in order; what has no id is known by its contents."""

    payload: Payload
    ids: tuple[str, ...]


@dataclass(slots=True)
class Reading:
    """How far a run has read the list: the page that comes next, the ids of the one before (`edge`), and all that were seen.

    `spare`: how many pages may still be asked again; `whole`: the list was read from its start, so `seen` is all that was seen;
    `missed`: how many coins may be missing from what was read, all in all.
    """

    number: int
    started: str
    edge: Sequence[str]
    seen: set[str]
    spare: int
    whole: bool
    missed: int = 0

    @property
    def cursor(self) -> dict[str, Any]:
        """Where an interrupted snapshot goes on, and what shows there whether the list has shifted meanwhile."""
        return {"page": self.number, "started": self.started, "edge": list(self.edge)}


def extract(settings: Settings, fetch: Fetch, cursor: Cursor) -> Iterator[Payload]:
    """Fetch page after page until `COINGECKO_MAX_PAGES`, or until a page is not full.

    The list shifts while it is paged, so each page is followed by a look over the edge to the page before, see `look_back`. A list of
    which coins may be missing has no end that counts: neither its length nor what it lacks tells of upstream's.
    No conditional requests: the provider's ETag changes while the bytes stay the same. Raises SourceError when upstream does not page.
    """
    last, at = settings.coingecko_max_pages or MOST_PAGES, begin(cursor)
    while at.number <= last:
        page = ask(settings, fetch, at.number)
        full = len(page.ids) >= PER_PAGE
        refuse_unpaged(settings, fetch, at, page)
        missed = yield from look_back(settings, fetch, at, page)
        at.missed += missed
        more = full and at.number != last
        end: Literal["", "whole", "capped"] = "" if more or at.missed else "capped" if full else "whole"
        notes = [MOVED.format(missed)] * (missed > 0) + [ENDLESS.format(last)] * (full and not more and not settings.coingecko_max_pages)
        payload = replace(page.payload, list_start=at.number == 1, list_end=end, notes=tuple(notes))
        at.number, at.edge = at.number + 1, page.ids
        yield replace(payload, cursor=at.cursor if more else {})
        if not more:
            return


def refuse_unpaged(settings: Settings, fetch: Fetch, at: Reading, page: Page) -> None:
    """Raise SourceError when upstream ignores `page`, or `per_page`: what follows a short first page shows whether the list ends there."""
    wrong = ""
    if at.number > 1 and len(page.ids) >= PER_PAGE and set(page.ids) <= set(at.edge):
        wrong = f"answered with the coins of page {at.number - 1} again: upstream ignores `page`"
    if at.number == 1 and SMALLEST_CAP <= len(page.ids) < PER_PAGE and not set(ask(settings, fetch, 2).ids) <= set(page.ids):
        wrong = f"gives {len(page.ids)} a page where {PER_PAGE} were asked for, and has more"
    if wrong:
        raise SourceError(f"{page.payload.url} {wrong}: check COINGECKO_BASE_URL", permanent=True)


def begin(cursor: Cursor) -> Reading:
    """Start at the first page, or go on with a snapshot that was interrupted a moment ago."""
    now = datetime.now(UTC)
    if "page" not in cursor or now - datetime.fromisoformat(cursor["started"]) >= SNAPSHOT:
        return Reading(1, now.isoformat(), (), set(), 0, whole=True)
    number, edge = cursor["page"], cursor.get("edge", [])
    return Reading(number, cursor["started"], edge, set(edge), PASSES * (number - 1), whole=number == 1)


def look_back(settings: Settings, fetch: Fetch, at: Reading, page: Page) -> Generator[Payload, None, int]:
    """Yield what of the list was read past, and tell how many coins may still be missed.

    When coins above leave, those below slide up: the ones that were next slip onto the page that was read already, without a trace
    where ranks are counted anew. One request over the edge shows them, between coins of both pages; when it does not show coins of
    both, the page before is asked again. When coins climb past us, as many ids come twice: pages are asked again until as many new
    ids came.
    """
    missed, at.spare = len(set(page.ids) & set(at.edge)), at.spare + PASSES
    at.seen.update(page.ids)
    if at.number == 1:
        return 0
    before = at.number - 1
    over = ask(settings, fetch, at.number, round(PER_PAGE * before / (before + 0.5)))  # in pages of this size the edge lies in the middle
    linked = bool(set(over.ids) & set(at.edge)) and (not page.ids or bool(set(over.ids) & set(page.ids)))
    found = yield from take_new(at, over)
    missed -= found if at.whole else 0  # after an interruption a new id may be one that the pages before it had
    for back in range(before, max(0, before - at.spare), -1):
        if linked and missed <= 0:
            break
        again, at.spare = ask(settings, fetch, back), at.spare - 1
        found = yield from take_new(at, again)
        missed, linked = missed - (found if at.whole else 0), linked or not found
    return max(0, missed) if at.whole else 0


def take_new(at: Reading, page: Page) -> Generator[Payload, None, int]:
    """Yield a page that was asked for once more when it has ids that were not seen, and count those."""
    found = set(page.ids) - at.seen
    at.seen |= found
    if found:
        yield replace(page.payload, cursor=at.cursor, done=at.number - 1)
    return len(found)


def ask(settings: Settings, fetch: Fetch, number: int, size: int = PER_PAGE) -> Page:
    """Fetch one page of a size. Raises FetchError, and SourceError when it is no list."""
    url, last = f"{settings.coingecko_base_url}/coins/markets", settings.coingecko_max_pages
    params = {"vs_currency": "usd", "order": "market_cap_desc", "per_page": str(size), "page": str(number)}
    body = fetch(url, params=params, headers=headers(settings)).body
    asked = f"{named(url)}?{'&'.join(f'{key}={value}' for key, value in params.items())}"
    payload = Payload(body, asked, {}, datetime.now(UTC), done=number, total=last)
    return Page(payload, tuple(map(known_by, parse(payload))))


def known_by(value: Any) -> str:
    """What a record is told by: its id, or when that is none, or none that a checkpoint can hold, a digest of its contents."""
    found = identify(value)
    return found if found and found.isprintable() and len(found) <= 200 else f"#{crc32(repr(value).encode()):08x}"


def headers(settings: Settings) -> dict[str, str]:
    """The key in the header its host expects: the two kinds of key look alike, the host decides."""
    if not settings.coingecko_api_key:
        return {"Accept": "application/json"}
    name = "x-cg-pro-api-key" if is_pro(settings) else "x-cg-demo-api-key"
    return {"Accept": "application/json", name: settings.coingecko_api_key.get_secret_value()}


def is_pro(settings: Settings) -> bool:
    """Whether the settings name the host of the paid plans."""
    return (urlsplit(settings.coingecko_base_url).hostname or "").startswith("pro-api.")


def rate_limit(settings: Settings) -> RateLimit:
    """The limit of the plan that the settings show."""
    plan = PRO_LIMIT if is_pro(settings) else DEMO_LIMIT if settings.coingecko_api_key else KEYLESS_LIMIT
    return settings.coingecko_rate_limit or plan


def normalize(market: Market) -> Row:
    """A market row as a row. Symbols come in lower case; a market cap of 0 means that the supply is unknown."""
    return Row(
        kind="asset",
        external_id=market.id,
        symbol=market.symbol.upper(),
        name=market.name,
        category="cryptocurrency",
        price_usd=market.current_price,
        market_cap_usd=market.market_cap or None,
        volume_24h_usd=market.total_volume,
        percent_change_24h=market.price_change_percentage_24h,
        rank=market.market_cap_rank or None,
        url=None,
        tags=None,
        source_updated_at=market.last_updated,
    )


SOURCE = Source(
    name="coingecko",
    type="api",
    record=Market,
    extract=extract,
    parse=parse,
    normalize=normalize,
    identify=identify,
    excerpts=excerpts,
    reads_from=lambda settings: [named(f"{settings.coingecko_base_url}/coins/markets")],
    rate_limit=rate_limit,
)
