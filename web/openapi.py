"""The OpenAPI 3.1 document, made of what the views say of themselves by walking the app's routes: `GET /openapi.json`."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from flask import Blueprint, Flask, Response, current_app, request
from pydantic import BaseModel, Field
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from werkzeug.routing import IntegerConverter, Rule

from web.endpoints import JSON, Answer, Spec, endpoint
from web.links import links_of
from web.shapes import parameters_of, tidy

blueprint = Blueprint("openapi", __name__)

PROBLEM = "application/problem+json"
ALWAYS = (400, 429, 500, 503)
"""Statuses that any endpoint may answer with."""
SCHEMAS = "#/components/schemas/{model}"
ARGUMENT = re.compile(r"<(?:[^:<>]+:)?(\w+)>")
INFO = {
    "title": "Kasparro ETL",
    "description": "Crypto prices and news, as they were loaded: records, their history and lineage, and the runs that loaded them.",
}
SENT = {
    "X-Request-ID": "the id of this request, in the log too",
    "Retry-After": "seconds after which to ask again",
    "WWW-Authenticate": "how to send the API key",
    "Location": "where to see what was asked for",
    "Link": "the next page, as rel=next",
    "ETag": "the version of this answer, for If-None-Match",
    "Content-Disposition": "the name under which to save it",
    "RateLimit-Policy": "how many requests a client may make in how many seconds, where a limit is set",
    "RateLimit": "how many of them are left, where a limit is set",
}
"""Response headers and what they say."""
IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "the ETag of an earlier answer: if nothing changed since, this one is a 304",
}
OTHER: dict[str, Any] = {"text/event-stream": {}}
"""Schemas of what is neither JSON nor text: of a stream, events of any kind."""
SENT_WITH = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}
SECURITY = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


RECORDS, PRICES, RUNS, UPSTREAM = "Records", "Prices", "Runs", "Quarantine and drift"
HEALTH, PAGES, DOCUMENT = "Health and metrics", "Pages for people", "This documentation"
TAGS = {RECORDS: ("data", "export", "lineage"), PRICES: ("history",), RUNS: ("runs", "compare", "stats", "trigger")}
TAGS |= {
    UPSTREAM: ("quarantine", "drift"),
    HEALTH: ("health", "metrics"),
    PAGES: ("dashboard", "asset_page"),
    DOCUMENT: ("docs", "openapi"),
}
"""The sections of the document, and the groups of routes in each."""


class Fault(Answer):
    """A parameter at fault."""

    parameter: str
    reason: str


class ProblemAnswer(Answer):
    """What every failure answers with (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="one sentence that says what to do")
    request_id: str
    errors: list[Fault] = Field([], description="the parameters at fault, of a 400 or 422")


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path, and what its view says of itself."""

    rule: Rule
    method: str
    view: Any
    spec: Spec

    @property
    def path(self) -> str:
        """The path as OpenAPI writes it."""
        return ARGUMENT.sub(r"{\1}", self.rule.rule)


@blueprint.get("/openapi.json")
@endpoint("This document", produces=(JSON,), sends=("ETag",))
def get_openapi() -> Response:
    """Answer with the description of all endpoints, made from what validates their requests and shapes their answers."""
    written = current_app.extensions.get("kasparro.openapi")
    if written is None:
        written = current_app.extensions["kasparro.openapi"] = json.dumps(describe(current_app), ensure_ascii=False).encode()
    response = Response(written, mimetype=JSON)
    response.headers["Cache-Control"] = "public, max-age=60"
    response.add_etag()
    return response.make_conditional(request)  # type: ignore[return-value]


def describe(app: Flask) -> dict[str, Any]:
    """Describe all routes of an app."""
    routes = list(list_routes(app))
    refs, components = describe_models(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method] = describe_route(route, refs, components)
    asked = {model.__name__ for route in routes for model in (route.spec.query, route.spec.headers) if model}
    shown = {name: tidy(schema) for name, schema in components.items() if name not in asked}
    return {
        "openapi": "3.1.0",
        "info": INFO | {"version": version("kasparro-etl")},
        "tags": [{"name": tag} for tag in TAGS],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": shown,
            "responses": describe_failures(routes, refs),
            "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in SENT.items()},
            "securitySchemes": SECURITY,
        },
    }


def list_routes(app: Flask) -> Iterator[Route]:
    """Find every route; a view that says nothing of itself answers with a text."""
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        spec = getattr(view, "spec", None) or Spec(rule.endpoint, None, None, ("text/plain",), 200, ())
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield Route(rule, method.lower(), view, spec)


def describe_models(routes: list[Route]) -> tuple[Any, dict[str, Any]]:
    """Make the schemas of all models: a reference for each, and what the references lead to."""
    models: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(ProblemAnswer, "serialization"): None}
    for spec in (route.spec for route in routes):
        models |= {(model, "validation"): None for model in (spec.query, spec.body, spec.headers) if model}
        models |= {(spec.answer, "serialization"): None} if spec.answer else {}
    refs, schemas = models_json_schema(list(models), ref_template=SCHEMAS)
    return refs, schemas.get("$defs", {})


def describe_route(route: Route, refs: Any, components: dict[str, Any]) -> dict[str, Any]:
    """Describe one method of one path."""
    spec = route.spec
    told: dict[str, Any] = {"operationId": route.view.__name__, "tags": [tag_of(route)], "summary": spec.summary}
    if doc := inspect.getdoc(route.view):
        told["description"] = doc
    parameters = [*path_parameters(route), *parameters_of(spec.query, "query", refs, components)]
    parameters += parameters_of(spec.headers, "header", refs, components)
    parameters += [IF_NONE_MATCH] if "ETag" in spec.sends else []
    if parameters:
        told["parameters"] = parameters
    if spec.body:
        told["requestBody"] = {"required": True, "content": {JSON: {"schema": refs[(spec.body, "validation")]}}}
    if spec.keyed:
        told["security"] = [{name: []} for name in SECURITY]
    told["responses"] = responses_of(route, refs)
    return told


def tag_of(route: Route) -> str:
    """The section of a route."""
    group = route.rule.endpoint.split(".")[0]
    return next((tag for tag, groups in TAGS.items() if group in groups), HEALTH)


def path_parameters(route: Route) -> Iterator[dict[str, Any]]:
    """The parameters in the path; a converter may have a `schema` of its own."""
    for name in ARGUMENT.findall(route.rule.rule):
        converter = route.rule._converters[name]
        usual = {"type": "integer", "minimum": 0} if isinstance(converter, IntegerConverter) else {"type": "string", "minLength": 1}
        yield {"name": name, "in": "path", "required": True, "schema": getattr(converter, "schema", usual)}


def responses_of(route: Route, refs: Any) -> dict[str, Any]:
    """Every status with its media types and headers; those of failures are the same everywhere."""
    spec = route.spec
    shape = refs[(spec.answer, "serialization")] if spec.answer else {}
    content = {kind: {"schema": shape if kind == JSON else OTHER.get(kind, {"type": "string"})} for kind in spec.produces}
    good = {"description": HTTPStatus(spec.status).phrase, "headers": headers_of(*spec.sends), "content": content}
    found = {str(spec.status): good | links_of(route.view.__name__)}
    statuses = {*ALWAYS, *spec.errors, *([304] if "ETag" in spec.sends else []), *([404] if route.rule.arguments else [])}
    return found | {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses - {spec.status})}


def describe_failures(routes: list[Route], refs: Any) -> dict[str, Any]:
    """Describe what each status but success means, once for all endpoints."""
    statuses = {304, 404, *ALWAYS, *(status for route in routes for status in route.spec.errors)}
    found: dict[str, Any] = {}
    for status in sorted(statuses):
        found[str(status)] = {"description": HTTPStatus(status).phrase, "headers": headers_of(*SENT_WITH.get(status, ()))}
        if status >= 400:
            found[str(status)]["content"] = {PROBLEM: {"schema": refs[(ProblemAnswer, "serialization")]}}
    return found


def headers_of(*names: str) -> dict[str, Any]:
    """Response headers by their names, with those that every answer may carry."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-ID", *names, "RateLimit-Policy", "RateLimit")}
