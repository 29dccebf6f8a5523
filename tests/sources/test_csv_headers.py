"""Headers as they are found in the wild, which column holds what, and why other files are refused."""

from __future__ import annotations

import csv

import pytest

from etl.errors import SourceError
from etl.sources.csv_files.columns import map_columns
from etl.sources.csv_files.dialect import Dialect, sniff

SHORT = {"i": "external_id", "s": "symbol", "n": "name", "p": "price", "m": "market_cap", "v": "volume_24h", "c": "percent_change_24h"}
SHORT |= {"r": "rank", "u": "updated_at", "l": "url", "k": "category", "t": "tags"}
HEADERS = [
    ("symbol,price", "s=symbol p=price"),
    ("name;price", "n=name p=price"),
    ("id,symbol,name,price_usd,price_btc,price_eur", "i=id s=symbol n=name p=price_usd"),
    ("price_btc,symbol,price", "s=symbol p=price"),
    ("price_eur,symbol,price_usd,price", "s=symbol p=price_usd"),
    (
        "Name,Symbol,Price ($),Market Cap ($),Volume (24h) ($),24h %",
        "n=Name s=Symbol p=Price ($) m=Market Cap ($) v=Volume (24h) ($) c=24h %",
    ),
    ("Rank,Coin,Ticker,Price [USD],Mkt Cap,Vol.,% 24h", "r=Rank n=Coin s=Ticker p=Price [USD] m=Mkt Cap v=Vol. c=% 24h"),
    ("#,Name,Price,1h %,24h %,7d %,Market Cap,Volume(24h),Circulating Supply", "r=# n=Name p=Price c=24h % m=Market Cap v=Volume(24h)"),
    ("Name,Price,OneH,TwentyFourH,SevenD,MarketCap,Volume24H", "n=Name p=Price c=TwentyFourH m=MarketCap v=Volume24H"),
    ("coin,symbol,price,1h,24h,7d,24h_volume,mkt_cap,date", "n=coin s=symbol p=price c=24h v=24h_volume m=mkt_cap u=date"),
    (
        "id,rank,symbol,name,supply,maxSupply,marketCapUsd,volumeUsd24Hr,priceUsd,changePercent24Hr,vwap24Hr,explorer",
        "i=id r=rank s=symbol n=name m=marketCapUsd v=volumeUsd24Hr p=priceUsd c=changePercent24Hr",
    ),
    (
        "id,symbol,name,image,current_price,market_cap,market_cap_rank,fully_diluted_valuation,total_volume,high_24h,low_24h,price_change_24h,"
        "price_change_percentage_24h,market_cap_change_24h,ath,ath_date,last_updated",
        "i=id s=symbol n=name p=current_price m=market_cap r=market_cap_rank v=total_volume c=price_change_percentage_24h u=last_updated",
    ),
    (
        "id,name,symbol,slug,date_added,tags,cmc_rank,last_updated,quote.USD.price,quote.USD.volume_24h,quote.USD.volume_change_24h,"
        "quote.USD.percent_change_1h,quote.USD.percent_change_24h,quote.USD.market_cap,quote.USD.fully_diluted_market_cap",
        "i=id n=name s=symbol t=tags r=cmc_rank u=last_updated p=quote.USD.price v=quote.USD.volume_24h c=quote.USD.percent_change_24h "
        "m=quote.USD.market_cap",
    ),
    (
        "id,name,symbol,rank,quotes_USD_price,quotes_USD_volume_24h,quotes_USD_market_cap,quotes_USD_percent_change_24h,quotes_USD_ath_price",
        "i=id n=name s=symbol r=rank p=quotes_USD_price v=quotes_USD_volume_24h m=quotes_USD_market_cap c=quotes_USD_percent_change_24h",
    ),
    (
        "market_cap_usd,price_usd,last_updated,name,24h_volume_usd,percent_change_7d,symbol,rank,price_btc,percent_change_24h,id",
        "m=market_cap_usd p=price_usd u=last_updated n=name v=24h_volume_usd s=symbol r=rank c=percent_change_24h i=id",
    ),
    (
        "Name,Symbol,Price (USD),Change vs USD (24H),Change vs BTC (24H),Current Marketcap,Real Volume (24H),Sector",
        "n=Name s=Symbol p=Price (USD) c=Change vs USD (24H) m=Current Marketcap v=Real Volume (24H) k=Sector",
    ),
    (
        "symbol,priceChange,priceChangePercent,lastPrice,openPrice,highPrice,lowPrice,volume,quoteVolume,closeTime",
        "s=symbol c=priceChangePercent p=lastPrice v=quoteVolume u=closeTime",
    ),
    (
        "slug,symbol,name,date,ranknow,open,high,low,close,volume,market,close_ratio",
        "i=slug s=symbol n=name u=date r=ranknow p=close v=volume",
    ),
    ("SNo,Name,Symbol,Date,High,Low,Open,Close,Volume,Marketcap", "n=Name s=Symbol u=Date p=Close v=Volume m=Marketcap"),
    ("unix,date,symbol,open,high,low,close,Volume BTC,Volume USD", "u=unix s=symbol p=close v=Volume USD"),
    ("Ticker,Last,Volume", "s=Ticker p=Last v=Volume"),
    ("Ticker,Last Price,Change %", "s=Ticker p=Last Price c=Change %"),
    (
        "Coin Name,Coin Symbol,Current Price (USD),Market Capitalization,24 Hour Volume,24h Change (%)",
        "n=Coin Name s=Coin Symbol p=Current Price (USD) m=Market Capitalization v=24 Hour Volume c=24h Change (%)",
    ),
    ("asset,usd", "n=asset p=usd"),
    ("Cryptocurrency,Price in USD", "n=Cryptocurrency p=Price in USD"),
    ("Asset Name,Asset ID,Unit Price", "n=Asset Name i=Asset ID p=Unit Price"),
    (
        "name, name_abr, price_value, market_cap, fully_distributed_market_cap, volume_24h, volume_slash_market_cap",
        "n=name s=name_abr p=price_value m=market_cap v=volume_24h",
    ),
    (",coin_name,ticker_symbol,market_cap,price,percent_change_hour", "n=coin_name s=ticker_symbol m=market_cap p=price"),
    ("Unnamed: 0,Name,Price,price.1", "n=Name p=Price"),
    ("SYMBOL\tNAME\tPRICE\tMARKET CAP\tVOLUME", "s=SYMBOL n=NAME p=PRICE m=MARKET CAP v=VOLUME"),
    ("Symbol|Name|Price|Link|Tags|Category", "s=Symbol n=Name p=Price l=Link t=Tags k=Category"),
    (
        "uuid,symbol,name,iconUrl,marketCap,price,listedAt,rank,coinrankingUrl,24hVolume,btcPrice",
        "i=uuid s=symbol n=name m=marketCap p=price r=rank l=coinrankingUrl v=24hVolume",
    ),
    ("Moeda;Símbolo;Preço (US$);Variação 24h (%);Cap. de Mercado", "n=Moeda s=Símbolo p=Preço (US$) c=Variação 24h (%) m=Cap. de Mercado"),
    ("Name;Kürzel;Kurs;Marktkapitalisierung;Handelsvolumen", "n=Name s=Kürzel p=Kurs m=Marktkapitalisierung v=Handelsvolumen"),
    ("Nom;Symbole;Prix;Volume", "n=Nom s=Symbole p=Prix v=Volume"),
    ("Nombre;Precio;Fecha", "n=Nombre p=Precio u=Fecha"),
    ("crypto_name,price_usd,vol_24h,total_vol,chg_24h,chg_7d,market_cap", "n=crypto_name p=price_usd v=vol_24h c=chg_24h m=market_cap"),
    ("token,price,fdv,mcap", "n=token p=price m=mcap"),
    ("id,price,Last Update", "i=id p=price u=Last Update"),
    ("symbol,price,scraped_at,created_at", "s=symbol p=price u=scraped_at"),
    ("symbol,price,as of", "s=symbol p=price u=as of"),
    ("symbol,price,market_cap_rank,rank_change", "s=symbol p=price r=market_cap_rank"),
    ("symbol,price,market_cap_dominance,market cap change,volume_btc,volume_7d", "s=symbol p=price"),
    ("symbol,price,high,low,ath,atl,avg_price,open", "s=symbol p=price"),
    ("symbol,price,image_url,logo,website", "s=symbol p=price l=website"),
    ("timeOpen,timeClose,name,open,close,marketCap,timestamp", "n=name p=close m=marketCap u=timestamp"),
    ("code,name,rate,volume,cap", "s=code n=name p=rate v=volume m=cap"),
    (
        "Symbol,Name,Price (Intraday),Change,% Change,Market Cap,Volume in Currency (24Hr)",
        "s=Symbol n=Name p=Price (Intraday) c=% Change m=Market Cap v=Volume in Currency (24Hr)",
    ),
    ("symbol,closing price", "s=symbol p=closing price"),
    ("full name,symbol,price", "n=full name s=symbol p=price"),
    ("metrics/id,metrics/market_data/price_usd", "i=metrics/id p=metrics/market_data/price_usd"),
    ("Price_USD ,Symbol , Market_Cap_USD", "p=Price_USD s=Symbol m=Market_Cap_USD"),
]


