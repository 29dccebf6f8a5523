"""Text from files as messages and JSON can hold it: one line, no NUL, no half characters. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def one_line(text: str) -> str:
    """Put a text on one line; what cannot be shown or stored becomes a replacement sign."""
    return UNFIT.sub("\ufffd", " ".join(text.replace("\ufeff", "").split()))


def show_path(path: str) -> str:
    """Write a path with what cannot be shown as backslash escapes."""
    text = path.encode("utf-8", "backslashreplace").decode()
    return UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def show(names: Sequence[str]) -> str:
    """List the first names."""
    shown = ", ".join(one_line(name)[:40] for name in names[:8])
    return shown + (", …" if len(names) > 8 else "")
