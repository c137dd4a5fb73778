# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent's own export, for what no rule can separate: databases that hold secrets and memories.

The profile names the commands. They run as the agent's user and write into a folder below the
private run directory that nobody else can reach. Without the export there is no backup: an archive
that silently lacks the memories, or holds the secrets, is worse than a failure that says so.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .agent_version import search_path
from .copies import Copy, RunDirectory
from .errors import LifeboatError
from .manifest import printable
from .privilege import Call, Identity

NAME = "export"
_TIMEOUT = 900.0
_LAST_WORDS = 400


class Export:
    """The export of one run."""

    def __init__(
        self,
        rule: Mapping[str, Any],
        *,
        profile: str,
        home: str,
        identity: Identity,
        run_directory: RunDirectory,
        group: int | None,
    ) -> None:
        self._rule = rule
        self._profile = profile
        self._home = home
        self._identity = identity
        self._group = group
        self._folder = run_directory.path / NAME
        self._place = self._folder / "data"
        run_directory.share(self._folder, group)

    def make(self) -> None:
        """Run the commands; raises with the profile's reason where that does not work."""
        timeout = float(self._rule.get("timeout", _TIMEOUT))
        answer = Call(self._identity, self._run, self._group).result(timeout + 30)
        failure = str(answer.get("error") or "")
        if failure:
            raise LifeboatError(
                f"profile {self._profile}: {self._rule['reason']}; the export failed: {failure}",
                hint=str(self._rule.get("hint", "")),
            )
        missing = [
            name
            for name in (*self._rule.get("expect", []), *answer.get("expect", []))
            if not (self._place / name).is_file()
        ]
        if missing:
            said = str(answer.get("said") or "")
            raise LifeboatError(
                f"profile {self._profile}: the export has no {', '.join(missing)}"
                + (f"; its last words: {said}" if said else ""),
                hint=str(self._rule.get("hint", "")),
            )

    def files(self) -> Iterator[Copy]:
        """What was exported. Links and special files are left out."""
        skip = set(self._rule.get("skip", []))
        for folder, names, files, descriptor in os.fwalk(self._place, follow_symlinks=False):
            names[:] = sorted(name for name in names if name not in skip)
            for name in sorted(files):
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield Copy(f"{folder}/{name}", status)

    def clean(self) -> None:
        """Its owner removes it: root may read it, but has no right to write there."""
        Call(self._identity, self._remove, self._group).result(60)

    def describe(self, files: int) -> dict[str, Any]:
        """The manifest's record."""
        return {
            "path": printable(str(self._place).lstrip("/")),
            "commands": [" ".join(map(str, command)) for command in self._rule["commands"]],
            "files": files,
        }

    # -- as the agent's user ----------------------------------------------------------------------

    def _run(self) -> dict[str, Any]:
        os.umask(0o077)
        self._place.mkdir(mode=0o700)
        path = search_path(self._home, self._identity.home)
        executable = str(self._rule.get("executable", ""))
        if executable and shutil.which(executable, path=path) is None:
            return {"error": f"{executable} is not installed for {self._identity.name}"}
        environment = {"HOME": self._identity.home, "PATH": path, "LC_ALL": "C.UTF-8"}
        for name, value in self._rule.get("environment", {}).items():
            environment[name] = str(value).replace("{home}", self._home)
        said = ""
        for command in self._rule["commands"]:
            argv = [str(part).replace("{export}", str(self._place)) for part in command]
            try:
                completed = subprocess.run(
                    argv,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=float(self._rule.get("timeout", _TIMEOUT)),
                    env=environment,
                    cwd=self._place,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return {"error": str(error)}
            if completed.returncode:
                words = (completed.stderr or completed.stdout).strip()[-_LAST_WORDS:]
                return {"error": f"{' '.join(argv[:4])} ended with {completed.returncode}: {words}"}
            said = (completed.stderr or completed.stdout).strip()[-_LAST_WORDS:]
        return {"expect": self._expected(), "said": said}

    def _expected(self) -> list[str]:
        """What the export has to hold for each of certain files of the home.

        An agent's command may succeed without what it could not read.
        """
        wanted = []
        for pattern, name in self._rule.get("expect_each", {}).items():
            before, after = pattern.split("*")
            for path in Path(self._home).glob(pattern):
                found = str(path.relative_to(self._home))
                wanted.append(name.replace("*", found[len(before) : len(found) - len(after)]))
        return sorted(wanted)

    def _remove(self) -> dict[str, Any]:
        shutil.rmtree(self._place, ignore_errors=True)
        return {"left": Path(self._place).exists()}
