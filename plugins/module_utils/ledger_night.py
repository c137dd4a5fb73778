# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One night of custody over one repository: everything that is known goes in, a decision comes out.

The order of doubt: a ledger that cannot be trusted, findings of earlier nights that nobody
has resolved, an audit that found something, a list of archives that is not as it should be.
While there is any of these, nothing is deleted, nothing is compacted and the accepted state
stays what it was, because that is what a rollback goes back to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .audit import OF_DELETIONS
from .ledger import Ledger, Line, View, contains, moment, view
from .ledger_watch import FINDINGS, Limits, Listed, Watch, watch
from .retention import Plan, Policy, compaction_reason, deletions_pause, plan

RECOVERED = "deleted by a run that ended before it could say so"
BY_HAND = "deleted by hand, says an operator"


@dataclass(frozen=True)
class Settings:
    """What the inventory says about custody."""

    policy: Policy = field(default_factory=Policy)
    limits: Limits = field(default_factory=Limits)
    compact_every: timedelta = timedelta(days=14)
    compact_delay: timedelta = timedelta(days=3)
    check_every: timedelta = timedelta(hours=20)


@dataclass(frozen=True)
class Seen:
    """What was seen of the repository tonight."""

    repository_id: str
    listed: tuple[Listed, ...]
    times: Mapping[str, str]
    counts: Mapping[str, int]  # findings of the audit, by kind
    audit: str  # its summary
    audit_findings: tuple[Mapping[str, Any], ...] = ()
    compacting: bool = False  # the audit found a compaction that was interrupted
    unreadable: str = ""  # why the archives could not be listed
    head: Mapping[str, Any] = field(default_factory=dict)  # of the ledger, as the host kept it
    proved: tuple[str, ...] = ()  # ids of the archives that successful drills restored


@dataclass(frozen=True)
class Night:
    """The decision."""

    findings: list[dict[str, Any]]
    blocked: str | None
    recovering: bool  # a killed run or an operator deleted; accepted once the rest checks out
    recovered: list[dict[str, str]]  # those archives
    plan: Plan
    compact: bool
    compact_reason: str
    check: bool
    verify: bool  # with all data: only these prove what has returned, or is left by an operator
    names: dict[str, str]

    @property
    def accept(self) -> bool:
        """Whether tonight's state may become the accepted one."""
        return self.blocked is None

    @property
    def summary(self) -> str:
        """One sentence."""
        if self.blocked:
            return f"NOTHING IS DELETED: {self.blocked}"
        words = f"{len(self.plan.keep)} archives stay, {len(self.plan.deletions)} go"
        if self.plan.quarantined:
            words += f", {len(self.plan.quarantined)} are in quarantine"
        return words + (f" ({self.plan.stopped})" if self.plan.stopped else "")

    def to_dict(self) -> dict[str, Any]:
        result = asdict(self)
        result["accept"] = self.accept
        result["plan"]["deletions"] = [
            {"id": one.id, "name": one.name, "reason": one.reason} for one in self.plan.deletions
        ]
        return result


def decide(
    book: Ledger,
    lines: list[Line],
    seen: Seen,
    settings: Settings,
    *,
    now: datetime,
    adopt: bool = False,
) -> tuple[Night, list[Line]]:
    """Decide, and say which lines the ledger gets for it. Writes nothing."""
    known = view(lines)
    trust = _ledger_findings(lines, seen, adopt)
    entries: list[tuple[str, Mapping[str, Any]]] = []
    if known.repository_id is None and not trust and not seen.unreadable:
        reason = "adopted" if seen.head.get("sequence") else ""
        entries.append(("begin", {"repository_id": seen.repository_id, "reason": reason}))
    watched = Watch()
    if not trust and not seen.unreadable:
        watched = _watch(known, seen, settings, now)
        entries += [line for line in watched.lines() if not _told(known, line)]
    findings = [*trust, *watched.findings]
    explained = bool(known.deleting) and set(seen.counts) <= OF_DELETIONS
    recovering = explained and bool(seen.counts or known.by_hand)
    if seen.counts and not recovering:
        found = {
            "kind": "audit",
            "meaning": seen.audit,
            "counts": dict(seen.counts),
            "objects": [dict(one) for one in seen.audit_findings[:10]],
        }
        findings.append(found)
        if not _told(known, ("finding", found)):
            entries.append(("finding", found))
    unproved = {archive.id for archive in known.standing if not archive.proved}
    entries += [("proved", {"id": one}) for one in seen.proved if one in unproved]
    added = book.preview(lines, now, *entries)
    recovered = [
        {"id": identity, "reason": BY_HAND if identity in known.by_hand else RECOVERED}
        for identity in watched.removed
    ]
    later = [("removed", {"archives": recovered})] if recovered else []
    after = view([*lines, *book.preview(lines, now, *entries, *later)])
    return _night(after, seen, settings, now, findings, recovering, recovered), added


