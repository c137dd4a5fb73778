# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that are killed, told to stop, or run out of room: the next one succeeds without help."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.backup import Backup
from ansible_collections.lifeboat.agents.plugins.module_utils.borg_lock import forget_dead_locks
from ansible_collections.lifeboat.agents.plugins.module_utils.errors import (
    CouldNotRun,
    LifeboatError,
)
from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils.engine import (
    ROOT,
    Box,
    make_database,
    small_disk,
    wait_for,
    write,
)

# The night before a release: LIFEBOAT_KILLS=50.
KILLS = int(os.environ.get("LIFEBOAT_KILLS", "5"))

SCRIPT = f"""
import sys
sys.path.insert(0, {str(ROOT / ".collections")!r})
from ansible_collections.lifeboat.agents.plugins.module_utils.cli import main
sys.exit(main(sys.argv[1:]))
"""


def installed(box: Box) -> Path:
    agent = box.root / "etc" / "acme"
    write(agent / "profile.json", json.dumps(box.profile))
    config = dataclasses.asdict(box.config())
    config.update(format=1, profile=str(agent / "profile.json"))
    write(agent / "config.json", json.dumps(config))
    return agent.parent


def start(directory: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", SCRIPT, "backup", "acme", "--config-directory", str(directory)]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def archives(box: Box) -> list[str]:
    url = str(box.root / "vault1" / "repository")
    return [
        item["name"] for item in json.loads(box.raw("vault1", "list", "--json", url))["archives"]
    ]


def lived_in(box: Box) -> None:
    for number in range(300):
        write(box.home / "sessions" / f"{number}.json", os.urandom(3000).hex())
    write(box.home / "config.yaml", "api_key: x\n")
    make_database(box.home / "state.db", rows=2000)
    make_database(box.home / "other.db", journal="delete")


def no_child_is_left(box: Box) -> bool:
    """Neither borg nor a holder works on after its parent."""
    mark = str(box.root).encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "cmdline").read_bytes():
                    return False
            except OSError:
                continue
    return True


def test_killed_at_random_moments(box: Box) -> None:
    lived_in(box)
    directory = installed(box)
    assert start(directory).wait() == 0
    [first] = archives(box)
    whole = json.loads((box.state / "status.json").read_bytes())["duration"]
    rng = random.Random(7)
    killed = 0
    for _round in range(4 * KILLS):  # a machine that is busy for a while makes some come too late
        time.sleep(1.1)  # names have seconds
        process = start(directory)
        time.sleep(rng.uniform(0.1, whole))
        process.kill()
        code = process.wait()
        status = json.loads((box.state / "status.json").read_bytes())
        if code == -signal.SIGKILL:
            killed += 1
            if status["result"] == "failed":
                assert "has not ended" in status["message"]
                assert status["last_success"]
        else:
            assert code == 0
            whole = status["duration"]
        wait_for(lambda: no_child_is_left(box))
        if killed == KILLS:
            break
    assert killed == KILLS
    time.sleep(1.1)
    assert start(directory).wait() == 0
    status = json.loads((box.state / "status.json").read_bytes())
    assert status["result"] in ("success", "warning")
    assert status["archive"] in archives(box) and first in archives(box)
    box.raw("vault1", "check", str(box.root / "vault1" / "repository"))
    # Whatever was committed is whole: an archive ends with its manifest.
    for name in archives(box):
        listed = box.listing({"archive": name})
        assert "run:manifest.json" in listed, name
        assert len(listed) == len(box.listing({"archive": first}))


