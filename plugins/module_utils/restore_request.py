# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator typed after restore.yml -e, checked as a whole before anything is touched.

Every refusal says what was wrong and lists what would be right; all problems come at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .restore_manifest import RestoreError, check_relative, outermost
from .restore_session import parse_moment

ARGUMENTS = (
    "agent",
    "target",
    "archive",
    "at",
    "only",
    "dry_run",
    "replace",
    "start",
    "undo",
    "pair",
    "paired",
    "repository",
    "new_box",
    "abandon",
    "unhealthy",
)
PAIR = ("wait", "later")
_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "")


@dataclass(frozen=True)
class Request:
    """One restore. agent and repository are entries of the fleet; path is set for inspection."""

    agent: Mapping[str, Any]
    repository: Mapping[str, Any]
    host: str
    path: str
    archive: str
    at: str
    only: tuple[str, ...]
    dry_run: bool
    replace: bool
    start: bool
    undo: bool
    pair: str
    paired: bool
    new_box: bool
    abandon: bool
    unhealthy: bool

    @property
    def home(self) -> str:
        return self.path or str(self.agent["home"])

    @property
    def is_the_box(self) -> bool:
        return self.host == self.agent["host"] and not self.path

    @property
    def joins_fleet(self) -> bool:
        """A new box that the inventory already names: it backs itself up from the first night."""
        return self.new_box and self.is_the_box and not self.dry_run


class _Reader:
    """Takes arguments one by one and collects what is wrong with them."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.problems: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        value = self.given.get(name)
        if value is None or value == "":
            return default
        if not isinstance(value, (str, int)) or isinstance(value, bool):
            self.problems.append(f"{name}={value!r} must be text.")
            return default
        return str(value).strip()

    def flag(self, name: str) -> bool:
        value = self.given.get(name, False)
        word = str(value).strip().lower()
        if word in _YES:
            return True
        if word not in _NO:
            self.problems.append(f"{name}={value!r} is neither true nor false.")
        return False

    def one_of(self, name: str, values: Sequence[str]) -> str:
        value = self.text(name, values[0])
        if value not in values:
            self.problems.append(f"{name}={value!r} is unknown; it is one of {', '.join(values)}.")
        return value

    def paths(self, name: str) -> tuple[str, ...]:
        value = self.given.get(name) or []
        parts = value if isinstance(value, list) else str(value).split(",")
        items = [item for item in (str(part).strip() for part in parts) if item]
        if value and not items:
            self.problems.append(f"{name}={value!r} names no path.")
        found = []
        for item in items:
            try:
                path = check_relative(item.rstrip("/"))
            except RestoreError:
                path = ""
            if path:
                found.append(path)
            else:
                self.problems.append(
                    f"{name}={item!r} must be a path below the home, such as memories/USER.md."
                )
        return outermost(found)

    def agent(self, fleet: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        name = self.text("agent")
        known = ", ".join(sorted(str(entry["agent"]) for entry in fleet)) or "none"
        if not name:
            self.problems.append(f"agent is missing: -e agent=NAME. There are: {known}.")
            return {}
        for entry in fleet:
            if entry["agent"] == name:
                return entry
        self.problems.append(f"agent={name!r} is not in the inventory. There are: {known}.")
        return {}

    def target(self, agent: Mapping[str, Any], hosts: Sequence[str]) -> tuple[str, str]:
        value = self.text("target")
        host, colon, path = value.partition(":")
        known = ", ".join(sorted(hosts)) or "none"
        if not value:
            here = f" The agent's own box is {agent['host']}." if agent else ""
            self.problems.append(
                f"target is missing: -e target=HOST, or -e target=HOST:/path to look inside.{here}"
            )
        elif host not in hosts:
            self.problems.append(
                f"target={host!r} is not a host of the inventory. There are: {known}. "
                "A new box is added to the inventory first."
            )
        if colon and not re.fullmatch(r"(/[^/\0]+)+", path):
            self.problems.append(f"target={value!r}: after the colon comes an absolute path.")
        return host, path

    def repository(self, agent: Mapping[str, Any]) -> Mapping[str, Any]:
        repositories = agent.get("repositories") or []
        name = self.text("repository")
        if not agent:
            return {}
        if not name:
            return dict(repositories[0]) if repositories else {}
        for entry in repositories:
            if entry["name"] == name:
                return dict(entry)
        known = ", ".join(str(entry["name"]) for entry in repositories) or "none"
        self.problems.append(
            f"repository={name!r} holds nothing of {agent['agent']!r}. There are: {known}."
        )
        return {}


def read(
    given: Mapping[str, Any], fleet: Sequence[Mapping[str, Any]], hosts: Sequence[str]
) -> dict[str, Any]:
    """The request, or one refusal that names everything that is wrong with it."""
    reader = _Reader(given)
    agent = reader.agent(fleet)
    host, path = reader.target(agent, hosts)
    request = Request(
        agent=agent,
        repository=reader.repository(agent),
        host=host,
        path=path,
        archive=reader.text("archive", "latest"),
        at=reader.text("at"),
        only=reader.paths("only"),
        dry_run=reader.flag("dry_run"),
        replace=reader.flag("replace"),
        start=reader.flag("start"),
        undo=reader.flag("undo"),
        pair=reader.one_of("pair", PAIR),
        paired=reader.flag("paired"),
        new_box=reader.flag("new_box"),
        abandon=reader.flag("abandon"),
        unhealthy=reader.flag("unhealthy"),
    )
    problems = reader.problems + _contradictions(request)
    if problems:
        raise RestoreError(
            "Nothing was changed. " + " ".join(problems),
            "See docs/restore.md for the arguments and examples.",
            problems=problems,
        )
    return {
        **asdict(request),
        "home": request.home,
        "is_the_box": request.is_the_box,
        "joins_fleet": request.joins_fleet,
    }


def _contradictions(request: Request) -> list[str]:
    problems = []
    if request.at:
        try:
            parse_moment(request.at)
        except RestoreError as error:
            problems.append(f"at: {error.message} {error.hint}")
        if request.archive != "latest":
            problems.append("archive and at were both given; give one of the two.")
    alone = [name for name in ("undo", "abandon", "paired") if getattr(request, name)]
    if alone:
        others = ("at", "only", "dry_run", "new_box", "undo", "abandon", "paired")
        for name in others:
            if getattr(request, name) and name != alone[0]:
                problems.append(f"{alone[0]} and {name} do not go together.")
    if request.path:
        for name, wanted in (("start", request.start), ("new_box", request.new_box)):
            if wanted:
                problems.append(f"{name} makes no sense for a path to look inside.")
    if request.new_box and request.dry_run:
        problems.append(
            "dry_run changes nothing, so it cannot look from a box that is not made yet."
        )
    if request.only and (request.new_box or request.start):
        problems.append(
            "only restores paths into a home that is there; it starts and makes nothing."
        )
    return problems
