# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holding a database under a live writer whose every state has an invariant across rows."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import hold
from ansible_collections.lifeboat.agents.plugins.module_utils.hold import Holder, Request
from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils.engine import (
    identity,
    wait_for,
)

# Two columns in two tables always sum up to zero; every transaction touches many pages.
WRITER = """
import random, sqlite3, sys, time
path, seconds = sys.argv[1], float(sys.argv[2])
connection = sqlite3.connect(path, timeout=5, isolation_level=None)
connection.execute("PRAGMA wal_autocheckpoint = 50")
connection.execute("PRAGMA synchronous = OFF")  # how busy the disk is, is not what is tested
rng = random.Random(1)
end, longest, done = time.monotonic() + seconds, 0.0, 0
print("ready", flush=True)
while time.monotonic() < end:
    begun = time.monotonic()
    connection.execute("BEGIN IMMEDIATE")
    amount = rng.randint(1, 100)
    for row in rng.sample(range(400), 8):
        connection.execute("UPDATE credit SET v = v + ?, pad = randomblob(3000) WHERE id = ?", (amount, row))
        connection.execute("UPDATE debit SET v = v - ?, pad = randomblob(3000) WHERE id = ?", (amount, 399 - row))
    connection.execute("COMMIT")
    longest, done = max(longest, time.monotonic() - begun), done + 1
    time.sleep(0.001)
print(longest, done, flush=True)
"""


# The process that holds must not have the database open itself: SQLite does not survive a fork.
AGENT = """
import json, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=5)
for line in sys.stdin:
    if line.startswith("open"):
        open(sys.argv[1], "rb").close()
        print("null", flush=True)
    else:
        print(json.dumps(connection.execute(line).fetchone()), flush=True)
"""


class Agent:
    """A connection in a process of its own."""

    def __init__(self, path: Path) -> None:
        argv = [sys.executable, "-c", AGENT, str(path)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)

    def execute(self, statement: str) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(statement + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.kill()
        self._process.wait()


@pytest.fixture
def agents() -> Iterator[Callable[[Path], Agent]]:
    """Starts agents and ends them."""
    started: list[Agent] = []

    def start(path: Path) -> Agent:
        started.append(Agent(path))
        return started[-1]

    yield start
    for agent in started:
        agent.end()


Agents = Callable[[Path], Agent]


def value(path: Path) -> int:
    """The first value of a copy."""
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT v FROM credit WHERE id = 0").fetchone()[0])
    finally:
        connection.close()


def make(path: Path, journal: str) -> Path:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {journal}")
    for table in ("credit", "debit"):
        connection.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, v INTEGER, pad BLOB)")
        rows = [(number, os.urandom(3000)) for number in range(400)]
        connection.executemany(f"INSERT INTO {table} VALUES (?, 0, ?)", rows)
    connection.commit()
    connection.close()
    return path


def sound(path: Path) -> bool:
    """Whether a copy holds one committed state."""
    connection = sqlite3.connect(path)
    try:
        [(check,)] = connection.execute("PRAGMA integrity_check").fetchall()
        [(total,)] = connection.execute(
            "SELECT (SELECT sum(v) FROM credit) + (SELECT sum(v) FROM debit)"
        ).fetchall()
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()
    return bool(check == "ok" and total == 0)


