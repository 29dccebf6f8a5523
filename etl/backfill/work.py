"""What the steps of one process at work on backfills share, and how its chunks become content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from etl.backfill.files import Part, Stream, Survey, payload_of, read_part
from etl.backfill.files import view as file_view
from etl.backfill.history import Ask, History
from etl.backfill.history import view as history_view
from etl.backfill.load import Content
from etl.backfill.store import Chunk
from etl.chaos import Chaos
from etl.fetch import Patience
from etl.source import Fetch, Payload
from etl.stop import Stop
from etl.work import Progress
from shared.addresses import named
from shared.db import Link
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class FileJob:
    """A file whose blocks are the chunks of a stored backfill."""

    survey: Survey
    created_at: datetime
    stream: Stream


@dataclass(frozen=True, slots=True)
class RangeJob:
    """A range whose windows are the chunks of a stored backfill."""

    history: History
    interval: str


@dataclass(frozen=True, slots=True)
class Work:
    """One process's share: `jobs` by the id of their backfill, all of one source. `show` is told after every chunk."""

    link: Link
    settings: Settings
    source: str
    jobs: Mapping[int, FileJob | RangeJob]
    stop: Stop
    show: Callable[[Progress], None]
    hide: Callable[[str], str]
    chaos: Chaos = field(default_factory=Chaos)
    patience: Patience = field(default_factory=lambda: Patience(budget=3600.0))
    comeback: float = 60.0

    @property
    def ids(self) -> list[int]:
        """The backfills it works on."""
        return sorted(self.jobs)


def read_block(job: FileJob, chunk: Chunk) -> Content:
    """Read the block of a chunk. Raises SourceError when the file changed."""
    body = read_part(job.stream, chunk.byte_from, chunk.byte_to, chunk.sha256)
    part = Part(chunk.byte_from, chunk.byte_to, chunk.line, chunk.sha256)
    payload = payload_of(job.survey, part, body, job.created_at)
    return Content(file_view(job.survey), payload, job.survey.points, job.survey.mtime)


def ask_for(job: RangeJob, chunk: Chunk, settings: Settings, fetch: Fetch) -> Content:
    """Make the call of a chunk. Raises FetchError."""
    ask = Ask(chunk.external_id, chunk.starts_at.astimezone(UTC), chunk.ends_at.astimezone(UTC), job.interval)
    call = job.history.request(settings, ask, datetime.now(UTC))
    body = fetch(call.url, params=call.params, headers=call.headers).body
    told_at = datetime.now(UTC)
    url = f"{named(call.url)}?{'&'.join(f'{name}={value}' for name, value in call.params.items())}"
    told = {"external_id": ask.external_id, "from": ask.since.isoformat(), "to": ask.until.isoformat(), "interval": ask.interval}
    payload = Payload(body, url, {}, told_at, {"history": told})
    return Content(history_view(job.history, ask.external_id), payload, True, told_at)
