#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: command_line
short_description: Refuse a command line that cannot be meant
version_added: 0.1.0
author: lifeboat.agents contributors (@lifeboat-agents)
description:
  - Fails when the run has no inventory, when tags were given, when a limit was given to a playbook that needs all
    hosts, when check mode was given to one that it stops half way, or when a variable given with C(-e) is a
    misspelt argument of the playbook.
  - Without it such a run does something else, or nothing, and ends well.
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
  connection:
    support: none
  delegation:
    support: none
  diff_mode:
    support: none
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second time does nothing.
    support: full
  platform:
    platforms: posix
options:
  arguments:
    description: Names of the variables that the playbook takes from its command line.
    type: list
    elements: str
    default: []
  limit:
    description: Whether the playbook may be limited to some hosts.
    type: bool
    default: false
  narrow:
    description: What to type instead of a limit.
    type: str
    default: ""
  check:
    description: Whether check mode shows what the playbook would do.
    type: bool
    default: true
  look:
    description: What to type instead of check mode.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Refuse what cannot be meant
  lifeboat.agents.command_line:
    arguments: [agent, sample]
    narrow: Name agents with -e agent=NAME.
  tags: always
"""

RETURN = r"""
msg:
  description: All that is wrong, and what to type instead.
  returned: on failure
  type: str
"""
