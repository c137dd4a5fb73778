#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and verify the evidence of drills."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_evidence_info
short_description: Read and verify the evidence of drills
version_added: 0.1.0
author:
  - lifeboat.agents contributors (@lifeboat-agents)
description:
  - Tells which agents were drilled when and with which result, and verifies the signature of every
    record and its place in the chain, so that a record that was altered, exchanged or taken out of
    the middle is found.
  - Verification needs C(ssh-keygen) of OpenSSH 8.1 or newer and the file C(allowed_signers) of the
    directory. An auditor compares that file with a copy of their own.
options:
  directory:
    description: Directory of the evidence.
    type: path
    required: true
  agents:
    description: Only these agents. All by default.
    type: list
    elements: str
    default: []
  verify:
    description: Verify signatures and the chain.
    type: bool
    default: true
  fail_on_problems:
    description: Fail when a record does not verify.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Changes nothing.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
  platform:
    platforms: posix
    support: full
    description: The systems it runs on.
seealso:
  - module: lifeboat.agents.drill_evidence
"""

EXAMPLES = r"""
- name: Verify all evidence
  lifeboat.agents.drill_evidence_info:
    directory: "{{ inventory_dir }}/evidence"
  delegate_to: localhost
"""

RETURN = r"""
agents:
  description: What is known of each agent.
  type: dict
  returned: always
  sample:
    acme: {drills: 9, last: "2026-11-22T21:54:00Z", last_result: proven, last_proven: "2026-11-22T21:54:00Z"}
last_drilled:
  description: When each agent was drilled last, by name. Drills of a clock that ran ahead are left out.
  type: dict
  returned: always
records:
  description: Every record with its verdict, oldest first.
  type: list
  elements: dict
  returned: always
problems:
  description: What is wrong with records, in words.
  type: list
  elements: str
  returned: always
verified:
  description: How many records were verified and are as they were written.
  type: int
  returned: always
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils import evidence
from ansible_collections.lifeboat.agents.plugins.module_utils.verdict import PROVEN, now


def read(parameters: dict[str, Any]) -> dict[str, Any]:
    """Everything that the evidence says."""
    directory = parameters["directory"]
    names = parameters["agents"] or evidence.agents(directory)
    look = evidence.verify if parameters["verify"] else evidence.history
    records = {name: look(directory, name) for name in names}
    listed = [record for items in records.values() for record in items]
    bad = [record for record in listed if record.problems]
    return {
        "agents": {name: _agent(items) for name, items in records.items()},
        "last_drilled": _last_drilled(records),
        "records": [_record(record) for record in listed],
        "problems": [f"{item.agent}/{item.name} {why}" for item in bad for why in item.problems],
        "verified": len(listed) - len(bad) if parameters["verify"] else 0,
    }


def _last_drilled(records: Mapping[str, Sequence[evidence.Record]]) -> dict[str, str]:
    """The newest start of each agent that does not lie in the future."""
    moment = now()
    past = {
        name: [item.started for item in items if item.started <= moment]
        for name, items in records.items()
    }
    return {name: max(started) for name, started in past.items() if started}


def _agent(records: list[evidence.Record]) -> dict[str, Any]:
    proven = [record.started for record in records if record.result == PROVEN]
    return {
        "drills": len(records),
        "last": records[-1].started if records else None,
        "last_result": records[-1].result if records else None,
        "last_proven": proven[-1] if proven else None,
    }


def _record(record: evidence.Record) -> dict[str, Any]:
    verdict = record.data.get("verdict", {})
    return {
        "agent": record.agent,
        "file": record.name,
        "started": record.started,
        "result": record.result,
        "level": verdict.get("level"),
        "reason": verdict.get("reason"),
        "archive": record.data.get("archive", {}).get("name"),
        "sha256": record.sha256,
        "problems": list(record.problems),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "agents": {"type": "list", "elements": "str", "default": []},
            "verify": {"type": "bool", "default": True},
            "fail_on_problems": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    found = read(module.params)
    if found["problems"] and module.params["fail_on_problems"]:
        module.fail_json(
            msg=f"The evidence does not verify: {found['problems'][0]}. Compare it with a copy.",
            **found,
        )
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
