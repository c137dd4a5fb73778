# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A home behind a symbolic link: followed where only root could have placed the link, or where it
leads into the agent's own folder; never to where the agent could not write itself."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import restore, restore_switch
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_place import looked_at
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_session import EscrowedAccess
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_target import (
    examine,
    why_not,
)

from .support import AGENT, IS_ROOT, World, agent_user, extracting_user, tree

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="only root can be led into root's folders")


@pytest.fixture
def place(world: World) -> World:
    world.make_target()
    world.make_source()
    return world


def give(path: Path, user: str) -> Path:
    account = pwd.getpwnam(user)
    os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    return path


def folder(path: Path, user: str = "root") -> Path:
    path.mkdir(parents=True)
    return give(path, user)


def agents_link(world: World, target: Path) -> None:
    world.home.symlink_to(target)
    give(world.home, agent_user())


def refused(world: World, replace: bool = True) -> str:
    """What every step says to this home, and that none of them changed anything."""
    before = tree(world.root)
    request = world.request(replace=replace)
    access = EscrowedAccess(AGENT, "ssh://nowhere", "", "", "")
    said = set()
    for step in (
        lambda: examine(request.home, request.user, AGENT),
        lambda: restore.extract(request, access, "acme-2026-11-01T02:00:00Z", "a" * 64),
        lambda: restore.stage(request),
        lambda: restore.switch(request),
        lambda: restore.undo(request),
        lambda: restore.clear(request),
    ):
        with pytest.raises(RestoreError) as caught:
            step()
        said.add(str(caught.value))
    assert tree(world.root) == before
    assert len(said) == 1
    return said.pop()


def restored(world: World, replace: bool = False) -> Path:
    request = world.request(replace=replace)
    target = examine(request.home, request.user, AGENT)
    assert why_not(target, replace) is None
    real = Path(target.home_real)
    world.stage_by_hand(beside=real)
    restore.stage(request)
    restore.switch(request)
    restore.clear(request)
    return real


@pytest.mark.parametrize("stands", [False, True])
def test_the_agents_link_into_a_folder_of_roots_is_refused(place: World, stands: bool) -> None:
    roots = folder(place.root / "roots")
    drop = folder(roots / "drop.d") if stands else roots / "drop.d"
    agents_link(place, drop)
    said = refused(place)
    for word in (str(place.home), str(drop), "'root'", "inventory", "remove the link"):
        assert word in said


def test_the_agents_link_on_the_way_is_refused_as_well(place: World) -> None:
    roots = folder(place.root / "roots")
    way = place.parent / "way"
    way.symlink_to(roots)
    with pytest.raises(RestoreError, match="leads through the link .*way"):
        examine(str(way / ".hermes"), agent_user(), AGENT)


def test_a_link_of_roots_in_the_agents_folder_is_not_trusted(place: World) -> None:
    """The agent could have moved it there, or renamed what lies around it."""
    place.home.symlink_to(folder(place.root / "roots") / "hermes")
    assert "remove the link" in refused(place)


def test_a_link_of_the_agent_to_anothers_home_is_refused(place: World) -> None:
    agents_link(place, folder(place.root / "other/home", extracting_user()))
    assert "remove the link" in refused(place)


def test_a_link_that_only_root_could_place_may_lead_to_a_big_disk(place: World) -> None:
    disk = folder(place.root / "disk/hermes", agent_user())
    shutil.rmtree(place.parent)
    place.parent.symlink_to(disk)
    real = restored(place)
    assert real == disk / ".hermes"
    assert (real / "SOUL.md").read_text() == "I am acme.\n"
    (real / "SOUL.md").write_text("of today")
    assert restored(place, replace=True) == real
    found = why_not(examine(str(place.home), agent_user(), AGENT), False)
    assert f"{str(place.home)!r} (really {str(real)!r})" in str(found)
    restore.undo(place.request())
    assert (real / "SOUL.md").read_text() == "of today"


def test_a_link_of_roots_to_anothers_home_is_refused(place: World) -> None:
    other = folder(place.root / "other", extracting_user())
    shutil.rmtree(place.parent)
    place.parent.symlink_to(other)
    assert f"belongs to {extracting_user()!r}" in refused(place)


