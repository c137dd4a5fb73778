# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the journal that a borg 1 repository is, without borg and without a key.

A repository is a row of numbered segment files. Each begins with eight bytes of magic and
goes on with entries: crc32, size and tag, then for a PUT the id and the data, for a DELETE
the id, for a COMMIT nothing. A segment that ends with its only COMMIT closes a
transaction, and the transaction is called by that segment's number.

Nothing here writes, and by default nothing here reads data: an entry is stepped over by
its size. What is not guaranteed then: that the data are intact. ``verify=True`` reads
them all and checks every checksum.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

MAGIC = b"BORG_SEG"
PUT, DELETE, COMMIT = 0, 1, 2
MANIFEST = bytes(32)
MAX_ENTRY = 20 * 1024 * 1024

_HEADER = struct.Struct("<IIB")
_IDENTIFIED = struct.Struct("<IIB32s")
COMMIT_ENTRY = bytes.fromhex("40f43c250900000002")

# Enough for a row of small entries at once; behind a large one only its header is read.
_WINDOW = 8192
_HEAD = 64

_TRANSACTION = re.compile(r"transaction (\d+), UTC time (\S+)$")


class SegmentError(Exception):
    """A file of the repository cannot be what borg wrote."""

    def __init__(self, segment: int, message: str) -> None:
        super().__init__(f"segment {segment}: {message}")
        self.segment = segment


@dataclass(frozen=True)
class Entry:
    """One entry of the journal; ``key`` is empty for a COMMIT."""

    tag: int
    key: bytes
    segment: int
    offset: int
    size: int
    crc: int


@dataclass(frozen=True)
class Config:
    """What a repository says about itself."""

    repository_id: str
    sha256: str
    has_key: bool
    append_only: bool
    segments_per_dir: int