@pytest.mark.parametrize(("line", "expected"), HEADERS)
def test_a_header_is_understood(line: str, expected: str) -> None:
    delimiter = max(",;\t|", key=line.count)
    header = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
    columns = map_columns(header).columns
    found = {name: header[index].strip() for name, index in columns.items() if index < len(header)}
    wanted = {SHORT[name]: cell for name, cell in (part.split("=", 1) for part in split(expected))}
    assert {name: found.get(name) for name in wanted} == wanted
    if "i" not in {part[0] for part in split(expected)}:
        assert "external_id" not in found
    extra = set(found) - set(wanted)
    assert not extra, {name: found[name] for name in extra}


def split(expected: str) -> list[str]:
    """Split `s=a b p=c` where a new letter begins."""
    parts: list[str] = []
    for word in expected.split(" "):
        if len(word) > 1 and word[1] == "=" and word[0] in SHORT:
            parts.append(word)
        else:
            parts[-1] += f" {word}"
    return parts


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_gives_a_header(delimiter: str) -> None:
    text = "\n".join(delimiter.join(row) for row in [("symbol", "name", "price"), ("BTC", "a b", "1"), ("ETH", "c", "2")])
    assert sniff(text.encode(), ended=True).delimiter == delimiter


@pytest.mark.parametrize(
    ("preamble", "skip"),
    [
        ("", 1),
        ("sep=;\n", 2),
        ("My portfolio\n\n", 3),
        ('# exported; 2026-11-20\n# a "stray quote\n', 3),
        ("\n\n\n", 4),
        ("Prices;;\nin USD;;\n", 3),
    ],
)
def test_lines_before_the_header_are_skipped(preamble: str, skip: int) -> None:
    dialect = sniff(f"{preamble}Symbol;Price\nBTC;1\n".encode(), ended=True)
    assert (dialect.skip, dialect.header, dialect.head) == (skip, ["Symbol", "Price"], len(f"{preamble}Symbol;Price\n"))


