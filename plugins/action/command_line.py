# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse a command line that cannot be meant; the decisions are in module_utils/command_line.py.

The documentation is in plugins/modules/command_line.py.
"""

from __future__ import annotations

from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

from ansible_collections.lifeboat.agents.plugins.module_utils.command_line import (
    CommandLine,
    refusals,
)

SKIPS_ALL = ("all", "untagged")


class ActionModule(ActionBase):
    """Look at what was typed, and at nothing else."""

    _requires_connection = False
    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(
            argument_spec={
                "arguments": {"type": "list", "elements": "str", "default": []},
                "limit": {"type": "bool", "default": False},
                "narrow": {"type": "str", "default": ""},
                "check": {"type": "bool", "default": True},
                "look": {"type": "str", "default": ""},
            }
        )
        problems = refusals(self._typed(task_vars or {}), **args)
        if problems:
            result.update(failed=True, msg="\n".join(["Nothing was changed.", *problems]))
        return {**result, "changed": False}

    def _typed(self, task_vars: dict[str, Any]) -> CommandLine:
        given = context.CLIARGS
        tags = [f"--tags {name}" for name in given.get("tags") or () if name != "all"]
        # Other names leave nothing out: nothing carries them. Tools such as molecule give some.
        skipped = [name for name in given.get("skip_tags") or () if name in SKIPS_ALL]
        tags += [f"--skip-tags {name}" for name in skipped]
        return CommandLine(
            variables=[str(name) for name in load_extra_vars(self._loader)],
            limit=str(given.get("subset") or ""),
            tags=tags,
            check=bool(self._task.check_mode),
            hosts=len((task_vars.get("groups") or {}).get("all") or ()),
        )
