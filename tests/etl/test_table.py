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


def test_what_may_not_be_cut_stays_whole_and_columns_that_can_be_spared_go_first() -> None:
    head, row = ("ID", "AT", "SAME", "WHY"), ["1", "2026-01-31 12:00", "1,000", "a reason that is long enough to be cut"]
    assert table(head, [row], 50, cut=("WHY",), spare=("SAME",)).splitlines()[1] == " 1  2026-01-31 12:00  1,000  a reason that is lon…"
    assert table(head, [row], 44, cut=("WHY",), spare=("SAME",)).splitlines()[1] == " 1  2026-01-31 12:00  a reason that is long…"
    assert table(head, [row], cut=("WHY",), spare=("SAME",)).splitlines()[1].endswith("1,000  a reason that is long enough to be cut")


def test_an_address_is_cut_at_its_beginning_for_its_end_tells_more() -> None:
    told = table(("N", "FROM"), [["1", "/srv/data/prices/2026/bitcoin.csv#L1-25"]], 24, cut=("FROM",), ends=("FROM",))
    assert told.splitlines()[1] == "1  …26/bitcoin.csv#L1-25"


def test_a_column_without_any_number_goes_to_the_left() -> None:
    assert table(("LOCK", "N"), [["-", "-"], ["-", "1"]]).splitlines()[1] == "-     -"
    assert table(("A", "LONGER"), [["-", "-"]]).splitlines()[1] == "-  -"
