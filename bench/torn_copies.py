# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Torn database copies and writer stalls while a writer works without a pause.

python3 bench/torn_copies.py [--copies 200] [--megabytes 100]
In one run: lifeboat's method (hold, copy, release) and the usual one (checkpoint, copy) alternate under
the same writer, 300 transactions per second or more with an invariant across rows; then the same with a
long-lived reader, and with a database in rollback-journal mode. Bars: 0 torn of ours, at least one of
theirs, longest stall of a writer while we hold below 250 ms. The rate is asked of the first alone: a
reader that keeps the WAL growing, or a journal, slows the writer down without us.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from common import PYTHON, ROOT, arguments, workplace

sys.path.insert(0, str(ROOT / "plugins"))
from module_utils import hold  # type: ignore[import-not-found]
from module_utils.privilege import lookup  # type: ignore[import-not-found]

ROWS = 4000

# Every transaction moves an amount between two tables; their sum is always zero.
WRITER = (
    """
import json, os, random, sqlite3, sys, time
path, log, journal = sys.argv[1:4]
connection = sqlite3.connect(path, timeout=10, isolation_level=None)
connection.execute("PRAGMA synchronous = NORMAL")
rng = random.Random(os.getpid())
connection.execute("PRAGMA wal_autocheckpoint = 200")
with open(log, "a", buffering=1) as out:
    while True:
        begun = time.monotonic()
        connection.execute("BEGIN IMMEDIATE")
        amount = rng.randint(1, 100)
        for row in rng.sample(range(ROWS), 4):
            connection.execute("UPDATE credit SET v = v + ? WHERE id = ?", (amount, row))
            connection.execute("UPDATE debit SET v = v - ? WHERE id = ?", (amount, row))
        connection.execute("COMMIT")
        ended = time.monotonic()
        out.write(f"{begun} {ended}\\n")
        time.sleep(max(0.0, 0.0018 - (ended - begun)))
"""
).replace("ROWS", str(ROWS))

READER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM credit").fetchone()
print("ready", flush=True)
time.sleep(10000)
"""


def make(path: Path, megabytes: int, journal: str) -> None:
    """Two tables spread over the whole file."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {journal}")
    size = int(megabytes * 1e6 / (2 * ROWS))
    for table in ("credit", "debit"):
        connection.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, v INTEGER, pad BLOB)")
        rows = ((number, os.urandom(size)) for number in range(ROWS))
        connection.executemany(f"INSERT INTO {table} VALUES (?, 0, ?)", rows)
    connection.commit()
    connection.close()


def sound(path: Path) -> bool:
    """Whether a copy is one committed state."""
    connection = sqlite3.connect(path)
    try:
        [(check,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
        [(total,)] = connection.execute(
            "SELECT (SELECT sum(v) FROM credit) + (SELECT sum(v) FROM debit)"
        ).fetchall()
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()
    return bool(check == "ok" and total == 0)


def ours(path: Path, target: Path, spans: list[tuple[float, float]]) -> str:
    """As a backup does it; the time from the first to the last touch is noted."""
    rollback = _is_rollback(path)
    if rollback:
        target.touch()
    request = hold.Request(
        str(path), "rollback" if rollback else "wal", copy_to=str(target) if rollback else ""
    )
    begun = time.monotonic()
    holder = hold.Holder(request, lookup(_user()))
    held = holder.wait_held()
    if held.error:
        raise SystemExit(f"could not hold: {held.error}")
    method = held.method
    if method == hold.PAIR:
        with open(f"{path}-shm", "rb") as shm:
            if hold.reader_slot(shm.fileno(), holder.pid) == 0:
                method = hold.MAIN
    if method != hold.BACKUP:
        shutil.copyfile(path, target)
    if method == hold.PAIR:
        shutil.copyfile(f"{path}-wal", f"{target}-wal")
    holder.release()
    spans.append((begun, time.monotonic()))
    return str(method)


def theirs(path: Path, target: Path) -> None:
    """Checkpoint, then copy the main file: what most scripts do."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=5); "
        "c.execute('PRAGMA wal_checkpoint(TRUNCATE)')"
    )
    subprocess.run([PYTHON, "-c", code, str(path)], check=True)
    shutil.copyfile(path, target)


def _is_rollback(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(100)[18] != 2


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


@contextlib.contextmanager
def running(*argv: str) -> Iterator[subprocess.Popen[str]]:
    """A process for as long as the block takes."""
    process = subprocess.Popen([PYTHON, "-c", *argv], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def stalls(log: Path, spans: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Transactions per second, the longest in our spans, the longest outside of them."""
    lines = [line.split() for line in log.read_text(encoding="ascii").splitlines()]
    times = [(float(line[0]), float(line[1])) for line in lines if len(line) == 2]
    rate = len(times) / (times[-1][1] - times[0][0])
    inside, outside = 0.0, 0.0
    position = 0
    for begun, ended in times:
        while position < len(spans) and spans[position][1] < begun:
            position += 1
        touched = position < len(spans) and spans[position][0] < ended
        if touched:
            inside = max(inside, ended - begun)
        else:
            outside = max(outside, ended - begun)
    return rate, inside, outside


def scenario(
    work: Path, title: str, copies: int, megabytes: int, *, journal: str, reader: bool
) -> bool:
    """One table line; True where all bars are met."""
    path, log, target = work / "state.db", work / "writer.log", work / "copy.db"
    make(path, megabytes, journal)
    spans: list[tuple[float, float]] = []
    torn = {"ours": 0, "theirs": 0}
    methods: dict[str, int] = {}
    theirs_done = 0
    with contextlib.ExitStack() as stack:
        if reader:
            process = stack.enter_context(running(READER, str(path)))
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise SystemExit("the reader did not start")
        stack.enter_context(running(WRITER, str(path), str(log), journal))
        time.sleep(1)
        for number in range(copies):
            method = ours(path, target, spans)
            methods[method] = methods.get(method, 0) + 1
            torn["ours"] += not sound(target)
            _remove(target)
            if journal == "wal" and not reader and number % 8 == 0:
                theirs(path, target)
                theirs_done += 1
                torn["theirs"] += not sound(target)
                _remove(target)
    rate, inside, outside = stalls(log, spans)
    good = torn["ours"] == 0 and inside < 0.25 and (rate >= 300 or reader or journal != "wal")
    if theirs_done:
        good = good and torn["theirs"] > 0
        print(f"checkpoint, then copy: torn {torn['theirs']} of {theirs_done}")
    print(
        f"{title}: torn {torn['ours']} of {copies} ({json.dumps(methods)}); {rate:.0f} transactions/s; longest "
        f"{inside * 1000:.0f} ms while we hold, {outside * 1000:.0f} ms otherwise {'ok' if good else 'MISSED'}",
        flush=True,
    )
    for left in work.iterdir():
        left.unlink()
    return good


def _remove(target: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{target}{suffix}").unlink(missing_ok=True)


def main() -> int:
    """All scenarios."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, default=200)
    parser.add_argument("--megabytes", type=int, default=100)
    options = parser.parse_args()
    with workplace(options) as work:
        good = [
            scenario(work, "WAL", options.copies, options.megabytes, journal="wal", reader=False),
            scenario(
                work,
                "WAL and a long reader",
                options.copies // 4,
                options.megabytes,
                journal="wal",
                reader=True,
            ),
            scenario(
                work,
                "rollback journal",
                options.copies // 4,
                options.megabytes,
                journal="delete",
                reader=False,
            ),
        ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
