"""The way out to the network: whole answers or one clear line, and never more requests than allowed."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from etl import addresses
from etl.connection import is_private
from etl.errors import FetchError, Stopped
from etl.fetch import RECOVERY, Patience, Waits, fetcher
from tests.conftest import Upstream

TLS = 0x16
KEY = "CG-very-secret-key"
LIST = b'[{"id": "btc-bitcoin"}]' * 1000
QUICK = Patience(connect=2, silence=2, response=2, tries=3, longest_delay=8, budget=100, body=1 << 20)
RATE_TEXT = "You've exceeded the Rate Limit. Please visit https://www.coingecko.com/en/api/pricing to subscribe to our API plans."
RANGE_TEXT = "Your request exceeds the allowed time range. Public API users are limited to 365 days"
PLAN_TEXT = "Getting historical OHLCV data before 2022-05-26 is not allowed in this plan. Check plans on coinpaprika.com/api"


@dataclass
class Client:
    """A fetch that waits for nothing and notes what it would have waited for."""

    patience: Patience = QUICK
    pauses: list[float] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    budget: list[float] = field(default_factory=list)
    sent: Callable[[], int] = lambda: 0

    def throttle(self) -> float:
        self.asked.append(f"after {self.sent()}")
        return self.budget.pop(0) if self.budget else 0.0

    def get(self, url: str, **more: Any) -> Any:
        return fetcher(Waits(self.pauses.append, self.throttle), self.patience)(url, **more)

    def fail(self, url: str, **more: Any) -> FetchError:
        """The error of a request that fails: always one line without the query or a key."""
        with pytest.raises(FetchError) as failed:
            self.get(f"{url}?token={KEY}", headers={"x-key": KEY}, **more)
        line = str(failed.value)
        assert line.isprintable()
        assert len(line) < 600
        assert KEY not in line
        assert "token" not in line
        return failed.value


def timeless(error: FetchError) -> str:
    """An error's text with the moment that is ours, five minutes from now, as `SOON`."""
    text = str(error)
    told = datetime.strptime(text.rpartition(" ")[2], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert 240 < (told - datetime.now(UTC)).total_seconds() <= RECOVERY
    return f"{text.rpartition(' ')[0]} SOON"


@pytest.fixture
def client() -> Client:
    """A client that tries three times."""
    return Client()


Wire = Callable[..., str]


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Serve raw bytes, or what a function does to the socket; `wire.heard` keeps the requests."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        doing: list[bytes | Callable[[socket.socket], None]] = []

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer, suppress(OSError):
                    peer.settimeout(5)
                    while (heard := peer.recv(65536)) and b"\r\n\r\n" not in heard and heard[0] != TLS:
                        pass
                    wire_of.heard.append(heard)  # type: ignore[attr-defined]
                    doing[0](peer) if callable(doing[0]) else peer.sendall(doing[0])

        def wire_of(action: bytes | Callable[[socket.socket], None]) -> str:
            doing[:] = [action]
            return f"http://127.0.0.1:{listener.getsockname()[1]}/list"

        wire_of.heard = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=serve)
        thread.start()
        yield wire_of
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def head(*lines: str, status: str = "200 OK") -> bytes:
    """The head of a raw answer."""
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "Connection: close", "", ""]).encode()


def zipped(body: bytes) -> tuple[int, dict[str, str], bytes]:
    """A gzip answer."""
    return 200, {"Content-Encoding": "gzip"}, body


