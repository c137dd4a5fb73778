# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder that a home lies in, reached without being led astray.

The agent's user owns folders on the way to its home, so a symbolic link there may be the agent's,
and root works where the way ends. The way is walked folder by folder, each opened inside the one
before; what is judged and what is then worked on is the same open folder.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from .restore_manifest import RestoreError

LINK_LIMIT = 40
SYSTEM_FOLDERS = tuple(
    f"/{name}" for name in "bin boot dev etc lib lib32 lib64 libx32 proc run sbin sys usr".split()
)
NEVER_A_HOME = ("/home", "/media", "/mnt", "/opt", "/root", "/srv", "/tmp", "/var", "/var/lib")
OURS_BELOW_USR = "/usr/local/"
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True)
class Folder:
    path: str
    uid: int
    shut: bool  # nobody but root could have put something else there
    descriptor: int


@dataclass(frozen=True)
class Link:
    path: str
    target: str
    shut: bool


@dataclass(frozen=True)
class Place:
    """Where a home is, or will be. The descriptor is that of its folder, when there is one."""

    home: str
    parent: str
    name: str
    folders: tuple[Folder, ...]
    links: tuple[Link, ...]
    uid: int | None
    descriptor: int

    @property
    def real(self) -> str:
        return os.path.join(self.parent, self.name)

    @property
    def parent_exists(self) -> bool:
        return self.descriptor >= 0

    @property
    def named(self) -> str:
        return name_both(self.home, self.real)

    def why_not(self, user: str, uid: int) -> RestoreError | None:
        """The reason why root must not work here for this user; None when it may."""
        return self._led_astray(user, uid) or self._in_system() or self._of_others(user, uid)

    def _led_astray(self, user: str, uid: int) -> RestoreError | None:
        """A link that not only root could have placed leads into the agent's own folders alone."""
        loose = next((link for link in self.links if not link.shut), None)
        owners = {self.folders[-1].uid, self.uid if self.uid is not None else uid}
        if loose is None or (uid != 0 and owners == {uid}):
            return None
        return RestoreError(
            f"The home {self.home!r} leads through the link {loose.path!r} (to {loose.target!r}) "
            f"to {self.real!r}. {self._ownership()} Others than root could have placed that link, "
            f"so it may only lead to what belongs to {user!r}.",
            f"If the home belongs there, give {self.real!r} as its home in the inventory; if not, "
            f"remove the link.",
        )

    def _ownership(self) -> str:
        folder = self.folders[-1]
        said = f"{folder.path!r} belongs to {owner(folder.uid)}"
        if self.uid is not None:
            said += f", {self.real!r} to {owner(self.uid)}"
        return f"{said}."

    def _in_system(self) -> RestoreError | None:
        inside = any(f"{self.real}/".startswith(f"{folder}/") for folder in SYSTEM_FOLDERS)
        ours = self.real.startswith(OURS_BELOW_USR)
        if self.real not in NEVER_A_HOME and (not inside or ours):
            return None
        return RestoreError(
            f"{self.named} is, or lies in, a folder of the system, where no home belongs.",
            "Give another home in the inventory"
            + (f", or remove the link {self.links[0].path!r}." if self.links else "."),
        )

    def _of_others(self, user: str, uid: int) -> RestoreError | None:
        owned = [(folder.path, folder.uid) for folder in self.folders]
        if self.uid is not None:
            owned.append((self.real, self.uid))
        for path, found in owned:
            if found not in (0, uid):
                return RestoreError(
                    f"The way to the home {self.named} leads through {path!r}, which belongs to "
                    f"{owner(found)}, neither to {user!r} nor to root.",
                    f"Give it to {user!r} (chown) if it is the agent's, or restore to another place.",
                )
        return None


def name_both(home: str, real: str) -> str:
    return f"{home!r}" if home == real else f"{home!r} (really {real!r})"


