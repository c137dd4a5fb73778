# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first look at a home: every entry by class, the databases, nothing read but their headers."""

from __future__ import annotations

import collections
import dataclasses
import os
from typing import Any

from .classify import Classifier
from .look import is_candidate
from .profile import DROP, KEEP, RUNTIME, SCRUB, SECRET, UNKNOWN
from .sqlite import HEADER_SIZE, SIDE_FILES, SUFFIXES, Header, parse_header
from .walk import DIRECTORY, FILE, OTHER, Entry, FolderStack, Trouble, Walk, open_file


@dataclasses.dataclass(frozen=True)
class Database:
    """A database that goes into the archive, and its side files."""

    entry: Entry
    header: Header
    sides: dict[str, Entry]

    @property
    def path(self) -> str:
        """Relative to the home."""
        return self.entry.path


class Survey:
    """One walk over a home, sorted by what is to be done with each entry."""

    def __init__(self, classifier: Classifier, *, measure: bool = False) -> None:
        self.classifier = classifier
        self._walk = Walk(classifier, measure=measure)
        self._folders = FolderStack()
        self._measure = measure
        self._last_database: Database | None = None
        self.archived: list[Entry] = []  # keep, scrub and unknown, folders before their content
        self.databases: list[Database] = []
        self.withheld: list[str] = []
        self.dropped: list[Entry] = []
        self.secrets: list[Entry] = []
        self.not_sqlite: list[Entry] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.bytes: collections.Counter[str] = collections.Counter()

    @property
    def troubles(self) -> list[Trouble]:
        """What could not be looked at."""
        return self._walk.troubles

    def run(self, home: int) -> None:
        """Walk the home."""
        self._walk.run(home, self._visit)

    def count(self, entry: Entry) -> None:
        """Count an entry for its class."""
        self.counts[entry.classification] += 1
        if entry.type == FILE:
            self.bytes[entry.classification] += entry.stat.st_size

    def _visit(self, entry: Entry, folder: int, name: str) -> None:
        kind = entry.classification
        if entry.type == DIRECTORY:
            self._visit_folder(entry)
            return
        if kind in (KEEP, UNKNOWN) and self._is_side_file(entry):
            return
        self.count(entry)
        if kind == SECRET:
            self.withheld.append(entry.path)
            self.secrets.append(entry)
        elif kind in (DROP, RUNTIME) or entry.type == OTHER:
            self.dropped.append(entry)
        else:
            self.archived.extend(self._folders.flush(entry.path))
            self._database_or_file(entry, folder, name)

    def _visit_folder(self, entry: Entry) -> None:
        kind = entry.classification
        if kind in (KEEP, SCRUB):
            self.archived.extend(self._folders.flush(entry.path))
            self.archived.append(entry)
            self.count(entry)
        elif kind == UNKNOWN:
            self._folders.push(entry)
        else:
            self._folders.push(entry)
            self.count(entry)
            if kind == SECRET:
                self.withheld.append(entry.path + "/")

    def _database_or_file(self, entry: Entry, folder: int, name: str) -> None:
        header = None
        if entry.classification in (KEEP, UNKNOWN) and is_candidate(entry, SUFFIXES):
            try:
                descriptor = open_file(name, folder, entry.stat)
            except OSError:
                descriptor = -1  # reported when it is read
            if descriptor >= 0:
                header = parse_header(os.pread(descriptor, HEADER_SIZE, 0))
                os.close(descriptor)
                if header is None and entry.classification == KEEP and name.endswith(SUFFIXES):
                    self.not_sqlite.append(entry)
        self.archived.append(entry)
        if header is not None:
            self._last_database = Database(entry, header, {})
            self.databases.append(self._last_database)

    def _is_side_file(self, entry: Entry) -> bool:
        """The -wal, -shm and -journal of a database go with it, or not at all."""
        for suffix in SIDE_FILES:
            if entry.path.endswith(suffix):
                base = entry.path[: -len(suffix)]
                for database in reversed(self.databases[-8:]):
                    if database.path == base:
                        database.sides[suffix] = entry
                        return True
        return False

    def unknown_roots(self) -> dict[str, list[Entry]]:
        """Unknown entries by the topmost path that no rule knows."""
        roots: dict[str, list[Entry]] = {}
        for entry in self.archived:
            if entry.classification == UNKNOWN and entry.unknown_root is not None:
                roots.setdefault(entry.unknown_root, []).append(entry)
        return roots


def summary(survey: Survey) -> dict[str, Any]:
    """Counts and bytes by class."""
    return {"counts": dict(survey.counts), "bytes": dict(survey.bytes)}
