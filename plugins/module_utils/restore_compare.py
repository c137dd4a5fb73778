# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore would change in a home: nothing is written, every file is told with its size."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .restore_manifest import Entry, RestoreManifest, show
from .restore_tree import DEPTH_LIMIT, exists, opened

LISTED = 200


@dataclass
class Change:
    """One kind of change: how many, how large, and the first of them by name."""

    count: int = 0
    bytes: int = 0
    paths: list[dict[str, Any]] = field(default_factory=list)

    def add(self, path: str, size: int, before: int | None = None) -> None:
        self.count += 1
        self.bytes += size
        if len(self.paths) < LISTED:
            known = {} if before is None else {"bytes_now": before}
            self.paths.append({"path": show(path), "bytes": size, **known})

    def report(self) -> dict[str, Any]:
        return {"count": self.count, "bytes": self.bytes, "paths": self.paths}


@dataclass(frozen=True)
class Comparison:
    added: Change = field(default_factory=Change)
    changed: Change = field(default_factory=Change)
    unchanged: Change = field(default_factory=Change)
    left_out: Change = field(default_factory=Change)

    def report(self) -> dict[str, Any]:
        unchanged = {"count": self.unchanged.count, "bytes": self.unchanged.bytes}
        return {
            "added": self.added.report(),
            "changed": self.changed.report(),
            "unchanged": unchanged,
            "left_out": self.left_out.report(),
        }


def compare(home: str, manifest: RestoreManifest, whole: bool = True) -> Comparison:
    """left_out is what the home has and the archive has not; a whole restore moves it aside."""
    result = Comparison()
    present = dict(_walk(home)) if os.path.isdir(home) else {}
    logs = {item.path: _take_logs(present, item.path) for item in manifest.databases}
    for path, entry in sorted(manifest.entries.items()):
        if entry.is_directory:
            continue
        found = present.pop(path, None)
        if found is None:
            result.added.add(path, entry.size)
        elif not logs.get(path) and _same(home, path, entry, found):
            result.unchanged.add(path, entry.size)
        else:
            result.changed.add(path, entry.size, found.st_size + logs.get(path, 0))
    for path, found in sorted(present.items()) if whole else ():
        result.left_out.add(path, found.st_size)
    return result


def _take_logs(present: dict[str, os.stat_result], database: str) -> int:
    """Bytes that a database has beside its file: it is more than the file says, and goes with it."""
    present.pop(f"{database}-shm", None)
    found = (present.pop(f"{database}{ending}", None) for ending in ("-wal", "-journal"))
    return sum(item.st_size for item in found if item is not None)


def _same(home: str, path: str, entry: Entry, found: os.stat_result) -> bool:
    if stat.S_ISLNK(found.st_mode):
        target = os.readlink(os.path.join(home, path))
        return entry.type == "symlink" and entry.target in (None, target)
    if entry.type not in ("file", "hardlink") or not stat.S_ISREG(found.st_mode):
        return False
    if found.st_size != entry.size or entry.stored != "home":
        return False
    if entry.mtime_ns is not None and found.st_mtime_ns == entry.mtime_ns:
        return True
    return entry.sha256 is not None and _sha256(os.path.join(home, path)) == entry.sha256


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags), "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _walk(home: str) -> Iterator[tuple[str, os.stat_result]]:
    with opened(home) as descriptor:
        yield from _below(descriptor, "", 0)


def _below(directory: int, path: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    for name in sorted(os.listdir(directory)):
        found = exists(name, directory)
        below = f"{path}/{name}" if path else name
        if found is None:
            continue
        if not stat.S_ISDIR(found.st_mode):
            yield below, found
        elif depth < DEPTH_LIMIT:
            with opened(name, directory) as child:
                yield from _below(child, below, depth + 1)
