# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill saw, put together as one record. The schema is documented in docs/drill.md.

The playbook hands over facts as they are; everything that is judged is judged here, so that the
JSON, the JUnit file, the page and the terminal cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .evidence import FORMAT, KIND, Record
from .evidence_drift import ARCHIVE, PRODUCTION
from .restore_manifest import numbers, objects, texts
from .verdict import (
    ANSWERS,
    FAILED,
    OFFENDERS_SHOWN,
    PASSED,
    SKIPPED,
    Check,
    Failure,
    Objective,
    age,
    classify_failure,
    decide,
    now,
    seconds,
)

# In the order of a drill. The first five are what a real restore takes; the others are the drill's.
RTO_PHASES: Final = ("provision", "install", "extract", "verify", "start")
PHASES: Final = ("provision", "install", "identity", "check", "extract", "verify", "fence", "start")
LISTED: Final = 100
CLOCKS_DIFFER: Final = 300.0
NIGHT: Final = 86400.0
DIRECTIONS: Final = (PRODUCTION, ARCHIVE)


@dataclass(frozen=True)
class Facts:
    """Everything that a drill of one agent brought to light; whatever is missing is empty."""

    drill: Mapping[str, Any]
    agent: Mapping[str, Any]
    repository: Mapping[str, Any]
    archive: Mapping[str, Any]
    manifest: Mapping[str, Any]
    checks: Sequence[Check]
    phases: Mapping[str, float]
    newest: Mapping[str, Any]
    production: Mapping[str, Any]
    drift: Sequence[Mapping[str, Any]]
    failure: Failure | None
    leftovers: Sequence[str]
    level_reasons: Mapping[int, str]
    required_level: int

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Facts:
        def mapping(name: str) -> Mapping[str, Any]:
            value = facts.get(name)
            return value if isinstance(value, Mapping) else {}

        failure = facts.get("failure")
        return cls(
            drill=mapping("drill"),
            agent=mapping("agent"),
            repository=mapping("repository"),
            archive=mapping("archive"),
            manifest=mapping("manifest"),
            checks=[Check.from_dict(item) for item in facts.get("checks") or ()],
            phases={str(k): float(v) for k, v in mapping("phases").items()},
            newest=mapping("newest"),
            production=mapping("production"),
            drift=list(facts.get("drift") or ()),
            failure=_failure(failure) if isinstance(failure, Mapping) and failure else None,
            leftovers=[str(item) for item in facts.get("leftovers") or ()],
            level_reasons={int(k): str(v) for k, v in mapping("level_reasons").items()},
            required_level=int(facts.get("required_level", ANSWERS)),
        )


def _failure(item: Mapping[str, Any]) -> Failure:
    return classify_failure(
        str(item.get("phase", "unknown")),
        str(item.get("message", "")),
        item.get("details") if isinstance(item.get("details"), Mapping) else {},
        str(item.get("hint", "")),
    )


def compose(facts: Facts, history: Sequence[Record] = (), *, finished: str = "") -> dict[str, Any]:
    """The record of one drill, without its place in the chain."""
    objectives = (_rto(facts), _rpo(facts))
    verdict = decide(
        facts.checks,
        failure=facts.failure,
        objectives=objectives,
        required_level=facts.required_level,
        reasons=facts.level_reasons,
        leftovers=facts.leftovers,
    )
    return {
        "format": FORMAT,
        "kind": KIND,
        "drill": {**facts.drill, "finished": finished or now()},
        "agent": _agent(facts),
        "repository": _some(facts.repository, ("name", "url", "id", "address", "path")),
        "archive": _archive(facts),
        "verdict": verdict.as_dict(),
        "levels": [state.as_dict() for state in verdict.levels],
        "summary": _summary(facts.checks),
        "checks": [check.as_dict() for check in facts.checks],
        "not_tested": [
            {"name": name, "reason": why}
            for name, why in (*verdict.not_tested, *_not_compared(facts))
        ],
        "failure": None if facts.failure is None else facts.failure.as_dict(),
        "phases": _phases(facts.phases),
        "objectives": {item.name: item.as_dict() for item in objectives},
        "drift": since([*facts.drift, *_beyond(facts)], history),
        "production_asked": bool(facts.production.get("asked")),
        "to_be_supplied": list(objects(facts.manifest.get("to_be_supplied")))[:LISTED],
        "environment": list(texts(facts.manifest.get("environment")))[:LISTED],
        "counts": numbers(facts.manifest.get("counts")),
        "bytes": numbers(facts.manifest.get("bytes")),
        "leftovers": list(facts.leftovers),
    }


