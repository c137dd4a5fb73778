# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing an archive's own listing with what the manifest says: the proof of a run."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Mapping
from typing import Protocol

from .borg import Item, parse_item

_FIRST = 5


class Expected(Protocol):
    """What an archive has to say about a path."""

    path: str
    mode: int  # with the type
    uid: int
    gid: int
    size: int
    mtime_ns: int
    any_size: bool  # a held write-ahead log, a hard link
    seen: bool


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The outcome; paths as borg stores them."""

    compared: int
    missing: tuple[bytes, ...]
    unexpected: tuple[bytes, ...]
    disowned: tuple[bytes, ...]  # another user's, which the agent's own programs cannot bring about
    replaced: tuple[bytes, ...]  # another type, group or mode
    resized: tuple[bytes, ...]

    @property
    def good(self) -> bool:
        """Nothing missing, nothing there that should not be, nothing replaced."""
        return not (self.missing or self.unexpected or self.disowned or self.replaced)

    def describe(self) -> str:
        """Counts and first offenders, for people."""
        parts = []
        for said, paths in (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("replaced by another user's", self.disowned),
            ("replaced", self.replaced),
        ):
            if paths:
                first = ", ".join(path.decode("utf-8", "replace") for path in paths[:_FIRST])
                parts.append(f"{len(paths)} {said}: {first}")
        return "; ".join(parts) or f"{self.compared} entries as the manifest says"


class Comparer:
    """Takes the listing while borg still writes it; `begin` before each listing."""

    def __init__(
        self, home: str, records: Mapping[str, Expected], others: Mapping[bytes, Expected]
    ) -> None:
        """`records` are the entries that lie in the archive under the home, by path below it;
        `others` are copies, by the path that borg stores."""
        self._home = os.fsencode(home)[1:]
        self._prefix = self._home + b"/"
        self._records = records
        self._others = others
        self._odd: dict[bytes, list[Expected]] = {}
        for path in records:
            if not _utf8(path):
                self._odd.setdefault(lossy(os.fsencode(path)), []).append(records[path])
        for printed, alike in self._odd.items():  # names that are as odd as borg prints odd ones
            if printed.decode() in records:
                alike.append(records[printed.decode()])
        self._modes: dict[int, str] = {}
        self._lines = self._lines_of_files()
        self.begin()

    def begin(self) -> None:
        """Nothing is listed yet."""
        self._unexpected: list[bytes] = []
        self._disowned: list[bytes] = []
        self._replaced: list[bytes] = []
        self._resized: list[bytes] = []
        self._compared = 0
        for expected in (*self._records.values(), *self._others.values()):
            expected.seen = False

    def _lines_of_files(self) -> dict[bytes, Expected]:
        """What borg says about a file that is as it should be: nearly all of a listing."""
        home, mode_of, odd = os.fsdecode(self._prefix), self._mode, self._odd
        return {
            os.fsencode(
                f"- {mode_of(file.mode)} {file.uid} {file.gid} {file.size} {home}{path}"
            ): file
            for path, file in self._records.items()
            if stat.S_ISREG(file.mode)
            and not file.any_size
            and not (odd and lossy(os.fsencode(path)) in odd)
        }

    def _mode(self, mode: int) -> str:
        text = self._modes.get(mode)
        if text is None:
            text = self._modes[mode] = stat.filemode(mode)
        return text

    def take_lines(self, lines: list[bytes]) -> None:
        """The next lines of the listing."""
        for line in lines:
            file = self._lines.get(line)
            if file is None or file.seen:
                self.take(parse_item(line))
            else:
                file.seen = True
                self._compared += 1

    def find(self, path: bytes) -> Expected | None:
        """What is expected at a path as borg prints it."""
        other = self._others.get(path)
        if other is not None:
            return other
        if path == self._home:
            return self._records.get("")
        if not path.startswith(self._prefix):
            return None
        rest = path[len(self._prefix) :]
        alike = self._odd.get(rest)
        if alike is not None:
            return next((record for record in alike if not record.seen), alike[0])
        return self._records.get(rest.decode("utf-8", "replace"))

    def _best(self, item: Item) -> Expected | None:
        """Several names may be printed alike: the one that fits, else any that is left."""
        alike = self._odd.get(item.path[len(self._prefix) :])
        for record in alike or ():
            if not record.seen and self._fits(record, item):
                return record
        return self.find(item.path)

    def _fits(self, record: Expected, item: Item) -> bool:
        return (stat.filemode(record.mode), record.uid, record.gid, record.size) == (
            item.mode,
            item.uid,
            item.gid,
            item.size,
        )

    def take(self, item: Item) -> None:
        """One item of the listing."""
        want = self._best(item) if self._odd else self.find(item.path)
        if want is None or want.seen:
            self._unexpected.append(item.path)
            return
        want.seen = True
        self._compared += 1
        mode = self._mode(want.mode)
        same = item.mode == mode or item.mode == "h" + mode[1:]  # h: a hard link
        if item.uid != want.uid:
            self._disowned.append(item.path)
        elif not same or item.gid != want.gid:
            self._replaced.append(item.path)
        elif item.mode[0] == "-" and not want.any_size and item.size != want.size:
            self._resized.append(item.path)

    def result(self) -> Comparison:
        """The outcome, once the listing has ended."""
        missing = [
            self._prefix + os.fsencode(path) if path else self._home
            for path, record in self._records.items()
            if not record.seen
        ]
        missing += [path for path, record in self._others.items() if not record.seen]
        return Comparison(
            self._compared,
            tuple(sorted(missing)),
            tuple(self._unexpected),
            tuple(self._disowned),
            tuple(self._replaced),
            tuple(self._resized),
        )


def _utf8(path: str) -> bool:
    if path.isascii():
        return True
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def lossy(path: bytes) -> bytes:
    """A path as borg prints it: bytes that are not UTF-8 become question marks."""
    return path.decode("utf-8", "surrogateescape").encode("utf-8", "replace")