@contextlib.contextmanager
def writing(path: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def take(path: Path, target: Path, mode: str = hold.CHECKPOINT) -> str:
    """Hold and copy as borg would read; the method."""
    target.mkdir()
    copy = target / "copy.db"
    rollback = path.read_bytes()[18] != 2
    if rollback:
        copy.touch()
    request = Request(
        str(path), "rollback" if rollback else "wal", mode, copy_to=str(copy) if rollback else ""
    )
    holder = Holder(request, identity())
    try:
        held = holder.wait_held()
        assert not held.error
        method = held.method
        if method == hold.PAIR:
            with open(f"{path}-shm", "rb") as shm:
                if hold.reader_slot(shm.fileno(), holder.pid) == 0:
                    method = hold.MAIN
        if method != hold.BACKUP:
            shutil.copyfile(path, copy)
        if method == hold.PAIR:
            shutil.copyfile(f"{path}-wal", f"{copy}-wal")
    finally:
        holder.release()
    return method


@pytest.mark.parametrize("mode", [hold.CHECKPOINT, hold.READ_ONLY])
def test_copies_under_a_writer_are_never_torn(tmp_path: Path, mode: str) -> None:
    path = make(tmp_path / "state.db", "wal")
    with writing(path, 600) as writer:
        results: list[tuple[str, bool]] = []
        end = time.monotonic() + 3
        while time.monotonic() < end or len(results) < 8:
            target = tmp_path / f"copy{len(results)}"
            results.append((take(path, target, mode), sound(target / "copy.db")))
            shutil.rmtree(target)
        assert writer.poll() is None
    assert all(good for _method, good in results), results


def test_a_plain_copy_under_the_same_writer_is_torn(tmp_path: Path) -> None:
    """Without this the test above would prove nothing."""
    path = make(tmp_path / "state.db", "wal")
    with writing(path, 600):
        for number in range(200):
            connection = sqlite3.connect(path, timeout=1)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            copy = tmp_path / f"{number}.db"
            with path.open("rb") as source, copy.open("wb") as target:
                while block := source.read(65536):
                    target.write(block)
                    time.sleep(0.001)
            if not sound(copy):
                return
            copy.unlink()
    pytest.fail("200 plain copies were all sound: the writer is too slow for this test")


def test_copies_in_rollback_mode_are_never_torn_and_do_not_stall(tmp_path: Path) -> None:
    path = make(tmp_path / "state.db", "delete")
    for _round in range(4):  # on a busy machine a writer also stalls without us, but not every time
        with writing(path, 3) as writer:
            methods: list[str] = []
            while writer.poll() is None and len(methods) < 12:
                target = tmp_path / f"copy{len(methods)}"
                methods.append(take(path, target))
                assert sound(target / "copy.db")
                shutil.rmtree(target)
            assert writer.stdout is not None
            longest, done = writer.stdout.readline().split()
        assert set(methods) == {hold.BACKUP}
        if int(done) > 20 and float(longest) < 1.0:  # the bench measures this
            return
    pytest.fail(f"somebody always waited for us: {longest} s at most, {done} transactions in 3 s")


def watched_copy(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, *, write: bool
) -> list[bool]:
    """Copy a database in this process; after each pass, whether another could write meanwhile."""
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    original, free = hold._copy_changed, []

    def watched(source: int, target: int) -> int:
        size = original(source, target)
        try:
            other.execute("BEGIN EXCLUSIVE")
            if write:
                other.execute("UPDATE credit SET v = v + 1 WHERE id = 0")
                other.execute("UPDATE debit SET v = v - 1 WHERE id = 0")
            other.execute("COMMIT")
            free.append(True)
        except sqlite3.OperationalError:
            free.append(False)
        return size

    monkeypatch.setattr(hold, "_copy_changed", watched)
    monkeypatch.setattr(hold, "_COPY_AT_ONCE", 1 << 16)
    copy.touch()
    descriptor = os.open(copy, os.O_RDWR)
    keep: list[Any] = []
    hold._copy_rollback(Request(str(path), "rollback", copy_to=str(copy)), descriptor, keep)
    os.close(descriptor)
    for connection in (*keep, other):
        connection.close()
    return free


def test_a_quiet_database_in_rollback_mode_is_copied_without_keeping_writers_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "state.db", "delete")
    time.sleep(0.1)
    assert watched_copy(path, tmp_path / "copy.db", monkeypatch, write=False) == [True]
    assert (tmp_path / "copy.db").read_bytes() == path.read_bytes()


