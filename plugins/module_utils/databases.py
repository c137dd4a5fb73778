# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The databases of one run: held before anything is archived, reported on, let go at the end."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import LifeboatError
from .hold import BACKUP, MAIN, PAIR, RAW, Held, Holder, Request, reader_slot
from .manifest import DATABASES, printable
from .privilege import Identity
from .sqlite import ROLLBACK, WAL, Questions, matching
from .survey import Database
from .walk import open_below


class HeldDatabase:
    """One database of a run."""

    def __init__(self, database: Database, holder: Holder, copy: Path | None) -> None:
        self.database = database
        self.holder = holder
        self.copy = copy
        self.held = Held(RAW, database.header.journal_mode)
        self.method = RAW
        self.report: dict[str, Any] = {}
        self.mark: tuple[Any, ...] = ()

    @property
    def path(self) -> str:
        """Relative to the home."""
        return self.database.path


class Databases:
    """Holds databases as the agent's user."""

    def __init__(
        self,
        *,
        home: str,
        home_descriptor: int,
        identity: Identity,
        profile: Mapping[str, Any],
        mode: str,
        run_dir: Path,
    ) -> None:
        self._home = home
        self._descriptor = home_descriptor
        self._identity = identity
        self._profile = profile
        self._mode = mode
        self._run_dir = run_dir
        self._group: int | None = None
        self.all: list[HeldDatabase] = []

    def hold(self, databases: list[Database]) -> None:
        """Hold all of them, in parallel; when this returns every one stands still."""
        for database in databases:
            copy = self._copy_place(database) if database.header.journal_mode == ROLLBACK else None
            request = Request(
                path=f"{self._home}/{database.path}",
                journal_mode=database.header.journal_mode,
                mode=self._mode,
                questions=self._questions(database.path),
                copy_to=str(copy) if copy else "",
            )
            holder = Holder(request, self._identity, extra_group=self._group)
            self.all.append(HeldDatabase(database, holder, copy))
        for item in self.all:
            if not item.mark:
                self._settle(item)

    def _settle(self, item: HeldDatabase) -> None:
        item.held = item.holder.wait_held()
        item.method = item.held.method
        if item.method == PAIR and self._reads_main_alone(item):
            item.method = MAIN
        if item.method != BACKUP and item.copy is not None:
            with contextlib.suppress(OSError):
                os.unlink(item.copy)
            item.copy = None
        item.mark = self._mark(item)

    def _questions(self, path: str) -> Questions:
        newest = self._profile.get("databases", {}).get("newest", [])
        return Questions(
            matching(path, newest, "path"),
            matching(path, self._profile.get("outside", []), "database"),
        )

    def _reads_main_alone(self, item: HeldDatabase) -> bool:
        """Whether the reader's snapshot is the main file, although the WAL is not empty."""
        try:
            shm = open_below(self._descriptor, item.path + "-shm")
        except OSError:
            return False
        try:
            return reader_slot(shm, item.holder.pid) == 0
        finally:
            os.close(shm)

    def _mark(self, item: HeldDatabase) -> tuple[Any, ...]:
        """What must not change while the database is held."""
        try:
            if item.method == MAIN:
                status = os.stat(f"{self._home}/{item.path}", follow_symlinks=False)
                return (MAIN, status.st_ino, status.st_size, status.st_mtime_ns)
            if item.method == PAIR:
                descriptor = open_below(self._descriptor, item.path + "-wal")
                try:
                    return (PAIR, os.fstat(descriptor).st_ino, os.pread(descriptor, 32, 0))
                finally:
                    os.close(descriptor)
        except OSError as error:
            return (item.method, f"unreadable: {error.strerror}")
        return (item.method,)

    def broken_holds(self) -> list[HeldDatabase]:
        """Databases that did not stand still: somebody does not honour SQLite's locks."""
        return [
            item
            for item in self.all
            if item.method in (MAIN, PAIR) and self._mark(item) != item.mark
        ]

    def release(self) -> None:
        """Let go of all, without closing a connection."""
        for item in self.all:
            item.holder.release()

    def _copy_place(self, database: Database) -> Path:
        """An empty file for the copy. Its group is one that only the copying child is given."""
        path = self._run_dir / DATABASES / database.path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        except OSError as error:
            raise LifeboatError(
                f"{path}: {error.strerror}", hint="is there room in the run directory?"
            ) from error
        if os.geteuid() == 0:
            self._share(path)
        return path

    def _share(self, path: Path) -> None:
        if self._group is None:
            self._group = _private_group()
        if self._group is None:
            return
        os.chown(path, -1, self._group)
        os.chmod(path, 0o640)
        for folder in path.parents:
            if not folder.is_relative_to(self._run_dir):
                break
            os.chown(folder, -1, self._group)
            os.chmod(folder, 0o710)

    def describe(self, item: HeldDatabase, size: int) -> dict[str, Any]:
        """The manifest's record of a database."""
        report = item.report
        return {
            "path": printable(item.path),
            "journal_mode": WAL if item.database.header.journal_mode == WAL else "rollback",
            "method": item.method,
            "quick_check": report.get("quick_check") or report.get("error") or item.held.error,
            "schema_sha256": report.get("schema_sha256", ""),
            "user_version": report.get("user_version"),
            "application_id": report.get("application_id"),
            "tables": report.get("tables", {}),
            "newest": report.get("newest"),
            "size": size,
        }


def _private_group() -> int | None:
    """Join a group that nobody else is in, so that a file can be shared with one child alone."""
    for candidate in (
        random.randrange(2_000_000_000, 2_100_000_000),
        random.randrange(60200, 60900),
    ):
        try:
            os.setgroups(sorted({*os.getgroups(), candidate}))
            return candidate
        except OSError:
            continue
    return None
