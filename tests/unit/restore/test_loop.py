# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real archive comes back: extracted by borg, staged, switched, undone."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import restore
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError

from .support import IS_ROOT, MARKER, World, agent_user, rows_of, tree


def restored(world: World) -> None:
    home = world.home
    assert (home / "SOUL.md").read_text() == "I am acme.\n"
    assert (home / "memories/USER.md").stat().st_mode & 0o7777 == 0o600
    assert (home / "scripts/run.sh").stat().st_mode & 0o7777 == 0o755
    assert os.readlink(home / "scripts/link") == "../SOUL.md"
    assert (home / "scripts/hard").stat().st_ino == (home / "SOUL.md").stat().st_ino
    assert (home / "scripts/pipe").is_fifo()
    assert Path(os.fsdecode(os.fsencode(home) + b"/memories/odd\nname-\xff.md")).exists()
    assert MARKER in (home / "config.yaml").read_text()
    assert MARKER in (home / "profiles/work/config.yaml").read_text()
    assert not (home / "state.db-wal").exists()
    assert rows_of(home / "state.db") == 5
    assert rows_of(home / "cron/executions.db") == 3
    for path in [home, *home.rglob("*")]:
        if "executions.db" in path.name or path.name in ("cron",):
            continue
        if IS_ROOT:
            assert path.lstat().st_uid == pwd.getpwnam(agent_user()).pw_uid, path
    for path in ("SOUL.md", "memories", "config.yaml", "scripts"):
        assert (home / path).stat().st_mtime_ns == 1_700_000_000_000_000_000, path


def test_an_archive_comes_back_into_an_empty_place(borg_world: World) -> None:
    world = borg_world
    world.make_target()
    world.make_source()
    world.initialise()
    world.create()
    assert world.extract()["changed"]
    assert not world.extract()["changed"]
    staged = restore.stage(world.request())
    assert staged["applied"]["missing"]["count"] == 0, staged["applied"]
    assert staged["applied"]["unlisted"]["count"] == 0, staged["applied"]
    assert [item["error"] for item in staged["folded"]] == [""]
    assert not restore.stage(world.request())["changed"]
    assert not world.home.exists()
    assert restore.switch(world.request())["moved_aside"] == ""
    restored(world)
    assert restore.clear(world.request())
    assert not world.staging.exists()
    assert list((world.root / "run").glob("*/*")) == []


def test_a_home_that_is_there_is_moved_aside_whole_and_comes_back(borg_world: World) -> None:
    world = borg_world
    world.make_target()
    world.make_source()
    world.initialise()
    world.create()
    world.old_home()
    before = tree(world.home)
    world.extract()
    restore.stage(world.request())
    with pytest.raises(RestoreError, match="not empty"):
        restore.switch(world.request())
    assert tree(world.home) == before
    result = restore.switch(world.request(replace=True))
    assert result["switch_method"] in ("exchange", "two renames")
    assert tree(Path(result["moved_aside"])) == before
    restored(world)
    restore.clear(world.request())
    undone = restore.undo(world.request())
    assert tree(world.home) == before
    assert (Path(undone["moved_aside"]) / "SOUL.md").read_text() == "I am acme.\n"
    assert not world.staging.exists()
    with pytest.raises(RestoreError, match="nothing to go back to"):
        restore.undo(world.request())


def test_the_private_folder_is_gone_when_borg_fails(borg_world: World) -> None:
    world = borg_world
    world.make_target()
    world.make_source()
    world.initialise()
    world.create()
    with pytest.raises(RestoreError, match="passphrase is wrong") as caught:
        world.extract(access=world.access(passphrase="wrong"))
    assert caught.value.failure["rc"] == 52
    assert list((world.root / "run").glob("*/*")) == []
    with pytest.raises(RestoreError, match="no archive of that name"):
        world.extract(archive="acme-2020-01-01T00:00:00Z", archive_id="b" * 64)
    world.extract()
    restore.stage(world.request())
    restore.switch(world.request())
    restored(world)
