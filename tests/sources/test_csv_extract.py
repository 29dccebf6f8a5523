"""Files into payloads: blocks, and what is read again when a file grows, shrinks, is replaced or edited."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from etl.errors import SourceError
from etl.source import Payload
from etl.sources.csv_files import SOURCE, blocks, fingerprint, reading
from shared.settings import Settings

HEADER = "symbol,name,price\n"
OLD = 1_700_000_000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 1,000 bytes, so that small files have many."""
    monkeypatch.setattr(blocks, "BLOCK", 1000)
    monkeypatch.setattr(blocks, "PATIENCE", 4000)
    monkeypatch.setattr(blocks, "LONGEST_LINE", 8000)
    monkeypatch.setattr(reading, "SAMPLE", 500)


def lines(first: int, last: int) -> str:
    """Some rows."""
    return "".join(f"S{n},Name {n},{n}.5\n" for n in range(first, last))


def put(path: Path, body: str | bytes, *, mtime: int = OLD) -> Path:
    """Write a file in place, with a modification time long ago."""
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(body if isinstance(body, bytes) else body.encode())
        file.truncate()
    os.utime(path, (mtime, mtime))
    return path


def read(cursor: Mapping[str, Any], *paths: Path | str) -> list[Payload]:
    """All payloads of a run; the cursor goes through JSON, as in a checkpoint."""
    kept = json.loads(json.dumps(cursor))
    payloads = list(run(kept, *paths))
    assert json.loads(json.dumps(cursor)) == kept
    return payloads


def run(cursor: Mapping[str, Any], *paths: Path | str) -> Iterator[Payload]:
    """A run."""
    return SOURCE.extract(Settings(csv_paths=tuple(str(path) for path in paths)), None, cursor)  # type: ignore[arg-type]


def symbols(payloads: list[Payload]) -> list[str]:
    """The symbols of all records, in order."""
    return [value[1] for payload in payloads for value in SOURCE.parse(payload)]


def test_a_block_says_where_it_is_from(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", HEADER + lines(0, 3))
    (payload,) = read({}, path)
    assert payload.url == f"{path}#L1-4"
    assert payload.body == path.read_bytes()
    assert (payload.done, payload.total) == (len(payload.body), len(payload.body))
    assert payload.fetched_at.utcoffset() is not None
    assert payload.meta["columns"] == {"symbol": 0, "name": 1, "price": 2}
    assert payload.meta["mtime"] == "2023-11-14T22:13:20+00:00"
    assert json.loads(json.dumps(payload.meta)) == payload.meta
    assert payload.notes == ()


def test_a_block_holds_about_five_thousand_rows_of_a_hundred_bytes(tmp_path: Path) -> None:
    row = "S,{},1\n"
    path = put(tmp_path / "a.csv", HEADER + row.format("x" * (100 - len(row) + 2)) * 20_000)
    counts = [len(list(SOURCE.parse(payload))) for payload in read({}, path)]
    assert sum(counts) == 20_000
    assert all(4500 < count < 5500 for count in counts[:-1])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("end", ["", "newline"])
def test_blocks_put_together_are_the_file(tmp_path: Path, encoding: str, newline: str, end: str) -> None:
    rows = [f'S{n},"Näme {n}{newline}second ""line""",{n}.5' for n in range(300)]
    body = newline.join(["symbol,name,price", *rows, *([""] if end else [])]).encode(encoding)
    payloads = read({}, put(tmp_path / "a.csv", body))
    assert b"".join(payload.body for payload in payloads) == body
    assert len(payloads) > 5
    assert symbols(payloads) == [f"S{n}" for n in range(300)]
    assert all(
        " ".join(value[2].split()) == f'Näme {n} second "line"' for n, value in enumerate(v for p in payloads for v in SOURCE.parse(p))
    )


@pytest.mark.usefixtures("small")
def test_a_stray_quote_does_not_stop_the_blocks(tmp_path: Path) -> None:
    body = HEADER + lines(0, 50) + 'BAD,"open,1\n' + lines(50, 2000)
    payloads = read({}, put(tmp_path / "a.csv", body))
    assert "".join(payload.body.decode() for payload in payloads) == body
    assert max(len(payload.body) for payload in payloads) <= 6000
    found = [value for payload in payloads for value in SOURCE.parse(payload)]
    assert len(found) == 2001
    assert [value[1] for value in found if isinstance(value, tuple)] == [f"S{n}" for n in range(2000)]


@pytest.mark.usefixtures("small")
def test_an_endless_line_is_cut(tmp_path: Path) -> None:
    body = HEADER + lines(0, 5) + "x" * 50_000 + "\n" + lines(5, 9)
    payloads = read({}, put(tmp_path / "a.csv", body))
    assert "".join(payload.body.decode() for payload in payloads) == body
    assert max(len(payload.body) for payload in payloads) <= 10_000
    assert [v[1] for p in payloads for v in SOURCE.parse(p) if isinstance(v, tuple)] == [f"S{n}" for n in range(9)]


def test_an_unchanged_file_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "a.csv", HEADER + lines(0, 3))
    cursor = read({}, path)[-1].cursor
    monkeypatch.setattr(reading, "open_file", None)
    assert read(cursor, path) == []


