# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An extraction is followed until it has an outcome, and one that was killed is not waited for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleError

from ansible_collections.lifeboat.agents.plugins.action import agent_restore_follow
from ansible_collections.lifeboat.agents.plugins.action.agent_restore_follow import ActionModule
from ansible_collections.lifeboat.agents.plugins.module_utils import restore_follow

JOB = "j483920174.1234"
STARTED = {"started": 1, "finished": 0, "ansible_job_id": JOB}


def shell(text: str) -> str:
    done = subprocess.run(["sh", "-c", text], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A host with a job, in folders that are not named for shells."""
    folder = tmp_path / "a home's"
    (folder / "tree").mkdir(parents=True)
    (folder / "tree/file").write_bytes(b"x" * 50_000)
    (folder / JOB).write_text(json.dumps(STARTED))
    return folder


def look(place: Path) -> restore_follow.Seen:
    asked = restore_follow.command(JOB, f"{place}/{JOB}", f"{place}/tree")
    return restore_follow.read(shell(asked))


@pytest.fixture
def wrapper() -> Iterator[None]:
    """What goes on by itself; Ansible gives it the first half of the job's name."""
    text = "import sys, time; print('up', flush=True); time.sleep(60)"
    argv = [sys.executable, "-c", text, JOB.partition(".")[0]]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        yield
        process.kill()


@pytest.mark.usefixtures("wrapper")
def test_a_job_at_work_is_seen_with_what_it_extracted(place: Path) -> None:
    seen = look(place)
    assert (seen.finished, seen.alive) == (False, True)
    assert 50_000 <= seen.extracted < 60_000


def test_a_job_without_a_process_is_dead(place: Path) -> None:
    assert look(place).alive is False


@pytest.mark.parametrize("outcome", [{"changed": True}, {"failed": True, "msg": "No."}])
def test_an_outcome_ends_it(place: Path, outcome: dict[str, Any]) -> None:
    (place / JOB).write_text(json.dumps(outcome))
    assert look(place).finished


def test_half_an_outcome_is_none_yet(place: Path) -> None:
    (place / JOB).write_text('{"changed": tr')
    assert not look(place).finished
    (place / JOB).unlink()
    assert not look(place).finished


def test_what_is_no_job_is_refused() -> None:
    for job, results in (("j1.2; reboot", "/x/j1.2; reboot"), (JOB, "/x/other"), ("", "")):
        with pytest.raises(restore_follow.FollowError, match="not a job"):
            restore_follow.command(job, results, "/x")
    with pytest.raises(restore_follow.FollowError, match="cannot be read"):
        restore_follow.read("sudo: a password is required")


def test_the_line_that_is_shown() -> None:
    assert restore_follow.line(0, 0, 0.4) == "extracted 0 B of 0 B in 0 s"
    assert restore_follow.line(250_000_000, 1_000_000_000, 30) == (
        "extracted 250.0 MB of 1.0 GB in 30 s, 25%, about 90 s to go"
    )
    assert "100%, about 0 s" in restore_follow.line(1_200, 1_000, 30)


class Host:
    """The action, and a host that answers what it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
        self.answers = list(answers)
        self.shown: list[str] = []
        self.clock = 0.0
        args = {"job": JOB, "results": f"/x/{JOB}", "folder": "/x/tree", "bytes": 1000}
        task = SimpleNamespace(
            args=args, action="agent_restore_follow", async_val=0, check_mode=False, diff=False
        )
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        self.action = ActionModule(task, connection, None, None, None, None)
        monkeypatch.setattr(self.action, "_low_level_execute_command", self.answer)
        monkeypatch.setattr(self.action, "_display", SimpleNamespace(display=self.shown.append))
        monkeypatch.setattr(agent_restore_follow, "time", self)

    def answer(self, command: str, sudoable: bool = False) -> dict[str, Any]:
        assert sudoable
        return {
            "rc": 0,
            "stdout": self.answers.pop(0) if len(self.answers) > 1 else self.answers[0],
        }

    def monotonic(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    def run(self) -> dict[str, Any]:
        result: dict[str, Any] = self.action.run(task_vars={"inventory_hostname": "box"})
        return result


def told(outcome: dict[str, Any], extracted: int, alive: int) -> str:
    return f"{json.dumps(outcome)}\n-- lifeboat --\n{extracted}\n{alive}\n"


def test_it_is_followed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [told(STARTED, number * 100, 1) for number in range(9)]
    host = Host(monkeypatch, *looks, told({"changed": True}, 1000, 0))
    assert host.run()["finished"]
    assert host.shown[-1].startswith("box: extracted 800 B of 1.0 kB in ")
    assert len(host.shown) < 9, "the first looks are quick and show nothing"


def test_a_small_home_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, told({"changed": True}, 1000, 0))
    host.run()
    assert host.clock < 1.0
    assert host.shown == []


def test_a_job_that_was_killed_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, told(STARTED, 100, 0))
    with pytest.raises(AnsibleError, match="box: the extraction ended without an outcome"):
        host.run()
    assert host.clock < 30


def test_it_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, told(STARTED, 100, 1))
    assert not host.run()["finished"]
    assert host.clock >= 86400
