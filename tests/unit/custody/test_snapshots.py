# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots by their names, and whether they outlive the time in which a deletion becomes final."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.lifeboat.agents.plugins.filter.snapshots import FilterModule
from ansible_collections.lifeboat.agents.plugins.module_utils import snapshots
from ansible_collections.lifeboat.agents.plugins.module_utils.audit import Mark
from ansible_collections.lifeboat.agents.plugins.module_utils.audit_compaction import (
    CompactionError,
    Request,
    take_snapshot,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.audit_standing import standing
from ansible_collections.lifeboat.agents.tests.unit.custody.support import World

ROOT = Path(__file__).resolve().parents[3]
NOW = datetime(2026, 11, 23, 12, 30, tzinfo=timezone.utc)
CUSTODY = {"every_days": 14, "delay_hours": 72, "silence_hours": 30}


def filters() -> dict[str, Any]:
    return FilterModule().filters()


@pytest.mark.parametrize(
    ("preserve", "custody", "lasts"),
    [
        ("21d 8w 12m", CUSTODY, True),
        ("19d", CUSTODY, True),
        ("18d 52w 12m", CUSTODY, False),  # 18.25 days are needed
        ("8w 12m", CUSTODY, False),
        ("", CUSTODY, False),
        ("21d", {**CUSTODY, "delay_hours": 168}, False),
        ("21d", {**CUSTODY, "every_days": 30}, False),
        # A provider, where a person compacts after a clean night: 4.25 days.
        ("7d", {"delay_hours": 72, "silence_hours": 30}, True),
        ("4d", {"delay_hours": 72, "silence_hours": 30}, False),
    ],
)
def test_a_policy_has_to_outlive_a_deletion(
    preserve: str, custody: dict[str, int], lasts: bool
) -> None:
    problems = filters()["snapshot_reach"](preserve, custody)
    assert (problems == []) is lasts
    if not lasts:
        assert "days to become final" in problems[0]


def test_the_defaults_of_both_roles_go_together() -> None:
    repository = yaml.safe_load((ROOT / "roles/repository/defaults/main.yml").read_text())
    custody = yaml.safe_load((ROOT / "roles/custody/defaults/main.yml").read_text())
    given = {
        "every_days": custody["custody_compact_every_days"],
        "delay_hours": custody["custody_compact_delay_hours"],
        "silence_hours": custody["custody_silence_hours"],
    }
    assert filters()["snapshot_reach"](repository["repository_snapshot_preserve"], given) == []


@pytest.mark.parametrize("preserve", ["21 days", "d21", "21d,8w"])
def test_a_policy_that_is_not_understood(preserve: str) -> None:
    with pytest.raises(AnsibleFilterError, match="is not understood"):
        filters()["snapshot_reach"](preserve, CUSTODY)
    with pytest.raises(AnsibleFilterError, match="is not understood"):
        filters()["snapshot_policy"](preserve)


def test_names_that_providers_use() -> None:
    found = snapshots.times_of(
        ["daily_2026-11-22", "2026-11-21T12-00-05", "2026-11-20T12:00:05+00:00", "lost+found"]
    )
    assert [f"{one:%d %H:%M:%S}" for one in found] == ["22 00:00:00", "21 12:00:05", "20 12:00:05"]
    assert snapshots.times_of(["2026-13-45"]) == []


def daily(days: Sequence[int]) -> list[str]:
    return [f"daily_{NOW - timedelta(days=day):%Y-%m-%d}" for day in days]


@pytest.mark.parametrize(
    ("days", "problem"),
    [
        (range(8), ""),
        ([], "there is no snapshot"),
        (range(3, 12), "the newest snapshot is of"),
        ([0, 1, 4, 5, 6, 7, 8, 9], "no snapshot between"),
        # A provider that keeps three is noticed once the oldest is old enough to tell.
        ([0, 1, 9], "there are 3 snapshots, 7 are expected"),
    ],
)
def test_a_providers_snapshots(days: Sequence[int], problem: str) -> None:
    found = filters()["snapshots_provided"](daily(days), "", f"{NOW:%Y-%m-%dT%H:%M:%S}")
    assert len(found["snapshots"]) == len(days)
    if problem:
        assert any(problem in one for one in found["problems"])
    else:
        assert found["problems"] == []


@pytest.fixture
def dataset(lived_in: World) -> Path:
    """The folder of ROOT/snapshots on what looks like a ZFS dataset."""
    root = lived_in.repository.parent
    for hours in (2, 26, 50):
        when = datetime.now(timezone.utc) - timedelta(hours=hours)
        place = root / ".zfs/snapshot" / f"autosnap_{when:%Y-%m-%d_%H:%M:%S}_daily"
        (place / lived_in.repository.name).mkdir(parents=True)
    (root / ".zfs/snapshot/by-hand").mkdir()
    (root / ".zfs/snapshot/autosnap_2026-01-01_12:00:00_daily/other").mkdir(parents=True)
    (root / "snapshots").mkdir(exist_ok=True)
    return root / "snapshots"


def test_snapshots_of_zfs_are_found(lived_in: World, dataset: Path) -> None:
    found = standing(lived_in.repository, snapshots=dataset)
    assert found.problems == []
    assert len(found.snapshots) == 3
    newest = found.snapshots[0]
    assert newest["path"] == str(
        dataset.parent / ".zfs/snapshot" / newest["name"] / lived_in.repository.name
    )


def test_three_kinds_of_one_moment_are_one_snapshot(lived_in: World, dataset: Path) -> None:
    log = lived_in.repository / "transactions"
    born = (datetime.now(timezone.utc) - timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%S.000000")
    log.write_text(f"transaction 0, UTC time {born}\n" + log.read_text())
    for daily in list(dataset.parent.glob(".zfs/snapshot/*_daily")):
        if not (daily / lived_in.repository.name).exists():
            continue
        for kind in ("weekly", "monthly"):
            other = daily.with_name(daily.name.replace("daily", kind))
            (other / lived_in.repository.name).mkdir(parents=True)
    found = standing(lived_in.repository, snapshots=dataset)
    assert found.problems == ["there are 3 snapshots, 7 are expected"]


def request(world: World, folder: Path) -> Request:
    return Request(repository=world.repository, mark=Mark("", None, 0, ""), snapshots=folder)


def test_a_snapshot_of_zfs_before_a_compaction(lived_in: World, dataset: Path) -> None:
    """With a zfs that copies, because ZFS itself is not to be had in tests."""
    import shutil

    ran: list[Sequence[str]] = []

    def run(argv: Sequence[str], _environment: object) -> tuple[int, str, str]:
        ran.append(argv)
        if argv[1] == "snapshot":
            place = dataset.parent / ".zfs/snapshot" / argv[2].partition("@")[2]
            shutil.copytree(lived_in.repository, place / lived_in.repository.name)
        return 0, "tank/lifeboat\n", ""

    taken = take_snapshot(request(lived_in, dataset), run)
    assert ran[0] == ["zfs", "list", "-H", "-o", "name", str(dataset.parent)]
    assert ran[1][2].startswith("tank/lifeboat@autosnap_")
    # By its name sanoid ends it like one of its own, and status counts it.
    assert taken in [
        one["path"] for one in standing(lived_in.repository, snapshots=dataset).snapshots
    ]


def test_a_snapshot_of_zfs_that_fails_or_is_empty(lived_in: World, dataset: Path) -> None:
    with pytest.raises(CompactionError, match="no snapshot: out of space"):
        take_snapshot(request(lived_in, dataset), lambda argv, _env: (1, "", "out of space"))
    with pytest.raises(CompactionError, match="is not a copy"):
        take_snapshot(request(lived_in, dataset), lambda argv, _env: (0, "tank", ""))
