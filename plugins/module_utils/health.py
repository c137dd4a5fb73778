# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is this agent the one that was backed up, and does it live?

Three phases. `restored`: before the first start, since an agent silently makes afresh what it
misses, and shows it green. `started`: the agent's own answers, and that its start changed nothing
it should not. `production`: a live agent, read-only. An agent's own exit codes are not trusted in
any of them; the manifest that was written at backup time is. Of a few restored paths it is asked
what they hold, not whether they make an agent.

Nothing in the home is changed. Not guaranteed: that what the manifest does not describe, such as
the words inside an ordinary session file without a digest, is what it was.
"""

from __future__ import annotations

from collections.abc import Sequence

from .classify import Classifier
from .health_account import HealthError
from .health_agent import check_commands, check_http, check_services
from .health_databases import (
    check_restored,
    check_rows,
    described,
    examine,
    row_offenders,
)
from .health_files import Expected, Home, Look, check_entries, look_at, rule_of
from .health_live import examine_production
from .health_request import (
    PHASES,
    PRODUCTION,
    RESTORED,
    STARTED,
    Examination,
    Health,
    Request,
    Thresholds,
    services_of,
)
from .health_sheet import Sheet, count
from .health_strangers import (
    Places,
    check_findings,
    check_pairings,
    check_scrubbed,
    check_strangers,
)
from .scrub import Policy
from .verdict import ANSWERS

__all__ = ["Health", "HealthError", "Request", "Thresholds", "examine_health"]


def examine_health(request: Request) -> Health:
    """Ask every question of a phase."""
    if request.phase not in PHASES:
        raise HealthError(f"{request.phase!r} is no phase.", f"One of {', '.join(PHASES)}.")
    examination = Examination(request)
    try:
        if examination.open(needs_manifest=request.phase != PRODUCTION):
            {RESTORED: _restored, STARTED: _started, PRODUCTION: examine_production}[request.phase](
                examination
            )
        return examination.health()
    finally:
        examination.close()


def _restored(examination: Examination) -> None:
    request, sheet, home = examination.request, examination.sheet, examination.home
    manifest = examination.manifest
    if home is None or manifest is None:
        return
    expected = Expected(manifest, examination.account, request.rewritten)
    scrubbed = {path for path, e in manifest.entries.items() if e.stored == "scrubbed"}
    look_at(
        home,
        Look(
            examination.classifier,
            expected.digests(),
            examination.scanner,
            request.thresholds.scan_limit,
            expected.databases | scrubbed,
        ),
    )
    check_entries(sheet, expected, home)
    examination.databases = examine(
        described(manifest),
        home,
        examination.account,
        request.profile,
        tools=request.tools,
        parent=request.work_directory,
        timeout=max(request.timeout, 1800.0),
    )
    check_restored(sheet, examination.databases, request.thresholds.rows_tolerance)
    limit = request.thresholds.scan_limit
    check_findings(sheet, manifest, home, examination.scanner, limit)
    if request.only:
        return
    check_pairings(sheet, manifest, home, Places.of_pairings(request.profile))
    check_scrubbed(sheet, manifest, home, Policy.of(request.profile, examination.scanner))
    check_strangers(sheet, expected, home)
    examination.check_version(required=False)


def _started(examination: Examination) -> None:
    request, sheet, home = examination.request, examination.sheet, examination.home
    manifest = examination.manifest
    if home is None or manifest is None:
        return
    examination.check_version(required=True)
    asked = check_services(sheet, examination.agent, services_of(request))
    asked += check_http(sheet, examination.agent)
    asked += check_commands(sheet, examination.agent, production=False, model=request.model)
    examination.check_silent(asked)
    expected = Expected(manifest, examination.account, request.rewritten)
    look_at(home, Look(examination.classifier, expected.digests()))
    _check_after_start(sheet, expected, home, examination.classifier)
    examination.databases = examine(
        described(manifest),
        home,
        examination.account,
        request.profile,
        tools=request.tools,
        parent=request.work_directory,
        timeout=max(request.timeout, 1800.0),
        live=True,
    )
    tolerance = request.thresholds.rows_tolerance
    check_rows(sheet, "rows_after_start", ANSWERS, examination.databases, tolerance, at_least=True)
    jobs = (request.profile.get("health") or {}).get("jobs") or ()
    if jobs:
        _check_jobs(sheet, expected, home, examination, jobs)


def _check_jobs(
    sheet: Sheet, expected: Expected, home: Home, examination: Examination, traces: Sequence[str]
) -> None:
    """A job that is overdue fires as soon as its scheduler runs, and acts a second time."""
    profile, known = examination.request.profile, expected.manifest.entries
    folders = Places.of(profile, [name for name in traces if name.endswith("/")])
    journals = Places.of(profile, [name for name in traces if not name.endswith("/")])
    with sheet.check(
        "jobs_after_start",
        ANSWERS,
        "no job of the agent's own schedule ran",
        "Something ran what was scheduled; a restored agent would act a second time. Find out what "
        "starts its scheduler before it is started anywhere else.",
    ) as draft:
        new = (path for path, seen in home.entries.items() if seen.type == "file")
        draft.offend(*(path for path in new if path in folders and path not in known))
        for found in examination.databases:
            if found.path in journals:
                draft.offend(*row_offenders(found, 0, at_least=False))
        draft.found = count(len(draft.offenders), "trace") if draft.offenders else "none did"


def _check_after_start(
    sheet: Sheet, expected: Expected, home: Home, classifier: Classifier
) -> None:
    """What the profile calls irreplaceable is untouched; a log or a cache may well have grown."""
    hashed = [
        entry
        for entry in expected.fixed()
        if expected.has_digest(entry) and classifier.hashed(rule_of(entry.path, classifier))
    ]
    changed = []
    for entry in hashed:
        seen = home.entries.get(entry.path)
        if seen is None:
            changed.append(f"{entry.path}: gone")
        elif seen.sha256 != entry.sha256:
            changed.append(f"{entry.path}: {seen.error or 'altered'}")
    sheet.compare(
        *("content_after_start", ANSWERS, "irreplaceable file", len(hashed)),
        changed,
        "The agent's start changed what makes it itself. Do not let it run before this is known.",
    )
    account = expected.account
    strangers = [
        f"{path or '.'}: {seen.uid}:{seen.gid}"
        for path, seen in home.entries.items()
        if seen.uid != account.uid and path not in expected.manifest.entries
    ]
    with sheet.check(
        "owner_after_start",
        ANSWERS,
        f"everything new belongs to {account.name}",
        f"Something ran the agent as another user. Its commands run as {account.name} only.",
    ) as draft:
        draft.offend(*strangers)
        draft.found = count(len(strangers), "entry", "entries") if strangers else "as expected"
