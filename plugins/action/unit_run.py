# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start services on a host and tell on the way what they say.

The documentation is in plugins/modules/unit_run.py.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.action import ActionBase

from ansible_collections.lifeboat.agents.plugins.module_utils.unit import (
    Followed,
    UnitError,
    follow_command,
    read,
    start_command,
)


class ActionModule(ActionBase):
    """Start, follow, report."""

    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(
            argument_spec={
                "units": {"type": "list", "elements": "str", "required": True},
                "interval": {"type": "float", "default": 2.0},
                "timeout": {"type": "int", "default": 86400},
            }
        )
        host = to_text((task_vars or {}).get("inventory_hostname", ""))
        if self._task.check_mode:
            return {**result, "changed": bool(args["units"]), "units": []}
        try:
            followed = self._follow(host, args)
        except UnitError as error:
            raise AnsibleError(f"{host}: {error}") from None
        bad = [state for state in followed if not state.good]
        if bad:
            result.update(failed=True, msg=" ".join(_verdict(host, state) for state in bad))
        units = [
            {
                "unit": state.unit,
                "result": state.result,
                "status": state.status,
                "lines": list(state.lines),
            }
            for state in followed
        ]
        return {**result, "changed": bool(followed), "units": units}

    def _follow(self, host: str, args: dict[str, Any]) -> list[Followed]:
        states = [Followed(unit) for unit in args["units"]]
        for state in states:
            self._shell(start_command(state.unit))
        deadline = time.monotonic() + args["timeout"]
        pause = min(0.5, args["interval"])
        while not all(state.finished for state in states):
            if time.monotonic() > deadline:
                return states
            time.sleep(pause)
            pause = args["interval"]
            states = [state if state.finished else self._look(host, state) for state in states]
        return states

    def _look(self, host: str, state: Followed) -> Followed:
        after, lines = read(state, self._shell(follow_command(state)))
        for line in lines:
            self._display.display(f"{host}: {line}")
        return after

    def _shell(self, command: str) -> str:
        answer = self._low_level_execute_command(command, sudoable=True)
        if answer["rc"] != 0:
            said = to_text(answer.get("stderr") or answer.get("stdout")).strip()
            raise AnsibleActionFail(f"{command.split(' ')[0]} ended with {answer['rc']}: {said}")
        return str(to_text(answer["stdout"]))


def _verdict(host: str, state: Followed) -> str:
    if not state.finished:
        return f"{state.unit} on {host} is still running, after the time limit of this task."
    said = "\n".join(state.lines[-15:])
    return (
        f"{state.unit} on {host} failed ({state.result}, exit status {state.status}):\n{said}\n"
        f"Again with: journalctl -u {state.unit}"
    )
