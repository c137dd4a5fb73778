# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup would do with a home, before any exists. Reads; writes nothing."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import status as status_files
from .assemble import Assembly
from .classify import Classifier
from .config import BoxConfig
from .copies import Copy, Growing, RunDirectory
from .hold import RAW
from .look import Cache, Looker
from .losses import known_databases, losses
from .manifest import printable
from .privilege import lookup
from .profile import KEEP, SCRUB
from .secrets import Scanner
from .settings import described
from .survey import Candidate, Survey
from .walk import DIRECTORY, open_home


class _PaperFile(Growing):
    """A file that is not written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    def finish(self) -> Copy:
        return Copy(str(self._path), os.stat("/"))


class _Paper(RunDirectory):
    """A run directory that writes nothing."""

    def begin(self, name: str) -> Growing:
        return _PaperFile(self.path / name)

    def remove(self, copy: Copy) -> None:
        pass

    def write(self, name: str, data: bytes) -> Copy:
        return Copy(f"{self.path}/{name}", os.stat("/"))


def audit(
    config: BoxConfig, profile: Mapping[str, Any], *, everything: bool = False
) -> dict[str, Any]:
    """Every topmost entry, or really every one, with class and size, and what the scans say."""
    identity = lookup(config.user)
    home, descriptor = open_home(config.home, identity.uid)
    try:
        before = status_files.read(config.state_dir)
        survey = Survey(Classifier(profile), known_databases=known_databases(before), measure=True)
        scanner = Scanner(config.secret_patterns, config.accepted_findings)
        cache = Cache(Path(config.state_dir) / "files.cache", scanner.version)
        looker = Looker(descriptor, scanner, cache)
        assembly = Assembly(
            config=config,
            profile=profile,
            home=home,
            survey=survey,
            looker=looker,
            scanner=scanner,
            run_directory=_Paper(config.run_dir),
            feed=lambda paths, files: None,
        )
        survey.run(descriptor, assembly.take)
        assembly.guard()
        for database in survey.databases:
            if assembly.allow_database(database):
                assembly.allow_held(database, method=RAW, place=None)
        assembly.linked_entries()
        assembly.export_environments()
        assembly.fresh_entries()
        assembly.links_to_settings()
        assembly.not_sqlite()
        looker.close()
    finally:
        os.close(descriptor)
    rows: dict[tuple[str, str], list[int]] = {}
    for entry in [*survey.archived, *survey.dropped, *survey.secrets]:
        if entry.type == DIRECTORY or entry.path == "":
            continue
        key = (entry.classification, entry.path if everything else _topmost(entry))
        row = rows.setdefault(key, [0, 0])
        row[0] += 1
        row[1] += entry.size
    return {
        "agent": config.agent,
        "home": home,
        "profile": profile["name"],
        "profile_checked_versions": profile.get("checked_versions", []),
        "configuration": described(dataclasses.asdict(config), profile),
        "entries": [
            {"path": printable(path), "class": kind, "files": row[0], "bytes": row[1]}
            for (kind, path), row in sorted(rows.items(), key=lambda item: (item[0][0], item[0][1]))
        ],
        "counts": dict(survey.counts),
        "bytes": dict(survey.bytes),
        "databases": [
            {
                "path": printable(d.path),
                "journal_mode": d.header.journal_mode,
                "size": d.entry.size,
            }
            for d in survey.databases
        ],
        "unknown": assembly.unknown,
        "withheld": [printable(path) for path in assembly.withheld],
        "findings": assembly.findings,
        "to_be_supplied": assembly.to_be_supplied,
        "problems": [
            {"message": problem.message, "hint": problem.hint, "error": problem.error}
            for problem in [*assembly.problems, *losses(before, survey)]
        ],
        "troubles": [
            {"path": printable(t.path), "class": t.classification, "reason": t.reason}
            for t in survey.troubles
        ],
        "archived_files": survey.counts[KEEP] + survey.counts[SCRUB],
    }


def _topmost(entry: Candidate) -> str:
    first, slash, _rest = entry.path.partition("/")
    return first + slash
