# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One file, one session, one database: the rest of the home stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import restore
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError

from .support import World, make_database, rows_of, tree


@pytest.fixture
def lived(borg_world: World) -> World:
    """A home that went on living after the archive was made."""
    world = borg_world
    world.make_target()
    world.make_source()
    world.initialise()
    world.create()
    world.old_home("a newer soul")
    (world.home / "memories").mkdir()
    (world.home / "memories/USER.md").write_text("wrecked")
    (world.home / "memories/NEW.md").write_text("made since")
    make_database(world.home / "state.db", rows=2, leave_wal=True)
    return world


def bring(world: World, *only: str) -> dict[str, object]:
    world.extract(only=only)
    restore.stage(world.request())
    result = restore.switch(world.request())
    restore.clear(world.request())
    return result


def test_one_file_comes_back_and_the_rest_stays(lived: World) -> None:
    before = tree(lived.home)
    result = bring(lived, "memories/USER.md")
    assert (lived.home / "memories/USER.md").read_text() == "likes tea\n"
    after = tree(lived.home)
    assert {path for path in before | after if before.get(path) != after.get(path)} == {
        "memories/USER.md"
    }
    aside = Path(str(result["moved_aside"]))
    assert (aside / "home/memories/USER.md").read_text() == "wrecked"
    restore.undo(lived.request())
    assert tree(lived.home) == before


def test_a_folder_takes_the_place_of_the_folder(lived: World) -> None:
    bring(lived, "memories")
    assert not (lived.home / "memories/NEW.md").exists()
    assert (lived.home / "SOUL.md").read_text() == "a newer soul"


def test_a_database_never_meets_the_log_of_another(lived: World) -> None:
    before = tree(lived.home)
    assert (lived.home / "state.db-wal").stat().st_size > 0
    bring(lived, "state.db")
    assert not (lived.home / "state.db-wal").exists()
    assert rows_of(lived.home / "state.db") == 5
    (lived.home / "state.db-wal").unlink(missing_ok=True)
    (lived.home / "state.db-shm").unlink(missing_ok=True)
    restore.undo(lived.request())
    assert tree(lived.home) == before
    assert rows_of(lived.home / "state.db") == 2


def test_a_path_that_was_not_there_is_taken_away_by_undo(lived: World) -> None:
    before = tree(lived.home)
    bring(lived, "profiles/work/config.yaml", "cron/executions.db")
    assert rows_of(lived.home / "cron/executions.db") == 3
    restore.undo(lived.request())
    assert not (lived.home / "cron/executions.db").exists()
    assert {path: value for path, value in tree(lived.home).items() if path in before} == before


def test_asking_for_what_is_not_there_names_what_is(lived: World) -> None:
    with pytest.raises(RestoreError, match="holds no 'memories/USR.md'") as caught:
        lived.extract(only=["memories/USR.md"])
    assert "memories/USER.md" in caught.value.hint
