# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands on the target before a restore: the home, who uses it, what was begun there."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .restore_manifest import RestoreError, show
from .restore_switch import (
    describe,
    moved_aside_homes,
    open_staging,
    read_state,
    split_home,
    staging_name,
)
from .restore_tree import Owners, exists, opened, tree_size

FIRST = 5


@dataclass(frozen=True)
class Holder:
    """A process that uses something below the home."""

    pid: int
    user: str
    command: str
    path: str


def holders(home: str, proc: str = "/proc") -> list[Holder]:
    """Processes with a file or their working folder below the home."""
    found = []
    for pid in _pids(proc):
        path = _path_below(home, f"{proc}/{pid}")
        if path:
            found.append(Holder(pid, _owner(f"{proc}/{pid}"), _command(f"{proc}/{pid}"), path))
    return found


def processes_of(uid: int, proc: str = "/proc") -> list[Holder]:
    """Processes of the agent's user: any of them could write into the home."""
    found = []
    for pid in _pids(proc):
        with suppress(FileNotFoundError, ProcessLookupError):
            if os.stat(f"{proc}/{pid}").st_uid == uid:
                found.append(Holder(pid, _owner(f"{proc}/{pid}"), _command(f"{proc}/{pid}"), ""))
    return found


def _pids(proc: str) -> list[int]:
    own = os.getpid()
    return sorted(int(name) for name in os.listdir(proc) if name.isdigit() and int(name) != own)


def _path_below(home: str, process: str) -> str:
    for link in _links(process):
        with suppress(OSError):
            path = os.readlink(link).removesuffix(" (deleted)")
            if path == home or path.startswith(home + "/"):
                return path
    return ""


def _links(process: str) -> Iterator[str]:
    yield f"{process}/cwd"
    with suppress(OSError):
        for name in os.listdir(f"{process}/fd"):
            yield f"{process}/fd/{name}"


def _owner(process: str) -> str:
    try:
        return pwd.getpwuid(os.stat(process).st_uid).pw_name
    except (KeyError, OSError):
        return "?"


