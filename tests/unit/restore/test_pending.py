# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an earlier run left beside the home: gone on with, completed, cleaned up or refused, but
never taken for the restore that is asked for when it is another one."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import restore, restore_switch
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_session import EscrowedAccess
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_target import (
    Target,
    examine,
    pending_step,
    why_not,
)

from .support import AGENT, World, tree

ARCHIVE = "a" * 64
OTHER = "b" * 64


@pytest.fixture
def stored(borg_world: World) -> World:
    world = borg_world
    world.make_target()
    world.make_source()
    world.initialise()
    world.create()
    world.old_home()
    return world


@pytest.fixture
def staged(world: World) -> World:
    world.make_target()
    world.make_source()
    world.old_home()
    world.stage_by_hand()
    restore.stage(world.request())
    return world


def look(world: World, **changes: Any) -> Target:
    request = world.request(**changes)
    return examine(request.home, request.user, AGENT)


def bring(request: restore.Request, world: World, clear: bool = True) -> dict[str, Any]:
    begun = world.extract(request=request)
    shape = restore.stage(request)
    done = restore.switch(request)
    if clear:
        restore.clear(request)
    return {**begun, **shape, **done}


def rewrite(world: World, **changes: Any) -> None:
    path = world.staging / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def soul(world: World) -> str:
    return (world.home / "SOUL.md").read_text()


def test_a_copy_that_lacks_only_its_cleanup_is_not_taken_for_the_home(stored: World) -> None:
    copy = stored.request(home=str(stored.parent / "look"))
    bring(copy, stored, clear=False)
    target = look(stored)
    assert not target.goes_on(ARCHIVE)
    assert "not empty" in str(why_not(target, False, 0, ARCHIVE))
    result = bring(stored.request(replace=True), stored)
    assert result["ended"]["home"] == copy.home
    assert result["ended"]["archive"] == f"{AGENT}-2026-11-01T02:00:00Z"
    assert not result["stands"] and not result["resumed"]
    assert soul(stored) == "I am acme.\n"
    assert (Path(result["moved_aside"]) / "SOUL.md").read_text() == "old soul"
    assert not stored.staging.exists()


@pytest.mark.parametrize("step", ["extracting", "extracted", "staged", "switching"])
def test_an_unfinished_restore_of_another_home_is_refused_by_name(stored: World, step: str) -> None:
    copy = str(stored.parent / "look")
    stored.extract(request=stored.request(home=copy))
    rewrite(stored, step=step)
    before = tree(stored.parent)
    request = stored.request(replace=True)
    said = {str(why_not(look(stored), True, 0, ARCHIVE))}
    with pytest.raises(RestoreError) as caught:
        stored.extract(request=request)
    said.add(str(caught.value))
    assert len(said) == 1
    assert repr(copy) in said.pop()
    if step != "extracting":
        for work in (restore.switch, restore.stage) if step != "extracted" else (restore.stage,):
            with pytest.raises(RestoreError, match="look"):
                work(request)
    assert tree(stored.parent) == before
    with pytest.raises(RestoreError) as caught:
        restore.clear(request)
    assert f"is a restore of '{AGENT}-2026-11-01T02:00:00Z' to {copy!r}" in str(caught.value)
    assert f"-e target=HOST:{copy} -e abandon=true" in caught.value.payload()["msg"]
    assert tree(stored.parent) == before
    if step != "switching":
        restore.clear(stored.request(home=copy))
        bring(request, stored)
        assert soul(stored) == "I am acme.\n"


def test_the_same_restore_soon_after_its_switch_is_its_repetition(stored: World) -> None:
    first = bring(stored.request(replace=True), stored, clear=False)
    assert look(stored).goes_on() and look(stored).goes_on(ARCHIVE)
    assert why_not(look(stored), False, 1 << 60, ARCHIVE) is None
    second = bring(stored.request(), stored)
    assert not first["resumed"] and second["resumed"] and second["begun"]
    assert not second["changed"] and second["stands"] and not second["ended"]
    assert second["staged_home"] == str(stored.home)
    assert second["moved_aside"] == first["moved_aside"]
    assert not stored.staging.exists()


