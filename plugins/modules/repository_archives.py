#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the trusted side does with a key: list, delete by name, check."""

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_archives
short_description: List, delete by name and check the archives of a repository from the trusted side
version_added: 0.1.0
author: lifeboat.agents contributors (@lifeboat-agents)
description:
  - Runs on the trusted side, with what the escrow holds and over an SSH identity of its own.
  - Deletes only archives that are named and identified, never by a rule, and verifies afterwards that
    exactly these are gone. Freed space stays until the repository host compacts.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: posix
  idempotent:
    support: partial
    description: Deleting an archive that is not there is refused, because somebody else deleted it.
options:
  url:
    description: Address of the repository.
    type: str
    required: true
  repository_id:
    description: The pinned id. Another repository at the same address is refused.
    type: str
    required: true
  passphrase:
    description: Passphrase of the key; handed to borg over a file descriptor.
    type: str
    required: true
  key:
    description: Text of C(borg key export).
    type: str
    required: true
  host_keys:
    description: Pinned SSH host keys of the repository host.
    type: list
    elements: str
    default: []
  identity:
    description: Private SSH key of the trusted side.
    type: path
    default: ""
  base_dir:
    description: Folder of borg's cache and security files; kept, because making it anew is slow.
    type: path
    required: true
  borg:
    description: The borg to use.
    type: path
    default: /usr/local/bin/lifeboat-borg
  lock_wait:
    description: Seconds to wait for the lock of the repository.
    type: int
    default: 600
  state:
    description:
      - V(listed) lists all archives, those of interrupted creates included.
      - V(absent) deletes O(archives).
      - V(checked) makes sure that every object which an archive refers to is there.
    type: str
    choices: [listed, absent, checked]
    default: listed
  archives:
    description: What to delete.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: Id of the archive.
        type: str
        required: true
      name:
        description: Name of the archive.
        type: str
        required: true
      reason:
        description: Why it is deleted; for whoever reads the diff.
        type: str
        default: ""
  verify_data:
    description: With O(state=checked), decrypt and verify all data. Reads everything over the network.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: List
  lifeboat.agents.repository_archives:
    url: ssh://lb-acme@vault1.example.net/srv/lifeboat/repositories/acme
    repository_id: "{{ escrow.repository_id }}"
    passphrase: "{{ escrow.passphrase }}"
    key: "{{ escrow.key }}"
    host_keys: "{{ escrow.host_keys }}"
    identity: /run/lifeboat-custody/identity
    base_dir: /var/lib/lifeboat/custody/acme/vault1/borg
  no_log: true
  register: found
"""

RETURN = r"""
archives:
  description: The archives that stand, oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Id.
      type: str
    name:
      description: Name.
      type: str
    time:
      description: When it was made, by the clock of its client.
      type: str
failure:
  description: Exit code, command, message id and hint.
  returned: on failure
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils.errors import LifeboatError
from ansible_collections.lifeboat.agents.plugins.module_utils.ledger_control import (
    ControlBorg,
    ControlError,
    Escrowed,
    archives,
    as_listed,
    check,
    delete,
    opened,
)


def carry_out(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    escrowed = Escrowed(
        url=params["url"],
        repository_id=params["repository_id"],
        passphrase=params["passphrase"],
        key=params["key"],
        host_keys=tuple(params["host_keys"]),
    )
    with opened(
        escrowed,
        base_dir=params["base_dir"],
        identity=params["identity"] or "",
        executable=params["borg"],
        lock_wait=params["lock_wait"],
    ) as borg:
        if params["state"] == "absent":
            return _absent(borg, params["archives"], check_mode=check_mode)
        if params["state"] == "checked":
            check(borg, verify_data=params["verify_data"])
        return {"changed": False, "archives": as_listed(archives(borg))}


def _absent(borg: ControlBorg, wanted: list[dict[str, str]], *, check_mode: bool) -> dict[str, Any]:
    if check_mode:
        gone = {one["id"]: one for one in wanted}
        before = [{**one, **gone.get(one["id"], {})} for one in as_listed(archives(borg))]
        after = [one for one in before if one["id"] not in gone]
    else:
        after = as_listed(delete(borg, wanted))
        before = [*wanted, *after]
    return {
        "changed": bool(wanted),
        "archives": after,
        "diff": {"before": _names(before), "after": _names(after)},
    }


def _names(found: list[dict[str, str]]) -> str:
    lines = []
    for one in sorted(found, key=lambda one: one["name"]):
        reason = one.get("reason", "")
        lines.append(f"{one['name']}{f'  # {reason}' if reason else ''}\n")
    return "".join(lines)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "repository_id": {"type": "str", "required": True},
            "passphrase": {"type": "str", "required": True, "no_log": True},
            "key": {"type": "str", "required": True, "no_log": True},
            "host_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "identity": {"type": "path", "default": ""},
            "base_dir": {"type": "path", "required": True},
            "borg": {"type": "path", "default": "/usr/local/bin/lifeboat-borg"},
            "lock_wait": {"type": "int", "default": 600},
            "state": {"choices": ["listed", "absent", "checked"], "default": "listed"},
            "archives": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "id": {"type": "str", "required": True},
                    "name": {"type": "str", "required": True},
                    "reason": {"type": "str", "default": ""},
                },
            },
            "verify_data": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**carry_out(module.params, check_mode=module.check_mode))
    except (LifeboatError, ControlError) as error:
        module.fail_json(msg=str(error), failure=error.failure)
    except OSError as error:
        module.fail_json(msg=str(error), failure={"hint": str(error)})


if __name__ == "__main__":
    main()
