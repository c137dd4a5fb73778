# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From rules to a class for each entry: an automaton over path segments, one state per folder.

The first rule that matches wins. A rule that matches a folder covers everything below it; a
trailing slash asks for a folder (or a symbolic link in its place). What is left to match in a
folder is known when it is entered, so a name costs a dictionary look-up and one regular
expression, however many rules there are.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from .copy_names import originals
from .profile import ARCHIVED, CLASSES, SCRUB, SECRET, UNKNOWN
from .sqlite import SIDE_FILES

_NONE = 1 << 30
_DEEP = "**"
_GLOB = frozenset("*?[")
Item = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Rule:
    """One pattern of a profile."""

    number: int
    pattern: str
    segments: tuple[str, ...]
    folder_only: bool
    classification: str
    hash: bool | None
    anywhere: bool


def segment_regex(segment: str) -> str:
    """A glob of one path segment as an expression without groups; any byte may be in a name."""
    parts = re.split(r"(\*+|\?|\[!?\]?[^\]]*\])", segment)
    text = ""
    for part in parts:
        if part.startswith("*"):
            text += ".*"
        elif part == "?":
            text += "."
        elif part.startswith("[") and part.endswith("]") and len(part) > 2:
            inner = part[1:-1].replace("\\", r"\\").replace("[", r"\[")
            text += "[^" + inner[1:] + "]" if inner.startswith("!") else "[" + inner + "]"
        else:
            text += re.escape(part)
    return rf"(?s:{text})\Z"


class State:
    """What the rules can still match in one folder."""

    __slots__ = ("_files", "_folders", "_links", "_machine", "_steps", "cover", "items", "known")

    def __init__(self, machine: Classifier, items: frozenset[Item], cover: int) -> None:
        self.items = items
        self.cover = cover
        self._machine = machine
        folders_too: list[tuple[int, str]] = []
        files: list[tuple[int, str]] = []
        self._steps: list[tuple[int, int, str, re.Pattern[str] | None]] = []
        self.known = False  # a rule anchored somewhere speaks of what is in here
        for number, position in sorted(items):
            rule = machine.rules[number]
            segment = rule.segments[position]
            last = position == len(rule.segments) - 1
            if not rule.anywhere:
                self.known = True
            if last and segment != _DEEP:
                (folders_too if rule.folder_only else files).append((number, segment))
            if segment == _DEEP and last:
                files.append((number, "*"))
            self._steps.append((number, position, segment, machine.regex(segment)))
        self._files = machine.names(tuple(files))
        self._links = machine.names(tuple(sorted([*files, *folders_too])))
        self._folders: dict[str, State] = {}

    def file(self, name: str) -> int:
        """The number of the rule for a file of that name, or the covering one.

        A database's side files hold what the database holds: the first rule that speaks of the one
        or the other speaks of both. Copies of what holds secrets are secret, unless a rule names
        them.
        """
        number = min(self._files.match(name), self.cover)
        if name.endswith(SIDE_FILES):
            return min(number, self.file(name.rpartition("-")[0]))
        if number != _NONE:
            return number
        if any(self._machine.sensitive(self._files.match(item)) for item in originals(name)):
            return self._machine.copies
        return number

    def link(self, name: str) -> int:
        """As `file`, for a symbolic link, which may stand in for a folder."""
        return min(self._links.match(name), self.cover)


class _Names:
    """Which rule matches a name: literal names by look-up, patterns by one expression."""

    __slots__ = ("_literal", "_numbers", "_pattern")

    def __init__(self, names: tuple[tuple[int, str], ...]) -> None:
        self._literal: dict[str, int] = {}
        globs = []
        for number, segment in names:
            if _GLOB.isdisjoint(segment):
                self._literal.setdefault(segment, number)
            else:
                globs.append((number, segment))
        self._numbers = [number for number, _segment in globs]
        text = "|".join(f"({segment_regex(segment)})" for _number, segment in globs)
        self._pattern = re.compile(text) if globs else None

    def match(self, name: str) -> int:
        number = self._literal.get(name, _NONE)
        if self._pattern is not None:
            found = self._pattern.match(name)
            if found is not None and found.lastindex:
                return min(number, self._numbers[found.lastindex - 1])
        return number


