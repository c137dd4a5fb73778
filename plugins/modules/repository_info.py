#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a repository stands on its host: last transaction, snapshots, refusals, lockout."""

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_info
short_description: Tell how a repository stands on its host
version_added: 0.1.0
author: lifeboat.agents contributors (@lifeboat-agents)
description:
  - Runs on the repository host and needs no passphrase. Reads names, sizes and times, no data.
  - Silence shows as loudly as failure. No snapshot, or none for too long, is a problem like any other.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    description: Changes nothing.
  diff_mode:
    support: none
  platform:
    platforms: posix
  idempotent:
    support: full
    description: Changes nothing.
options:
  path:
    description: Directory of the repository.
    type: path
    required: true
  snapshots:
    description:
      - Folder with the snapshots, each named like the repository, a dot, and its time.
      - On ZFS the snapshots of the dataset that holds this folder count as well.
    type: path
  snapshot_age_hours:
    description: The newest snapshot may be so old.
    type: float
    default: 30.0
  snapshot_gap_hours:
    description: Between two snapshots of the last two weeks there may be so much time.
    type: float
    default: 50.0
  snapshot_count:
    description: There must be so many snapshots, unless the repository is younger than that in days.
    type: int
    default: 7
  lock:
    description: Lock file of the repository.
    type: path
  counters:
    description: Counter file of the forced command.
    type: path
  silence_hours:
    description: The last transaction may be so old.
    type: float
    default: 30.0
"""

EXAMPLES = r"""
- name: How does it stand?
  lifeboat.agents.repository_info:
    path: /srv/lifeboat/repositories/acme
    snapshots: /srv/lifeboat/snapshots
    lock: /run/lifeboat/lock/acme
"""

RETURN = r"""
problems:
  description: What is not as it should be; empty when all is well.
  returned: success
  type: list
  elements: str
size:
  description: Bytes of all segments.
  returned: success
  type: int
transaction:
  description: The last transaction.
  returned: success
  type: int
transaction_time:
  description: When it was committed, by the host's clock.
  returned: success
  type: str
snapshots:
  description: Name, path of the repository in it, and time of the snapshots, newest first.
  returned: success
  type: list
  elements: dict
refusals:
  description: What the forced command refused, by kind.
  returned: success
  type: dict
last_refusal:
  description: The last refusal.
  returned: success
  type: dict
closed_until:
  description: Until when maintenance keeps the box out; null when it is open.
  returned: success
  type: str
"""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils.audit_standing import (
    Expectations,
    standing,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.serve_lockout import LockoutError


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def query(params: dict[str, Any]) -> dict[str, Any]:
    found = standing(
        Path(params["path"]),
        snapshots=_path(params["snapshots"]),
        lock=_path(params["lock"]),
        counters=_path(params["counters"]),
        expected=Expectations(
            snapshot_age_hours=params["snapshot_age_hours"],
            snapshot_gap_hours=params["snapshot_gap_hours"],
            snapshot_count=params["snapshot_count"],
            silence_hours=params["silence_hours"],
        ),
    )
    return {"changed": False, **json.loads(json.dumps(found.to_dict()))}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "snapshots": {"type": "path"},
            "snapshot_age_hours": {"type": "float", "default": 30.0},
            "snapshot_gap_hours": {"type": "float", "default": 50.0},
            "snapshot_count": {"type": "int", "default": 7},
            "lock": {"type": "path"},
            "counters": {"type": "path"},
            "silence_hours": {"type": "float", "default": 30.0},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**query(module.params))
    except (OSError, LockoutError) as error:
        module.fail_json(msg=str(error), failure={"hint": str(error)})


if __name__ == "__main__":
    main()
