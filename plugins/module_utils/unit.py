# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A systemd unit that is started and followed: what its answers mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

PROPERTIES = ("ActiveState", "ExecMainStatus", "InvocationID", "Job", "LoadState", "Result")
CURSOR = re.compile(r"^-- cursor: (\S+)$")
UNIT = re.compile(r"[A-Za-z0-9:_.@-]+\.service")


class UnitError(Exception):
    """The unit cannot be followed."""


@dataclass(frozen=True)
class Followed:
    """How far a unit is, and what it said so far."""

    unit: str
    finished: bool = False
    result: str = ""
    status: int = 0
    cursor: str = ""
    lines: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether it ended, and well."""
        return self.finished and self.result == "success"


def start_command(unit: str) -> str:
    """The shell command that starts a unit, or joins the run that is under way."""
    if not UNIT.fullmatch(unit):
        raise UnitError(f"{unit!r} is not the name of a service.")
    return f"systemctl start --no-block {unit}"


def follow_command(state: Followed) -> str:
    """The shell command that tells where the unit is, and what it said since."""
    properties = ",".join(PROPERTIES)
    after = f"--after-cursor='{state.cursor}' " if state.cursor else ""
    return (
        f"systemctl show --no-pager --property={properties} {state.unit} && "
        f"invocation=$(systemctl show --no-pager --value --property=InvocationID {state.unit}) && "
        'echo && { [ -z "$invocation" ] || journalctl --quiet --no-pager --output=cat '
        f'--show-cursor {after}_SYSTEMD_INVOCATION_ID="$invocation" || true; }}'
    )


def read(state: Followed, output: str) -> tuple[Followed, list[str]]:
    """Take in an answer; returns the new state and the lines that are new."""
    head, _blank, tail = output.replace("\r\n", "\n").partition("\n\n")
    values = dict(line.split("=", 1) for line in head.splitlines() if "=" in line)
    if values.get("LoadState") == "not-found":
        raise UnitError(
            f"There is no unit {state.unit}. Roll out to this box first: playbooks/site.yml."
        )
    lines: list[str] = []
    cursor = state.cursor
    for line in tail.splitlines():
        found = CURSOR.match(line)
        if found:
            cursor = found.group(1)
        else:
            lines.append(line)
    return (
        replace(
            state,
            finished=_finished(values),
            result=values.get("Result", ""),
            status=int(values.get("ExecMainStatus") or 0),
            cursor=cursor,
            lines=(*state.lines, *lines),
        ),
        lines,
    )


def _finished(values: Mapping[str, str]) -> bool:
    """A job that waits or runs is not over, whatever the state of the run before was."""
    waiting = values.get("Job", "0") not in ("", "0")
    return not waiting and values.get("ActiveState") in ("inactive", "failed")
