# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single paths cut at every step: completed or given up, no byte that was in the home is lost."""

from __future__ import annotations

import errno
import hashlib
import json
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import (
    restore,
    restore_partial,
    restore_switch,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import (
    RestoreError,
    RestoreManifest,
    outermost,
    parse,
)

from .support import AGENT, World, agent_user, copy_entry, make_database, rows_of, tree
from .test_interrupted import run_until_killed

CASES = {
    "folder with a database that has a log": ["cron"],
    "folder": ["memories"],
    "database that has a log": ["cron/executions.db"],
    "file": ["SOUL.md"],
    "several, some of them new": ["SOUL.md", "cron", "memories/USER.md", "scripts/run.sh"],
}


def two_renames(source: int, name: str, target: int, other: str, flags: int) -> None:
    """As on ZFS before 2.2."""
    if flags == restore_switch.RENAME_EXCHANGE:
        raise OSError(errno.EINVAL, "no exchange here")
    real_rename(source, name, target, other, flags)


real_rename = restore_switch.renameat2


def make_archive(world: World) -> dict[str, Any]:
    manifest = world.make_source()
    (world.source / "home/hermes/.hermes/cron").mkdir()
    folder = next(entry for entry in manifest["entries"] if entry.get("path") == "memories")
    manifest["entries"].append({**folder, "path": "cron"})
    (world.source / f"run/lifeboat/{AGENT}/manifest.json").write_text(json.dumps(manifest))
    return manifest


def make_home(world: World) -> None:
    world.old_home()
    (world.home / "cron").mkdir()
    (world.home / "cron/jobs.json").write_text("the jobs of today")
    make_database(world.home / "cron/executions.db", rows=7, leave_wal=True)
    (world.home / "memories").mkdir()
    (world.home / "memories/USER.md").write_text("likes coffee")
    (world.home / "memories/NEW.md").write_text("made since")


class Pattern:
    """One staged restore, laid out afresh for each cut."""

    def __init__(self, world: World, only: list[str]) -> None:
        self.root = world.root
        self.only = only
        self.pattern = World(world.root / "pattern")
        self.pattern.root.mkdir()
        self.pattern.make_target()
        make_archive(self.pattern)
        make_home(self.pattern)
        self.stage(self.pattern)

    def stage(self, world: World) -> None:
        if not world.source.exists():
            source = self.pattern.source
            shutil.copytree(source, world.source, symlinks=True, copy_function=copy_entry)
        world.stage_by_hand(only=self.only)
        restore.stage(world.request())

    def lay_out(self, number: int) -> World:
        world = World(self.root / str(number))
        shutil.copytree(self.pattern.parent, world.parent, symlinks=True, copy_function=copy_entry)
        world.staging.chmod(0o711)
        state = json.loads((world.staging / "state.json").read_text())
        (world.staging / "state.json").write_text(json.dumps({**state, "home": str(world.home)}))
        return world


CUTS = [(only, real_rename) for only in CASES.values()]
CUTS.append((CASES["several, some of them new"], two_renames))
Cut = tuple[Pattern, restore_switch.RenameAt]


@pytest.fixture(params=CUTS, ids=[*CASES, "several without an exchange"])
def cut(world: World, request: pytest.FixtureRequest) -> Cut:
    return Pattern(world, request.param[0]), request.param[1]


def switching(world: World) -> Callable[[], object]:
    return lambda: restore.switch(world.request())


def complete(world: World) -> None:
    restore.switch(world.request())
    restore.clear(world.request())


def beside(world: World, word: str) -> list[Path]:
    return sorted(world.parent.glob(f".hermes.{word}-*"))


def step_of(world: World) -> str:
    return str(json.loads((world.staging / "state.json").read_text())["step"])


def files(root: Path) -> dict[str, tuple[Any, ...]]:
    """Without folders: a path that was new may leave the folder that was made for it."""
    return {name: value for name, value in tree(root).items() if value[2] is not None}


def digests(root: Path) -> set[str]:
    return {
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_cut_anywhere_it_is_completed_and_undone(cut: Cut) -> None:
    pattern, rename = cut
    expected: dict[str, Any] = {}
    killed, number = True, 0
    while killed:
        world = pattern.lay_out(number)
        before, bytes_before = files(world.home), digests(world.home)
        killed = run_until_killed(switching(world), number, rename)
        assert bytes_before <= digests(world.parent), number
        complete(world)
        assert not world.staging.exists()
        expected = expected or tree(world.home)
        assert tree(world.home) == expected, number
        assert bytes_before <= digests(world.home) | digests(beside(world, "before")[0]), number
        restore.undo(world.request())
        assert files(world.home) == before, number
        shutil.rmtree(world.root)
        number += 1
    assert number > 10


def test_cut_anywhere_and_given_up_the_home_is_what_it_was(cut: Cut) -> None:
    pattern, rename = cut
    kept_aside = 0
    number = 0
    while True:
        world = pattern.lay_out(number)
        before = files(world.home)
        run_until_killed(switching(world), number, rename)
        if step_of(world) == "switched":  # there is nothing left to give up
            break
        told = restore.clear(world.request())
        assert told["changed"]
        assert files(world.home) == before, number
        assert not world.staging.exists()
        assert beside(world, "before") == [], number
        kept_aside += len(beside(world, "abandoned"))
        assert [str(path) for path in beside(world, "abandoned")] == [
            path for path in [told.get("moved_aside")] if path
        ]
        pattern.stage(world)
        complete(world)
        restore.undo(world.request())
        assert files(world.home) == before, number
        shutil.rmtree(world.root)
        number += 1
    assert kept_aside > 0, "no cut came after an exchange; the counting must be broken"


@pytest.mark.parametrize(
    ("share", "rename"), [(0.6, real_rename), (0.99, real_rename), (0.99, two_renames)]
)
def test_giving_up_may_itself_be_cut(
    world: World, share: float, rename: restore_switch.RenameAt
) -> None:
    pattern = Pattern(world, CASES["several, some of them new"])
    cuts = 0
    while run_until_killed(switching(pattern.lay_out(1000 + cuts)), cuts, rename):
        cuts += 1
    killed, number = True, 0
    while killed:
        world = pattern.lay_out(number)
        before = files(world.home)
        assert run_until_killed(switching(world), int((cuts - 3) * share), rename)
        killed = run_until_killed(lambda w=world: restore.clear(w.request()), number, rename)
        restore.clear(world.request())
        assert files(world.home) == before, number
        assert not world.staging.exists()
        assert beside(world, "before") == []
        shutil.rmtree(world.root)
        number += 1
    assert number > 20


def until_exchanged(world: World, path: str) -> None:
    """Cut when this path stands in the home and more was to come."""
    real = restore_partial._keep

    def stop(name: str, *arguments: Any) -> None:
        if name == path.rpartition("/")[2]:
            raise OSError(errno.EIO, "cut")
        real(name, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restore_partial, "_keep", stop)
        with pytest.raises(OSError, match="cut"):
            restore.switch(world.request())


def test_what_an_agent_wrote_after_a_cut_is_kept_when_it_is_given_up(world: World) -> None:
    world = Pattern(world, ["cron"]).lay_out(0)
    before = tree(world.home)
    until_exchanged(world, "cron")
    (world.home / "cron/later.json").write_text("written after the cut")
    told = restore.clear(world.request())
    assert told["paths"] == ["cron"]
    assert tree(world.home) == before
    kept = Path(told["moved_aside"]) / "home/cron/later.json"
    assert kept.read_text() == "written after the cut"


def test_a_home_in_use_is_not_put_back_under_its_user(world: World) -> None:
    world = Pattern(world, ["cron"]).lay_out(0)
    until_exchanged(world, "cron")
    before = tree(world.parent)
    with subprocess.Popen(["sleep", "60"], cwd=world.home) as process:
        try:
            with pytest.raises(RestoreError, match=f"still use the home: {process.pid}"):
                restore.clear(world.request())
        finally:
            process.kill()
    assert tree(world.parent) == before
    assert restore.clear(world.request())["paths"] == ["cron"]


def test_paths_of_one_home_are_not_put_back_into_another(world: World) -> None:
    world = Pattern(world, ["cron"]).lay_out(0)
    until_exchanged(world, "cron")
    other = world.parent / "other"
    other.mkdir()
    with pytest.raises(RestoreError, match=f"a restore of cron out of 'acme-.*' to '{world.home}'"):
        restore.clear(world.request(home=str(other)))


@pytest.mark.parametrize("text", ["", '[{"path": "SO', "{}", '[{"path": "cron"}]', "[5]"])
def test_a_note_of_paths_that_cannot_be_read_is_not_planned_anew(world: World, text: str) -> None:
    world = Pattern(world, ["cron"]).lay_out(0)
    until_exchanged(world, "cron")
    [aside] = beside(world, "before")
    (aside / "paths.json").write_text(text)
    before = tree(world.parent)
    for work in (restore.switch, restore.clear):
        with pytest.raises(RestoreError, match="paths.json of the paths .* cannot be read"):
            work(world.request())
        assert tree(world.parent).keys() == before.keys()


def test_an_undo_waits_until_a_cut_switch_is_ended(world: World) -> None:
    world = Pattern(world, ["cron"]).lay_out(0)
    until_exchanged(world, "cron")
    for asked in (restore.undo, restore.foresee_undo):
        with pytest.raises(RestoreError, match="restore of cron was interrupted.*abandon=true"):
            asked(world.request())


def test_an_undo_of_what_was_cut_after_the_switch_leaves_no_staging(world: World) -> None:
    """Left there it would tell the same restore, asked for once more, that it is done."""
    world = Pattern(world, ["cron"]).lay_out(0)
    before = tree(world.home)
    restore.switch(world.request())
    restore.undo(world.request())
    assert tree(world.home) == before
    assert not world.staging.exists()


def test_an_undo_cut_before_its_end_does_not_go_further_back(world: World) -> None:
    pattern = Pattern(world, ["SOUL.md"])
    killed, number = True, 0
    while killed:
        world = pattern.lay_out(number)
        before = files(world.home)
        older = world.parent / ".hermes.before-20200101T000000Z"
        older.mkdir()
        complete(world)
        killed = run_until_killed(lambda w=world: restore.undo(w.request()), number)
        if beside(world, "before") != [older]:
            restore.undo(world.request())
        assert files(world.home) == before, number
        assert beside(world, "before") == [older], number
        shutil.rmtree(world.root)
        number += 1
    assert number > 2


def test_a_folder_that_was_made_is_never_left_half_made(world: World) -> None:
    pattern = Pattern(world, ["scripts/run.sh"])
    modes, killed, number = set(), True, 0
    while killed:
        world = pattern.lay_out(number)
        killed = run_until_killed(switching(world), number)
        if (world.home / "scripts").exists():
            found = (world.home / "scripts").stat()
            modes.add((found.st_mode, found.st_uid))
        shutil.rmtree(world.root)
        number += 1
    account = pwd.getpwnam(agent_user())
    assert modes == {(stat.S_IFDIR | 0o755, account.pw_uid)}


def test_a_folder_goes_with_its_database_and_the_log_of_it(world: World) -> None:
    world = Pattern(world, ["cron"]).lay_out(0)
    before = tree(world.home / "cron")
    result = restore.switch(world.request())
    assert tree(Path(result["moved_aside"]) / "home/cron") == before
    assert sorted(path.name for path in (world.home / "cron").iterdir()) == ["executions.db"]
    assert rows_of(world.home / "cron/executions.db") == 3
    assert rows_of(Path(result["moved_aside"]) / "home/cron/executions.db") == 7


def test_overlapping_paths_are_the_outermost(world: World) -> None:
    world = Pattern(world, ["memories", "memories/USER.md"]).lay_out(0)
    before = tree(world.home)
    result = restore.switch(world.request())
    assert [item["path"] for item in result["paths"]] == ["memories"]
    assert (world.home / "memories/USER.md").read_text() == "likes tea\n"
    restore.clear(world.request())
    restore.undo(world.request())
    assert tree(world.home) == before


@pytest.mark.parametrize(
    ("paths", "left"),
    [
        (["a/b", "a", "a/b/c", "a.b"], ("a", "a.b")),
        (["ab", "a"], ("a", "ab")),
        (["a", "a-b", "a/b"], ("a", "a-b")),
        ([], ()),
    ],
)
def test_outermost(paths: list[str], left: tuple[str, ...]) -> None:
    assert outermost(paths) == left


def archived(world: World) -> RestoreManifest:
    manifest = make_archive(world)
    entry = next(entry for entry in manifest["entries"] if entry.get("path") == "SOUL.md")
    for path, kind in (("gateway.sock", "socket"), ("run/a.sock", "socket")):
        manifest["entries"].append({**entry, "path": path, "type": kind})
    manifest["entries"].append({**entry, "path": "state.db-wal"})
    return parse(json.dumps(manifest).encode(), AGENT)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("gateway.sock", "holds no content of 'gateway.sock': it was a socket"),
        ("run", "holds no content of 'run'"),
        (".", "the home itself"),
        ("", "the home itself"),
        ("state.db-wal", "log of a database.*only=state.db"),
        ("../etc", "holds no '../etc'"),
    ],
)
def test_what_cannot_come_back_by_itself_is_refused_when_the_archive_is_looked_at(
    world: World, path: str, said: str
) -> None:
    with pytest.raises(RestoreError, match=said):
        restore_partial.choose(archived(world), ["SOUL.md", path])


