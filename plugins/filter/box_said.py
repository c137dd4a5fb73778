# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter about a box: what `lifeboat status --json` there says, in one line and as problems."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

_LONGEST = 500


def box_said(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What a box answered. It may lie: nothing here makes up for what others say of it."""
    if answer.get("unreachable"):
        problem = f"the box cannot be reached: {_short(answer.get('msg'))}"
        return {"line": problem, "problems": [problem]}
    try:
        said = json.loads(answer.get("stdout") or "")
    except ValueError:
        said = None
    if not isinstance(said, dict):
        why = answer.get("stderr") or answer.get("msg") or answer.get("stdout")
        problem = f"the box does not say how it stands: {_short(why) or 'no answer'}"
        return {"line": problem, "problems": [problem]}
    problems = []
    waits = said.get("unpaired")
    if waits:
        message = waits.get("message") if isinstance(waits, dict) else ""
        problems.append(f"the agent is not paired: {_short(message) or 'restored and not started'}")
    if not said.get("result"):
        problems.append("the box has made no backup yet")
    elif said["result"] == "failed" and not said.get("at_work"):
        problems.append(
            f"the last backup failed: {_short(said.get('message')) or 'no reason told'}"
        )
    line = f"last backup {_short(said.get('result')) or 'none'}"
    line += f", last success {_short(said.get('last_success')) or 'never'}"
    line += ", one is at work" if said.get("at_work") else ""
    line += ", agent NOT PAIRED" if waits else ""
    return {"line": line, "problems": problems}


def _short(value: Any) -> str:
    text = " ".join(str(value or "").split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"box_said": box_said}
