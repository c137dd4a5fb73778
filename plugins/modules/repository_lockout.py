#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a box out of its repository for a while, and let it in again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_lockout
short_description: Keep a box out of its repository while the trusted side works on it
version_added: 0.1.0
author: lifeboat.agents contributors (@lifeboat-agents)
description:
  - Runs on the repository host, or on the control host to keep two runs at a provider apart. While a
    repository is closed, the forced command of its keys lets no new session in; sessions under way get
    time to end and are ended then.
  - A closed repository opens by itself when O(seconds) are over, so that a run that died keeps no
    box out.
  - V(kept) is for a box that is to stay out on purpose, also when the host is rebooted.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: linux
  idempotent:
    support: partial
    description: Closing again by the same O(token) renews the time.
options:
  lock:
    description: Lock file of the repository.
    type: path
    required: true
  token:
    description: Name of this run; only it can open again what it closed.
    type: str
    required: true
  state:
    description:
      - Whether the box is kept out.
      - V(kept) leaves it closed by this O(token) until its time is over, whatever happens to the run and the host.
      - V(reopened) opens what was kept closed by whatever run, and nothing that is in maintenance.
    type: str
    choices: [closed, open, kept, reopened]
    default: closed
  seconds:
    description: After so long the repository opens by itself.
    type: int
    default: 3600
  wait:
    description: Seconds that sessions under way get before they are ended.
    type: int
    default: 60
  tmpfiles:
    description: Folder of the files that systemd-tmpfiles reads at boot.
    type: path
    default: /etc/tmpfiles.d
"""

EXAMPLES = r"""
- name: Keep the box out
  lifeboat.agents.repository_lockout:
    lock: /run/lifeboat/lock/acme
    token: "{{ run_id }}"

- name: Keep it out also after a reboot, until the time is over
  lifeboat.agents.repository_lockout:
    lock: /run/lifeboat/lock/acme
    token: "{{ run_id }}"
    state: kept

- name: Let it in again
  lifeboat.agents.repository_lockout:
    lock: /run/lifeboat/lock/acme
    token: "{{ run_id }}"
    state: open
"""

RETURN = r"""
ended:
  description: Processes of sessions that had to be ended.
  returned: success
  type: list
  elements: int
until:
  description: When the repository opens by itself, in seconds since 1970; null when it is open.
  returned: success
  type: float
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils.serve_lockout import (
    TMPFILES,
    Lockout,
    LockoutError,
)


def change(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Close or open, and say what was done."""
    lockout = Lockout(Path(params["lock"]), tmpfiles=Path(params["tmpfiles"]))
    held = lockout.current()
    ended: list[int] = []
    if params["state"] == "closed":
        changed = held is None or held.token != params["token"]
        if not check_mode:
            ended = lockout.close(params["token"], params["seconds"], wait=params["wait"])
    elif params["state"] == "kept":
        changed = held is not None and held.token == params["token"] and not held.kept
        if not check_mode:
            changed = lockout.keep(params["token"])
    elif params["state"] == "reopened":
        changed = held is not None and held.kept
        if not check_mode:
            changed = lockout.reopen()
    else:
        changed = held is not None and held.token == params["token"]
        if not check_mode:
            changed = lockout.open(params["token"])
    now = lockout.current()
    return {"changed": changed, "ended": ended, "until": None if now is None else now.until}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "lock": {"type": "path", "required": True},
            "token": {"type": "str", "required": True, "no_log": False},
            "state": {"choices": ["closed", "open", "kept", "reopened"], "default": "closed"},
            "seconds": {"type": "int", "default": 3600},
            "wait": {"type": "int", "default": 60},
            "tmpfiles": {"type": "path", "default": str(TMPFILES)},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**change(module.params, check_mode=module.check_mode))
    except (LockoutError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
