# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which archives stay, by the time at which the server saw them.

The rule is the one that borg's users know from ``--keep-daily 7 --keep-weekly 4
--keep-monthly 6``: of each period the newest archive, an archive that one rule keeps does
not use up the next rule's number, and while a rule has not found its number the oldest
archive stays for it. But the client's word about time is not asked, and the outcome is a
list of archives with a reason each, never a command that decides by itself.

An attacker who adds archives gains nothing: what does not count neither stays for a rule
nor pushes anything out. What he added in good time and number does count; that is the limit
of every retention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from .ledger import PRESENT, Archive

PERIODS: dict[str, Callable[[datetime], str]] = {
    "daily": lambda when: when.strftime("%Y-%m-%d"),
    "weekly": lambda when: when.strftime("%G-W%V"),
    "monthly": lambda when: when.strftime("%Y-%m"),
}


@dataclass(frozen=True)
class Policy:
    """How many archives of each period stay, and what no plan may do."""

    daily: int = 7
    weekly: int = 4
    monthly: int = 6
    floor: int = 7
    remove_at_most: int = 10

    def rules(self) -> list[tuple[str, int]]:
        return [("daily", self.daily), ("weekly", self.weekly), ("monthly", self.monthly)]


@dataclass(frozen=True)
class Decision:
    """One archive and what happens to it."""

    id: str
    name: str
    server_time: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What stays, what goes, and why nothing goes although something should.

    ``stopped`` may pass by itself; ``refused`` does not, because what is due only grows.
    """

    keep: list[Decision] = field(default_factory=list)
    remove: list[Decision] = field(default_factory=list)
    quarantined: list[Decision] = field(default_factory=list)
    stopped: str | None = None
    refused: str | None = None

    @property
    def deletions(self) -> list[Decision]:
        """What may be deleted now."""
        return [] if self.stopped else self.remove


def plan(archives: Iterable[Archive], policy: Policy, *, hold: str | None = None) -> Plan:
    """Decide about every archive. ``hold`` is a reason from outside to delete nothing."""
    standing = list(archives)
    counting = [a for a in standing if a.state == PRESENT and not a.is_checkpoint]
    kept = _keep(counting, policy)
    proved = max((a for a in counting if a.proved), key=lambda a: (a.when, a.id), default=None)
    if proved is not None and proved.id not in kept:
        kept[proved.id] = "the newest one that a drill proved"
    kept.update(_fill(counting, kept, policy.floor))
    remove = [
        _decision(archive, "no rule keeps it") for archive in counting if archive.id not in kept
    ]
    dead, living = _checkpoints(standing, counting)
    removed = sorted(remove + dead, key=lambda one: one.server_time)
    refused = None if hold else _refused(removed, policy)
    return Plan(
        keep=[_decision(a, kept[a.id]) for a in counting if a.id in kept] + living,
        remove=removed,
        quarantined=[
            _decision(archive, archive.reason) for archive in standing if archive.state != PRESENT
        ],
        stopped=hold or refused,
        refused=refused,
    )


def _keep(archives: list[Archive], policy: Policy) -> dict[str, str]:
    kept: dict[str, str] = {}
    newest_first = sorted(archives, key=lambda a: (a.when, a.id), reverse=True)
    for rule, number in policy.rules():
        found = 0
        period = None
        for archive in newest_first:
            if found == number:
                break
            this = PERIODS[rule](archive.when.astimezone(timezone.utc))
            if this != period:
                period = this
                if archive.id not in kept:
                    found += 1
                    kept[archive.id] = f"{rule} {found} of {number} ({this})"
        if newest_first and found < number and newest_first[-1].id not in kept:
            kept[newest_first[-1].id] = f"the oldest, while {rule} has {found} of {number}"
    return kept


def _fill(archives: list[Archive], kept: dict[str, str], floor: int) -> dict[str, str]:
    """What no rule keeps, up to the floor: the oldest, because what came later may be forged."""
    others = sorted((a for a in archives if a.id not in kept), key=lambda a: (a.when, a.id))
    return {a.id: f"{floor} archives stay at least" for a in others[: max(0, floor - len(kept))]}


def _checkpoints(
    standing: list[Archive], counting: list[Archive]
) -> tuple[list[Decision], list[Decision]]:
    """What interrupted creates left: useful until a complete archive came after it."""
    newest = max((archive.when for archive in counting), default=None)
    dead, living = [], []
    for archive in standing:
        if archive.state != PRESENT or not archive.is_checkpoint:
            continue
        if newest is not None and archive.when < newest:
            dead.append(_decision(archive, "a checkpoint with a complete archive after it"))
        else:
            living.append(_decision(archive, "a checkpoint that the next create can go on from"))
    return dead, living


def _refused(removed: list[Decision], policy: Policy) -> str | None:
    """Why a person has to look first, and how to let the plan through once."""
    if len(removed) <= policy.remove_at_most:
        return None
    return (
        f"retention deletes nothing: {len(removed)} archives would be deleted at once,"
        f" {policy.remove_at_most} are allowed. Look at the plan with custody.yml --check, then let"
        f" it through once: custody.yml -e custody_retention_remove_at_most={len(removed)}"
    )


def _decision(archive: Archive, reason: str) -> Decision:
    return Decision(archive.id, archive.name, archive.server_time, reason)


def compaction_reason(
    *,
    now: datetime,
    last_compaction: datetime | None,
    last_deletion: datetime | None,
    began: datetime,
    every: timedelta,
    delay: timedelta,
) -> tuple[bool, str]:
    """Whether to compact now, and why (not).

    borg compacts all or nothing, so a deletion can only be given a time in which it is
    undone if no other follows it: when a compaction is due, deletions pause for the delay.
    """
    if last_deletion is None or (last_compaction and last_compaction >= last_deletion):
        return False, "nothing was deleted since the last compaction"
    if now - (last_compaction or began) < every:
        return False, "the last compaction is not long enough ago"
    if now - last_deletion < delay:
        return False, "waiting: the last deletion can still be undone"
    return True, "due, and the last deletion was not objected to"


def deletions_pause(
    *,
    now: datetime,
    last_compaction: datetime | None,
    last_deletion: datetime | None,
    began: datetime,
    every: timedelta,
    delay: timedelta,
) -> str | None:
    """Why retention holds still tonight: a compaction is due and waits for its delay."""
    pending = last_deletion is not None and not (
        last_compaction and last_compaction >= last_deletion
    )
    if pending and delay and now - (last_compaction or began) >= every:
        return "a compaction is due: nothing more is deleted until it is done"
    return None
