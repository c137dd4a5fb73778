# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Walking an agent's home as root without trusting it.

Every folder is opened relative to its parent and never through a symbolic link, so a folder that
the agent swaps for a link during the walk is an error, not a way out of the home. A folder comes
before what is in it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from .classify import Classifier, State
from .errors import CouldNotRun
from .profile import KEEP, UNKNOWN

FILE, DIRECTORY, SYMLINK, FIFO, SOCKET, OTHER = (
    "file",
    "directory",
    "symlink",
    "fifo",
    "socket",
    "other",
)
_TYPES = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFSOCK: SOCKET,
}
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
MAXIMUM_DEPTH = 200


class Entry:
    """One entry of the home. Plain slots: there are many of them."""

    __slots__ = ("classification", "path", "rule", "stat", "target", "type", "unknown_root")

    def __init__(
        self,
        path: str,
        kind: str,
        status: os.stat_result,
        classification: str,
        rule: int,
        target: str | None = None,
        unknown_root: str | None = None,
    ) -> None:
        self.path = path
        self.type = kind
        self.stat = status
        self.classification = classification
        self.rule = rule
        self.target = target
        self.unknown_root = unknown_root


@dataclasses.dataclass(frozen=True)
class Trouble:
    """Something the walk could not look at."""

    path: str
    classification: str
    reason: str
    vanished: bool


Visit = Callable[[Entry, int, str], None]


def open_home(home: str, uid: int) -> tuple[str, int]:
    """The real path of the home and a descriptor of it; refuses one that is not the user's."""
    real = os.path.realpath(home)
    try:
        descriptor = os.open(real, _FOLDER_FLAGS)
    except OSError as error:
        raise CouldNotRun(
            f"{home}: {error.strerror}", hint="is the home of this agent there, and a folder?"
        ) from error
    status = os.fstat(descriptor)
    if status.st_uid != uid or real == "/":
        os.close(descriptor)
        raise CouldNotRun(
            f"{home}: belongs to uid {status.st_uid}, not to the agent's user (uid {uid})",
            hint="a home that is a link must lead to a folder of the agent's user",
        )
    return real, descriptor


def open_file(
    name: str, folder: int, expected: os.stat_result | tuple[int, int] | None = None
) -> int:
    """A regular file relative to its folder; never a link, a device or another file.

    `expected` is its state, or its inode and device, as seen before.
    """
    descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
    status = os.fstat(descriptor)
    if isinstance(expected, os.stat_result):
        expected = (expected.st_ino, expected.st_dev)
    other = expected is not None and (status.st_ino, status.st_dev) != expected
    if other or not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "replaced while it was looked at", name)
    return descriptor


def open_below(home: int, path: str) -> int:
    """A regular file below the home, every folder on the way opened without following links."""
    folder, _slash, name = path.rpartition("/")
    with contextlib.ExitStack() as stack:
        return open_file(name, _open_folder(home, folder, stack))


def _open_folder(home: int, path: str, stack: contextlib.ExitStack) -> int:
    """A folder below the home, or the home itself where the path is empty."""
    current = home
    for folder in path.split("/") if path else ():
        current = os.open(folder, _FOLDER_FLAGS, dir_fd=current)
        stack.callback(os.close, current)
    return current


def files_below(home: int, path: str) -> Iterator[tuple[str, os.stat_result]]:
    """The regular files below a folder of the home, at any depth; raises OSError. What vanishes
    meanwhile is left out."""
    with contextlib.ExitStack() as stack:
        found = os.fwalk(".", dir_fd=_open_folder(home, path, stack), onerror=_unless_vanished)
        for folder, _folders, names, descriptor in found:
            if folder.count("/") >= MAXIMUM_DEPTH:
                raise OSError(errno.ENAMETOOLONG, "nested too deeply", path)
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield os.path.normpath(f"{path}/{folder}/{name}"), status


