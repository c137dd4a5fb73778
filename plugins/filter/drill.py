# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the drill: which agents, from which repository, and how the run ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.lifeboat.agents.plugins.module_utils import drill_plan as logic
from ansible_collections.lifeboat.agents.plugins.module_utils.verdict import NOT_PROVEN, PROVEN


def drill_plan(
    fleet: Sequence[Mapping[str, Any]],
    agent: str = "all",
    sample: int = 0,
    last_drilled: Mapping[str, str] | None = None,
) -> list[Mapping[str, Any]]:
    """The entries of the fleet to drill."""
    try:
        return logic.plan(fleet, agent, int(sample or 0), last_drilled or {})
    except (logic.PlanError, ValueError) as error:
        raise AnsibleFilterError(str(error)) from error


def drill_repository(entry: Mapping[str, Any], name: str = "") -> Mapping[str, Any]:
    """The repository that the drill of an agent reads."""
    try:
        return logic.repository_of(entry, name)
    except logic.PlanError as error:
        raise AnsibleFilterError(str(error)) from error


def drill_ended(result: str, message: str = "") -> bool:
    """False when everything was proven. An error ends ansible-playbook with exit code 1."""
    if result == PROVEN:
        return False
    text = "NOT PROVEN" if result == NOT_PROVEN else "COULD NOT RUN"
    raise AnsibleFilterError(f"{text}: {message}" if message else text)


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filters."""
        return {
            "drill_plan": drill_plan,
            "drill_repository": drill_repository,
            "drill_ended": drill_ended,
        }