UNREADABLE = {
    "cut": '{"agent": "acme", "ho',
    "empty": "",
    "not a note": "[]",
    "without a step": json.dumps({"agent": AGENT, "home": "/h", "archive": "a", "archive_id": "b"}),
    "of a step that is none": json.dumps({"step": "dancing"}),
    "without a home": json.dumps({"agent": AGENT, "step": "switching"}),
    "of other kinds": json.dumps(
        {"agent": AGENT, "home": 5, "archive": "a", "archive_id": "b", "step": "staged"}
    ),
    "without its paths": json.dumps(
        {
            "agent": AGENT,
            "home": "/h",
            "archive": "",
            "archive_id": "",
            "step": "staged",
            "only": None,
        }
    ),
    "gone": None,
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=list(UNREADABLE))
def test_beside_a_note_that_cannot_be_read_nothing_is_begun_or_removed(
    staged: World, text: str | None
) -> None:
    """The home that was in use may lie in the staging folder: a run cut amid its switch."""
    note = staged.staging / "state.json"
    if text is None:
        note.unlink()
    else:
        note.write_text(text)
    before = tree(staged.parent)
    request = staged.request(replace=True)
    access = EscrowedAccess(AGENT, "/nowhere", ARCHIVE, "", "")
    for work in (
        lambda: look(staged),
        lambda: restore.extract(request, access, "acme-of-today", ARCHIVE),
        lambda: restore.stage(request),
        lambda: restore.switch(request),
        lambda: restore.undo(request),
        lambda: restore.clear(request),
        lambda: pending_step(request.home, request.user, AGENT),
    ):
        with pytest.raises(RestoreError) as refused:
            work()
        said = refused.value.payload()["msg"]
        assert f"{note} of an unfinished restore cannot be read" in said
        assert "Nothing was changed" in said
        assert f"move {staged.staging} away" in said
    assert tree(staged.parent) == before


def test_a_staging_folder_that_was_only_made_is_begun_in(stored: World) -> None:
    stored.staging.mkdir(mode=0o700)
    bring(stored.request(replace=True), stored)
    assert soul(stored) == "I am acme.\n"


def long_ago(world: World) -> None:
    before = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=20)
    rewrite(world, switched=before.isoformat())


def no_time(world: World) -> None:
    rewrite(world, switched="")


def in_the_future(world: World) -> None:
    rewrite(world, switched="2999-01-01T00:00:00+00:00")


def gone(world: World) -> None:
    world.home.rename(world.parent / "elsewhere")


def of_another_archive(world: World) -> None:
    rewrite(world, archive_id=OTHER)


def of_paths(world: World) -> None:
    rewrite(world, only=["SOUL.md"])


@pytest.mark.parametrize(
    "change", [long_ago, no_time, in_the_future, gone, of_another_archive, of_paths]
)
def test_what_is_not_a_repetition_is_restored_anew(stored: World, change: Any) -> None:
    bring(stored.request(replace=True), stored, clear=False)
    change(stored)
    if stored.home.exists():
        (stored.home / "SOUL.md").write_text("weeks of life")
    assert not look(stored).goes_on(ARCHIVE)
    if change is not gone:
        assert "not empty" in str(why_not(look(stored), False, 0, ARCHIVE))
    assert "bytes are needed" in str(why_not(look(stored), True, 1 << 60, ARCHIVE))
    time.sleep(1.1)  # what is moved aside is named by the second
    result = bring(stored.request(replace=True), stored)
    assert result["ended"]["home"] == str(stored.home)
    assert soul(stored) == "I am acme.\n"
    if change is not gone:
        assert (Path(result["moved_aside"]) / "SOUL.md").read_text() == "weeks of life"


