# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift: where the live agent, the archive and what would be deployed have grown apart."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

from .classify import Classifier
from .health_agent import version_tuple
from .health_files import rule_of
from .health_sheet import shown
from .profile import DROP
from .restore_manifest import RestoreManifest

DRIFT_SHOWN: Final = 100


def archive_drift(
    manifest: RestoreManifest, classifier: Classifier, version: str
) -> list[Mapping[str, str]]:
    """What the archive holds that this host could not use or should not have."""
    found = [
        _item("absolute path that does not exist here", path, "Restore it too, or change it there.")
        for path in sorted({str(item.get("path")) for item in manifest.outside})
        if path.startswith("/") and not os.path.lexists(path)
    ]
    dropped = [
        e.path
        for e in manifest.entries.values()
        if classifier.classification(rule_of(e.path, classifier)) == DROP
    ]
    found += [
        _item("dead weight by today's profile", path, "The next backup leaves it out.")
        for path in dropped[:DRIFT_SHOWN]
    ]
    unknown = manifest.raw.get("unknown")
    found += [
        _item("kept although no rule knows it", shown(str(item.get("path"))), "Add a rule for it.")
        for item in (unknown if isinstance(unknown, list) else [])
        if isinstance(item, Mapping) and item.get("decision") == "kept"
    ]
    checked = [str(item) for item in _checked_versions(manifest)]
    newest = max(checked, key=version_tuple, default="")
    then = manifest.agent.version
    if newest and then and version_tuple(then) > version_tuple(newest):
        found.append(
            _item(
                "agent version that the profile was not checked with",
                f"{then}, checked up to {newest}",
                "Run lifeboat audit on the live box and look at what no rule knows.",
            )
        )
    if version and then and version != then:
        found.append(
            _item("another agent version than the archived one", f"{version}, archived {then}", "")
        )
    return found


def _checked_versions(manifest: RestoreManifest) -> Sequence[object]:
    agent = manifest.raw.get("agent")
    versions = agent.get("profile_checked_versions") if isinstance(agent, Mapping) else None
    return versions if isinstance(versions, list) else []


def _item(what: str, where: str, todo: str) -> Mapping[str, str]:
    return {"direction": "archive", "what": what, "where": shown(where), "todo": todo}
