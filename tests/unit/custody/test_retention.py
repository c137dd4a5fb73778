# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retention: 7 daily, 4 weekly, 6 monthly by the server's time, whatever the clients claim."""

from __future__ import annotations

import json
import random
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import ledger
from ansible_collections.lifeboat.agents.plugins.module_utils.ledger import (
    PRESENT,
    QUARANTINED,
    Archive,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.ledger_watch import (
    Limits,
    Listed,
    watch,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.retention import (
    Policy,
    compaction_reason,
    deletions_pause,
    plan,
)
from ansible_collections.lifeboat.agents.tests.unit.custody import support

START = datetime(2025, 10, 5, 2, 0, tzinfo=timezone.utc)
GENEROUS = Policy(remove_at_most=1000)


def archive(when: datetime, number: int = 0, **more: object) -> Archive:
    made = Archive(
        id=f"{int(when.timestamp()):x}-{number}",
        name=f"acme-{ledger.stamp(when)}-{number}",
        client_time=ledger.stamp(when),
        server_time=ledger.stamp(when),
        source="transaction",
    )
    return replace(made, **more)  # type: ignore[arg-type]


def daily(nights: int) -> list[Archive]:
    return [archive(START + timedelta(days=number)) for number in range(nights)]


def expected(times: list[datetime]) -> set[datetime]:
    """7/4/6 spelled out another way: periods as sets, newest first."""
    kept: set[datetime] = set()
    for number, period in ((7, "%Y%j"), (4, "%G%V"), (6, "%Y%m")):
        newest: dict[str, datetime] = {}
        for time in times:
            newest[time.strftime(period)] = max(time, newest.get(time.strftime(period), time))
        free = sorted(set(newest.values()) - kept, reverse=True)[:number]
        kept |= set(free)
        if len(free) < number:
            kept.add(min(times))
    return kept


def names(decisions: object) -> set[str]:
    return {one.name for one in decisions}  # type: ignore[attr-defined]


@pytest.mark.parametrize("nights", [1, 2, 7, 8, 30, 61, 200, 400])
def test_the_rule(nights: int) -> None:
    archives = daily(nights)
    kept = expected([one.when for one in archives])
    decided = plan(archives, GENEROUS)
    assert {ledger.moment(one.server_time) for one in decided.keep} == kept
    assert len(decided.keep) + len(decided.remove) == nights


@pytest.mark.parametrize("seed", range(12))
def test_the_rule_is_the_one_borgs_users_know(seed: int) -> None:
    """borg itself as the judge, on times without any order."""
    borg = support.find_borg()
    dice = random.Random(seed)
    archives = [
        archive(START + timedelta(hours=dice.randrange(24 * 30 * dice.choice([1, 4, 12]))), n)
        for n in range(dice.randrange(1, 150))
    ]
    program = """
import json, sys
from collections import namedtuple
from datetime import datetime, timezone
from borg.helpers import prune_split
A = namedtuple("A", "id ts")
archives = [A(i, datetime.fromisoformat(t)) for i, t in json.load(sys.stdin)]
kept = {}
for rule, number in (("daily", 7), ("weekly", 4), ("monthly", 6)):
    prune_split(archives, rule, number, kept)
print(json.dumps(sorted(a.ts.isoformat() for a in archives if a.id in kept)))
"""
    done = subprocess.run(
        [support.python_of(borg), "-c", program],
        input=json.dumps([(one.id, one.when.isoformat()) for one in archives]),
        env={"TZ": "UTC"},
        capture_output=True,
        text=True,
        check=True,
    )
    ours = sorted(
        ledger.moment(one.server_time).isoformat() for one in plan(archives, GENEROUS).keep
    )
    assert ours == json.loads(done.stdout)


def test_every_archive_gets_a_reason() -> None:
    decided = plan(daily(60), GENEROUS)
    assert [one.reason for one in decided.keep][-1] == "daily 1 of 7 (2025-12-03)"
    assert all(one.reason for one in [*decided.keep, *decided.remove])
    assert "oldest" in decided.keep[0].reason
    assert {one.reason for one in decided.remove} == {"no rule keeps it"}


def test_quarantined_archives_neither_stay_for_a_rule_nor_push_out() -> None:
    genuine = daily(40)
    forged = [
        archive(START + timedelta(days=n, hours=20), n, state=QUARANTINED, reason="x")
        for n in range(40)
    ]
    decided = plan([*genuine, *forged], GENEROUS)
    alone = plan(genuine, GENEROUS)
    assert names(decided.keep) == names(alone.keep)
    assert names(decided.remove) == names(alone.remove)
    assert names(decided.quarantined) == {one.name for one in forged}


def test_checkpoints_go_when_a_complete_archive_came_after_them() -> None:
    archives = daily(3)
    dead = replace(archive(START + timedelta(hours=1)), name="acme-1.checkpoint")
    living = replace(archive(START + timedelta(days=9)), name="acme-9.checkpoint.2")
    decided = plan([*archives, dead, living], GENEROUS)
    assert names(decided.remove) == {"acme-1.checkpoint"}
    assert "acme-9.checkpoint.2" in names(decided.keep)
    assert len(decided.keep) == 4, "a checkpoint takes no archive's place"


def test_what_a_drill_proved_stays() -> None:
    archives = daily(60)
    without = plan(archives, GENEROUS)
    victim = without.remove[10]
    older = without.remove[9]
    archives = [replace(one, proved=one.name in (victim.name, older.name)) for one in archives]
    decided = plan(archives, GENEROUS)
    assert {one.name: one.reason for one in decided.keep}[victim.name] == (
        "the newest one that a drill proved"
    )
    assert names(decided.remove) == names(without.remove) - {victim.name}


def test_the_floor() -> None:
    """A young repository, or many backups in a few days: calm nights, and never fewer than it."""
    same_day = [archive(START + timedelta(minutes=n), n) for n in range(12)]
    decided = plan(same_day, GENEROUS)
    assert decided.stopped is None
    expected = {one.name for one in [*same_day[:6], same_day[-1]]}
    assert names(decided.keep) == expected, "the oldest fill it: later ones may be forged"
    assert "7 archives stay at least" in {one.reason for one in decided.keep}
    assert len(decided.deletions) == 5
    assert len(plan(same_day, replace(GENEROUS, floor=1)).deletions) == 10
    assert plan(same_day[:5], GENEROUS).remove == []


def test_few_archives_are_no_reason_to_stop() -> None:
    assert plan(daily(3), GENEROUS).stopped is None


def test_not_too_many_at_once() -> None:
    decided = plan(daily(60), Policy())
    assert decided.stopped
    due = len(decided.remove)
    assert f"-e custody_retention_remove_at_most={due}" in decided.stopped
    assert decided.refused == decided.stopped
    assert plan(daily(60), Policy(remove_at_most=due)).deletions == decided.remove
    assert plan(daily(18), Policy()).stopped is None


def test_a_reason_from_outside() -> None:
    decided = plan(daily(25), Policy(), hold="an audit found something")
    assert decided.deletions == []
    assert decided.stopped == "an audit found something"
    assert plan(daily(60), Policy(), hold="a pause").refused is None, "it may pass by itself"


# 400 nights


def live(nights: int, tmp_path: Path, *, seed: int, hostile: bool) -> ledger.View:
    """Night after night: clients with wrong clocks, forged archives, our own deletions."""
    dice = random.Random(seed)
    book = ledger.Ledger(tmp_path / f"ledger-{seed}-{hostile}", "acme", "vault1")
    listed: dict[str, Listed] = {}
    times: dict[str, str] = {}
    # The ledger file is replayed rarely, or the test would take minutes.
    lines: list[ledger.Line] = []

    def add(when: datetime, claimed: datetime, name: str = "") -> None:
        identity = f"{len(times):064x}"
        times[identity] = ledger.stamp(when)
        text = name or f"acme-{ledger.stamp(claimed)}"
        listed[identity] = Listed(identity, text, ledger.stamp(claimed))

    def write(now: datetime, *entries: tuple[str, dict[str, object]]) -> None:
        for kind, data in entries:
            lines.append(book._next(lines[-1] if lines else None, ledger.stamp(now), kind, data))

    for number in range(nights):
        arrived = START + timedelta(days=number)
        now = arrived + timedelta(hours=2)
        add(arrived, arrived + timedelta(hours=dice.uniform(-12, 12)))
        if hostile and number % 5 == 0:
            for _unused in range(2):
                add(
                    arrived + timedelta(minutes=5),
                    arrived + timedelta(days=dice.uniform(-900, 900)),
                )
        if hostile and number % 50 == 20:
            for _unused in range(200):
                add(arrived + timedelta(minutes=9), arrived)
        known = ledger.view(lines)
        seen = watch(
            known, listed.values(), repository_id="r", now=now, times=times,
            limits=Limits(prefix="acme-"),
        )  # fmt: skip
        if known.repository_id is None:
            write(now, ("begin", {"repository_id": "r"}))
        # The operator answers: what was wrong stays in quarantine, what was not is released.
        write(now, *seen.lines(), ("mark", {}), ("resolved", {}))
        for one in seen.seen:
            genuine = times[one.id] == ledger.stamp(arrived)
            if genuine and one.state == QUARANTINED:
                write(now, ("released", {"id": one.id}))
        decided = plan(ledger.view(lines).standing, Policy())
        assert decided.stopped is None
        for one in decided.deletions:
            del listed[one.id]
        removed = [{"id": one.id, "reason": one.reason} for one in decided.deletions]
        write(now, ("removed", {"archives": removed}))
    return ledger.view(lines)


@pytest.mark.parametrize("hostile", [False, True])
@pytest.mark.parametrize("nights", [400])
def test_after_400_nights_exactly_the_right_archives_stand(
    tmp_path: Path, nights: int, hostile: bool
) -> None:
    known = live(nights, tmp_path, seed=7, hostile=hostile)
    standing = {one.when for one in known.standing if one.state == PRESENT}
    history = [START + timedelta(days=number) for number in range(nights)]
    assert standing == expected(history)
    assert len(standing) == 17
    quarantined = [one for one in known.standing if one.state == QUARANTINED]
    assert bool(quarantined) is hostile


def test_the_same_nights_by_the_clients_clocks_would_end_otherwise() -> None:
    """The control: why the client is not asked."""
    genuine = daily(40)
    forged = [
        archive(START + timedelta(days=39, hours=22, minutes=-7 * n), n, name=f"forged-{n}")
        for n in range(40)
    ] + [archive(START + timedelta(days=n, hours=21), n, name=f"forged-day-{n}") for n in range(40)]
    kept = names(plan([*genuine, *forged], GENEROUS).keep)
    assert len([name for name in kept if not name.startswith("forged")]) <= 1


# Compaction


def when(days: float) -> datetime:
    return START + timedelta(days=days)


EVERY, DELAY = timedelta(days=14), timedelta(days=3)


@pytest.mark.parametrize(
    ("now", "compacted", "deleted", "expected_now", "reason"),
    [
        (20, None, None, False, "nothing was deleted"),
        (5, None, 1, False, "not long enough"),
        (20, None, 19, False, "can still be undone"),
        (20, None, 16, True, "due"),
        (20, 1, 16, True, "due"),
        (20, 10, 16, False, "not long enough"),
        (40, 20, 19, False, "nothing was deleted"),
    ],
)
def test_compaction(
    now: float, compacted: float | None, deleted: float | None, expected_now: bool, reason: str
) -> None:
    decided = compaction_reason(
        now=when(now),
        last_compaction=None if compacted is None else when(compacted),
        last_deletion=None if deleted is None else when(deleted),
        began=START,
        every=EVERY,
        delay=DELAY,
    )
    assert decided[0] is expected_now
    assert reason in decided[1]


def test_deletions_pause_before_a_compaction_and_go_on_after_it() -> None:
    deleted: datetime | None = None
    compacted: datetime | None = None
    history = []
    for night in range(60):
        now = when(night)
        common = {
            "now": now, "last_compaction": compacted, "last_deletion": deleted,
            "began": START, "every": EVERY, "delay": DELAY,
        }  # fmt: skip
        if compaction_reason(**common)[0]:  # type: ignore[arg-type]
            compacted = now
            history.append("C")
            common["last_compaction"] = now
        if deletions_pause(**common):  # type: ignore[arg-type]
            history.append("-")
        else:
            history.append("d")
            deleted = now
    text = "".join(history)
    assert text.startswith("dddddddddddddd--C")
    assert text.count("C") == 3
    assert "dC" not in text, "every deletion has its time"