def test_a_cut_switch_is_only_completed_with_its_own_archive(staged: World) -> None:
    rewrite(staged, step="switching")
    assert look(staged).goes_on()
    for archive, only in ((OTHER, ()), (ARCHIVE, ("SOUL.md",))):
        found = why_not(look(staged), True, 0, archive, only)
        assert "interrupted in its last step" in str(found)
        assert "-e archive=acme-2026-11-01T02:00:00Z -e replace=true" in str(found)


def test_what_lies_in_its_place_already_is_verified_there(staged: World) -> None:
    """Cut between the exchange and the note of it: the staging folder holds the former home."""
    request = staged.request(replace=True)
    assert restore.stage(request)["staged_home"] == f"{staged.staging}/home"

    def dying(*arguments: Any) -> None:
        restore_switch.renameat2(*arguments)
        raise KeyboardInterrupt

    with (
        restore_switch.opened(str(staged.parent)) as parent,
        restore_switch.opened(str(staged.staging)) as staging,
    ):
        state = restore_switch.read_state(staging)
        assert state is not None
        with pytest.raises(KeyboardInterrupt):
            restore_switch.Switch(parent, ".hermes", staging, state, rename=dying).run(True)
    assert (staged.staging / "home/SOUL.md").read_text() == "old soul"
    shape = restore.stage(request)
    assert shape["stands"] and shape["staged_home"] == str(staged.home)


@pytest.mark.parametrize(
    ("changes", "archive", "only", "enough"),
    [
        ({}, ARCHIVE, (), True),
        ({"step": "switching"}, ARCHIVE, (), True),
        ({"step": "extracting"}, ARCHIVE, (), False),
        ({"flawed": True}, ARCHIVE, (), False),
        ({}, OTHER, (), False),
        ({}, ARCHIVE, ("SOUL.md",), False),
        ({}, "", (), False),
    ],
)
def test_room_is_asked_only_for_what_is_not_there_yet(
    staged: World, changes: dict[str, Any], archive: str, only: Sequence[str], enough: bool
) -> None:
    (staged.staging / "tree/much").write_bytes(b"x" * (1 << 20))
    rewrite(staged, **changes)
    target = look(staged)
    assert target.bytes_staged > 1 << 20
    room = target.bytes_free + target.bytes_staged
    assert why_not(target, True, room, archive, only) is None
    found = why_not(target, True, room + 1, archive, only)
    assert (found is None) == enough
    if found:
        assert f"with the {target.bytes_staged} of the unfinished restore" in str(found)


def test_bytes_that_a_link_shares_are_counted_once(world: World) -> None:
    world.make_target()
    world.make_source()
    world.stage_by_hand()
    before = look(world).bytes_staged
    much = world.staging / "tree/much"
    much.write_bytes(b"x" * (1 << 20))
    os.link(much, world.staging / "tree/again")
    assert 1 << 20 <= look(world).bytes_staged - before < 3 << 19


def test_what_was_staged_for_a_folder_that_is_gone_can_be_thrown_away(staged: World) -> None:
    rewrite(staged, home="/no such folder/agent")
    assert restore.clear(staged.request())["changed"]
    assert not staged.staging.exists()


def test_the_way_to_throw_away_is_quoted_for_a_shell(staged: World) -> None:
    other = staged.parent / "two words"
    other.mkdir()
    rewrite(staged, home=f"{other}/agent")
    with pytest.raises(RestoreError) as caught:
        restore.clear(staged.request())
    assert f"-e 'target=HOST:{other}/agent' -e abandon=true" in caught.value.payload()["msg"]
    assert staged.staging.exists()


def test_nothing_is_cleared_before_the_lock_is_had(
    stored: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.extract()
    rewrite(stored, step="extracting")
    before = tree(stored.staging)

    def taken(*_unused: object, **_more: object) -> None:
        raise RestoreError("Another restore is running.")

    monkeypatch.setattr(restore, "session", taken)
    with pytest.raises(RestoreError, match="Another restore"):
        stored.extract()
    assert tree(stored.staging) == before
