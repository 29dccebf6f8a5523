"""Files that used to load wrong without a word: other currencies, pairs, holdings, doubtful numbers, foreign encodings."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import pytest

from etl.errors import SourceError
from etl.source import Payload
from etl.sources.csv_files import SOURCE
from etl.sources.csv_files.dialect import sniff
from etl.validate import validate


def load(text: str | bytes) -> tuple[list[tuple[str | None, str]], list[str]]:
    """Symbols with prices that a file gives, and the reasons of quarantine."""
    body = text if isinstance(text, bytes) else text.encode()
    dialect = sniff(body, ended=True)
    payload = Payload(body, "x", {}, datetime.now(UTC), {**asdict(dialect), "width": len(dialect.header)})
    found = validate(SOURCE, list(SOURCE.parse(payload)), 0)
    return [(row.symbol, str(row.price_usd)) for _, row in found.accepted], [bad.errors[0]["reason"] for bad in found.rejected]


def refuse(text: str | bytes) -> str:
    """Why a file is refused."""
    with pytest.raises(SourceError) as caught:
        sniff(text if isinstance(text, bytes) else text.encode(), ended=True)
    assert str(caught.value).isprintable()
    assert ": " in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        "Currency",
        "vs_currency",
        "quote_currency",
        "Price - Currency",
        "Spot Price Currency",
        "TOSYMBOL",
        "quote",
        "fiat",
        "to",
        "Quote Asset",
        "Price Unit",
        "Currency Code",
        "Trading Currency",
        "Base Currency",
        "quoted in",
        "Market",
        "ccy",
    ],
)
def test_a_column_that_names_a_currency_is_consulted(header: str) -> None:
    text = f"Symbol,Spot Price,{header}\nBTC,1,EUR\nETH,2,USD\nX,3,\nY,4,US Dollar\nZ,5,US$\nV,6,usdt\n"
    good, bad = load(text)
    assert [symbol for symbol, _ in good] == ["ETH", "X", "Y", "Z", "V"]
    assert bad == ["price is in EUR, not US dollars"]
    assert refuse(f"Symbol,Spot Price,{header}\nBTC,1,EUR\nETH,2,EUR\n").startswith(
        f"has prices in EUR, not US dollars, says its column {header}"
    )


@pytest.mark.parametrize(
    "text",
    [
        "Currency,Price\nBTC,1\nETH,2\n",
        "Currency Name,Currency Symbol,Price\nBitcoin,BTC,1\nEther,ETH,2\nTether,USDT,1\n",
        "id,currency,symbol,name,price\nBTC,BTC,BTC,Bitcoin,1\nETH,ETH,ETH,Ether,2\n",
        "symbol,price,quote\nBTC,1,1.5\nETH,2,2.5\n",
    ],
)
def test_a_column_of_assets_is_none_of_currencies(text: str) -> None:
    assert sniff(text.encode(), ended=True).currencies == []


def test_a_table_of_currencies_is_refused() -> None:
    assert refuse("currency,rate\nEUR,0.92\nGBP,0.8\nUSD,1\n").startswith("is a table of currencies (EUR, GBP, USD)")


def test_a_pair_is_known_by_its_base_and_refused_by_its_quote() -> None:
    rows = ["ETH/BTC,1", "BTC/EUR,2", "BTC-EUR,3", "BTC/USDT,4", "BTC-USD,5", "btc_usdc,6", "XRP:USD,7", "LTC/USDT:USDT,8", "BNB-X,9"]
    good, bad = load("\n".join(["symbol,price", *rows, ""]))
    assert good == [("BTC", "4"), ("BTC", "5"), ("BTC", "6"), ("XRP", "7"), ("LTC", "8"), ("BNB-X", "9")]
    assert bad == ["price is in BTC, not US dollars"] + ["price is in EUR, not US dollars"] * 2


@pytest.mark.parametrize("header", ["pair", "Market", "id", "name"])
def test_a_pair_beside_the_symbol_is_consulted(header: str) -> None:
    assert load(f"{header},symbol,price\nBTC/EUR,BTC,1\nETH/USD,ETH,2\n") == ([("ETH", "2")], ["price is in EUR, not US dollars"])


def test_an_id_or_a_name_with_a_hyphen_is_no_pair() -> None:
    assert load("id,price\nbinance-usd,1\nwrapped-eth,2\n") == ([(None, "1"), (None, "2")], [])


def test_glued_pairs_need_columns_of_base_and_quote() -> None:
    told = "symbol,baseAsset,quoteAsset,lastPrice,volume,quoteVolume\nETHBTC,ETH,BTC,0.05,1,2\nBTCUSDT,BTC,USDT,5,3,4\n"
    assert load(told) == ([("BTC", "5")], ["price is in BTC, not US dollars"])
    assert refuse("symbol,lastPrice,volume,quoteVolume\nETHBTC,0.05,1,2\nBTCUSDT,5,3,4\n").startswith("lists pairs (ETHBTC, BTCUSDT)")
    assert "lists pairs" in refuse("symbol,baseAsset,lastPrice,quoteVolume\nETHBTC,ETH,0.05,1\n")
    assert "lists pairs" in refuse("symbol,price\n" + "".join(f"{base}BTC,1\n" for base in ("ETH", "LTC", "BNB", "XRP", "ADA")))
    assert len(load("symbol,price\n" + "".join(f"{coin}ETH,1\n" for coin in ("st", "WB", "we", "ez", "rs")))[0]) == 5
    assert load("symbol,lastPrice,quoteVolume\nBTC,5,3\nWBTC,4,1\n")[0] == [("BTC", "5"), ("WBTC", "4")]


@pytest.mark.parametrize("header", ["Price (A$)", "C$ Price", "Price HK$", "Price (R$)", "NZ$ price", "Price (₩)", "Price [S$]"])
def test_other_dollars_are_no_us_dollars(header: str) -> None:
    assert refuse(f"symbol,{header}\nBTC,1\n").startswith("has no column with a price in US dollars")


@pytest.mark.parametrize("amount", ["Quantity", "Amount", "Balance", "Holdings", "Units", "Shares"])
@pytest.mark.parametrize("header", ["Value", "Value (USD)", "USD", "Total Price", "Price USD Total", "Market Value"])
def test_the_value_of_holdings_is_no_price(amount: str, header: str) -> None:
    assert refuse(f"symbol,{amount},{header}\nBTC,2,100\n").startswith("lists holdings and no price of one unit")
    for price in ("Price", "Current Price", "Unit Price"):
        columns = sniff(f"symbol,{amount},{header},{price}\nBTC,2,100,50\n".encode(), ended=True).columns
        assert columns == {"symbol": 0, "price": 3}


def test_a_total_is_no_price() -> None:
    assert refuse("symbol,Total Price\nBTC,1\n").startswith("has no column with a price in US dollars")


@pytest.mark.parametrize("header", ["delta.day", "delta.hour"])
def test_a_delta_is_no_percentage(header: str) -> None:
    assert "percent_change_24h" not in sniff(f"symbol,price,{header}\nBTC,1,1.012\nETH,2,-3\n".encode(), ended=True).columns


def test_a_change_that_may_be_a_ratio_is_left_out() -> None:
    ratio = sniff(b"symbol,price,24h\nBTC,1,1.012\nETH,2,0.992\n", ended=True)
    assert "ratio" in ratio.ignored["percent_change_24h"]
    assert "percent_change_24h" in sniff(b"symbol,price,24h\nBTC,1,1.012\nETH,2,-0.992\n", ended=True).columns


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("cells", [("96.123", "3.456"), ("96,123", "7"), ("$1.234", "n/a")])
def test_thousands_or_decimals_that_cannot_be_told_apart_are_refused(delimiter: str, cells: tuple[str, str]) -> None:
    rows = [("symbol", "price"), *(("S", cell) for cell in cells)]
    assert refuse("\n".join(map(delimiter.join, rows))).startswith("does not show whether 1.234 means thousands: ")


def test_another_column_may_tell_the_decimal_sign() -> None:
    assert load("symbol;price;24h %\nBTC;96.123;1,5\n")[0] == [("BTC", "96123")]
    assert load("symbol;price;24h %\nBTC;96.123;1.5\n")[0] == [("BTC", "96.123")]
    assert "market_cap" in sniff(b"symbol;price;market cap\nBTC;96;1.234\n", ended=True).ignored


def test_a_grouped_number_does_not_begin_with_zero() -> None:
    good, bad = load('symbol,price\nBTC,"0,512"\nX,"1,512.5"\nY,0 512\n')
    assert good == [("X", "1512.5")]
    assert len(bad) == 2
    assert load("symbol;price\nBTC;0,512\nX;3,1\n")[0] == [("BTC", "0.512"), ("X", "3.1")]
    assert load("symbol;price\nBTC;0.512\nX;3,1\nY;4,2\n")[0][0] == ("BTC", "0.512")


@pytest.mark.parametrize("gap", [" ", "\u00a0", "\u202f"])
def test_blanks_between_thousands_do_not_hide_the_decimal_comma(gap: str) -> None:
    assert load(f"Symbole;Prix\nBTC;96{gap}123,45\nETH;3{gap}456,123\n") == ([("BTC", "96123.45"), ("ETH", "3456.123")], [])


@pytest.mark.parametrize("header", ["Coin Volume", "Volume (Token)", "Volume (Coin)", "24h Volume (Crypto)", "Volume BTC"])
def test_a_volume_in_coins_is_none_in_dollars(header: str) -> None:
    assert "volume_24h" not in sniff(f"symbol,price,{header}\nBTC,1,7\n".encode(), ended=True).columns


@pytest.mark.parametrize("header", ["Volume Currency", "Volume (USD)", "Volume USD", "volume,quoteVolume"])
def test_a_volume_in_dollars_is_one(header: str) -> None:
    columns = sniff(f"symbol,price,{header}\nBTC,1,7,8\n".encode(), ended=True).columns
    assert columns["volume_24h"] == 2 + header.count(",")


def test_symbols_that_look_like_null_tokens_are_symbols() -> None:
    rows = ["NIL", "NA", "NONE", "TBD", "TBA"]
    assert [symbol for symbol, _ in load("\n".join(["symbol,price", *(f"{row},1" for row in rows)]))[0]] == rows
    assert load("symbol,price\nn/a,1\n?,1\n\u2013,1\n--,1\n") == ([], ["row has no id, symbol or name"] * 4)


@pytest.mark.parametrize(
    ("encoding", "name"), [("cp1251", "Биткоин"), ("gbk", "比特币"), ("shift-jis", "ビットコイン"), ("koi8-r", "Эфириум")]
)
def test_another_encoding_is_not_read_as_windows_1252(encoding: str, name: str) -> None:
    assert refuse(f"symbol,name,price\nBTC,{name},1\n".encode(encoding)) == "is neither UTF-8 nor Windows-1252: save it as UTF-8"


def test_accents_and_smart_punctuation_are_windows_1252() -> None:
    assert sniff("symbol,name,price\nBTC,Café “x”—Peña…,1\n".encode("cp1252"), ended=True).encoding == "cp1252"


def test_the_nearest_header_wins() -> None:
    assert sniff(b"Symbol,Spot Price Currency,Spot Price\nBTC,USD,1\n", ended=True).columns == {"symbol": 0, "price": 2}
    assert sniff(b"symbol,Last Updated Price\nBTC,1\n", ended=True).columns == {"symbol": 0, "price": 1}
    assert sniff(b"symbol,price,Market\nBTC,1,2\n", ended=True).columns == {"symbol": 0, "price": 1}


def test_two_figures_in_one_cell_are_refused() -> None:
    assert load('symbol,price,market cap\nBTC,1,"$45.1B469,123 BTC"\n')[0] == []


@pytest.mark.parametrize("name", ["Total", "TOTALS", "sum"])
def test_a_total_is_no_asset(name: str) -> None:
    assert load(f"symbol,name,price\n,{name},5\nSUM,Sum,1\n") == ([("SUM", "1")], ["row is a total"])


def test_a_header_is_stored_clean_and_still_understood() -> None:
    body = b"symbol,na\0me,Price\0,we\xffird,a\xed\xa0\x80,ok\r\n" + "BTC,éé,1,2,3,x\r\n".encode() * 99
    dialect = sniff(body, ended=True)
    assert dialect.columns == {"symbol": 0, "price": 2}
    assert dialect.header == ["symbol", "na\ufffdme", "Price\ufffd", "we\ufffdird", "a\ufffd\ufffd\ufffd", "ok"]
    "".join(dialect.header).encode()
    assert load(body)[0][0] == ("BTC", "1")


@pytest.mark.parametrize("cell", [b"pr\0ice", b"pr\xffice", b"price eur\n\0"])
def test_a_refusal_shows_no_character_that_cannot_be_shown(cell: bytes) -> None:
    assert "among" in refuse(b'symbol,"' + cell + b'",x\n' + b"BTC,1,x\n" * 99)
