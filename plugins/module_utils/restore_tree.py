# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting an extracted archive into the shape of the home it came from.

Everything works on open directories and never follows a symbolic link: the tree was written
by an archive that nobody vouches for, and this code runs as root. Each step may be repeated
after an interruption and ends in the same tree.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .restore_manifest import Entry, RestoreError, RestoreManifest, show

DEPTH_LIMIT = 200
FIRST = 5
BLOCK = 512  # what st_blocks counts in, on every file system
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Owners:
    """Who owns what on the target: the agent's user stands for the archived one."""

    archived_uid: int | None
    archived_gid: int | None
    uid: int
    gid: int
    user_id: Callable[[str], int | None]
    group_id: Callable[[str], int | None]
    allowed_groups: frozenset[int] = frozenset()

    def of(self, entry: Entry) -> tuple[int, int]:
        return self._user(entry), self._group(entry)

    def _user(self, entry: Entry) -> int:
        if entry.uid is None or entry.uid == self.archived_uid:
            return self.uid
        # Only root's files stay root's: any other account of the target has no part in this.
        return 0 if entry.uid == 0 and entry.user in ("", "root") else self.uid

    def _group(self, entry: Entry) -> int:
        if entry.gid is None or entry.gid == self.archived_gid:
            return self.gid
        known = self.group_id(entry.group) if entry.group else None
        return known if known is not None and known in self.allowed_groups else self.gid


@dataclass
class Applied:
    """What was done, for the report."""

    placed: int = 0
    unlisted: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    reduced: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)  # after the manifest had its digest
    entries: int = 0

    def report(self) -> dict[str, object]:
        lists = {
            name: {"count": len(paths), "first": [show(path) for path in paths[:FIRST]]}
            for name, paths in (
                ("unlisted", self.unlisted),
                ("missing", self.missing),
                ("mismatched", self.mismatched),
                ("reduced", self.reduced),
                ("rewritten", self.rewritten),
            )
        }
        return {"placed": self.placed, "entries": self.entries, **lists}


@contextlib.contextmanager
def opened(name: str, parent: int | None = None) -> Iterator[int]:
    """One directory, never through a symbolic link."""
    descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def descend(root: int, path: str, create: bool = False) -> int:
    """An open descriptor of the directory below root; the caller closes it."""
    current = os.dup(root)
    for part in [part for part in path.split("/") if part]:
        try:
            following = _step(current, part, create)
        except NotADirectoryError as error:
            raise RestoreError(
                f"{show(path)!r} leads through {show(part)!r}, which is not a folder "
                "(a symbolic link or a file).",
                "Nothing was placed through it. The archive is not to be trusted: "
                "choose an earlier one.",
                path=show(path),
            ) from error
        finally:
            os.close(current)
        current = following
    return current


def _step(parent: int, name: str, create: bool) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
        os.mkdir(name, 0o700, dir_fd=parent)
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotADirectoryError(error.errno, os.strerror(error.errno), name) from error
        raise


def exists(name: str, parent: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def remove(name: str, parent: int, depth: int = 0) -> None:
    """Remove one entry and everything below it; what is not there is no error."""
    found = exists(name, parent)
    if found is None:
        return
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=parent)
        return
    if depth > 2 * DEPTH_LIMIT:
        raise RestoreError(
            f"{show(name)!r} lies deeper than {2 * DEPTH_LIMIT} folders.",
            "Remove the staging folder by hand and choose an earlier archive.",
        )
    if not found.st_mode & stat.S_IWUSR or not found.st_mode & stat.S_IXUSR:
        os.chmod(name, 0o700, dir_fd=parent)
    with opened(name, parent) as directory:
        for child in os.listdir(directory):
            remove(child, directory, depth + 1)
    os.rmdir(name, dir_fd=parent)


def tree_size(root: int) -> tuple[int, int]:
    """Entries and bytes below an open directory; what vanishes meanwhile is not counted."""
    count = size = 0
    with os.scandir(root) as found:
        for item in found:
            with contextlib.suppress(FileNotFoundError):
                more, below = _size_of(item, root)
                count, size = count + more, size + below
    return count, size


def _size_of(item: os.DirEntry[str], root: int) -> tuple[int, int]:
    if item.is_dir(follow_symlinks=False):
        with opened(item.name, root) as below:
            count, size = tree_size(below)
        return count + 1, size
    status = item.stat(follow_symlinks=False)
    return 1, status.st_size if stat.S_ISREG(status.st_mode) else 0


