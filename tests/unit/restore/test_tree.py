# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The extracted tree becomes a home; nothing in it is followed out of the staging folder."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import restore, restore_tree
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_target import owners

from .support import AGENT, IS_ROOT, World, agent_user, rows_of, tree


@pytest.fixture
def extracted(world: World) -> World:
    world.make_target()
    world.make_source()
    return world


def staged(world: World, change: Any = None) -> dict[str, Any]:
    path = world.source / f"run/lifeboat/{AGENT}/manifest.json"
    manifest = json.loads(path.read_text())
    if change:
        change(manifest)
    world.stage_by_hand(manifest)
    return restore.stage(world.request())


def test_everything_lies_where_the_manifest_says(extracted: World) -> None:
    result = staged(extracted)
    home = extracted.staging / "home"
    assert (home / "config.yaml").stat().st_mode & 0o7777 == 0o600
    assert (home / "profiles/work/config.yaml").exists()
    assert rows_of(home / "cron/executions.db") == 3
    assert rows_of(home / "state.db") == 5
    assert not (home / "state.db-wal").exists()
    assert result["applied"]["placed"] == 3
    assert result["applied"]["missing"]["count"] == 0
    assert result["to_be_supplied"] == [{"path": "config.yaml", "key": "model.api_key"}]


def test_what_the_manifest_does_not_list_is_left_out_and_named(extracted: World) -> None:
    planted = extracted.source / "home/hermes/.hermes/planted"
    planted.mkdir()
    (planted / "file").write_text("x")
    applied = staged(extracted)["applied"]
    assert applied["unlisted"] == {"count": 1, "first": ["planted"]}
    assert not (extracted.staging / "home/planted").exists()


def test_what_the_archive_lacks_is_named(extracted: World) -> None:
    (extracted.source / "home/hermes/.hermes/memories/USER.md").unlink()
    assert staged(extracted)["applied"]["missing"]["first"] == ["memories/USER.md"]


def test_a_copy_is_never_placed_through_a_link(extracted: World) -> None:
    """The archive holds a link where the manifest has a folder."""
    outside = extracted.root / "outside"
    outside.mkdir()
    (extracted.source / "home/hermes/.hermes/profiles").symlink_to(outside)
    with pytest.raises(RestoreError, match="leads through 'profiles'"):
        staged(extracted)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("place", ["run", "run/lifeboat", f"run/lifeboat/{AGENT}"])
def test_copies_are_never_taken_through_a_link(extracted: World, place: str) -> None:
    moved = extracted.root / "elsewhere"
    shutil.move(str(extracted.source / place), moved)
    (extracted.source / place).symlink_to(moved)
    extracted.stage_by_hand()
    with pytest.raises(RestoreError):
        restore.stage(extracted.request())


def records(world: World) -> Path:
    folder = world.root / "records"
    folder.mkdir()
    (folder / "environment.json").write_text("of an earlier restore")
    return folder


def test_what_later_checks_need_outlives_the_staging_folder(extracted: World) -> None:
    kept, there = records(extracted), extracted.source / f"run/lifeboat/{AGENT}"
    (there / "environment.json").write_text('{"names": []}')
    extracted.stage_by_hand()
    restore.stage(extracted.request(records=str(kept)))
    assert (kept / "manifest.json").read_bytes() == (there / "manifest.json").read_bytes()
    assert (kept / "environment.json").read_text() == '{"names": []}'
    assert {path.stat().st_mode & 0o7777 for path in kept.iterdir()} == {0o600}
    assert len(list(kept.iterdir())) == 2


def test_names_of_an_earlier_archive_are_not_kept(extracted: World) -> None:
    kept = records(extracted)
    extracted.stage_by_hand()
    restore.stage(extracted.request(records=str(kept)))
    assert [path.name for path in kept.iterdir()] == ["manifest.json"]


def test_a_restore_of_single_paths_leaves_the_records_alone(extracted: World) -> None:
    kept = records(extracted)
    extracted.stage_by_hand(only=["SOUL.md"])
    restore.stage(extracted.request(records=str(kept)))
    assert [path.name for path in kept.iterdir()] == ["environment.json"]


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_names_are_never_kept_from_elsewhere(extracted: World, kind: str) -> None:
    path = extracted.source / f"run/lifeboat/{AGENT}/environment.json"
    if kind == "link":
        path.symlink_to("/etc/shadow")
    kept = records(extracted)
    extracted.stage_by_hand()
    if kind == "pipe":
        os.mkfifo(extracted.staging / f"tree/run/lifeboat/{AGENT}/environment.json")
    with pytest.raises(RestoreError, match="not a plain file"):
        restore.stage(extracted.request(records=str(kept)))
    assert (kept / "environment.json").read_text() == "of an earlier restore"


def test_a_linked_manifest_is_not_read(extracted: World) -> None:
    path = extracted.source / f"run/lifeboat/{AGENT}/manifest.json"
    path.rename(extracted.root / "manifest.json")
    path.symlink_to(extracted.root / "manifest.json")
    extracted.stage_by_hand()
    with pytest.raises(RestoreError, match="not a plain file"):
        restore.stage(extracted.request())


def test_a_copy_that_is_no_plain_file_is_refused(extracted: World) -> None:
    copy = extracted.source / f"run/lifeboat/{AGENT}/scrubbed/config.yaml"
    copy.unlink()
    copy.symlink_to("/etc/passwd")
    with pytest.raises(RestoreError, match="not a plain file"):
        staged(extracted)


