# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must not be in a restored home, and the people who may talk to it: secrets, leftovers of a
running agent, files of another origin, approved pairings."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .classify import Classifier
from .health_files import Expected, Home, Seen, rule_of
from .health_sheet import Sheet, count, shown
from .profile import KEEP, RUNTIME, SECRET
from .restore_manifest import RestoreManifest
from .scrub import Policy, ScrubError, scrub
from .secrets import MARKER, Scanner
from .sqlite import SIDE_FILES
from .verdict import DATA_PROVEN, OFFENDERS_SHOWN
from .walk import open_below

TEXT_LIMIT: Final = 16 << 20


def check_strangers(sheet: Sheet, expected: Expected, home: Home) -> None:
    """Nothing that does harm, and nothing that the manifest does not know."""
    known = set(expected.manifest.entries) | {""}
    databases = expected.databases
    journals = {path for path in home.entries if _is_journal(path, home, databases, known)}
    strangers = {path: seen for path, seen in home.entries.items() if path not in known | journals}
    _check_secret_files(sheet, home)
    runtime = [path for path, seen in home.entries.items() if _harmful(seen, RUNTIME)]
    with sheet.check(
        "runtime_files",
        DATA_PROVEN,
        "no lock, pid or state of a running agent",
        "Remove these before the first start: they make the agent believe that it still runs.",
    ) as draft:
        draft.offend(*(path for path in runtime if path not in journals))
        draft.found = count(len(draft.offenders), "file") if draft.offenders else "none"
    with sheet.check(
        "stray_journals",
        DATA_PROVEN,
        "no WAL, SHM or journal beside a database",
        "SQLite would replay a stale log over the restored database. Restore into an empty place.",
    ) as draft:
        draft.offend(*sorted(journals))
        draft.found = count(len(journals), "file") if journals else "none"
    covered = {SECRET, RUNTIME}
    unknown = _tops(path for path, seen in strangers.items() if seen.classification not in covered)
    with sheet.check(
        "unknown_files",
        DATA_PROVEN,
        "nothing beside what the manifest lists",
        "These came from somewhere else than the archive. Restore into an empty place.",
    ) as draft:
        draft.offend(*unknown)
        draft.found = count(len(unknown), "entry", "entries") if unknown else "nothing"


def _harmful(seen: Seen, classification: str) -> bool:
    return seen.classification == classification and seen.type != "directory"


def _is_journal(path: str, home: Home, databases: frozenset[str], known: Iterable[str]) -> bool:
    """A log beside a database; a user's own file may well be called travel-journal."""
    for side in SIDE_FILES:
        main = path[: -len(side)]
        if path.endswith(side) and (main in databases or path not in known):
            return main in databases or main in home.entries
    return False


def _tops(paths: Iterator[str]) -> list[str]:
    """The topmost of nested paths, so that one foreign folder is one finding."""
    tops: list[str] = []
    for path in sorted(paths):
        if not tops or not path.startswith(f"{tops[-1]}/"):
            tops.append(path)
    return tops


def _check_secret_files(sheet: Sheet, home: Home) -> None:
    with sheet.check(
        "secret_files",
        DATA_PROVEN,
        "no file that holds secrets",
        "A secret must never be in an archive. Rotate it, delete the archive, and see the profile.",
    ) as draft:
        draft.offend(*(path for path, seen in home.entries.items() if _harmful(seen, SECRET)))
        draft.found = count(len(draft.offenders), "file") if draft.offenders else "none"


def check_findings(
    sheet: Sheet, manifest: RestoreManifest, home: Home, scanner: Scanner, limit: int
) -> None:
    """No content that looks like a secret, beyond what was seen and recorded at backup time."""
    known = {(str(item.get("path")), str(item.get("rule"))) for item in _findings(manifest)}
    with sheet.check(
        "secret_content",
        DATA_PROVEN,
        f"no secret in {count(home.scanned, 'file')}, beyond what the backup reported",
        "Rotate what was found, delete the archive, and add the place to the profile.",
    ) as draft:
        draft.offend(
            *(
                f"{path}:{line}: {rule}"
                for path, rule, line in home.findings
                if (path, rule) not in known and not scanner.accepts(path, rule)
            )
        )
        draft.found = count(len(draft.offenders), "finding") if draft.offenders else "none"
        if home.too_large:
            first = [shown(path) for path in sorted(home.too_large)[:OFFENDERS_SHOWN]]
            more = ", ..." if len(home.too_large) > len(first) else ""
            draft.tolerance = f"{count(len(home.too_large), 'text')} above the limit of "
            draft.tolerance += f"{count(limit, 'byte')} not scanned: {', '.join(first)}{more}"


