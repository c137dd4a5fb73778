#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands on a target before a restore, and what is in its way."""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_restore_info
short_description: Look at the place where an agent is to be restored
version_added: 0.1.0
author:
  - lifeboat.agents contributors (@lifeboat-agents)
description:
  - Reports what stands in the home, which processes use it, how much room there is, which homes
    were moved aside earlier, and whether a restore was begun and not ended.
  - Says why a restore must not begin, or that it may. Changes nothing.
attributes:
  check_mode:
    description: Changes nothing, so check mode makes no difference.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
options:
  agent:
    description: Name of the agent.
    type: str
    required: true
  home:
    description: Where the home is, or will be.
    type: path
    required: true
  user:
    description: The agent's user on the target.
    type: str
    required: true
  replace:
    description: A home that is not empty may be moved aside.
    type: bool
    default: false
  needed:
    description: Bytes that the restore needs beside the home.
    type: int
    default: 0
  archive_id:
    description:
      - Id of the archive that is to be restored, when it is known. What an earlier run has extracted of it needs no
        room once more.
    type: str
    default: ""
  only:
    description: Only these paths are restored, into a home that may well be there.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Look before restoring
  lifeboat.agents.agent_restore_info:
    agent: acme
    home: /home/hermes/.hermes
    user: hermes
  register: target
"""

RETURN = r"""
target:
  description: What was found.
  returned: success
  type: dict
reason:
  description: Why a restore must not begin; empty when it may.
  returned: success
  type: str
busy:
  description: Who uses the home; empty when nobody does.
  returned: success
  type: str
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_target import (
    examine,
    why_busy,
    why_not,
)


def query(parameters: dict[str, Any]) -> dict[str, Any]:
    target = examine(parameters["home"], parameters["user"], parameters["agent"])
    wish = (parameters["archive_id"], parameters["only"])
    allowed = parameters["replace"] or bool(parameters["only"])
    reason = why_not(target, allowed, parameters["needed"], *wish)
    busy = why_busy(target)
    return {
        "target": target.report(*wish),
        "reason": reason.payload()["msg"] if reason else "",
        "busy": busy.payload()["msg"] if busy else "",
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "agent": {"type": "str", "required": True},
            "home": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "replace": {"type": "bool", "default": False},
            "needed": {"type": "int", "default": 0},
            "archive_id": {"type": "str", "default": ""},
            "only": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    if not os.path.isabs(module.params["home"]):
        module.fail_json(msg=f"home must be an absolute path, not {module.params['home']!r}")
    try:
        module.exit_json(changed=False, **query(module.params))
    except RestoreError as error:
        module.fail_json(**error.payload())


if __name__ == "__main__":
    main()
