"""What pages for people share: what a client wants to see, templates, the content policy, and errors as pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, current_app, render_template, request

from shared.errors import DatabaseError, SchemaError
from web import charts, wording
from web.access import request_id
from web.errors import RETRY_AFTER, Problem, note_outage

blueprint = Blueprint("pages", __name__)

HTML, TEXT = "text/html", "text/plain"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
PAGES: dict[str, Callable[..., Response]] = {}
"""The page of an endpoint that answers with JSON otherwise, by the name of its view."""
View = Callable[..., Response]


def page_of(name: str) -> Callable[[View], View]:
    """Make a view the page of an endpoint of the API."""

    def register(view: View) -> View:
        PAGES[name] = view
        return view

    return register


def paged(view: View) -> View:
    """Show the page of this endpoint to who prefers HTML to JSON, as browsers do, or text by name; all others get what it answers."""

    @wraps(view)
    def chosen(**path: Any) -> Response:
        show = PAGES[view.__name__] if prefers_page(or_text=True) else view
        response = show(**path)
        response.vary.add("Accept")
        return response

    chosen.shown = prefers_page  # type: ignore[attr-defined]
    return chosen


def prefers_page(or_text: bool = False) -> bool:
    """Whether HTML, or text by name, is preferred to JSON."""
    prefers = request.accept_mimetypes
    other = max(prefers[HTML], prefers[TEXT] if or_text and TEXT in prefers.values() else 0)
    return other > prefers["application/json"]


def wants_page() -> bool:
    """Whether HTML is asked for by name, and not text."""
    return HTML in request.accept_mimetypes.values() and not wants_text()


def page(view: View) -> View:
    """Answer what goes wrong as a page too, to who asked for HTML by name."""

    @wraps(view)
    def shown(**path: Any) -> Response:
        if not wants_page():
            return varied(view(**path))
        try:
            return varied(view(**path))
        except Problem as found:
            return failed(found.status, found.detail)
        except (DatabaseError, SchemaError) as outage:
            note_outage(outage)
            told = "the database cannot answer now: this page tries again by itself"
            if isinstance(outage, SchemaError):
                told = "the database is not migrated: run `kasparro-etl migrate`"
            response = failed(503, told)
            response.headers["Retry-After"] = str(RETRY_AFTER)
            return response

    shown.shown = wants_page  # type: ignore[attr-defined]
    return shown


@blueprint.after_app_request
def show_refusal(response: Response) -> Response:
    """Show on a page what was wrong with a request for a page before its view was reached: parameters that do not fit."""
    if response.status_code != 400 or response.mimetype != "application/problem+json":
        return response
    wanted = getattr(current_app.view_functions.get(request.endpoint or ""), "shown", None)
    if wanted is None or not wanted():
        return response
    told = response.get_json()
    faults = "; ".join(f"{fault['parameter']} {fault['reason']}" for fault in told.get("errors", ()))
    return failed(400, f"not understood: {faults}" if faults else told["detail"])


def varied(response: Response) -> Response:
    """Say that the answer depends on what was asked for."""
    response.vary.update(("Accept", "User-Agent"))
    return response


def wants_text() -> bool:
    """Whether plain text is wanted: by preference, or by curl, which accepts anything and shows it in a terminal."""
    prefers = request.accept_mimetypes
    return prefers[TEXT] > prefers[HTML] or (HTML not in prefers.values() and (request.user_agent.string or "").startswith("curl/"))


def either(name: str, **facts: Any) -> Response:
    """A page or its text, whichever is wanted."""
    return rendered(f"{name}.{'txt' if wants_text() else 'html'}", **facts)


def failed(status: int, detail: str) -> Response:
    """An error as a page."""
    told = {"status": status, "phrase": HTTPStatus(status).phrase, "detail": detail, "request_id": request_id()}
    response = varied(rendered("error.html", **told))
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"
    return response


def rendered(template: str, **facts: Any) -> Response:
    """A page, or a text, of a template; everything is escaped there."""
    kind = TEXT if template.endswith(".txt") else HTML
    response = Response(render_template(template, **facts), mimetype=kind)
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Cache-Control"] = "no-cache"
    return response


def asset_path(source: str, external_id: str) -> str:
    """The address of a record's page, whatever its id is made of."""
    return f"/assets/{quote(source, safe='')}/{quote(external_id, safe='')}"


@blueprint.app_context_processor
def offer() -> dict[str, Any]:
    """What every template can say."""
    words = ("span", "ago", "utc", "number", "price", "signed", "size", "counted", "brief", "plain", "glyph", "share", "quoted")
    return {name: getattr(wording, name) for name in words} | {"asset_path": asset_path, "charts": charts}
