# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One call of agent_health: what is asked, what the phases share, and the answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .classify import Classifier
from .health_account import HealthError, Tools, account_of
from .health_agent import Agent, check_version, items
from .health_databases import Found, newest_of
from .health_drift import DRIFT_SHOWN, archive_drift
from .health_files import Home, open_home
from .health_sheet import Sheet, count, shown
from .privilege import Identity
from .restore_manifest import SIZE_LIMIT, RestoreError, RestoreManifest, parse
from .restore_partial import choose
from .secrets import Scanner
from .verdict import ANSWERS, DATA_PROVEN, EXTRACTED, FAILED, Check, level_of_call, seconds

RESTORED, STARTED, PRODUCTION = "restored", "started", "production"
TOPS_SHOWN: Final = 1000
PHASES: Final = (RESTORED, STARTED, PRODUCTION)


@dataclass(frozen=True)
class Thresholds:
    """What may differ, and by how much. Everything is exact by default."""

    rows_tolerance: int = 0
    scan_limit: int = 1 << 20
    newest_age: float | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Thresholds:
        unknown = sorted(set(given) - set(cls.__dataclass_fields__))
        if unknown:
            known = ", ".join(sorted(cls.__dataclass_fields__))
            raise HealthError(f"thresholds: unknown key {unknown[0]!r}", f"Known: {known}.")
        try:
            return cls(
                int(given.get("rows_tolerance", 0)),
                int(given.get("scan_limit", 1 << 20)),
                seconds(given.get("newest_age")),
            )
        except (TypeError, ValueError) as error:
            raise HealthError(
                f"thresholds: {error}", "Give numbers, or times such as 26h."
            ) from None


@dataclass(frozen=True)
class Request:
    """One call of agent_health."""

    home: str
    user: str
    profile: Mapping[str, Any]
    phase: str
    manifest: str = ""
    rewritten: frozenset[str] = frozenset()
    only: tuple[str, ...] = ()
    thresholds: Thresholds = Thresholds()
    timeout: float = 60.0
    work_directory: str = "/var/tmp"
    service: str = ""
    service_scope: str = "system"
    model: bool = False
    secret_patterns: Sequence[Mapping[str, str]] = ()
    accepted_findings: Sequence[Mapping[str, str]] = ()
    tools: Tools = field(default_factory=Tools)


@dataclass(frozen=True)
class Health:
    """The answer."""

    checks: tuple[Check, ...]
    newest: Mapping[str, str]
    drift: tuple[Mapping[str, str], ...]
    installed_version: str = ""
    contents: Mapping[str, Any] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        """Nothing failed, and something was asked."""
        return bool(self.checks) and not any(check.status == FAILED for check in self.checks)

    @property
    def level(self) -> int:
        return level_of_call(self.checks)

    @property
    def summary(self) -> str:
        counts = {
            status: sum(check.status == status for check in self.checks)
            for status in ("passed", "failed", "skipped")
        }
        text = f"{counts['passed']} of {counts['passed'] + counts['failed']} checks passed"
        if counts["skipped"]:
            text += f", {counts['skipped']} not tested"
        failed = [check.sentence() for check in self.checks if check.status == FAILED]
        return f"{text}; {failed[0]}" if failed else text

    def as_dict(self) -> dict[str, Any]:
        return {
            "healthy": self.healthy,
            "level": self.level,
            "summary": self.summary,
            "checks": [check.as_dict() for check in self.checks],
            "newest": dict(self.newest),
            "drift": [dict(item) for item in self.drift[:DRIFT_SHOWN]],
            "installed_version": self.installed_version,
            "contents": dict(self.contents),
        }


def read_manifest(path: str, only: Sequence[str] = ()) -> RestoreManifest:
    """The manifest, or the part of it that speaks of some paths; checked as untrusted input."""
    try:
        text = Path(path).read_bytes()
        name = str(json.loads(text.decode("utf-8", "surrogateescape"))["agent"]["name"])
        if len(text) > SIZE_LIMIT:
            raise HealthError(f"{path} is larger than any manifest.", "Restore another archive.")
        manifest = parse(text, name)
        return choose(manifest, only) if only else manifest
    except OSError as error:
        raise HealthError(
            f"{path}: {error.strerror}", "The manifest lies in the archive; restore puts it there."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise HealthError(f"{path} is no manifest: {error}", "Restore another archive.") from error
    except RestoreError as error:
        raise HealthError(error.message, error.hint) from error


class Examination:
    """What the phases share."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.sheet = Sheet(request.phase)
        self.account: Identity = account_of(request.user)
        self.classifier = Classifier(request.profile)
        self.scanner = Scanner(request.secret_patterns, request.accepted_findings)
        self.agent = Agent(
            self.account, request.home, request.profile, request.tools, request.timeout
        )
        self.manifest: RestoreManifest | None = None
        self.home: Home | None = None
        self.databases: list[Found] = []
        self.version = ""

    def open(self, needs_manifest: bool) -> bool:
        """Manifest and home; without them no other question makes sense."""
        level = {RESTORED: EXTRACTED, STARTED: ANSWERS, PRODUCTION: DATA_PROVEN}[self.request.phase]
        if needs_manifest or self.request.manifest:
            hint = "Without it nothing can be proven. Restore an archive that holds one."
            with self.sheet.check("manifest", level, "a manifest of this agent", hint) as draft:
                self.manifest = read_manifest(self.request.manifest, self.request.only)
                draft.found = f"{self.manifest.archive or 'no archive name'}, "
                draft.found += count(len(self.manifest.entries), "entry", "entries")
        hint = "Is the path right? Restore the agent, or name its home."
        with self.sheet.check("home", level, "a folder", hint) as draft:
            self.home = open_home(self.request.home)
            draft.found = shown(self.home.path)
        return not any(check.status == FAILED for check in self.sheet.checks)

    def check_version(self, *, required: bool) -> None:
        self.version = check_version(
            self.sheet,
            self.agent,
            self.manifest.agent.version if self.manifest else "",
            required,
        )

    def check_silent(self, asked: int) -> None:
        """An agent that nobody can ask anything is not proven to answer."""
        if not asked:
            with self.sheet.check("agent_answers", ANSWERS, "an answer of the agent") as draft:
                draft.skip("the profile has no command, service or HTTP check for this phase")

    def close(self) -> None:
        if self.home is not None:
            self.home.close()

    def health(self) -> Health:
        return Health(
            tuple(self.sheet.checks),
            newest_of(self.databases),
            tuple(self.drift()),
            self.version,
            self.contents(),
        )

    def contents(self) -> dict[str, Any]:
        """What lies in the home, in outline, to compare a live home with an archived one."""
        if self.home is None:
            return {}
        tops = sorted({path.split("/", 1)[0] for path in self.home.entries if path})
        return {
            "entries": len(self.home.entries),
            "tops": [shown(name) for name in tops[:TOPS_SHOWN]],
            "databases": [item.path for item in self.databases],
            "dated": [item.path for item in self.databases if item.newest],
        }

    def drift(self) -> list[Mapping[str, str]]:
        if self.manifest is None or self.request.only or self.request.phase == PRODUCTION:
            return []
        return archive_drift(self.manifest, self.classifier, self.version)


def services_of(request: Request) -> list[Mapping[str, Any]]:
    """In a drill the service is the one that the drill made, not the one of production."""
    if request.service:
        return [{"unit": request.service, "scope": request.service_scope}]
    health = request.profile.get("health") or {}
    return items(health.get("service")) if request.phase == PRODUCTION else []
