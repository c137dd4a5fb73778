# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup archived, for people who did not watch it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .report import size
from .visible import visible

CLASSES = (
    ("keep", "kept"),
    ("scrub", "kept without their secrets"),
    ("unknown", "known to no rule"),
    ("secret", "withheld as secrets"),
    ("runtime", "left out, they do harm when restored"),
    ("drop", "left out as dead weight"),
)
SHOWN = 5


def summary(status: Mapping[str, Any], host: str) -> list[str]:
    """The lines for one agent, from the status file that its backup wrote."""
    if not status:
        return [f"{host}: no backup was recorded"]
    lines = [
        f"{status['agent']} on {host}: {status['result']}, {status.get('archive') or 'no archive'}"
    ]
    counts, sizes = status.get("counts") or {}, status.get("bytes") or {}
    lines += [
        f"  {counts[name]:>7} entries {size(sizes.get(name, 0)):>9}  {meaning}"
        for name, meaning in CLASSES
        if counts.get(name)
    ]
    for name, values in sorted((status.get("repositories") or {}).items()):
        lines.append(_repository(name, values))
    lines += _few("database", [str(item["path"]) for item in status.get("databases") or []])
    lines += _few(
        "unknown",
        [f"{item['path']} ({item['decision']})" for item in status.get("unknown") or []],
    )
    if status.get("findings_count"):
        lines.append(
            f"  {status['findings_count']} findings of the secret scan in kept text: lifeboat audit"
        )
    for problem in status.get("problems") or []:
        kind = "ERROR" if problem.get("error") else "warning"
        lines.append(f"  {kind}: {problem['message']} {problem.get('hint') or ''}".rstrip())
    if status.get("message"):
        lines.append(f"  {status['message']} {status.get('hint') or ''}".rstrip())
    return [visible(line) for line in lines]


def _repository(name: str, values: Mapping[str, Any]) -> str:
    if not values.get("success"):
        return f"  to {name}: FAILED, {values.get('error') or 'no archive'}"
    return (
        f"  to {name}: {values.get('files', 0)} files, {size(values.get('original_size', 0))}, "
        f"{size(values.get('deduplicated_size', 0))} of them new"
    )


def _few(what: str, names: list[str]) -> list[str]:
    lines = [f"  {what}: {name}" for name in names[:SHOWN]]
    if len(names) > SHOWN:
        lines.append(f"  {what}: and {len(names) - SHOWN} more")
    return lines