@pytest.mark.parametrize("answer", [LIST, zipped(gzip.compress(LIST)), (200, {"Content-Encoding": "X-GZIP "}, gzip.compress(LIST)), b""])
def test_a_whole_answer_is_given_inflated(upstream: Upstream, client: Client, answer: Any) -> None:
    upstream.answers["/list"] = answer
    response = client.get(f"{upstream.url}/list")
    assert (response.status, response.body, response.url) == (200, LIST if answer else b"", f"{upstream.url}/list")
    assert client.pauses == []


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_chunked_answer_is_given_whole(wire: Wire, client: Client, size: int) -> None:
    body = LIST[:8192]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[i : i + size] for i in range(0, len(body), size)))
    assert client.get(wire(head("Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n")).body == body


def test_headers_and_parameters_are_sent_and_we_say_who_we_are(upstream: Upstream, client: Client) -> None:
    upstream.answers["/list"] = (200, {"ETag": 'W/"1"', "Content-Type": "text/xml"}, b"x")
    response = client.get(f"{upstream.url}/list?a=1", params={"vs": "us d&"}, headers={"x-cg-demo-api-key": KEY, "If-None-Match": "2"})
    (request,) = upstream.log
    assert request["query"] == "a=1&vs=us+d%26"
    assert request["headers"] | {"user-agent": "", "host": ""} == {
        "user-agent": "", "host": "", "accept": "*/*", "connection": "keep-alive", "accept-encoding": "gzip",
        "x-cg-demo-api-key": KEY, "if-none-match": "2",
    }  # fmt: skip
    assert request["headers"]["user-agent"].startswith("kasparro-etl/")
    assert response.headers["etag"] == 'W/"1"'


def test_not_modified_is_an_answer_without_a_body(upstream: Upstream, client: Client) -> None:
    upstream.answers["/list"] = (304, {"Content-Length": "0", "Content-Encoding": "gzip"}, b"")
    response = client.get(f"{upstream.url}/list", headers={"If-Modified-Since": "x"})
    assert (response.status, response.body) == (304, b"")


def test_a_netrc_file_has_no_say_over_our_key(upstream: Upstream, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    upstream.answers["/list"] = b"x"
    client.get(f"{upstream.url}/list", headers={"Authorization": KEY})
    client.get(f"{upstream.url}/list".replace("://", "://user:word@"))
    assert [request["headers"]["authorization"] for request in upstream.log] == [KEY, "Basic dXNlcjp3b3Jk"]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_passing_trouble_is_tried_again_until_the_tries_are_used_up(upstream: Upstream, client: Client, status: int) -> None:
    upstream.answers["/list"] = (status, {}, b"<html>busy</html>")
    error = client.fail(f"{upstream.url}/list")
    assert (error.permanent, error.status) == (False, status)
    assert timeless(error) == f"{upstream.url}/list answered {status}, 3 tries: try again after SOON"
    assert len(upstream.log) == 3
    assert len(client.pauses) == 2


def test_an_upstream_that_recovers_is_read_and_the_throttle_is_asked_before_every_request(upstream: Upstream, client: Client) -> None:
    answers = iter([(503, {}, b""), (429, {"Retry-After": "7"}, b""), LIST])
    upstream.answers["/list"] = lambda _: next(answers)
    client.sent, client.budget = lambda: len(upstream.log), [2.5, 1.5, 0, 0, 0.5]
    assert client.get(f"{upstream.url}/list").body == LIST
    assert client.asked == ["after 0"] * 3 + ["after 1"] + ["after 2"] * 2
    assert client.pauses[:2] == [2.5, 1.5]
    assert client.pauses[3:] == [7, 0.5]


def test_the_pauses_are_random_and_grow_to_a_bound(upstream: Upstream) -> None:
    upstream.answers["/list"] = (503, {}, b"")
    waited = []
    for _ in range(30):
        client = Client(Patience(tries=6, longest_delay=4))
        client.fail(f"{upstream.url}/list")
        waited.append(client.pauses)
    for place, bound in enumerate([1, 2, 4, 4, 4]):
        column = [pauses[place] for pauses in waited]
        assert len(set(column)) > 20
        assert 0.5 * bound < max(column) <= bound


def test_together_the_pauses_stay_within_the_budget(upstream: Upstream) -> None:
    upstream.answers["/list"] = (429, {"Retry-After": "40"}, b"")
    client = Client(Patience(tries=9, budget=100))
    client.fail(f"{upstream.url}/list")
    assert client.pauses == [40, 40]


def test_the_time_of_failed_tries_counts_and_all_requests_of_a_run_share_one_budget(upstream: Upstream) -> None:
    def slow(_: Any) -> Any:
        time.sleep(0.2)
        return 503, {"Retry-After": "1"}, b""

    upstream.answers = {"/slow": slow, "/list": (503, {"Retry-After": "1"}, b""), "/good": LIST}
    pauses: list[float] = []
    fetch = fetcher(Waits(pauses.append, lambda: 0.0), Patience(tries=9, budget=4.5))
    with pytest.raises(FetchError, match="4 tries"):
        fetch(f"{upstream.url}/slow")
    with pytest.raises(FetchError, match="1 try: try again after 20"):
        fetch(f"{upstream.url}/list")
    assert fetch(f"{upstream.url}/good").body == LIST
    assert pauses == [1, 1, 1]


def test_each_retry_and_what_came_of_it_is_logged_once(upstream: Upstream, client: Client) -> None:
    answers = iter([(503, {}, b""), (429, {"Retry-After": "7"}, b""), LIST, LIST])
    upstream.answers["/list"] = lambda _: next(answers)
    with structlog.testing.capture_logs() as logged:
        client.get(f"{upstream.url}/list?token={KEY}")
        client.get(f"{upstream.url}/list?token={KEY}")
    assert [(line["event"], line.get("attempt"), line.get("attempts")) for line in logged] == [
        ("request retried", 1, None),
        ("request retried", 2, None),
        ("request recovered", None, 3),
    ]
    assert logged[1]["delay_seconds"] == 7
    assert KEY not in str(logged)


def test_a_stop_ends_the_wait(upstream: Upstream) -> None:
    def stopped(_: float) -> None:
        raise Stopped("stopped on request")

    upstream.answers["/list"] = (503, {}, b"")
    with pytest.raises(Stopped):
        fetcher(Waits(stopped, lambda: 0), QUICK)(f"{upstream.url}/list")
    assert len(upstream.log) == 1


def date(seconds: float) -> str:
    """An HTTP date so many seconds from now."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(("value", "low", "high"), [("7", 7, 7), (" 0 ", 0, 0), (60.0, 20, 60), (-60.0, 0, 0), ("-0000", 20, 60)])
def test_upstream_says_how_long_to_wait(upstream: Upstream, value: str | float, low: float, high: float) -> None:
    """A float stands for a date so many seconds from now, `-0000` for one of an unknown zone."""
    value = date(value) if isinstance(value, float) else date(60)[:-4] + value if value == "-0000" else value
    client = Client(Patience(tries=3, budget=1000))
    upstream.answers["/list"] = (429, {"Retry-After": value}, b"")
    assert "3 tries: try again after 20" in str(client.fail(f"{upstream.url}/list"))
    assert all(low <= pause <= high for pause in client.pauses)
    assert len(client.pauses) == 2


@pytest.mark.parametrize("value", ["120", "1000000000", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_wait_beyond_our_patience_fails_at_once_and_says_when_to_try_again(upstream: Upstream, client: Client, value: str) -> None:
    upstream.answers["/list"] = (429, {"Retry-After": value}, json.dumps({"error": "slow down"}).encode())
    assert " answered 429 (slow down), 1 try: try again after 20" in str(client.fail(f"{upstream.url}/list"))
    assert (len(upstream.log), client.pauses) == (1, [])


@pytest.mark.parametrize("value", ["1000000000", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_an_absurd_wait_is_told_as_a_day(upstream: Upstream, client: Client, value: str) -> None:
    upstream.answers["/list"] = (429, {"Retry-After": value}, b"")
    told = datetime.strptime(str(client.fail(f"{upstream.url}/list")).rpartition(" ")[2], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert timedelta(hours=23) < told - datetime.now(UTC) <= timedelta(hours=24)


@pytest.mark.parametrize("value", ["soon", "-5", "1.5", "", "Wed, 99 Foo 2026 99:99:99 GMT", "Wed, 21 Oct 2026 07:28:00 +9999999999", "²"])
def test_an_unreadable_wait_counts_as_none(upstream: Upstream, client: Client, value: str) -> None:
    upstream.answers["/list"] = (429, {"Retry-After": value}, b"")
    assert "3 tries: try again after SOON" in timeless(client.fail(f"{upstream.url}/list"))
    assert all(pause <= bound for pause, bound in zip(client.pauses, [1, 2], strict=True))


@pytest.mark.parametrize(
    ("status", "body", "told", "step"),
    [
        (400, {"timestamp": "t", "error_code": 10010, "status": {"error_message": "change URL"}}, "change URL", "the key is a Pro key"),
        (401, {"error": {"status": {"timestamp": "t", "error_code": 10012, "error_message": RANGE_TEXT}}}, RANGE_TEXT, "API key"),
        (402, {"error": PLAN_TEXT}, PLAN_TEXT, "plan"),
        (403, {"error": "bad\r\n\x1b[31mkey\u2028"}, "bad [31mkey", "API key"),
        (403, "<html>error code: 1020</html>", "", "API key"),
        (404, {"error": "id not found"}, "id not found", "address"),
        (410, {"error": "x" * 5000}, "x" * 200, "address"),
        (422, {"error": "Missing parameter vs_currency"}, "Missing parameter vs_currency", "settings"),
        (404, [], "", "address"),
        (404, {"error": None, "status": 404}, "", "address"),
        (204, "", "", "address"),
        (301, "no address", "", "address"),
    ],
)  # fmt: skip
def test_a_refusal_is_not_retried_and_told_in_the_providers_words(
    upstream: Upstream, client: Client, status: int, body: Any, told: str, step: str
) -> None:
    upstream.answers["/list"] = (status, {}, body.encode() if isinstance(body, str) else json.dumps(body).encode())
    error = client.fail(f"{upstream.url}/list")
    assert str(error).startswith(f"{upstream.url}/list answered {status}{f' ({told})' if told else ''}: ")
    assert step in str(error)
    assert (error.permanent, error.status, len(upstream.log)) == (True, status, 1)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (429, {"status": {"error_code": 429, "error_message": RATE_TEXT}}, RATE_TEXT),
        (429, {"error": "you have reached maximum request limit"}, "you have reached maximum request limit"),
        (500, {"status": 500, "error": "Internal Server Error"}, "Internal Server Error"),
        (402, {"error": "too many requests"}, "too many requests"),
        (402, "", None),
    ],
)
def test_throttling_is_transient_and_told_in_the_providers_words(
    upstream: Upstream, client: Client, status: int, body: Any, told: str
) -> None:
    upstream.answers["/list"] = (status, {}, json.dumps(body).encode())
    error = client.fail(f"{upstream.url}/list")
    assert timeless(error) == f"{upstream.url}/list answered {status}{f' ({told})' if told else ''}, 3 tries: try again after SOON"
    assert (error.permanent, len(upstream.log)) == (False, 3)


@pytest.mark.parametrize(
    ("status", "body", "step"),
    [
        (400, {"error_code": 10010, "status": {"error_message": "x"}}, "the key is a Pro key: set COINGECKO_BASE_URL=https://pro-api."),
        (400, {"status": {"error_code": 10011, "error_message": "x"}}, "the key is a Demo key: unset COINGECKO_BASE_URL"),
        (401, {"error": {"status": {"error_code": 10002, "error_message": "x"}}}, "set COINGECKO_API_KEY"),
        (401, {"status": {"error_code": 10005, "error_message": "x"}}, "this needs a larger CoinGecko plan"),
        (400, {"error": PLAN_TEXT}, "check the API key and the plan"),
        (400, {"error_code": "10010", "error": "x"}, "check the address and the settings"),
        (400, {"status": [{"error_code": 10010}], "error": "x"}, "check the address and the settings"),
    ],
)  # fmt: skip
def test_a_providers_own_error_code_is_told_as_what_to_do(upstream: Upstream, client: Client, status: int, body: Any, step: str) -> None:
    upstream.answers["/list"] = (status, {}, json.dumps(body).encode())
    error = client.fail(f"{upstream.url}/list")
    assert f"): {step}" in str(error)
    assert (error.permanent, len(upstream.log)) == (True, 1)


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/xml", "image/png", "TEXT/HTML"])
def test_an_answer_of_another_kind_is_refused_where_json_alone_was_asked_for(upstream: Upstream, client: Client, kind: str) -> None:
    upstream.answers["/list"] = (200, {"Content-Type": kind}, b"<html>")
    with pytest.raises(FetchError) as failed:
        client.get(f"{upstream.url}/list", headers={"Accept": "application/json"})
    told = f"{upstream.url}/list answered with {kind.partition(';')[0].lower()} instead of JSON: try again later, or check the address"
    assert (str(failed.value), failed.value.permanent, len(upstream.log)) == (told, False, 1)
    assert client.get(f"{upstream.url}/list").body == b"<html>"


@pytest.mark.parametrize(
    "kind", ["application/json", "application/vnd.api+json; charset=utf-8", "text/plain", "", "application/octet-stream"]
)
def test_json_comes_under_more_names_than_one(upstream: Upstream, client: Client, kind: str) -> None:
    upstream.answers["/list"] = (200, {"Content-Type": kind}, LIST)
    assert client.get(f"{upstream.url}/list", headers={"Accept": "application/json"}).body == LIST


def test_not_modified_is_no_answer_to_who_did_not_ask_for_changes(upstream: Upstream, client: Client) -> None:
    upstream.answers["/list"] = (304, {"Content-Length": "0"}, b"")
    assert "answered 304: check the address" in str(client.fail(f"{upstream.url}/list"))


@pytest.mark.parametrize("body", [b"[" * 9000, b"\xff\xfe\x00", b"{" * 5, b"x" * (2 << 20)])
def test_the_status_counts_whatever_the_body_of_an_error_is(wire: Wire, client: Client, body: bytes) -> None:
    assert " answered 403: check the API key" in str(client.fail(wire(head(status="403 No") + body)))


@pytest.mark.parametrize(
    "broken", [head("Content-Length: 99", status="403 No") + b"{", head("Content-Encoding: gzip", status="403 No") + b"x"]
)
def test_an_error_whose_body_breaks_off_is_still_that_error(wire: Wire, client: Client, broken: bytes) -> None:
    assert client.fail(wire(broken)).status == 403


def test_redirects_are_off_by_default_and_the_line_names_where_it_leads(upstream: Upstream, client: Client) -> None:
    upstream.answers["/old"] = (301, {"Location": f"/new?token={KEY}"}, b"")
    error = client.fail(f"{upstream.url}/old")
    assert str(error) == f"{upstream.url}/old redirects to {upstream.url}/new: put the final address into the settings"
    assert (error.permanent, upstream.paths()) == (True, ["/old"])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_when_allowed_and_the_throttle_is_asked_again(upstream: Upstream, client: Client, status: int) -> None:
    upstream.answers |= {"/a/old": (status, {"Location": "../b/new?x=1#part"}, b"moved"), "/b/new": LIST}
    client.sent = lambda: len(upstream.log)
    response = client.get(f"{upstream.url}/a/old", headers={"If-None-Match": "1"}, follow_redirects=True)
    assert (response.body, response.url) == (LIST, f"{upstream.url}/b/new?x=1")
    assert client.asked == ["after 0", "after 1"]
    assert upstream.log[1]["headers"]["if-none-match"] == "1"


def test_at_most_three_redirects_are_followed(upstream: Upstream, client: Client) -> None:
    upstream.answers |= {f"/{n}": (302, {"Location": f"/{n + 1}"}, b"") for n in range(9)} | {"/3": b"here"}
    assert client.get(f"{upstream.url}/0", follow_redirects=True).body == b"here"
    upstream.log.clear()
    upstream.answers["/3"] = (302, {"Location": "/4"}, b"")
    assert f"/3 redirects to {upstream.url}/4" in str(client.fail(f"{upstream.url}/0", follow_redirects=True))
    assert upstream.paths() == ["/0", "/1", "/2", "/3"]


def test_our_headers_stay_with_the_host_and_port_they_were_meant_for(upstream: Upstream, wire: Wire, client: Client) -> None:
    target = wire(head("Content-Length: 2") + b"ok")
    upstream.answers["/old"] = (302, {"Location": target}, b"")
    assert client.get(f"{upstream.url}/old", headers={"x-key": KEY, "Authorization": KEY}, follow_redirects=True).body == b"ok"
    assert wire.heard  # type: ignore[attr-defined]
    assert KEY.encode() not in b"".join(wire.heard)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.example/x", "https://A.example:443/y", True),
        ("http://a.example/", "https://a.example/", True),
        ("https://a.example/", "http://a.example/", False),
        ("http://a.example:8080/", "https://a.example/", False),
        ("https://a.example/", "https://a.example.org/", False),
        ("https://a.example/", "https://a.example@b.example/", False),
        ("https://a.example/", "https://a.example:99999/", False),
    ],
)
def test_what_counts_as_the_same_host(one: str, other: str, same: bool) -> None:
    assert addresses.same_origin(one, other) is same


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("file:///etc/passwd", "redirects to file:///etc/passwd, which is not http or https"),
        ("ftp://h/x", "which is not http or https"),
        ("http://[", "redirects to what is not an address"),
        ("http://a b/", "cannot be asked"),
        ("http://h:99999/", "cannot be asked"),
        ("http://169.254.169.254/latest", "redirects to http://169.254.169.254/latest, which is inside this network"),
        ("http://[::ffff:10.0.0.1]/", "which is inside this network"),
        ("http://2130706433/", "which is inside this network"),
        ("http://localhost:1/", "which is inside this network"),
    ],
)
def test_a_redirect_that_leads_astray_is_refused_unasked(upstream: Upstream, client: Client, location: str, told: str) -> None:
    upstream.answers["/old"] = (302, {"Location": location}, b"")
    error = client.fail(f"{upstream.url}/old", follow_redirects=True)
    assert told in str(error)
    assert (error.permanent, len(upstream.log)) == (True, 1)


@pytest.fixture
def rebinding(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A name that leads outside whenever it is looked at, and to this machine when it is connected to; the list keeps who asked."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def lie(host: Any, port: Any, *more: Any, **told: Any) -> Any:
        if host != "rebind.example":
            return resolve(host, port, *more, **told)
        asked.append("look" if port is None else "connect")
        return resolve("8.8.8.8" if port is None else "127.0.0.1", port, *more, **told)

    monkeypatch.setattr(socket, "getaddrinfo", lie)
    return asked


def test_a_name_that_rebinds_between_the_look_and_the_connection_is_sent_nothing(
    upstream: Upstream, wire: Wire, client: Client, rebinding: list[str]
) -> None:
    target = wire(head("Content-Length: 2") + b"ok").replace("127.0.0.1", "rebind.example")
    upstream.answers["/old"] = (302, {"Location": target}, b"")
    error = client.fail(f"{upstream.url}/old", follow_redirects=True)
    assert f"/old redirects to {target}, which is inside this network: put the final address into the settings, or its host" in str(error)
    assert (error.permanent, rebinding) == (True, ["look", "connect"])
    assert [heard for heard in wire.heard if heard] == []  # type: ignore[attr-defined]


def test_a_host_inside_that_a_setting_allows_may_be_led_to(upstream: Upstream, wire: Wire, rebinding: list[str]) -> None:
    target = wire(head("Content-Length: 2") + b"ok").replace("127.0.0.1", "rebind.example")
    upstream.answers["/old"] = (302, {"Location": target}, b"")
    waits = Waits(lambda _: None, lambda: 0.0, allowed=frozenset({"rebind.example"}))
    assert fetcher(waits, QUICK)(f"{upstream.url}/old", follow_redirects=True).body == b"ok"
    assert rebinding == ["connect"]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0",
     "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1"],
)  # fmt: skip
def test_an_address_inside_is_recognised_in_every_form(address: str) -> None:
    assert is_private(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_an_address_outside_is_none(address: str) -> None:
    assert not is_private(address)


def test_the_body_of_a_redirect_is_not_read(upstream: Upstream, wire: Wire, client: Client) -> None:
    def pour(peer: socket.socket) -> None:
        peer.sendall(head(f"Location: {upstream.url}/new", status="302 Found"))
        while True:
            peer.sendall(b"x" * 65536)

    upstream.answers["/new"] = LIST
    assert client.get(wire(pour), follow_redirects=True).body == LIST
    assert "put the final address into the settings" in str(client.fail(wire(pour)))


def reset(peer: socket.socket) -> None:
    """Send half an answer and reset the connection."""
    peer.sendall(head("Content-Length: 100") + b"x" * 50)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


WHOLE = gzip.compress(LIST, mtime=0)  # without the moment, which would be part of the names of tests


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (head("Content-Length: 100") + b"x" * 50, "broke off in the middle of the answer"),
        (head("Transfer-Encoding: chunked") + b"5\r\nhello\r\n5\r\nhe", "broke off in the middle of the answer"),
        (head("Transfer-Encoding: chunked") + b"zz\r\nhello", "broke off in the middle of the answer"),
        (reset, "broke off in the middle of the answer"),
        (b"", "broke off in the middle of the answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "broke off in the middle of the answer"),
        (head("Content-Encoding: gzip") + LIST, "answered with a broken gzip body"),
        (head("Content-Encoding: gzip") + WHOLE[:-8] + b"\0" * 8, "answered with a broken gzip body"),
        (head("Content-Encoding: gzip") + WHOLE + b"garbage", "answered with a broken gzip body"),
        *[(head("Content-Encoding: gzip") + WHOLE[:cut], "answered with a gzip body that was cut short") for cut in (1, 10, 12, 60, -1)],
        (head("Content-Encoding: gzip") + WHOLE + WHOLE[:-1], "answered with a gzip body that was cut short"),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_whole_is_tried_again_and_told(wire: Wire, client: Client, answer: Any, told: str) -> None:
    url = wire(answer)
    error = client.fail(url)
    assert timeless(error) == f"{url} {told}, 3 tries: try again after SOON"
    assert (error.permanent, len(wire.heard)) == (False, 3)  # type: ignore[attr-defined]


TWO = (WHOLE * 2, WHOLE + gzip.compress(b"") + WHOLE, gzip.compress(LIST[:9]) + gzip.compress((LIST * 2)[9:]), WHOLE * 2 + b"\0" * 512)


@pytest.mark.parametrize("body", TWO)
def test_a_gzip_body_of_several_members_is_given_whole(upstream: Upstream, client: Client, body: bytes) -> None:
    upstream.answers["/list"] = zipped(body)
    assert client.get(f"{upstream.url}/list").body == LIST * 2


def test_a_large_body_that_inflates_a_thousandfold_is_given_whole(upstream: Upstream) -> None:
    body = b"\0" * (8 << 20)
    upstream.answers["/list"] = zipped(gzip.compress(body))
    assert Client(Patience(body=8 << 20)).get(f"{upstream.url}/list").body == body


@pytest.mark.parametrize("members", [1, 40])
def test_a_gzip_bomb_is_stopped_at_the_cap_in_bounded_memory(wire: Wire, client: Client, members: int) -> None:
    bomb = gzip.compress(b"\0" * ((200 << 20) // members)) * members
    url = wire(head("Content-Encoding: gzip", f"Content-Length: {len(bomb)}") + bomb)
    tracemalloc.start()
    error = client.fail(url)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "answered with more than 1 MiB" in str(error)
    assert (error.permanent, len(wire.heard)) == (True, 1)  # type: ignore[attr-defined]
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("extra", "piece"),
    [("X: y", b"x" * 65536), ("Content-Encoding: gzip", gzip.compress(b"") * 3000), ("Content-Length: 9999999999", b"x" * 65536)],
)
def test_an_endless_body_is_stopped(wire: Wire, client: Client, extra: str, piece: bytes) -> None:
    def pour(peer: socket.socket) -> None:
        peer.sendall(head(extra))
        while True:
            peer.sendall(piece)

    assert "answered with more than 1 MiB" in str(client.fail(wire(pour)))


@pytest.mark.parametrize("chunked", [True, False])
def test_a_slow_drip_is_stopped_by_the_total_deadline(wire: Wire, chunked: bool) -> None:
    def drip(peer: socket.socket) -> None:
        peer.sendall(head("Transfer-Encoding: chunked" if chunked else "Content-Length: 5000"))
        while True:
            peer.sendall(b"1\r\nx\r\n" if chunked else b"x")
            time.sleep(0.02)

    url, started = wire(drip), time.monotonic()
    error = Client(Patience(silence=5, response=0.3, tries=1)).fail(url)
    assert timeless(error) == f"{url} was not read in time, 1 try: try again after SOON"
    assert time.monotonic() - started < 20  # all of it would take more than a minute


@pytest.mark.parametrize("begun", [b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\nX-A: b\r\nX-B: "])
def test_a_head_that_drips_in_ends_in_time_too(wire: Wire, begun: bytes) -> None:
    def drip(peer: socket.socket) -> None:
        peer.sendall(begun)
        while True:
            peer.sendall(b"x")
            time.sleep(0.02)

    url, started = wire(drip), time.monotonic()
    error = Client(Patience(connect=0.1, silence=0.3, tries=1)).fail(url)
    assert timeless(error) == f"{url} was not read in time, 1 try: try again after SOON"
    assert time.monotonic() - started < 5


def test_a_chunk_whose_size_drips_in_ends_in_time_too(wire: Wire) -> None:
    def drip(peer: socket.socket) -> None:
        peer.sendall(head("Transfer-Encoding: chunked") + b"5;")
        while True:
            peer.sendall(b"x")
            time.sleep(0.02)

    assert "was not read in time, 1 try" in str(Client(Patience(silence=5, response=0.3, tries=1)).fail(wire(drip)))


def test_a_body_without_a_length_that_was_cut_for_its_time_is_not_taken_for_whole(wire: Wire) -> None:
    def pause(peer: socket.socket) -> None:
        peer.sendall(head("Content-Type: application/json") + b"[]")
        peer.recv(1)

    assert "was not read in time, 1 try" in str(Client(Patience(silence=9, response=0.3, tries=1)).fail(wire(pause)))


def test_a_body_that_comes_in_too_slowly_is_not_waited_for(wire: Wire) -> None:
    def drip(peer: socket.socket) -> None:
        peer.sendall(head("Content-Length: 50000"))
        while True:
            peer.sendall(b"x")
            time.sleep(0.02)

    url = wire(drip)
    error = Client(Patience(grace=0.2, slowest=1024, tries=1)).fail(url)
    assert timeless(error) == f"{url} sends less than 1024 bytes a second, 1 try: try again after SOON"


def test_the_connection_is_good_for_the_next_request_after_a_bound_was_kept(upstream: Upstream) -> None:
    upstream.answers["/list"] = LIST
    fetch = fetcher(Waits(lambda _: None, lambda: 0.0), Patience(response=5))
    assert [fetch(f"{upstream.url}/list").body for _ in range(20)] == [LIST] * 20


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\n", head("Content-Length: 9") + b"x"])
def test_an_upstream_that_falls_silent_did_not_answer_in_time(wire: Wire, begun: bytes) -> None:
    def hang(peer: socket.socket) -> None:
        peer.sendall(begun)
        peer.recv(1)

    assert "did not answer in time, 1 try" in str(Client(Patience(silence=0.1, tries=1)).fail(wire(hang)))


def test_an_encoding_we_did_not_ask_for_is_refused(upstream: Upstream, client: Client) -> None:
    upstream.answers["/list"] = (200, {"Content-Encoding": "br"}, b"x")
    assert "answered in an encoding we did not ask for" in str(client.fail(f"{upstream.url}/list"))
    assert len(upstream.log) == 1


@pytest.mark.parametrize("path", ["", "/refused", "/certificate-read-reset"])
def test_who_cannot_be_reached_is_told_by_the_cause_and_not_by_the_address(client: Client, path: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert f"http://127.0.0.1:{port}{path or '/'} cannot be reached: connection refused, 3 tries" in str(
        client.fail(f"http://127.0.0.1:{port}{path}")
    )
    assert f"http://nowhere.invalid{path or '/'} cannot be reached: its name does not resolve" in str(
        client.fail(f"http://nowhere.invalid{path}")
    )
    assert len(client.asked) == 6


def test_a_server_that_speaks_no_tls_is_told_so(wire: Wire, client: Client) -> None:
    url = wire(b"HTTP/1.1 200 OK\r\n\r\n").replace("http:", "https:")
    assert "no secure connection could be made" in str(client.fail(url))


@pytest.mark.parametrize(
    "url", ["http://", "file:///etc/passwd", "http://a..b/x", "http://h:99999/", f"http://{'a' * 70}.example/", "tickers"]
)
def test_an_address_that_cannot_be_asked_is_one_line(client: Client, url: str) -> None:
    error = client.fail(url)
    assert "cannot be asked: check the address" in str(error) or "does not resolve" in str(error)
    assert client.pauses == [] or not error.permanent


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY}\u20ac"])
def test_a_key_that_no_header_may_hold_is_told_without_the_key(upstream: Upstream, client: Client, key: str) -> None:
    with pytest.raises(FetchError, match="cannot be asked: check the address, and the API key") as failed:
        client.get(f"{upstream.url}/list", headers={"x-key": key})
    assert KEY not in str(failed.value)
    assert upstream.log == []


def test_a_password_in_the_address_is_not_told(upstream: Upstream, client: Client) -> None:
    assert str(client.fail(f"{upstream.url}/list".replace("://", f"://user:{KEY}@"))).startswith(f"{upstream.url}/list answered 404")
