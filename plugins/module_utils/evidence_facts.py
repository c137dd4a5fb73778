# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what the tasks of a drill registered to the facts of its record.

Results are taken as they came, also when a task failed, was skipped or never ran. What is missing
is not tested; it is never taken for good.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .evidence_drift import drift
from .evidence_record import Facts
from .restore_manifest import texts
from .verdict import ANSWERS, CHECKED, DATA_PROVEN, EXTRACTED, PASSED, REACHABLE, SKIPPED, VERIFIED

MESSAGE_LIMIT: Final = 2000
SAID_LIMIT: Final = 200
BOX_DIED: Final = "The box did not answer any more."


def gather(raw: Mapping[str, Any]) -> Facts:
    """The facts of one drill."""
    entry = _mapping(raw, "agent")
    found = _mapping(raw, "found")
    restored = _mapping(raw, "restored")
    manifest = _mapping(restored, "summary") or _mapping(found, "manifest")
    health = [item for item in _list(raw, "health") if isinstance(item.get("checks"), list)]
    before = next((item for item in health if _phase(item) == "restored"), {})
    production = _mapping(raw, "production")
    settings = _mapping(raw, "settings")
    audit, unasked = live_audit(raw)
    agent = dict(entry)
    versions = [item.get("installed_version") for item in health]
    agent["installed_version"] = next((text for text in reversed(versions) if text), None)
    repository = dict(_mapping(raw, "repository"))
    return Facts.from_dict(
        {
            "drill": _mapping(raw, "drill"),
            "agent": agent,
            "repository": repository,
            "archive": _archive(found, restored),
            "manifest": manifest,
            "checks": [*_rehearsed(raw, [*_checks(raw, found, restored, health)])],
            "phases": _mapping(raw, "phases"),
            "newest": _mapping(before, "newest"),
            "production": {
                "newest": _mapping(production, "newest").get("time"),
                "asked": bool(audit),
                "why": unasked,
                "silent": _silent(production, before),
            },
            "drift": drift(audit, production, before, manifest, entry, settings),
            "failure": failure(raw),
            "leftovers": raw.get("leftovers") or (),
            "level_reasons": _reasons(raw),
            "required_level": required_level(raw),
        }
    )


def _silent(production: Mapping[str, Any], restored: Mapping[str, Any]) -> list[str]:
    """Databases that tell their newest time in the restored home, and no time in the live one."""
    if not production.get("checks"):
        return []
    live, back = (
        set(texts(_mapping(home, "contents").get("dated"))) for home in (production, restored)
    )
    return sorted(back - live)


def live_audit(raw: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """What the live box's `lifeboat audit` answered, or nothing and why."""
    asked = _mapping(raw, "audit")
    said = str(asked.get("stdout") or "")
    if not said:
        why = asked.get("stderr") or asked.get("msg") or _mapping(raw, "production").get("msg")
        lines = (line.strip() for line in _plain(str(why or "")).splitlines())
        text = "; ".join(filter(None, lines))[-SAID_LIMIT:]
        return {}, f"it did not answer: {text}" if text else ""
    try:
        answer = json.loads(said)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict) and answer:
        return answer, ""
    return {}, f"its lifeboat audit answered no JSON object: {said.strip()[:SAID_LIMIT]!r}"


