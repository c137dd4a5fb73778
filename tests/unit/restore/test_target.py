# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the way is said before anything changes; a look changes nothing."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.restore_compare import compare
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import parse
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_switch import State
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_target import (
    Target,
    examine,
    why_busy,
    why_not,
)
from ansible_collections.lifeboat.agents.plugins.modules import (
    agent_restore,
    agent_restore_info,
    borg_archive_info,
)

from .support import AGENT, World, agent_user, tree


def look(world: World) -> Target:
    return examine(str(world.home), agent_user(), AGENT)


def reason(world: World, **options: Any) -> str:
    found = why_not(dataclasses.replace(look(world), **options.pop("facts", {})), **options)
    return str(found) if found else ""


def test_an_empty_place_is_free(world: World) -> None:
    world.make_target()
    assert reason(world, replace=False) == ""
    world.home.mkdir()
    assert reason(world, replace=False) == ""


def test_a_home_that_is_not_empty_needs_replace(world: World) -> None:
    world.make_target()
    world.old_home()
    assert "is not empty: 2 entries" in reason(world, replace=False)
    assert "-e replace=true" in reason(world, replace=False)
    assert reason(world, replace=True) == ""


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"user_exists": False}, "user .* does not exist"),
        ({"parent_exists": False}, "folder that .* lies in does not exist"),
        ({"is_mount": True}, "is a mount point"),
        ({"pending": State(AGENT, "", "", "", "staged", kind="undo")}, "An undo was interrupted"),
    ],
)
def test_what_cannot_be_restored_to(world: World, facts: dict[str, Any], said: str) -> None:
    import re

    world.make_target()
    assert re.search(said, reason(world, replace=True, facts=facts))


def test_room_is_counted_first(world: World) -> None:
    world.make_target()
    assert "bytes are needed" in reason(world, replace=True, needed=1 << 60)


def test_a_restore_cut_in_its_last_step_may_always_go_on(world: World) -> None:
    world.make_target()
    world.old_home()
    pending = State(AGENT, str(world.home), "a", "b", "switching")
    assert reason(world, replace=False, facts={"pending": pending}) == ""


def test_who_uses_the_home_is_named(world: World) -> None:
    world.make_target()
    world.old_home()
    with subprocess.Popen(["sleep", "60"], cwd=world.home) as process:
        try:
            busy = why_busy(look(world))
        finally:
            process.kill()
    assert busy is not None
    assert str(process.pid) in str(busy)
    assert why_busy(look(world)) is None


def test_a_look_changes_nothing(world: World) -> None:
    world.make_target()
    world.old_home()
    before = tree(world.parent)
    parameters = {"home": str(world.home), "user": agent_user(), "agent": AGENT}
    answer = agent_restore_info.query(
        {**parameters, "replace": 0, "needed": 0, "archive_id": "", "only": []}
    )
    assert "not empty" in answer["reason"]
    assert answer["target"]["entries"] == 2
    assert json.dumps(answer)
    assert tree(world.parent) == before


def test_check_mode_of_the_steps_foresees_and_does_nothing(world: World) -> None:
    world.make_target()
    parameters = {"home": str(world.home), "user": agent_user(), "agent": AGENT, "only": []}
    parameters["archive_id"] = "a" * 64

    def foreseen(state: str) -> bool:
        return bool(agent_restore.foresee({**parameters, "state": state})["changed"])

    assert [foreseen(state) for state in ("extracted", "absent")] == [True, False]
    world.make_source()
    world.stage_by_hand()
    before = tree(world.parent)
    assert [foreseen(state) for state in ("extracted", "staged", "absent")] == [False, True, True]
    assert tree(world.parent) == before


def test_a_dry_run_tells_every_file_with_its_size(borg_world: World) -> None:
    world = borg_world
    world.make_target()
    world.make_source()
    path = world.source / f"run/lifeboat/{AGENT}/manifest.json"
    manifest = parse(path.read_bytes(), AGENT)
    world.old_home()
    before = tree(world.home)
    report = compare(str(world.home), manifest).report()
    assert [item["path"] for item in report["changed"]["paths"]] == ["SOUL.md"]
    assert report["changed"]["paths"][0]["bytes_now"] == len("old soul")
    assert [item["path"] for item in report["left_out"]["paths"]] == [".env"]
    assert "memories/USER.md" in [item["path"] for item in report["added"]["paths"]]
    assert tree(world.home) == before
    source = compare(str(world.source / "home/hermes/.hermes"), manifest, whole=False).report()
    assert source["left_out"]["count"] == 0
    assert source["unchanged"]["count"] >= 5


def test_a_dry_run_does_not_take_a_database_with_a_log_for_unchanged(world: World) -> None:
    """An agent at work writes into the log; the file that was archived still looks the same."""
    world.make_target()
    world.old_home()
    database = world.home / "state.db"
    database.write_bytes(b"d" * 8192)
    found = database.stat()
    manifest = world.make_source()
    entry = {"type": "file", "mode": 0o600, "class": "keep", "stored": "home"}
    entry = {**entry, "size": found.st_size, "mtime_ns": found.st_mtime_ns, "path": "state.db"}
    manifest["entries"] = [{"path": "", "type": "directory", "stored": "home"}, entry]
    manifest["databases"] = [{"path": "state.db"}]
    archived = parse(json.dumps(manifest).encode(), AGENT)

    def told() -> dict[str, Any]:
        return compare(str(world.home), archived).report()

    assert told()["unchanged"] == {"count": 1, "bytes": 8192}
    (world.home / "state.db-wal").write_bytes(b"")
    assert told()["unchanged"]["count"] == 1
    (world.home / "state.db-wal").write_bytes(b"w" * 500)
    (world.home / "state.db-shm").write_bytes(b"s" * 100)
    changed = {"path": "state.db", "bytes": 8192, "bytes_now": 8692}
    assert told()["changed"]["paths"] == [changed]
    assert [item["path"] for item in told()["left_out"]["paths"]] == [".env", "SOUL.md"]


def test_the_query_lists_and_chooses(borg_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.lifeboat.agents.plugins.module_utils import restore_session

    from .support import extracting_user

    world = borg_world
    world.make_target()
    world.make_source()
    world.initialise()
    world.create()
    (world.root / "run").mkdir()
    (world.root / "run").chmod(0o711)
    real = restore_session.session

    def here(access: Any) -> Any:
        return real(access, run_directory=str(world.root / "run"), user=extracting_user())

    monkeypatch.setattr(borg_archive_info, "session", here)
    access = world.access()
    answer = borg_archive_info.query(
        {
            "agent": AGENT,
            "repository": {
                "url": access.url,
                "repository_id": access.repository_id,
                "passphrase": access.passphrase,
                "key": access.key,
                "host_keys": [],
            },
            "identity": None,
            "borg": world.borg,
            "lock_wait": 5,
            "bypass_lock": False,
            "archive": "latest",
            "at": "",
            "manifest": True,
            "only": ["SOUL.md"],
            "compare_home": str(world.home),
        }
    )
    assert answer["selected"]["name"] == f"{AGENT}-2026-11-01T02:00:00Z"
    assert answer["manifest"]["agent"]["version"] == "0.19.0"
    assert answer["needed"] == len("I am acme.\n")
    assert answer["changes"]["added"]["count"] == 1
