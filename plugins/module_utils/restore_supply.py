# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After the switch: what was never in the archive comes from the vault, or is asked for by name.

Environment files are written as the agent's user and only where none stands: a value that an
operator typed is never overwritten.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .restore_manifest import RestoreError, check_relative, show
from .restore_wal import as_user

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PLAIN = re.compile(r"[A-Za-z0-9_./:,@%+=~-]*\Z")


@dataclass(frozen=True)
class EnvironmentFile:
    """One .env of the archived home: all names, and the values that were harmless to keep."""

    path: str
    names: tuple[str, ...]
    values: Mapping[str, str]

    def lines(self, vault: Mapping[str, str]) -> list[str]:
        found = {name: value for name, value in self.values.items() if name not in vault}
        found.update({name: str(vault[name]) for name in self.names if name in vault})
        return [f"{name}={quote(value)}\n" for name, value in sorted(found.items())]

    def missing(self, vault: Mapping[str, str]) -> list[str]:
        return [name for name in self.names if name not in self.values and name not in vault]


def quote(value: str) -> str:
    """A value as every reader of .env files takes it."""
    if _PLAIN.match(value):
        return value
    if "'" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def parse(text: bytes) -> list[EnvironmentFile]:
    """environment.json out of an archive; what does not look like a name or a value is left out."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise RestoreError(
            f"environment.json inside the archive is not JSON: {error}.",
            "The rest of the restore is not touched by this; fill the .env files by hand.",
        ) from error
    files = raw.get("files") if isinstance(raw, dict) else None
    found = []
    for path, content in sorted(files.items()) if isinstance(files, dict) else ():
        if isinstance(content, dict) and os.path.basename(check_relative(path)) == ".env":
            found.append(_file(path, content))
    return found


def _file(path: str, content: Mapping[str, Any]) -> EnvironmentFile:
    names = content.get("names")
    values = content.get("values")
    return EnvironmentFile(
        path,
        tuple(str(name) for name in names if _NAME.match(str(name)))
        if isinstance(names, list)
        else (),
        {
            str(name): str(value)
            for name, value in values.items()
            if _NAME.match(str(name)) and str(value).isprintable()
        }
        if isinstance(values, dict)
        else {},
    )


def write(
    home: str,
    files: Sequence[EnvironmentFile],
    vault: Mapping[str, str],
    owner: tuple[int, int],
) -> list[dict[str, Any]]:
    """Each file that could be begun, what it was given, and what is still missing in it."""

    def work() -> object:
        return [_write_one(home, item, item.lines(vault)) for item in files]

    outcomes = as_user(*owner, work)
    if not isinstance(outcomes, list):
        raise RestoreError("The environment files could not be written.", "Fill them by hand.")
    return [
        {
            "path": show(item.path),
            "written": outcome == "written",
            "reason": "" if outcome == "written" else outcome,
            "supplied": len(item.lines(vault)) if outcome == "written" else 0,
            "missing": item.missing(vault) if outcome == "written" else list(item.names),
        }
        for item, outcome in zip(files, outcomes)
    ]


def _write_one(home: str, item: EnvironmentFile, lines: Sequence[str]) -> str:
    if not lines:
        return "the vault holds nothing for it"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(os.path.join(home, item.path), flags, 0o600)
    except FileExistsError:
        return "it stands already and is left as it is"
    except OSError as error:
        return str(error.strerror)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.writelines(lines)
    return "written"
