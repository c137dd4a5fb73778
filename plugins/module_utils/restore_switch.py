# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The staging folder and the one step in which the new home takes its place.

The staging folder lies beside the home, on the same file system, and belongs to root. Its
state file says how far a restore came, so that a run that was killed is completed by the next.
Which tree stands in the home is decided by inode numbers written down before the rename,
never by what a run remembers having done.

Not guaranteed: a single step on a file system without RENAME_EXCHANGE (ZFS before 2.2). There
the old home is moved aside and the new one moved in, two renames apart, and the next run
completes what was cut between them; the result says which way was used.
"""

from __future__ import annotations

import ctypes
import datetime
import errno
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .restore_manifest import RestoreError
from .restore_note import ENDING, is_spent
from .restore_tree import exists, opened, remove

STATE = "state.json"
DONE = ".done"
GIVING_UP = "abandon"  # the kind of a restore of paths that is being put back
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
STEPS = ("extracting", "extracted", "staged", "switching", "switched")

RenameAt = Callable[[int, str, int, str, int], None]


@dataclass(frozen=True)
class State:
    """How far it came. Written whole, by rename, before each step that cannot be undone.

    The home is the one that was really meant, with no symbolic link on the way.
    """

    agent: str
    home: str
    archive: str
    archive_id: str
    step: str
    kind: str = "restore"
    only: tuple[str, ...] = ()
    new_inode: int = 0
    old_inode: int = 0
    moved_aside: str = ""
    started: str = ""
    switched: str = ""
    flawed: bool = False  # borg warned: what was extracted may not be all
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def cut_among_paths(self) -> bool:
        """Some paths may have been exchanged, others not: what is staged may be the home's own."""
        switching = self.kind == "restore" and self.step == "switching"
        return self.kind == GIVING_UP or (switching and bool(self.only))

    def at(self, step: str, **changes: Any) -> State:
        if step == "switched":
            now = datetime.datetime.now(datetime.timezone.utc)
            changes["switched"] = now.isoformat(timespec="seconds")
        return replace(self, step=step, **changes)


def renameat2(from_fd: int, source: str, to_fd: int, destination: str, flags: int) -> None:
    """rename(2) that exchanges or refuses to replace; the standard library has neither."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    names = (os.fsencode(source), os.fsencode(destination))
    if library.renameat2(from_fd, names[0], to_fd, names[1], ctypes.c_uint(flags)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), source, None, destination)


def staging_name(agent: str) -> str:
    return f".lifeboat-restore-{agent}"


def stamp(now: datetime.datetime) -> str:
    return now.astimezone(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")


def open_staging(parent: int, agent: str, create: bool = False) -> int:
    """The staging folder, only if it is root's own (or ours, where a test runs unprivileged)."""
    name = staging_name(agent)
    if create and exists(name, parent) is None:
        os.mkdir(name, 0o700, dir_fd=parent)
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode):
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=parent)
        found = os.fstat(descriptor)
        if found.st_uid == os.geteuid():
            return descriptor
        os.close(descriptor)
    raise RestoreError(
        f"{name!r} beside the home is not a staging folder that root made "
        f"(owner {found.st_uid}, mode {stat.filemode(found.st_mode)}).",
        "Look at it, move it away by hand, and run again.",
    )


def read_state(staging: int) -> State | None:
    """None where nothing was begun. What cannot be read is never taken for that."""
    try:
        descriptor = os.open(STATE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=staging)
    except FileNotFoundError as error:
        if exists("home", staging) is None:
            return None
        raise _unreadable(staging, "it is missing") from error
    except OSError as error:
        raise _unreadable(staging, os.strerror(error.errno or 0)) from error
    with os.fdopen(descriptor, encoding="utf-8") as stream:
        try:
            return _state_of(json.load(stream))
        except (ValueError, TypeError, OSError) as error:
            raise _unreadable(staging, str(error)) from error


def _state_of(raw: Any) -> State:
    if not isinstance(raw, dict) or raw.get("step") not in STEPS:
        raise ValueError("it names no step of a restore")
    known = {key: raw[key] for key in State.__dataclass_fields__ if key in raw}
    known["only"] = tuple(known.get("only", ()))
    pattern = State("", "", "", "", "")
    for key, value in known.items():
        if type(value) is not type(getattr(pattern, key)):
            raise ValueError(f"its {key} is {value!r}")
    return State(**known)


def _unreadable(staging: int, why: str) -> RestoreError:
    folder = os.readlink(f"/proc/self/fd/{staging}")
    return RestoreError(
        f"The note {folder}/{STATE} of an unfinished restore cannot be read: {why}. What lies "
        "beside it may be the home that was in use. Nothing was changed.",
        f"Look into {folder}/home. If the place of the home is empty, or that is the home that you "
        f"want, put it there by hand. Then move {folder} away and run again.",
    )


