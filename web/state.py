"""What every request of one process shares: the settings and the way to the database."""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app

from shared.settings import Settings
from web.db import Reader


@dataclass(frozen=True, slots=True)
class State:
    """Made once by `create_app`."""

    settings: Settings
    reader: Reader


def state() -> State:
    """The state of the app that serves this request."""
    found: State = current_app.extensions["kasparro"]
    return found
