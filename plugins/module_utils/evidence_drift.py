# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift between the live agent and its archive, and between the archive and the inventory.

The live box is asked by `lifeboat audit` and by agent_health, both read-only. What it answers is
a claim of a box that may have been taken over; it decides nothing, it is only reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .restore_manifest import texts

LISTED: Final = 50
PRODUCTION: Final = "production"
ARCHIVE: Final = "archive"
# Of the inventory's entry, as the manifest has it.
DEPLOYED: Final = ("profile", "user", "home", "host")
KEPT: Final = ("keep", "scrub")


def drift(
    audit: Mapping[str, Any],
    production: Mapping[str, Any],
    restored: Mapping[str, Any],
    manifest: Mapping[str, Any],
    entry: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> list[dict[str, str]]:
    """Every difference, each with where it is and what to do.

    `settings` is what playbooks/site.yml would tell the backup; nothing, where that is not known.
    """
    found = [
        *_unknown(audit),
        *_missing(audit, restored),
        *_databases(audit, restored),
        *_unsound(production),
        *_deployed(manifest, entry),
        *_told(ARCHIVE, manifest, settings, "Back up again, after playbooks/site.yml."),
        *_told(PRODUCTION, audit, settings, "Run playbooks/site.yml."),
    ]
    known = {item["where"] for item in found}
    own = [{str(k): str(v) for k, v in item.items()} for item in _mappings(restored.get("drift"))]
    return _few(found + [item for item in own if item.get("where") not in known])


def _few(found: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """As many as somebody reads, and how many more there are."""
    kept: list[dict[str, str]] = []
    for direction in (PRODUCTION, ARCHIVE):
        items = [item for item in found if item.get("direction") == direction]
        kept += items[:LISTED]
        if len(items) > LISTED:
            todo = f"{len(items) - LISTED} more; lifeboat audit on the box lists them all."
            kept.append(_item(direction, "more findings than are listed", "the home", todo))
    return kept


def _mappings(value: object) -> Sequence[Mapping[str, Any]]:
    items = value if isinstance(value, (list, tuple)) else ()
    return [item for item in items if isinstance(item, Mapping)]


def _item(direction: str, what: str, where: object, todo: str) -> dict[str, str]:
    return {"direction": direction, "what": what, "where": str(where), "todo": todo}


def _unknown(audit: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for item in _mappings(audit.get("unknown")):
        decision = item.get("decision", "?")
        yield _item(
            PRODUCTION,
            f"no rule knows it ({decision})",
            item.get("path"),
            "Add a rule to the profile that says whether it is kept."
            if decision == "kept"
            else f"Look at it ({item.get('reason', 'no reason given')}), then add a rule.",
        )
    for item in _mappings(audit.get("problems")):
        yield _item(PRODUCTION, "a backup would report", item.get("message"), str(item.get("hint")))
    for item in _mappings(audit.get("troubles")):
        yield _item(PRODUCTION, "cannot be read", item.get("path"), str(item.get("reason")))


def _missing(audit: Mapping[str, Any], restored: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """What is new at the top of the live home since the archive was made."""
    contents = restored.get("contents")
    tops = set(texts(contents.get("tops"))) if isinstance(contents, Mapping) else set()
    if not tops:
        return
    for row in _mappings(audit.get("entries")):
        top = str(row.get("path", "")).split("/", 1)[0]
        if row.get("class") in KEPT and top and top not in tops:
            text = f"not in the archive ({row.get('files', '?')} files)"
            yield _item(PRODUCTION, text, row.get("path"), "Newer than the archive: back up again.")


def _databases(audit: Mapping[str, Any], restored: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    contents = restored.get("contents")
    if not isinstance(contents, Mapping):
        return
    known = set(texts(contents.get("databases")))
    for row in _mappings(audit.get("databases")):
        if str(row.get("path")) not in known:
            yield _item(
                PRODUCTION,
                "database that the archive lacks",
                row.get("path"),
                "Newer than the archive: back up again.",
            )


def _unsound(production: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for check in _mappings(production.get("checks")):
        if check.get("status") == "failed":
            offenders = ", ".join(texts(check.get("offenders")))
            where = offenders or check.get("found")
            yield _item(
                PRODUCTION,
                f"the live agent fails {check.get('name')}",
                where,
                str(check.get("hint", "")),
            )


def _deployed(manifest: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    agent = manifest.get("agent")
    if not isinstance(agent, Mapping):
        return
    for name in DEPLOYED:
        then, now = agent.get(name), entry.get(name)
        if then is not None and now is not None and str(then) != str(now):
            yield _item(
                ARCHIVE,
                f"another {name} than the inventory's",
                f"{then}, inventory {now}",
                "Run playbooks/site.yml and back up again, or correct the inventory.",
            )


def _told(
    direction: str, source: Mapping[str, Any], settings: Mapping[str, Any], todo: str
) -> Iterator[dict[str, str]]:
    """Where a backup was told something else than the inventory says today."""
    told = source.get("configuration")
    if not isinstance(told, Mapping) or not settings:
        return  # of an older version, or nobody to compare with
    whose = {ARCHIVE: "the archive was", PRODUCTION: "the live box is"}[direction]
    for name in sorted({*told, *settings}):
        then, now = told.get(name, "nothing"), settings.get(name, "nothing")
        if then != now:
            yield _item(
                direction,
                f"{whose} configured otherwise than the inventory says",
                f"{name}: {then}, inventory {now}",
                todo,
            )
