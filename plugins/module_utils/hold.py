# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holding a database at one point while borg reads it, in a child that is the agent's user.

WAL: a passive checkpoint, then TRUNCATE if little is left, then a read transaction. While it is
open no checkpoint writes past its mark and the WAL is not reset, so the main file alone (the WAL
was empty) or the pair is one consistent point. The child opens the database read-write only for
the checkpoint, never closes a connection and ends by _exit: the one that closes last would delete
the WAL, which loses data of an agent that has lost its POSIX locks.

Rollback journal: a held reader would block the agent's commits, so the file is copied without a
lock and the copy taken if nobody wrote meanwhile. Where the agent never pauses, what changed is
copied under a shared lock, in which nobody can write; that lasts a third of a second per GB.

Nothing here tells the passphrase or the key: the child closes every descriptor it inherited.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import resource
import signal
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from .errors import LifeboatError
from .privilege import Identity, Lines, become, close_all_but, open_files, send
from .sqlite import ROLLBACK, WAL, Questions, connect, inspect

MAIN, PAIR, BACKUP, RAW = "main", "pair", "backup", "raw"
CHECKPOINT, READ_ONLY = "checkpoint", "read-only"

# A writer waits for our checkpoint no longer than this, and only this often.
BUSY_TIMEOUT = 0.05
TRIES = 5
# TRUNCATE keeps writers out while it copies: only what a passive checkpoint left, 2 MB or so.
TRUNCATE_PAGES = 512
# A database of this size is copied under the lock at once.
_COPY_AT_ONCE = 4 << 20
_COPY_CHUNK = 256 << 10  # both sides stay in the processor's cache while they are compared
# How often a copy without a lock is tried, and how coarse the times of a file system may be.
_QUIET_TRIES = 3
_TIME_GRAIN_NS = 50_000_000
_HELD_TIMEOUT = 60.0
_FILES_OF_A_HOLDER = 2
_SPARE_FILES = 128  # for borg's pipes, for what is being read
_REPORT_TIMEOUT = 1800.0
# The bytes of the -shm file that SQLite locks for readers: slot 0, then slots with a mark.
_READ_LOCK_FIRST = 123
_READ_LOCKS = 5
_FLOCK = struct.Struct("hhqqi4x")


@dataclasses.dataclass(frozen=True)
class Request:
    """One database to hold."""

    path: str  # absolute
    journal_mode: str
    mode: str = CHECKPOINT
    questions: Questions = dataclasses.field(default_factory=Questions)
    copy_to: str = ""  # where the copy of a rollback-journal database goes


@dataclasses.dataclass(frozen=True)
class Held:
    """A database stands still: which files are one consistent point."""

    method: str
    journal_mode: str
    error: str = ""
    checkpoint: str = ""


def make_room(count: int) -> None:
    """Let so many databases be held at once; refuses before the first is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = len(open_files()) + count * _FILES_OF_A_HOLDER + _SPARE_FILES
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError) as error:
        allowed = soft if isinstance(error, OSError) else hard
        raise LifeboatError(
            f"{count} databases are to be held at once, for which {needed} files have to be open, "
            f"and no more than {allowed} may be open",
            hint="raise LimitNOFILE= of lifeboat-backup@.service, by hand ulimit -Hn; or drop those "
            "that are worth nothing by a rule",
        ) from error


class Holder:
    """A database held by a child; `release` lets it go."""

    def __init__(
        self, request: Request, identity: Identity, *, extra_group: int | None = None
    ) -> None:
        self.request = request
        self._orders_out, self._answers_in = -1, -1
        orders_in, self._orders_out = os.pipe()
        self._answers_in, answers_out = os.pipe()
        self._lines = Lines(self._answers_in)
        self.pid = os.fork()
        if self.pid == 0:
            _child(request, identity, extra_group, orders_in, answers_out)
        os.close(orders_in)
        os.close(answers_out)

    def wait_held(self, meanwhile: Callable[[], object] | None = None) -> Held:
        """Wait until the database stands still."""
        answer = self._lines.next(_HELD_TIMEOUT, meanwhile)
        return Held(
            str(answer.get("method", RAW)),
            str(answer.get("journal_mode", self.request.journal_mode)),
            str(answer.get("error", "")),
            str(answer.get("checkpoint", "")),
        )

    def ask_report(self) -> None:
        """Let the child look into the database; fetch the answer with `report`."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders_out, b"r")

    def report(self, meanwhile: Callable[[], object] | None = None) -> dict[str, Any]:
        """The facts of the database as of the held point."""
        return self._lines.next(_REPORT_TIMEOUT, meanwhile)

    def release(self) -> None:
        """End the child; it ends without closing its connections."""
        if self._orders_out >= 0:
            os.close(self._orders_out)
            self._orders_out = -1
        deadline = time.monotonic() + 2
        while self.pid and time.monotonic() < deadline:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                self.pid = 0
                break
            time.sleep(0.005)
        if self.pid:
            with contextlib.suppress(OSError):  # it ends by itself when its pipe is closed
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            self.pid = 0
        if self._answers_in >= 0:
            os.close(self._answers_in)
            self._answers_in = -1