def _watch(known: View, seen: Seen, settings: Settings, now: datetime) -> Watch:
    return watch(
        known,
        seen.listed,
        repository_id=seen.repository_id,
        now=now,
        times=seen.times,
        limits=settings.limits,
    )


def _told(known: View, line: tuple[str, Mapping[str, Any]]) -> bool:
    """The same finding, night after night, is one line."""
    kind, data = line
    if kind != "finding":
        return False
    return any({**open_, "time": ""} == {**data, "time": ""} for open_ in known.findings)


def _ledger_findings(lines: list[Line], seen: Seen, adopt: bool) -> list[dict[str, Any]]:
    if contains(lines, seen.head) or not seen.head:
        return []
    kind = "ledger-cut" if lines else "ledger-lost"
    if kind == "ledger-lost" and adopt:
        return []
    detail = f"the host knows line {seen.head.get('sequence')}, here are {len(lines)}"
    return [{"kind": kind, "meaning": FINDINGS[kind][0], "detail": detail}]


def _night(
    after: View,
    seen: Seen,
    settings: Settings,
    now: datetime,
    findings: list[dict[str, Any]],
    recovering: bool,
    recovered: list[dict[str, str]],
) -> Night:
    blocked = _blocked(after, seen, findings)
    timing = _timing(after, settings, now)
    due, reason = compaction_reason(**timing)
    hold = blocked
    if hold is None and recovering:
        hold = (
            "archives were deleted outside of a whole night: first it is made sure that this is all"
        )
    if hold is None and seen.compacting:
        hold = "a compaction was interrupted: first its outcome is accepted"
    if hold is None:
        hold = deletions_pause(**timing)
    checked = _moment(after.last_check.get("archives"))
    return Night(
        findings=findings,
        blocked=blocked,
        recovering=recovering,
        recovered=recovered,
        plan=plan(after.standing, settings.policy, hold=hold),
        compact=due and blocked is None and not recovering,
        compact_reason=blocked or reason,
        verify=recovering and bool("returned" in seen.counts or after.by_hand),
        check=recovering or checked is None or now - checked >= settings.check_every,
        names=after.names(),
    )


def retention_refused(known: View, settings: Settings, now: datetime) -> str | None:
    """What retention refuses to delete by itself, night after night, as far as the ledger knows."""
    hold = "findings come first" if known.findings else None
    hold = hold or deletions_pause(**_timing(known, settings, now))
    return plan(known.standing, settings.policy, hold=hold).refused


def _timing(known: View, settings: Settings, now: datetime) -> dict[str, Any]:
    return {
        "now": now,
        "last_compaction": _moment(known.last_compaction),
        "last_deletion": _moment(known.last_deletion),
        "began": _moment(known.began) or now,
        "every": settings.compact_every,
        "delay": settings.compact_delay,
    }


def _blocked(after: View, seen: Seen, findings: Iterable[Mapping[str, Any]]) -> str | None:
    if seen.unreadable:
        return f"the archives cannot be listed: {seen.unreadable}"
    for finding in findings:
        return _sentence(finding)
    if after.findings:
        first = after.findings[0]
        return f"unresolved since {first['time']}: {_sentence(first)}"
    return None


def _sentence(finding: Mapping[str, Any]) -> str:
    detail = finding.get("name") or finding.get("detail") or ""
    return f"{finding['meaning']}" + (f" ({detail})" if detail else "")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else moment(text)