@pytest.mark.usefixtures("small")
def test_a_file_that_was_read_while_hot_is_checked_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "a.csv", HEADER + lines(0, 200))
    monkeypatch.setattr("time.time", lambda: OLD + 1.0)
    cursor = read({}, path)[-1].cursor
    assert read(cursor, path) == []
    put(path, path.read_bytes().replace(b"Name 100,100.5", b"Name 100,999.5"))
    assert len(symbols(read(cursor, path))) == 200


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("packed", [False, True])
def test_only_appended_lines_are_read(tmp_path: Path, packed: bool) -> None:
    pack, newline = gzip.compress if packed else bytes, b"\n"
    path = put(tmp_path / "a.csv", pack((HEADER + lines(0, 300)).encode()))
    cursor = read({}, path)[-1].cursor
    put(path, pack((HEADER + lines(0, 400)).encode()), mtime=OLD + 9)
    payloads = read(cursor, path)
    assert symbols(payloads) == [f"S{n}" for n in range(300, 400)]
    assert payloads[0].url.endswith(f"#L302-{301 + payloads[0].body.count(newline)}")
    assert read(payloads[-1].cursor, path) == []


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("packed", [False, True])
def test_a_run_goes_on_after_any_block(tmp_path: Path, packed: bool) -> None:
    body = (HEADER + lines(0, 300)).encode()
    path = put(tmp_path / "a.csv", gzip.compress(body) if packed else body)
    whole = read({}, path)
    assert len(whole) > 5
    for count in range(1, len(whole) + 1):
        rest = read(whole[count - 1].cursor, path)
        assert [payload.body for payload in rest] == [payload.body for payload in whole[count:]]
        assert [payload.url for payload in rest] == [payload.url for payload in whole[count:]]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("size", [300, 3000])
