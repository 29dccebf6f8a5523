"""A header cell as a list of plain words: `Market Cap ($)`, `marketCapUsd` and `mkt_cap_usd` all say the same. Pure."""

from __future__ import annotations

import re
import unicodedata

SIGNS = {"%": " pct ", "$": " usd ", "€": " eur ", "£": " gbp ", "₿": " btc ", "¥": " jpy ", "₹": " inr ", "#": " rank "}

OTHER_DOLLAR = re.compile(r"(?<![a-z])(?:a|au|aud|c|ca|can|cad|cdn|hk|hkd|nt|ntd|twd|r|brl|nz|nzd|s|sg|sgd|mx|mex|mxn|arg|clp|cop)\s?\$")

PHRASES: tuple[tuple[str, str], ...] = (
    (r"(?:last |latest )?updated? price", "price"),
    (r"fully dill?uted|fully distributed|diluted", "fdv"),
    (r"(market|mkt|mrkt) ?(capitali[sz]ation|cap)s?|market val(ue|uation)|m ?cap|capitali[sz]ation|mktcap", "mcap"),
    (r"marktkapitalisierung|capitalisation boursiere", "mcap"),
    (r"capitali[sz]ac[aio]+n?( de mercado)?|capitalizzazione|(valor|cap)( de)? mercado", "mcap"),
    (r"(last |past |in |over )?(24 ?(hours|hour|hrs|hr|h|std)|1 ?d|1 ?day|one day|daily|(?<=\S )day|day(?= \S))", "24h"),
    (r"1 ?(hours|hour|hrs|hr|h)|one ?h(our)?|hourly|hour", "1h"),
    (r"7 ?(days|day|d)|1 ?(week|w)|seven ?d(ays)?|weekly|week", "7d"),
    (r"24h[ou]*", "24h"),
    (r"twentyfour h(ours?)?|twenty four h(ours?)?", "24h"),
    (r"percentages?|percents?|prozent|perc", "pct"),
    (r"changes?|chg|var|variation|variacion|variacao|difference|movement|anderung|veranderung", "change"),
    (r"vol|volumes|volumen|volumi|turnover|handelsvolumen|traded volume|trading volume|trade volume", "volume"),
    (r"us ?dollars?|dollars?|us usd|in usd", "usd"),
    (r"preis|kurs|prix|precio|preco|prezzo|prijs|cena|prices", "price"),
    (r"closing( price)?|ultimo|schlusskurs|zuletzt|cierre|fechamento|cloture", "close"),
    (r"cryptocurrenc(y|ies)|cryptos?|crypto ?assets?|kryptowahrung|criptomoneda|moneda|moeda", "crypto"),
    (r"coins?|coin name", "coin"),
    (r"nom|nombre|nome|naam|names|bezeichnung", "name"),
    (r"simbolo|symbole|kurzel|symbols|sym", "symbol"),
    (r"tickers?", "ticker"),
    (r"abbr|abr|abbrev|abbreviation|acronym|kuerzel|short name", "abbr"),
    (r"datum|fecha", "date"),
    (r"rang|ranking|rango|ranks|ranknow", "rank"),
    (r"date ?time", "datetime"),
    (r"time ?stamp( utc)?|epoch( time)?|unix( time)?", "timestamp"),
    (r"update|updates|refreshed|actualizado|aktualisiert|modified", "updated"),
)
PHRASE = [(re.compile(rf"(?<!\S)(?:{pattern})(?!\S)"), word) for pattern, word in PHRASES]


def read_words(cell: str) -> tuple[str, ...]:
    """Normalise one header cell into words: no case, accents, punctuation or units' signs, synonyms folded."""
    text = unicodedata.normalize("NFKC", cell).replace("\ufeff", "")
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", " ", text)
    text = unicodedata.normalize("NFKD", text.lower())
    text = OTHER_DOLLAR.sub(" foreign ", text)
    text = "".join(SIGNS.get(letter, letter) for letter in text if not unicodedata.combining(letter))
    text = "".join(" foreign " if unicodedata.category(letter) == "Sc" else letter for letter in text)
    text = " ".join(re.findall(r"[^\W_]+", text))
    text = re.sub(r"(?<=[a-z])(?=(?:24|7|30|1)(?:h|d|hr|hrs)?\b)", " ", text)
    for pattern, word in PHRASE:
        text = pattern.sub(word, text)
    return tuple(dict.fromkeys(text.split()))
