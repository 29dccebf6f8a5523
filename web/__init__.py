"""The API: a Flask app that reads the tables the ETL writes, over connections that cannot write."""

from __future__ import annotations

from flask import Flask

from shared.settings import Settings
from web import (
    access,
    asset_page,
    compare,
    dashboard,
    data,
    docs,
    drift,
    errors,
    export,
    health,
    history,
    limits,
    lineage,
    metrics,
    openapi,
    pages,
    quarantine,
    run_page,
    runs,
    stats,
    trigger,
)
from web.db import open_reader
from web.state import State

API = (data, export, lineage, history, runs, health, stats, compare, quarantine, drift, metrics, trigger, openapi, docs)
GROUPS = (*API, pages, dashboard, run_page, asset_page)
"""One module a group of routes; each has its `blueprint`."""


def create_app(settings: Settings, dsn: str) -> Flask:
    """Make the app over the database at `dsn`; nothing is connected before the first request."""
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes, app.url_map.merge_slashes = True, False
    app.extensions["kasparro"] = State(settings, open_reader(dsn))
    access.install(app)
    errors.install(app)
    metrics.install(app)
    limits.install(app, settings)
    for group in GROUPS:
        app.register_blueprint(group.blueprint)
    return app
