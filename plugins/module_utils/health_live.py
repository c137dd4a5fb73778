# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A live agent in production, read-only: nothing in its home is written, opened for writing or
locked for longer than a read, and none of its own commands runs that the profile does not allow."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .health_agent import check_commands, check_http, check_services
from .health_databases import Database, Found, check_rows, described, examine, newest_of
from .health_files import Home, Look, look_at
from .health_request import Examination, services_of
from .health_sheet import count
from .health_strangers import Places, check_pairings
from .profile import SECRET
from .restore_manifest import RestoreManifest
from .sqlite import parse_header
from .verdict import DATA_PROVEN, age, now
from .walk import open_below


def examine_production(examination: Examination) -> None:
    request, sheet, home = examination.request, examination.sheet, examination.home
    manifest = examination.manifest
    if home is None:
        return
    look_at(home, Look(examination.classifier))
    _check_live_files(examination, home)
    databases = described(manifest) if manifest else _databases_of(home)
    examination.databases = examine(
        databases,
        home,
        examination.account,
        request.profile,
        tools=request.tools,
        parent=request.work_directory,
        timeout=max(request.timeout, 600.0),
        live=True,
    )
    _check_live_databases(examination, manifest)
    check_pairings(sheet, None, home, Places.of_pairings(request.profile))
    examination.check_version(required=False)
    asked = check_services(sheet, examination.agent, services_of(request))
    asked += check_http(sheet, examination.agent, only_production=True)
    asked += check_commands(sheet, examination.agent, production=True, model=request.model)
    examination.check_silent(asked)


def _databases_of(home: Home) -> list[Database]:
    """Databases of a live home, by their first bytes."""
    found = []
    for path, seen in home.entries.items():
        if seen.type != "file" or seen.size < 512 or seen.classification not in ("keep", "unknown"):
            continue
        try:
            descriptor = open_below(home.descriptor, path)
        except OSError:
            continue  # an agent at work makes and removes files all the time
        with os.fdopen(descriptor, "rb") as stream:
            if parse_header(stream.read(100)) is not None:
                found.append(Database(path, {}))
    return found


def _check_live_files(examination: Examination, home: Home) -> None:
    account = examination.account
    with examination.sheet.check(
        "entries_owner",
        DATA_PROVEN,
        f"everything belongs to {account.name}",
        f"chown -h {account.name}: what somebody's command left behind as another user.",
    ) as draft:
        draft.offend(
            *(
                f"{path or '.'}: uid {seen.uid}"
                for path, seen in home.entries.items()
                if seen.uid != account.uid
            )
        )
        draft.found = count(len(home.entries), "entry", "entries")
    with examination.sheet.check(
        "secret_modes",
        DATA_PROVEN,
        "no file of secrets is open to others",
        "chmod 0600: others on this host can read or write these.",
    ) as draft:
        secrets = [
            (path, seen)
            for path, seen in home.entries.items()
            if seen.classification == SECRET and seen.type == "file"
        ]
        closed = bool(home.entries[""].mode & 0o077 == 0)
        draft.offend(
            *(f"{path}: {seen.mode:04o}" for path, seen in secrets if seen.mode & 0o077)
            if not closed
            else ()
        )
        draft.found = count(len(secrets), "file of secrets", "files of secrets")


def _check_live_databases(examination: Examination, manifest: RestoreManifest | None) -> None:
    sheet, found = examination.sheet, examination.databases
    asked = [item for item in found if item.error != "a transaction is being written"]
    sheet.compare(
        *("database_integrity", DATA_PROVEN, "database", len(asked)),
        (
            f"{item.path}: {item.error or item.facts.get('quick_check')}"
            for item in asked
            if item.facts.get("quick_check") != "ok"
        ),
        "Stop the agent, keep a copy, and restore the last proven archive.",
    )
    if manifest is not None:
        tolerance = examination.request.thresholds.rows_tolerance
        check_rows(sheet, "database_rows", DATA_PROVEN, asked, tolerance, at_least=True)
    _check_newest_age(examination, asked)


def _check_newest_age(examination: Examination, found: Sequence[Found]) -> None:
    limit = examination.request.thresholds.newest_age
    if limit is None:
        return
    with examination.sheet.check(
        "newest_age", DATA_PROVEN, f"at most {limit:.0f} s", "Is the agent at work?"
    ) as draft:
        newest = newest_of(found).get("time", "")
        old = age(newest, now())
        draft.found = "no data with a time" if old is None else f"{old:.0f} s ({newest})"
        if old is None or old > limit:
            draft.fail(draft.found)