class Segments:
    """The segment files below one repository directory."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.bytes_read = 0
        self.entries_read = 0

    def config(self) -> Config:
        """The repository's config; its hash leaves out what a check of the host rewrites."""
        parser = configparser.ConfigParser(interpolation=None)
        text = (self.path / "config").read_text(encoding="utf-8")
        self.bytes_read += len(text)
        parser.read_string(text)
        section = dict(parser["repository"])
        section.pop("last_segment_checked", None)
        canonical = "".join(f"{name}={section[name]}\n" for name in sorted(section))
        return Config(
            repository_id=section["id"].strip(),
            sha256=hashlib.sha256(canonical.encode()).hexdigest(),
            has_key=bool(section.get("key", "").strip()),
            append_only=section.get("append_only", "0").strip() not in ("0", "false", "no"),
            segments_per_dir=int(section.get("segments_per_dir", "1000")),
        )

    def layout(self) -> dict[int, int]:
        """Number and size of every segment file, in order. Empty files count as deleted."""
        sizes: dict[int, int] = {}
        try:
            folders = list(os.scandir(self.path / "data"))
        except FileNotFoundError:
            return {}
        for folder in folders:
            if not folder.name.isdigit() or not folder.is_dir(follow_symlinks=False):
                continue
            with os.scandir(folder.path) as files:
                for file in files:
                    if file.name.isdigit() and file.is_file(follow_symlinks=False):
                        size = file.stat(follow_symlinks=False).st_size
                        if size:
                            sizes[int(file.name)] = size
        return dict(sorted(sizes.items()))

    def file(self, segment: int, segments_per_dir: int) -> Path:
        return self.path / "data" / str(segment // segments_per_dir) / str(segment)

    def entries(
        self, segment: int, segments_per_dir: int = 1000, *, verify: bool = False
    ) -> Iterator[Entry]:
        """The entries of one segment; SegmentError where it is not what borg writes."""
        descriptor = os.open(self.file(segment, segments_per_dir), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not verify:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
            yield from self._walk(descriptor, segment, verify)
        finally:
            os.close(descriptor)

    def _walk(self, descriptor: int, segment: int, verify: bool) -> Iterator[Entry]:
        end = os.fstat(descriptor).st_size
        window, base = self._read(descriptor, 0), 0
        if window[: len(MAGIC)] != MAGIC:
            raise SegmentError(segment, "does not begin as a segment does")
        offset, wanted = len(MAGIC), _WINDOW
        while offset < end:
            if offset + _IDENTIFIED.size > base + len(window):
                window, base = self._read(descriptor, offset, wanted), offset
            entry = _parse(window, offset - base, segment, offset, end)
            if verify and entry.tag == PUT:
                self._verify(descriptor, entry)
            self.entries_read += 1
            yield entry
            offset += entry.size
            wanted = _HEAD if entry.size > _WINDOW // 2 else _WINDOW

    def _read(self, descriptor: int, offset: int, wanted: int = _WINDOW) -> bytes:
        window = os.pread(descriptor, wanted, offset)
        self.bytes_read += len(window)
        return window

    def _verify(self, descriptor: int, entry: Entry) -> None:
        data = os.pread(descriptor, entry.size - 4, entry.offset + 4)
        self.bytes_read += len(data)
        if len(data) != entry.size - 4 or zlib.crc32(data) != entry.crc:
            raise SegmentError(entry.segment, f"wrong checksum at offset {entry.offset}")

    def is_committed(self, segment: int, segments_per_dir: int = 1000) -> bool:
        """Whether a segment ends with a COMMIT, and with the only one it has."""
        path = self.file(segment, segments_per_dir)
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            if size < len(MAGIC) + len(COMMIT_ENTRY):
                return False
            stream.seek(-len(COMMIT_ENTRY), os.SEEK_END)
            if stream.read() != COMMIT_ENTRY:
                return False
        # An object may end with these very bytes: only the walk tells.
        commits = []
        try:
            for entry in self.entries(segment, segments_per_dir):
                if entry.tag == COMMIT:
                    commits.append(entry.offset)
        except SegmentError:
            return False
        return commits == [size - len(COMMIT_ENTRY)]

    def last_commit(self, layout: dict[int, int], segments_per_dir: int = 1000) -> int | None:
        """The last transaction; what lies behind it was never finished."""
        for segment in reversed(layout):
            if self.is_committed(segment, segments_per_dir):
                return segment
        return None

    def times(self) -> dict[int, datetime]:
        """When each transaction was committed, by the clock of the repository host."""
        times: dict[int, datetime] = {}
        try:
            lines = (self.path / "transactions").read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return times
        for line in lines.splitlines():
            match = _TRANSACTION.match(line)
            if match is None:
                continue
            try:
                moment = datetime.fromisoformat(match[2])
            except ValueError:
                continue
            times[int(match[1])] = moment.replace(tzinfo=timezone.utc)
        return times

    def nonce(self) -> int | None:
        try:
            return int((self.path / "nonce").read_text(encoding="ascii").strip(), 16)
        except (FileNotFoundError, ValueError):
            return None

    def first_byte(self, entry: Entry, segments_per_dir: int = 1000) -> int | None:
        """The key type an object claims to be encrypted with; None when it has no data."""
        if entry.size <= _IDENTIFIED.size:
            return None
        with self.file(entry.segment, segments_per_dir).open("rb") as stream:
            stream.seek(entry.offset + _IDENTIFIED.size)
            return stream.read(1)[0]


def _parse(window: bytes, at: int, segment: int, offset: int, end: int) -> Entry:
    if at + _HEADER.size > len(window):
        raise SegmentError(segment, f"ends within an entry at offset {offset}")
    crc, size, tag = _HEADER.unpack_from(window, at)
    if size < _HEADER.size or size > MAX_ENTRY or offset + size > end:
        raise SegmentError(segment, f"impossible size {size} at offset {offset}")
    if tag == COMMIT:
        if size != _HEADER.size or window[at : at + size] != COMMIT_ENTRY:
            raise SegmentError(segment, f"malformed commit at offset {offset}")
        return Entry(tag, b"", segment, offset, size, crc)
    if tag not in (PUT, DELETE) or size < _IDENTIFIED.size:
        raise SegmentError(segment, f"unknown entry at offset {offset}")
    key = _IDENTIFIED.unpack_from(window, at)[3]
    if tag == DELETE and (
        size != _IDENTIFIED.size or zlib.crc32(window[at + 4 : at + size]) != crc
    ):
        raise SegmentError(segment, f"malformed deletion at offset {offset}")
    return Entry(tag, key, segment, offset, size, crc)
