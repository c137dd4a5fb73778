# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an archive says about itself, read as untrusted input.

A box that was taken over writes its own manifest. Restore runs as root, so every path is
checked here once, before anything is placed: relative, without "..", without a file or a
symbolic link as its parent. What passes is a frozen value; nothing further in parses JSON.

Not guaranteed: that the manifest is true. That is what agent_health is for.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import LifeboatError

FORMAT = 1
TYPES = frozenset({"file", "directory", "symlink", "hardlink", "fifo", "socket"})
STORED = frozenset({"home", "scrubbed", "database"})
# A manifest of 200,000 sessions is about 60 MB; beyond this it is an attack or an accident.
SIZE_LIMIT = 512 * 1024 * 1024


class RestoreError(LifeboatError):
    """Something stands in the way of the restore; the hint says what to do about it."""

    def __init__(self, message: str, hint: str = "", **details: Any) -> None:
        super().__init__(message, hint=hint, failure=details)

    def payload(self) -> dict[str, Any]:
        text = f"{self.message}\n{self.hint}" if self.hint else self.message
        return {"msg": text, "failure": {"hint": self.hint, **self.failure}}


@dataclass(frozen=True)
class Entry:
    path: str
    type: str
    mode: int | None
    uid: int | None
    gid: int | None
    user: str
    group: str
    mtime_ns: int | None
    size: int
    sha256: str | None
    target: str | None
    stored: str
    classification: str

    @property
    def is_directory(self) -> bool:
        return self.type == "directory"


@dataclass(frozen=True)
class Database:
    path: str
    method: str
    journal_mode: str
    quick_check: str
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def companions(self) -> tuple[str, ...]:
        """Files beside the database that came with it and end with it."""
        return (f"{self.path}-wal",) if self.method in ("pair", "raw") else ()


@dataclass(frozen=True)
class Agent:
    name: str
    host: str
    profile: str
    version: str
    user: str
    group: str
    uid: int | None
    gid: int | None
    home: str
    home_real: str


@dataclass(frozen=True)
class RestoreManifest:
    archive: str
    created: str
    agent: Agent
    entries: Mapping[str, Entry]
    databases: tuple[Database, ...]
    to_be_supplied: tuple[Mapping[str, str], ...]
    environment: tuple[str, ...]
    outside: tuple[Mapping[str, str], ...]
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def companions(self) -> frozenset[str]:
        return frozenset(path for database in self.databases for path in database.companions)

    def summary(self) -> dict[str, Any]:
        """Everything but the long lists, for a playbook to decide by."""
        left_out = ("entries", "databases", "findings", "unknown", "withheld")
        short = {key: value for key, value in self.raw.items() if key not in left_out}
        for name, read in SHORT_PARTS.items():
            if name in short:
                short[name] = read(short[name])
        short["entries_count"] = len(self.entries)
        short["databases_count"] = len(self.databases)
        return short


def show(path: str) -> str:
    """A path that any terminal and any JSON reader can take."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _refuse(reason: str, path: str = "") -> RestoreError:
    where = f" ({show(path)!r})" if path else ""
    return RestoreError(
        f"The manifest inside the archive is refused: {reason}{where}.",
        "Nothing was placed. Treat the box that wrote this archive as taken over; "
        "choose an earlier archive with -e archive=NAME or -e at=DATE.",
        path=show(path),
    )


def check_relative(path: str) -> str:
    """The path itself when it stays below the home, else a refusal with the reason."""
    if path in ("", "."):
        return ""
    if "\0" in path:
        raise _refuse("a path holds a NUL byte", path)
    if path.startswith("/"):
        raise _refuse("an absolute path", path)
    parts = path.split("/")
    if ".." in parts:
        raise _refuse("a path that climbs with '..'", path)
    if "" in parts or "." in parts:
        raise _refuse("a path that is not in its plain form", path)
    if any(len(os.fsencode(part)) > 255 for part in parts):
        raise _refuse("a name longer than any file system takes", path[:80])
    return path


def outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Each path once, in order, without those that lie below another of them."""
    found: list[str] = []
    for path in sorted(set(paths), key=lambda path: path.split("/")):
        if not found or not path.startswith(f"{found[-1]}/"):
            found.append(path)
    return tuple(found)


def _check_absolute(path: object, what: str) -> str:
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        raise _refuse(f"{what} is not an absolute path", str(path))
    if posixpath.normpath(path) != path or path == "/":
        raise _refuse(f"{what} is not in its plain form", path)
    return path


def _path_of(item: Mapping[str, Any]) -> str:
    if "path_base64" in item:
        try:
            return check_relative(os.fsdecode(base64.b64decode(item["path_base64"], validate=True)))
        except (binascii.Error, TypeError, ValueError) as error:
            raise _refuse(f"a path that cannot be decoded: {error}") from error
    path = item.get("path")
    if not isinstance(path, str):
        raise _refuse("an entry without a path")
    return check_relative(path)


def _optional_int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _mode(value: object, path: str) -> int | None:
    if value is None:
        return None
    try:
        mode = int(value, 8) if isinstance(value, str) else int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise _refuse(f"the mode {value!r} cannot be read", path) from error
    if not 0 <= mode <= 0o7777:
        raise _refuse(f"the mode {value!r} is out of range", path)
    return int(mode)


