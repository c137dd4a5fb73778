# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stopping an agent: units first, then processes, never somebody else's."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.process import Completed
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_stop import (
    Stopper,
    Unit,
    parse_show,
    unit_of_cgroup,
)
from ansible_collections.lifeboat.agents.plugins.modules import agent_stop

KINDS = ("path", "socket", "timer", "service")
ME = pwd.getpwuid(os.geteuid()).pw_name

SYSTEM = """\
Id=hermes-gateway.service
User={user}
ExecStart={{ path=/usr/local/bin/hermes ; argv[]=/usr/local/bin/hermes gateway run }}
ActiveState=activating

Id=web.service
User={user}
ExecStart={{ path=/usr/bin/caddy }}
ActiveState=active

Id=other-hermes.service
User=somebody
ExecStart={{ path=/usr/local/bin/hermes }}
ActiveState=active

Id=hermes-old.service
User={user}
ExecStart={{ path=/usr/local/bin/hermes }}
ActiveState=inactive

Id=wake.timer
Unit=hermes-gateway.service
ActiveState=active
"""


class Systemctl:
    """Stands for systemctl; notes what was asked of it."""

    def __init__(self, shown: str = "", failing: str = "", active: bool = False) -> None:
        self.shown = shown
        self.failing = failing
        self.active = active
        self.asked: list[list[str]] = []

    def run(self, argv: Sequence[str], *, env: Mapping[str, str], **_: Any) -> Completed:
        self.asked.append(list(argv))
        rc = 1 if self.failing and self.failing in argv else 0
        if "is-active" in argv:
            rc = 0 if self.active else 3
        out = self.shown.encode() if "show" in argv else b""
        return Completed(tuple(argv), rc, out, b"no such thing")

    def start(self, argv: Sequence[str], **_: Any) -> Any:
        raise AssertionError("not used")


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/hermes-gateway.service\n", Unit("hermes-gateway.service")),
        ("0::/system.slice/system-x.slice/x@1.service/inner\n", Unit("x@1.service")),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/hermes.service\n",
            Unit("hermes.service", "u1000"),
        ),
        ("12:pids:/x.service\n1:name=systemd:/system.slice/y.service\n", Unit("y.service")),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
        ("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", None),
        ("0::/\n", None),
    ],
)
def test_the_unit_of_a_process_is_read_from_its_control_group(text: str, unit: Unit | None) -> None:
    assert unit_of_cgroup(text, lambda uid: f"u{uid}") == unit


def test_units_are_the_agents_by_what_they_do(tmp_path: Path) -> None:
    shown = SYSTEM.format(user=ME)
    assert len(parse_show(shown)) == 5
    stopper = Stopper(str(tmp_path / "home"), ME, ["hermes"], runner=Systemctl(shown), proc="/none")
    stopper.proc = str(tmp_path)
    assert stopper.find() == [Unit("hermes-gateway.service"), Unit("wake.timer")]


def test_an_enabled_unit_that_crashed_is_started_after_the_restore(tmp_path: Path) -> None:
    shown = "".join(
        f"Id={name}.service\nUser={ME}\nActiveState={active}\nUnitFileState={enabled}\n"
        f"ExecStart={{ path=/usr/local/bin/hermes }}\n\n"
        for name, active, enabled in (
            ("gateway", "failed", "enabled"),
            ("by-hand", "inactive", "disabled"),
            ("running", "active", "enabled"),
        )
    )
    stopper = Stopper(
        f"{tmp_path}/home", ME, ["hermes"], runner=Systemctl(shown), proc=str(tmp_path)
    )
    assert stopper.find_idle() == [Unit("gateway.service")]
    record = tmp_path / "stopped.json"
    agent_stop.stop(stopper, str(record), False)
    recorded = agent_stop.recorded(str(record))
    assert recorded == [Unit("gateway.service"), Unit("running.service")]


def test_a_unit_that_names_the_home_is_the_agents(tmp_path: Path) -> None:
    shown = f"Id=x.service\nUser={ME}\nActiveState=active\nEnvironment=HOME_DIR={tmp_path}/home\n"
    stopper = Stopper(f"{tmp_path}/home", ME, runner=Systemctl(shown), proc=str(tmp_path))
    assert stopper.find() == [Unit("x.service")]


