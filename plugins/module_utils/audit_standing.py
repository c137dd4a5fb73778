# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a repository stands on its host, from names, sizes and times alone."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from . import snapshots as copies
from .segments import Segments
from .serve_lockout import Lockout


@dataclass(frozen=True)
class Expectations:
    """What is still well."""

    snapshot_age_hours: float = 30.0
    snapshot_gap_hours: float = 50.0
    snapshot_count: int = 7
    silence_hours: float = 30.0
    refused_hours: float = 48.0


@dataclass(frozen=True)
class Standing:
    """What was found."""

    size: int = 0
    transaction: int | None = None
    transaction_time: str | None = None
    snapshots: list[dict[str, str]] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=dict)
    last_refusal: dict[str, Any] | None = None
    closed_until: str | None = None
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def standing(
    repository: Path,
    *,
    snapshots: Path | None = None,
    lock: Path | None = None,
    counters: Path | None = None,
    expected: Expectations | None = None,
    now: datetime | None = None,
) -> Standing:
    """Look, and name what is not as it should be."""
    expected = expected or Expectations()
    now = now or datetime.now(timezone.utc)
    files = Segments(repository)
    found = copies.listed(repository, snapshots) if snapshots else []
    told = [one.to_dict() for one in found]
    if not (repository / "config").exists():
        # Its snapshots are what is left of it.
        return Standing(snapshots=told, problems=[f"there is no repository at {repository}"])
    layout = files.layout()
    times = files.times()
    per_dir = files.config().segments_per_dir
    last = files.last_commit(layout, per_dir)
    newest = None
    if last is not None:
        # A compaction by the host is not in the list of transactions.
        changed = files.file(last, per_dir).stat().st_mtime
        newest = times.get(last, datetime.fromtimestamp(changed, timezone.utc))
    problems = _silence(newest, now, expected)
    if snapshots:
        born = min(times.values(), default=now)
        wanted = copies.Continuity(
            expected.snapshot_age_hours, expected.snapshot_gap_hours, expected.snapshot_count
        )
        problems += copies.continuity([one.time for one in found], born, now, wanted)
    counted = _counted(counters)
    problems += _refusal(counted.get("last_refusal"), now, expected)
    return Standing(
        size=sum(layout.values()),
        transaction=last,
        transaction_time=newest.isoformat(timespec="seconds") if newest else None,
        snapshots=told,
        refusals=dict(counted.get("refusals") or {}),
        last_refusal=counted.get("last_refusal"),
        closed_until=_closed(lock),
        problems=problems,
    )


def _silence(newest: datetime | None, now: datetime, expected: Expectations) -> list[str]:
    if newest is None:
        return ["no transaction was ever finished"]
    if now - newest > timedelta(hours=expected.silence_hours):
        return [f"nothing was stored since {newest:%Y-%m-%d %H:%M} UTC"]
    return []


def _refusal(last: object, now: datetime, expected: Expectations) -> list[str]:
    """An honest box is never refused anything, so one refusal is worth a look at the box."""
    if not isinstance(last, dict):
        return []
    try:
        when = datetime.strptime(str(last.get("time")), "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return ["the counter file of the forced command cannot be read"]
    if now - when.replace(tzinfo=timezone.utc) > timedelta(hours=expected.refused_hours):
        return []
    told = f"{last.get('identity')} was refused {last.get('kind')} at {when:%Y-%m-%d %H:%M} UTC"
    return [f"{told}: {last.get('detail')}"]


def _counted(counters: Path | None) -> dict[str, Any]:
    if counters is None:
        return {}
    try:
        found = json.loads(counters.read_text(encoding="utf-8") or "{}")
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _closed(lock: Path | None) -> str | None:
    held = Lockout(lock).current() if lock is not None else None
    return None if held is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(held.until))