def test_a_database_written_to_during_every_copy_is_copied_under_a_lock_at_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "state.db", "delete")
    free = watched_copy(path, tmp_path / "copy.db", monkeypatch, write=True)
    assert free == [True] * hold._QUIET_TRIES + [False]
    assert (tmp_path / "copy.db").read_bytes() == path.read_bytes()
    assert sound(tmp_path / "copy.db")


def test_a_write_that_is_rolled_back_is_seen_as_a_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages spilled to the file and put back leave the change counter as it was."""
    path = make(tmp_path / "state.db", "delete")
    time.sleep(0.1)
    source = os.open(path, os.O_RDONLY)
    before = hold._last_write(source)
    agent = sqlite3.connect(path, isolation_level=None)
    agent.execute("PRAGMA cache_size = 1")
    agent.execute("BEGIN")
    agent.execute("UPDATE credit SET pad = randomblob(3000)")
    agent.execute("ROLLBACK")
    with monkeypatch.context() as patched:  # a grain so coarse that no stall outlasts it
        patched.setattr(hold, "_TIME_GRAIN_NS", 3600 * 10**9)
        assert hold._last_write(source) is None  # too recent to be told from another
    time.sleep(0.1)
    after = hold._last_write(source)
    assert before is not None and after is not None
    assert after[2] == before[2] and after != before
    agent.close()
    os.close(source)


def test_the_write_ahead_log_survives_the_holder(tmp_path: Path, agents: Agents) -> None:
    """A holder that closed its connection would delete the log of an agent without locks."""
    path = make(tmp_path / "state.db", "wal")
    agent = agents(path)
    agent.execute("UPDATE credit SET v = 1 WHERE id = 0")
    agent.execute("open")  # opens and closes its own file: POSIX drops the agent's locks
    holder = Holder(Request(str(path), "wal"), identity())
    holder.wait_held()
    holder.release()
    wal = Path(f"{path}-wal")
    assert wal.exists()
    inode = wal.stat().st_ino
    for number in range(5):
        agent.execute(f"UPDATE credit SET v = {number} WHERE id = 0")
    assert wal.stat().st_ino == inode
    assert agents(path).execute("SELECT v FROM credit WHERE id = 0") == [4]


def test_a_checkpointed_database_needs_its_main_file_alone(tmp_path: Path, agents: Agents) -> None:
    path = make(tmp_path / "state.db", "wal")
    agent = agents(path)
    agent.execute("UPDATE credit SET v = 1 WHERE id = 0")
    assert take(path, tmp_path / "copy") == hold.MAIN
    assert value(tmp_path / "copy" / "copy.db") == 1


def test_read_only_mode_takes_the_pair_and_writes_nothing(tmp_path: Path, agents: Agents) -> None:
    path = make(tmp_path / "state.db", "wal")
    agent = agents(path)
    agent.execute("UPDATE credit SET v = 1 WHERE id = 0")
    before = (path.read_bytes(), Path(f"{path}-wal").read_bytes(), path.stat().st_mtime_ns)
    assert take(path, tmp_path / "copy", hold.READ_ONLY) == hold.PAIR
    assert before == (path.read_bytes(), Path(f"{path}-wal").read_bytes(), path.stat().st_mtime_ns)


def test_a_long_reader_costs_the_checkpoint_and_nobody_else(tmp_path: Path, agents: Agents) -> None:
    path = make(tmp_path / "state.db", "wal")
    agent = agents(path)
    agent.execute("UPDATE credit SET v = 1 WHERE id = 0")
    reader = agents(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM credit")
    agent.execute("UPDATE credit SET v = 2 WHERE id = 0")
    took = []
    for number in range(4):  # a busy machine is slow now and then, a checkpoint that waits always
        begun = time.monotonic()
        method = take(path, tmp_path / f"copy{number}")
        took.append(time.monotonic() - begun)
        assert value(tmp_path / f"copy{number}" / "copy.db") == 2
        assert method in (hold.PAIR, hold.MAIN)
        if took[-1] < 2:
            return
    pytest.fail(f"it always took long: {took}")


def test_the_slot_of_a_reader_is_seen_from_outside(tmp_path: Path, agents: Agents) -> None:
    """Slot 0 although the log is not empty: there the main file alone is the point."""
    path = make(tmp_path / "state.db", "wal")
    agent = agents(path)
    agent.execute("PRAGMA wal_autocheckpoint = 0")
    agent.execute("UPDATE credit SET v = 1 WHERE id = 0")
    with open(f"{path}-shm", "rb") as shm:
        holder = Holder(Request(str(path), "wal", hold.READ_ONLY), identity())
        assert holder.wait_held().method == hold.PAIR
        slot = hold.reader_slot(shm.fileno(), holder.pid)
        assert slot is not None and slot > 0
        holder.release()
        agent.execute("PRAGMA wal_checkpoint(PASSIVE)")
        holder = Holder(Request(str(path), "wal", hold.READ_ONLY), identity())
        holder.wait_held()
        assert hold.reader_slot(shm.fileno(), holder.pid) == 0
        holder.release()
        assert hold.reader_slot(shm.fileno(), os.getpid()) == -1


def test_a_report_is_of_the_held_point(tmp_path: Path, agents: Agents) -> None:
    path = make(tmp_path / "state.db", "wal")
    holder = Holder(Request(str(path), "wal"), identity())
    holder.wait_held()
    agent = agents(path)
    agent.execute("DELETE FROM credit")
    holder.ask_report()
    report = holder.report()
    holder.release()
    assert report["tables"] == {"credit": 400, "debit": 400}
    assert report["quick_check"] == "ok"


@pytest.mark.parametrize(
    "content",
    [b"SQLite format 3\0" + b"\x10\0\2\2" + b"\xff" * 5000, b"SQLite format 3\0" + b"\0" * 84],
)
def test_an_unreadable_database_is_an_error_and_no_exception(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(content)
    journal = "wal" if content[18] == 2 else "rollback"
    copy = tmp_path / "copy"
    copy.touch()
    holder = Holder(
        Request(str(path), journal, copy_to=str(copy) if journal == "rollback" else ""), identity()
    )
    held = holder.wait_held()
    holder.release()
    assert held.method == hold.RAW
    assert held.error


def test_a_database_locked_by_another_program_is_an_error(tmp_path: Path, agents: Agents) -> None:
    path = make(tmp_path / "state.db", "delete")
    other = agents(path)
    other.execute("BEGIN EXCLUSIVE")
    copy = tmp_path / "copy"
    copy.touch()
    holder = Holder(Request(str(path), "rollback", copy_to=str(copy)), identity())
    held = holder.wait_held()
    holder.release()
    assert held.method == hold.RAW
    assert "locked" in held.error


def test_a_hot_journal_is_rolled_back_as_the_agent_would(tmp_path: Path) -> None:
    path = make(tmp_path / "state.db", "delete")
    script = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA cache_size = 5')\n"
        "c.execute('BEGIN')\n"
        "c.execute('UPDATE credit SET v = v + 1, pad = randomblob(2900)')\n"
        "c.execute('SELECT count(*) FROM credit')\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert Path(f"{path}-journal").exists()
    assert take(path, tmp_path / "copy") == hold.BACKUP
    assert sound(tmp_path / "copy" / "copy.db")


def test_a_holder_whose_parent_is_gone_ends(tmp_path: Path) -> None:
    path = make(tmp_path / "state.db", "wal")
    pid = os.fork()
    if pid == 0:
        holder = Holder(Request(str(path), "wal"), identity())
        holder.wait_held()
        (tmp_path / "pid").write_text(str(holder.pid), encoding="ascii")
        os._exit(0)
    os.waitpid(pid, 0)
    child = int((tmp_path / "pid").read_text(encoding="ascii"))

    def ended() -> bool:
        try:
            text = Path(f"/proc/{child}/stat").read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError):
            return True
        return text.rpartition(")")[2].split()[0] == "Z"

    wait_for(ended)
