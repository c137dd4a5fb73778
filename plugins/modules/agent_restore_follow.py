#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_restore_follow
short_description: Wait for an extraction and tell how far it is
version_added: 0.1.0
author: lifeboat.agents contributors (@lifeboat-agents)
description:
  - Waits for a task that was begun with C(async) and C(poll=0), and shows every few seconds how much of
    it is done.
  - Does not fail with the job. What came of it is for M(ansible.builtin.async_status) to say.
  - Fails when the job was killed and can have no outcome any more.
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
    details: Does not wait.
  connection:
    support: full
  delegation:
    support: full
  diff_mode:
    support: none
  idempotent:
    description: Changes nothing.
    support: full
  platform:
    platforms: linux
options:
  job:
    description: The job, RV(ansible.builtin.async_status#module:ansible_job_id) of the task that began it.
    type: str
    required: true
  results:
    description: File of its outcome, C(results_file) of the task that began it.
    type: str
    required: true
  folder:
    description: Folder that it extracts to.
    type: path
    required: true
  bytes:
    description: How much there will be in the end.
    type: int
    default: 0
  interval:
    description: Seconds between two lines. The first looks come faster, so that a small home is not waited for.
    type: float
    default: 5.0
  timeout:
    description: Seconds after which it is waited for no longer. The job goes on.
    type: int
    default: 86400
"""

EXAMPLES = r"""
- name: Tell how far it is
  lifeboat.agents.agent_restore_follow:
    job: "{{ begun.ansible_job_id }}"
    results: "{{ begun.results_file }}"
    folder: /home/hermes/.lifeboat-restore-acme/tree
    bytes: 372000
"""

RETURN = r"""
finished:
  description: Whether the job has an outcome.
  returned: success
  type: bool
"""
