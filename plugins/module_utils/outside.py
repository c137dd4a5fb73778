# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders the agent works in outside its home: named by its own data, covered by nothing."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from .databases import HeldDatabase
from .manifest import printable
from .survey import Candidate
from .walk import open_below

_LIMIT = 1 << 20
_MOST = 200


class Outside:
    """Collects them from databases, JSON files and symbolic links."""

    def __init__(self, home: str, descriptor: int, profile: Mapping[str, Any]) -> None:
        self._home = home
        self._descriptor = descriptor
        rules = profile.get("outside", [])
        self._rules = [rule for rule in rules if "json" in rule]
        self._paths = [str(rule["path"]) for rule in rules if "path" in rule]
        self._found: dict[str, str] = {}

    def collect(
        self, records: Mapping[str, Candidate], databases: list[HeldDatabase]
    ) -> list[dict[str, str]]:
        """[{"path", "source"}], each path once."""
        for item in databases:
            for path, source in item.report.get("outside") or []:
                self._add(path, source)
        for path, record in records.items():
            if record.type == "symlink" and record.target is not None:
                target = os.path.join(self._home, os.path.dirname(path), record.target)
                self._add(os.path.normpath(target), f"link {printable(path)}")
            elif record.type == "file":
                self._from_json(path)
        for path in self._paths:
            place = os.path.normpath(os.path.join(self._home, path))
            if os.path.lexists(place):
                self._add(place, "the profile")
        return [{"path": path, "source": source} for path, source in sorted(self._found.items())]

    def _add(self, path: str, source: str) -> None:
        clean = os.path.normpath(path)
        inside = clean == self._home or clean.startswith(self._home + "/")
        if os.path.isabs(clean) and not inside and clean != "/" and len(self._found) < _MOST:
            self._found.setdefault(printable(clean), source)

    def _from_json(self, path: str) -> None:
        for rule in self._rules:
            pattern = str(rule["json"])
            if not (
                fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"*/{pattern}")
            ):
                continue
            try:
                descriptor = open_below(self._descriptor, path)
                with os.fdopen(descriptor, "rb") as file:
                    data = json.loads(file.read(_LIMIT))
            except (OSError, ValueError):
                continue
            for value in pointed(data, str(rule["pointer"])):
                self._add(value, f"{printable(path)}:{rule['pointer']}")


def pointed(data: Any, pointer: str) -> Iterator[str]:
    """The strings at a JSON pointer in which * stands for every item."""
    current = [data]
    for part in pointer.strip("/").split("/"):
        following: list[Any] = []
        for value in current:
            if part == "*":
                following += (
                    value.values()
                    if isinstance(value, dict)
                    else value
                    if isinstance(value, list)
                    else []
                )
            elif isinstance(value, dict) and part in value:
                following.append(value[part])
        current = following
    for value in current:
        if isinstance(value, str):
            yield value
