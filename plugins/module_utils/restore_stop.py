# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stopping an agent for good before its home is replaced, and starting again what was stopped.

A process that is killed comes back when its unit says so; therefore units are stopped first,
before them the timers, paths and sockets that start them, and only what belongs to no unit is
ended by a signal.
Which units are the agent's is told by what they do, not by a list of names: one of their
processes has something below the home open, or they run as the agent's user and name the home
or the agent's runtime.

Not guaranteed: that nobody starts the agent again by hand or from a crontab. The switch looks
once more before it acts.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .process import Runner, Subprocesses
from .restore_manifest import RestoreError
from .restore_target import Holder, account_of, holders

_PROPERTIES = (
    "Id,User,ExecStart,Environment,WorkingDirectory,ActiveState,UnitFileState,Triggers,Unit"
)
_TRIGGERS = (".path", ".socket", ".timer")
_PATTERNS = ("*.service", *(f"*{ending}" for ending in _TRIGGERS))
_ROUNDS = 3
_RUNNING = ("active", "activating", "reloading", "deactivating")
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
}


@dataclass(frozen=True, order=True)
class Unit:
    """A unit of the system, or of a user's own manager."""

    name: str
    user: str = ""

    def systemctl(self, *arguments: str) -> list[str]:
        return [*manager(self.user), *arguments, self.name]


def manager(user: str) -> list[str]:
    """systemctl for the system, or for one user's manager."""
    return ["systemctl", *(["--user", f"--machine={user}@.host"] if user else [])]


@dataclass(frozen=True)
class Stopped:
    units: tuple[Unit, ...]
    processes: tuple[Holder, ...]

    def report(self) -> dict[str, Any]:
        return {
            "units": [asdict(unit) for unit in self.units],
            "processes": [asdict(process) for process in self.processes],
        }


def unit_of_cgroup(text: str, user_name: Callable[[int], str]) -> Unit | None:
    """The unit that a process belongs to; None for a login session or no unit at all."""
    for line in text.splitlines():
        number, controllers, path = line.split(":", 2)
        if not (number == "0" or controllers == "name=systemd"):
            continue
        parts = path.split("/")
        services = [part for part in parts if part.endswith(".service")]
        if not services:
            continue
        owner = re.fullmatch(r"user@(\d+)\.service", services[0])
        if owner is None:
            return Unit(services[-1])
        if len(services) > 1 and services[-1] != "init.scope":
            return Unit(services[-1], user_name(int(owner.group(1))))
    return None


def parse_show(text: str) -> list[dict[str, str]]:
    """The blocks that systemctl show prints, one per unit."""
    blocks = []
    for block in text.split("\n\n"):
        pairs = (line.split("=", 1) for line in block.splitlines() if "=" in line)
        values = dict(pairs)
        if values.get("Id"):
            blocks.append(values)
    return blocks


