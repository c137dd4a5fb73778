# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters about snapshots: whether they last long enough, and how a provider's stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.lifeboat.agents.plugins.module_utils import snapshots as logic


def snapshot_reach(preserve: str, custody: Mapping[str, Any]) -> list[str]:
    """Why a policy does not outlive the time in which a deletion becomes final."""
    try:
        needed = logic.lag(
            delay_hours=custody["delay_hours"],
            silence_hours=custody["silence_hours"],
            every_days=custody.get("every_days", 0),
        )
        return logic.too_short(logic.reach(preserve), needed)
    except (logic.SnapshotError, KeyError, TypeError, ValueError) as error:
        raise AnsibleFilterError(str(error)) from error


def snapshot_policy(preserve: str) -> dict[str, int]:
    """How many snapshots of each kind stay."""
    try:
        return logic.policy(preserve)
    except logic.SnapshotError as error:
        raise AnsibleFilterError(str(error)) from error


def snapshots_provided(
    names: Iterable[str], born: str, now: str, expected: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """How a provider's snapshots stand."""
    try:
        return logic.provided(names, born, now, expected)
    except (TypeError, ValueError) as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filters."""
        return {
            "snapshot_policy": snapshot_policy,
            "snapshot_reach": snapshot_reach,
            "snapshots_provided": snapshots_provided,
        }
