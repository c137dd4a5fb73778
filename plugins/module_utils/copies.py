# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The private run directory: scrubbed copies, exported names, copied databases, the manifest.

The only bytes that a backup writes outside of the repository; they go away with the run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from .errors import CouldNotRun, LifeboatError
from .manifest import DATABASES, ENVIRONMENT_NAME, NAME, SCRUBBED

_OWN_NAMES = (SCRUBBED, DATABASES, "export", NAME, ENVIRONMENT_NAME)


class Copy:
    """A file of the run directory, as the archive's listing has to show it."""

    __slots__ = ("any_size", "gid", "mode", "mtime_ns", "path", "seen", "size", "uid")

    def __init__(self, path: str, status: os.stat_result) -> None:
        self.path = path
        self.mode = status.st_mode
        self.uid = status.st_uid
        self.gid = status.st_gid
        self.size = status.st_size
        self.mtime_ns = status.st_mtime_ns
        self.any_size = False
        self.seen = False


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LifeboatError(
            f"{path}: {error.strerror}",
            hint="is there room for scrubbed copies and databases in the run directory?",
        ) from error


class Growing:
    """A file of the run directory that is written bit by bit."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _told(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            self._file = os.fdopen(descriptor, "wb")

    def write(self, data: bytes) -> None:
        """The next bytes."""
        with _told(self._path):
            self._file.write(data)

    def close(self) -> None:
        """No more is written."""
        with _told(self._path):
            self._file.close()

    def finish(self) -> Copy:
        """The file as it is now, for the archive."""
        self.close()
        return Copy(str(self._path), os.lstat(self._path))


class RunDirectory:
    """Private, empty at the beginning, empty at the end."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def prepare(self) -> None:
        """Make it, and remove what a killed run left."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.clean()
        except OSError as error:
            raise CouldNotRun(f"{self.path}: {error.strerror}", hint="run as root") from error

    def clean(self) -> None:
        """Remove what is ours and nothing else."""
        for name in _OWN_NAMES:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        os.chown(self.path, -1, os.getegid())
        os.chmod(self.path, 0o700)

    def begin(self, name: str) -> Growing:
        """A new file, readable by its owner alone."""
        return Growing(self.path / name)

    def write(self, name: str, data: bytes) -> Copy:
        """A new file of this content, readable by its owner alone."""
        growing = self.begin(name)
        growing.write(data)
        return growing.finish()

    def remove(self, copy: Copy) -> None:
        """A copy that is not archived after all."""
        with contextlib.suppress(OSError):
            os.unlink(copy.path)

    def place_for_database(self, path: str, group: int | None) -> Path:
        """An empty file for a database's copy; `group` is one that only its writer is in."""
        place = self.path / DATABASES / path
        with _told(place):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
            if group is not None:
                self._share(place, group)
        return place

    def share(self, folder: Path, group: int | None) -> None:
        """A new folder in which the members of a group may write."""
        with _told(folder):
            folder.mkdir(mode=0o700)
            if group is not None:
                self._open_way(folder, group)
                os.chmod(folder, 0o1770)  # sticky: what one member makes no other can replace

    def _share(self, path: Path, group: int) -> None:
        os.chown(path, -1, group)
        os.chmod(path, 0o640)
        self._open_way(path.parent, group)

    def _open_way(self, path: Path, group: int) -> None:
        for folder in (path, *path.parents):
            if folder != self.path and self.path not in folder.parents:
                break
            os.chown(folder, -1, group)
            os.chmod(folder, 0o710)

    def finished_database(self, place: Path) -> Copy:
        """The copy, ours alone again."""
        status = os.lstat(place)
        if not stat.S_ISREG(status.st_mode):
            raise LifeboatError(f"{place}: is not the file that was made there")
        return Copy(str(place), status)