def test_told_to_stop(box: Box) -> None:
    lived_in(box)
    directory = installed(box)
    process = start(directory)
    wait_for((box.state / "status.json").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait() in (0, 1)
    status = json.loads((box.state / "status.json").read_bytes())
    if process.returncode == 1:
        assert "told to stop" in status["message"]
        assert status["archive"] is None
        assert archives(box) == []
        # Told early enough, it is not even there.
        assert not box.run_dir.exists() or list(box.run_dir.iterdir()) == []


def test_a_quota_that_is_full(box: Box) -> None:
    lived_in(box)
    url = str(box.root / "vault1" / "repository")
    write(box.home / "workspace" / "large", os.urandom(12_000_000))
    box.raw("vault1", "config", url, "storage_quota", "10M")
    status = box.backup()
    assert status["result"] == "failed"
    failure = status["repositories"]["vault1"]["failure"]
    assert (failure["rc"], failure["msgid"]) == (20, "Repository.StorageQuotaExceeded")
    assert archives(box) == []
    box.raw("vault1", "config", "--delete", url, "storage_quota")
    assert box.backup()["result"] == "success"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_no_room_on_the_box(box: Box) -> None:
    lived_in(box)
    box.run_dir.mkdir()
    with small_disk(box.run_dir, "size=16k"):
        status = box.backup()
    assert status["result"] == "failed"
    assert "No space left" in status["message"]
    assert "room" in status["hint"]
    assert archives(box) == []
    assert box.backup()["result"] == "success"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_is_told_in_the_room_kept_for_that(box: Box) -> None:
    """Night after night: what is told takes the place of what was told before."""
    lived_in(box)
    box.state.mkdir()
    box.repositories[0]["base_dir"] = str(box.state / "borg")
    box.settings["metrics_file"] = str(box.root / "lifeboat.prom")
    with small_disk(box.state, "size=9m"):
        assert box.backup()["result"] == "success"
        with pytest.raises(OSError, match="No space"), (box.state / "filler").open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        for night in range(3):
            write(box.home / "sessions" / f"night-{night}", os.urandom(300_000))
            status = box.backup()
            assert status["result"] == "failed"
            assert "No space left" in json.dumps(status)
            assert json.loads((box.state / "status.json").read_bytes()) == status
            assert 'success{agent="acme"} 0' in (box.root / "lifeboat.prom").read_text()
        (box.state / "filler").unlink()
        status = box.backup()
        assert status["result"] == "success", status["problems"]


def test_metrics_say_from_the_beginning_that_a_run_has_not_succeeded(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a killed one is seen by whoever reads nothing else."""
    box.settings["metrics_file"] = str(box.root / "lifeboat.prom")
    assert box.backup()["result"] == "success"
    seen: list[str] = []

    def killed(_self: Backup, *_arguments: object) -> None:
        seen.append((box.root / "lifeboat.prom").read_text(encoding="utf-8"))
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(Backup, "_work", killed)
        box.backup()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    text = (box.root / "lifeboat.prom").read_text(encoding="utf-8")
    assert 'lifeboat_backup_success{agent="acme"} 0' in text
    assert 'last_success_timestamp_seconds{agent="acme"} 0' not in text


def test_metrics_that_cannot_be_written_do_not_prevent_the_backup(box: Box) -> None:
    box.settings["metrics_file"] = str(box.root / "not-there" / "lifeboat.prom")
    with pytest.raises(LifeboatError, match=r"not-there.*could not be written"):
        box.backup()
    assert len(archives(box)) == 1
    assert json.loads((box.state / "status.json").read_bytes())["result"] == "success"


@pytest.mark.parametrize("owner", ["other-host@1.1-0", "{host}.{parent}-0"])
def test_a_lock_that_the_power_left_on_the_cache(box: Box, owner: str) -> None:
    """Of a host that had another name, or with a number that another process has by now."""
    write(box.home / "SOUL.md")
    box.settings["lock_wait"] = 2
    assert box.backup()["result"] == "success"
    [cache] = (box.root / "vault1" / "borg" / ".cache" / "borg").glob("[0-9a-f]*")
    host = f"{socket.getfqdn()}@{uuid.getnode()}"
    name = owner.format(host=host, parent=os.getpid())
    write(cache / "lock.exclusive" / name, "")
    who, _dot, number = name.removesuffix("-0").rpartition(".")
    write(cache / "lock.roster", json.dumps({"exclusive": [[who, int(number), 0]]}))
    time.sleep(1.1)
    assert box.backup()["result"] == "success"
    assert not (cache / "lock.exclusive").exists()


def test_the_lock_of_a_borg_at_work_is_left_alone(tmp_path: Path) -> None:
    lock = tmp_path / ".cache" / "borg" / "ab" / "lock.exclusive"
    write(lock / "box@1.77-0", "")
    write(tmp_path / "proc" / "77" / "cmdline", "python3\0/usr/local/bin/lifeboat-borg\0create\0")
    assert forget_dead_locks(str(tmp_path), tmp_path / "proc") == []
    write(tmp_path / "proc" / "77" / "cmdline", "bash\0")
    assert forget_dead_locks(str(tmp_path), tmp_path / "proc") == [str(lock)]
    assert not lock.exists()


@pytest.mark.parametrize(
    ("setting", "value"), [("home", "/nonexistent/home"), ("user", "no-such-user")]
)
def test_a_run_that_cannot_begin_leaves_its_reason(box: Box, setting: str, value: str) -> None:
    assert box.backup()["result"] == "success"
    box.settings[setting] = value
    with pytest.raises(CouldNotRun):
        box.backup()
    status = json.loads((box.state / "status.json").read_bytes())
    assert status["result"] == "failed"
    assert value in status["message"]
    assert 'success{agent="acme"} 0' in (box.state / "metrics.prom").read_text(encoding="utf-8")
