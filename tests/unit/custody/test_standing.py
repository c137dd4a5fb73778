# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Silence, missing snapshots and refusals show up, and nothing else does."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.plugins.filter.decision import FilterModule
from ansible_collections.lifeboat.agents.plugins.module_utils.audit_standing import (
    Expectations,
    Standing,
    standing,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.serve_lockout import Lockout
from ansible_collections.lifeboat.agents.plugins.modules import repository_info
from ansible_collections.lifeboat.agents.tests.unit.custody.nights import ModuleFailed, call
from ansible_collections.lifeboat.agents.tests.unit.custody.support import World

NOW = datetime.now(timezone.utc)


def snapshots(folder: Path, ages: list[float], *, long: bool = True) -> Path:
    for hours in ages:
        when = NOW - timedelta(hours=hours)
        stamp = when.strftime("%Y%m%dT%H%M%S+0000")
        if not long:
            stamp = when.astimezone().strftime("%Y%m%dT%H%M")
        (folder / f"acme.{stamp}").mkdir(parents=True)
    (folder / "acme.note").mkdir(parents=True)
    (folder / "other.20260101T0000").mkdir()
    return folder


def look(world: World, **more: object) -> Standing:
    return standing(world.repository, now=NOW, counters=world.counters, **more)  # type: ignore[arg-type]


def test_all_is_well(lived_in: World, tmp_path: Path) -> None:
    folder = snapshots(tmp_path / "snapshots", [2, 26, 50, 74])
    found = look(lived_in, snapshots=folder, lock=lived_in.lock)
    assert found.problems == []
    assert len(found.snapshots) == 4
    assert found.size > 400_000
    assert found.transaction
    assert found.closed_until is None


@pytest.mark.parametrize("long", [True, False])
def test_names_of_snapshots(lived_in: World, tmp_path: Path, long: bool) -> None:
    folder = snapshots(tmp_path / "snapshots", [5], long=long)
    [one] = look(lived_in, snapshots=folder).snapshots
    found = datetime.fromisoformat(one["time"])
    assert abs(found - (NOW - timedelta(hours=5))) < timedelta(minutes=2)


@pytest.mark.parametrize(
    ("ages", "problem"),
    [
        ([], "there is no snapshot"),
        ([40, 64], "the newest snapshot is of"),
        ([2, 26, 100], "no snapshot between"),
    ],
)
def test_snapshots_that_are_missing(
    lived_in: World, tmp_path: Path, ages: list[float], problem: str
) -> None:
    found = look(lived_in, snapshots=snapshots(tmp_path / "snapshots", ages))
    assert len(found.problems) == 1
    assert problem in found.problems[0]


def test_too_few_snapshots_for_its_age(lived_in: World, tmp_path: Path) -> None:
    log = lived_in.repository / "transactions"
    born = (NOW - timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%S.000000")
    log.write_text(f"transaction 0, UTC time {born}\n" + log.read_text())
    found = look(lived_in, snapshots=snapshots(tmp_path / "snapshots", [2, 26]))
    assert found.problems == ["there are 2 snapshots, 7 are expected"]


def test_silence(lived_in: World) -> None:
    later = NOW + timedelta(hours=31)
    found = standing(lived_in.repository, now=later)
    assert len(found.problems) == 1
    assert "nothing was stored since" in found.problems[0]


def test_after_a_compaction_the_time_is_that_of_the_file(lived_in: World) -> None:
    (lived_in.repository / "transactions").write_text("")
    assert look(lived_in).problems == []
    for path in lived_in.repository.glob("data/0/*"):
        path.unlink()
    assert look(lived_in).problems == ["no transaction was ever finished"]


def test_a_refusal_is_worth_a_look(lived_in: World) -> None:
    with lived_in.opened() as connection:
        from ansible_collections.lifeboat.agents.plugins.module_utils.serve_client import ServeError

        with pytest.raises(ServeError):
            connection.call("destroy")
    found = look(lived_in)
    assert found.refusals == {"destroy": 1}
    assert len(found.problems) == 1
    assert "box was refused destroy at" in found.problems[0]
    later = standing(
        lived_in.repository,
        counters=lived_in.counters,
        now=NOW + timedelta(hours=49),
        expected=Expectations(silence_hours=1000),
    )
    assert later.problems == []
    counted = json.loads(lived_in.counters.read_text())
    lived_in.counters.write_text(json.dumps({**counted, "last_refusal": {"time": "soon"}}))
    assert look(lived_in).problems == ["the counter file of the forced command cannot be read"]
    for text in ("{", "[]", ""):
        lived_in.counters.write_text(text)
        assert look(lived_in).problems == []


def test_a_repository_that_is_gone(tmp_path: Path) -> None:
    found = standing(tmp_path / "acme")
    assert found.problems == [f"there is no repository at {tmp_path / 'acme'}"]


def test_what_is_left_of_a_repository_that_is_gone(tmp_path: Path) -> None:
    folder = snapshots(tmp_path / "snapshots", [2, 26])
    found = standing(tmp_path / "acme", snapshots=folder)
    assert len(found.snapshots) == 2
    assert Path(found.snapshots[0]["path"]).is_dir()


def test_the_module(lived_in: World, tmp_path: Path) -> None:
    Lockout(lived_in.lock).close("run", 100, wait=0)
    given = {
        "path": str(lived_in.repository),
        "snapshots": str(snapshots(tmp_path / "snapshots", [1])),
        "lock": str(lived_in.lock),
        "counters": str(lived_in.counters),
    }
    for check_mode in (False, True):
        found = call(repository_info.main, check_mode=check_mode, **given)
        assert not found["changed"]
        assert found["problems"] == []
        assert found["closed_until"]
    Path(f"{lived_in.lock}.closed").write_text("soon")
    with pytest.raises(ModuleFailed, match="cannot be read"):
        call(repository_info.main, **given)


def test_a_line_for_people() -> None:
    decision = FilterModule().filters()["decision"]
    entry = {"name": "acme-1", "server_time": "2026-01-01T00:00:00Z", "reason": "daily 1 of 7"}
    assert decision(entry, "keep").split(maxsplit=3) == [
        "keep",
        "2026-01-01T00:00:00Z",
        "acme-1",
        "daily 1 of 7",
    ]
