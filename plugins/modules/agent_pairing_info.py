#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which logins a restored agent needs again, and which of them it has."""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_pairing_info
short_description: Tell which logins a restored agent needs again
version_added: 0.1.0
author:
  - lifeboat.agents contributors (@lifeboat-agents)
description:
  - Secrets are never in an archive, but the manifest names the files that were left out. For each of them
    the profile's C(pairing.steps) say by which command its owner gets it back.
  - Asks the agent itself, by its own commands and as its own user, which of these logins it has. Only
    steps with a C(proof) can be asked for.
attributes:
  check_mode:
    description: Changes nothing of its own accord, so check mode makes no difference.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
options:
  home:
    description: Home of the agent.
    type: path
    required: true
  user:
    description: User of the agent.
    type: str
    required: true
  profile:
    description: Profile of the agent.
    type: dict
    required: true
  manifest:
    description: The manifest of the restored archive. A file that is not there withheld nothing.
    type: path
    required: true
  prove:
    description: Ask the agent.
    type: bool
    default: false
  timeout:
    description: Seconds for each question.
    type: float
    default: 60
"""

EXAMPLES = r"""
- name: Ask whether the agent is logged in again
  lifeboat.agents.agent_pairing_info:
    home: /home/hermes/.hermes
    user: hermes
    profile: "{{ profile }}"
    manifest: /var/lib/lifeboat-restore/acme/manifest.json
    prove: true
  register: pairing
"""

RETURN = r"""
steps:
  description: Commands for the owner, why, and what the archive had to leave out that they bring back.
  returned: success
  type: list
  elements: dict
others:
  description: Withheld paths that no step speaks of. Environment files are not among them.
  returned: success
  type: list
  elements: str
unpaired:
  description: Commands whose login the agent does not have, what was asked, and what it says.
  returned: O(prove=true)
  type: list
  elements: dict
"""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils import restore_pairing
from ansible_collections.lifeboat.agents.plugins.module_utils.health_account import (
    HealthError,
    Tools,
    account_of,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.health_agent import Agent
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import show


def withheld(path: Path) -> list[str]:
    """The names that the manifest gives, which is root's own copy."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    names = raw.get("withheld") if isinstance(raw, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else []


def told(parameters: dict[str, Any], tools: Tools | None = None) -> dict[str, Any]:
    plan = restore_pairing.plan(parameters["profile"], withheld(Path(parameters["manifest"])))
    answer: dict[str, Any] = {
        "changed": False,
        "steps": [step.report() for step in plan.steps],
        "others": [show(path) for path in plan.others],
    }
    if parameters["prove"]:
        agent = Agent(
            account_of(parameters["user"]),
            parameters["home"],
            parameters["profile"],
            tools or Tools(),
            parameters["timeout"],
        )
        answer["unpaired"] = restore_pairing.unpaired(agent, plan.steps)
    return answer


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "profile": {"type": "dict", "required": True},
            "manifest": {"type": "path", "required": True},
            "prove": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**told(module.params))
    except (HealthError, ValueError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
