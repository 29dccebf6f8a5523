"""`GET /openapi.json` and `GET /docs`."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema_rs
import pytest
from flask.testing import FlaskClient
from schemathesis.specs.openapi.definitions import OPENAPI_31

from web.docs import FILES

LINK = re.compile(r'(?:href|src)="([^"]+)"')


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    """The document as served."""
    answer = client.get("/openapi.json")
    assert answer.status_code == 200
    return json.loads(answer.data)  # type: ignore[no-any-return]


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    errors = jsonschema_rs.Draft202012Validator(OPENAPI_31).iter_errors(document)
    assert [(error.message, error.instance_path) for error in errors] == []


def test_every_schema_of_the_document_is_a_valid_schema(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
    for operation in operations(document):
        for parameter in operation.get("parameters", []):
            jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **parameter["schema"]})


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))):
        found: Any = document
        for part in reference.split("/"):
            found = found[part]
        assert found


def test_every_route_of_the_app_is_in_it(client: FlaskClient, document: dict[str, Any]) -> None:
    served = {
        (re.sub(r"<(?:[^:<>]+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == served


def test_every_operation_says_what_it_is(document: dict[str, Any]) -> None:
    for operation in operations(document):
        assert operation["summary"]
        assert operation["description"]
        assert {"400", "429", "500", "503"} < operation["responses"].keys()
    names = [operation["operationId"] for operation in operations(document)]
    assert len(names) == len(set(names))


def test_a_parameter_is_told_with_its_bounds_and_without_null(document: dict[str, Any]) -> None:
    parameters = {parameter["name"]: parameter for parameter in document["paths"]["/runs"]["get"]["parameters"]}
    assert (
        parameters["limit"]["schema"] | {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50} == parameters["limit"]["schema"]
    )
    assert parameters["status"]["schema"]["enum"][0] == "queued"
    assert parameters["status"]["required"] is False
    assert "null" not in json.dumps(parameters)


def test_the_trigger_is_told_with_its_key_its_body_and_its_headers(document: dict[str, Any]) -> None:
    trigger = document["paths"]["/etl/run"]["post"]
    assert trigger["security"] == [{"apiKey": []}, {"bearer": []}]
    assert [parameter["name"] for parameter in trigger["parameters"]] == ["Idempotency-Key"]
    assert trigger["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/TriggerBody"}
    assert set(trigger["responses"]) == {"202", "400", "401", "403", "413", "415", "422", "429", "500", "503"}
    assert "Location" in trigger["responses"]["202"]["headers"]
    assert "WWW-Authenticate" in document["components"]["responses"]["401"]["headers"]
    assert "Retry-After" in document["components"]["responses"]["429"]["headers"]


def test_the_document_is_not_sent_again_to_who_has_it(client: FlaskClient) -> None:
    etag = client.get("/openapi.json").headers["ETag"]
    again = client.get("/openapi.json", headers={"If-None-Match": etag})
    assert (again.status_code, again.data) == (304, b"")


def test_the_page_loads_every_file_from_this_server(client: FlaskClient) -> None:
    page = client.get("/docs")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    links = LINK.findall(page.text)
    assert {link.removeprefix("docs/") for link in links} == {*FILES, "openapi.json"}
    for link in links:
        answer = client.get(f"/{link}")
        assert answer.status_code == 200
        assert answer.mimetype in ("text/javascript", "text/css", "image/svg+xml", "application/json")
        assert "max-age=" in answer.headers["Cache-Control"]
        assert client.get(f"/{link}", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    assert "//" not in FILES["docs.js"].read_text().replace("// ", "")


def test_the_page_may_load_nothing_else(client: FlaskClient) -> None:
    page = client.get("/docs")
    rules = dict(rule.strip().split(" ", 1) for rule in page.headers["Content-Security-Policy"].split(";"))
    assert rules["default-src"] == "'none'"
    assert {source for sources in rules.values() for source in sources.split()} == {"'none'", "'self'", "data:"}
    assert "<style" not in page.text
    assert re.findall(r"<script>|style=|\son\w+=", page.text) == []


@pytest.mark.parametrize("name", ["x", "..%2fopenapi.py", "%2e%2e/docs.py", "docs.html", "index.html"])
def test_no_other_file_can_be_asked_for(client: FlaskClient, name: str) -> None:
    answer = client.get(f"/docs/{name}")
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
