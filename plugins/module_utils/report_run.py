# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a run to its verdict: success, warning or failed, with what to do first."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from .assemble import KEPT, Problem
from .databases import HeldDatabase
from .losses import contents
from .manifest import printable
from .status import CONTENTS, FAILED, FORMAT, SUCCESS, WARNING, utc
from .survey import Survey
from .targets import Target

_PRECIOUS = ("keep", "scrub", "unknown")


@dataclasses.dataclass(frozen=True)
class Run:
    """What is known when a run ends, however it ended."""

    agent: str
    archive: str
    begun: datetime.datetime
    seconds: float
    targets: Sequence[Target]
    survey: Survey | None
    databases: Sequence[HeldDatabase]
    unknown: Sequence[Mapping[str, str]]
    findings: int
    outside: Sequence[Mapping[str, str]]
    problems: Sequence[Problem]


def verdict(run: Run, before: Mapping[str, Any]) -> dict[str, Any]:
    """The status of a run; `before` is that of the last one."""
    made = [target for target in run.targets if target.created is not None]
    problems = [*run.problems, *_walk_problems(run.survey)]
    problems += [Problem(True, t.error.message, t.error.hint) for t in run.targets if t.error]
    if not made and not any(problem.error for problem in problems):
        problems.append(Problem(True, "no archive was made", "see the journal"))
    problems.sort(key=lambda problem: not problem.error)
    result = SUCCESS
    if problems and problems[0].error:
        result = FAILED
    elif problems or any(item["decision"] != KEPT for item in run.unknown):
        result = WARNING
    attempt = utc(run.begun)
    first = problems[0] if problems else Problem(False, "")
    return {
        "format": FORMAT,
        "agent": run.agent,
        "last_attempt": attempt,
        "last_success": before.get("last_success") if result == FAILED else attempt,
        CONTENTS: before.get(CONTENTS)
        if result == FAILED or run.survey is None
        else contents(run.survey, run.databases),
        "result": result,
        "archive": run.archive if made else None,
        "archive_id": made[0].created.archive_id if made and made[0].created else None,
        "duration": round(run.seconds, 3),
        "repositories": {target.config.name: target.as_dict() for target in run.targets},
        "counts": dict(run.survey.counts) if run.survey else {},
        "bytes": dict(run.survey.bytes) if run.survey else {},
        "databases": [
            {
                "path": printable(item.path),
                "method": item.method,
                "checkpoint": item.held.checkpoint,
                "quick_check": item.check,
            }
            for item in run.databases
        ],
        "unknown": list(run.unknown),
        "findings_count": run.findings,
        "outside": list(run.outside),
        "problems": [dataclasses.asdict(problem) for problem in problems],
        "message": first.message,
        "hint": first.hint,
    }


def _walk_problems(survey: Survey | None) -> list[Problem]:
    """What could not be looked at, where it would have been archived."""
    return [
        Problem(
            not trouble.vanished,
            f"{printable(trouble.path)}: {trouble.reason}",
            "" if trouble.vanished else "check its permissions and the disk",
        )
        for trouble in (survey.troubles if survey else [])
        if trouble.classification in _PRECIOUS
    ]
