#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: escrow
short_description: Keep what a restore needs in an ansible-vault file beside the inventory
version_added: 0.1.0
author: lifeboat.agents contributors (@lifeboat-agents)
description:
  - Keeps passphrase, borg key, repository id and host keys of an agent's repositories in one file per
    agent that is encrypted as a whole with the vault secret of the run.
  - Runs on the controller and needs no connection. A file is only rewritten when its decrypted
    content changes, and then in one step, with mode V(0600).
  - A success is never logged, because it holds secrets. A failure is logged and holds none.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.conn
  - ansible.builtin.action_common_attributes.flow
attributes:
  action:
    support: full
  async:
    support: none
  become:
    support: none
  bypass_host_loop:
    support: none
  check_mode:
    support: full
    details: A passphrase that would be generated is returned, but kept nowhere.
  connection:
    support: none
  delegation:
    support: none
  diff_mode:
    support: none
    details: Names of the fields that change are returned as RV(changed_fields); values are secrets.
  idempotent:
    description: A file whose decrypted content would stay the same is not written.
    support: full
  platform:
    platforms: posix
options:
  agent:
    description: Name of the agent. Required unless O(state=check).
    type: str
  agents:
    description: Names of the agents whose files are checked with O(state=check); by default all that exist.
    type: list
    elements: str
    default: []
  directory:
    description: Directory of the escrow files; made with mode V(0700) when absent.
    type: path
    required: true
  state:
    description:
      - V(present) merges O(data) into the file, V(read) returns it and fails when it is absent.
      - V(check) proves that the run has a vault secret, that it opens every file that exists, and that no
        passphrase in them fails to open the key beside it.
      - V(proven) tells without a network what keeps the file of O(agent) from opening its repositories. A
        passphrase that does not open the key beside it, or a key of another repository, is told.
    type: str
    choices: [present, read, check, proven]
    default: present
  pairs:
    description:
      - Whether O(state=check) looks at the passphrases too. A drill does not ask for it, because what is wrong with the
        escrow of one agent says nothing about the others.
    type: bool
    default: true
  data:
    description: What the file has to hold, merged deeply into what it holds. Keys without a value stay as they are.
    type: dict
    default: {}
  generate:
    description: Names of the repositories that get a passphrase when they have none.
    type: list
    elements: str
    default: []
  replace:
    description: Accept a passphrase, key or repository id that differs from the escrowed one.
    type: bool
    default: false
  vault_id:
    description: Id of the vault secret for a new file; by default the first secret of the run.
    type: str
"""

EXAMPLES = r"""
- name: Make sure that the run can open every escrow file
  lifeboat.agents.escrow:
    directory: "{{ inventory_dir }}/vault"
    state: check

- name: Keep a passphrase for the repository of an agent
  lifeboat.agents.escrow:
    agent: acme
    directory: "{{ inventory_dir }}/vault"
    generate: [vault1.example.net]
    data:
      home: /home/hermes/.hermes
  register: kept
"""

RETURN = r"""
escrow:
  description: The decrypted content of the file.
  returned: O(state=present) and O(state=read)
  type: dict
created:
  description: Whether the agent had no file before.
  returned: O(state=present)
  type: bool
changed_fields:
  description: Names of the fields that changed, without their values.
  returned: O(state=present)
  type: list
  elements: str
path:
  description: The file.
  returned: O(state=present)
  type: str
escrowed:
  description: Agents that have a file which this run can open.
  returned: O(state=check)
  type: list
  elements: str
problems:
  description: For each repository in the file what is wrong with its part, an empty list where nothing is.
  returned: O(state=proven)
  type: dict
missing:
  description: Agents of O(agents) that have no file yet.
  returned: O(state=check)
  type: list
  elements: str
"""
