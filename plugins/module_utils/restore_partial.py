# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restoring a few paths into a home that stays: one memory file, one session, one database.

Each path is exchanged in one step, and what stood there is kept beside the home in a folder of
its own, with a note of what belongs where, so that an undo puts exactly that back. Which paths
are done is told by inode numbers written down before the first of them is touched.
"""

from __future__ import annotations

import difflib
import errno
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from .restore_manifest import Entry, RestoreError, RestoreManifest, check_relative, show
from .restore_switch import RENAME_EXCHANGE, RENAME_NOREPLACE, RenameAt, renameat2
from .restore_tree import descend, exists, opened

NOTE = "paths.json"
ENDING = ".only"
SIDE_FILES = ("-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Move:
    """One path: what will stand there, what stands there now (0 for nothing)."""

    path: str
    new: int
    old: int


def choose(manifest: RestoreManifest, only: Sequence[str]) -> RestoreManifest:
    """The manifest of the chosen paths and everything below them."""
    chosen: dict[str, Entry] = {}
    for path in only:
        below = {
            name: entry
            for name, entry in manifest.entries.items()
            if name == path or name.startswith(f"{path}/") or path == ""
        }
        if not below:
            raise RestoreError(
                f"The archive holds no {show(path)!r}.",
                f"Similar: {', '.join(_similar(path, manifest)) or 'nothing'}. "
                "What was scrubbed or never kept cannot be restored; dry_run=true lists the rest.",
            )
        chosen.update(below)
    databases = tuple(item for item in manifest.databases if item.path in chosen)
    return replace(manifest, entries=chosen, databases=databases)


def _similar(path: str, manifest: RestoreManifest) -> list[str]:
    names = [show(name) for name in manifest.entries if name]
    ending = path.rpartition("/")[2]
    inside = [name for name in names if ending and ending in name][:5]
    return inside or difflib.get_close_matches(path, names, n=5, cutoff=0.5)


def archive_paths(manifest: RestoreManifest, only: Sequence[str]) -> list[str]:
    """What borg is asked for: the paths in the home, their copies, and the manifest itself."""
    run = f"run/lifeboat/{manifest.agent.name}"
    stored = {entry.stored for entry in manifest.entries.values()}
    homes = {manifest.agent.home, manifest.agent.home_real}
    found = [f"{run}/manifest.json"]
    for path in only:
        below = [entry for name, entry in manifest.entries.items() if _is_below(name, path)]
        kinds = {entry.stored for entry in below} & stored
        if "home" in kinds:
            found += [f"{home.strip('/')}/{path}".rstrip("/") for home in sorted(homes)]
        found += [f"{run}/scrubbed/{path}".rstrip("/")] if "scrubbed" in kinds else []
        found += [f"{run}/databases/{path}".rstrip("/")] if "database" in kinds else []
    for path in sorted(manifest.companions):
        found += [f"{home.strip('/')}/{path}" for home in sorted(homes)]
    return found


def _is_below(name: str, path: str) -> bool:
    return name == path or path == "" or name.startswith(f"{path}/")


class PartialSwitch:
    """The chosen paths take their places; what stood there is kept beside the home."""

    def __init__(
        self,
        home: int,
        staged: int,
        aside: int,
        manifest: RestoreManifest,
        owner: tuple[int, int],
        rename: RenameAt = renameat2,
    ) -> None:
        self.home = home
        self.staged = staged
        self.aside = aside
        self.manifest = manifest
        self.owner = owner
        self.rename = rename

    def plan(self, only: Sequence[str]) -> list[Move]:
        """Noted before anything is moved; a plan that was noted is never made anew."""
        noted = read_note(self.aside)
        if noted:
            return noted
        moves = []
        for path in only:
            new = _inode(self.staged, path)
            if not new:
                raise RestoreError(f"{show(path)!r} was not staged.", "Run the restore again.")
            moves.append(Move(path, new, _inode(self.home, path)))
        for database in self.manifest.databases:
            moves += [
                Move(f"{database.path}{ending}", 0, old)
                for ending in SIDE_FILES
                if (old := _inode(self.home, f"{database.path}{ending}"))
            ]
        # Logs go first: a log must never be found beside a database that is not its own.
        write_note(self.aside, sorted(moves, key=lambda move: (move.new != 0, move.path)))
        return read_note(self.aside)

    def run(self, moves: Sequence[Move]) -> list[str]:
        for move in moves:
            parent, _unused, name = move.path.rpartition("/")
            home = self._parent_in_home(parent)
            aside = descend(self.aside, f"home/{parent}", create=True)
            try:
                self._move(move, name, parent, home, aside)
            finally:
                os.close(aside)
                os.close(home)
        return [move.path for move in moves if move.old]

    def _move(self, move: Move, name: str, parent: str, home: int, aside: int) -> None:
        stands = exists(name, home)
        inode = stands.st_ino if stands else 0
        if not move.new:
            if inode == move.old:
                self.rename(home, name, aside, name, RENAME_NOREPLACE)
            return
        staged = descend(self.staged, parent)
        try:
            if inode == move.new:  # an earlier run came this far
                pass
            elif inode == 0:
                os.rename(name, name, src_dir_fd=staged, dst_dir_fd=home)
            else:
                self._exchange(name, staged, home, aside)
            waiting = exists(name, staged)
            if waiting is not None and waiting.st_ino != move.new:
                self.rename(staged, name, aside, name, RENAME_NOREPLACE)
        finally:
            os.close(staged)

    def _exchange(self, name: str, staged: int, home: int, aside: int) -> None:
        try:
            self.rename(staged, name, home, name, RENAME_EXCHANGE)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
        os.rename(name, name, src_dir_fd=home, dst_dir_fd=aside)
        os.rename(name, name, src_dir_fd=staged, dst_dir_fd=home)

    def _parent_in_home(self, path: str) -> int:
        """The folder that a path goes into; missing ones are made as they were archived."""
        current = os.dup(self.home)
        done = ""
        for part in [part for part in path.split("/") if part]:
            done = f"{done}/{part}" if done else part
            try:
                missing = exists(part, current) is None
                following = descend(current, part, create=True)
            finally:
                os.close(current)
            current = following
            if missing:
                entry = self.manifest.entries.get(done)
                if os.geteuid() == 0:
                    os.fchown(current, *self.owner)
                os.fchmod(current, (entry.mode if entry and entry.mode is not None else 0o700))
        return current


def undo(home: int, aside: int, rename: RenameAt = renameat2) -> list[str]:
    """Everything that the note names is put back; what was new is kept in its stead."""
    done = []
    moves = read_note(aside)
    noted = {move.path for move in moves}
    for move in reversed(moves):
        parent, _unused, name = move.path.rpartition("/")
        kept = descend(aside, f"home/{parent}", create=True)
        place = descend(home, parent, create=True)
        try:
            held = exists(name, kept)
            stands = exists(name, place)
            for ending in SIDE_FILES if move.new else ():
                # Its own log, written since: it must not be found beside the former database.
                if f"{move.path}{ending}" not in noted and exists(name + ending, place):
                    rename(place, name + ending, kept, name + ending, RENAME_NOREPLACE)
            if move.old and held is not None and held.st_ino == move.old:
                if stands is None:
                    rename(kept, name, place, name, RENAME_NOREPLACE)
                else:
                    rename(kept, name, place, name, RENAME_EXCHANGE)
                done.append(move.path)
            elif not move.old and stands is not None and held is None:
                rename(place, name, kept, name, RENAME_NOREPLACE)
                done.append(move.path)
        finally:
            os.close(place)
            os.close(kept)
    return done


def read_note(aside: int) -> list[Move]:
    try:
        descriptor = os.open(NOTE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=aside)
    except FileNotFoundError:
        return []
    with os.fdopen(descriptor, encoding="utf-8", errors="surrogateescape") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return []
        raw = json.load(stream)
    return [Move(check_relative(item["path"]), int(item["new"]), int(item["old"])) for item in raw]


def write_note(aside: int, moves: Sequence[Move]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(f"{NOTE}.new", flags, 0o600, dir_fd=aside)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump([asdict(move) for move in moves], stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(f"{NOTE}.new", NOTE, src_dir_fd=aside, dst_dir_fd=aside)


def _inode(root: int, path: str) -> int:
    parent, _unused, name = path.rpartition("/")
    try:
        folder = descend(root, parent)
    except FileNotFoundError:
        return 0
    try:
        found = exists(name, folder)
        return found.st_ino if found else 0
    finally:
        os.close(folder)


def open_aside(parent: int, name: str) -> int:
    """The folder for what is replaced, made by root and closed to others."""
    if exists(name, parent) is None:
        os.mkdir(name, 0o700, dir_fd=parent)
    with opened(name, parent) as found:
        if os.fstat(found).st_uid != os.geteuid():
            raise RestoreError(f"{name!r} was not made by a restore.", "Move it away by hand.")
        return os.dup(found)


def report(moves: Sequence[Move]) -> list[dict[str, Any]]:
    return [{"path": show(move.path), "replaced": bool(move.old)} for move in moves if move.new]
