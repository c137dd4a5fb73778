# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest: what an archive holds and what it should be like when it comes back.

The format is described in docs/manifest.md. The list of entries comes first and is padded with
blanks to borg's chunk boundaries at places that depend on the entries alone, so that a night's
changes store a few chunks of it and not the whole list again.
"""

from __future__ import annotations

import base64
import binascii
import grp
import json
import os
import pwd
import stat
import zlib
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as _quote
from typing import Any, Protocol

FORMAT = 1
NAME = "manifest.json"
ENVIRONMENT_NAME = "environment.json"
SCRUBBED, DATABASES = "scrubbed", "databases"
HOME, SCRUBBED_COPY, DATABASE_COPY = "home", "scrubbed", "database"
_ENTRIES_PER_PIECE = 96
_LINES = 2000


class ManifestError(ValueError):
    """Not a manifest this version understands."""


class Record(Protocol):
    """What the manifest needs to know of an entry."""

    path: str
    type: str
    classification: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    sha256: str | None
    target: str | None
    stored: str
    changed: bool


class Names:
    """User and group names, looked up once."""

    def __init__(self) -> None:
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}

    def user(self, uid: int) -> str:
        """The name of a user, the number where there is none."""
        if uid not in self._users:
            try:
                self._users[uid] = pwd.getpwuid(uid).pw_name
            except KeyError:
                self._users[uid] = str(uid)
        return self._users[uid]

    def group(self, gid: int) -> str:
        """The name of a group, the number where there is none."""
        if gid not in self._groups:
            try:
                self._groups[gid] = grp.getgrgid(gid).gr_name
            except KeyError:
                self._groups[gid] = str(gid)
        return self._groups[gid]


def entry_line(record: Record, names: Names) -> str:
    """One entry as JSON. Put together by hand: json.dumps costs three times as much."""
    sha256 = f'"{record.sha256}"' if record.sha256 else "null"
    changed = ',"changed":true' if record.changed else ""
    target = "" if record.target is None else _name("target", record.target) + ","
    return (
        f'{{{_name("path", record.path)},"type":"{record.type}",'
        f'"class":"{record.classification}","size":{record.size},'
        f'"mode":"{stat.S_IMODE(record.mode):04o}","uid":{record.uid},"gid":{record.gid},'
        f'"user":{_quote(names.user(record.uid))},"group":{_quote(names.group(record.gid))},'
        f'"mtime_ns":{record.mtime_ns},"sha256":{sha256},{target}'
        f'"stored":"{record.stored}"{changed}}}'
    )


def _name(key: str, name: str) -> str:
    if name.isascii():
        return f'"{key}":{_quote(name)}'
    [(key, text)] = name_fields(key, name).items()
    return f'"{key}":{_quote(text)}'


def name_fields(key: str, name: str) -> dict[str, str]:
    """A file name as JSON can carry it: as text, or in base64 where it is not UTF-8."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return {f"{key}_base64": base64.b64encode(os.fsencode(name)).decode("ascii")}
    return {key: name}


def read_name(record: Mapping[str, Any], key: str = "path") -> str:
    """The inverse of `name_fields`."""
    if f"{key}_base64" in record:
        try:
            return os.fsdecode(base64.b64decode(record[f"{key}_base64"], validate=True))
        except (binascii.Error, TypeError) as error:
            raise ManifestError(f"{key}_base64 of an entry is not base64") from error
    return str(record[key])


def printable(name: str) -> str:
    """A file name for people and for JSON that has to be valid UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class Writable(Protocol):
    """Where a manifest goes."""

    def write(self, data: bytes, /) -> object: ...


class Writer:
    """Writes a manifest entry by entry; `block` is the size of borg's chunks where it is fixed."""

    def __init__(self, file: Writable, *, block: int = 0) -> None:
        self._file = file
        self._block = block
        self._names = Names()
        self._pending = [f'{{"format":{FORMAT},\n"entries":[']
        self._length = len(self._pending[0])
        self._separator = "\n"

    def add(self, record: Record) -> None:
        """The next entry."""
        block, separator = self._block, self._separator
        if block and separator != "\n" and _piece_ends(record.path):
            separator = "," + " " * (-(self._length + 2) % block) + "\n"
        line = separator + entry_line(record, self._names)
        self._separator = ",\n"
        self._pending.append(line)
        self._length += len(line)
        if len(self._pending) >= _LINES:
            self._flush()

    def finish(self, rest: Mapping[str, Any]) -> None:
        """All that is no entry."""
        tail = {key: value for key, value in rest.items() if key not in ("format", "entries")}
        padding = " " * (-(self._length + 2) % self._block) if self._block else ""
        self._pending.append(f"\n]{padding},\n{json.dumps(tail)[1:]}\n")
        self._flush()

    def _flush(self) -> None:
        self._file.write("".join(self._pending).encode("ascii"))
        self._pending.clear()


def _piece_ends(path: str) -> bool:
    return zlib.crc32(os.fsencode(path)) % _ENTRIES_PER_PIECE == 0


def parse(data: bytes | str) -> dict[str, Any]:
    """A manifest as a mapping; checks the format only."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ManifestError(f"not JSON: {error}") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ManifestError(f"format is not {FORMAT}: written by another version of lifeboat")
    if not isinstance(value.get("entries"), list):
        raise ManifestError("no entries")
    return value


def fixed_block(chunker_params: str) -> int:
    """The chunk size of `fixed,SIZE`, 0 for another chunker."""
    kind, _comma, rest = chunker_params.partition(",")
    size = rest.partition(",")[0]
    return int(size) if kind == "fixed" and size.isdigit() else 0