def _command(process: str) -> str:
    try:
        words = Path(process, "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "?"
    return b" ".join(words).decode("utf-8", "replace").strip()[:200]


@dataclass(frozen=True)
class Target:
    """The place of a home on this host, and what a restore must know about it."""

    home: str
    home_real: str
    parent_exists: bool
    exists: bool
    empty: bool
    entries: int
    bytes: int
    is_mount: bool
    bytes_free: int
    user: str
    user_exists: bool
    holders: tuple[Holder, ...]
    processes: tuple[Holder, ...]
    moved_aside: tuple[str, ...]
    pending: dict[str, Any] | None

    @property
    def in_mid_switch(self) -> bool:
        """An earlier run was cut in its last step: the only way is forward."""
        return (self.pending or {}).get("step") in ("switching", "switched")

    def report(self) -> dict[str, Any]:
        return {**asdict(self), "in_mid_switch": self.in_mid_switch}


def examine(home: str, user: str, agent: str, proc: str = "/proc") -> Target:
    """Look, change nothing."""
    parent, name = split_home(home)
    account = account_of(user)
    parent_exists = os.path.isdir(parent)
    is_there = os.path.lexists(f"{parent}/{name}")
    entries = size = 0
    if os.path.isdir(f"{parent}/{name}"):
        with opened(f"{parent}/{name}") as descriptor:
            entries, size = tree_size(descriptor)
    free = os.statvfs(parent) if parent_exists else None
    return Target(
        home=home,
        home_real=f"{parent}/{name}",
        parent_exists=parent_exists,
        exists=is_there,
        empty=is_there and entries == 0,
        entries=entries,
        bytes=size,
        is_mount=os.path.ismount(f"{parent}/{name}"),
        bytes_free=free.f_bavail * free.f_frsize if free else 0,
        user=user,
        user_exists=account is not None,
        holders=tuple(holders(f"{parent}/{name}", proc)),
        processes=tuple(processes_of(account.pw_uid, proc)) if account else (),
        moved_aside=tuple(_moved_aside(parent, name)) if parent_exists else (),
        pending=_pending(parent, agent) if parent_exists else None,
    )


def _moved_aside(parent: str, name: str) -> list[str]:
    with opened(parent) as descriptor:
        return moved_aside_homes(descriptor, name)


def _pending(parent: str, agent: str) -> dict[str, Any] | None:
    with opened(parent) as descriptor:
        if exists(staging_name(agent), descriptor) is None:
            return None
        staging = open_staging(descriptor, agent)
        try:
            state = describe(read_state(staging))
        finally:
            os.close(staging)
    return dict(state) if state else {"step": "unknown"}


def pending_step(home: str, agent: str) -> str:
    """How far an unfinished restore came; "none" when there is none."""
    parent, _unused = split_home(home)
    found = _pending(parent, agent) if os.path.isdir(parent) else None
    return str(found["step"]) if found else "none"


def account_of(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return None


def why_not(target: Target, replace: bool, needed: int = 0) -> RestoreError | None:
    """The reason a restore must not begin, with the way out; None when it may."""
    if not target.user_exists:
        return RestoreError(
            f"The user {target.user!r} does not exist on the target.",
            "Make it first (the role agent does, or useradd), or let the restore make the box: "
            "-e new_box=true.",
        )
    if (target.pending or {}).get("kind") == "undo":
        return RestoreError(
            "An undo was interrupted and is not complete.", "Complete it first: -e undo=true."
        )
    if not target.parent_exists:
        return RestoreError(
            f"The folder that {target.home!r} lies in does not exist on the target.",
            f"Make it, owned by {target.user}, or give another place in the inventory.",
        )
    if target.is_mount:
        return RestoreError(
            f"{target.home_real!r} is a mount point; a home that is one cannot be switched "
            "in one step.",
            "Put the home into a folder below the mount point, or unmount it first.",
        )
    if target.exists and not target.empty and not replace and not target.in_mid_switch:
        return RestoreError(
            f"The home {target.home!r} on the target is not empty: {target.entries} entries, "
            f"{target.bytes} bytes.",
            "Give -e replace=true: it is then moved aside whole, never deleted. "
            "Give -e dry_run=true to see what would change.",
            entries=target.entries,
            bytes=target.bytes,
        )
    if needed > target.bytes_free:
        return RestoreError(
            f"{needed} bytes are needed beside {target.home!r}, {target.bytes_free} are free.",
            "Make room, or restore to a path on a larger file system.",
            needed=needed,
            free=target.bytes_free,
        )
    return None


def why_busy(target: Target) -> RestoreError | None:
    """The reason a home must not be switched now: somebody uses it."""
    if not target.holders:
        return None
    named = [
        f"{item.pid} ({item.user}: {item.command}) has {show(item.path)}"
        for item in target.holders[:FIRST]
    ]
    return RestoreError(
        f"{len(target.holders)} processes still use the home: {'; '.join(named)}.",
        "Stop them (a unit with Restart=always comes back: stop the unit, not the process), "
        "then run again.",
        holders=[asdict(item) for item in target.holders],
    )


def owners(user: str, archived_uid: int | None, archived_gid: int | None) -> Owners:
    """The agent's user on the target stands for the archived one."""
    account = account_of(user)
    if account is None:
        raise RestoreError(f"The user {user!r} does not exist.", "Make it first.")
    groups = frozenset(os.getgrouplist(user, account.pw_gid))
    return Owners(
        archived_uid=archived_uid,
        archived_gid=archived_gid,
        uid=account.pw_uid,
        gid=account.pw_gid,
        user_id=lambda name: found.pw_uid if (found := account_of(name)) else None,
        group_id=_group_id,
        allowed_groups=groups | ({0} if account.pw_uid == 0 else frozenset()),
    )


def _group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
