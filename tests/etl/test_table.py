"""Tables: aligned, cut to the terminal, harmless whatever stands in a cell."""

from __future__ import annotations

import pytest

from etl.table import columns, table


def test_numbers_go_to_the_right_and_text_to_the_left() -> None:
    assert table(("A", "NUMBER"), [["x", "1,000"], ["longer", "-"]]) == "A       NUMBER\nx        1,000\nlonger       -"


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_is_longer_than_the_terminal_and_the_widest_column_gives_way(width: int) -> None:
    told = table(("ID", "WHY"), [["1", "a reason " * 30], ["22", "short"]], width)
    lines = told.splitlines()
    assert max(map(len, lines)) == width
    assert lines[1].startswith(" 1  a reason")
    assert lines[1].endswith("…")
    assert lines[2] == "22  short"


def test_wide_characters_and_marks_keep_the_columns() -> None:
    told = table(("NAME", "B"), [["比特币", "x"], ["e\u0301", "y"], ["plain", "z"]]).splitlines()
    assert {columns(line) for line in told} == {len("比特币") * 2 + 3}


def test_a_cell_cannot_break_its_line_or_paint_the_terminal() -> None:
    told = table(("A",), [["two\nlines \x1b[31mred"]])
    assert len(told.splitlines()) == 2
    assert "\x1b" not in told