@pytest.mark.parametrize("path", ["/etc", "/etc/systemd/system/x.service.d", "/usr/bin", "/srv"])
def test_a_link_of_roots_to_a_folder_of_the_system_is_refused(place: World, path: str) -> None:
    shutil.rmtree(place.parent)
    place.parent.symlink_to(Path(path).parent)
    with pytest.raises(RestoreError, match=f"really '{path}'.*folder of the system"):
        examine(str(place.parent / Path(path).name), agent_user(), AGENT)


def test_the_agents_link_into_its_own_folder_is_followed(place: World) -> None:
    own = folder(place.parent / "data", agent_user())
    agents_link(place, own / "hermes")
    assert restored(place) == own / "hermes"
    assert place.home.is_symlink()
    assert (place.home / "SOUL.md").read_text() == "I am acme.\n"
    give(own / "hermes", "root")
    assert "remove the link" in refused(place)


def test_a_link_that_is_exchanged_after_the_look_leads_nowhere(place: World) -> None:
    own = folder(place.parent / "data", agent_user())
    roots = folder(place.root / "roots")
    agents_link(place, own / "hermes")
    examine(str(place.home), agent_user(), AGENT)
    place.stage_by_hand(beside=own / "hermes")
    restore.stage(place.request())
    staged = tree(place.root)
    place.home.unlink()
    agents_link(place, roots / "hermes")
    with pytest.raises(RestoreError, match="remove the link"):
        restore.switch(place.request())
    assert list(roots.iterdir()) == []
    place.home.unlink()
    agents_link(place, own / "other")
    with pytest.raises(RestoreError, match=f"for '{own}/hermes'"):
        restore.switch(place.request())
    place.home.unlink()
    agents_link(place, own / "hermes")
    assert tree(place.root) == staged
    assert restore.switch(place.request())["changed"]


def test_a_link_that_is_exchanged_while_root_works_leads_nowhere(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was judged is what is worked on: the same open folder."""
    own = folder(place.parent / "data", agent_user())
    roots = folder(place.root / "roots")
    agents_link(place, own / "hermes")
    place.stage_by_hand(beside=own / "hermes")
    restore.stage(place.request())
    real = restore_switch.open_staging

    def exchanging(*arguments: object, **options: object) -> int:
        place.home.unlink()
        agents_link(place, roots / "hermes")
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(restore, "open_staging", exchanging)
    monkeypatch.setattr(restore, "why_busy", lambda _target: None)
    monkeypatch.setattr(restore, "examine", lambda *_arguments: None)
    assert restore.switch(place.request())["moved_aside"] == ""
    assert (own / "hermes/SOUL.md").exists()
    assert list(roots.iterdir()) == []


def test_a_staging_folder_that_is_exchanged_while_it_is_opened_is_refused(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.stage_by_hand()
    real = os.open

    def exchanging(name: str, *arguments: int, **options: int) -> int:
        if name == place.staging.name:
            place.staging.rename(place.parent / "put-aside")
            folder(place.staging, agent_user())
            monkeypatch.undo()
        return real(name, *arguments, **options)

    monkeypatch.setattr(os, "open", exchanging)
    with pytest.raises(RestoreError, match="not a staging folder that root made"):
        restore.stage(place.request())


def test_links_are_followed_as_the_system_does(place: World) -> None:
    (place.parent / "a").mkdir()
    (place.parent / "a/up").symlink_to("../b/../c/./")
    (place.parent / "loop").symlink_to("loop")
    (place.parent / "file").write_text("")
    (place.parent / "b").mkdir()
    (place.parent / "c").mkdir()
    for way in ("a/up/home", "a/up", "a/../c//home/", "file/home", "b/c/d", "file"):
        with looked_at(f"{place.parent}/{way}") as found:
            assert found.real == os.path.realpath(f"{place.parent}/{way}")
            assert found.parent_exists == Path(found.parent).is_dir()
    with pytest.raises(RestoreError, match="more than 40 links"), looked_at(f"{place.parent}/loop"):
        pass
    with pytest.raises(RestoreError, match="cannot be a home"), looked_at("/"):
        pass
