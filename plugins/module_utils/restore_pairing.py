# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which logins a restored agent needs again, told by what its archive had to leave out.

The manifest names the files of secrets that were withheld. The profile says for each kind of them
by which command its owner gets it back, and, where the agent can tell, how it says that it is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from .health_agent import Agent, first_line, items
from .restore_manifest import show

_MOST = 200


@dataclass(frozen=True)
class Step:
    """One command for the owner. had: what the archive left out and this brings back."""

    command: str
    why: str = ""
    when: str = ""
    had: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()
    expected: str = ""

    def report(self) -> dict[str, Any]:
        had = [show(path) for path in self.had]
        return {"command": self.command, "why": self.why, "when": self.when, "had": had}


@dataclass(frozen=True)
class Plan:
    """All steps, and what was withheld that no step speaks of."""

    steps: tuple[Step, ...]
    others: tuple[str, ...]


def plan(profile: Mapping[str, Any], withheld: object) -> Plan:
    """The steps of the profile that this agent needs; a nested home has steps of its own."""
    pairing = profile.get("pairing")
    pairing = pairing if isinstance(pairing, Mapping) else {}
    names = [str(name) for name in withheld][:_MOST] if isinstance(withheld, list) else []
    nested = [str(pattern) for pattern in profile.get("nested_homes") or ()]
    found, covered = [], set()
    for rule in items(pairing.get("steps")):
        if "withheld" not in rule:
            found.append(_step(rule, str(rule.get("command", "")), (), own=True))
            continue
        matching = _by_home(names, nested, [str(pattern) for pattern in rule["withheld"]])
        for home, had in matching.items():
            covered.update(had)
            command = _in_home(str(rule.get("command", "")), pairing.get("nested"), home)
            found.append(_step(rule, command, tuple(had), own=not home))
    environment = (name for name in names if name.rstrip("/").rpartition("/")[2] == ".env")
    others = [name for name in names if name not in {*covered, *environment}]
    return Plan(tuple(found), tuple(others))


def _step(rule: Mapping[str, Any], command: str, had: tuple[str, ...], *, own: bool) -> Step:
    proof = rule.get("proof") if own else None
    proof = proof if isinstance(proof, Mapping) else {}
    return Step(
        command=command,
        why=str(rule.get("why") or ""),
        when=str(rule.get("when") or ""),
        had=had,
        argv=tuple(str(word) for word in proof.get("argv") or ()),
        expected=str(proof.get("expect_regex") or ""),
    )


def _by_home(
    names: Iterable[str], nested: Sequence[str], patterns: Sequence[str]
) -> dict[str, list[str]]:
    """What matches, by the home that it lies in; "" is the agent's own."""
    found: dict[str, list[str]] = {}
    for name in names:
        home, inside = _split(name.rstrip("/"), nested)
        if any(fnmatchcase(inside, pattern.rstrip("/")) for pattern in patterns):
            found.setdefault(home, []).append(name)
    return found


def _split(path: str, nested: Sequence[str]) -> tuple[str, str]:
    parts = path.split("/")
    for pattern in nested:
        depth = pattern.count("/") + 1
        above = "/".join(parts[:depth])
        if len(parts) > depth and fnmatchcase(above, pattern):
            return above, "/".join(parts[depth:])
    return "", path


def _in_home(command: str, template: object, home: str) -> str:
    """The command for a nested home: its first word is replaced as the profile says."""
    if not home or not template:
        return command
    name = home.rpartition("/")[2]
    if not re.fullmatch(r"[\w.-]+", name):  # it comes out of an archive and is typed by a person
        name = "NAME"
    first, _space, rest = command.partition(" ")
    return f"{str(template).replace('{command}', first).replace('{name}', name)} {rest}".strip()


def unpaired(agent: Agent, steps: Iterable[Step]) -> list[dict[str, str]]:
    """The steps whose proof the agent does not give, with what it says instead."""
    found = []
    for step in steps:
        if not (step.argv and step.expected):
            continue
        outcome = agent.run(step.argv, agent.timeout)
        if not re.search(step.expected, outcome.output):
            asked = " ".join(agent.fill(word) for word in step.argv)
            said = "nothing in time" if outcome.timed_out else first_line(outcome.output)
            found.append({"command": step.command, "asked": asked, "says": said})
    return found