def occupied(root: int, depth: int = 0) -> int:
    """Bytes that removing everything below an open directory would free; of what lies too deep, none."""
    size = 0
    if depth > DEPTH_LIMIT:
        return 0
    for name in os.listdir(root):
        with contextlib.suppress(FileNotFoundError):  # borg may still be at work
            status = os.stat(name, dir_fd=root, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                with opened(name, root) as below:
                    size += occupied(below, depth + 1)
                size += status.st_blocks * BLOCK
            else:
                size += status.st_blocks * BLOCK // status.st_nlink
    return size


class Apply:
    """One extracted archive becomes one home, beside it and not yet in its place."""

    def __init__(
        self, staging: int, manifest: RestoreManifest, owners: Owners, change_owners: bool = True
    ) -> None:
        self.staging = staging
        self.manifest = manifest
        self.owners = owners
        self.change_owners = change_owners
        self.applied = Applied()
        self._seen: set[str] = set()

    def run(self) -> Applied:
        self._take_home()
        with opened("home", self.staging) as home:
            self._place(home)
            self._make_fifos(home)
            self._finish(home, "", 0)
            self._attributes_of_directory(home, "")
        self.applied.missing = sorted(
            path
            for path, entry in self.manifest.entries.items()
            if path
            and path not in self._seen
            and entry.type != "socket"
            and path not in self.manifest.companions
        )
        return self.applied

    def _take_home(self) -> None:
        """The extracted home moves up in one step; a second run finds it moved."""
        if exists("home", self.staging) is not None:
            return
        for home in (self.manifest.agent.home, self.manifest.agent.home_real):
            parent, _unused, name = home.strip("/").rpartition("/")
            try:
                above = descend(self.staging, f"tree/{parent}")
            except FileNotFoundError:
                continue
            try:
                found = exists(name, above)
                if found is not None and stat.S_ISDIR(found.st_mode):
                    os.rename(name, "home", src_dir_fd=above, dst_dir_fd=self.staging)
                    return
            finally:
                os.close(above)
        os.mkdir("home", 0o700, dir_fd=self.staging)

    def _place(self, home: int) -> None:
        """Scrubbed copies and database copies take the places the manifest gives them."""
        folders = {"scrubbed": "scrubbed", "database": "databases"}
        run = f"tree/run/lifeboat/{self.manifest.agent.name}"
        for entry in self.manifest.entries.values():
            if entry.stored != "home":
                self._place_one(home, f"{run}/{folders[entry.stored]}", entry)

    def _place_one(self, home: int, copies: str, entry: Entry) -> None:
        parent, _unused, name = entry.path.rpartition("/")
        try:
            source = descend(self.staging, f"{copies}/{parent}")
        except FileNotFoundError:
            return  # placed by an earlier run, or missing: the count at the end tells
        try:
            found = exists(name, source)
            if found is None:
                return
            if not stat.S_ISREG(found.st_mode):
                raise RestoreError(
                    f"The stored copy of {show(entry.path)!r} is not a plain file.",
                    "Nothing was placed. Choose an earlier archive.",
                    path=show(entry.path),
                )
            destination = descend(home, parent, create=True)
            try:
                for leftover in ("-wal", "-shm", "-journal") if entry.stored == "database" else ():
                    remove(name + leftover, destination)
                remove(name, destination)
                os.rename(name, name, src_dir_fd=source, dst_dir_fd=destination)
                self.applied.placed += 1
            finally:
                os.close(destination)
        finally:
            os.close(source)

    def _make_fifos(self, home: int) -> None:
        """A named pipe has no content to archive: its name and mode are all there is to it."""
        for entry in self.manifest.entries.values():
            if entry.type == "fifo":
                parent, _unused, name = entry.path.rpartition("/")
                folder = descend(home, parent, create=True)
                try:
                    if exists(name, folder) is None:
                        os.mkfifo(name, 0o600, dir_fd=folder)
                finally:
                    os.close(folder)

    def _finish(self, directory: int, path: str, depth: int) -> None:
        """Owner, mode and times of everything below, children before their folder."""
        if depth > DEPTH_LIMIT:
            raise RestoreError(
                f"{show(path[:80])!r} lies deeper than {DEPTH_LIMIT} folders.",
                "Nothing was switched. Choose an earlier archive.",
            )
        with os.scandir(directory) as found:
            items = [(item.name, item.is_dir(follow_symlinks=False)) for item in found]
        for name, is_directory in items:
            below = f"{path}/{name}" if path else name
            entry = self.manifest.entries.get(below)
            if entry is None and not self._tolerated(below, is_directory):
                self.applied.unlisted.append(below)
                remove(name, directory)
                continue
            self._seen.add(below)
            self.applied.entries += 1
            if is_directory:
                self._descend_and_finish(directory, name, below, depth)
            else:
                self._attributes(directory, name, below, entry)

    def _descend_and_finish(self, parent: int, name: str, path: str, depth: int) -> None:
        try:
            child = os.open(name, _DIRECTORY, dir_fd=parent)
        except PermissionError:
            os.chmod(name, 0o700, dir_fd=parent)
            child = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            self._finish(child, path, depth + 1)
            self._attributes_of_directory(child, path)
        finally:
            os.close(child)

    def _tolerated(self, path: str, is_directory: bool) -> bool:
        """A WAL that belongs to a listed database, and folders on the way to listed entries."""
        if path in self.manifest.companions:
            return True
        return is_directory and path in self._folders()

    def _folders(self) -> frozenset[str]:
        if not hasattr(self, "_folder_cache"):
            found: set[str] = set()
            for path in self.manifest.entries:
                parent = path.rpartition("/")[0]
                while parent and parent not in found:
                    found.add(parent)
                    parent = parent.rpartition("/")[0]
            self._folder_cache = frozenset(found)
        return self._folder_cache

    def _attributes_of_directory(self, descriptor: int, path: str) -> None:
        entry = self.manifest.entries.get(path)
        if entry is None:
            self._chown(descriptor, self.owners.uid, self.owners.gid)
            return
        if not entry.is_directory:
            self.applied.mismatched.append(path)
        self._chown(descriptor, *self.owners.of(entry))
        if entry.mode is not None:
            os.fchmod(descriptor, entry.mode & ~stat.S_ISUID)
        if entry.mtime_ns is not None:
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))

    def _attributes(self, parent: int, name: str, path: str, entry: Entry | None) -> None:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        kind = stat.S_IFMT(found.st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO):
            self.applied.mismatched.append(path)
            remove(name, parent)
            return
        if entry is not None and not _matches(kind, entry):
            self.applied.mismatched.append(path)
        owner = self.owners.of(entry) if entry else (self.owners.uid, self.owners.gid)
        if kind == stat.S_IFLNK:
            self._attributes_of_link(parent, name, owner, entry)
        else:
            if entry is not None and _rewritten(found.st_mtime_ns, entry):
                self.applied.rewritten.append(path)
            self._attributes_of_file(parent, name, path, owner, entry)

    def _attributes_of_link(
        self, parent: int, name: str, owner: tuple[int, int], entry: Entry | None
    ) -> None:
        if self.change_owners:
            os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
        if entry is not None and entry.mtime_ns is not None:
            times = (entry.mtime_ns, entry.mtime_ns)
            os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _attributes_of_file(
        self, parent: int, name: str, path: str, owner: tuple[int, int], entry: Entry | None
    ) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=parent)
        except PermissionError:
            os.chmod(name, 0o600, dir_fd=parent)
            descriptor = os.open(name, flags, dir_fd=parent)
        try:
            self._chown(descriptor, *owner)
            mode = entry.mode if entry is not None and entry.mode is not None else 0o600
            if mode & (stat.S_ISUID | stat.S_ISGID):
                self.applied.reduced.append(path)
                mode &= ~(stat.S_ISUID | stat.S_ISGID)
            os.fchmod(descriptor, mode)
            if (
                entry is not None
                and entry.mtime_ns is not None
                and path not in self.applied.rewritten
            ):
                os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(descriptor)

    def _chown(self, descriptor: int, uid: int, gid: int) -> None:
        if self.change_owners:
            os.fchown(descriptor, uid, gid)


def _rewritten(archived_mtime_ns: int, entry: Entry) -> bool:
    """Whether the agent wrote to a file between its digest and its archiving.

    The archive tells by the time that it holds. A copy has the time of the copying instead.
    """
    return (
        entry.stored == "home" and entry.sha256 is not None and archived_mtime_ns != entry.mtime_ns
    )


def _matches(kind: int, entry: Entry) -> bool:
    if entry.type in ("file", "hardlink"):
        return kind == stat.S_IFREG
    expected = {"symlink": stat.S_IFLNK, "fifo": stat.S_IFIFO}.get(entry.type)
    return kind == expected
