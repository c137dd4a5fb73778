# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder that keeps what a restore of single paths replaced, and its note of what belongs where."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass
from typing import Any

from .restore_manifest import RestoreError, check_relative
from .restore_tree import descend, exists, opened

NOTE = "paths.json"
ENDING = ".only"
CAME = "came"  # what a restore brought, where a file system cannot exchange


@dataclass(frozen=True)
class Move:
    """One path: what will stand there, what stands there now (0 for nothing)."""

    path: str
    new: int
    old: int


def read_note(aside: int) -> list[Move]:
    try:
        descriptor = os.open(NOTE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=aside)
    except FileNotFoundError:
        return []
    with os.fdopen(descriptor, encoding="utf-8", errors="surrogateescape") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return []
        try:
            return [_move_of(item) for item in _listed(json.load(stream))]
        except (ValueError, TypeError, KeyError) as error:
            folder = os.readlink(f"/proc/self/fd/{aside}")
            raise RestoreError(
                f"The note {folder}/{NOTE} of the paths that a restore replaced cannot be read: "
                f"{error!r}. Nothing was changed.",
                f"What it had replaced lies in {folder}/home and, where the restore was cut, in the "
                "staging folder beside it. Put back by hand what you want back, move both folders "
                "away, and run again.",
            ) from error


def _listed(raw: Any) -> list[Any]:
    if not isinstance(raw, list):
        raise TypeError("it is no list of paths")
    return raw


def _move_of(item: Any) -> Move:
    return Move(check_relative(item["path"]), int(item["new"]), int(item["old"]))


def write_note(aside: int, moves: list[Move]) -> list[Move]:
    """Written before anything is moved; what was noted is never planned anew."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(f"{NOTE}.new", flags, 0o600, dir_fd=aside)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump([asdict(move) for move in moves], stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(f"{NOTE}.new", NOTE, src_dir_fd=aside, dst_dir_fd=aside)
    os.fsync(aside)
    return moves


def to_undo(home: int, aside: int) -> list[Move]:
    """Those of the noted moves that were made and not put back yet."""
    found = []
    for move in read_note(aside):
        held = inode_of(aside, f"home/{move.path}")
        if held == move.old if move.old else not held and inode_of(home, move.path):
            found.append(move)
    return found


def inode_of(root: int, path: str) -> int:
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


def put_away(parent: int, name: str, word: str) -> str:
    """A folder aside whose paths are back is not taken for one that an undo can go back to."""
    after = f".{word}-".join(name.rsplit(".before-", 1))
    os.rename(name, after, src_dir_fd=parent, dst_dir_fd=parent)
    return after


def is_spent(parent: int, name: str, home_name: str) -> bool:
    """Whether a folder of single paths holds nothing, and nothing could be undone with it."""
    aside = open_aside(parent, name)
    try:
        if holds_files(aside):
            return False
        if exists(home_name, parent) is None:
            return True
        with opened(home_name, parent) as home:
            return not to_undo(home, aside)
    except RestoreError:  # a link in the home now: the undo itself says so
        return False
    finally:
        os.close(aside)


def holds_files(aside: int) -> bool:
    return any(_has_files(folder, aside) for folder in ("home", CAME))


def _has_files(name: str, parent: int) -> bool:
    found = exists(name, parent)
    if found is None or not stat.S_ISDIR(found.st_mode):
        return found is not None
    with opened(name, parent) as folder:
        return any(_has_files(item, folder) for item in os.listdir(folder))
