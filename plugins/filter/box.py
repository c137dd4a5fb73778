# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a box for the role backup; the decisions are in module_utils/box.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.lifeboat.agents.plugins.module_utils import box as logic
from ansible_collections.lifeboat.agents.plugins.module_utils.backup_summary import summary
from ansible_collections.lifeboat.agents.plugins.module_utils.settings import described


def box_engine(
    directory: str, programs: Iterable[dict[str, str]] = (), entry: str = logic.ENTRY
) -> list[dict[str, str]]:
    """List the Python files of the command on the box, behind the programs that use them."""
    try:
        return [*programs, *logic.engine(directory, entry)]
    except logic.BoxError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filters."""
        return {
            "backup_summary": summary,
            "box_directories": logic.directories,
            "box_engine": box_engine,
            "box_pins": logic.pins,
            "box_settings": described,
        }
