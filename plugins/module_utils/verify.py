# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing the last archive's listing in every repository with the manifest inside it."""

from __future__ import annotations

import os
from typing import Any

from .borg import Borg
from .config import BoxConfig
from .errors import LifeboatError
from .listing import lossy
from .manifest import NAME, parse, read_name
from .targets import targets


def verify(config: BoxConfig) -> dict[str, Any]:
    """{"good", "repositories": {name: {...}}}"""
    repositories = {}
    for target in targets(config):
        try:
            repositories[target.config.name] = _one(config, target.borg)
        except LifeboatError as error:
            repositories[target.config.name] = {
                "good": False,
                "error": error.message,
                "hint": error.hint,
                "failure": error.failure,
            }
    good = all(item["good"] for item in repositories.values())
    return {"agent": config.agent, "good": good, "repositories": repositories}


def _one(config: BoxConfig, borg: Borg) -> dict[str, Any]:
    archives = [a for a in borg.list_archives().archives if a.name.startswith(f"{config.agent}-")]
    if not archives:
        return {"good": False, "error": "no archive", "hint": "run lifeboat backup"}
    archive = archives[-1]
    place = f"{config.run_dir.lstrip('/')}/{NAME}"
    manifest = parse(borg.extract(archive.name, [place], to_stdout=True).stdout)
    home = os.fsencode(str(manifest["agent"]["home_real"]).lstrip("/"))
    wanted = set()
    for record in manifest["entries"]:
        if record["stored"] == "home" and record["type"] not in ("fifo", "socket"):
            path = os.fsencode(read_name(record))
            wanted.add(lossy(home + b"/" + path if path else home))
    found = {item.path for item in borg.list_archive(archive.name)}
    run = os.fsencode(config.run_dir.lstrip("/")) + b"/"
    missing = sorted(wanted - found)
    unexpected = sorted(path for path in found - wanted if not path.startswith(run))
    return {
        "good": not missing and not unexpected,
        "archive": archive.name,
        "time": archive.time,
        "entries": len(found),
        "missing": [path.decode("utf-8", "replace") for path in missing[:5]],
        "unexpected": [path.decode("utf-8", "replace") for path in unexpected[:5]],
    }
