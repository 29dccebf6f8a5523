"""How a view says what it takes and gives: one decorator validates the query by a pydantic model and keeps all models for the document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, wraps
from typing import Any

from flask import Response, request
from pydantic import BaseModel, ConfigDict

from web.errors import Problem

JSON = "application/json"


class Query(BaseModel):
    """The parameters of an endpoint: unknown ones are refused; one without a default counts as not given when it is empty, as in a form."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Headers(BaseModel):
    """The request headers that an endpoint knows, under their names by `alias`; any other is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Body(BaseModel):
    """The JSON object that an endpoint takes: unknown members are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Answer(BaseModel):
    """What an endpoint answers with."""

    model_config = ConfigDict(frozen=True)


class Ready(Response):
    """A response whose body is at hand and whose headers are complete: it goes out as it stands."""

    default_mimetype = None

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """Send the headers, and the body but to who asked for the headers alone."""
        start_response(self.status, list(self.headers))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else self.response


@dataclass(frozen=True, slots=True)
class Spec:
    """What the document tells of a view.

    `answer` is None for anything but JSON; `errors` are statuses beside 400, 500 and 503; `body` and `headers` are validated by the view;
    `sends` names response headers of its own; `keyed` says that it asks for the API key.
    """

    summary: str
    query: type[Query] | None
    answer: type[BaseModel] | None
    produces: tuple[str, ...]
    status: int
    errors: tuple[int, ...]
    body: type[BaseModel] | None = None
    headers: type[Headers] | None = None
    sends: tuple[str, ...] = ()
    keyed: bool = False


def endpoint(
    summary: str,
    *,
    query: type[Query] | None = None,
    answer: type[BaseModel] | None = None,
    produces: tuple[str, ...] = (JSON,),
    status: int = 200,
    errors: tuple[int, ...] = (),
    body: type[BaseModel] | None = None,
    headers: type[Headers] | None = None,
    sends: tuple[str, ...] = (),
    keyed: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Describe a view and hand it its validated query as `query`, when it takes one. Raises ValidationError and Problem on bad ones."""
    spec = Spec(summary, query, answer, produces, status, errors, body, headers, sends, keyed)

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def validated(**path: Any) -> Any:
            if query is not None:
                path["query"] = read_query(query, request.query_string)
            elif request.args:
                raise Problem(400, "this endpoint takes no parameters", errors=[unknown(name) for name in request.args])
            return view(**path)

        validated.spec = spec  # type: ignore[attr-defined]
        return validated

    return decorate


@lru_cache(maxsize=1000)
def read_query(model: type[Query], _asked: bytes) -> Any:
    """Validate the query string of this request, `_asked`, once. Raises ValidationError, and Problem for a parameter given twice."""
    twice = [name for name, values in request.args.lists() if len(values) > 1]
    if twice:
        raise Problem(400, "a parameter is given twice", errors=[{"parameter": name, "reason": "is given twice"} for name in twice])
    given = {name: value for name, value in request.args.items() if value != "" or name not in may_be_empty(model)}
    return model.model_validate(given)


@cache
def may_be_empty(model: type[Query]) -> frozenset[str]:
    """The parameters whose empty value says nothing: those that say nothing when they are left out."""
    return frozenset(field.alias or name for name, field in model.model_fields.items() if field.default is None)


def unknown(name: str) -> dict[str, str]:
    """A parameter that an endpoint does not know."""
    return {"parameter": name, "reason": "is not a parameter of this endpoint"}


def answered(answer: BaseModel, status: int = 200) -> Response:
    """An answer as JSON."""
    return Ready(answer.model_dump_json(), status, mimetype=JSON)
