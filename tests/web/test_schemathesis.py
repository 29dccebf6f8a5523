"""Every operation of the document, with requests made from it: examples, edges, chance and chains. The answers keep to the document."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.engine.run import PhaseName
from werkzeug.serving import WSGIRequestHandler, make_server

from web import keys
from web.db import forget

ROOT = Path(__file__).parents[2]
KEY = "schemathesis"
OPTIONS = {
    "seed": 1,
    "headers": {"X-API-Key": KEY},
    "continue-on-failure": True,
    "generation": {"max-examples": 12, "deterministic": True, "no-shrink": True, "database": "none"},
    "phases": {"stateful": {"generation": {"max-examples": 20}}},
}
TOGETHER = {"/data": {"cursor"}, "/compare-runs": {"a", "b"}, "/assets/{source}/{external_id}/history": {"from"}}
"""Parameters that must fit each other, or an earlier answer, which a schema of one parameter cannot say: a cursor belongs to the filters of
the page before and excludes `offset`, two runs are two and finished, a time from which comes before the time to which.
"""
STRICTER = ("expected a time between 1900 and 2200", "expected text that begins with")
"""What is refused although the schema allows it. Of times, `format` says nothing of bounds, and a pattern beside it would leave chance
nothing that fits both. `q` takes letters of any script, for which patterns of JSON Schema have no name that every reader knows.
"""


@pytest.fixture
def described(app: Any, etl: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The document of an app that has records and a key, as schemathesis reads it from a server on loopback."""
    monkeypatch.setattr(keys, "GUESSES", 1_000_000)
    assert etl("run", "--source", "csv", CSV_PATHS=str(ROOT / "data" / "*.csv")).code == 0
    application = app(API_KEY=KEY)
    with make_server("127.0.0.1", 0, application, request_handler=Silent) as server:

        def serve() -> None:
            server.serve_forever(poll_interval=0.01)
            forget(application.extensions["kasparro"].reader)

        thread = threading.Thread(target=serve)
        thread.start()
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json", config=SchemathesisConfig.from_dict(OPTIONS))
        server.shutdown()
        thread.join()


class Silent(WSGIRequestHandler):
    """The app writes its own log."""

    def log(self, *told: Any) -> None:
        pass


def test_every_answer_keeps_to_the_document(described: Any) -> None:
    found, operations, requests, chains = list[str](), set[str](), 0, 0
    for event in from_schema(described).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            found.append(f"{event}")
        if isinstance(event, events.ScenarioFinished):
            operations.add(str(event.label))
            requests += len(event.recorder.cases)
            chains += event.phase is PhaseName.STATEFUL_TESTING and len(event.recorder.cases) > 1
            found += failures(event)
    if found:
        pytest.fail("\n\n".join(dict.fromkeys(found)), pytrace=False)
    assert len(operations) > 10
    assert requests > 1000
    assert chains > 10


def failures(event: events.ScenarioFinished) -> list[str]:
    """What a scenario found, each with the request that shows it and what it was answered with."""
    recorder = event.recorder
    return [
        f"{event.label}: {check.name}: {info.failure.title}: {info.failure.message}\n{info.code_sample}\n{answer_of(recorder, case)}"
        for case, checks in recorder.checks.items()
        for check in checks
        if (info := check.failure_info) and not is_meant(check.name, recorder.cases[case].value, answer_of(recorder, case))
    ]


def answer_of(recorder: Any, case: str) -> str:
    """The body that a request was answered with."""
    response = recorder.interactions[case].response
    return response.content.decode(errors="replace") if response else ""


def is_meant(check: str, case: Any, answer: str) -> bool:
    """Whether a finding is a rule that no schema can tell: of values that go together, or that an empty value counts as none.

    The latter is what `allowEmptyValue` says in the document, which schemathesis does not read.
    """
    if check == "negative_data_rejection":
        return "" in (case.query or {}).values()
    if check != "positive_data_acceptance":
        return False
    fitting = TOGETHER.get(case.operation.path, set())
    faults = json.loads(answer).get("errors", [])
    return bool(faults) and all(fault["parameter"] in fitting or fault["reason"].startswith(STRICTER) for fault in faults)
