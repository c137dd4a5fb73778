# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies where on a box, as lists that the module root_files takes."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .fleet import known_hosts

ETC = "/etc/lifeboat"
STATE = "/var/lib/lifeboat"
LIBRARY = "/usr/local/lib/lifeboat"
PACKAGE = f"{LIBRARY}/lifeboat"
ENTRY = "cli"


class BoxError(Exception):
    """The code of the box is not complete."""


def directories(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """All directories that the agents of one box need, parents first."""
    found = {ETC: "0755", f"{ETC}/agents": "0755", STATE: "0755"}
    for entry in entries:
        own, state = f"{ETC}/agents/{entry['agent']}", f"{STATE}/{entry['agent']}"
        found.update({own: "0750", f"{own}/repositories": "0700", state: "0750"})
        for repository in entry["repositories"]:
            here = f"{own}/repositories/{repository['name']}"
            there = f"{state}/{repository['name']}"
            found.update(
                {here: "0700", f"{here}/keys": "0700", there: "0700", f"{there}/borg": "0700"}
            )
    return [{"path": path, "mode": mode} for path, mode in found.items()]


def pins(entry: Mapping[str, Any], escrow: Mapping[str, Any]) -> list[dict[str, str]]:
    """The files with the pinned host keys of an agent's repositories."""
    return [
        {
            "path": f"{ETC}/agents/{entry['agent']}/repositories/{repository['name']}/known_hosts",
            "content": known_hosts(
                repository["address"],
                repository["port"],
                escrow["repositories"][repository["name"]]["host_keys"],
            ),
        }
        for repository in entry["repositories"]
    ]


def engine(directory: str, entry: str = ENTRY) -> list[dict[str, str]]:
    """The Python files that the command on the box imports, and no others."""
    source = Path(directory)
    wanted, found = [entry], {"__init__": ""}
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        path = source / f"{name}.py"
        if not path.is_file():
            raise BoxError(f"{path} is missing: the collection is not complete. Install it again.")
        found[name] = path.read_text(encoding="utf-8")
        wanted += _imports(found[name], path)
    return [
        {"path": f"{PACKAGE}/{name}.py", "content": content}
        for name, content in sorted(found.items())
    ]


def _imports(content: str, path: Path) -> list[str]:
    """Name the modules beside this one that it imports, ``from .x import y`` or ``from . import x``."""
    names: list[str] = []
    try:
        tree = ast.parse(content)
    except SyntaxError as error:
        raise BoxError(f"{path} cannot be read as Python: {error}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names += [node.module.split(".")[0]] if node.module else [a.name for a in node.names]
    return names
