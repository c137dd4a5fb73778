# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed at every single step, a restore leaves the old home or the new one, and a second run ends it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import (
    restore,
    restore_partial,
    restore_switch,
)

from .support import AGENT, World, copy_entry, tree

KILLED = 137
CALLS = (
    "rename",
    "mkdir",
    "unlink",
    "rmdir",
    "fchown",
    "fchmod",
    "chmod",
    "fsync",
    "utime",
    "mkfifo",
)


def run_until_killed(
    work: Callable[[], object], at: int, rename: restore_switch.RenameAt = restore_switch.renameat2
) -> bool:
    """Run in a child that dies, as by SIGKILL, before its nth change; true when it was killed."""
    child = os.fork()
    if child == 0:
        count, itself = 0, os.getpid()

        def dying(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal count
                if count == at and os.getpid() == itself:
                    os._exit(KILLED)
                count += 1
                return real(*arguments, **options)

            return call

        for name in CALLS:
            setattr(os, name, dying(getattr(os, name)))
        exchange = dying(rename)
        for module in (restore_switch, restore_partial):
            module.renameat2 = exchange  # type: ignore[attr-defined]
        restore_switch.Switch.__init__.__defaults__ = (exchange, restore.now)  # type: ignore[misc]
        restore_partial.PartialSwitch.__init__.__defaults__ = (exchange,)  # type: ignore[misc]
        for work_of_paths in (restore_partial.undo, restore_partial.give_up):
            work_of_paths.__defaults__ = (exchange,)
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    _unused, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED), f"killed before change {at}: the run failed"
    return code == KILLED


def whole(world: World) -> Callable[[], object]:
    def work() -> None:
        request = world.request(replace=True)
        if world.staging.exists():
            restore.stage(request)
            restore.switch(request)
            restore.clear(request)

    return work


def undoing(world: World) -> Callable[[], object]:
    return lambda: restore.undo(world.request())


def fresh(root: Path, number: int) -> World:
    world = World(root / str(number))
    world.root.mkdir()
    world.root.chmod(0o755)
    world.make_target()
    return world


@pytest.fixture
def pattern(world: World) -> World:
    world.make_source()
    return world


def test_a_whole_restore_killed_anywhere_is_completed(pattern: World) -> None:
    expected: dict[str, Any] = {}
    number = 0
    while True:
        world = fresh(pattern.root, number)
        shutil.copytree(pattern.source, world.source, symlinks=True, copy_function=copy_entry)
        world.old_home()
        before = tree(world.home)
        world.stage_by_hand()
        killed = run_until_killed(whole(world), number)
        stands = tree(world.home)
        assert stands == before or (expected and stands == expected) or not killed, number
        whole(world)()
        expected = expected or tree(world.home)
        assert tree(world.home) == expected, number
        asides = [path for path in world.parent.iterdir() if path.name.startswith(".hermes.")]
        assert [tree(path) for path in asides] == [before], number
        assert not world.staging.exists()
        shutil.rmtree(world.root)
        number += 1
        if not killed:
            break
    assert number > 60, "the run has far more changes than this; the counting must be broken"


def test_an_undo_killed_anywhere_is_completed(pattern: World) -> None:
    number = 0
    killed = True
    while killed:
        world = fresh(pattern.root, number)
        world.old_home("the new one")
        new = tree(world.home)
        world.home.rename(world.parent / ".hermes.before-20261101T020000Z")
        world.old_home("the old one")
        old = tree(world.home)
        killed = run_until_killed(undoing(world), number)
        assert tree(world.home) in (old, new)
        if tree(world.home) == old or world.staging.exists():
            restore.undo(world.request())
        assert tree(world.home) == new, number
        asides = [path for path in world.parent.iterdir() if path.name.startswith(".hermes.")]
        assert [tree(path) for path in asides] == [old], number
        assert not world.staging.exists()
        shutil.rmtree(world.root)
        number += 1
    assert number > 10


def test_single_paths_killed_anywhere_are_completed(pattern: World) -> None:
    number = 0
    killed = True
    while killed:
        world = fresh(pattern.root, number)
        shutil.copytree(pattern.source, world.source, symlinks=True, copy_function=copy_entry)
        world.old_home()
        world.stage_by_hand(only=["SOUL.md", "cron/executions.db"])
        killed = run_until_killed(whole(world), number)
        assert (world.home / "SOUL.md").read_text() in ("old soul", "I am acme.\n"), number
        assert (world.home / ".env").read_text() == "KEY=secret"
        whole(world)()
        assert (world.home / "SOUL.md").read_text() == "I am acme.\n", number
        assert (world.home / "cron/executions.db").exists()
        restore.undo(world.request())
        assert (world.home / "SOUL.md").read_text() == "old soul", number
        assert not (world.home / "cron/executions.db").exists()
        shutil.rmtree(world.root)
        number += 1
    assert number > 20


def test_a_switch_without_exchange_is_completed_as_well(pattern: World) -> None:
    """ZFS before 2.2 cannot exchange: two renames, and the next run closes the gap."""

    def plain(source: int, name: str, target: int, other: str, flags: int) -> None:
        if flags == restore_switch.RENAME_EXCHANGE:
            raise OSError(errno.EINVAL, "no exchange here")
        restore_switch_renameat2(source, name, target, other, flags)

    restore_switch_renameat2 = restore_switch.renameat2
    for number in range(12):
        world = fresh(pattern.root, number)
        world.old_home()
        before = tree(world.home)
        (world.staging / "home").mkdir(parents=True)
        (world.staging / "home/SOUL.md").write_text("new")
        state = restore_switch.State(AGENT, str(world.home), "a", "b", "staged")
        with restore_switch.opened(str(world.staging)) as made:
            restore_switch.write_state(made, state)

        def work(world: World = world, state: restore_switch.State = state) -> None:
            with (
                restore_switch.opened(str(world.parent)) as parent,
                restore_switch.opened(str(world.staging)) as staging,
            ):
                noted = restore_switch.read_state(staging) or state
                restore_switch.Switch(parent, ".hermes", staging, noted, rename=plain).run(True)

        run_until_killed(work, number)
        work()
        assert (world.home / "SOUL.md").read_text() == "new"
        asides = [path for path in world.parent.iterdir() if path.name.startswith(".hermes.")]
        assert [tree(path) for path in asides] == [before], number
        shutil.rmtree(world.root)