def reader_slot(shm: int, pid: int) -> int | None:
    """Which reader's lock of a WAL index a process holds; None where that cannot be told.

    Slot 0 reads the main file alone: the WAL was wholly copied into it, and may begin anew while
    the lock is held. Every other slot keeps the WAL as it is.
    """
    seen_other = False
    for slot in range(_READ_LOCKS):
        probe = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _READ_LOCK_FIRST + slot, 1, 0)
        try:
            answer = _FLOCK.unpack(fcntl.fcntl(shm, fcntl.F_GETLK, probe))
        except OSError:
            return None
        if answer[0] == fcntl.F_UNLCK:
            continue
        if answer[4] == pid:
            return slot
        seen_other = True
        if slot == 0:
            continue
    return None if seen_other else -1


# -- in the child ------------------------------------------------------------------------------


def _child(
    request: Request,
    identity: Identity,
    extra_group: int | None,
    orders_in: int,
    answers_out: int,
) -> NoReturn:
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        copy = -1
        if request.copy_to:
            copy = os.open(request.copy_to, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        close_all_but(orders_in, answers_out, copy)
        become(identity, extra_group)
        _serve(request, copy, orders_in, answers_out)
        code = 0
    except (OSError, sqlite3.Error, LifeboatError, ValueError, TypeError) as error:
        send(answers_out, {"error": f"{type(error).__name__}: {error}"})
    finally:  # whatever happened: the parent's code must not run here
        os._exit(code)


def _serve(request: Request, copy: int, orders_in: int, answers_out: int) -> None:
    keep: list[Any] = []  # connections must live until _exit
    try:
        if request.journal_mode == WAL:
            held, look = _hold_wal(request, keep)
        else:
            held, look = _copy_rollback(request, copy, keep)
    except sqlite3.Error as error:
        send(answers_out, {"method": RAW, "error": f"{error}"})
        os.read(orders_in, 1)
        return
    send(answers_out, dataclasses.asdict(held))
    if os.read(orders_in, 1) == b"r":
        try:
            send(answers_out, inspect(look(), request.questions))
        except sqlite3.Error as error:
            send(answers_out, {"quick_check": str(error), "tables": {}})
        os.read(orders_in, 1)


def _hold_wal(request: Request, keep: list[Any]) -> tuple[Held, Callable[[], sqlite3.Connection]]:
    writer = None
    if request.mode == CHECKPOINT:
        writer = connect(request.path, "rw", timeout=BUSY_TIMEOUT)
        keep.append(writer)
    reader = connect(request.path, "ro", timeout=BUSY_TIMEOUT)
    keep.append(reader)
    state = "not asked for"
    truncate = writer is not None
    for attempt in range(TRIES):
        if writer is not None:
            state, truncate = _checkpoint(writer, truncate)
        _begin(reader)
        if _wal_size(request.path) == 0:
            return Held(MAIN, WAL, checkpoint=state), lambda: reader
        if not truncate or attempt == TRIES - 1:
            break
        reader.execute("ROLLBACK")
        time.sleep(0.01 * (attempt + 1))
    return Held(PAIR, WAL, checkpoint=state), lambda: reader


def _checkpoint(writer: sqlite3.Connection, truncate: bool) -> tuple[str, bool]:
    """What the checkpoint reached, and whether TRUNCATE is worth another try."""
    if not truncate:
        return "passive", False
    try:
        _busy, log, done = writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if log - done > TRUNCATE_PAGES:
            return f"passive, {log - done} pages left to a reader", False
        busy, log, _done = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:  # locked: go on with the pair
        return f"refused: {error}", False
    return ("truncate", True) if not busy else ("truncate was blocked by a reader", False)


def _begin(reader: sqlite3.Connection) -> None:
    """Begin a read transaction; the first read is what takes the lock."""
    for attempt in range(40):
        try:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return
        except sqlite3.OperationalError as error:
            if reader.in_transaction:
                reader.execute("ROLLBACK")
            if "locked" not in str(error) or attempt == 39:
                raise
            time.sleep(0.05)


def _wal_size(path: str) -> int:
    try:
        return os.stat(path + "-wal").st_size
    except FileNotFoundError:
        return 0


def _copy_rollback(
    request: Request, copy: int, keep: list[Any]
) -> tuple[Held, Callable[[], sqlite3.Connection]]:
    if copy < 0:
        raise LifeboatError("no place for the copy of a database")
    if request.mode == CHECKPOINT and os.path.exists(request.path + "-journal"):
        _roll_back(request.path, keep)
    reader = connect(request.path, "ro", timeout=BUSY_TIMEOUT)
    keep.append(reader)
    # Opened once and never closed: closing would drop the locks of this process on the file.
    source = os.open(request.path, os.O_RDONLY | os.O_CLOEXEC)
    size = None
    if os.fstat(source).st_size > _COPY_AT_ONCE:
        size = _copy_in_a_pause(source, copy, reader)
    if size is None:
        with _locked(reader):
            size = _copy_changed(source, copy)
    os.ftruncate(copy, size)

    def look() -> sqlite3.Connection:
        connection = connect(request.copy_to, "ro", timeout=BUSY_TIMEOUT, immutable=True)
        keep.append(connection)
        connection.execute("BEGIN")
        return connection

    return Held(BACKUP, ROLLBACK), look


def _roll_back(path: str, keep: list[Any]) -> None:
    """What a killed agent left half written is undone, as it would be by the agent's next start."""
    writer = connect(path, "rw", timeout=BUSY_TIMEOUT)
    keep.append(writer)
    _begin(writer)
    writer.execute("ROLLBACK")


@contextlib.contextmanager
def _locked(reader: sqlite3.Connection) -> Iterator[None]:
    """A shared lock: nobody writes to the database file."""
    _begin(reader)
    try:
        yield
    finally:
        reader.execute("ROLLBACK")


def _copy_in_a_pause(source: int, copy: int, reader: sqlite3.Connection) -> int | None:
    """Copy while nobody is kept from writing; the size, or None where somebody always wrote."""
    for attempt in range(_QUIET_TRIES):
        time.sleep(0.1 * attempt)
        with _locked(reader):
            before = _last_write(source)
        size = _copy_changed(source, copy)
        with _locked(reader):
            after = _last_write(source)
        if before is not None and before == after:
            return size
    return None


def _last_write(source: int) -> tuple[int, int, bytes] | None:
    """What every write changes: the time of change, and the change counter with every commit.

    None where the last write is so recent that another may carry the same time.
    """
    status = os.fstat(source)
    if time.time_ns() - status.st_ctime_ns < _TIME_GRAIN_NS:
        return None
    return status.st_size, status.st_ctime_ns, os.pread(source, 4, 24)


def _copy_changed(source: int, copy: int) -> int:
    """Make the copy equal to the source, writing only what differs."""
    offset = 0
    while True:
        data = os.pread(source, _COPY_CHUNK, offset)
        if not data:
            return offset
        if os.pread(copy, len(data), offset) != data:
            os.pwrite(copy, data, offset)
        offset += len(data)
