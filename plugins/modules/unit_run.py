#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: unit_run
short_description: Start services and tell on the way what they say
version_added: 0.1.0
author: lifeboat.agents contributors (@lifeboat-agents)
description:
  - Starts systemd services that end by themselves (C(Type=oneshot)), all at once, and waits for them. What they write
    to the journal is shown as it comes.
  - A service that is already running is joined.
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
    support: full
  bypass_host_loop:
    support: none
  check_mode:
    support: full
    details: Nothing is started.
  connection:
    support: full
  delegation:
    support: full
  diff_mode:
    support: none
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second time does nothing.
    support: none
    details: A service that is started does its work again.
  platform:
    platforms: linux
options:
  units:
    description: Names of the services.
    type: list
    elements: str
    required: true
  interval:
    description: Seconds between two looks at them.
    type: float
    default: 2.0
  timeout:
    description: Seconds after which the task gives up waiting. The services go on.
    type: int
    default: 86400
"""

EXAMPLES = r"""
- name: Back up now
  lifeboat.agents.unit_run:
    units: [lifeboat-backup@acme.service]
"""

RETURN = r"""
units:
  description: The services and how they ended.
  returned: always
  type: list
  elements: dict
  contains:
    unit:
      description: Name of the service.
      type: str
    result:
      description: Result by systemd, V(success) when it ended well.
      type: str
    status:
      description: Exit status of its main process.
      type: int
    lines:
      description: What it wrote to the journal.
      type: list
      elements: str
"""
