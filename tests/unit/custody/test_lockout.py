# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The box is out while the trusted side works, and never for longer than announced."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import serve_lockout
from ansible_collections.lifeboat.agents.plugins.module_utils.serve_lockout import (
    Lockout,
    LockoutError,
    sessions,
)
from ansible_collections.lifeboat.agents.plugins.modules import repository_lockout
from ansible_collections.lifeboat.agents.tests.unit.custody.nights import ModuleFailed, call
from ansible_collections.lifeboat.agents.tests.unit.custody.support import World


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "acme"
    path.touch()
    return path


def test_closing_and_opening(lock: Path) -> None:
    lockout = Lockout(lock)
    assert lockout.current() is None
    assert lockout.close("run-1", 100, wait=0) == []
    held = lockout.current()
    assert held
    assert held.token == "run-1"
    assert 90 < held.left < 101
    assert lockout.closed_file.stat().st_mode & 0o777 == 0o644, "the account reads it"
    assert lockout.holder_file.stat().st_mode & 0o777 == 0o600
    lockout.require("run-1")
    assert lockout.close("run-1", 500, wait=0) == [], "the same run may stay longer"
    assert lockout.require("run-1").left > 400
    assert lockout.open("run-1")
    assert lockout.current() is None
    assert not lockout.open("run-1")


def test_only_one_maintenance(lock: Path) -> None:
    lockout = Lockout(lock)
    lockout.close("run-1", 100, wait=0)
    with pytest.raises(LockoutError, match=r"another maintenance \(run-1\)"):
        lockout.close("run-2", 100, wait=0)
    assert not lockout.open("run-2")
    assert lockout.current()
    lockout.close("run-1", 200, wait=0)


def test_a_maintenance_that_died(lock: Path) -> None:
    lockout = Lockout(lock)
    lockout.close("run-1", 0.05, wait=0)
    time.sleep(0.1)
    assert lockout.current() is None
    with pytest.raises(LockoutError, match="custody_lockout_seconds"):
        lockout.require("run-1")
    lockout.close("run-2", 100, wait=0)
    assert not lockout.open("run-1"), "what is over does not open what another run closed"


def test_a_damaged_file_keeps_everybody_out(lock: Path) -> None:
    lockout = Lockout(lock)
    lockout.closed_file.write_text("soon")
    with pytest.raises(LockoutError, match="cannot be read"):
        lockout.current()


def test_a_missing_lock_file(lock: Path) -> None:
    lock.unlink()
    with pytest.raises(LockoutError, match="systemd-tmpfiles"):
        Lockout(lock).close("run-1", 10)


def rebooted(lock: Path) -> None:
    """What lies in memory is gone, and systemd-tmpfiles makes what its files say."""
    for path in lock.parent.iterdir():
        if path.is_file() and path != lock:
            path.unlink()
    subprocess.run(
        ["systemd-tmpfiles", "--create", *map(str, (lock.parent / "tmpfiles").iterdir())],
        check=True,
    )


@pytest.fixture
def booting(lock: Path) -> Lockout:
    (lock.parent / "tmpfiles").mkdir()
    if shutil.which("systemd-tmpfiles") is None or os.getuid() != 0:
        pytest.skip("needs systemd-tmpfiles, as root")
    return Lockout(lock, tmpfiles=lock.parent / "tmpfiles")


def test_a_closure_on_purpose_outlives_a_reboot(booting: Lockout) -> None:
    booting.close("run-1", 1000, wait=0)
    until = booting.require("run-1").until
    assert booting.keep("run-1")
    assert not booting.keep("run-1"), "again is no change"
    rebooted(booting.lock)
    held = booting.current()
    assert held is not None and held.kept
    assert held.until == pytest.approx(until, abs=0.01)
    assert booting.closed_file.stat().st_mode & 0o777 == 0o644, "the account reads it"
    assert booting.holder_file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(LockoutError, match=f"on purpose until {held.end}.* -e reopen=true"):
        booting.close("run-2", 100, wait=0)
    assert not booting.keep("run-2"), "it is not that run's"
    assert not booting.open("run-2")
    assert booting.reopen()
    assert not booting.reopen()
    rebooted(booting.lock)
    assert booting.current() is None, "what was reopened stays open"
    booting.close("run-2", 100, wait=0)
    assert not booting.reopen(), "a maintenance under way is not disturbed"
    assert booting.require("run-2")


