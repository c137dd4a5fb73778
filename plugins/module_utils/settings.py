# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup was told, in short: to compare an archive, its live box and the inventory.

Longer things are told apart by a digest. It says that they differ and in which part, which is what
a person needs to know; the text itself lies in the inventory and on the box.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

TOLD = (
    "unknown",
    "database_mode",
    "compression",
    "chunker_params",
    "secret_patterns",
    "accepted_findings",
)


def described(settings: Mapping[str, Any], profile: Mapping[str, Any]) -> dict[str, str]:
    """Name to value, of the settings of an agent and of each part of its checked profile."""
    found = {name: _shown(settings.get(name)) for name in TOLD}
    for repository in settings.get("repositories") or ():
        found[f"repository {repository['name']}"] = str(repository["url"])
    for part, value in profile.items():
        found[f"profile: {part}"] = _shown(value)
    return found


def _shown(value: Any) -> str:
    if isinstance(value, str) and "\n" not in value and len(value) <= 80:
        return str(value)
    if not value:
        return "none"
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    count = f"{len(value)} entries, " if isinstance(value, (list, tuple, dict)) else ""
    return f"{count}sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]}"
