# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first look at a home: every entry by class, the databases, nothing read but their headers."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
from collections.abc import Callable

from .classify import Classifier
from .manifest import HOME, printable
from .profile import DROP, KEEP, RUNTIME, SCRUB, SECRET, UNKNOWN
from .sqlite import HEADER_SIZE, SIDE_FILES, SUFFIXES, Header, parse_header
from .walk import DIRECTORY, FILE, OTHER, SYMLINK, Entry, FolderStack, Trouble, Walk, open_file


class Candidate:
    """One entry on its way into the archive, and what the manifest says of it.

    Slots of plain numbers instead of a stat result: a home may have 200,000 of them.
    """

    __slots__ = (
        "any_size",
        "changed",
        "classification",
        "ctime_ns",
        "device",
        "gid",
        "inode",
        "links",
        "mode",
        "mtime_ns",
        "path",
        "rule",
        "seen",
        "sha256",
        "size",
        "stored",
        "target",
        "type",
        "uid",
        "unknown_root",
    )

    def __init__(self, entry: Entry) -> None:
        self.path = entry.path
        self.type = entry.type
        self.classification = entry.classification
        self.rule = entry.rule
        self.target = entry.target
        self.unknown_root = entry.unknown_root
        self.sha256: str | None = None
        self.stored = HOME
        self.changed = False  # since it was read: the hash was taken back
        self.any_size = False  # the archive may hold another size
        self.seen = False  # in the archive's listing
        self.update(entry.stat)

    def update(self, status: os.stat_result) -> None:
        """Take over a later state."""
        self.mode = status.st_mode
        self.uid = status.st_uid
        self.gid = status.st_gid
        self.size = status.st_size if self.type == FILE else 0
        self.mtime_ns = status.st_mtime_ns
        self.ctime_ns = status.st_ctime_ns
        self.inode = status.st_ino
        self.device = status.st_dev
        self.links = status.st_nlink


@dataclasses.dataclass(frozen=True)
class Database:
    """A database that goes into the archive, and its side files."""

    entry: Candidate
    header: Header
    sides: dict[str, Candidate]

    @property
    def path(self) -> str:
        """Relative to the home."""
        return self.entry.path

    def side(self, suffix: str, status: os.stat_result) -> Candidate:
        """A side file in a later state; one that the walk did not see is what the database is."""
        path, main = self.path + suffix, self.entry
        entry = Entry(path, FILE, status, main.classification, main.rule)
        entry.unknown_root = main.unknown_root
        return Candidate(entry)


Take = Callable[[Candidate], None]


