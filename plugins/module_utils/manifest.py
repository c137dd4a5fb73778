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
import dataclasses
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

FORMAT = 1
NAME = "manifest.json"
ENVIRONMENT_NAME = "environment.json"
SCRUBBED, DATABASES = "scrubbed", "databases"
HOME, SCRUBBED_COPY, DATABASE_COPY = "home", "scrubbed", "database"
_ENTRIES_PER_PIECE = 96


class ManifestError(ValueError):
    """Not a manifest this version understands."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One archived path."""

    path: str
    type: str
    classification: str
    size: int
    mode: int
    uid: int
    gid: int
    user: str
    group: str
    mtime_ns: int
    sha256: str | None = None
    target: str | None = None
    stored: str = HOME
    changed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As the manifest has it."""
        record: dict[str, Any] = name_fields("path", self.path)
        record.update(
            {
                "type": self.type,
                "class": self.classification,
                "size": self.size,
                "mode": f"{self.mode:04o}",
                "uid": self.uid,
                "gid": self.gid,
                "user": self.user,
                "group": self.group,
                "mtime_ns": self.mtime_ns,
                "sha256": self.sha256,
            }
        )
        if self.target is not None:
            record.update(name_fields("target", self.target))
        record["stored"] = self.stored
        if self.changed:
            record["changed"] = True
        return record


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


def render(entries: Iterable[Entry], rest: Mapping[str, Any], *, block: int = 0) -> bytes:
    """The manifest as bytes; `block` is the size of borg's chunks where they are fixed."""
    parts = [f'{{"format":{FORMAT},\n"entries":[\n'.encode("ascii")]
    length = len(parts[0])
    separator = b""
    for entry in entries:
        if separator and block and _piece_ends(entry.path):
            padding = -(length + len(separator)) % block
            separator = separator.rstrip(b"\n") + b" " * padding + b"\n"
        data = separator + json.dumps(entry.as_dict(), separators=(",", ":")).encode("ascii")
        parts.append(data)
        length += len(data)
        separator = b",\n"
    tail = json.dumps(
        {key: value for key, value in rest.items() if key not in ("format", "entries")}
    )
    closing = b"\n]"
    if block:
        closing += b" " * (-(length + len(closing)) % block)
    parts.append(closing + b",\n" + tail[1:].encode("ascii") + b"\n")
    return b"".join(parts)


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
