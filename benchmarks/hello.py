"""The limit of the read path: a Flask app that does nothing, under the same gunicorn."""

from __future__ import annotations

from flask import Flask

app = Flask(__name__, static_folder=None)


@app.get("/")
def hello() -> str:
    """Answer a word."""
    return "hello"