def _entry(item: object) -> Entry:
    if not isinstance(item, dict):
        raise _refuse("an entry that is not an object")
    path = _path_of(item)
    kind, stored = item.get("type"), item.get("stored", "home")
    if kind not in TYPES:
        raise _refuse(f"the type {kind!r} is not one that a home is restored with", path)
    if stored not in STORED:
        raise _refuse(f"stored as {stored!r} is unknown", path)
    if stored != "home" and kind not in ("file", "hardlink"):
        raise _refuse(f"a {kind} cannot be stored as {stored}", path)
    sha256 = item.get("sha256")
    target = item.get("target")
    return Entry(
        path=path,
        type=str(kind),
        mode=_mode(item.get("mode"), path),
        uid=_optional_int(item.get("uid")),
        gid=_optional_int(item.get("gid")),
        user=_text(item.get("user")),
        group=_text(item.get("group")),
        mtime_ns=_optional_int(item.get("mtime_ns")),
        size=_optional_int(item.get("size")) or 0,
        sha256=sha256 if isinstance(sha256, str) else None,
        target=target if isinstance(target, str) else None,
        stored=str(stored),
        classification=_text(item.get("class")),
    )


def _entries(items: object) -> dict[str, Entry]:
    if not isinstance(items, list):
        raise _refuse("it has no list of entries")
    found: dict[str, Entry] = {}
    for item in items:
        entry = _entry(item)
        if entry.path in found:
            raise _refuse("the same path twice", entry.path)
        found[entry.path] = entry
    for path in found:
        _check_parents(path, found)
    return found


def _check_parents(path: str, entries: Mapping[str, Entry]) -> None:
    parent = posixpath.dirname(path)
    while parent:
        above = entries.get(parent)
        if above is not None and not above.is_directory:
            raise _refuse(f"a path below a {above.type}", path)
        parent = posixpath.dirname(parent)


def _database(item: object) -> Database:
    if not isinstance(item, dict):
        raise _refuse("a database that is not an object")
    return Database(
        path=_path_of(item),
        method=_text(item.get("method")),
        journal_mode=_text(item.get("journal_mode")),
        quick_check=_text(item.get("quick_check")),
        facts=item,
    )


def _agent(item: object) -> Agent:
    if not isinstance(item, dict):
        raise _refuse("it does not say which agent it describes")
    home = _check_absolute(item.get("home"), "the agent's home")
    return Agent(
        name=_text(item.get("name")),
        host=_text(item.get("host")),
        profile=_text(item.get("profile")),
        version=_text(item.get("version")),
        user=_text(item.get("user")),
        group=_text(item.get("group")),
        uid=_optional_int(item.get("uid")),
        gid=_optional_int(item.get("gid")),
        home=home,
        home_real=_check_absolute(item.get("home_real") or home, "the agent's real home"),
    )


def objects(value: object) -> tuple[dict[str, str], ...]:
    """The objects of a list, with texts as their values; nothing where there is no such list."""
    if not isinstance(value, (list, tuple)):
        return ()
    return tuple(
        {str(k): str(v) for k, v in item.items()} for item in value if isinstance(item, Mapping)
    )


def texts(value: object) -> tuple[str, ...]:
    """The items of a list as texts; what is neither text nor number becomes an empty one."""
    if not isinstance(value, (list, tuple)):
        return ()
    return tuple(str(item) if isinstance(item, (str, int, float)) else "" for item in value)


def numbers(value: object) -> dict[str, int]:
    """The whole numbers of a mapping, by name."""
    if not isinstance(value, Mapping):
        return {}
    read = {str(key): _optional_int(item) for key, item in value.items()}
    return {key: item for key, item in read.items() if item is not None}


SHORT_PARTS: Mapping[str, Callable[[object], object]] = {
    "to_be_supplied": objects,
    "environment": texts,
    "outside": objects,
    "counts": numbers,
    "bytes": numbers,
}


def parse(text: bytes, agent: str) -> RestoreManifest:
    """The manifest of this agent's archive, or a refusal that says what is wrong with it."""
    if len(text) > SIZE_LIMIT:
        raise _refuse(f"{len(text)} bytes are more than the limit of {SIZE_LIMIT}")
    try:
        raw = json.loads(text.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise _refuse(f"it is not JSON: {error}") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        found = raw.get("format") if isinstance(raw, dict) else None
        raise RestoreError(
            f"The archive's manifest has the format {found!r}; this version reads format {FORMAT}.",
            "Restore with the version of lifeboat.agents that the archive was made for, or newer.",
        )
    described = _agent(raw.get("agent"))
    if described.name != agent:
        raise _refuse(f"it describes the agent {described.name!r}, not {agent!r}")
    databases = raw.get("databases")
    return RestoreManifest(
        archive=_text(raw.get("archive")),
        created=_text(raw.get("created")),
        agent=described,
        entries=_entries(raw.get("entries")),
        databases=tuple(_database(item) for item in databases)
        if isinstance(databases, list)
        else (),
        to_be_supplied=objects(raw.get("to_be_supplied")),
        environment=texts(raw.get("environment")),
        outside=objects(raw.get("outside")),
        raw=raw,
    )
