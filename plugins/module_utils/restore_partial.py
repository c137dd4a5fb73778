# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restoring a few paths into a home that stays: one memory file, one session, one database.

Each path is exchanged in one step, and what stood there is kept beside the home in a folder of
its own, with a note of what belongs where, so that an undo puts exactly that back. Which paths
are done is told by inode numbers written down before the first of them is touched. What stood in
the home is never removed: neither by giving up half way, nor when an agent wrote it since.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .restore_manifest import (
    Entry,
    RestoreError,
    RestoreManifest,
    outermost,
    show,
)
from .restore_note import CAME, Move, inode_of, read_note, to_undo
from .restore_switch import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RenameAt,
    renameat2,
)
from .restore_tree import descend, exists, opened, remove

MADE = "folder.new"
SIDE_FILES = ("-wal", "-shm", "-journal")


def choose(manifest: RestoreManifest, only: Sequence[str]) -> RestoreManifest:
    """The manifest of the chosen paths and everything below them."""
    chosen: dict[str, Entry] = {}
    for path in only:
        chosen.update(_restorable(path, manifest))
    databases = tuple(item for item in manifest.databases if item.path in chosen)
    return replace(manifest, entries=chosen, databases=databases)


def _restorable(path: str, manifest: RestoreManifest) -> dict[str, Entry]:
    """The entries of a path, or why it cannot be restored by itself."""
    if path in ("", "."):
        raise RestoreError(
            f"{path!r} is the home itself, not a path below it.",
            "Leave only= out to restore the whole home, or name what it shall bring.",
        )
    for database in manifest.databases:
        if path in (f"{database.path}{ending}" for ending in SIDE_FILES):
            raise RestoreError(
                f"{show(path)!r} is the log of a database and is never restored without it.",
                f"Name the database: only={show(database.path)}; it comes with its log.",
            )
    below = {name: entry for name, entry in manifest.entries.items() if _is_below(name, path)}
    if not below:
        raise RestoreError(
            f"The archive holds no {show(path)!r}.",
            f"Similar: {', '.join(_similar(path, manifest)) or 'nothing'}. "
            "What was scrubbed or never kept cannot be restored; dry_run=true lists the rest.",
        )
    if all(entry.type == "socket" for entry in below.values()):
        raise RestoreError(
            f"The archive holds no content of {show(path)!r}: it was a socket.",
            "Leave it out; the program that listens there makes it anew.",
        )
    return below


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
            found += [f"{home.strip('/')}/{path}" for home in sorted(homes)]
        found += [f"{run}/scrubbed/{path}"] if "scrubbed" in kinds else []
        found += [f"{run}/databases/{path}"] if "database" in kinds else []
    for path in sorted(manifest.companions):
        found += [f"{home.strip('/')}/{path}" for home in sorted(homes)]
    return found


def _is_below(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}/")


def plan(home: int, staged: int, manifest: RestoreManifest, only: Sequence[str]) -> list[Move]:
    """What goes where, logs first: a log must never be found beside a database not its own.

    The logs of a database that lies in a chosen folder go with the folder.
    """
    paths = outermost(only)
    moves = []
    for path in paths:
        new = inode_of(staged, path)
        if not new:
            raise RestoreError(
                f"The manifest lists {show(path)!r}, but the archive does not hold it.",
                "Nothing was changed. Choose another archive, or leave the path out of only=.",
            )
        moves.append(Move(path, new, _stands(home, path)))
    logs = [
        Move(f"{database.path}{ending}", 0, old)
        for database in manifest.databases
        for ending in SIDE_FILES
        if database.path in paths and (old := inode_of(home, f"{database.path}{ending}"))
    ]
    return [*sorted(logs, key=lambda move: move.path), *moves]


def _stands(home: int, path: str) -> int:
    try:
        return inode_of(home, path)
    except RestoreError as error:
        raise RestoreError(
            f"In the home, {error.message}",
            "Nothing was changed. Paths are not restored through a link: restore to a folder "
            "(-e target=HOST:/path) and copy by hand.",
        ) from error


