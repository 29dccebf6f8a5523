"""`GET /docs`: Swagger UI over our own document; every file comes from this server."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response, request

from web.endpoints import endpoint
from web.errors import Problem

blueprint = Blueprint("docs", __name__)

OURS = Path(str(files("web"))) / "static"
SWAGGER = Path(str(files("flask_openapi3_swagger"))) / "templates" / "swagger"
FILES = {
    "docs.js": OURS / "docs.js",
    "docs.css": OURS / "docs.css",
    "swagger-ui.css": SWAGGER / "css" / "swagger-ui.css",
    "swagger-ui-bundle.js": SWAGGER / "js" / "swagger-ui-bundle.js",
    "swagger.svg": SWAGGER / "images" / "swagger.svg",
}
"""What the page loads; nothing else can be asked for."""
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DAY = 24 * 3600


@blueprint.get("/docs")
@endpoint("The documentation as a page", produces=("text/html",), sends=("ETag",))
def get_docs() -> Response:
    """Answer with the page that shows `/openapi.json` and lets it be tried out."""
    response = answer_file(OURS / "docs.html", "text/html", max_age=0)
    response.headers["Content-Security-Policy"] = POLICY
    return response


@blueprint.get("/docs/<name>")
@endpoint("A file of the documentation page", produces=tuple(KINDS.values()), sends=("ETag",))
def get_docs_file(name: str) -> Response:
    """Answer with a script, a style sheet or a picture of the page."""
    if name not in FILES:
        raise Problem(404, "there is nothing here: /docs lists the endpoints")
    return answer_file(FILES[name], KINDS[FILES[name].suffix], max_age=DAY)


def answer_file(path: Path, kind: str, max_age: int) -> Response:
    """Answer with a file, or with nothing when the client has it already."""
    response = Response(read_file(path), mimetype=kind)
    response.headers["Cache-Control"] = f"public, max-age={max_age}"
    response.add_etag()
    return response.make_conditional(request)  # type: ignore[return-value]


@cache
def read_file(path: Path) -> bytes:
    """Read a file once: they belong to the installed version."""
    return path.read_bytes()