@pytest.mark.parametrize("small_prefix", [True, False])
def test_what_happened_to_a_file_is_told(tmp_path: Path, size: int, small_prefix: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not small_prefix:
        monkeypatch.setattr(fingerprint, "SMALL", 0)
        monkeypatch.setattr(fingerprint, "HEAD", 64)
    text = HEADER + lines(0, size)
    path = put(tmp_path / "a.csv", text)
    cursor = read({}, path)[-1].cursor
    middle = f"Name {size // 2},"
    for body, note in [
        (HEADER + lines(0, size - 1), "truncated"),
        (HEADER + lines(1000, 1000 + size + 5), "replaced"),
        (text.replace(middle, middle.replace("Name", "NAME")), "edited"),
        (text.replace(f"S{size - 1},", f"X{size - 1},") + lines(0, 9), "edited"),
    ]:
        if note == "replaced":
            path.rename(tmp_path / "old.csv")
        payloads = read(cursor, put(path, body, mtime=OLD + 7))
        if note == "replaced":
            (tmp_path / "old.csv").rename(path)
        assert "".join(payload.body.decode() for payload in payloads) == body
        assert payloads[0].notes == (f"the file was {note} since the last run: it is read again from its start",)
        assert not any(payload.notes for payload in payloads[1:])
        assert payloads[0].url.split("#")[1].startswith("L1-")


@pytest.mark.usefixtures("small")
def test_a_file_that_was_only_touched_or_copied_is_not_loaded_again(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", HEADER + lines(0, 300))
    cursor = read({}, path)[-1].cursor
    os.utime(path, (OLD + 50, OLD + 50))
    assert read(cursor, path) == []
    copy = put(tmp_path / "b.csv", path.read_bytes())
    copy.rename(path)
    assert read(cursor, path) == []


@pytest.mark.usefixtures("small")
def test_an_unfinished_line_is_loaded_and_read_again_when_it_grew(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", HEADER + lines(0, 100) + "LAST,Last One,1")
    payloads = read({}, path)
    assert payloads[-1].body == b"LAST,Last One,1"
    assert symbols(payloads)[-1] == "LAST"
    assert read(payloads[-1].cursor, path) == []
    put(path, HEADER + lines(0, 100) + "LAST,Last One,1.75\nNEXT,Next,2\n", mtime=OLD + 5)
    again = read(payloads[-1].cursor, path)
    assert [value[1:4] for payload in again for value in SOURCE.parse(payload)] == [("LAST", "Last One", "1.75"), ("NEXT", "Next", "2")]


def test_a_header_alone_is_no_rows_and_grows(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", HEADER.strip())
    payloads = read({}, path)
    assert symbols(payloads) == []
    again = read(payloads[-1].cursor, put(path, HEADER + lines(0, 2), mtime=OLD + 5))
    assert symbols(again) == ["S0", "S1"]
    assert again[0].notes == ()


def test_an_archive_that_inflates_as_no_table_does_is_stopped_early(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv.gz", gzip.compress(HEADER.encode() + b"S,S,1\n" * 8_000_000))
    payloads: list[Payload] = []
    with pytest.raises(SourceError, match=r"a\.csv\.gz: cannot be read on .*it inflates more than 250-fold, as no table does"):
        payloads.extend(run({}, path))
    assert sum(len(payload.body) for payload in payloads) < 20 << 20


@pytest.mark.usefixtures("small")
def test_a_damaged_archive_gives_what_is_complete_and_then_fails(tmp_path: Path) -> None:
    packed = gzip.compress(os.urandom(0) + (HEADER + "".join(f"S{n},{os.urandom(20).hex()},1\n" for n in range(2000))).encode())
    path = put(tmp_path / "a.csv.gz", packed[: len(packed) // 2])
    payloads: list[Payload] = []
    with pytest.raises(SourceError, match=r"a\.csv\.gz: cannot be read on after what was complete .*: replace the file"):
        payloads.extend(run({}, path))
    found = symbols(payloads)
    assert len(found) > 500
    assert found == [f"S{n}" for n in range(len(found))]
    assert all(payload.body.endswith(b"\n") for payload in payloads)
    assert not any(state["done"] for payload in payloads for state in payload.cursor["files"].values())
    put(path, packed, mtime=OLD + 5)
    assert symbols(payloads + read(payloads[-1].cursor, path)) == [f"S{n}" for n in range(2000)]


def test_an_archive_of_two_members_is_one_file(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv.gz", gzip.compress(HEADER.encode()) + gzip.compress(lines(0, 3).encode()))
    assert symbols(read({}, path)) == ["S0", "S1", "S2"]


def test_files_are_read_in_order_and_each_remembered(tmp_path: Path) -> None:
    first, second = put(tmp_path / "a.csv", HEADER + lines(0, 2)), put(tmp_path / "b.csv", HEADER + lines(2, 4))
    payloads = read({}, second, tmp_path / "*.csv")
    assert symbols(payloads) == ["S0", "S1", "S2", "S3"]
    assert [list(payload.cursor["files"]) for payload in payloads] == [[str(first)], [str(first), str(second)]]
    assert [payload.done for payload in payloads] == [len(payloads[0].body), payloads[1].total]
    first.unlink()
    put(second, HEADER + lines(2, 5), mtime=OLD + 5)
    assert list(read(payloads[-1].cursor, second)[-1].cursor["files"]) == [str(second)]


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / "a.csv", HEADER + lines(0, 2))
    assert symbols(read({}, "~/a.csv")) == ["S0", "S1"]


def test_a_refused_file_does_not_stop_the_others(tmp_path: Path) -> None:
    put(tmp_path / "a.csv", "x,y\n1,2\n")
    put(tmp_path / "b.csv", HEADER + lines(0, 2))
    payloads: list[Payload] = []
    with pytest.raises(SourceError) as caught:
        payloads.extend(run({}, tmp_path / "*.csv", "nowhere/*.csv"))
    assert symbols(payloads) == ["S0", "S1"]
    assert str(caught.value).startswith("2 of 3 files failed: nowhere/*.csv: no such file: put one there, or name others in CSV_PATHS")
    assert f"{tmp_path}/a.csv: has no header in its first 20 lines" in str(caught.value)
    assert caught.value.permanent


def refuse(path: Path | str) -> str:
    """Why a path is refused."""
    with pytest.raises(SourceError) as caught:
        read({}, path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.csv")
    assert "is not a regular file" in refuse(tmp_path / "fifo.csv")
    assert "is not a regular file" in refuse("/dev/zero")
    assert "is a directory" in refuse(tmp_path)
    assert "CSV_PATHS" in refuse(tmp_path / "absent.csv")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "gone.csv")
    assert "cannot be read (no such file or directory)" in refuse(tmp_path / "loop.csv")


def test_an_error_of_the_disk_is_told_after_what_was_complete() -> None:
    pieces: Iterator[bytes | OSError] = iter([b"S1,a,1\nS2,b", OSError(5, "Input/output error")])

    def fail(size: int) -> bytes:
        piece = next(pieces)
        if isinstance(piece, bytes):
            return piece
        raise piece

    found: list[blocks.Block] = []
    with pytest.raises(SourceError, match="Input/output error"):
        found.extend(blocks.cut_blocks(fail, "utf-8", b"\n", 0))
    assert found == [blocks.Block(b"S1,a,1\n", 1, settled=True, last=False)]


def test_many_small_appends_stay_appends(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", HEADER + lines(0, 1))
    cursor: Mapping[str, Any] = read({}, path)[-1].cursor
    for count in range(2, 80):
        put(path, HEADER + lines(0, count), mtime=OLD + count)
        payloads = read(cursor, path)
        assert symbols(payloads) == [f"S{count - 1}"]
        cursor = payloads[-1].cursor
    assert len(json.dumps(cursor)) < 10_000


def test_a_cursor_of_another_version_is_not_trusted(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", HEADER + lines(0, 2))
    assert symbols(read({"files": {str(path): {"version": 0, "rows": 7}}}, path)) == ["S0", "S1"]


@pytest.mark.usefixtures("small")
def test_an_edit_while_the_file_is_read_is_noticed_by_the_next_run(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", HEADER + lines(0, 300))
    payloads: list[Payload] = []
    for payload in run({}, path):
        if len(payloads) == 2:
            put(path, path.read_bytes().replace(b"Name 5,5.5", b"Name 5,9.5"), mtime=OLD + 5)
        payloads.append(payload)
    again = read(payloads[-1].cursor, path)
    assert len(symbols(again)) == 300
    assert b"Name 5,9.5" in again[0].body
    assert read(again[-1].cursor, path) == []


def test_a_file_that_was_hot_when_it_was_opened_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "a.csv", HEADER + lines(0, 3))
    moments = iter([OLD + 1.0, *[OLD + 99.0] * 99])
    monkeypatch.setattr("time.time", lambda: next(moments))
    cursor = read({}, path)[-1].cursor
    put(path, path.read_bytes().replace(b"1.5", b"9.5"))
    assert len(symbols(read(cursor, path))) == 3


def test_a_name_that_is_not_utf8_is_refused_and_stops_no_other(tmp_path: Path) -> None:
    put(tmp_path / "b.csv", HEADER + lines(0, 2))
    put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff\n.csv")), HEADER)
    payloads: list[Payload] = []
    with pytest.raises(SourceError) as caught:
        payloads.extend(run({}, tmp_path / "*.csv"))
    assert symbols(payloads) == ["S0", "S1"]
    assert str(caught.value).endswith("a\\udcff\\n.csv: has a name that is not UTF-8: rename the file")
    assert str(caught.value).isprintable()


def test_a_file_named_like_a_pattern_does_not_hide_the_others(tmp_path: Path) -> None:
    put(tmp_path / "*.csv", HEADER + lines(0, 1))
    put(tmp_path / "a[1].csv", HEADER + lines(1, 2))
    put(tmp_path / "a1.csv", HEADER + lines(2, 3))
    assert sorted(symbols(read({}, tmp_path / "*.csv"))) == ["S0", "S1", "S2"]
    assert symbols(read({}, tmp_path / "a[1].csv")) == ["S1"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("before", range(0, 120, 7))
def test_a_stray_quote_splits_no_record_of_several_lines(tmp_path: Path, before: int) -> None:
    body = HEADER + lines(0, before) + 'B,"open,1\nC,Cc,2\nS,"multi\nline",3\n' + lines(200, 210)
    found = [value for payload in read({}, put(tmp_path / "a.csv", body)) for value in SOURCE.parse(payload)]
    assert ("S", "multi\nline", "3") in [value[1:4] for value in found if isinstance(value, tuple)]
    assert len(found) == before + 13


def test_a_block_does_not_end_where_a_quote_opens() -> None:
    text = b'B,"open,1\nC,Cc,2\nS,"multi\nline",3\n'
    assert blocks.find_end(b"A,a,1\n" + text, "utf-8", b"\n", 0) == 6
    assert blocks.find_end(b'A,"a\nb",1\n', "utf-8", b"\n", 0) == 10
