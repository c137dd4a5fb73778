#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stop everything that uses the home of an agent, and start it again later."""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_stop
short_description: Stop the units and processes of an agent, or start them again
version_added: 0.1.0
author:
  - lifeboat.agents contributors (@lifeboat-agents)
description:
  - Finds the units of an agent by what they do. One of their processes has something below the
    home open, or they run as the agent's user and name its home or its runtime. Units of the
    user's own manager are found as well, and the timers that would start them.
  - Stops them, so that C(Restart=always) does not bring them back, and ends the processes of the
    agent's user that still use the home. A process of another user is never ended, but named.
attributes:
  check_mode:
    description: Reports what would be stopped, and stops nothing.
    support: full
  diff_mode:
    description: Lists the units before and after.
    support: full
  idempotent:
    description: What does not run is not stopped again.
    support: full
options:
  home:
    description: Home of the agent.
    type: path
    required: true
  user:
    description: User of the agent.
    type: str
    required: true
  names:
    description: Words in a unit's name or command that mark it as the agent's, such as its runtime.
    type: list
    elements: str
    default: []
  state:
    description: V(stopped) stops what is found. V(started) starts O(units).
    type: str
    choices: [stopped, started]
    default: stopped
  units:
    description: What V(started) starts, as RV(units) of an earlier V(stopped) gave it.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the unit.
        type: str
        required: true
      user:
        description: Whose manager it belongs to. Empty for the system's.
        type: str
        default: ""
  record:
    description:
      - File that remembers what was stopped, so that a run that was cut can start it later.
      - V(stopped) adds to it; V(started) reads it and removes it.
    type: path
"""

EXAMPLES = r"""
- name: Stop the agent before its home is replaced
  lifeboat.agents.agent_stop:
    home: /home/hermes/.hermes
    user: hermes
    names: [hermes]
    record: /var/lib/lifeboat-restore/acme/stopped.json
"""

RETURN = r"""
units:
  description: The units that were stopped or started.
  returned: success
  type: list
  elements: dict
services:
  description: Those of RV(units) that are services and go on running, unlike one of type oneshot.
  returned: when O(state=started), outside check mode
  type: list
  elements: dict
start_with:
  description: Commands that start by hand what O(record) holds, whichever run stopped it.
  returned: when O(state=stopped), outside check mode
  type: list
  elements: str
processes:
  description: The processes that were ended by a signal.
  returned: when O(state=stopped)
  type: list
  elements: dict
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_stop import Stopper, Unit


def recorded(path: str | None) -> list[Unit]:
    """What earlier runs stopped and nobody started since."""
    if not path or not os.path.exists(path):
        return []
    return [Unit(item["name"], item["user"]) for item in json.loads(Path(path).read_text("utf-8"))]


def record(path: str | None, units: list[Unit]) -> None:
    if not path:
        return
    temporary = Path(f"{path}.new")
    temporary.write_text(json.dumps([asdict(unit) for unit in units]) + "\n", encoding="utf-8")
    temporary.replace(path)


def stop(stopper: Stopper, path: str | None, check_mode: bool) -> dict[str, Any]:
    before = stopper.find()
    if check_mode:
        return _result(before, bool(before), [])
    # Recorded first: what is stopped by a run that is cut is not forgotten. An enabled unit
    # that does not run would run after the next boot, so a restored agent gets it as well.
    record(path, sorted({*recorded(path), *before, *stopper.find_idle()}))
    stopped = stopper.stop()
    record(path, sorted({*recorded(path), *stopped.units}))
    report = stopped.report()
    changed = bool(stopped.units or stopped.processes)
    start_with = [" ".join(unit.systemctl("start")) for unit in recorded(path)]
    return {
        **_result(list(stopped.units), changed, report["processes"]),
        "start_with": start_with,
    }


def start(
    stopper: Stopper, path: str | None, units: list[Unit], check_mode: bool
) -> dict[str, Any]:
    wanted = sorted({*units, *recorded(path)})
    if check_mode:
        return _result(wanted, bool(wanted), [])
    started = stopper.start(wanted)
    if path:
        Path(path).unlink(missing_ok=True)
    lasting = [asdict(unit) for unit in stopper.lasting(started)]
    return {**_result(started, bool(started), []), "services": lasting}


def _result(units: list[Unit], changed: bool, processes: list[Any]) -> dict[str, Any]:
    names = "".join(f"{unit.name}\n" for unit in units)
    return {
        "changed": changed,
        "units": [asdict(unit) for unit in units],
        "processes": processes,
        "diff": {"before": "", "after": names},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "names": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["stopped", "started"], "default": "stopped"},
            "units": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "user": {"type": "str", "default": ""},
                },
            },
            "record": {"type": "path"},
        },
        supports_check_mode=True,
    )
    given = module.params
    stopper = Stopper(given["home"], given["user"], given["names"])
    try:
        if given["state"] == "stopped":
            result = stop(stopper, given["record"], module.check_mode)
        else:
            units = [Unit(item["name"], item["user"]) for item in given["units"]]
            result = start(stopper, given["record"], units, module.check_mode)
        module.exit_json(**result)
    except RestoreError as error:
        module.fail_json(**error.payload())


if __name__ == "__main__":
    main()