class Awakening(Systemctl):
    """A timer, a path and another unit that start the service whenever it was stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.running = {"agent.service", "agent.timer", "agent.path", "agent.socket"}
        self.returns = 1

    def run(self, argv: Sequence[str], *, env: Mapping[str, str], **rest: Any) -> Completed:
        if "stop" in argv:
            self.running.discard(argv[-1])
            if self.running - {"agent.service"} or self.returns:
                self.returns = 0 if self.running == set() else self.returns
                self.running.add("agent.service")
        self.shown = "\n".join(
            f"Id={name}\nUser={ME}\nTriggers=agent.service\nExecStart={{ path=/opt/roamer/bin }}\n"
            f"ActiveState={'active' if name in self.running else 'inactive'}\n"
            for name in ("agent.path", "agent.service", "agent.socket", "agent.timer")
        )
        return super().run(argv, env=env, **rest)


def test_what_starts_a_unit_is_stopped_before_it_and_what_came_back_is_stopped_again(
    tmp_path: Path,
) -> None:
    systemctl = Awakening()
    stopper = Stopper(f"{tmp_path}/home", ME, ["roamer"], runner=systemctl, proc=str(tmp_path))
    stopped = stopper.stop()
    assert {unit.name for unit in stopped.units} == {f"agent.{kind}" for kind in KINDS}
    assert systemctl.running == set()
    verbs = [argv[-1] for argv in systemctl.asked if "stop" in argv]
    assert verbs == [*(f"agent.{kind}" for kind in KINDS), "agent.service"]


def test_a_timer_that_does_not_run_is_not_started_after_the_restore(tmp_path: Path) -> None:
    shown = f"Id=agent.service\nUser={ME}\nExecStart=/opt/roamer\nActiveState=active\n\n"
    shown += "Id=agent.timer\nUnit=agent.service\nActiveState=inactive\n"
    stopper = Stopper(
        f"{tmp_path}/home", ME, ["roamer"], runner=Systemctl(shown), proc=str(tmp_path)
    )
    assert stopper.find() == [Unit("agent.service")]


def test_a_unit_that_cannot_be_stopped_is_said(tmp_path: Path) -> None:
    systemctl = Systemctl(SYSTEM.format(user=ME), failing="stop")
    stopper = Stopper(str(tmp_path), ME, ["hermes"], runner=systemctl, proc=str(tmp_path))
    with pytest.raises(RestoreError, match="systemctl stop wake.timer failed"):
        stopper.stop()


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_process_in_the_home_is_ended(tmp_path: Path, stubborn: bool) -> None:
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" if stubborn else ""
    text = f"{ignore}import time; print('up', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", text], cwd=tmp_path, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdout.readline() == b"up\n"

        def reaped(seconds: float) -> None:
            process.poll()
            time.sleep(seconds)

        stopper = Stopper(str(tmp_path), ME, runner=Systemctl(), sleep=reaped, patience=1.0)
        stopped = stopper.stop()
        assert [item.pid for item in stopped.processes] == [process.pid]
        assert process.wait() == (-9 if stubborn else -15)


def test_somebody_elses_process_is_named_and_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path) as process:
        try:
            stopper = Stopper(str(tmp_path), "nobody", runner=Systemctl(), patience=0.2)
            with pytest.raises(RestoreError, match="not the agent's own") as caught:
                stopper.stop()
            assert caught.value.failure["holders"][0]["pid"] == process.pid
            assert process.poll() is None
        finally:
            process.kill()


def test_what_was_stopped_is_remembered_and_started_once(tmp_path: Path) -> None:
    record = str(tmp_path / "stopped.json")
    shown = SYSTEM.format(user=ME)
    (tmp_path / "proc").mkdir()
    stopper = Stopper(
        "/nowhere/home", ME, ["hermes"], runner=Systemctl(shown), proc=str(tmp_path / "proc")
    )
    assert agent_stop.stop(stopper, record, True)["changed"]
    assert not Path(record).exists(), "check mode changes nothing"
    result = agent_stop.stop(stopper, record, False)
    assert [unit["name"] for unit in result["units"]] == ["hermes-gateway.service", "wake.timer"]
    stopper.runner = Systemctl("")
    again = agent_stop.stop(stopper, record, False)
    assert again["units"] == []
    assert again["start_with"] == [
        "systemctl start hermes-gateway.service",
        "systemctl start wake.timer",
    ]
    assert len(json.loads(Path(record).read_text())) == 2, "a second stop forgets nothing"
    assert agent_stop.start(stopper, record, [], True)["changed"]
    started = agent_stop.start(stopper, record, [], False)
    assert len(started["units"]) == 2
    assert not Path(record).exists()
    assert not agent_stop.start(stopper, record, [], False)["changed"]