def could_not_run(
    drill: Mapping[str, Any], agent: Mapping[str, Any], phase: str, message: str, hint: str = ""
) -> dict[str, Any]:
    """The record of a drill that never began: evidence too, and never green."""
    failure = {"phase": phase, "message": message, "hint": hint}
    known = _some(agent, ("agent", "host", "profile", "user", "home"))
    return compose(Facts.from_dict({"drill": drill, "agent": known, "failure": failure}))


def _some(items: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: items[name] for name in names if name in items}


def _agent(facts: Facts) -> dict[str, Any]:
    written = facts.manifest.get("agent")
    told = written if isinstance(written, Mapping) else {}
    agent = _some(facts.agent, ("host", "profile", "user", "home", "installed_version"))
    agent["name"] = facts.agent.get("agent") or facts.agent.get("name")
    agent["version"] = texts([told.get("version")])[0] or None
    agent["revision"] = texts([told.get("revision")])[0] or None
    return agent


def _archive(facts: Facts) -> dict[str, Any]:
    archive = _some(facts.archive, ("name", "id", "time"))
    archive["age"] = age(str(archive.get("time") or ""), str(facts.drill.get("started") or ""))
    archive["newest_data"] = facts.newest.get("time")
    archive["newest_from"] = facts.newest.get("source")
    return archive


def _summary(checks: Sequence[Check]) -> dict[str, int]:
    return {
        status: sum(check.status == status for check in checks)
        for status in (PASSED, FAILED, SKIPPED)
    }


def _phases(phases: Mapping[str, float]) -> list[dict[str, Any]]:
    order = [*PHASES, *sorted(set(phases) - set(PHASES))]
    return [
        {"name": name, "seconds": round(phases[name], 3), "rto": name in RTO_PHASES}
        for name in order
        if name in phases
    ]


def _target(facts: Facts, name: str) -> float | None:
    return seconds(facts.agent.get(name))


def _rto(facts: Facts) -> Objective:
    """From nothing to an agent that answers."""
    missing = [name for name in RTO_PHASES if name not in facts.phases]
    if facts.required_level < ANSWERS:
        missing = [name for name in missing if name != "start"]
    if missing:
        basis = f"not measured: the drill did not end its phase {missing[0]}"
        judged = facts.failure is None  # a drill that stopped early has a reason of its own
        return Objective("rto", _target(facts, "rto_target"), None, basis, judged=judged)
    total = sum(facts.phases.get(name, 0.0) for name in RTO_PHASES)
    parallel = int(facts.drill.get("parallel") or 1)
    basis = " + ".join(name for name in RTO_PHASES if name in facts.phases)
    if parallel > 1:
        basis += f"; {parallel} drills ran at once, so a single restore is faster"
    return Objective("rto", _target(facts, "rto_target"), round(total, 3), basis)


