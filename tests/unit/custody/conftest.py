# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.tests.unit.custody import support


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Making a repository takes seconds, copying one takes none."""
    root = tmp_path_factory.mktemp("templates")
    world = support.World(root / "lived-in", support.find_borg())
    world.init()
    shutil.copytree(world.root, root / "empty")
    world.write("SOUL.md", 3_000)
    world.write("memories/one", 200_000)
    world.create("day-1")
    world.write("memories/two", 200_000)
    world.create("day-2")
    return {"empty": root / "empty", "lived-in": world.root}


def copied(template: Path, target: Path) -> support.World:
    shutil.copytree(template, target)
    made = support.World(target, support.find_borg())
    made.counters.write_text("")
    return made


@pytest.fixture
def world(templates: dict[str, Path], tmp_path: Path) -> support.World:
    """A sealed repository without archives."""
    return copied(templates["empty"], tmp_path / "world")


@pytest.fixture
def lived_in(templates: dict[str, Path], tmp_path: Path) -> support.World:
    """A sealed repository with the archives day-1 and day-2."""
    return copied(templates["lived-in"], tmp_path / "world")