def owner(uid: int) -> str:
    try:
        return repr(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return f"the unknown user {uid}"


@contextlib.contextmanager
def looked_at(home: str) -> Iterator[Place]:
    """The place as it is, not yet judged."""
    with contextlib.ExitStack() as stack:
        yield _Walk(home, stack).run()


@contextlib.contextmanager
def safe_place(home: str, user: str) -> Iterator[Place]:
    """The place, where root may work for this user."""
    with looked_at(home) as place:
        try:
            uid = pwd.getpwnam(user).pw_uid
        except KeyError as error:
            raise RestoreError(f"The user {user!r} does not exist.", "Make it first.") from error
        refusal = place.why_not(user, uid)
        if refusal:
            raise refusal
        yield place


@contextlib.contextmanager
def opened_place(home: str, user: str) -> Iterator[Place]:
    """The place, where root may work for this user; its folder is there."""
    with safe_place(home, user) as place:
        if not place.parent_exists:
            raise missing(place.named, user)
        yield place


def missing(named: str, user: str) -> RestoreError:
    return RestoreError(
        f"The folder that {named} lies in does not exist on the target.",
        f"Make it, owned by {user}, or give another place in the inventory.",
    )


class _Walk:
    """From the root to a home, one name at a time."""

    def __init__(self, home: str, stack: contextlib.ExitStack) -> None:
        self.home = home
        self.stack = stack
        self.links: list[Link] = []
        self.waiting = home.split("/")[::-1]
        self.folders = [self._folder("/", self._keep(os.open("/", _LOOK)), True)]

    def run(self) -> Place:
        while self.waiting:
            part = self.waiting.pop()
            if part == "..":
                del self.folders[max(1, len(self.folders) - 1) :]
            elif part not in ("", "."):
                try:
                    found = self._keep(os.open(part, _LOOK, dir_fd=self.folders[-1].descriptor))
                except FileNotFoundError:
                    return self._not_there(part)
                except NotADirectoryError:
                    return self._without_folder(part)
                self._step(part, found)
        if len(self.folders) == 1:
            raise RestoreError(f"{self.home!r} cannot be a home.", "Give the agent's own folder.")
        there = self.folders.pop()
        return self._place(os.path.basename(there.path), there.uid)

    def _step(self, part: str, found: int) -> None:
        here = self.folders[-1]
        path = os.path.join(here.path, part)
        status = os.fstat(found)
        shut = here.shut and _shut(os.fstat(here.descriptor), status)
        if not stat.S_ISLNK(status.st_mode):
            self.folders.append(self._folder(path, found, shut))
            return
        target = os.readlink("", dir_fd=found)
        self.links.append(Link(path, target, shut))
        if len(self.links) > LINK_LIMIT:
            raise RestoreError(
                f"{self.home!r} leads through more than {LINK_LIMIT} links.",
                f"Look at {path!r}; give the agent's own folder.",
            )
        if target.startswith("/"):
            del self.folders[1:]
        self.waiting += target.split("/")[::-1]

    def _not_there(self, part: str) -> Place:
        if all(name in ("", ".") for name in self.waiting):
            return self._place(part, None)
        return self._without_folder(part)

    def _without_folder(self, part: str) -> Place:
        rest = "/".join([self.folders[-1].path, part, *self.waiting[::-1]])
        parent, name = os.path.split(os.path.normpath(rest))
        return Place(self.home, parent, name, tuple(self.folders), tuple(self.links), None, -1)

    def _place(self, name: str, uid: int | None) -> Place:
        parent = self.folders[-1]
        descriptor = self._keep(os.open(".", _OPEN, dir_fd=parent.descriptor))
        folders, links = tuple(self.folders), tuple(self.links)
        return Place(self.home, parent.path, name, folders, links, uid, descriptor)

    def _folder(self, path: str, descriptor: int, shut: bool) -> Folder:
        return Folder(path, os.fstat(descriptor).st_uid, shut, descriptor)

    def _keep(self, descriptor: int) -> int:
        self.stack.callback(os.close, descriptor)
        return descriptor


def _shut(folder: os.stat_result, entry: os.stat_result) -> bool:
    """Whether nobody but root could have placed this entry in this folder."""
    open_to_others = folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    kept_by_owner = folder.st_mode & stat.S_ISVTX and entry.st_uid == 0
    return folder.st_uid == 0 and bool(not open_to_others or kept_by_owner)