class Classifier:
    """The rules of a profile, compiled once."""

    def __init__(self, profile: Mapping[str, Any]) -> None:
        self.rules: list[Rule] = []
        self._regexes: dict[str, re.Pattern[str] | None] = {}
        self._names: dict[tuple[tuple[int, str], ...], _Names] = {}
        self._states: dict[tuple[frozenset[Item], int], State] = {}
        for rule in profile["rules"]:
            self._add(rule["match"], rule["class"], rule.get("at", "root"), rule.get("hash"))
        self._sensitive = frozenset(
            rule.number for rule in self.rules if rule.classification in (SCRUB, SECRET)
        )
        self._nested_from = len(self.rules)
        for pattern in profile.get("nested_homes", []):
            self._add(pattern, CLASSES[0], "root", None)
        initial = {(rule.number, 0) for rule in self.rules}
        self._initial = self._closure(initial)
        self._rules_only = frozenset(i for i in self._initial if i[0] < self._nested_from)
        self.copies = len(self.rules)  # the rule of copies matches by no pattern
        self._add("copies of files with secrets", SECRET, "root", None)
        self.root = self._state(self._initial, _NONE)

    def _add(self, pattern: str, classification: str, at: str, hashed: bool | None) -> None:
        segments = tuple(pattern.rstrip("/").split("/"))
        if at == "any":
            segments = (_DEEP, *segments)
        self.rules.append(
            Rule(
                len(self.rules),
                pattern,
                segments,
                pattern.endswith("/"),
                classification,
                hashed,
                at == "any",
            )
        )

    def sensitive(self, number: int) -> bool:
        """Whether what a rule matches holds secrets, or is one."""
        return number in self._sensitive

    def classification(self, number: int) -> str:
        """The class that a rule number stands for."""
        return UNKNOWN if number == _NONE else self.rules[number].classification

    def hashed(self, number: int) -> bool | None:
        """What the rule says about hashing, None where it says nothing."""
        return None if number == _NONE else self.rules[number].hash

    def enter(self, state: State, name: str) -> State:
        """The state inside a folder."""
        found = state._folders.get(name)
        if found is None:
            found = state._folders[name] = self._enter(state, name)
        return found

    def worth_entering(self, state: State) -> bool:
        """Whether something below a dropped folder may still be archived."""
        if state.cover == _NONE or self.rules[state.cover].classification in ARCHIVED:
            return True
        return any(
            number < self._nested_from
            and self.rules[number].classification in ARCHIVED
            and (position > 0 or self.rules[number].anywhere)
            for number, position in state.items
        )

    def _enter(self, state: State, name: str) -> State:
        cover = state.cover
        items: set[Item] = set()
        nested = False
        for number, position, segment, regex in state._steps:
            if number > cover and number < self._nested_from:
                continue
            rule = self.rules[number]
            last = position == len(rule.segments) - 1
            if segment == _DEEP:
                items.add((number, position))
                if last:
                    cover = min(cover, number)
            elif name == segment if regex is None else regex.match(name):
                if not last:
                    items.add((number, position + 1))
                elif number >= self._nested_from:
                    nested = True
                else:
                    cover = min(cover, number)
        if nested:
            items |= self._rules_only
        limit = cover
        kept = {item for item in items if item[0] < limit or item[0] >= self._nested_from}
        return self._state(self._closure(kept), cover)

    def _closure(self, items: set[Item] | frozenset[Item]) -> frozenset[Item]:
        """`**` also stands for no folder at all."""
        result = set(items)
        for number, position in items:
            segments = self.rules[number].segments
            while segments[position] == _DEEP and position + 1 < len(segments):
                position += 1
                result.add((number, position))
        return frozenset(result)

    def _state(self, items: frozenset[Item], cover: int) -> State:
        key = (items, cover)
        if key not in self._states:
            self._states[key] = State(self, items, cover)
        return self._states[key]

    def regex(self, segment: str) -> re.Pattern[str] | None:
        """The expression of a segment, None for a literal name."""
        if segment not in self._regexes:
            literal = _GLOB.isdisjoint(segment)
            self._regexes[segment] = None if literal else re.compile(segment_regex(segment))
        return self._regexes[segment]

    def names(self, names: tuple[tuple[int, str], ...]) -> _Names:
        """A shared table for the same rules."""
        if names not in self._names:
            self._names[names] = _Names(names)
        return self._names[names]
