"""The API: a Flask app that reads the tables the ETL writes, over connections that cannot write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
from web.parameters import Id, Rest
from web.state import State

API = (data, export, lineage, history, runs, health, stats, compare, quarantine, drift, metrics, trigger, openapi, docs)
GROUPS = (*API, pages, dashboard, run_page, asset_page)
"""One module a group of routes; each has its `blueprint`."""


class App(Flask):
    """Flask, told that no view or hook of ours is a coroutine: it would look at each of them again in every request."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function as it is."""
        return func


def create_app(settings: Settings, dsn: str) -> Flask:
    """Make the app over the database at `dsn`; nothing is connected before the first request."""
    app = App(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.converters = app.url_map.converters | {"int": Id, "path": Rest}
    app.url_map.strict_slashes, app.url_map.merge_slashes = True, False
    app.extensions["kasparro"] = State(settings, open_reader(dsn))
    access.install(app, settings)
    errors.install(app)
    metrics.install(app)
    limits.install(app, settings)
    for group in GROUPS:
        app.register_blueprint(group.blueprint)
    return app
