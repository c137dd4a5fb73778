# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Becoming the agent's user in a child, for everything that opens or runs what the agent wrote."""

from __future__ import annotations

import contextlib
import dataclasses
import grp
import json
import os
import pwd
import random
import select
import signal
import time
from collections.abc import Callable
from typing import Any, NoReturn

from .errors import CouldNotRun


@dataclasses.dataclass(frozen=True)
class Identity:
    """The agent's user."""

    name: str
    group: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str = "/"


def lookup(user: str) -> Identity:
    """The user of an agent; without root only one's own."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise CouldNotRun(
            f"no user {user!r} on this box", hint="is the agent installed?"
        ) from error
    if os.geteuid() not in (0, entry.pw_uid):
        raise CouldNotRun("not root", hint="run with sudo, or start lifeboat-backup@AGENT")
    try:
        group = grp.getgrgid(entry.pw_gid).gr_name
    except KeyError:
        group = str(entry.pw_gid)
    groups = tuple(os.getgrouplist(user, entry.pw_gid))
    return Identity(user, group, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)


def become(identity: Identity, extra_group: int | None = None) -> None:
    """Drop every privilege for good; nothing to do where the process is that user already."""
    if os.geteuid() != 0:
        return
    extra = [] if extra_group is None else [extra_group]
    os.setgroups([*identity.groups, *extra])
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)


def private_group() -> int | None:
    """Join a group that nobody else is in, so that a file can be shared with one child alone.

    Needs the right to set groups and none to change owners. None where there is nobody to share
    with: the run is not root's.
    """
    if os.geteuid() != 0:
        return None
    for low, high in ((2_000_000_000, 2_100_000_000), (60_200, 60_900)):
        candidate = random.randrange(low, high)
        try:
            os.setgroups(sorted({*os.getgroups(), candidate}))
        except OSError:
            continue  # not mapped in this user namespace
        return candidate
    return None


def close_all_but(*keep: int) -> None:
    """Close what a child inherited; 0, 1 and 2 become /dev/null."""
    start = 0
    for descriptor in sorted(fd for fd in keep if fd >= 0):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, 1 + max(open_files()))
    while True:
        descriptor = os.open("/dev/null", os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            return
        os.set_inheritable(descriptor, True)


def open_files() -> list[int]:
    """The descriptors of this process."""
    return [int(name) for name in os.listdir("/proc/self/fd")]


def send(descriptor: int, answer: dict[str, Any]) -> None:
    """One answer as a line of JSON."""
    data = json.dumps(answer).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


_TURN = 0.02  # how often something else is done while an answer is waited for


class Lines:
    """Answers of a child, line by line, with a time limit."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()  # select() knows no descriptor above 1023
        self._poll.register(descriptor, select.POLLIN)
        self._buffer = b""

    def next(self, timeout: float, meanwhile: Callable[[], object] | None = None) -> dict[str, Any]:
        """The next answer; {"error": ...} where none comes. `meanwhile` is called time and again
        until it is there."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                return {"error": f"no answer within {timeout:.0f} s"}
            turn = left if meanwhile is None else min(left, _TURN)
            if not self._poll.poll(turn * 1000):
                if meanwhile is not None:
                    meanwhile()
                continue
            data = os.read(self._descriptor, 1 << 16)
            if not data:
                return {"error": "the process of the agent's user ended early"}
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return dict(json.loads(line))


class Call:
    """One function run in a child of the agent's user; its answer is fetched later."""

    def __init__(
        self,
        identity: Identity,
        function: Callable[[], dict[str, Any]],
        extra_group: int | None = None,
    ) -> None:
        reader, writer = os.pipe()
        self._reader = reader
        self.pid = os.fork()
        if self.pid == 0:
            _run(identity, function, writer, extra_group)
        os.close(writer)

    def result(self, timeout: float) -> dict[str, Any]:
        """What the function returned, or {"error": ...}."""
        answer = Lines(self._reader).next(timeout)
        self.end()
        return answer

    def end(self) -> None:
        """The child is gone after this."""
        if not self.pid:
            return
        os.close(self._reader)
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pid = 0


def _run(
    identity: Identity,
    function: Callable[[], dict[str, Any]],
    writer: int,
    extra_group: int | None,
) -> NoReturn:
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        close_all_but(writer)
        become(identity, extra_group)
        send(writer, function())
    except (OSError, ValueError, TypeError, LookupError) as error:
        send(writer, {"error": f"{type(error).__name__}: {error}"})
    finally:  # whatever happened: the parent's code must not run here
        os._exit(0)
