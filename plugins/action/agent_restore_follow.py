# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for an extraction that goes on by itself, and tell on the way how far it is.

The documentation is in plugins/modules/agent_restore_follow.py.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.action import ActionBase

from ansible_collections.lifeboat.agents.plugins.module_utils.restore_follow import (
    FollowError,
    Seen,
    command,
    line,
    read,
)

_FIRST_PAUSE = 0.3
_LOOKS_WITHOUT_A_PROCESS = 3
_KILLED = (
    "the extraction ended without an outcome: it was killed, or the host has no memory left. The "
    "home stands as it stood. Run the same command again."
)


class ActionModule(ActionBase):
    """Look, tell, wait."""

    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(
            argument_spec={
                "job": {"type": "str", "required": True},
                "results": {"type": "str", "required": True},
                "folder": {"type": "path", "required": True},
                "bytes": {"type": "int", "default": 0},
                "interval": {"type": "float", "default": 5.0},
                "timeout": {"type": "int", "default": 86400},
            }
        )
        if self._task.check_mode:
            return {**result, "changed": False, "finished": False}
        host = to_text((task_vars or {}).get("inventory_hostname", ""))
        try:
            finished = self._follow(host, args)
        except FollowError as error:
            raise AnsibleError(f"{host}: {error}") from None
        return {**result, "changed": False, "finished": finished}

    def _follow(self, host: str, args: dict[str, Any]) -> bool:
        asked = command(args["job"], args["results"], args["folder"])
        began, pause, without = time.monotonic(), _FIRST_PAUSE, 0
        while time.monotonic() - began < args["timeout"]:
            time.sleep(pause)
            before = time.monotonic()
            seen = self._look(asked)
            if seen.finished:
                return True
            without = without + 1 if seen.alive is False else 0
            if without >= _LOOKS_WITHOUT_A_PROCESS:
                raise FollowError(_KILLED)
            if pause >= args["interval"]:
                told = line(seen.extracted, args["bytes"], time.monotonic() - began)
                self._display.display(f"{host}: {told}")
            # A look counts files: it must not take more time than the work that it looks at.
            spent = time.monotonic() - before
            pause = max(min(pause * 2, args["interval"]), 4 * spent)
        return False

    def _look(self, asked: str) -> Seen:
        answer = self._low_level_execute_command(asked, sudoable=True)
        return read(to_text(answer["stdout"]))
