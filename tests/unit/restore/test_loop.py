# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real archive comes back: extracted by borg, staged, switched, undone."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pwd
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import restore
from ansible_collections.lifeboat.agents.plugins.module_utils.process import (
    Completed,
    Subprocesses,
)
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
    assert restore.clear(world.request())["changed"]
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
    with pytest.raises(RestoreError, match="undone already"):
        restore.undo(world.request())
    assert tree(world.home) == before


def test_undo_asked_twice_does_not_go_back_behind_an_earlier_restore(world: World) -> None:
    world.make_target()
    world.old_home()
    oldest = world.home.with_name(f"{world.home.name}.before-20260101T000000Z")
    newer = world.home.with_name(f"{world.home.name}.before-20260301T000000Z")
    for place, words in ((oldest, "three months old"), (newer, "yesterday")):
        place.mkdir()
        (place / "SOUL.md").write_text(words)
    undone = restore.undo(world.request())
    assert (world.home / "SOUL.md").read_text() == "yesterday"
    for asked in (restore.undo, restore.foresee_undo):
        with pytest.raises(RestoreError, match=f"undone already.*{oldest.name}"):
            asked(world.request())
    assert (world.home / "SOUL.md").read_text() == "yesterday"
    shutil.rmtree(undone["moved_aside"])  # its name would be that of the next, in the same second
    restore.undo(world.request(moved_aside=oldest.name))
    assert (world.home / "SOUL.md").read_text() == "three months old"


def test_an_undo_without_a_home_to_put_back_is_foreseen(world: World) -> None:
    world.make_target()
    world.old_home()
    with pytest.raises(RestoreError, match="nothing to go back to"):
        restore.foresee_undo(world.request())


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


class Spoiling(Subprocesses):
    """borg leaves one file out, and warns of it as it does: with exit code 104."""

    def __init__(self, world: World, problem: str) -> None:
        self.left_out = f"{world.staging}/tree/home/hermes/.hermes/memories/USER.md"
        warning = {"type": "log_message", "levelname": "WARNING", "name": "borg"}
        self.warning = {**warning, "msgid": "BackupOSError", "message": f"USER.md: open: {problem}"}

    def run(self, argv: Sequence[str], **options: Any) -> Completed:
        done = super().run(argv, **options)
        if "extract" not in argv:
            return done
        os.unlink(self.left_out)
        said = done.stderr + json.dumps(self.warning).encode() + b"\n"
        return dataclasses.replace(done, returncode=104, stderr=said)


@pytest.mark.parametrize(
    "problem", ["[Errno 28] No space left on device", "[Errno 5] Input/output error"]
)
def test_what_was_not_extracted_whole_is_extracted_again(borg_world: World, problem: str) -> None:
    """borg only warns when there was no room for a file; a second run must not build on that."""
    world = borg_world
    world.make_target()
    world.make_source()
    world.initialise()
    world.create()
    spoiling = Spoiling(world, problem)
    if "space" in problem:
        with pytest.raises(RestoreError, match="disk is full") as caught:
            world.extract(runner=spoiling)
        assert "Make room" in str(caught.value)
    else:
        assert world.extract(runner=spoiling)["borg_warnings"]
        assert restore.stage(world.request())["applied"]["missing"]["first"]
    assert world.extract()["changed"]
    assert restore.stage(world.request())["applied"]["missing"]["count"] == 0
    restore.switch(world.request())
    restored(world)


def test_what_the_system_refuses_is_said_in_words() -> None:
    with (
        pytest.raises(RestoreError, match="No space left on device: /x") as caught,
        restore.explained(),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x")
    assert "Make room" in str(caught.value)
