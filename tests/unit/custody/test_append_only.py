# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forced command of a host without the guard: runs borg, or says that maintenance is going on."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TEMPLATE = ROOT / "roles" / "repository" / "templates" / "lifeboat-serve-append-only.sh.j2"


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """The script with its lock, and a sleep that takes no time and leaves a trace."""
    text = TEMPLATE.read_text(encoding="utf-8")
    text = text.replace("{{ ansible_managed | comment }}", "#")
    script = tmp_path / "serve"
    script.write_text(text.replace("{{ __repository_locks }}", str(tmp_path)), encoding="utf-8")
    assert "{{" not in script.read_text(encoding="utf-8")
    (tmp_path / "hal").touch()
    (tmp_path / "bin").mkdir()
    sleep = tmp_path / "bin" / "sleep"
    sleep.write_text(f"#!/bin/sh\necho slept >> {tmp_path}/slept\n", encoding="utf-8")
    sleep.chmod(0o755)
    return script


def run(script: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = f"{script.parent}/bin:{os.environ['PATH']}"
    return subprocess.run(
        ["/bin/sh", str(script), "hal", *command],
        env={"PATH": path, "SSH_ORIGINAL_COMMAND": "sh"},
        capture_output=True,
        text=True,
        check=False,
    )


def busy(done: subprocess.CompletedProcess[str], script: Path) -> bool:
    """Said so, and waited until it was heard: borg reads nothing after the end of a connection."""
    assert done.stdout == ""
    assert (script.parent / "slept").exists() is (done.returncode == 75)
    assert ("in maintenance" in done.stderr) is (done.returncode == 75)
    return done.returncode == 75


def test_an_open_repository_is_served(served: Path) -> None:
    done = run(served, "sh", "-c", "echo ${SSH_ORIGINAL_COMMAND-nothing} of the client")
    assert (done.returncode, done.stdout) == (0, "nothing of the client\n")


@pytest.mark.parametrize(
    ("until", "kept_out"), [("9999999999.5", True), ("not a time", True), ("1.0", False)]
)
def test_a_closed_repository(served: Path, until: str, *, kept_out: bool) -> None:
    (served.parent / "hal.closed").write_text(until, encoding="ascii")
    assert busy(run(served, "true"), served) is kept_out


def test_while_maintenance_holds_the_lock(served: Path) -> None:
    with (served.parent / "hal").open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert busy(run(served, "true"), served)
    (served.parent / "slept").unlink()
    assert not busy(run(served, "true"), served)


def test_the_lock_is_held_while_it_serves(served: Path) -> None:
    process = subprocess.Popen(
        ["/bin/sh", str(served), "hal", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout, (served.parent / "hal").open() as stream:
        process.stdin.write(b"ready\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n"
        with pytest.raises(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process.stdin.close()
        assert process.wait(timeout=60) == 0
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