def test_the_module_keeps_and_reopens(booting: Lockout) -> None:
    def state(wanted: str, token: str = "run-1", *, check_mode: bool = False) -> bool:
        result = call(
            repository_lockout.main,
            check_mode=check_mode,
            lock=str(booting.lock),
            tmpfiles=str(booting.boot_file.parent),
            token=token,
            state=wanted,
            wait=0,
        )
        return bool(result["changed"])

    assert state("closed")
    assert state("kept", check_mode=True)
    assert not booting.boot_file.exists()
    assert state("kept")
    assert not state("kept")
    assert not state("open", "run-2")
    with pytest.raises(ModuleFailed, match="kept closed on purpose until"):
        state("closed", "run-2")
    assert state("reopened", "run-2", check_mode=True)
    assert booting.current()
    assert state("reopened", "run-2")
    assert not state("reopened", "run-2")
    assert booting.current() is None


def test_an_ordinary_closure_does_not_outlive_a_reboot(booting: Lockout) -> None:
    booting.close("run-1", 1000, wait=0)
    rebooted(booting.lock)
    assert booting.current() is None


def test_a_closure_on_purpose_ends_by_its_own_time(booting: Lockout) -> None:
    booting.close("run-1", 0.3, wait=0)
    booting.keep("run-1")
    time.sleep(0.4)
    rebooted(booting.lock)
    assert booting.current() is None
    with pytest.raises(LockoutError, match="its time was over"):
        booting.keep("run-1")
    booting.close("run-2", 100, wait=0)
    held = booting.require("run-2")
    assert not held.kept
    booting.open("run-2")
    assert list((booting.lock.parent / "tmpfiles").iterdir()) == []


def session(lock: Path, seconds: float = 0, *, stubborn: bool = False) -> subprocess.Popen[bytes]:
    """A process that holds the lock, for so long or until its input ends."""
    program = (
        "import fcntl, signal, sys, time\n"
        f"{'signal.signal(signal.SIGTERM, signal.SIG_IGN)' if stubborn else ''}\n"
        f"f = open({str(lock)!r})\n"
        "fcntl.flock(f, fcntl.LOCK_SH)\n"
        "sys.stdout.write('x'); sys.stdout.flush()\n"
        f"{f'time.sleep({seconds})' if seconds else 'sys.stdin.read()'}\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.read(1)
    return process


def test_a_session_may_end_by_itself(lock: Path) -> None:
    with session(lock) as process:
        assert sessions(lock) == [process.pid]
        assert process.stdin
        leave = threading.Timer(0.5, process.stdin.close)
        leave.start()
        assert Lockout(lock).close("run-1", 100, wait=120) == []
        leave.join()
    assert process.returncode == 0


def test_a_session_that_holds_on_is_ended(lock: Path) -> None:
    with session(lock, 60) as process:
        assert Lockout(lock).close("run-1", 100, wait=0.3) == [process.pid]
    assert process.returncode == -signal.SIGTERM


def test_a_session_that_does_not_listen_is_killed(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_lockout, "GRACE", 0.5)
    with session(lock, 60, stubborn=True) as process:
        assert Lockout(lock).close("run-1", 100, wait=0.2) == [process.pid]
    assert process.returncode == -signal.SIGKILL


def test_a_session_that_cannot_be_ended(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_lockout, "GRACE", 0.2)
    with session(lock, 60) as process:
        lockout = Lockout(lock, end=lambda _pid, _signal: None)
        with pytest.raises(LockoutError, match="do not end"):
            lockout.close("run-1", 100, wait=0.1)
        process.kill()


def test_the_guard_and_the_lockout_together(lived_in: World) -> None:
    """The lock held for ever by a box ends when maintenance begins; then the box is out."""
    lockout = Lockout(lived_in.lock)
    with lived_in.opened() as held:
        assert len(lockout.close("run-1", 100, wait=0.3)) == 1
        assert lived_in.create("day-3", check=False).returncode != 0
        control = lived_in.guard("--control", "--lock", str(lived_in.lock) + ".control")
        Path(str(lived_in.lock) + ".control").touch()
        lived_in.borg("list", lived_in.url, serving=control, client="control")
        lockout.open("run-1")
        del held
    lived_in.create("day-3")
    assert lived_in.counted()["refusals"] == {}