def test_a_header_cell_may_span_lines() -> None:
    dialect = sniff(b'Symbol,"Price\n(USD)"\nBTC,1\n', ended=True)
    assert (dialect.skip, dialect.columns["price"]) == (2, 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_the_encoding_is_found(encoding: str) -> None:
    dialect = sniff("symbol,name,price\nBTC,Bitcoin,1\nX,Café,2\n".encode(encoding), ended=True)
    assert dialect.encoding == {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(encoding, encoding)
    assert dialect.columns == {"symbol": 0, "name": 1, "price": 2}


def test_one_broken_byte_does_not_make_utf8_another_encoding() -> None:
    assert sniff("symbol,name,price\nX,Café é é,2\n".encode() + b"Y,\xff,1\n", ended=True).encoding == "utf-8"


def dialect_of(header: str, *rows: str) -> Dialect:
    """Sniff some lines."""
    return sniff("\n".join([header, *rows, ""]).encode(), ended=True)


@pytest.mark.parametrize(
    ("header", "cells", "mapped"),
    [
        ("24h", ["0.03", "-0.02", "0.2"], False),
        ("24h", ["3.1", "-2.2", "0.4"], True),
        ("24h", ["0.03%", "0.1%"], True),
        ("change_24h", ["-12.5", "3.1"], True),
        ("price_change_24h", ["-1068.5", "2.1"], False),
        ("price_change_24h", ["-1.5%"], True),
        ("24h %", ["0.01", "0.02"], True),
        ("percent_change_24h", ["0.01"], True),
        ("24h", [], False),
    ],
)
def test_a_change_counts_only_when_its_unit_is_clear(header: str, cells: list[str], mapped: bool) -> None:
    dialect = dialect_of(f"symbol,price,{header}", *(f"S,1,{cell}" for cell in cells))
    assert ("percent_change_24h" in dialect.columns) is mapped
    assert ("percent_change_24h" in dialect.ignored) is not mapped


def test_an_id_that_numbers_the_rows_is_no_identity() -> None:
    assert "external_id" not in dialect_of("id,symbol,price", "1,BTC,1", "2,ETH,1", "3,XRP,1").columns
    assert "external_id" in dialect_of("id,symbol,price", *(f"{'9' * 5000},BTC,1" for _ in range(3))).columns
    assert "external_id" in dialect_of("id,symbol,price", "1,BTC,1", "1027,ETH,1", "52,XRP,1").columns


def test_a_column_of_something_else_is_left_out_and_said_so() -> None:
    dialect = dialect_of("symbol,price,market cap,date", *(f"S{n},1,{n} BTC,{44000 + n}" for n in range(30)))
    assert dialect.columns == {"symbol": 0, "price": 1}
    assert set(dialect.ignored) == {"market_cap", "updated_at"}


@pytest.mark.parametrize(
    ("rows", "decimal"), [(["0,58", "39.623,0"], ","), (["0.58", "1,234.5"], "."), (["1,234", "5.5"], "."), (["7"], ".")]
)
def test_the_decimal_sign_is_found(rows: list[str], decimal: str) -> None:
    assert dialect_of("symbol;price", *(f"S;{cell}" for cell in rows)).decimal == decimal


REFUSALS = [
    (b"", "is empty"),
    (b"\xef\xbb\xbf\r\n \n", "is empty"),
    (b"a\x00\x01\x02\x03\x04\x05,\x06\x07b\n" * 20, "is binary"),
    (b"PK\x03\x04rest", "is a zip archive or an Excel workbook"),
    (b"\xff\xfe\x00\x00s\x00\x00\x00", "is in UTF-32"),
    (b"Cosmos,$8.80\nBitcoin,$34906.32\n", "has no header in its first 20 lines"),
    (b"a,b,c\n1,2,3\n", "has no header in its first 20 lines"),
    (b"\n" * 25 + b"symbol,price\nBTC,1\n", "has no header in its first 20 lines"),
    (b'Day,BTC,ETH\n"Oct 09, 2017",4614.52,308.67\n"Oct 08, 2017",4429.67,311.06\n', "has a column for each asset (BTC, ETH)"),
    (b"Date,BTC,ETH\n2017-10-09,4614.52,308.67\n2017-10-08,4429.67,311.06\n", "has a column for each asset (BTC, ETH)"),
    (b",BTC,ETH\n2017-10-09,4614.52,308.67\n2017-10-08,4429.67,311.06\n", "has a column for each asset (BTC, ETH)"),
    (
        b"Date,Open,High,Low,Close,Volume\n2017-10-09,1,2,3,4,5\n",
        "is a price history that names no asset: load it with `kasparro-etl backfill --file PATH --asset ID`",
    ),
    (b"Date,Price,Open,High,Low,Vol.,Change %\n2017-10-09,1,2,3,4,5,6\n", "is a price history that names no asset"),
    (b"timestamp,price\n1647433800,1\n", "is a price history that names no asset"),
    (b"id,symbol,name,price_eur\nbitcoin,btc,Bitcoin,5\n", "has no column with a price in US dollars among id, symbol, name, price_eur"),
    (b"price,market cap,volume\n1,2,3\n", "has no id, symbol or name column among price, market cap, volume"),
    (b"symbol,price,Price\nBTC,1,2\n", "has more than one column price"),
    (b"symbol,price,Symbol \nBTC,1,2\n", "has more than one column symbol"),
    (b'[{"symbol": "BTC", "price": 1}]', "is JSON, not CSV"),
    (b"<!doctype html><table>", "is HTML or XML, not CSV"),
]


@pytest.mark.parametrize(("body", "reason"), REFUSALS)
def test_a_file_that_cannot_be_loaded_is_refused_in_one_line_with_the_next_step(body: bytes, reason: str) -> None:
    with pytest.raises(SourceError) as caught:
        sniff(body, ended=True)
    message = str(caught.value)
    assert message.startswith(reason)
    assert ": " in message
    assert "\n" not in message
    assert caught.value.permanent


@pytest.mark.parametrize(
    "body", [b"\x00", b"\xff\xfe", b"\xfe\xff\x00", b'"', b'"\n' * 50, b"\r" * 9, b",", b"\xef\xbb\xbf", b"a", b"\xff" * 99, b";;;\n|||"]
)
def test_rubbish_is_refused_and_nothing_worse(body: bytes) -> None:
    with pytest.raises(SourceError):
        sniff(body, ended=True)
