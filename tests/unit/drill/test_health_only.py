# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A few restored paths: what they hold is compared, and nothing is asked of the rest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .world import World, build

ONLY = ("memories", "sessions/0001.json", "kanban.db")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Only the chosen paths, as they lie staged."""
    made = build(tmp_path)
    for path in list(made.home.iterdir()):
        if path.name.startswith(("memories", "sessions", "kanban.db")):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return made


def failed(world: World) -> dict[str, tuple[str, ...]]:
    checks = world.examine(only=ONLY).checks
    return {check.name: check.offenders for check in checks if check.status == "failed"}


def test_chosen_paths_alone_are_what_was_archived(world: World) -> None:
    health = world.examine(only=ONLY)
    assert health.healthy, health.summary
    passed = {check.name for check in health.checks if check.status == "passed"}
    assert {"entries_present", "entries_size", "content", "database_rows"} <= passed
    assert not world.examine().healthy  # the whole agent is not there


@pytest.mark.parametrize(
    ("spoil", "check", "offender"),
    [
        (lambda home: (home / "memories/USER.md").write_bytes(bytes(11)), "content", "USER.md"),
        (lambda home: (home / "memories/USER.md").unlink(), "entries_present", "USER.md"),
        (lambda home: os.truncate(home / "sessions/0001.json", 5), "entries_size", "0001.json"),
        (lambda home: os.truncate(home / "kanban.db", 4096), "database_opens", "kanban.db"),
    ],
    ids=["zeros", "gone", "cut", "database"],
)
def test_what_is_not_as_it_was_archived_is_named(
    world: World, spoil: Callable[[Path], object], check: str, offender: str
) -> None:
    spoil(world.home)
    found = failed(world)
    assert check in found, found
    assert any(offender in text for texts in found.values() for text in texts), found


def test_a_path_that_was_never_archived_is_no_success(world: World) -> None:
    health = world.examine(only=("nothing/of/the/kind",))
    assert not health.healthy
    assert "holds no 'nothing/of/the/kind'" in health.summary
