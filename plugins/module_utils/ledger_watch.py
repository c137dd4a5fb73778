# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Today's list of archives against the ledger: what is new, what is wrong.

The audits see what happened to objects. This sees what happened to the list of archives,
which only a key can open: an archive that vanished while its objects stayed, forged
archives that would push genuine ones out of retention, clocks that lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from .ledger import PRESENT, QUARANTINED, REMOVED, Archive, View, is_checkpoint, moment, stamp

#: Kinds of findings, what each says, and whether it stays until somebody resolves it.
FINDINGS = {
    "repository-replaced": ("another repository answers at this address", True),
    "archive-vanished": ("an archive is gone that nobody here deleted", True),
    "archive-renamed": ("an archive has another name", True),
    "archive-returned": ("an archive that was deleted here is listed again", True),
    "archive-time": ("an archive's time is far from the time at which it arrived", True),
    "archive-name": ("an archive is not named as this agent's archives are", True),
    "too-many-archives": ("more archives arrived than nights have passed", True),
    "ledger-lost": ("the repository host knows a ledger that is not here", True),
    "ledger-cut": ("the ledger is older than the one the repository host was told of", True),
    "no-new-archive": ("no archive arrived for too long", False),
}


ONE_NIGHT = timedelta(hours=36)


@dataclass(frozen=True)
class Listed:
    """An archive as the repository lists it today."""

    id: str
    name: str
    time: str


@dataclass(frozen=True)
class Limits:
    """What still counts as an ordinary night."""

    clock_hours: float = 30.0
    new_per_night: int = 3
    silence_hours: float = 30.0
    prefix: str = ""


@dataclass(frozen=True)
class Watch:
    """What today's list says."""

    seen: list[Archive] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    # Deletions that a killed run had begun, and that were carried out. They go into the
    # ledger together with the state in which they are accepted, not before.
    removed: list[str] = field(default_factory=list)

    @property
    def lasting(self) -> list[dict[str, Any]]:
        return [one for one in self.findings if FINDINGS[one["kind"]][1]]

    def lines(self) -> list[tuple[str, dict[str, Any]]]:
        """What belongs into the ledger."""
        result: list[tuple[str, dict[str, Any]]] = []
        for archive in self.seen:
            names = ("id", "name", "client_time", "server_time", "source")
            result.append(("seen", {name: asdict(archive)[name] for name in names}))
            if archive.state == QUARANTINED:
                result.append(("quarantined", {"id": archive.id, "reason": archive.reason}))
        result += [("finding", one) for one in self.lasting]
        return result


def watch(
    known: View,
    listed: Iterable[Listed],
    *,
    repository_id: str,
    now: datetime,
    times: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> Watch:
    """Compare. ``times`` are the repository host's own times of the archives it could tell."""
    limits = limits or Limits()
    if known.repository_id not in (None, repository_id):
        return Watch(
            findings=[
                _finding(
                    "repository-replaced", detail=f"{repository_id}, not {known.repository_id}"
                )
            ]
        )
    today = {one.id: one for one in listed}
    adopting = known.repository_id is None
    seen = [
        _seen(one, known, now, times or {}, limits, adopting)
        for one in today.values()
        if one.id not in known.archives
    ]
    findings = _gone(known, today)
    if not adopting:
        seen, more = _flood(seen, known, now, limits)
        findings += more
    for archive in seen:
        if archive.state == QUARANTINED and "too-many-archives" not in archive.reason:
            kind, _unused, detail = archive.reason.partition(": ")
            findings.append(_finding(kind, id=archive.id, name=archive.name, detail=detail))
    findings += _silence(known, seen, now, limits)
    return Watch(seen, findings, [identity for identity in known.deleting if identity not in today])


def _finding(kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "meaning": FINDINGS[kind][0], **more}


def _gone(known: View, today: Mapping[str, Listed]) -> list[dict[str, Any]]:
    findings = []
    for archive in known.archives.values():
        one = today.get(archive.id)
        if archive.state == REMOVED:
            if one is not None:
                findings.append(_finding("archive-returned", id=archive.id, name=archive.name))
        elif one is None:
            if archive.id not in known.deleting:
                findings.append(_finding("archive-vanished", id=archive.id, name=archive.name))
        elif one.name != archive.name:
            findings.append(
                _finding(
                    "archive-renamed", id=archive.id, name=archive.name, detail=f"now {one.name}"
                )
            )
    return findings


def _seen(
    one: Listed,
    known: View,
    now: datetime,
    times: Mapping[str, str],
    limits: Limits,
    adopting: bool,
) -> Archive:
    """A new archive, with the time that counts."""
    claimed = moment(one.time)
    tolerance = timedelta(hours=limits.clock_hours)
    archive = Archive(one.id, one.name, stamp(claimed), stamp(claimed), "adopted")
    told = times.get(one.id)
    if adopting:
        # A compaction moves objects, so the host's times may all be those of the compaction.
        if told is not None and abs(moment(told) - claimed) <= tolerance:
            archive = replace(archive, server_time=stamp(moment(told)), source="transaction")
        earliest, latest = None, now
    elif told is not None:
        archive = replace(archive, server_time=stamp(moment(told)), source="transaction")
        earliest = latest = moment(told)
    else:
        # It arrived between the last look and now. After a longer pause its own word about
        # when is as good as any: a week of archives seen at once is a week of archives.
        earliest, latest = moment(known.looked or stamp(now)), now
        inside = max(earliest, min(latest, claimed)) if now - earliest > ONE_NIGHT else now
        archive = replace(archive, server_time=stamp(inside), source="first-seen")
    reason = ""
    if (earliest is not None and claimed < earliest - tolerance) or claimed > latest + tolerance:
        reason = f"archive-time: it says {archive.client_time}, it arrived {stamp(latest)}"
    elif limits.prefix and not one.name.startswith(limits.prefix):
        reason = f"archive-name: expected {limits.prefix}TIME"
    return replace(archive, state=QUARANTINED, reason=reason) if reason else archive


def _flood(
    seen: list[Archive], known: View, now: datetime, limits: Limits
) -> tuple[list[Archive], list[dict[str, Any]]]:
    """More archives than the nights since the last look explain."""
    since = moment(known.looked or stamp(now))
    nights = max(1, round((now - since) / timedelta(days=1)))
    for sort in (False, True):
        batch = [archive for archive in seen if is_checkpoint(archive.name) is sort]
        # Every create that is interrupted leaves a checkpoint; some nights are bad ones.
        allowed = limits.new_per_night * nights * (3 if sort else 1)
        if len(batch) > allowed:
            reason = f"too-many-archives: {len(batch)} in {nights} night(s), {allowed} at most"
            marked = [replace(archive, state=QUARANTINED, reason=reason) for archive in seen]
            return marked, [_finding("too-many-archives", detail=reason.partition(": ")[2])]
    return seen, []


def _silence(
    known: View, seen: list[Archive], now: datetime, limits: Limits
) -> list[dict[str, Any]]:
    genuine = [
        archive.when
        for archive in [*known.standing, *seen]
        if archive.state == PRESENT and not archive.is_checkpoint
    ]
    newest = max(genuine, default=None)
    if newest is not None and now - newest <= timedelta(hours=limits.silence_hours):
        return []
    detail = f"the newest arrived {stamp(newest)}" if newest else "there is none"
    return [_finding("no-new-archive", detail=detail)]
