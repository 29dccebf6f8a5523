"""Settings: what the contract's table promises of every variable, and what is said of a bad one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.errors import SettingsError
from shared.model import RateLimit
from shared.settings import Settings, read_settings

HIDDEN = "hunter2-hunter2"
DEFAULTS: dict[str, Any] = {
    "DATABASE_URL": None,
    "API_DATABASE_URL": None,
    "KASPARRO_HOME": Path("~/.kasparro"),
    "COINPAPRIKA_BASE_URL": "https://api.coinpaprika.com/v1",
    "COINPAPRIKA_API_KEY": None,
    "COINGECKO_BASE_URL": "https://api.coingecko.com/api/v3",
    "COINGECKO_API_KEY": None,
    "COINGECKO_MAX_PAGES": 4,
    "COINPAPRIKA_RATE_LIMIT": None,
    "COINGECKO_RATE_LIMIT": None,
    "RSS_RATE_LIMIT": None,
    "CSV_PATHS": ("data/*.csv",),
    "RSS_FEED_URLS": ("https://cointelegraph.com/rss",),
    "ETL_ALLOWED_HOSTS": None,
    "API_CORS_ORIGINS": None,
    "API_TRUSTED_PROXIES": 0,
    "ETL_BATCH_SIZE": 5000,
    "ETL_MAX_INVALID_RATIO": 0.2,
    "ETL_DRIFT_POLICY": "warn",
    "ETL_FAIL_AFTER_N_RECORDS": None,
    "CHAOS_MODE": False,
    "CHAOS_SEED": None,
    "ETL_INTERVAL_MINUTES": 360,
    "API_KEY": None,
    "API_RATE_LIMIT": None,
    "HOST": "127.0.0.1",
    "PORT": 8000,
    "LOG_LEVEL": "INFO",
    "LOG_FORMAT": "auto",
    "HEALTHCHECK_PING_URL": None,
}
SECRETS = ("DATABASE_URL", "API_DATABASE_URL", "COINPAPRIKA_API_KEY", "COINGECKO_API_KEY", "API_KEY", "HEALTHCHECK_PING_URL")


def value_of(name: str, environ: dict[str, str]) -> Any:
    """One setting, a secret in clear."""
    value = getattr(read_settings(environ), name.lower())
    return value.get_secret_value() if name in SECRETS and value is not None else value


def problems_of(environ: dict[str, str]) -> list[str]:
    """The lines said of a bad environment."""
    with pytest.raises(SettingsError) as refused:
        read_settings(environ)
    assert str(refused.value).splitlines() == refused.value.problems
    return refused.value.problems


def test_every_variable_of_the_contract_has_its_default_and_there_are_no_others() -> None:
    assert {name.upper(): value for name, value in dict(read_settings({})).items()} == DEFAULTS


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_an_empty_or_blank_value_counts_as_unset(blank: str) -> None:
    assert read_settings(dict.fromkeys(DEFAULTS, blank)) == read_settings({})


def test_settings_are_read_from_the_process_when_no_environment_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_BATCH_SIZE", "17")
    assert read_settings().etl_batch_size == 17


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("DATABASE_URL", "postgresql://u:p%40ss@h:5432/d", "postgresql://u:p%40ss@h:5432/d"),
        ("DATABASE_URL", " postgres:///d?host=/tmp\n", "postgres:///d?host=/tmp"),
        ("DATABASE_URL", "host=h dbname=d", "host=h dbname=d"),
        ("API_KEY", " secret ", "secret"),
        ("COINGECKO_BASE_URL", "http://127.0.0.1:8080/api/", "http://127.0.0.1:8080/api"),
        ("COINGECKO_MAX_PAGES", "0", 0),
        ("COINGECKO_RATE_LIMIT", "30/60", RateLimit(30, 60)),
        ("RSS_RATE_LIMIT", " 5 / 0.5 ", RateLimit(5, 0.5)),
        ("API_RATE_LIMIT", "10000/2678400", RateLimit(10_000, 2_678_400)),
        ("CSV_PATHS", "a.csv, data/*.csv.gz,,", ("a.csv", "data/*.csv.gz")),
        ("ETL_ALLOWED_HOSTS", "Feeds.lan, 10.0.0.7,::1", ("feeds.lan", "10.0.0.7", "::1")),
        ("RSS_FEED_URLS", "https://a.example/feed/, http://b.example/?x=/", ("https://a.example/feed/", "http://b.example/?x=/")),
        ("ETL_FAIL_AFTER_N_RECORDS", "0", 0),
        ("CHAOS_MODE", "true", True),
        ("ETL_DRIFT_POLICY", "freeze", "freeze"),
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("HEALTHCHECK_PING_URL", "https://hc.example/id/", "https://hc.example/id"),
        ("KASPARRO_HOME", "/srv/kasparro", Path("/srv/kasparro")),
    ],
)
def test_a_good_value_is_read_as_what_it_means(name: str, text: str, value: Any) -> None:
    assert value_of(name, {name: text}) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *[("DATABASE_URL", text) for text in (HIDDEN, f"mysql://u:{HIDDEN}@h/d?a=b", f"postgresql://u:{HIDDEN}@x@h/d", f"={HIDDEN}")],
        ("API_DATABASE_URL", HIDDEN),
        *[("HEALTHCHECK_PING_URL", f"{text}{HIDDEN}") for text in ("", "ftp://h/", "http:///", "http://[", "http://h/ ")],
        ("HEALTHCHECK_PING_URL", f"http://{HIDDEN}\u2100@h/"),
        *[("COINGECKO_BASE_URL", text) for text in ("api.example", "https://", "http://h:99999/", "http://h:x/")],
        *[("COINGECKO_BASE_URL", text) for text in ("http://[::1", "http://a b/")],
        ("COINPAPRIKA_BASE_URL", "file:///etc/passwd"),
        ("ETL_ALLOWED_HOSTS", "http://feeds.lan/"),
        ("RSS_FEED_URLS", "https://a.example/rss,b.example/rss,c.example/rss"),
        *[("COINGECKO_RATE_LIMIT", text) for text in ("30", "0/60", "30/0", "-1/60", "30/60/2", "a/b", "1/1e9")],
        *[("RSS_RATE_LIMIT", text) for text in ("1/99999999999", "9" * 5000 + "/1")],
        ("API_RATE_LIMIT", "many"),
        *[("COINGECKO_MAX_PAGES", text) for text in ("-1", "four", "1.5")],
        *[("ETL_BATCH_SIZE", text) for text in ("0", "1000000000", "x")],
        *[("ETL_MAX_INVALID_RATIO", text) for text in ("1.01", "-0.1", "nan", "inf", "half")],
        ("ETL_DRIFT_POLICY", "ignore"),
        ("ETL_FAIL_AFTER_N_RECORDS", "-1"),
        ("CHAOS_MODE", "maybe"),
        ("CHAOS_SEED", "x"),
        ("ETL_INTERVAL_MINUTES", "0"),
        *[("PORT", text) for text in ("-1", "65536", "http")],
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
    ],
)  # fmt: skip
def test_a_bad_value_is_one_line_that_names_the_variable_and_what_was_expected(name: str, text: str) -> None:
    (line,) = problems_of({name: text})
    assert line.startswith(f"{name}: expected ")
    assert HIDDEN not in line
    assert len(line) < 200


def test_all_problems_are_told_at_once() -> None:
    lines = problems_of({"PORT": "x", "LOG_LEVEL": "loud", "API_KEY_FILE": "/nowhere", "ETL_BATCH_SIZE": "0"})
    assert sorted(line.partition(":")[0] for line in lines) == ["API_KEY_FILE", "ETL_BATCH_SIZE", "LOG_LEVEL", "PORT"]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_come_from_a_file(name: str, tmp_path: Path) -> None:
    text = "https://h.example/x" if name == "HEALTHCHECK_PING_URL" else "host=h password=x"
    (tmp_path / "secret").write_text(f"{text}\n")
    assert value_of(name, {f"{name}_FILE": str(tmp_path / "secret")}) == text
    assert value_of(name, {name: "", f"{name}_FILE": str(tmp_path / "secret")}) == text
    assert value_of(name, {f"{name}_FILE": ""}) is None


@pytest.mark.parametrize("name", SECRETS)
def test_an_unreadable_secret_file_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe" + HIDDEN.encode())
    for path in (tmp_path / "absent", tmp_path, tmp_path / "bytes"):
        (line,) = problems_of({f"{name}_FILE": str(path)})
        assert line.startswith(f"{name}_FILE: cannot be read")
        assert HIDDEN not in line


def test_a_bad_secret_from_a_file_is_named_without_its_value(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text(HIDDEN)
    (line,) = problems_of({"DATABASE_URL_FILE": str(tmp_path / "dsn")})
    assert line.startswith("DATABASE_URL: expected a Postgres address")
    assert HIDDEN not in line


def test_settings_cannot_be_changed() -> None:
    settings = read_settings({})
    with pytest.raises(ValidationError):
        settings.port = 1


def test_no_text_of_the_settings_shows_a_secret() -> None:
    values = {name: f"https://h.example/{HIDDEN}" if name == "HEALTHCHECK_PING_URL" else f"password={HIDDEN}" for name in SECRETS}
    settings: Settings = read_settings(values)
    for text in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json(), str(dict(settings))):
        assert HIDDEN not in text
        assert "database_url" in text


def test_the_home_of_the_embedded_database_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/someone")
    assert read_settings({}).home == Path("/srv/someone/.kasparro")
