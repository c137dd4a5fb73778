#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does all the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_evidence
short_description: Judge a drill and keep signed evidence of it
version_added: 0.1.0
author:
  - lifeboat.agents contributors (@lifeboat-agents)
description:
  - Takes what the tasks of a drill registered, gives the verdict, and adds a record to the
    evidence, a signed JSON file that names the one before it, with a JUnit file and an HTML page
    beside it.
  - Records are only ever added. Verify them with M(lifeboat.agents.drill_evidence_info), or with
    C(ssh-keygen -Y verify).
  - This is an action plugin. It runs on the controller, with the vault secrets of the run.
options:
  state:
    description:
      - V(prepared) makes the directory and, when there is none, the signing key.
      - V(recorded) adds the record of one agent's drill.
      - V(published) ends a run. It records an agent that was asked for and has no record of this
        run as one that could not run, and writes C(index.html) over all agents, and C(junit.xml)
        over this run.
    type: str
    choices:
      - prepared
      - recorded
      - published
    required: true
  directory:
    description: Directory of the evidence on the controller.
    type: path
    required: true
  signing_key:
    description:
      - File on the controller that holds the private ed25519 key, encrypted by ansible-vault.
      - When the run has no vault secret, or not the right one, O(state=prepared) fails. A record that is written all
        the same has no signature, says so, and is never a proof.
    type: path
    required: true
  facts:
    description: What the drill registered. See the role C(lifeboat.agents.drill).
    type: dict
    default: {}
  run:
    description: What all drills of a run share, with the C(id) of the run.
    type: dict
    default: {}
  agents:
    description: Entries of the fleet that the run was asked to drill, for O(state=published).
    type: list
    elements: dict
    default: []
  failed:
    description: Why the run ended before its drills began, with C(task) and C(result), for O(state=published).
    type: dict
    default: {}
  overdue_days:
    description: After how many days without a proof an agent counts as not proven on the page of the fleet.
    type: int
    default: 35
attributes:
  check_mode:
    support: full
    description: Judges, and writes nothing.
  diff_mode:
    support: none
    description: Evidence has no state before.
  idempotent:
    support: none
    description: Every call adds a record.
  action:
    support: full
    description: Runs on the controller.
  platform:
    platforms: posix
    support: full
    description: The systems it runs on.
seealso:
  - module: lifeboat.agents.drill_evidence_info
  - module: lifeboat.agents.agent_health
"""

EXAMPLES = r"""
- name: Record what a drill found
  lifeboat.agents.drill_evidence:
    state: recorded
    directory: evidence
    signing_key: vault/evidence.key
    facts:
      drill: {id: 3f9a1c2b, run: 20261122T210000Z-77aa, started: "2026-11-22T21:00:00Z"}
      agent: "{{ entry }}"
      health: ["{{ health_restored }}", "{{ health_started }}"]
  register: recorded

- name: End the run
  lifeboat.agents.drill_evidence:
    state: published
    directory: evidence
    signing_key: vault/evidence.key
    run: {id: 20261122T210000Z-77aa, started: "2026-11-22T21:00:00Z"}
    agents: "{{ chosen }}"
"""

RETURN = r"""
result:
  description: V(proven), V(not_proven) or V(could_not_run), for one drill or for a run.
  type: str
  returned: when O(state) is V(recorded) or V(published)
exit_code:
  description: 0 proven, 1 not proven, 2 could not run.
  type: int
  returned: when O(state) is V(recorded) or V(published)
lines:
  description: A line per check and the verdict, for the terminal.
  type: list
  elements: str
  returned: when O(state=recorded)
summary:
  description: A line per agent and the count, for the terminal.
  type: list
  elements: str
  returned: when O(state=published)
reason:
  description: Why the run ended before its drills began; empty when it did not.
  type: str
  returned: when O(state=published)
record:
  description: The record.
  type: dict
  returned: when O(state=recorded)
path:
  description: The record, or the page of the fleet.
  type: str
  returned: when O(state) is V(recorded) or V(published)
signed:
  description: Whether what was written is signed.
  type: bool
  returned: always
"""
