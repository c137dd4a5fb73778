# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One line for people about one archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: decision
short_description: One line about what happens to an archive
version_added: 0.1.0
author: lifeboat.agents contributors (@lifeboat-agents)
description:
  - Turns an entry of a retention plan into a line for people.
options:
  _input:
    description: An entry of the plan.
    type: dict
    required: true
  word:
    description: What happens to it.
    type: str
    required: true
"""

EXAMPLES = r"""
lines: "{{ night.plan.keep | map('lifeboat.agents.decision', 'keep') | list }}"
"""

RETURN = r"""
_value:
  description: The line.
  type: str
"""


def decision(entry: Mapping[str, Any], word: str) -> str:
    return f"{word:<10}  {entry['server_time']}  {entry['name']}  {entry['reason']}"


class FilterModule:
    """The filters of custody."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"decision": decision}