def test_a_link_out_of_the_home_comes_back_as_a_link(extracted: World) -> None:
    before = os.stat("/etc/hostname")
    staged(extracted)
    link = extracted.staging / "home/scripts/away"
    assert os.readlink(link) == "/etc/hostname"
    after = os.stat("/etc/hostname")
    assert (after.st_uid, after.st_mtime_ns) == (before.st_uid, before.st_mtime_ns)


@pytest.mark.skipif(not IS_ROOT, reason="owners are only given as root")
def test_owners_follow_the_manifest(extracted: World) -> None:
    account = pwd.getpwnam(agent_user())

    def change(manifest: dict[str, Any]) -> None:
        for entry in manifest["entries"]:
            if entry.get("path") == "scripts/run.sh":
                entry.update(uid=0, user="root", gid=0, group="root", mode="4755")
            if entry.get("path") == "memories/USER.md":
                entry.update(uid=77, user="somebody", gid=77, group="somebody")

    applied = staged(extracted, change)["applied"]
    home = extracted.staging / "home"
    run = (home / "scripts/run.sh").stat()
    assert run.st_uid == 0
    assert run.st_mode & 0o7777 == 0o755, "a set-user-id bit never comes out of an archive"
    assert applied["reduced"]["first"] == ["scripts/run.sh"]
    assert (home / "memories/USER.md").stat().st_uid == account.pw_uid
    for path in [home, *home.rglob("*")]:
        assert path.lstat().st_uid in (0, account.pw_uid)


def test_a_group_is_kept_only_where_the_user_is_in_it(extracted: World) -> None:
    who = owners(agent_user(), 4242, 4242)
    assert who.allowed_groups
    assert who.group_id("no-such-group") is None


def test_an_unreadable_log_is_named_and_does_not_end_the_restore(extracted: World) -> None:
    (extracted.source / "home/hermes/.hermes/state.db").write_bytes(b"garbage" * 100)
    result = staged(extracted)
    assert result["folded"][0]["path"] == "state.db"
    assert result["folded"][0]["error"]


def test_a_home_at_another_path_gets_the_same_content(extracted: World) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["agent"]["home"] = "/srv/agent/link"
        manifest["agent"]["home_real"] = "/home/hermes/.hermes"

    assert staged(extracted, change)["applied"]["missing"]["count"] == 0


def test_a_staging_folder_of_somebody_else_is_refused(extracted: World) -> None:
    if not IS_ROOT:
        pytest.skip("needs another owner")
    extracted.stage_by_hand()
    os.chown(extracted.staging, pwd.getpwnam(agent_user()).pw_uid, -1)
    with pytest.raises(RestoreError, match="not a staging folder that root made"):
        restore.stage(extracted.request())
    extracted.staging.rename(extracted.root / "real")
    extracted.staging.symlink_to(extracted.root / "real")
    with pytest.raises(RestoreError, match="not a staging folder that root made"):
        restore.stage(extracted.request())


def test_clearing_never_removes_a_home_that_was_in_use(extracted: World) -> None:
    extracted.old_home()
    extracted.stage_by_hand()
    restore.stage(extracted.request())
    state = json.loads((extracted.staging / "state.json").read_text())
    # As if cut right after the exchange: the old home lies in the staging folder.
    held, new = extracted.home, extracted.staging / "home"
    state.update(
        step="switching",
        new_inode=new.stat().st_ino,
        old_inode=held.stat().st_ino,
        moved_aside=".hermes.before-20261101T020000Z",
    )
    new.rename(extracted.parent / "swap")
    held.rename(new)
    (extracted.parent / "swap").rename(held)
    (extracted.staging / "state.json").write_text(json.dumps(state))
    before = tree(new)
    with pytest.raises(RestoreError, match="holds a home that was in use"):
        restore.clear(extracted.request())
    restore.switch(extracted.request())
    restore.clear(extracted.request())
    assert tree(Path(extracted.parent / ".hermes.before-20261101T020000Z")) == before


def test_a_file_written_to_between_digest_and_archiving_is_named(extracted: World) -> None:
    """The archive holds another time than the manifest; with the same time the digest counts."""
    soul, memory = (
        extracted.source / "home/hermes/.hermes" / path for path in ("SOUL.md", "memories/USER.md")
    )
    os.utime(soul, ns=(2_000_000_001, 2_000_000_001))

    def change(manifest: dict[str, Any]) -> None:
        for entry in manifest["entries"]:
            if entry.get("path") in ("SOUL.md", "memories/USER.md"):
                entry["sha256"] = "0" * 64
                entry["mtime_ns"] = memory.stat().st_mtime_ns

    result = staged(extracted, change)
    assert result["rewritten"] == ["SOUL.md"]
    assert (extracted.staging / "home/SOUL.md").stat().st_mtime_ns == 2_000_000_001


def test_what_vanishes_while_a_home_is_measured_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stays", "file-goes", "folder-goes/inner"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("12345")
    real = os.scandir

    class Scanned:
        """Listed first; then what goes is gone, as when an agent removes its files meanwhile."""

        def __init__(self, root: int) -> None:
            with real(root) as found:
                self.items = list(found)
            (tmp_path / "file-goes").unlink(missing_ok=True)
            (tmp_path / "folder-goes/inner").unlink(missing_ok=True)
            if (tmp_path / "folder-goes").exists():
                (tmp_path / "folder-goes").rmdir()

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.items

        def __exit__(self, *_unused: object) -> None:
            return None

    monkeypatch.setattr(os, "scandir", Scanned)
    with restore_tree.opened(str(tmp_path)) as root:
        assert restore_tree.tree_size(root) == (1, 5)
