#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Free the space of deleted archives, behind four gates."""

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_compaction
short_description: Compact a repository on its host, only at exactly the accepted state
version_added: 0.1.0
author: lifeboat.agents contributors (@lifeboat-agents)
description:
  - Runs on the repository host and needs no passphrase. Compaction is the only thing that cannot be
    undone, so it is refused unless this run keeps the box out (O(token)), the repository is at exactly
    the transaction of O(mark), an audit finds nothing, and a fresh snapshot holds all of it.
  - Afterwards every accepted object is compared by size and checksum.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    description: Audits, and compacts nothing.
  diff_mode:
    support: full
  platform:
    platforms: linux
  idempotent:
    support: none
    description: Makes a snapshot and a new transaction every time.
options:
  path:
    description: Directory of the repository.
    type: path
    required: true
  mark:
    description: The accepted state.
    type: dict
    required: true
  state_directory:
    description: Folder with the list of accepted objects.
    type: path
    required: true
  snapshots:
    description: Folder for the snapshot, out of the account's reach.
    type: path
    required: true
  snapshot_method:
    description:
      - V(btrfs) needs a subvolume, V(zfs) a dataset that holds repositories and O(snapshots), V(hardlink) works on any
        file system, V(auto) chooses.
      - With V(none) somebody else is trusted to have made a snapshot.
    type: str
    choices: [auto, btrfs, zfs, hardlink, none]
    default: auto
  account:
    description: Account that owns the segments; empty for whoever runs this.
    type: str
    default: ""
  lock:
    description: Lock file of the repository.
    type: path
    required: true
  token:
    description: The run that keeps the box out.
    type: str
    required: true
  borg:
    description: The borg to use.
    type: path
    default: /usr/local/bin/lifeboat-borg
  threshold:
    description: Compact segments of which more than so many percent can be freed.
    type: int
    default: 10
"""

EXAMPLES = r"""
- name: Free what retention deleted
  lifeboat.agents.repository_compaction:
    path: /srv/lifeboat/repositories/acme
    account: lb-acme
    mark: "{{ ledger.mark }}"
    state_directory: /var/lib/lifeboat/custody/acme
    snapshots: /srv/lifeboat/snapshots
    lock: /run/lifeboat/lock/acme
    token: "{{ run_id }}"
"""

RETURN = r"""
mark:
  description: The new accepted state.
  returned: success
  type: dict
snapshot:
  description: The snapshot that was made before.
  returned: success
  type: str
size_before:
  description: Bytes of all segments before.
  returned: success
  type: int
size_after:
  description: Bytes of all segments afterwards.
  returned: success
  type: int
failure:
  description: The audit that refused, or what borg said.
  returned: on failure
  type: dict
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils.audit import AuditError, Mark
from ansible_collections.lifeboat.agents.plugins.module_utils.audit_compaction import (
    CompactionError,
    Request,
    compact,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.audit_store import Store, audited
from ansible_collections.lifeboat.agents.plugins.module_utils.segments import SegmentError
from ansible_collections.lifeboat.agents.plugins.module_utils.serve_lockout import (
    Lockout,
    LockoutError,
)


def carry_out(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    mark = Mark.from_dict(params["mark"])
    store = Store(Path(params["state_directory"]))
    if module.check_mode:
        report, _state = audited(Path(params["path"]), store, mark)
        if not report.clean:
            raise CompactionError(f"would be refused: {report.summary()}", report.to_dict())
        size = mark.size or 0
        return _result(mark, mark, "", size, size)

    def run(argv: Sequence[str], environment: dict[str, str] | None) -> tuple[int, str, str]:
        code, output, error = module.run_command(list(argv), environ_update=environment or {})
        return int(code), str(output), str(error)

    request = Request(
        repository=Path(params["path"]),
        mark=mark,
        snapshots=Path(params["snapshots"]),
        account=params["account"],
        borg=params["borg"],
        snapshot_method=params["snapshot_method"],
        threshold=params["threshold"],
    )
    lockout = Lockout(Path(params["lock"]))
    outcome = compact(request, store, run, still_closed=lambda: _require(lockout, params["token"]))
    if outcome.report.mark is None:
        raise AssertionError("a clean audit gives a mark")
    return _result(
        mark, outcome.report.mark, outcome.snapshot, outcome.size_before, outcome.size_after
    )


def _require(lockout: Lockout, token: str) -> None:
    lockout.require(token)


def _result(old: Mark, new: Mark, snapshot: str, before: int, after: int) -> dict[str, Any]:
    return {
        "changed": True,
        "mark": new.to_dict(),
        "snapshot": snapshot,
        "size_before": before,
        "size_after": after,
        "diff": {"before": _pretty(old), "after": _pretty(new)},
    }


def _pretty(mark: Mark) -> str:
    return json.dumps(mark.to_dict(), indent=1, sort_keys=True) + "\n"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "mark": {"type": "dict", "required": True},
            "state_directory": {"type": "path", "required": True},
            "snapshots": {"type": "path", "required": True},
            "snapshot_method": {
                "choices": ["auto", "btrfs", "zfs", "hardlink", "none"],
                "default": "auto",
            },
            "account": {"type": "str", "default": ""},
            "lock": {"type": "path", "required": True},
            "token": {"type": "str", "required": True, "no_log": False},
            "borg": {"type": "path", "default": "/usr/local/bin/lifeboat-borg"},
            "threshold": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**carry_out(module))
    except CompactionError as error:
        module.fail_json(msg=str(error), failure=error.failure)
    except (AuditError, LockoutError, SegmentError, OSError) as error:
        module.fail_json(msg=f"Nothing was compacted: {error}", failure={"hint": str(error)})


if __name__ == "__main__":
    main()
