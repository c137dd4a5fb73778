# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the files of a home once: hash, secret scan, database or not. Unchanged files are not
read again: a cache remembers them by path, size, times and inode, which the agent cannot forge
(it cannot set a ctime)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .profile import UNKNOWN
from .secrets import TEXT_LIMIT, Finding, Scanner, is_private_key, is_text, secret_file_name
from .sqlite import HEADER_SIZE, MAGIC
from .survey import Candidate
from .unknown_files import compressed, scan_unknown
from .walk import files_below, open_file

HASH_LIMIT = 1 << 20
_BLOCK = 1 << 20
_PAGE = 4096
_CACHE_FORMAT = 3


class Look(NamedTuple):
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
    """What earlier runs saw: path -> state and facts, both as bytes, which keeps 200,000 small.

    A damaged or foreign cache is an empty one.
    """

    def __init__(self, path: Path, version: str) -> None:
        self._path = path
        self._head = f"lifeboat cache {_CACHE_FORMAT} {version}".encode()
        self._old: dict[bytes, bytes] = {}
        self._new: dict[bytes, bytes] = {}
        self._fresh = False
        try:
            parts = path.read_bytes().split(b"\0")
        except OSError:
            return
        if parts[0] == self._head and len(parts) % 2 == 0 and not parts[-1]:
            self._old = dict(zip(parts[1::2], parts[2::2]))

    def get(self, key: bytes, mark: bytes) -> bytes | None:
        """The facts of something in this state."""
        known = self._old.get(key)
        if known is None or not known.startswith(mark):
            return None
        self._new[key] = known
        return known[len(mark) :]

    def put(self, key: bytes, mark: bytes, facts: bytes) -> None:
        """Remember the facts of something in this state; a NUL byte has no place in them."""
        self._fresh = True
        self._new[key] = mark + facts

    def save(self) -> None:
        """Write it whole or not at all."""
        if not self._fresh and len(self._new) == len(self._old):
            return
        parts = [self._head]
        for key, value in self._new.items():
            parts += (key, value)
        temporary = self._path.with_name(self._path.name + ".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"\0".join(parts) + b"\0")
        os.replace(temporary, self._path)


def mark_of(entry: Candidate) -> bytes:
    """The state of a file as the cache compares it. The agent can set every time but the ctime."""
    return b"%d %d %d %d|" % (entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode)


class Looker:
    """Reads files for one run."""

    def __init__(self, home: int, scanner: Scanner, cache: Cache) -> None:
        self._home = home
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

    def files_below(self, path: str) -> Iterator[tuple[str, os.stat_result]]:
        """The state of every file below a folder, without following links."""
        return files_below(self._home, path)

    def open(self, path: str) -> int:
        """A regular file as it is now, without following links."""
        folder, name = self._folders.at(path)
        return open_file(name, folder)

    def read(self, entry: Candidate, limit: int) -> bytes:
        """The content of a small file."""
        return _limited(self._open(entry), entry.size, limit)

    def read_now(self, path: str, limit: int) -> bytes:
        """The content of a small file as it is now, without following links."""
        return _limited(self.open(path), limit, limit)

    def look(self, entry: Candidate, hashed: bool | None) -> Look:
        """Hash and scan of a file, from the cache where it is unchanged."""
        want_hash = hashed if hashed is not None else entry.size <= HASH_LIMIT
        unknown = entry.classification == UNKNOWN
        if unknown:
            reason = secret_file_name(entry.path)
            if reason:
                return Look(None, secret=reason)
        # What was scanned as a whole and hashed answers every later question.
        need = b"%c%c" % (b"U" if unknown else b"K", b"H" if want_hash else b"-")
        key, mark = os.fsencode(entry.path), mark_of(entry)
        known = self._cache.get(key, mark + need)
        if known is not None:
            return _decode(known)
        result = self._read(entry, want_hash, whole=unknown)
        self._cache.put(key, mark + need, _encode(result))
        return result

    def _open(self, entry: Candidate) -> int:
        folder, name = self._folders.at(entry.path)
        return open_file(name, folder, (entry.inode, entry.device))

    def _read(self, entry: Candidate, want_hash: bool, *, whole: bool) -> Look:
        descriptor = self._open(entry)
        try:
            if entry.size <= TEXT_LIMIT:
                data = _content(descriptor, entry.size, TEXT_LIMIT)
                return self._judge(data, want_hash, whole)
            return self._stream(descriptor, want_hash, whole)
        finally:
            os.close(descriptor)

    def _judge(self, data: bytes, want_hash: bool, whole: bool) -> Look:
        findings: list[Finding] = []
        if whole:
            findings = scan_unknown(self._scanner, data)
        elif is_text(data):
            findings = self._scanner.scan(data)
        secret = compressed(data) if whole else ""
        return Look(
            hashlib.sha256(data).hexdigest() if want_hash else None,
            tuple(findings),
            "is a private key" if findings and is_private_key(data) else secret,
            data[:HEADER_SIZE].startswith(MAGIC),
        )

    def _stream(self, descriptor: int, want_hash: bool, whole: bool) -> Look:
        """A large file: scanned only where it is unknown, hashed only where a rule asks."""
        head = os.pread(descriptor, HEADER_SIZE, 0)
        digest = hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            for block in blocks(descriptor):
                digest.update(block)
                yield block

        findings: list[Finding] = []
        if whole:
            findings = self._scanner.scan_blocks(hashed(), partial(scan_unknown, self._scanner))
        elif want_hash:
            for _block in hashed():
                pass
        return Look(
            digest.hexdigest() if whole or want_hash else None,
            tuple(findings),
            compressed(head) if whole else "",
            head.startswith(MAGIC),
        )


def _limited(descriptor: int, size: int, limit: int) -> bytes:
    try:
        data = _content(descriptor, size, limit)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise OSError(27, f"larger than {limit} bytes")
    return data


def _content(descriptor: int, size: int, limit: int) -> bytes:
    """All of a small file, at most one byte more than the limit.

    The buffer is as large as the file should be: one of a megabyte each time costs more than all
    the rest of looking at a small file.
    """
    parts = []
    left = limit + 1
    wanted = min(size + 1, left)
    while left > 0:
        part = os.read(descriptor, min(wanted, left))
        if not part:
            break
        parts.append(part)
        left -= len(part)
        wanted = _BLOCK if len(part) == wanted else _PAGE  # it has grown, or this is its end
    return b"".join(parts)


def blocks(descriptor: int) -> Iterator[bytes]:
    """The content of a file of any size."""
    while True:
        block = os.read(descriptor, _BLOCK)
        if not block:
            return
        yield block


_PLAIN = Look(None)


def _encode(look: Look) -> bytes:
    """A hash, and JSON where there is more to say."""
    head = (look.sha256 or "-").encode()
    if not look.findings and not look.secret and not look.database:
        return head
    findings = [[finding.rule, finding.line] for finding in look.findings]
    return head + b" " + json.dumps([findings, look.secret, look.database]).encode()


def _decode(facts: bytes) -> Look:
    if facts == b"-":
        return _PLAIN
    head, space, more = facts.decode("ascii").partition(" ")
    sha256 = head if head != "-" else None
    if not space:
        return Look(sha256)
    findings, secret, database = json.loads(more)
    return Look(sha256, tuple(Finding(rule, line) for rule, line in findings), secret, database)
