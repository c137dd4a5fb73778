# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folding an archived write-ahead log into its database, as the agent's user.

The database comes out of an archive that nobody vouches for, so SQLite reads it in a child
that gave up root first. A log that is not folded would be replayed over whatever database
stands there later; after this no log is left.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from .restore_manifest import RestoreError, show


@dataclass(frozen=True)
class Folded:
    path: str
    frames: int
    error: str = ""


def fold(home: str, path: str) -> Folded:
    """One database below home; its times stay as they were."""
    database = os.path.join(home, path)
    before = os.stat(database, follow_symlinks=False)
    try:
        with closing(sqlite3.connect(database, timeout=1.0, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode").fetchone()
            busy, frames, _unused = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            return Folded(path, 0, "somebody else holds it open")
    except sqlite3.Error as error:
        return Folded(path, 0, str(error))
    for ending in ("-wal", "-shm"):
        leftover = database + ending
        if os.path.lexists(leftover):
            if ending == "-wal" and os.path.getsize(leftover):
                return Folded(path, 0, f"{ending} is still there after the checkpoint")
            os.unlink(leftover)
    os.utime(database, ns=(before.st_mtime_ns, before.st_mtime_ns), follow_symlinks=False)
    return Folded(path, max(frames, 0))


def as_user(uid: int, gid: int, work: Callable[[], object]) -> object:
    """The JSON value of work(), done in a child without root."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(gid)
                os.setuid(uid)
            os.umask(0o077)
            with os.fdopen(writing, "w", encoding="utf-8") as stream:
                json.dump(work(), stream)
            status = 0
        except BaseException:  # noqa: BLE001 - a forked child must never return into the parent
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as stream:
        text = stream.read()
    _unused, status = os.waitpid(child, 0)
    if status != 0 or not text:
        raise RestoreError(
            "The step that runs as the agent's user failed.",
            "Its message is in the module's error output.",
            status=status,
        )
    return json.loads(text)


def fold_all(home: str, paths: Sequence[str], uid: int, gid: int) -> list[Folded]:
    """Fold every database that came with a log; an unreadable one is named, not fatal."""
    present = [path for path in paths if os.path.lexists(os.path.join(home, f"{path}-wal"))]
    if not present:
        return []

    def work() -> object:
        return [[result.frames, result.error] for result in (fold(home, path) for path in present)]

    answers = as_user(uid, gid, work)
    if not isinstance(answers, list):
        raise RestoreError("The folding step gave no answer.", "Run again.")
    folded = [Folded(path, *answer) for path, answer in zip(present, answers)]
    return [Folded(show(item.path), item.frames, item.error) for item in folded]
