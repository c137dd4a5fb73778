# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The databases of one run: held before anything is archived, reported on, let go at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .assemble import Assembly, Problem
from .copies import RunDirectory
from .hold import BACKUP, MAIN, PAIR, RAW, Held, Holder, Request, make_room, reader_slot
from .look import Cache, mark_of
from .manifest import printable
from .privilege import Identity
from .profile import UNKNOWN
from .sqlite import FACTS, ROLLBACK, SIDE_FILES, Questions, matching
from .survey import Candidate, Database
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
        self.asked = False
        self.mark: tuple[Any, ...] = ()

    @property
    def path(self) -> str:
        """Relative to the home."""
        return self.database.path

    @property
    def check(self) -> str:
        """What its check said, or why there was none."""
        return str(
            self.held.error
            or self.report.get("quick_check")
            or self.report.get("error")
            or "not checked"
        )


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
        run_directory: RunDirectory,
        cache: Cache,
        group: int | None,
        meanwhile: Callable[[], object],
    ) -> None:
        """`meanwhile` is called time and again while a database is waited for."""
        self._home = home
        self._descriptor = home_descriptor
        self._identity = identity
        self._profile = profile
        self._mode = mode
        self._run_directory = run_directory
        self._cache = cache
        self._group = group
        self._meanwhile = meanwhile
        self.problems: list[Problem] = []
        self.all: list[HeldDatabase] = []

    def hold(self, databases: list[Database]) -> None:
        """Hold all of them, in parallel; when this returns every one stands still."""
        make_room(len(databases))
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
        item.held = item.holder.wait_held(self._meanwhile)
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

    def files(self) -> frozenset[str]:
        """What changes while it is archived and is at one point all the same."""
        return frozenset(
            item.path + suffix
            for item in self.all
            if item.method in (MAIN, PAIR)
            for suffix in ("", *SIDE_FILES)
        )

    def judge_holds(self) -> list[Problem]:
        """Databases that did not stand still: somebody does not honour SQLite's locks."""
        return [
            Problem(
                True,
                f"database {printable(item.path)} changed while it was held: its copy may be torn",
                "does a program replace the file, or write to it without SQLite's locks?",
            )
            for item in self.all
            if item.method in (MAIN, PAIR) and self._mark(item) != item.mark
        ]

    def archive(self, assembly: Assembly) -> None:
        """Hand the held files over, and let each child look into its database meanwhile."""
        unknown = [item for item in self.all if item.database.entry.classification == UNKNOWN]
        for item in self.all:
            if item not in unknown:
                self._hand_over(item, assembly)
        assembly.flush()  # borg has something to do while the others are scanned
        for item in unknown:
            if assembly.allow_held(item.database, method=item.method, place=item.copy):
                self._hand_over(item, assembly)
            else:
                self._let_go(item)
        assembly.flush()

    def _hand_over(self, item: HeldDatabase, assembly: Assembly) -> None:
        if item.held.error:
            self.problems.append(
                Problem(
                    True,
                    f"database {printable(item.path)} could not be opened: {item.held.error}",
                    "it was archived as it is; is it encrypted, damaged, or held by a program?",
                )
            )
        assembly.database(item.database, method=item.method, place=item.copy)
        known = None
        if item.method == MAIN:
            known = self._cache.get(*self._key(item))
        if known is not None:
            item.report = json.loads(known)
        elif not item.held.error:
            item.holder.ask_report()
            item.asked = True

    def _let_go(self, item: HeldDatabase) -> None:
        """A database that is not archived."""
        item.holder.release()
        self.all.remove(item)
        if item.copy is not None:
            with contextlib.suppress(OSError):
                os.unlink(item.copy)

    def reports(self) -> None:
        """Fetch what the children saw."""
        for item in self.all:
            if not item.asked:
                continue
            item.report = item.holder.report(self._meanwhile)
            if item.check != "ok":
                self.problems.append(
                    Problem(
                        True,
                        f"database {printable(item.path)} fails its check: {item.check}",
                        "it was archived as it is; restore it from an earlier archive",
                    )
                )
            elif item.method == MAIN:
                self._cache.put(*self._key(item), json.dumps(item.report).encode())

    def _key(self, item: HeldDatabase) -> tuple[bytes, bytes]:
        """Cached under a name that no file below the home can have, and by what was asked."""
        questions = dataclasses.asdict(item.holder.request.questions)
        asked = json.dumps([FACTS, questions], sort_keys=True)
        digest = hashlib.sha256(asked.encode()).hexdigest()[:16]
        return (
            b"/database/" + os.fsencode(item.path),
            mark_of(item.database.entry) + digest.encode() + b" ",
        )

    def release(self) -> None:
        """Let go of all, without closing a connection."""
        for item in self.all:
            item.holder.release()

    def _copy_place(self, database: Database) -> Path:
        """An empty file for the copy. Its group is one that only the copying child is given."""
        return self._run_directory.place_for_database(database.path, self._group)

    def describe(self, records: Mapping[str, Candidate]) -> list[dict[str, Any]]:
        """The manifest's records of all databases."""
        return [
            {
                "path": printable(item.path),
                "journal_mode": item.database.header.journal_mode,
                "method": item.method,
                "quick_check": item.check,
                "schema_sha256": item.report.get("schema_sha256", ""),
                "user_version": item.report.get("user_version"),
                "application_id": item.report.get("application_id"),
                "tables": item.report.get("tables", {}),
                "full_text": item.report.get("full_text", {}),
                "newest": item.report.get("newest"),
                "size": records[item.path].size if item.path in records else 0,
            }
            for item in self.all
        ]