def _unless_vanished(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


class Walk:
    """One walk over a home. `measure` also goes into what is dropped, to count it."""

    def __init__(self, classifier: Classifier, *, measure: bool = False) -> None:
        self._classifier = classifier
        self._measure = measure
        self.troubles: list[Trouble] = []

    def run(self, home: int, visit: Visit) -> None:
        """Calls `visit(entry, folder descriptor, name)`; the home itself has the path ''."""
        status = os.fstat(home)
        visit(Entry("", DIRECTORY, status, KEEP, -1), home, ".")
        self._folder(home, "", self._classifier.root, None, 0, visit)

    def _folder(
        self,
        folder: int,
        prefix: str,
        state: State,
        unknown_root: str | None,
        depth: int,
        visit: Visit,
    ) -> None:
        try:
            with os.scandir(folder) as listing:
                names = sorted(listing, key=lambda item: item.name)
        except OSError as error:
            self._trouble(prefix.rstrip("/"), KEEP, error)
            return
        classification = self._classifier.classification
        for item in names:
            name = item.name
            path = prefix + name
            try:
                status = item.stat(follow_symlinks=False)
            except OSError as error:
                self._trouble(path, classification(state.file(name)), error)
                continue
            kind = _TYPES.get(stat.S_IFMT(status.st_mode), OTHER)
            if kind == DIRECTORY:
                self._subfolder(folder, name, path, status, state, unknown_root, depth, visit)
                continue
            target = None
            if kind == SYMLINK:
                number = state.link(name)
                try:
                    target = os.readlink(name, dir_fd=folder)
                except OSError as error:
                    self._trouble(path, classification(number), error)
                    continue
            else:
                number = state.file(name)
            entry = Entry(path, kind, status, classification(number), number, target)
            if entry.classification == UNKNOWN:
                entry.unknown_root = unknown_root or path
            visit(entry, folder, name)

    def _subfolder(
        self,
        parent: int,
        name: str,
        path: str,
        status: os.stat_result,
        state: State,
        unknown_root: str | None,
        depth: int,
        visit: Visit,
    ) -> None:
        inside = self._classifier.enter(state, name)
        classification = self._classifier.classification(inside.cover)
        entry = Entry(path, DIRECTORY, status, classification, inside.cover)
        if classification == UNKNOWN:
            if inside.known:
                unknown_root = None  # rules speak of what is in it: not unknown as a whole
            else:
                unknown_root = entry.unknown_root = unknown_root or path
        visit(entry, parent, name)
        if not self._measure and not self._classifier.worth_entering(inside):
            return
        if depth >= MAXIMUM_DEPTH:
            self.troubles.append(Trouble(path, classification, "nested too deeply", False))
            return
        try:
            descriptor = os.open(name, _FOLDER_FLAGS, dir_fd=parent)
        except OSError as error:
            self._trouble(path, classification, error)
            return
        try:
            self._folder(descriptor, path + "/", inside, unknown_root, depth + 1, visit)
        finally:
            os.close(descriptor)

    def _trouble(self, path: str, classification: str, error: OSError) -> None:
        vanished = error.errno in (errno.ENOENT, errno.ESTALE)
        reason = "vanished" if vanished else error.strerror or str(error)
        self.troubles.append(Trouble(path, classification, reason, vanished))


class _Named(Protocol):
    path: str


Folder = TypeVar("Folder", bound=_Named)


class FolderStack(Generic[Folder]):
    """Holds folders back until something in them is archived; then they come first."""

    def __init__(self) -> None:
        self._pending: list[Folder] = []

    def push(self, folder: Folder) -> None:
        """A folder that is archived only for what is in it."""
        self._drop_finished(folder.path)
        self._pending.append(folder)

    def flush(self, path: str) -> list[Folder]:
        """The folders on the way to an archived path that were not given out yet."""
        if not self._pending:
            return []
        self._drop_finished(path)
        ready, self._pending = self._pending, []
        return ready

    def _drop_finished(self, path: str) -> None:
        while self._pending and not path.startswith(self._pending[-1].path + "/"):
            self._pending.pop()