class Stopper:
    """Finds and stops what belongs to one agent."""

    def __init__(
        self,
        home: str,
        user: str,
        names: Sequence[str] = (),
        *,
        runner: Runner | None = None,
        proc: str = "/proc",
        sleep: Callable[[float], None] = time.sleep,
        kill: Callable[[int, int], None] = os.kill,
        patience: float = 20.0,
    ) -> None:
        self.home = os.path.realpath(home)
        self.user = user
        self.names = tuple(names)
        self.runner: Runner = runner or Subprocesses()
        self.proc = proc
        self.sleep = sleep
        self.kill = kill
        self.patience = patience

    def find(self) -> list[Unit]:
        """The running units that are the agent's, and the timers and the like that start them."""
        by_process = {unit for item in holders(self.home, self.proc) if (unit := self._unit(item))}
        found = set(by_process)
        for user in ("", self.user):
            shown = self._show(user)
            found |= {Unit(item["Id"], user) for item in shown if self._is_agents(item, user)}
            stopped = {unit.name for unit in found if unit.user == user}
            found |= {
                Unit(item["Id"], user)
                for item in shown
                if item["Id"].endswith(_TRIGGERS)
                and item.get("ActiveState", "active") in _RUNNING
                and (item.get("Unit") in stopped or item.get("Triggers") in stopped)
            }
        return sorted(found)

    def find_idle(self) -> list[Unit]:
        """Enabled units of the agent that do not run, as after a crash over its lost home."""
        return sorted(
            Unit(item["Id"], user)
            for user in ("", self.user)
            for item in self._show(user)
            if item.get("ActiveState") not in _RUNNING
            and item.get("UnitFileState") == "enabled"
            and self._concerns_agent(item, user)
        )

    def stop(self) -> Stopped:
        """Nothing of the agent runs any more, or a refusal that names what does."""
        units = self._stop_units()
        ended: dict[int, Holder] = {}
        for number in (signal.SIGTERM, signal.SIGKILL):
            waited = 0.0
            while left := self._own(holders(self.home, self.proc)):
                if waited == 0.0:
                    for holder in left:
                        ended[holder.pid] = holder
                        self._signal(holder.pid, number)
                if waited >= self.patience:
                    break
                self.sleep(0.2)
                waited += 0.2
        self._refuse_what_is_left()
        return Stopped(units, tuple(ended.values()))

    def _stop_units(self) -> tuple[Unit, ...]:
        """What starts others goes first; and once more, should one have come back meanwhile."""
        stopped: set[Unit] = set()
        for _round in range(_ROUNDS):
            running = self.find()
            for unit in sorted(running, key=lambda unit: (not unit.name.endswith(_TRIGGERS), unit)):
                self._systemctl(unit, "stop")
            if stopped >= set(running):
                break
            stopped |= set(running)
        return tuple(sorted(stopped))

    def _own(self, found: Iterable[Holder]) -> list[Holder]:
        return [holder for holder in found if holder.user == self.user]

    def _refuse_what_is_left(self) -> None:
        left = holders(self.home, self.proc)
        if left:
            named = "; ".join(f"{item.pid} ({item.user}: {item.command})" for item in left[:5])
            raise RestoreError(
                f"{len(left)} processes still use {self.home}: {named}.",
                "They are not the agent's own, so they were not ended. End them, then run again.",
                holders=[asdict(item) for item in left],
            )

    def _signal(self, pid: int, number: int) -> None:
        try:
            self.kill(pid, number)
        except ProcessLookupError:
            return

    def _unit(self, holder: Holder) -> Unit | None:
        try:
            text = Path(self.proc, str(holder.pid), "cgroup").read_text(encoding="utf-8")
        except OSError:
            return None
        unit = unit_of_cgroup(text, lambda uid: self.user if self._uid() == uid else str(uid))
        return unit if unit and not unit.name.startswith(("ssh", "user@", "systemd-")) else None

    def _uid(self) -> int:
        account = account_of(self.user)
        return account.pw_uid if account else -1

    def _is_agents(self, shown: Mapping[str, str], user: str) -> bool:
        return shown.get("ActiveState") in _RUNNING and self._concerns_agent(shown, user)

    def _concerns_agent(self, shown: Mapping[str, str], user: str) -> bool:
        """A unit that runs as the agent's user and speaks of its home or its runtime."""
        if not shown["Id"].endswith(".service"):
            return False
        if not user and shown.get("User") != self.user:
            return False
        words = " ".join(
            shown.get(key, "") for key in ("Id", "ExecStart", "Environment", "WorkingDirectory")
        )
        return self.home in words or any(name and name in words for name in self.names)

    def _show(self, user: str) -> list[dict[str, str]]:
        if user and not os.path.exists(f"/run/user/{self._uid()}/systemd"):
            return []
        listing = [*manager(user), "show", f"--property={_PROPERTIES}", *_PATTERNS]
        return parse_show(
            self.runner.run(listing, env=_ENVIRONMENT).stdout.decode("utf-8", "replace")
        )

    def _systemctl(self, unit: Unit, verb: str) -> None:
        done = self.runner.run(unit.systemctl(verb), env=_ENVIRONMENT)
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise RestoreError(
                f"systemctl {verb} {unit.name} failed: {said or done.returncode}.",
                f"{verb.capitalize()} it by hand, then run again.",
                rc=done.returncode,
                cmd=unit.systemctl(verb),
            )

    def lasting(self, units: Iterable[Unit]) -> list[Unit]:
        """The services among them that go on running, and so can be asked whether they do."""
        return [
            unit
            for unit in units
            if unit.name.endswith(".service") and self._kind(unit) != "oneshot"
        ]

    def _kind(self, unit: Unit) -> str:
        asked = unit.systemctl("show", "--property=Type", "--value")
        told = self.runner.run(asked, env=_ENVIRONMENT).stdout
        return told.decode("utf-8", "replace").strip()

    def start(self, units: Iterable[Unit]) -> list[Unit]:
        """Start what an earlier run stopped; what is running stays as it is."""
        started = []
        for unit in units:
            state = self.runner.run(unit.systemctl("is-active", "--quiet"), env=_ENVIRONMENT)
            if state.returncode != 0:
                self._systemctl(unit, "start")
                started.append(unit)
        return started
