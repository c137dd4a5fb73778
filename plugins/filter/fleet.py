# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet for playbooks and templates; the decisions are in module_utils/fleet.py."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
short_description: Describe the agents of the inventory with their repositories
version_added: 0.1.0
author: lifeboat.agents contributors (@lifeboat-agents)
description:
  - Turns the hosts of the inventory group C(agents) with their host variable C(backup_agents) into
    one list of agents, defaults filled in, and refuses an inventory that cannot work.
positional: hostvars, repositories
options:
  _input:
    description: Names of the hosts with agents.
    type: list
    elements: str
    required: true
  hostvars:
    description: The C(hostvars) of the run.
    type: dict
    required: true
  repositories:
    description: Names of the storage hosts; the first is the default repository of every agent.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show who backs up where
  ansible.builtin.debug:
    msg: "{{ groups['agents'] | lifeboat.agents.fleet(hostvars, groups['repositories']) }}"
"""

RETURN = r"""
_value:
  description: One entry per agent, with its host, profile, user, home and repositories.
  type: list
  elements: dict
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.lifeboat.agents.plugins.module_utils import fleet as logic


def fleet(hosts: Iterable[str], hostvars: Any, repositories: Iterable[str]) -> list[dict[str, Any]]:
    """Describe the fleet, or fail with everything that is wrong with it."""
    try:
        return logic.fleet(hosts, hostvars, repositories or ())
    except logic.FleetError as error:
        raise AnsibleFilterError(str(error)) from error


def fleet_accounts(
    entries: Iterable[Mapping[str, Any]], repository: str, hostvars: Any
) -> list[dict[str, Any]]:
    """List the accounts of one storage host with the keys that the boxes reported."""
    agents = list(entries)
    return logic.accounts(agents, repository, logic.public_keys(agents, hostvars))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filters."""
        return {
            "fleet": fleet,
            "fleet_accounts": fleet_accounts,
            "escrow_facts": logic.escrow_facts,
            "known_hosts": logic.known_hosts,
        }
