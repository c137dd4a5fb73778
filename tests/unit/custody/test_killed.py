# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Custody killed at thirty random moments, with everything that it had started."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from datetime import datetime, timedelta, timezone

from ansible_collections.lifeboat.agents.plugins.module_utils.serve_lockout import Lockout
from ansible_collections.lifeboat.agents.tests.unit.custody.nights import Custody
from ansible_collections.lifeboat.agents.tests.unit.custody.support import World, tree

KILLS = 30


def killed_night(custody: Custody, after: float) -> bool:
    """A night in a process group of its own; whether it was killed before it ended."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        code = 1
        with contextlib.suppress(BaseException):
            custody.night()
            code = 0
        os._exit(code)
    with contextlib.suppress(OSError):
        os.setpgid(child, child)  # both do it: whichever comes first
    deadline = time.monotonic() + after
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, "the night failed by itself"
            return False
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    custody.world.wait_for_sessions()
    return True


def test_custody_killed_at_thirty_random_moments(world: World) -> None:
    custody = Custody(
        world, datetime(2026, 3, 1, 4, tzinfo=timezone.utc),
        daily=2, weekly=0, monthly=0, floor=1, compact_every_days=1, compact_delay_hours=0,
    )  # fmt: skip
    world.write("SOUL.md", 3_000)
    custody.backup()
    begin = time.monotonic()
    custody.night()
    usual = time.monotonic() - begin
    dice = random.Random(11)
    killed = 0
    for number in range(4 * KILLS):
        custody.now += timedelta(days=1)
        if number % 2 == 0:
            world.write(f"memories/{number % 5}", 20_000)
            custody.backup()
        begin = time.monotonic()
        if not killed_night(custody, dice.random() * 2.5 * usual):
            usual = min(usual, time.monotonic() - begin)  # the first one came in a busy moment
        else:
            killed += 1
            # The lockout ends by itself; here nobody waits for it.
            lockout = Lockout(world.lock)
            held = lockout.current()
            if held:
                lockout.open(held.token)
        if killed and killed % 6 == 0:
            assert world.borg("check", str(world.repository)).returncode == 0
            said = custody.night()
            assert said["findings"] == []
            assert said["night"]["blocked"] is None
        if killed == KILLS:
            break
    assert killed == KILLS
    custody.now += timedelta(days=1)
    world.write("SOUL.md", 4_000)
    name = custody.backup()
    said = custody.night()
    assert said["findings"] == []
    assert len(world.archives()) == 2
    assert world.extract(name) == tree(world.home)
