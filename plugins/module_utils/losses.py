# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the last good run held and this one does not find: told, before retention forgets it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .assemble import Problem
from .databases import HeldDatabase
from .manifest import printable
from .status import CONTENTS
from .survey import Survey


def contents(survey: Survey, databases: Iterable[HeldDatabase]) -> dict[str, Any]:
    """What the status remembers of a good run: its databases with tables, and how much there was."""
    return {
        "databases": [printable(item.path) for item in databases if item.report.get("tables")],
        "entries": _entries(survey),
    }


def known_databases(status: Mapping[str, Any]) -> frozenset[str]:
    """The databases with tables that the last good run held."""
    return frozenset((status.get(CONTENTS) or {}).get("databases", ()))


def losses(status: Mapping[str, Any], survey: Survey) -> list[Problem]:
    """A home that is empty where it was not, and databases that are none any more."""
    entries = (status.get(CONTENTS) or {}).get("entries", 0)
    if entries and not _entries(survey):
        return [
            Problem(
                True,
                f"the home is empty: the last good backup held {entries} entries of it",
                "is it mounted, was it moved or deleted? Restore it from an earlier archive; an "
                "agent that begins anew has a home with something in it",
            )
        ]
    found = {printable(database.path) for database in survey.databases}
    found |= {printable(entry.path) for entry in survey.not_sqlite}
    return [
        Problem(
            False,
            f"database {path} is gone: the last good backup held it",
            "where that is not on purpose, restore it from an earlier archive; "
            "this is said until the next good backup has been made without it",
        )
        for path in sorted(known_databases(status) - found)
    ]


def _entries(survey: Survey) -> int:
    """What was archived of a home, besides itself."""
    return len(survey.archived) - 1