def _rpo(facts: Facts) -> Objective:
    """How much a loss at the start of the drill would have cost."""
    target = _target(facts, "rpo_target")
    judged = str(facts.drill.get("selection") or "latest") == "latest"
    started = str(facts.drill.get("started") or "")
    archived = str(facts.archive.get("time") or "")
    newest = str(facts.newest.get("time") or "")
    measured = age(archived, started)
    if measured is not None and measured < -CLOCKS_DIFFER:
        basis = f"not measured: the archive says it is of {archived}, after the start of the drill"
        return Objective("rpo", target, None, basis, judged=judged and facts.failure is None)
    if not newest:
        basis = "time of the archive: the restored databases tell no time of their own"
    elif _is_ahead(facts):
        basis = f"time of the archive: the newest data in the restored databases, {newest}, "
        basis += "is later than that, and is not believed"
    else:
        reference, against = _reference(facts, target)
        basis = f"newest data in the restored databases, {newest}, against {against}"
        measured = age(newest, reference)
    if measured is None:
        return Objective("rpo", target, None, "not measured: nothing was restored", judged=False)
    if not judged:
        basis += "; not judged, since an older archive was asked for"
    return Objective("rpo", target, max(0.0, measured), basis, judged=judged)


def _is_ahead(facts: Facts) -> bool:
    """Whether the restored databases tell a time at which their archive was long made."""
    made = str(facts.archive.get("time") or facts.drill.get("started") or "")
    ahead = age(made, str(facts.newest.get("time") or ""))
    return ahead is not None and ahead > CLOCKS_DIFFER


def _reference(facts: Facts, target: float | None) -> tuple[str, str]:
    """What the restored data is measured against, and how to say so.

    The live agent can say that it was idle since. That is a claim of a box that may have been
    taken over, so it is worth something only while its backups go on.
    """
    started = str(facts.drill.get("started") or "")
    live = str(facts.production.get("newest") or "")
    newest = str(facts.newest.get("time") or "")
    archive_age = age(str(facts.archive.get("time") or ""), started)
    silent = [str(path) for path in facts.production.get("silent") or ()]
    against = f"the start of the drill, {started}"
    later, before_start = age(newest, live), age(live, started)
    if silent:
        refused = f"it tells no time of {', '.join(silent[:OFFENDERS_SHOWN])}"
    elif not live:
        return started, against
    elif later is None or before_start is None:
        refused = "its answer is no time"
    elif later < 0:
        refused = f"its newest data, {live}, is older than what was restored"
    elif before_start < 0:
        return started, against
    elif archive_age is None or archive_age > (target or 0.0) + NIGHT:
        refused = "an idle agent is backed up as well, and the archive is too old for that"
    else:
        return live, f"the live agent's, {live}"
    return started, f"{against}; not against the live agent's, since {refused}"


def _beyond(facts: Facts) -> list[Mapping[str, Any]]:
    """A finding, where the restored data is of a time after its archive's."""
    if not _is_ahead(facts):
        return []
    newest, source = facts.newest.get("time"), facts.newest.get("source")
    return [
        {
            "direction": ARCHIVE,
            "what": "data that is newer than its archive",
            "where": f"{source}: {newest}",
            "todo": "Look at these rows and at the clock of the box: its RPO cannot be told by them.",
        }
    ]


def _not_compared(facts: Facts) -> list[tuple[str, str]]:
    if facts.production.get("asked"):
        return []
    why = str(facts.production.get("why") or "it was not asked, or did not answer")
    return [("drift of the live agent", why)]


def since(drift: Sequence[Mapping[str, Any]], history: Sequence[Record]) -> list[dict[str, Any]]:
    """Each finding with the first drill of the unbroken row of drills that had it."""
    found = []
    for item in drift:
        key = _key(item)
        first = None
        drills = 1
        for record in reversed(history):
            if not record.data or record.result == "could_not_run":
                continue  # a drill that did not run neither found nor cleared it
            if item.get("direction") == PRODUCTION and not record.data.get(
                "production_asked", True
            ):
                continue
            if key not in {_key(old) for old in record.data.get("drift", ())}:
                break
            first = record.started
            drills += 1
        found.append({**item, "since": first, "drills": drills})
    order = {name: place for place, name in enumerate(DIRECTIONS)}
    return sorted(found, key=lambda item: (order.get(str(item.get("direction")), 9), _key(item)))


def _key(item: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(item.get("direction")), str(item.get("what")), str(item.get("where"))