class PartialSwitch:
    """The chosen paths take their places; what stood there is kept beside the home."""

    def __init__(
        self,
        home: int,
        staged: int,
        aside: int,
        entries: Mapping[str, Entry],
        owner: tuple[int, int],
        rename: RenameAt = renameat2,
    ) -> None:
        self.home = home
        self.staged = staged
        self.aside = aside
        self.entries = entries
        self.owner = owner
        self.rename = rename

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
                _swap(staged, home, name, self.aside, f"home/{parent}", self.rename)
            _keep(name, move, staged, aside, self.rename)
        finally:
            os.close(staged)

    def _parent_in_home(self, path: str) -> int:
        """The folder that a path goes into; missing ones are made as they were archived."""
        current = os.dup(self.home)
        done = ""
        for part in [part for part in path.split("/") if part]:
            done = f"{done}/{part}" if done else part
            try:
                if exists(part, current) is None:
                    self._make_folder(done, part, current)
                following = descend(current, part)
            finally:
                os.close(current)
            current = following
        return current

    def _make_folder(self, path: str, name: str, parent: int) -> None:
        """In its place only when it has its owner and mode: a cut leaves none of root's there."""
        remove(MADE, self.aside)
        os.mkdir(MADE, 0o700, dir_fd=self.aside)
        with opened(MADE, self.aside) as made:
            entry = self.entries.get(path)
            if os.geteuid() == 0:
                os.fchown(made, *self.owner)
            os.fchmod(made, entry.mode & 0o777 if entry and entry.mode is not None else 0o700)
        os.rename(MADE, name, src_dir_fd=self.aside, dst_dir_fd=parent)


def _swap(
    source: int, place: int, name: str, aside: int, spare_path: str, rename: RenameAt
) -> None:
    """What waited in source stands in place. What stood there is in source, or in the spare folder
    aside where the file system cannot exchange."""
    try:
        rename(source, name, place, name, RENAME_EXCHANGE)
        return
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
    spare = descend(aside, spare_path, create=True)
    try:
        rename(place, name, spare, name, RENAME_NOREPLACE)
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=place)
    finally:
        os.close(spare)


def _keep(name: str, move: Move, staged: int, aside: int, rename: RenameAt) -> None:
    """Whatever lies in the staged place and was not staged stood in the home."""
    waiting = exists(name, staged)
    if waiting is not None and waiting.st_ino != move.new:
        rename(staged, name, aside, name, RENAME_NOREPLACE)


def undo(home: int, aside: int, rename: RenameAt = renameat2) -> list[str]:
    """Everything that the note names is put back; what was new is kept in its stead."""
    return _put_back(home, aside, to_undo(home, aside), rename)


def give_up(home: int, staged: int, aside: int, rename: RenameAt = renameat2) -> list[str]:
    """The home is again what it was before the switch, from wherever that was cut. What had come
    into the home is kept aside; what is still staged never stood there."""
    for move in read_note(aside):
        if inode_of(staged, move.path) not in (0, move.new):
            parent, _unused, name = move.path.rpartition("/")
            waiting = descend(staged, parent)
            kept = descend(aside, f"home/{parent}", create=True)
            try:
                _keep(name, move, waiting, kept, rename)
            finally:
                os.close(kept)
                os.close(waiting)
    came = [
        move for move in to_undo(home, aside) if move.old or inode_of(staged, move.path) != move.new
    ]
    return _put_back(home, aside, came, rename)


def _put_back(home: int, aside: int, moves: Sequence[Move], rename: RenameAt) -> list[str]:
    noted = {move.path for move in read_note(aside)}
    for move in reversed(moves):
        parent, _unused, name = move.path.rpartition("/")
        kept = descend(aside, f"home/{parent}", create=True)
        place = descend(home, parent, create=True)
        try:
            for ending in SIDE_FILES if move.new else ():
                # Its own log, written since: it must not be found beside the former database.
                if f"{move.path}{ending}" not in noted and exists(name + ending, place):
                    rename(place, name + ending, kept, name + ending, RENAME_NOREPLACE)
            if not move.old:
                rename(place, name, kept, name, RENAME_NOREPLACE)
            elif exists(name, place) is None:
                rename(kept, name, place, name, RENAME_NOREPLACE)
            else:
                _swap(kept, place, name, aside, f"{CAME}/{parent}", rename)
        finally:
            os.close(place)
            os.close(kept)
    return [move.path for move in reversed(moves)]


def report(moves: Sequence[Move]) -> list[dict[str, Any]]:
    return [{"path": show(move.path), "replaced": bool(move.old)} for move in moves if move.new]
