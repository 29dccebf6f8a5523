"""Streams that never fail: one write stays one write, and what was lost is remembered."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys

from shared.streams import Sink, lost, unfailing

LOGS = """
import sys, structlog
from shared.logs import configure
from shared.settings import read_settings
from shared.streams import unfailing
sys.stderr = unfailing(sys.stderr)
configure(read_settings({"LOG_FORMAT": "json"}))
for size in (1, 20_000, 70_000):
    structlog.get_logger().info("x" * size)
"""


def test_a_line_of_any_length_leaves_in_one_write() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.settimeout(60)
        subprocess.run([sys.executable, "-c", LOGS], stderr=theirs.fileno(), check=True, timeout=60)
        written = [ours.recv(200_000) for _ in range(3)]
    assert [(text.count(b"\n"), text[-2:]) for text in written] == [(1, b"}\n")] * 3


def test_a_whole_output_writes_nothing_after_a_loss_and_logs_go_on() -> None:
    reader, writer = os.pipe()
    full = os.open("/dev/full", os.O_WRONLY)
    for whole, expected in ((True, b""), (False, b"second")):
        with Sink(full, "wb", closefd=False) as file:
            file.whole = whole
            kept = os.dup(full)
            assert file.write(b"first") == 5
            os.dup2(writer, full)
            assert file.write(b"second") == 6
            os.dup2(kept, full)
            os.close(kept)
            assert file.lost is not None
        os.set_blocking(reader, False)
        try:
            assert os.read(reader, 100) == expected
        except BlockingIOError:
            assert expected == b""
    for descriptor in (reader, writer, full):
        os.close(descriptor)


def test_what_is_no_standard_stream_is_left_alone_and_a_closed_one_is_nowhere() -> None:
    text = io.StringIO()
    assert unfailing(text) is text
    assert lost(text) is None
    assert unfailing(None).write("x") == 1
