# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that reads the arguments of restore.yml."""

from __future__ import annotations

DOCUMENTATION = r"""
name: restore_request
short_description: Check the arguments of a restore
version_added: 0.1.0
author:
  - lifeboat.agents contributors (@lifeboat-agents)
description:
  - Takes what was given with C(-e) and returns the whole request, with the agent's entry of the
    fleet and its repository. Where something is wrong, C(refusal) says all of it.
options:
  _input:
    description: The arguments that were given.
    type: dict
    required: true
  fleet:
    description: The fleet, as the filter P(lifeboat.agents.fleet#filter) gives it.
    type: list
    elements: dict
    required: true
  hosts:
    description: The hosts of the inventory.
    type: list
    elements: str
    required: true
positional: fleet, hosts
"""

EXAMPLES = r"""
- name: Read the arguments
  ansible.builtin.set_fact:
    request: "{{ {'agent': agent, 'target': target} | lifeboat.agents.restore_request(fleet, groups['all']) }}"
"""

RETURN = r"""
_value:
  description: The request.
  type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_request import read


def restore_request(
    given: Mapping[str, Any], fleet: Sequence[Mapping[str, Any]], hosts: Sequence[str]
) -> dict[str, Any]:
    """A refusal is returned, not raised: a playbook shows it as one plain message."""
    try:
        return {**read(plain(given), plain(fleet), plain(hosts)), "refusal": ""}
    except RestoreError as error:
        return {"refusal": str(error.payload()["msg"])}


def plain(value: Any) -> Any:
    """Ordinary containers instead of Ansible's lazy ones, which cannot be copied."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"restore_request": restore_request}