def write_state(staging: int, state: State) -> State:
    """On disk before the step it announces begins."""
    temporary = f"{STATE}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=staging)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(asdict(state), stream, indent=1)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(temporary, STATE, src_dir_fd=staging, dst_dir_fd=staging)
    os.fsync(staging)
    return state


def flush_file_system(descriptor: int) -> None:
    """What the new home holds is on disk before its name is."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "syncfs") or library.syncfs(descriptor) != 0:
        os.sync()


@dataclass(frozen=True)
class Switched:
    changed: bool
    moved_aside: str
    method: str


class Switch:
    """One restored home takes the place of what stands there, which is moved aside whole."""

    def __init__(
        self,
        parent: int,
        name: str,
        staging: int,
        state: State,
        rename: RenameAt = renameat2,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.timezone.utc),
    ) -> None:
        self.parent = parent
        self.name = name
        self.staging = staging
        self.state = state
        self.rename = rename
        self.now = now

    def run(self, replace_home: bool) -> Switched:
        if self.state.step == "switched":
            return Switched(False, self.state.moved_aside, "earlier run")
        if self.state.step != "switching":
            self._announce(replace_home)
        method = self._complete()
        os.fsync(self.parent)
        self.state = write_state(self.staging, self.state.at("switched"))
        return Switched(True, self.state.moved_aside, method)

    def _announce(self, replace_home: bool) -> None:
        new = exists("home", self.staging)
        if new is None or not stat.S_ISDIR(new.st_mode):
            raise RestoreError(
                "Nothing is staged: there is no restored home to switch to.",
                "Run the restore again; it begins with the extraction.",
            )
        old = exists(self.name, self.parent)
        if old is not None and not stat.S_ISDIR(old.st_mode):
            raise RestoreError(
                f"{self.state.home!r} is not a folder.", "Move it away by hand and run again."
            )
        aside = ""
        if old is not None and not self._empty():
            if not replace_home:
                raise RestoreError(
                    f"The home {self.state.home!r} is not empty.",
                    "Give -e replace=true: it is then moved aside whole, never deleted.",
                )
            word = "undone" if self.state.kind == "undo" else "before"
            aside = f"{self.name}.{word}-{stamp(self.now())}"
            if exists(aside, self.parent) is not None:  # twice within a second
                raise RestoreError(f"{aside!r} exists already.", "Run again in a second.")
        flush_file_system(self.staging)
        self.state = write_state(
            self.staging,
            self.state.at(
                "switching",
                new_inode=new.st_ino,
                old_inode=old.st_ino if old is not None else 0,
                moved_aside=aside,
            ),
        )

    def _empty(self) -> bool:
        with opened(self.name, self.parent) as home:
            return not os.listdir(home)

    def _inode(self, name: str, parent: int) -> int:
        found = exists(name, parent)
        return found.st_ino if found is not None else 0

    def _complete(self) -> str:
        """From wherever the last run stopped; every step looks before it acts."""
        method = "rename"
        if self._inode(self.name, self.parent) != self.state.new_inode:
            method = self._put_in_place()
        if self.state.moved_aside and self._inode("home", self.staging) == self.state.old_inode:
            self.rename(self.staging, "home", self.parent, self.state.moved_aside, RENAME_NOREPLACE)
        return method

    def _put_in_place(self) -> str:
        try:
            if not self.state.moved_aside:
                os.rename("home", self.name, src_dir_fd=self.staging, dst_dir_fd=self.parent)
                return "rename"
            if self._inode(self.name, self.parent) == 0:  # cut between the two renames
                os.rename("home", self.name, src_dir_fd=self.staging, dst_dir_fd=self.parent)
                return "two renames"
            return self._exchange()
        except OSError as error:
            raise self._explain(error) from error

    def _exchange(self) -> str:
        try:
            self.rename(self.staging, "home", self.parent, self.name, RENAME_EXCHANGE)
            return "exchange"
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
        os.rename(self.name, self.state.moved_aside, src_dir_fd=self.parent, dst_dir_fd=self.parent)
        os.rename("home", self.name, src_dir_fd=self.staging, dst_dir_fd=self.parent)
        return "two renames"

    def _explain(self, error: OSError) -> RestoreError:
        hints = {
            errno.EBUSY: "The home is a mount point. Restore into a folder below it, or unmount it "
            "and restore with the mount point's file system mounted elsewhere.",
            errno.EXDEV: "The home and the folder it lies in are on different file systems; "
            "a switch in one step is not possible there.",
            errno.ENOTEMPTY: "Something wrote into the home while it was being restored: stop the "
            "agent, then run again with -e replace=true.",
        }
        return RestoreError(
            f"The restored home could not take its place: {os.strerror(error.errno or 0)}.",
            hints.get(error.errno or 0, "The old home still stands. Solve the reason, run again."),
            errno=error.errno,
        )


def moved_aside_homes(parent: int, name: str, word: str = "before") -> list[str]:
    """Homes that a restore moved aside and that an undo can put back, newest first.

    With the word "undone" those that an undo took away.
    """
    prefix = f"{name}.{word}-"
    found = []
    for item in os.listdir(parent):
        status = exists(item, parent) if item.startswith(prefix) else None
        if status is not None and stat.S_ISDIR(status.st_mode):
            found.append(item)
    if word == "before":
        found = [item for item in found if not _holds_nothing(item, name, parent)]
    return sorted(found, reverse=True)


def _holds_nothing(item: str, name: str, parent: int) -> bool:
    """A folder for single paths that nothing was ever moved to; a home is one, however empty."""
    own = os.stat(item, dir_fd=parent, follow_symlinks=False).st_uid == os.geteuid()
    return own and item.endswith(ENDING) and is_spent(parent, item, name)


def stage_undo(parent: int, name: str, agent: str, home: str, wanted: str = "") -> State:
    """The home that was moved aside becomes what the next switch puts in place."""
    staging = open_staging(parent, agent, create=True)
    try:
        state = read_state(staging)
        if state is None or state.kind != "undo":
            if exists("home", staging) is not None:
                raise RestoreError(
                    "An unfinished restore lies in the staging folder.",
                    "Finish it by running it again, or throw it away with -e abandon=true.",
                )
            chosen = aside_to_put_back(parent, name, wanted)
            state = write_state(staging, State(agent, home, chosen, "", "extracting", kind="undo"))
        if state.step != "extracting":
            return state
        if exists("home", staging) is None:
            os.rename(state.archive, "home", src_dir_fd=parent, dst_dir_fd=staging)
        return write_state(staging, state.at("staged"))
    finally:
        os.close(staging)


def aside_to_put_back(parent: int, name: str, wanted: str = "") -> str:
    """The home that an undo of today puts back: the newest, or the one that was named."""
    if not wanted:
        _refuse_second_undo(parent, name)
    return _choose(moved_aside_homes(parent, name), wanted)


def _refuse_second_undo(parent: int, name: str) -> None:
    """Asked once more without a name, it would go back behind an earlier restore as well."""
    times = {
        word: [home.partition(f".{word}-")[2] for home in moved_aside_homes(parent, name, word)]
        for word in ("before", "undone")
    }
    if times["undone"] and times["undone"][0] > max(times["before"], default=""):
        left = ", ".join(moved_aside_homes(parent, name)) or "none"
        raise RestoreError(
            f"The last restore is undone already: {name!r} is what it was before it.",
            f"To go further back, name the home with -e archive=NAME. There are: {left}.",
        )


def _choose(homes: list[str], wanted: str) -> str:
    if wanted and wanted not in homes:
        raise RestoreError(
            f"There is no home moved aside under the name {wanted!r}.",
            f"What is there: {', '.join(homes) or 'none'}.",
            available=homes,
        )
    if not homes:
        raise RestoreError(
            "There is no home that was moved aside, so nothing to go back to.",
            "A restore into an empty place moves nothing aside.",
        )
    return wanted or homes[0]


def clear_staging(parent: int, agent: str) -> bool:
    """Remove the staging folder. A home waiting to be moved aside is never removed with it."""
    remove(f"{staging_name(agent)}{DONE}", parent)  # left by a run that was cut while removing
    if exists(staging_name(agent), parent) is None:
        return False
    staging = open_staging(parent, agent)
    try:
        state = read_state(staging)
        held = exists("home", staging)
        if held is not None and state is not None and _is_precious(held.st_ino, state):
            raise RestoreError(
                "The staging folder holds a home that was in use.",
                "Run the same restore (or undo) again: it completes the switch and puts that "
                "home aside under its own name.",
            )
    finally:
        os.close(staging)
    # Renamed first: what is half removed must not be taken for an unfinished restore.
    os.rename(
        staging_name(agent), f"{staging_name(agent)}{DONE}", src_dir_fd=parent, dst_dir_fd=parent
    )
    remove(f"{staging_name(agent)}{DONE}", parent)
    return True


def _is_precious(inode: int, state: State) -> bool:
    return state.kind == "undo" or inode == state.old_inode or state.cut_among_paths


def describe(state: State | None) -> Mapping[str, Any] | None:
    """The state without its long report."""
    return asdict(replace(state, report={})) if state is not None else None