def refused_before_the_switch(world: World, said: str) -> None:
    before = tree(world.home)
    for _again in range(2):
        with pytest.raises(RestoreError, match=said):
            restore.switch(world.request())
        assert step_of(world) == "staged"
    assert tree(world.home) == before
    assert beside(world, "before") == []


def test_what_the_archive_lists_and_does_not_hold_is_refused_before_the_switch(
    world: World,
) -> None:
    world = Pattern(world, ["SOUL.md", "scripts/run.sh"]).lay_out(0)
    (world.staging / "home/scripts/run.sh").unlink()
    refused_before_the_switch(world, "lists 'scripts/run.sh', but the archive does not hold it")


def test_a_path_through_a_link_of_the_home_is_refused_before_the_switch(world: World) -> None:
    world = Pattern(world, ["scripts/run.sh"]).lay_out(0)
    (world.home / "scripts").symlink_to("/etc")
    refused_before_the_switch(world, "In the home, 'scripts' leads through 'scripts'")


def test_paths_into_a_home_that_is_not_there_are_refused_before_the_switch(world: World) -> None:
    world = Pattern(world, ["SOUL.md"]).lay_out(0)
    shutil.rmtree(world.home)
    with pytest.raises(RestoreError, match="There is no home"):
        restore.switch(world.request())
    assert beside(world, "before") == []


