# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of one agent on its box: config.json and profile.json, read once, checked once."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import CouldNotRun

AGENTS_DIRECTORY = Path("/etc/lifeboat/agents")
FORMAT = 1
UNKNOWN_POLICIES = ("keep", "drop", "refuse")
DATABASE_MODES = ("checkpoint", "read-only")


@dataclasses.dataclass(frozen=True)
class RepositoryConfig:
    """One repository as the box sees it; secrets are named by path, never held here."""

    name: str
    url: str
    id: str
    keys_dir: str
    base_dir: str
    passphrase_file: str = ""
    passphrase_credential: str = ""
    ssh_key: str = ""
    known_hosts: str = ""

    def passphrase_path(self, environ: Mapping[str, str]) -> str:
        """The credential of the unit when there is one, else the root-only file (by hand)."""
        directory = environ.get("CREDENTIALS_DIRECTORY")
        if directory and self.passphrase_credential:
            candidate = os.path.join(directory, self.passphrase_credential)
            if os.path.exists(candidate):
                return candidate
        return self.passphrase_file


@dataclasses.dataclass(frozen=True)
class BoxConfig:
    """config.json of one agent."""

    agent: str
    user: str
    home: str
    profile: str
    repositories: tuple[RepositoryConfig, ...]
    state_dir: str
    run_dir: str
    host: str = ""
    unknown: str = "keep"
    database_mode: str = "checkpoint"
    compression: str = "zstd,3"
    chunker_params: str = "fixed,32768"
    lock_wait: int = 600
    metrics_file: str | None = None
    ping_url: str | None = None
    secret_patterns: tuple[Mapping[str, str], ...] = ()
    accepted_findings: tuple[Mapping[str, str], ...] = ()
    borg: str = "/usr/local/bin/lifeboat-borg"


def _fields(cls: type, data: Mapping[str, Any], where: str) -> dict[str, Any]:
    known = {field.name: field for field in dataclasses.fields(cls)}
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise CouldNotRun(
            f"{where}: unknown key {', '.join(unknown)}",
            hint=f"known keys: {', '.join(sorted(known))}",
        )
    missing = sorted(
        name
        for name, field in known.items()
        if field.default is dataclasses.MISSING and name not in data
    )
    if missing:
        raise CouldNotRun(f"{where}: missing key {', '.join(missing)}")
    return dict(data)


def parse(data: Mapping[str, Any], where: str) -> BoxConfig:
    """A checked configuration out of the decoded JSON."""
    values = dict(data)
    if values.pop("format", None) != FORMAT:
        raise CouldNotRun(
            f"{where}: format is not {FORMAT}", hint="roll out again with playbooks/site.yml"
        )
    repositories = tuple(
        RepositoryConfig(**_fields(RepositoryConfig, item, f"{where}: repositories[{number}]"))
        for number, item in enumerate(values.get("repositories", []))
    )
    if not repositories:
        raise CouldNotRun(f"{where}: no repository", hint="roll out again with playbooks/site.yml")
    values = _fields(BoxConfig, values, where)
    values["repositories"] = repositories
    for key in ("secret_patterns", "accepted_findings"):
        values[key] = tuple(values.get(key) or ())
    config = BoxConfig(**values)
    for value, allowed, key in (
        (config.unknown, UNKNOWN_POLICIES, "unknown"),
        (config.database_mode, DATABASE_MODES, "database_mode"),
    ):
        if value not in allowed:
            raise CouldNotRun(f"{where}: {key} is {value!r}", hint=f"one of {', '.join(allowed)}")
    for key in ("home", "state_dir", "run_dir"):
        if not os.path.isabs(getattr(config, key)):
            raise CouldNotRun(f"{where}: {key} is not an absolute path")
    return config


def read_json(path: Path) -> Any:
    """The decoded file, or an error that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CouldNotRun(
            f"{path}: {error.strerror}", hint="run as root; roll out with playbooks/site.yml"
        ) from error
    except ValueError as error:
        raise CouldNotRun(f"{path}: not valid JSON: {error}") from error


def load(agent: str, directory: Path = AGENTS_DIRECTORY) -> BoxConfig:
    """The configuration of an agent of this box."""
    path = directory / agent / "config.json"
    if not path.exists() and path.parent.parent.is_dir():
        known = ", ".join(agents(directory)) or "none"
        raise CouldNotRun(f"no agent {agent!r} on this box", hint=f"known: {known}")
    return parse(read_json(path), str(path))


def agents(directory: Path = AGENTS_DIRECTORY) -> list[str]:
    """The agents this box backs up."""
    try:
        return sorted(path.parent.name for path in directory.glob("*/config.json"))
    except OSError:
        return []
