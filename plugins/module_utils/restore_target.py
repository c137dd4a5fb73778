# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands on the target before a restore: the home, who uses it, what was begun there."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .restore_manifest import RestoreError, show
from .restore_pending import Wish
from .restore_place import Place, looked_at, missing, name_both, safe_place
from .restore_switch import (
    State,
    describe,
    moved_aside_homes,
    open_staging,
    read_state,
    staging_name,
)
from .restore_tree import Owners, exists, occupied, opened, tree_size

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
    bytes_staged: int
    user: str
    user_exists: bool
    holders: tuple[Holder, ...]
    processes: tuple[Holder, ...]
    moved_aside: tuple[str, ...]
    pending: State | None
    standing: int

    @property
    def named(self) -> str:
        return name_both(self.home, self.home_real)

    def goes_on(self, archive_id: str = "", only: Sequence[str] = ()) -> bool:
        """An earlier run of this very restore was cut in its last step: the only way is forward."""
        wish = Wish(self.home_real, archive_id, tuple(only))
        return self.pending is not None and wish.goes_on_with(self.pending, self.standing)

    def report(self, archive_id: str = "", only: Sequence[str] = ()) -> dict[str, Any]:
        return {
            **asdict(self),
            "pending": describe(self.pending),
            "in_mid_switch": self.goes_on(archive_id, only),
        }


def examine(home: str, user: str, agent: str, proc: str = "/proc") -> Target:
    """Look, change nothing. What root must not even look into for this user is refused."""
    account = account_of(user)
    with looked_at(home) as place:
        refusal = place.why_not(user, account.pw_uid) if account else None
        if refusal:
            raise refusal
        entries, size = _size(place)
        pending, staged = _pending(place, agent)
        free = os.fstatvfs(place.descriptor) if place.parent_exists else None
        return Target(
            home=home,
            home_real=place.real,
            parent_exists=place.parent_exists,
            exists=place.uid is not None,
            empty=place.uid is not None and entries == 0,
            entries=entries,
            bytes=size,
            is_mount=os.path.ismount(place.real),
            bytes_free=free.f_bavail * free.f_frsize if free else 0,
            bytes_staged=staged,
            user=user,
            user_exists=account is not None,
            holders=tuple(holders(place.real, proc)),
            processes=tuple(processes_of(account.pw_uid, proc)) if account else (),
            moved_aside=tuple(_moved_aside(place)),
            pending=pending,
            standing=standing(place),
        )


def _size(place: Place) -> tuple[int, int]:
    found = exists(place.name, place.descriptor) if place.parent_exists else None
    if found is None or not stat.S_ISDIR(found.st_mode):
        return (0, 0) if found is None else (1, found.st_size)
    with opened(place.name, place.descriptor) as home:
        return tree_size(home)


def _moved_aside(place: Place) -> list[str]:
    return moved_aside_homes(place.descriptor, place.name) if place.parent_exists else []


def standing(place: Place) -> int:
    """The inode of what stands in the home's place, 0 for nothing."""
    found = exists(place.name, place.descriptor) if place.parent_exists else None
    return found.st_ino if found else 0


def _pending(place: Place, agent: str) -> tuple[State | None, int]:
    """How far an unfinished restore came, and the bytes that its staging folder holds."""
    if not place.parent_exists or exists(staging_name(agent), place.descriptor) is None:
        return None, 0
    staging = open_staging(place.descriptor, agent)
    try:
        return read_state(staging), occupied(staging)
    finally:
        os.close(staging)


def pending_step(
    home: str, user: str, agent: str, archive_id: str = "", only: Sequence[str] = ()
) -> str:
    """How far an unfinished restore came; "none" when there is none to go on with."""
    with safe_place(home, user) as place:
        if not place.parent_exists or exists(staging_name(agent), place.descriptor) is None:
            return "none"
        staging = open_staging(place.descriptor, agent)
        try:
            state = read_state(staging)
        finally:
            os.close(staging)
        wish = Wish(place.real, archive_id, tuple(only))
        if state is None:
            return "unknown"
        afresh = archive_id and not wish.has_extracted(state, standing(place))
        return "none" if afresh else state.step


def account_of(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return None


def why_not(
    target: Target,
    replace: bool,
    needed: int = 0,
    archive_id: str = "",
    only: Sequence[str] = (),
) -> RestoreError | None:
    """The reason a restore must not begin, with the way out; None when it may."""
    if not target.user_exists:
        return RestoreError(
            f"The user {target.user!r} does not exist on the target.",
            "Make it first (the role agent does, or useradd), or let the restore make the box: "
            "-e new_box=true.",
        )
    wish = Wish(target.home_real, archive_id, tuple(only))
    refusal = wish.refusal(target.pending) if target.pending else None
    if refusal:
        return refusal
    if not target.parent_exists:
        return missing(target.named, target.user)
    if target.is_mount:
        return RestoreError(
            f"{target.named} is a mount point; a home that is one cannot be switched in one step.",
            "Put the home into a folder below the mount point, or unmount it first.",
        )
    if target.exists and not (target.empty or replace or target.goes_on(archive_id, only)):
        return RestoreError(
            f"The home {target.named} on the target is not empty: {target.entries} entries, "
            f"{target.bytes} bytes.",
            "Give -e replace=true: it is then moved aside whole, never deleted. "
            "Give -e dry_run=true to see what would change.",
            entries=target.entries,
            bytes=target.bytes,
        )
    if target.pending and wish.has_extracted(target.pending, target.standing):
        return None
    free = target.bytes_free + target.bytes_staged
    if needed > free:
        return RestoreError(
            f"{needed} bytes are needed beside {target.named}, {free} are free"
            + (
                f", with the {target.bytes_staged} of the unfinished restore"
                * bool(target.bytes_staged)
            )
            + ".",
            "Make room, or restore to a path on a larger file system.",
            needed=needed,
            free=free,
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