def _mapping(source: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = source.get(name)
    return value if isinstance(value, Mapping) else {}


def _list(source: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = source.get(name)
    items = value if isinstance(value, (list, tuple)) else ()
    return [item for item in items if isinstance(item, Mapping)]


def _phase(result: Mapping[str, Any]) -> str:
    checks = _list(result, "checks")
    return str(checks[0].get("phase", "")) if checks else ""


def _archive(found: Mapping[str, Any], restored: Mapping[str, Any]) -> dict[str, Any]:
    if restored.get("archive"):
        return {
            "name": restored["archive"],
            "id": restored.get("archive_id"),
            "time": restored.get("archive_time"),
        }
    return dict(_mapping(found, "selected"))


def _checks(
    raw: Mapping[str, Any],
    found: Mapping[str, Any],
    restored: Mapping[str, Any],
    health: Sequence[Mapping[str, Any]],
) -> Iterator[Mapping[str, Any]]:
    archives = found.get("archives")
    if isinstance(archives, list) and found.get("selected"):
        yield {
            "name": "repository_reachable",
            "level": REACHABLE,
            "status": PASSED,
            "expected": "the pinned repository, opened with the escrowed key",
            "found": f"{len(archives)} archives, id {_mapping(raw, 'repository').get('id', '?')}",
            "duration": found.get("seconds") or 0.0,
        }
    yield from _list(raw, "repository_checks")
    if restored.get("archive"):
        warnings = [str(line) for line in restored.get("borg_warnings") or ()]
        yield {
            "name": "extraction",
            "level": EXTRACTED,
            "status": "failed" if warnings else PASSED,
            "expected": "borg extracts every entry without a warning",
            "found": f"{len(warnings)} warnings" if warnings else "no warning",
            "offenders": warnings,
            "duration": _mapping(restored, "phases").get("extract") or 0.0,
            "hint": "Run playbooks/custody.yml, and drill an earlier archive with at=DATE.",
        }
    for result in health:
        yield from _list(result, "checks")
    yield from _fence(_mapping(raw, "fence"))
    yield from _not_asked(raw, health)


def _rehearsed(
    raw: Mapping[str, Any], checks: Sequence[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """Harm that was done on purpose and that nothing found must not end as a proof."""
    yield from checks
    harm = _mapping(raw, "drill").get("rehearsal")
    found = any(check.get("status") not in (PASSED, SKIPPED) for check in checks)
    if harm and not found and not raw.get("failed"):
        yield {
            "name": "rehearsal",
            "level": DATA_PROVEN,
            "status": "failed",
            "expected": f"a check that finds the harm of {harm}",
            "found": "none did",
            "hint": "Did the file do its harm? Then tell us: no check looks there.",
        }


def _not_asked(
    raw: Mapping[str, Any], health: Sequence[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """What has to be there for a level and is not, by name: other checks do not stand in for it."""
    phases = {_phase(result) for result in health}
    answers = required_level(raw) >= ANSWERS
    fence = _mapping(raw, "fence")
    for missing, name, level, found in (
        ("restored" not in phases, "data", DATA_PROVEN, "nobody looked at the restored home"),
        (answers and "started" not in phases, "agent", ANSWERS, "nobody asked the agent"),
        (answers and not _closed(fence), "fence", ANSWERS, "nobody tried to get out of the box"),
    ):
        if missing:
            yield {"name": name, "level": level, "status": SKIPPED, "found": found}


def _closed(fence: Mapping[str, Any]) -> bool:
    return bool(fence) and not fence.get("allowed")


def _fence(fence: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Only the closed fence counts; the one that lets the repository through proves nothing."""
    if not _closed(fence):
        return
    reached = [str(item) for item in fence.get("reached") or ()]
    failed = fence.get("failed") or {}
    yield {
        "name": "fence",
        "level": ANSWERS,
        "status": PASSED if failed and not reached else "failed",
        "expected": "no way out of the box",
        "found": f"{len(failed)} attempts failed as they must, {len(reached)} did not",
        "offenders": reached,
        "duration": fence.get("seconds") or 0.0,
        "hint": "Does the kernel of the drill host have nf_tables?",
    }


def failure(raw: Mapping[str, Any]) -> dict[str, Any] | None:
    """What ended the drill early, as the rescue of the playbook saw it."""
    failed = _mapping(raw, "failed")
    if not failed:
        return None
    result = _mapping(failed, "result")
    result = _first_failed(result)
    message = _plain(str(result.get("msg") or ""))
    if result.get("stderr") and str(result["stderr"]) not in message:
        message = f"{message} {str(result['stderr']).strip()[-1000:]}".strip()
    if failed.get("gone"):
        message = f"{BOX_DIED} {message}".strip()
    task = str(failed.get("task") or "").strip()
    details = dict(_mapping(result, "failure"))
    return {
        "phase": str(raw.get("phase") or "preflight"),
        "message": f"{message or 'failed without a message'}"
        + (f" (task: {task})" if task else ""),
        "details": details,
        "hint": str(details.get("hint") or ""),
    }


def _plain(message: str) -> str:
    """What went wrong, without the layers of Ansible that it went through."""
    text = re.sub(r"\A(?:(?:Task|Action|Module) failed: )+", "", message.strip())
    text = re.sub(r"\AFinalization of task args .*?: (?=The filter plugin)", "", text)
    text = re.sub(r"\AThe filter plugin '[\w.]+' failed: ", "", text)
    head, found, trace = text.partition("Traceback (most recent call last)")
    if found:  # what a program says last is what went wrong
        last = [line.strip() for line in trace.splitlines() if line.strip()][-1:]
        text = f"{head.strip()} {' '.join(last)}".strip()
    return text[:MESSAGE_LIMIT]


def _first_failed(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a loop, the item that failed; the whole only says that one of them did."""
    for item in _list(result, "results"):
        if item.get("failed") or item.get("unreachable"):
            return item
    return result


def _reasons(raw: Mapping[str, Any]) -> dict[int, str]:
    """Why a level was not asked for, where that was decided and did not just happen."""
    if _mapping(raw, "failed"):
        return {}
    asked = str(raw.get("check") or "none")
    reasons = {}
    if _mapping(raw, "drill").get("source") == "snapshot":
        reasons[CHECKED] = reasons[VERIFIED] = "borg check writes, and a snapshot is read-only"
    elif asked == "none":
        reasons[CHECKED] = "not asked for (drill_check=none); custody checks on the storage host"
    if asked != "data" and VERIFIED not in reasons:
        reasons[VERIFIED] = f"not asked for (drill_check={asked}); the archive itself was verified"
    if required_level(raw) < ANSWERS:
        reasons[ANSWERS] = "the profile does not say how to install and ask this agent"
    return reasons


def required_level(raw: Mapping[str, Any]) -> int:
    """What has to be reached: by default all that the profile makes possible."""
    asked = raw.get("required_level")
    if asked not in (None, ""):
        return int(str(asked))
    health = _mapping(_mapping(raw, "profile"), "health")
    startable = _mapping(_mapping(raw, "profile"), "install").get("runtime")
    asks = any(health.get(name) for name in ("commands", "http"))
    return ANSWERS if startable and asks else DATA_PROVEN
