# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sheet on which checks are written down, each with its time and its first offenders."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .health_account import HealthError, WorkFailed
from .verdict import FAILED, OFFENDERS_SHOWN, PASSED, SKIPPED, Check


def shown(path: str) -> str:
    """A path that any terminal and any JSON reader can take."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def count(number: int, noun: str, plural: str = "") -> str:
    """1 file, 2 files."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


@dataclass
class Draft:
    """A check while it is being asked. Without an offender it passes."""

    expected: str
    hint: str
    found: str = ""
    tolerance: str = "none"
    offenders: list[str] = field(default_factory=list)
    failed: bool = False
    skipped: bool = False

    def offend(self, *offenders: str) -> None:
        self.offenders.extend(shown(offender) for offender in offenders)

    def fail(self, found: str) -> None:
        self.failed, self.found = True, found

    def skip(self, reason: str) -> None:
        """Not tested, and why; never counted as proof."""
        self.skipped, self.found = True, reason

    @property
    def status(self) -> str:
        if self.failed or self.offenders:
            return FAILED
        return SKIPPED if self.skipped else PASSED


class Sheet:
    """All checks of one call, in the order in which they were asked."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.checks: list[Check] = []

    @contextlib.contextmanager
    def check(self, name: str, level: int, expected: str, hint: str = "") -> Iterator[Draft]:
        """One check. A question that cannot be asked to its end has failed."""
        draft = Draft(expected, hint)
        begin = time.monotonic()
        try:
            yield draft
        except (HealthError, WorkFailed, OSError) as error:
            draft.fail(f"{draft.found + ': ' if draft.found else ''}{error}")
        self.add(name, level, draft, time.monotonic() - begin)

    def add(self, name: str, level: int, draft: Draft, duration: float = 0.0) -> None:
        self.checks.append(
            Check(
                name=name,
                level=level,
                status=draft.status,
                expected=draft.expected,
                found=draft.found or ("as expected" if draft.status == PASSED else "see offenders"),
                tolerance=draft.tolerance,
                duration=round(duration, 3),
                offenders=tuple(draft.offenders[:OFFENDERS_SHOWN]),
                offenders_count=len(draft.offenders),
                hint=draft.hint if draft.status == FAILED else "",
                phase=self.phase,
            )
        )

    def compare(
        self,
        name: str,
        level: int,
        noun: str,
        total: int,
        offenders: Iterable[str],
        hint: str,
        tolerance: str = "",
    ) -> None:
        """A check over many things that all have to agree."""
        with self.check(name, level, f"{count(total, noun)} as archived", hint) as draft:
            draft.offend(*offenders)
            draft.tolerance = tolerance
            agree = total - len(draft.offenders)
            draft.found = f"{max(agree, 0):,} of {total:,} agree"