def _findings(manifest: RestoreManifest) -> list[Mapping[str, Any]]:
    found = manifest.raw.get("findings")
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def check_scrubbed(sheet: Sheet, manifest: RestoreManifest, home: Home, policy: Policy) -> None:
    """Scrubbed files hold no secret, and every place to be supplied is marked as such."""
    scrubbed = sorted(path for path, e in manifest.entries.items() if e.stored == "scrubbed")
    marked = {str(item.get("path")) for item in manifest.to_be_supplied}
    with sheet.check(
        "scrubbed",
        DATA_PROVEN,
        f"{count(len(scrubbed), 'scrubbed file')} without a secret, places to be supplied marked",
        "A value that was to be removed is there, or the file is not the scrubbed copy. "
        "Rotate the secret, and find out how it came there.",
    ) as draft:
        for path in scrubbed:
            text = _text(home, path)
            draft.offend(*(f"{path}: {what}" for what in _unscrubbed(path, text, policy)))
            if path in marked and MARKER not in text:
                draft.offend(f"{path}: no {MARKER}")
        draft.found = f"{count(len(draft.offenders), 'problem')} in {len(scrubbed)}"


def _unscrubbed(path: str, text: str, policy: Policy) -> Sequence[str]:
    try:
        return [f"{key} holds a value" for key in scrub(path, text, policy).keys]
    except ScrubError as error:
        return [f"cannot be read: {error}"]


def _text(home: Home, path: str) -> str:
    try:
        descriptor = open_below(home.descriptor, path)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(TEXT_LIMIT).decode("utf-8", "replace")


@dataclass(frozen=True)
class Places:
    """Knows places that the profile names, in the home and in every nested one."""

    classifier: Classifier
    patterns: int

    @classmethod
    def of(cls, profile: Mapping[str, Any], patterns: Sequence[str]) -> Places:
        rules = [{"match": pattern, "class": KEEP} for pattern in patterns]
        nested = profile.get("nested_homes") or []
        return cls(Classifier({"rules": rules, "nested_homes": nested}), len(rules))

    @classmethod
    def of_pairings(cls, profile: Mapping[str, Any]) -> Places:
        return cls.of(profile, (profile.get("pairing") or {}).get("approved") or ())

    def __contains__(self, path: str) -> bool:
        return rule_of(path, self.classifier) < self.patterns


def check_pairings(
    sheet: Sheet, manifest: RestoreManifest | None, home: Home, pairings: Places
) -> None:
    """The people who may talk to the agent still may."""
    if manifest is None:
        wanted = [p for p, seen in home.entries.items() if seen.type == "file" and p in pairings]
    else:
        wanted = [p for p, e in manifest.entries.items() if e.type == "file" and p in pairings]
    with sheet.check(
        "pairings",
        DATA_PROVEN,
        f"{count(len(wanted), 'file')} of approved users, readable",
        "Without it nobody may talk to the agent: restore again, or pair again "
        "(see the profile's pairing steps).",
    ) as draft:
        users = 0
        for path in wanted:
            found = _pairing(home, path)
            if isinstance(found, str):
                draft.offend(f"{path}: {found}")
            else:
                users += found
        present = len(wanted) - len(draft.offenders)
        draft.found = f"{present} of {len(wanted)}, {count(users, 'approved user')}"


def _pairing(home: Home, path: str) -> int | str:
    seen = home.entries.get(path)
    if seen is None:
        return "missing"
    if seen.size == 0:
        return "empty"
    try:
        data = json.loads(_text(home, path))
    except ValueError:
        return "cannot be read as JSON"
    return len(data) if isinstance(data, (dict, list)) else 0