class Survey:
    """One walk over a home, sorted by what is to be done with each entry."""

    def __init__(
        self,
        classifier: Classifier,
        *,
        known_databases: frozenset[str] = frozenset(),
        measure: bool = False,
    ) -> None:
        """`known_databases`: the databases, by printable path, that the last good run held."""
        self.classifier = classifier
        self._known_databases = known_databases
        self._walk = Walk(classifier, measure=measure)
        self._folders: FolderStack[Candidate] = FolderStack()
        self._measure = measure
        self.archived: list[Candidate] = []  # keep, scrub, unknown; folders before their content
        self.databases: list[Database] = []
        self.withheld: list[str] = []
        self.secrets: list[Candidate] = []
        self.secret_folders: list[str] = []
        self.secret_links: list[str] = []  # links that have the names of secrets, or of settings
        self.scrub_links: set[str] = set()  # those of settings
        self.dropped: list[Candidate] = []
        self.not_sqlite: list[Candidate] = []
        self._take: Take = lambda entry: None
        self.counts: collections.Counter[str] = collections.Counter()
        self.bytes: collections.Counter[str] = collections.Counter()

    @property
    def troubles(self) -> list[Trouble]:
        """What could not be looked at."""
        return self._walk.troubles

    def run(self, home: int, take: Take = lambda entry: None) -> None:
        """Walk the home; `take` gets what is archived, but no database, as it is found."""
        self._take = take
        self._look_for_secret_links(home)
        self._walk.run(home, self._visit)

    def _look_for_secret_links(self, home: int) -> None:
        """Those at the top are known before the walk takes what they lead to."""
        for name in os.listdir(home):
            number = self.classifier.root.link(name)
            kind = self.classifier.classification(number)
            if kind in (SECRET, SCRUB):
                with contextlib.suppress(OSError):
                    os.readlink(name, dir_fd=home)
                    self._secret_link(name, kind)

    def _secret_link(self, path: str, kind: str) -> None:
        self.secret_links.append(path)
        if kind == SCRUB:
            self.scrub_links.add(path)

    def _count(self, entry: Entry) -> None:
        self.counts[entry.classification] += 1
        if entry.type == FILE:
            self.bytes[entry.classification] += entry.stat.st_size

    def _visit(self, entry: Entry, folder: int, name: str) -> None:
        kind = entry.classification
        candidate = Candidate(entry)
        if entry.type == DIRECTORY:
            self._visit_folder(entry, candidate)
            return
        if kind in (KEEP, UNKNOWN) and self._is_side_file(candidate):
            return
        self._count(entry)
        if entry.type == SYMLINK and kind in (SECRET, SCRUB):
            self._secret_link(entry.path, kind)
        if kind == SECRET:
            self.withheld.append(entry.path)
            self.secrets.append(candidate)
        elif kind in (DROP, RUNTIME) or entry.type == OTHER:
            if self._measure:
                self.dropped.append(candidate)
        else:
            self._archive(candidate)
            if not self._is_database(entry, candidate, folder, name):
                self._take(candidate)

    def _visit_folder(self, entry: Entry, candidate: Candidate) -> None:
        kind = entry.classification
        if kind in (KEEP, SCRUB):
            self._archive(candidate)
            self._take(candidate)
            self._count(entry)
            return
        self._folders.push(candidate)
        if kind != UNKNOWN:
            self._count(entry)
        if kind == SECRET:
            self.withheld.append(entry.path + "/")
            self.secret_folders.append(entry.path)

    def _archive(self, candidate: Candidate) -> None:
        for folder in self._folders.flush(candidate.path):
            self.archived.append(folder)
            self._take(folder)
        self.archived.append(candidate)

    def _is_database(self, entry: Entry, candidate: Candidate, folder: int, name: str) -> bool:
        """Pages are multiples of 512 bytes, or the name says that it is one."""
        if entry.type != FILE or entry.classification == SCRUB:
            return False
        named = name.endswith(SUFFIXES)
        size = entry.stat.st_size
        known = printable(entry.path) in self._known_databases
        kept = named and entry.classification == KEEP
        if size < HEADER_SIZE:
            if known or (kept and (size or _has_log(folder, name))):
                self.not_sqlite.append(candidate)
            return False
        if size % 512 and not named and not known:
            return False
        try:
            descriptor = open_file(name, folder, entry.stat)
        except OSError:
            return False  # reported when it is read
        try:
            header = parse_header(os.pread(descriptor, HEADER_SIZE, 0))
        finally:
            os.close(descriptor)
        if header is not None:
            self.databases.append(Database(candidate, header, {}))
            return True
        if known or kept:
            self.not_sqlite.append(candidate)
        return False

    def _is_side_file(self, entry: Candidate) -> bool:
        """The -wal, -shm and -journal of a database go with it, or not at all."""
        if not entry.path.endswith(SIDE_FILES):
            return False
        base, _dash, suffix = entry.path.rpartition("-")
        for database in reversed(self.databases[-8:]):
            if database.path == base:
                database.sides["-" + suffix] = entry
                return True
        return False

    def unknown_roots(self) -> set[str]:
        """The topmost paths that no rule knows."""
        return {
            entry.unknown_root
            for entry in self.archived
            if entry.classification == UNKNOWN and entry.unknown_root is not None
        }


def _has_log(folder: int, name: str) -> bool:
    """Whether a write-ahead log with something in it lies beside a file. A new database has none
    before its first page: what is empty beside one was emptied."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(name + "-wal", dir_fd=folder, follow_symlinks=False).st_size > 0
    return False
