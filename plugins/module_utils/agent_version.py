# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which version of the agent is installed. Runs as the agent's user: it reads what the agent owns."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_VERSION = re.compile(r"\d+(?:\.\d+)+(?:[-+.\w]*\w)?")
_TIMEOUT = 20


def search_path(home: str, user_home: str) -> str:
    """Where an agent's command may lie."""
    return os.pathsep.join(
        [
            f"{user_home}/.local/bin",
            f"{user_home}/bin",
            f"{home}/bin",
            f"{user_home}/.npm-global/bin",
            "/usr/local/bin",
            "/usr/bin",
            "/bin",
        ]
    )


def find(profile: Mapping[str, Any], home: str, user_home: str) -> dict[str, Any]:
    """{"version", "revision"} of the agent, each None where it cannot be told."""
    wanted = profile.get("version", {})
    path = search_path(home, user_home)
    command = [str(part) for part in wanted.get("command", [])]
    executable = shutil.which(command[0], path=path) if command else None
    version = None
    if executable:
        version = _python(executable, str(wanted.get("pip", ""))) or _npm(
            executable, str(wanted.get("npm", ""))
        )
        if version is None:
            version = _ask([executable, *command[1:]], user_home, path)
    checkout = wanted.get("checkout")
    return {
        "version": version,
        "revision": _revision(Path(home) / str(checkout)) if checkout else None,
    }


def _python(executable: str, package: str) -> str | None:
    """The version of a Python package, from the environment that the command's first line names."""
    if not package:
        return None
    try:
        with open(executable, "rb") as file:
            line = file.readline(512).decode("utf-8", "replace").strip()
    except OSError:
        return None
    if not line.startswith("#!"):
        return None
    interpreter = Path(line[2:].split()[0])
    name = re.sub(r"[-_.]+", "_", package)
    for found in sorted(
        interpreter.parent.parent.glob(f"lib/python3*/site-packages/{name}-*.dist-info")
    ):
        return found.name[len(name) + 1 : -len(".dist-info")]
    return None


def _npm(executable: str, package: str) -> str | None:
    """The version of an npm package, from the package.json above the command."""
    if not package:
        return None
    for folder in Path(os.path.realpath(executable)).parents:
        try:
            data = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if data.get("name") == package:
            return str(data.get("version"))
    return None


def _ask(command: Sequence[str], user_home: str, path: str) -> str | None:
    try:
        completed = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            env={"HOME": user_home, "PATH": path, "LC_ALL": "C.UTF-8"},
            cwd="/",
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(completed.stdout) if completed.returncode == 0 else None
    return match.group(0) if match else None


def _revision(checkout: Path) -> str | None:
    """The commit of a checkout, read from its files."""
    git = checkout / ".git"
    try:
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head[:40]
        reference = head[5:]
        loose = git / reference
        if loose.exists():
            return loose.read_text(encoding="utf-8").strip()[:40]
        for line in (git / "packed-refs").read_text(encoding="utf-8").splitlines():
            if line.endswith(" " + reference):
                return line[:40]
    except (OSError, UnicodeDecodeError):
        return None
    return None
