"""Progress of one source on a terminal: a bar with rate and ETA. Silent everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import click

from etl.work import Progress

Mode = Literal["auto", "bar", "none"]


def wants_bar(mode: Mode) -> bool:
    """Whether to draw: asked for, or standard error is a terminal."""
    return mode == "bar" or (mode == "auto" and sys.stderr.isatty())


@contextmanager
def progress(name: str, *, draw: bool) -> Iterator[Callable[[Progress], None]]:
    """Give the function that a run tells of every batch; the bar is wiped when the block ends.

    The bar measures what the source measures (bytes of files, pages, feeds); the text beside it counts records.
    """
    if not draw:
        yield lambda _progress: None
        return
    started, shown = time.monotonic(), [""]
    bar: Any = click.progressbar(
        length=1000,
        label=f"  {name:<12}",
        file=sys.stderr,
        show_percent=True,
        show_eta=True,
        width=24,
        item_show_func=lambda _item: shown[0],
        bar_template="%(label)s %(bar)s %(info)s",
        fill_char="━",
        empty_char=" ",
    )

    def show(at: Progress) -> None:
        seen = at.counts.total
        rate = seen / max(time.monotonic() - started, 0.001)
        shown[0] = f"{seen:,} records  {rate:,.0f}/s" + (f"  {at.counts.quarantined:,} quarantined" if at.counts.quarantined else "")
        target = min(1000, at.done * 1000 // at.total) if at.total else bar.pos
        bar.update(target - bar.pos, None)
        bar.render_progress()

    bar.render_progress()
    try:
        yield show
    finally:
        click.echo("\r\033[2K\033[?25h", nl=False, file=sys.stderr)