def test_two_restores_of_paths_in_one_second_do_not_share_a_folder(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = Pattern(world, ["SOUL.md"])
    world = pattern.lay_out(0)
    monkeypatch.setattr(restore, "stamp", lambda _now: "20261101T020000Z")
    complete(world)
    pattern.stage(world)
    with pytest.raises(RestoreError, match="exists already.*in a second"):
        restore.switch(world.request())


def test_a_folder_aside_that_holds_nothing_is_not_what_an_undo_goes_back_to(world: World) -> None:
    world.make_target()
    world.old_home("the restored one")
    former = world.parent / ".hermes.before-20260101T000000Z"
    former.mkdir()
    (former / "SOUL.md").write_text("the former one")
    (world.parent / ".hermes.before-20260201T000000Z.only/home/memories").mkdir(parents=True)
    noted = world.parent / ".hermes.before-20260301T000000Z.only"
    noted.mkdir()
    (noted / "paths.json").write_text('[{"path": "gateway.md", "new": 7, "old": 0}]')
    undone = restore.undo(world.request())
    assert undone["restored_from"] == former.name
    assert (world.home / "SOUL.md").read_text() == "the former one"
    with pytest.raises(RestoreError, match="no home moved aside under the name"):
        restore.undo(world.request(moved_aside=noted.name))


def test_giving_up_what_was_only_announced_leaves_nothing(world: World) -> None:
    world = Pattern(world, ["SOUL.md"]).lay_out(0)
    before = tree(world.home)
    former = world.parent / ".hermes.before-20260101T000000Z"
    former.mkdir()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restore.PartialSwitch, "run", lambda *_unused: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            restore.switch(world.request())
    assert len(beside(world, "before")) == 2
    told = restore.clear(world.request())
    assert told == {
        "changed": True,
        "moved_aside": "",
        "paths": [],
        "switch_method": "paths",
    }
    assert tree(world.home) == before
    assert beside(world, "*") == [former]


def test_a_restore_asked_for_after_a_cut_abandon_begins_afresh(borg_world: World) -> None:
    world = borg_world
    world.make_target()
    make_archive(world)
    world.initialise()
    world.create()
    make_home(world)
    before = tree(world.home)
    world.extract(only=["cron"])
    restore.stage(world.request())
    until_exchanged(world, "cron")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restore, "put_away", lambda *_unused: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            restore.clear(world.request())
    assert world.extract(only=["SOUL.md"])["changed"]
    assert tree(world.home) == before
    assert len(beside(world, "abandoned")) == 1
    restore.stage(world.request())
    complete(world)
    assert (world.home / "SOUL.md").read_text() == "I am acme.\n"
