# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent itself: its version, its own commands as its own user, its service, its HTTP answer.

An agent's exit code proves nothing, so a command without an expected text is no check. Strings
of a profile may hold {home}, {user} and {user_home}.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .health_account import Outcome, Tools, environment
from .health_sheet import Draft, Sheet
from .privilege import Identity
from .verdict import ANSWERS

_SERVICE_TIMEOUT = 30.0
_SHOWN = 300


@dataclass(frozen=True)
class Agent:
    """Where the agent lives and how it is asked."""

    account: Identity
    home: str
    profile: Mapping[str, Any]
    tools: Tools
    timeout: float

    @property
    def health(self) -> Mapping[str, Any]:
        health = self.profile.get("health")
        return health if isinstance(health, Mapping) else {}

    def fill(self, text: object) -> str:
        """A string of the profile with its places filled in."""
        filled = str(text)
        for name, value in (
            ("{home}", self.home),
            ("{user_home}", self.account.home),
            ("{user}", self.account.name),
        ):
            filled = filled.replace(name, value)
        return filled

    def environment(self) -> dict[str, str]:
        extra = self.health.get("environment")
        given = extra.items() if isinstance(extra, Mapping) else ()
        return environment(self.account, {str(name): self.fill(text) for name, text in given})

    def run(self, argv: Sequence[object], timeout: float) -> Outcome:
        filled = [self.fill(item) for item in argv]
        return self.tools.run_command(self.account, filled, self.environment(), timeout)


def items(value: object) -> list[Mapping[str, Any]]:
    """One mapping or a list of them."""
    if isinstance(value, Mapping):
        return [value] if value else []
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def version_tuple(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def installed_version(agent: Agent) -> tuple[str, str]:
    """The version of the installed agent, or "" and why it is not known.

    Told from the package's own records where it has any, so that the question leaves nothing
    behind in the home of an agent that has not started yet.
    """
    rule = agent.profile.get("version")
    if not isinstance(rule, Mapping) or not rule.get("command"):
        return "", "the profile has no version command"
    version = agent.tools.version(agent.account, agent.profile, agent.home, agent.timeout)
    if not version:
        return "", f"{rule['command'][0]} is not installed here, or does not tell its version"
    return version, ""


def first_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[0][:_SHOWN] if lines else "nothing"


def check_version(sheet: Sheet, agent: Agent, archived: str, required: bool) -> str:
    """The installed agent is not older than the one that wrote the data."""
    expected = f"{archived} or newer" if archived else "any version"
    with sheet.check(
        "agent_version",
        ANSWERS,
        expected,
        "An older agent may misread, migrate back or refuse newer data. Install the version that "
        "the archive was made with.",
    ) as draft:
        version, reason = installed_version(agent)
        draft.found = version or reason
        if not version:
            if required and "the profile has" not in reason:
                draft.fail(reason)
            else:
                draft.skip(reason)
        elif archived and version_tuple(version) < version_tuple(archived):
            draft.fail(f"{version}: the databases are of a schema ahead of the installed agent")
        return version


def check_commands(sheet: Sheet, agent: Agent, *, production: bool, model: bool) -> int:
    """The agent's own commands give the text that they have to give."""
    asked = 0
    for command in items(agent.health.get("commands")):
        if production and not command.get("production"):
            continue
        with _agent_check(sheet, f"command: {command.get('name', '?')}", "") as draft:
            if command.get("model") and not model:
                draft.skip("no model may be asked here")
                continue
            asked += 1
            _check_command(draft, agent, command)
    return asked


def _check_command(draft: Draft, agent: Agent, command: Mapping[str, Any]) -> None:
    regex = str(command.get("expect_regex") or "")
    argv = [agent.fill(item) for item in command.get("argv") or ()]
    draft.expected = f"/{regex}/"
    draft.hint = f"As {agent.account.name}: {' '.join(argv)}"
    if not regex or not argv:
        draft.fail("the profile gives no argv or no expect_regex")
        return
    timeout = float(command.get("timeout") or agent.timeout)
    _judge(draft, agent.run(argv, timeout), regex, timeout)


def _judge(draft: Draft, outcome: Outcome, regex: str, timeout: float) -> None:
    match = re.search(regex, outcome.output, re.MULTILINE)
    if outcome.timed_out:
        draft.fail(f"no answer within {timeout:.0f} s: {first_line(outcome.output)}")
    elif outcome.rc != 0:
        draft.fail(f"exit code {outcome.rc}: {first_line(outcome.output)}")
    elif match is None:
        draft.fail(f"no match in: {first_line(outcome.output)}")
    else:
        draft.found = first_line(match.group(0))


@contextlib.contextmanager
def _agent_check(sheet: Sheet, name: str, expected: str) -> Iterator[Draft]:
    with sheet.check(name, ANSWERS, expected) as draft:
        yield draft


def check_services(sheet: Sheet, agent: Agent, services: Sequence[Mapping[str, Any]]) -> int:
    """The agent's service is in the state it has to be in."""
    for service in services:
        unit = agent.fill(service.get("unit", ""))
        state = str(service.get("state") or "active")
        user_scope = service.get("scope") == "user"
        with _agent_check(sheet, f"service: {unit}", state) as draft:
            draft.hint = f"journalctl {'--user-unit' if user_scope else '-u'} {unit}"
            scope = ["--user", f"--machine={agent.account.name}@"] if user_scope else []
            env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
            root = Identity("root", "root", 0, 0, (0,))
            argv = ["systemctl", *scope, "is-active", unit]
            outcome = agent.tools.run_command(root, argv, env, _SERVICE_TIMEOUT)
            draft.found = first_line(outcome.output)
            if draft.found != state:
                draft.fail(draft.found)
    return len(services)


def check_http(sheet: Sheet, agent: Agent, only_production: bool = False) -> int:
    """The agent answers on loopback."""
    asked = 0
    for rule in items(agent.health.get("http")):
        if only_production and not rule.get("production", True):
            continue
        asked += 1
        url = agent.fill(rule.get("url", ""))
        status = int(rule.get("expect_status") or 200)
        regex = str(rule.get("expect_regex") or "")
        expected = f"status {status}" + (f" and /{regex}/" if regex else "")
        with _agent_check(sheet, f"http: {rule.get('name') or url}", expected) as draft:
            draft.hint = f"curl -v {url}"
            answer = agent.tools.fetch(url, float(rule.get("timeout") or agent.timeout))
            match = re.search(regex, answer.body)
            if answer.status == status and match is not None:
                draft.found = f"status {answer.status}, {first_line(match.group(0))}"
            else:
                draft.fail(f"status {answer.status}: {first_line(answer.body)}")
    return asked
