# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of repositories: where they are, whether they are whole in time, whether they last.

A snapshot has to outlive the time in which a deletion becomes final and somebody notices it.
Otherwise the last copy of what was deleted ends before anybody has looked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

TWO_WEEKS = timedelta(days=14)
# ROOT/snapshots/AGENT.20261123T120000+0000, as btrbk writes it, or in its short form, local time.
BTRBK = re.compile(r"(\d{8}T\d{4}(?:\d{2}[+-]\d{4})?)(?:_\d+)?\Z")
# ROOT/.zfs/snapshot/autosnap_2026-11-23_12:00:00_daily, as sanoid writes it; it runs in UTC.
SANOID = re.compile(r"autosnap_(\d{4}-\d{2}-\d{2}_\d{2}:\d{2}:\d{2})_[a-z]+\Z")
# What providers call theirs: a date, and perhaps a time, somewhere in the name.
NAMED = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[T_ -](\d{2})[:-](\d{2})(?:[:-](\d{2}))?)?")
POLICY = re.compile(r"(\d+)([hdwmy])\Z")


class SnapshotError(Exception):
    """Settings of snapshots that cannot be understood."""


@dataclass(frozen=True)
class Snapshot:
    """One copy of one repository that its account cannot reach."""

    name: str
    path: Path
    time: datetime

    def to_dict(self) -> dict[str, str]:
        return {"name": self.name, "path": str(self.path), "time": self.time.isoformat()}


@dataclass(frozen=True)
class Continuity:
    """How old, how many and how close together snapshots have to be."""

    age_hours: float = 30.0
    gap_hours: float = 50.0
    count: int = 7


def zfs_folder(snapshots: Path) -> Path:
    """Where ZFS shows the snapshots of the dataset that holds the folder of the snapshots."""
    return snapshots.parent / ".zfs" / "snapshot"


def listed(repository: Path, snapshots: Path) -> list[Snapshot]:
    """The snapshots of a repository, newest first, by btrbk, sanoid or custody's own links."""
    found = []
    for path in snapshots.glob(f"{repository.name}.*") if snapshots.is_dir() else ():
        match = BTRBK.match(path.name[len(repository.name) + 1 :])
        if match:
            text = match[1]
            form = "%Y%m%dT%H%M%S%z" if len(text) > 13 else "%Y%m%dT%H%M"
            when = datetime.strptime(text, form).astimezone(timezone.utc)
            found.append(Snapshot(path.name, path, when))
    shown = zfs_folder(snapshots)
    for path in shown.iterdir() if shown.is_dir() else ():
        match = SANOID.match(path.name)
        inside = path / repository.relative_to(snapshots.parent)
        if match and inside.is_dir():
            when = datetime.strptime(match[1], "%Y-%m-%d_%H:%M:%S").replace(tzinfo=timezone.utc)
            found.append(Snapshot(path.name, inside, when))
    return sorted(found, key=lambda one: one.time, reverse=True)


def continuity(
    times: Sequence[datetime], born: datetime, now: datetime, expected: Continuity
) -> list[str]:
    """What is wrong with snapshots of these times, newest first."""
    # sanoid takes one for the day, one for the week and one for the month at the same moment.
    times = sorted(set(times), reverse=True)
    if not times:
        return ["there is no snapshot"]
    problems = []
    if now - times[0] > timedelta(hours=expected.age_hours):
        problems.append(f"the newest snapshot is of {times[0]:%Y-%m-%d %H:%M} UTC")
    due = min(expected.count, (now - born).days)
    if len(times) < due:
        problems.append(f"there are {len(times)} snapshots, {due} are expected")
    recent = [when for when in times if now - when <= TWO_WEEKS]
    for later, earlier in zip(recent, recent[1:]):
        if later - earlier > timedelta(hours=expected.gap_hours):
            problems.append(
                f"no snapshot between {earlier:%Y-%m-%d %H:%M} and {later:%Y-%m-%d %H:%M} UTC"
            )
    return problems


def times_of(names: Iterable[str]) -> list[datetime]:
    """The times in the names or timestamps of a provider's snapshots, newest first, in UTC."""
    found = []
    for name in names:
        match = NAMED.search(str(name))
        if match:
            parts = [int(part or 0) for part in match.groups()]
            try:
                found.append(datetime(*parts, tzinfo=timezone.utc))  # type: ignore[arg-type,misc]
            except ValueError:
                continue
    return sorted(set(found), reverse=True)


def provided(
    names: Iterable[str], born: str, now: str, expected: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """How a provider's snapshots stand, by their names or times."""
    times = times_of(names)
    begun = times_of([born]) or times[-1:] or times_of([now])
    [moment] = times_of([now])
    problems = continuity(times, begun[0], moment, Continuity(**(expected or {})))
    return {
        "snapshots": [{"name": one.isoformat(), "time": one.isoformat()} for one in times],
        "problems": problems,
    }


def policy(preserve: str) -> dict[str, int]:
    """How many of each kind stay, of a policy such as ``21d 8w 12m``."""
    counts = {}
    for word in str(preserve).split():
        match = POLICY.match(word)
        if match is None:
            raise SnapshotError(
                f"{word!r} in {preserve!r} is not understood. Write how many are kept of each kind,"
                " for example 21d 8w 12m."
            )
        counts[match[2]] = int(match[1])
    return counts


def reach(preserve: str) -> float:
    """Days back to which there is a snapshot of every day."""
    counts = policy(preserve)
    return float(counts.get("d", 0))


def lag(*, delay_hours: float, silence_hours: float, every_days: float = 0.0) -> float:
    """Days from a deletion to when it is final and has been seen by somebody.

    With ``every_days`` of 0 nobody compacts but a person, right after a clean night.
    """
    return float(every_days) + (float(delay_hours) + float(silence_hours)) / 24


def too_short(days: float, needed: float) -> list[str]:
    """Why snapshots that reach so far back do not suffice."""
    if days > needed:
        return []
    return [
        f"daily snapshots reach {days:g} days back, but a deletion can take {needed:g} days to become"
        " final and be seen, so what it removed could be gone for good"
    ]
