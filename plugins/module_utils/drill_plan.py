# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which agents a run drills: all, named ones, or a sample of those that waited longest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

ARCHIVES: Final = ("latest", "random")
SOURCES: Final = ("repository", "snapshot")
CHECKS: Final = ("none", "archives", "data")


class PlanError(Exception):
    """What was asked for cannot be drilled."""


def plan(
    fleet: Sequence[Mapping[str, Any]],
    agent: str,
    sample: int,
    last_drilled: Mapping[str, str],
) -> list[Mapping[str, Any]]:
    """The entries to drill, those that waited longest first."""
    if not fleet:
        raise PlanError(
            "The inventory names no agent, so nothing can be proven. "
            "Give the hosts of group agents a list backup_agents."
        )
    entries = {str(entry["agent"]): entry for entry in fleet}
    asked = [name.strip() for name in str(agent or "all").split(",") if name.strip()]
    unknown = sorted(set(asked) - set(entries) - {"all"})
    if unknown:
        raise PlanError(
            f"agent={', '.join(unknown)} is not in the inventory. "
            f"There are: {', '.join(sorted(entries))}."
        )
    chosen = list(entries) if "all" in asked else list(dict.fromkeys(asked))
    if sample < 0:
        raise PlanError(f"sample={sample} is negative. Give the number of agents to drill.")
    if "all" in asked or sample:
        chosen.sort(key=lambda name: (last_drilled.get(name, ""), name))
    return [entries[name] for name in (chosen[:sample] if sample else chosen)]


def repository_of(entry: Mapping[str, Any], name: str = "") -> Mapping[str, Any]:
    """The repository of an agent that a drill reads: the named one, else its first."""
    repositories = list(entry.get("repositories") or ())
    for repository in repositories:
        if not name or repository.get("name") == name:
            return dict(repository)
    known = ", ".join(str(item.get("name")) for item in repositories) or "none"
    raise PlanError(f"The agent {entry.get('agent')} has no repository {name!r}. It has: {known}.")
