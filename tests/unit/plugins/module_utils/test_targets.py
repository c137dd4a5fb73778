# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for borg before the last entries are read: for one that works, not for one that waits."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import targets
from ansible_collections.lifeboat.agents.plugins.module_utils.borg import (
    CreateSession,
    parse_progress,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.process import Subprocesses
from ansible_collections.lifeboat.agents.plugins.module_utils.targets import Archiving, Target

SAY = """
import json, sys, time
def say(files):
    line = {"type": "archive_progress", "nfiles": files, "original_size": files,
            "deduplicated_size": 0, "path": "p"}
    print(json.dumps(line), file=sys.stderr, flush=True)
"""
# Takes the paths in less time than lies between two reports, as borg does with a small home.
QUICK = SAY + "sys.stdin.buffer.read(9000); say(1); sys.stdin.buffer.read()"
# Works on one large file before it reads on.
BUSY = (
    SAY
    + """
for part in range(15):
    say(part)
    time.sleep(0.1)
open(sys.argv[1], "w").close()
sys.stdin.buffer.read(90000)
say(1000)
sys.stdin.buffer.read()
"""
)


def catch_up(program: str, size: int, *arguments: str) -> float:
    """Let a run wait for a stand-in of borg that was fed so many bytes of paths; how long it took."""
    target = Target(cast(Any, SimpleNamespace(name="r")), cast(Any, None))
    archiving = Archiving(cast(Any, None), [target], "archive", None)
    listen = archiving._listener(target)

    def on_line(line: bytes) -> None:
        progress = parse_progress(line)
        if progress is not None:
            listen(progress)

    argv = [sys.executable, "-c", program, *arguments]
    running = Subprocesses().start(argv, env=dict(os.environ), on_line=on_line)
    target.session = CreateSession(cast(Any, None), running, "archive")
    archiving.feed([b"/" + b"x" * (size // 1000 - 2)] * 1000, 1000)
    begun = time.monotonic()
    archiving.catch_up()
    took = time.monotonic() - begun
    archiving.abort()
    return took


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, a stand-in that works does not pass for one that stands still."""
    monkeypatch.setattr(targets, "_STILL_SECONDS", 120.0)


def test_a_borg_that_waits_for_more_paths_is_not_waited_for() -> None:
    assert catch_up(QUICK, 9000) < 60


def test_a_borg_that_works_is_waited_for(tmp_path: Path) -> None:
    catch_up(BUSY, 90000, str(tmp_path / "worked"))
    assert (tmp_path / "worked").exists()
