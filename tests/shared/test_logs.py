"""Logs: one line an event, in the form the reader wants, and never a secret."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
import urllib3

from shared import logs
from shared.settings import Settings, read_settings

KEY, PASSWORD, DECODED = "CG-abcdef123456", "p%40ss-w0rd", "p@ss-w0rd"
SECRETS = {
    "DATABASE_URL": f"postgresql://etl:{PASSWORD}@db:5432/kasparro",
    "API_DATABASE_URL": r"host=db user=etl password='it\'s hard' dbname=kasparro",
    "COINGECKO_API_KEY": KEY,
    "RSS_FEED_URLS": "https://reader:feed-secret@feeds.example.com/rss",
    "HEALTHCHECK_PING_URL": "https://hc.example/8a7b6c5d-ping",
}
FORBIDDEN = (KEY, PASSWORD, DECODED, "it's hard", r"it\'s hard", "feed-secret", "8a7b6c5d-ping")
FORMATS = pytest.mark.parametrize("form", ["json", "console"])


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    """Leave no configuration behind."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.getLogger("urllib3").setLevel(logging.NOTSET)


def log_with(**environ: str) -> Any:
    """A logger configured by these variables."""
    logs.configure(read_settings(environ))
    return structlog.get_logger()


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was logged; nothing goes to stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_off_a_terminal_a_line_is_a_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    log_with().info("batch loaded", records=3, ratio=float("nan"), name="é\nx")
    (line,) = lines(capsys)
    event = json.loads(line, parse_constant=pytest.fail)
    assert {**event, "timestamp": ""} == {
        "event": "batch loaded", "level": "info", "timestamp": "", "records": 3, "ratio": "nan", "name": "é\nx",
    }  # fmt: skip
    assert event["timestamp"].endswith("Z")


def test_on_a_terminal_lines_are_for_people_unless_json_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    log_with().info("batch loaded", records=3)
    log_with(LOG_FORMAT="json").info("batch loaded", records=3)
    first, second = capsys.readouterr().err.rstrip("\n").split("\n")
    assert "batch loaded" in first
    assert "records=3" in first
    assert first.removeprefix("\r\x1b[2K").isprintable(), "the line of a progress bar is wiped, nothing else is painted"
    assert json.loads(second)["records"] == 3


def test_the_console_can_be_asked_for_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    log_with(LOG_FORMAT="console").info("batch loaded", records=3)
    (line,) = lines(capsys)
    assert "records=3" in line


@pytest.mark.parametrize(("level", "shown"), [("DEBUG", "diwe"), ("INFO", "iwe"), ("WARNING", "we"), ("ERROR", "e")])
def test_the_level_decides_what_is_shown(level: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    log = log_with(LOG_LEVEL=level)
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")
    assert "".join(json.loads(line)["event"] for line in lines(capsys)) == shown


@FORMATS
def test_no_secret_is_printed_wherever_it_stands(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = read_settings({**SECRETS, "LOG_FORMAT": form})
    logs.configure(settings)
    log = structlog.get_logger()
    spread = [*SECRETS.values(), *FORBIDDEN]
    log.info(f"asked with {KEY}", nested={"a": [{"b": (text,)} for text in spread]}, keys=dict.fromkeys(spread, 1))
    log.info("told", error=ValueError(f"cannot log in as etl:{DECODED}"), settings=settings.model_dump(), address=f"?key={KEY}&x")
    with structlog.contextvars.bound_contextvars(source=KEY):
        log.info("bound")
    text = "\n".join(lines(capsys))
    assert [secret for secret in FORBIDDEN if secret in text] == []
    assert text.count("***") >= len(spread)


@FORMATS
def test_no_traceback_shows_a_secret_and_all_show_the_error(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    log = log_with(**SECRETS, LOG_FORMAT=form)
    try:
        try:
            raise ValueError(f"refused {KEY}")
        except ValueError as error:
            raise RuntimeError(f"no connection to {SECRETS['DATABASE_URL']} {DECODED}") from error
    except RuntimeError as error:
        log.exception("run crashed")
        log.error("run crashed", exc_info=error)
    text = "\n".join(lines(capsys))
    assert [secret for secret in FORBIDDEN if secret in text] == []
    assert text.count("RuntimeError: no connection to ***") == 2
    assert text.count("ValueError: refused ***") == 2


@FORMATS
def test_what_is_bound_for_a_run_is_on_its_lines_and_gone_after_it(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    log = log_with(LOG_FORMAT=form)
    with structlog.contextvars.bound_contextvars(source="coingecko", run_id=42):
        log.info("batch loaded")
    log.info("batch loaded")
    during, after = lines(capsys)
    assert "coingecko" in during
    assert "42" in during
    assert "coingecko" not in after


@FORMATS
def test_one_event_stays_one_line_and_cannot_paint_the_terminal(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    odd = "a\nb\r\x1b[31m\x85\u2028\x00\ud800 é"
    log_with(LOG_FORMAT=form).info(odd, value=odd, nested=[odd], **{"k\ney": 1})
    (line,) = lines(capsys)
    assert line.isprintable()
    assert "\\n" in line


def test_a_line_is_written_at_once_so_that_processes_do_not_mix_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    class Recorder(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    monkeypatch.setattr(sys, "stderr", Recorder())
    logs.configure(read_settings({"LOG_FORMAT": "json"}))
    structlog.get_logger().info("line written")
    assert [text.count("\n") for text in written] == [1]


def test_libraries_do_not_write_addresses_past_us(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    log_with()
    urllib3.connectionpool.log.warning("Failed to parse headers (url=%s)", f"https://h/?key={KEY}")
    assert lines(capsys) == []
    assert caplog.records == []


@pytest.mark.parametrize("text", ["DATABASE_URL", "records 12", "", "a short p"])
def test_a_text_without_secrets_is_left_alone(text: str) -> None:
    assert logs.redactor(read_settings({**SECRETS, "API_KEY": "p"}))(text) == text


def test_the_longer_of_two_secrets_is_hidden_whole() -> None:
    hide = logs.redactor(Settings.model_validate({"api_key": "abcd", "coingecko_api_key": "abcd-efgh"}))
    assert hide("x abcd-efgh abcd") == "x *** ***"
