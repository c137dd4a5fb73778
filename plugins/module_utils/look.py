# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the files of a home once: hash, secret scan, database or not. Unchanged files are not
read again: a cache remembers them by path, size, times and inode, which the agent cannot forge
(it cannot set a ctime)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .profile import UNKNOWN
from .secrets import TEXT_LIMIT, Finding, Scanner, is_private_key, is_text, secret_file_name
from .sqlite import HEADER_SIZE, MAGIC
from .walk import FILE, Entry, open_file

HASH_LIMIT = 1 << 20
_BLOCK = 1 << 20
_CACHE_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Look:
    """What reading a file told."""

    sha256: str | None
    findings: tuple[Finding, ...] = ()
    secret: str = ""  # why the file as a whole is a secret
    database: bool = False  # begins like a database


class Folders:
    """The folder of the last file stays open, so that a file costs one open, not one per level."""

    _FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

    def __init__(self, home: int) -> None:
        self._home = home
        self._path = ""
        self._descriptor = home

    def at(self, path: str) -> tuple[int, str]:
        """The descriptor of the folder of a path, and the last name."""
        folder, _slash, name = path.rpartition("/")
        if folder != self._path:
            self.close()
            current = self._home
            for part in folder.split("/") if folder else []:
                following = os.open(part, self._FLAGS, dir_fd=current)
                if current != self._home:
                    os.close(current)
                current = following
            self._path, self._descriptor = folder, current
        return self._descriptor, name

    def close(self) -> None:
        """Back to the home."""
        if self._descriptor != self._home:
            os.close(self._descriptor)
        self._path, self._descriptor = "", self._home


class Cache:
    """What earlier runs saw. A damaged or foreign cache is an empty one."""

    def __init__(self, path: Path, version: str) -> None:
        self._path = path
        self._version = version
        self._old: dict[str, list[Any]] = {}
        self._new: dict[str, list[Any]] = {}
        try:
            data = json.loads(path.read_bytes())
            if data.get("format") == _CACHE_FORMAT and data.get("version") == version:
                self._old = data["files"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._old = {}

    @staticmethod
    def _mark(status: os.stat_result) -> list[int]:
        return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]

    def get(self, key: str, status: os.stat_result) -> list[Any] | None:
        """What was stored for an unchanged file."""
        known = self._old.get(key)
        if known is None or known[:4] != self._mark(status):
            return None
        self._new[key] = known
        return known[4:]

    def put(self, key: str, status: os.stat_result, values: list[Any]) -> None:
        """Remember what a file of this state holds."""
        self._new[key] = [*self._mark(status), *values]

    def save(self, *, keep_old: bool = False) -> None:
        """Write it whole or not at all."""
        if self._new == self._old:
            return
        files = {**self._old, **self._new} if keep_old else self._new
        data = json.dumps(
            {"format": _CACHE_FORMAT, "version": self._version, "files": files},
            separators=(",", ":"),
        )
        temporary = self._path.with_name(self._path.name + ".new")
        temporary.write_text(data, encoding="ascii")
        os.replace(temporary, self._path)


class Looker:
    """Reads files for one run."""

    def __init__(self, home: int, scanner: Scanner, cache: Cache) -> None:
        self._folders = Folders(home)
        self._scanner = scanner
        self._cache = cache

    def close(self) -> None:
        """Let go of the last folder."""
        self._folders.close()

    def status(self, path: str) -> os.stat_result:
        """The state of an entry now, without following links."""
        folder, name = self._folders.at(path)
        return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def read(self, entry: Entry, limit: int) -> bytes:
        """The content of a small file."""
        descriptor = self._open(entry)
        try:
            data = b"".join(_blocks(descriptor, limit + 1))
        finally:
            os.close(descriptor)
        if len(data) > limit:
            raise OSError(27, f"larger than {limit} bytes")
        return data

    def look(self, entry: Entry, hashed: bool | None) -> Look:
        """Hash and scan of a file, from the cache where it is unchanged."""
        want_hash = hashed if hashed is not None else entry.stat.st_size <= HASH_LIMIT
        unknown = entry.classification == UNKNOWN
        if unknown:
            reason = secret_file_name(entry.path)
            if reason:
                return Look(None, secret=reason)
        known = self._cache.get(entry.path, entry.stat)
        if (
            known is not None
            and len(known) == 5
            and (known[1] or not want_hash)
            and known[0] >= unknown
        ):
            return Look(
                known[1], tuple(Finding(rule, line) for rule, line in known[2]), known[3], known[4]
            )
        result = self._read(entry, want_hash, whole=unknown)
        self._cache.put(
            entry.path,
            entry.stat,
            [
                int(unknown),
                result.sha256,
                [[finding.rule, finding.line] for finding in result.findings],
                result.secret,
                result.database,
            ],
        )
        return result

    def _open(self, entry: Entry) -> int:
        folder, name = self._folders.at(entry.path)
        return open_file(name, folder, entry.stat)

    def _read(self, entry: Entry, want_hash: bool, *, whole: bool) -> Look:
        descriptor = self._open(entry)
        try:
            if entry.stat.st_size <= TEXT_LIMIT:
                data = b"".join(_blocks(descriptor, TEXT_LIMIT + 1))
                return self._judge(data, want_hash, whole)
            return self._stream(descriptor, want_hash, whole)
        finally:
            os.close(descriptor)

    def _judge(self, data: bytes, want_hash: bool, whole: bool) -> Look:
        findings = self._scanner.scan(data) if whole or is_text(data) else []
        return Look(
            hashlib.sha256(data).hexdigest() if want_hash else None,
            tuple(findings),
            "is a private key" if findings and is_private_key(data) else "",
            data[:HEADER_SIZE].startswith(MAGIC),
        )

    def _stream(self, descriptor: int, want_hash: bool, whole: bool) -> Look:
        """A large file: scanned only where it is unknown, hashed only where a rule asks."""
        head = os.pread(descriptor, HEADER_SIZE, 0)
        digest = hashlib.sha256()

        def blocks() -> Iterator[bytes]:
            for block in _blocks(descriptor, None):
                digest.update(block)
                yield block

        findings: list[Finding] = []
        if whole:
            findings = self._scanner.scan_blocks(blocks())
        elif want_hash:
            for _block in blocks():
                pass
        return Look(
            digest.hexdigest() if whole or want_hash else None,
            tuple(findings),
            "",
            head.startswith(MAGIC),
        )


def _blocks(descriptor: int, limit: int | None) -> Iterator[bytes]:
    left = limit
    while left is None or left > 0:
        block = os.read(descriptor, _BLOCK if left is None else min(_BLOCK, left))
        if not block:
            return
        if left is not None:
            left -= len(block)
        yield block


def is_candidate(entry: Entry, suffixes: tuple[str, ...]) -> bool:
    """Whether a file may be a database: pages are multiples of 512, or its name says so."""
    if entry.type != FILE or entry.stat.st_size < HEADER_SIZE:
        return False
    return entry.stat.st_size % 512 == 0 or entry.path.endswith(suffixes)
