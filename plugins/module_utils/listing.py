# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing an archive's own listing with what the manifest says: the proof of a run."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Iterable, Mapping

from .borg import Item

_FIRST = 5


@dataclasses.dataclass(frozen=True)
class Expected:
    """What an archive has to say about a path."""

    mode: int  # with the type
    uid: int
    gid: int
    size: int | None  # None: may differ (a held write-ahead log, a hard link)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The outcome; paths as borg stores them."""

    compared: int
    missing: tuple[bytes, ...]
    unexpected: tuple[bytes, ...]
    replaced: tuple[bytes, ...]  # another type, owner or mode
    resized: tuple[bytes, ...]

    @property
    def good(self) -> bool:
        """Nothing missing, nothing there that should not be, nothing replaced."""
        return not (self.missing or self.unexpected or self.replaced)

    def describe(self) -> str:
        """Counts and first offenders, for people."""
        parts = []
        for name in ("missing", "unexpected", "replaced"):
            paths = getattr(self, name)
            if paths:
                first = ", ".join(path.decode("utf-8", "replace") for path in paths[:_FIRST])
                parts.append(f"{len(paths)} {name}: {first}")
        return "; ".join(parts) or f"{self.compared} entries as the manifest says"


def compare(expected: Mapping[bytes, Expected], items: Iterable[Item]) -> Comparison:
    """Every path of both sides is looked at once."""
    seen = set()
    unexpected, replaced, resized = [], [], []
    for item in items:
        want = expected.get(item.path)
        if want is None:
            unexpected.append(item.path)
            continue
        seen.add(item.path)
        if (item.mode[:1] != "h" and item.mode != _filemode(want.mode)) or (item.uid, item.gid) != (
            want.uid,
            want.gid,
        ):
            replaced.append(item.path)
        elif want.size is not None and item.mode[:1] == "-" and item.size != want.size:
            resized.append(item.path)
    missing = sorted(path for path in expected if path not in seen)
    return Comparison(len(seen), tuple(missing), tuple(unexpected), tuple(replaced), tuple(resized))


_MODES: dict[int, str] = {}


def _filemode(mode: int) -> str:
    text = _MODES.get(mode)
    if text is None:
        text = _MODES[mode] = stat.filemode(mode)
    return text


def lossy(path: bytes) -> bytes:
    """A path as borg prints it: bytes that are not UTF-8 become question marks."""
    return path.decode("utf-8", "surrogateescape").encode("utf-8", "replace")
