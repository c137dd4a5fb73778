# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep many small files and directories of root in one go.

A box needs some fifty files; one task each costs a round trip each, on every box, in every run.
Meant for places that only root can write to: nothing here guards against a hostile parent.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class FilesError(Exception):
    """Something is in the way."""


@dataclass(frozen=True)
class Directory:
    """A directory of root."""

    path: str
    mode: str = "0755"


@dataclass(frozen=True)
class File:
    """A file of root."""

    path: str
    content: str
    mode: str = "0644"


@dataclass(frozen=True)
class Exact:
    """A directory in which no other file with this ending may be."""

    directory: str
    suffix: str


@dataclass
class Result:
    """What was changed, in order."""

    changed_paths: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)

    def as_return(self) -> dict[str, Any]:
        """Shape it as a module returns it."""
        return {
            "changed": bool(self.changed_paths),
            "changed_paths": self.changed_paths,
            "diff": self.diff,
        }


class RootFiles:
    """Brings files and directories into shape; decides first, so that check mode tells the same."""

    def __init__(self, *, check_mode: bool, uid: int = 0, gid: int = 0) -> None:
        self._check_mode = check_mode
        self._owner = (uid, gid)
        self._result = Result()

    def ensure(
        self, directories: Iterable[Directory], files: Iterable[File], exact: Iterable[Exact] = ()
    ) -> Result:
        """Directories first, in the given order, then files, then what has no business there."""
        wanted = list(files)
        for directory in directories:
            self._directory(directory)
        for file in wanted:
            self._file(file)
        for rule in exact:
            self._remove_others(rule, {file.path for file in wanted})
        return self._result

    def _directory(self, directory: Directory) -> None:
        path = Path(directory.path)
        mode = int(directory.mode, 8)
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise FilesError(f"{path} is not a directory. Move it away, then run again.")
        if not path.exists():
            self._change(str(path), "absent\n", f"directory {mode:04o}\n")
            if self._check_mode:
                return
            path.mkdir()
        self._attributes(path, mode)

    def _file(self, file: File) -> None:
        path = Path(file.path)
        mode = int(file.mode, 8)
        if path.is_dir():
            raise FilesError(f"{path} is a directory. Move it away, then run again.")
        before = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
        if before == file.content and not path.is_symlink():
            self._attributes(path, mode)
            return
        self._change(str(path), before or "", file.content)
        if not self._check_mode:
            self._replace(path, file.content, mode)

    def _attributes(self, path: Path, mode: int) -> None:
        status = path.lstat()
        found = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
        wanted = (*self._owner, mode)
        if found == wanted:
            return
        if str(path) not in self._result.changed_paths:
            self._change(str(path), f"{_show(found)}\n", f"{_show(wanted)}\n")
        if not self._check_mode:
            os.chown(path, *self._owner)
            path.chmod(mode)

    def _replace(self, path: Path, content: str, mode: int) -> None:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(content)
                stream.flush()
                os.fchown(stream.fileno(), *self._owner)
                os.fchmod(stream.fileno(), mode)
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _remove_others(self, rule: Exact, wanted: set[str]) -> None:
        directory = Path(rule.directory)
        if not directory.is_dir():
            return
        for path in sorted(directory.iterdir()):
            if path.name.endswith(rule.suffix) and str(path) not in wanted:
                self._change(str(path), "present\n", "absent\n")
                if not self._check_mode:
                    path.unlink()

    def _change(self, path: str, before: str, after: str) -> None:
        self._result.changed_paths.append(path)
        self._result.diff.append(
            {"before_header": path, "after_header": path, "before": before, "after": after}
        )


def _show(found: tuple[int, int, int]) -> str:
    return f"{found[0]}:{found[1]} {found[2]:04o}"
