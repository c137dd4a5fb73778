#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a tampered repository back to its last accepted state."""

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_rollback
short_description: Put a tampered repository back to an accepted state
version_added: 0.1.0
author: lifeboat.agents contributors (@lifeboat-agents)
description:
  - Runs on the repository host and needs no passphrase. Whole transactions after that of O(mark) are
    moved aside as evidence; a config that was changed is put back; the nonce only ever goes up.
  - Where the accepted state was compacted or deleted since, O(snapshot) gives its content.
  - Refuses, before it changes anything, what would not end in the accepted state.
  - Archives that were made after the accepted state are undone as well, and are in the evidence.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: linux
  idempotent:
    description: A repository that stands at its accepted state is left as it is.
    support: full
options:
  path:
    description: Directory of the repository.
    type: path
    required: true
  mark:
    description: The accepted state to go back to.
    type: dict
    required: true
  state_directory:
    description: Folder with the list of accepted objects and the accepted config.
    type: path
    required: true
  evidence:
    description: Folder for what is moved aside; made when it is needed.
    type: path
    required: true
  snapshot:
    description: Snapshot of the repository to begin from.
    type: path
  lock:
    description: Lock file of the repository.
    type: path
    required: true
  token:
    description: The run that keeps the box out.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Undo what the box did since the last accepted night
  lifeboat.agents.repository_rollback:
    path: /srv/lifeboat/repositories/acme
    mark: "{{ ledger.mark }}"
    state_directory: /var/lib/lifeboat/custody/acme
    evidence: /srv/lifeboat/evidence/acme-20261122
    lock: /run/lifeboat/lock/acme
    token: "{{ run_id }}"
"""

RETURN = r"""
steps:
  description: What was done, or would be done.
  returned: success
  type: dict
evidence:
  description: Where the attacker's segments are; empty when there are none.
  returned: success
  type: str
summary:
  description: The audit of the outcome.
  returned: success
  type: str
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils.audit import AuditError, Mark
from ansible_collections.lifeboat.agents.plugins.module_utils.audit_store import Store
from ansible_collections.lifeboat.agents.plugins.module_utils.rollback import (
    Rollback,
    RollbackError,
    Steps,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.segments import SegmentError
from ansible_collections.lifeboat.agents.plugins.module_utils.serve_lockout import (
    Lockout,
    LockoutError,
)


def carry_out(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    mark = Mark.from_dict(params["mark"])
    store = Store(Path(params["state_directory"]))
    undo = Rollback(
        Path(params["path"]),
        mark,
        evidence=Path(params["evidence"]),
        state=store.load(mark),
        config=store.config(),
        snapshot=Path(params["snapshot"]) if params["snapshot"] else None,
    )
    steps = undo.plan()
    summary = "nothing was done"
    if not check_mode:
        Lockout(Path(params["lock"])).require(params["token"])
        summary = undo.carry_out(steps).summary()
        store.clear_intent()
    return {
        "changed": steps.needed,
        "steps": asdict(steps),
        "evidence": params["evidence"] if steps.needed else "",
        "summary": summary,
        "diff": {"prepared": _told(steps)},
    }


def _told(steps: Steps) -> str:
    lines = [f"move segment {segment} aside" for segment in steps.segments]
    lines += [f"move {name} aside" for name in steps.auxiliary]
    if steps.snapshot:
        lines.insert(0, f"begin from {steps.snapshot}")
    if steps.config:
        lines.append("put the accepted config back")
    if steps.nonce is not None:
        lines.append(f"set the nonce to {steps.nonce:#x}")
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "mark": {"type": "dict", "required": True},
            "state_directory": {"type": "path", "required": True},
            "evidence": {"type": "path", "required": True},
            "snapshot": {"type": "path"},
            "lock": {"type": "path", "required": True},
            "token": {"type": "str", "required": True, "no_log": False},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**carry_out(module.params, check_mode=module.check_mode))
    except (RollbackError, AuditError, LockoutError, SegmentError, OSError) as error:
        module.fail_json(msg=f"Not rolled back: {error}", failure={"hint": str(error)})


if __name__ == "__main__":
    main()
