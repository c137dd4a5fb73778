#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new passphrase for a repository's key, or the key on paper."""

from __future__ import annotations

DOCUMENTATION = r"""
module: borg_key
short_description: Make a new passphrase for the key of a repository, or print the key
version_added: 0.1.0
author:
  - lifeboat.agents contributors (@lifeboat-agents)
description:
  - With V(rotated) a new passphrase and the key file that it opens are made, proven to open the
    repository, and returned. Nothing is changed anywhere. The caller puts them into the escrow
    first and on the box then, and the former pair works until that is done.
  - With V(paper) the key is returned in the forms that borg makes for paper.
  - What is returned is secret. Use C(no_log).
extends_documentation_fragment:
  - lifeboat.agents.repository_access
attributes:
  check_mode:
    description: In check mode the repository is opened with what there is, and nothing is made.
    support: full
  diff_mode:
    description: What it makes is secret.
    support: none
  idempotent:
    description: Every run of V(rotated) makes a new passphrase.
    support: none
options:
  agent:
    description: Name of the agent.
    type: str
    required: true
  state:
    description: What is wanted.
    type: str
    choices: [rotated, paper]
    required: true
"""

EXAMPLES = r"""
- name: Make a new passphrase
  lifeboat.agents.borg_key:
    agent: acme
    state: rotated
    repository: "{{ access }}"
    identity: /run/lifeboat-restore-identity-acme
  register: pair
  no_log: true
"""

RETURN = r"""
passphrase:
  description: The new passphrase.
  returned: when O(state=rotated)
  type: str
key:
  description: The key file that it opens.
  returned: when O(state=rotated)
  type: str
text:
  description: The key as lines with checksums.
  returned: when O(state=paper)
  type: str
page:
  description: The key as an HTML page with a QR code.
  returned: when O(state=paper)
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils.restore_keys import paper, rotate
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_session import (
    access_of,
    access_options,
    session,
)


def act(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    access = access_of(parameters, parameters["agent"])
    if check_mode:
        with session(access) as opened:
            opened.archives()
        return {"changed": parameters["state"] == "rotated"}
    if parameters["state"] == "rotated":
        pair = rotate(access)
        return {"changed": True, "passphrase": pair.passphrase, "key": pair.key}
    printed = paper(access)
    return {"changed": False, "text": printed.text, "page": printed.page}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "agent": {"type": "str", "required": True},
            "state": {"type": "str", "required": True, "choices": ["rotated", "paper"]},
            **access_options(),
        },
        supports_check_mode=True,
    )
    if not module.params["repository"]:
        module.fail_json(msg="missing required arguments: repository")
    try:
        module.exit_json(**act(module.params, module.check_mode))
    except RestoreError as error:
        module.fail_json(**error.payload())


if __name__ == "__main__":
    main()
