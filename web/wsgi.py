"""What gunicorn serves: `gunicorn -c python:web.gunicorn_conf web.wsgi:app`."""

from __future__ import annotations

import atexit
from contextlib import ExitStack

from shared import embedded
from shared.logs import configure
from shared.settings import read_settings
from web import create_app

settings = read_settings()
configure(settings)
given = settings.api_database_url or settings.database_url
opened = ExitStack()
atexit.register(opened.close)
app = create_app(settings, given.get_secret_value() if given else opened.enter_context(embedded.serve(settings.home)))
