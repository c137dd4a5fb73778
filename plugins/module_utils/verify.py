# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing the last archive's listing in every repository with the manifest inside it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .borg import Borg
from .config import BoxConfig
from .errors import LifeboatError
from .listing import lossy
from .manifest import (
    DATABASE_COPY,
    DATABASES,
    ENVIRONMENT_NAME,
    HOME,
    NAME,
    SCRUBBED,
    SCRUBBED_COPY,
    parse,
    read_name,
)
from .targets import targets
from .walk import FIFO, SOCKET


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
    run = os.fsencode(config.run_dir.lstrip("/")) + b"/"
    wanted = _wanted(manifest, run)
    found = {item.path for item in borg.list_archive(archive.name)}
    rest = found - wanted - {run + os.fsencode(name) for name in (NAME, ENVIRONMENT_NAME)}
    missing = [path.decode("utf-8", "replace") for path in sorted(wanted - found)]
    export = manifest.get("export")
    if export:  # the manifest does not name these files, it counts them
        exported = {p for p in rest if p.startswith(os.fsencode(export["path"]) + b"/")}
        rest -= exported
        if len(exported) < export["files"]:
            missing.append(f"{export['path']}: {len(exported)} of {export['files']} files")
    unexpected = sorted(rest)
    return {
        "good": not missing and not unexpected,
        "archive": archive.name,
        "time": archive.time,
        "entries": len(found),
        "missing": missing[:5],
        "unexpected": [path.decode("utf-8", "replace") for path in unexpected[:5]],
    }


def _wanted(manifest: Mapping[str, Any], run: bytes) -> set[bytes]:
    """What the manifest says to be in the archive, each where it is stored."""
    places = {
        HOME: os.fsencode(str(manifest["agent"]["home_real"]).lstrip("/")),
        SCRUBBED_COPY: run + os.fsencode(SCRUBBED),
        DATABASE_COPY: run + os.fsencode(DATABASES),
    }
    wanted = {run + os.fsencode(ENVIRONMENT_NAME)} if manifest.get("environment") else set()
    for record in manifest["entries"]:
        if record["type"] not in (FIFO, SOCKET):
            place, path = places[record["stored"]], os.fsencode(read_name(record))
            wanted.add(lossy(place + b"/" + path if path else place))
    return wanted
