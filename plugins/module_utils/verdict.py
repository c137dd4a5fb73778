# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From checks to a verdict: what a drill proved, up to which level, and what it did not test.

Three rules hold everywhere. What was not tested is never counted as proof. "Could not run" is
never green. A found loss outweighs everything else, so it is named first and decides the exit
code when several agents end differently.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

PASSED: Final = "passed"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"

PROVEN: Final = "proven"
NOT_PROVEN: Final = "not_proven"
COULD_NOT_RUN: Final = "could_not_run"

EXIT_CODES: Final[Mapping[str, int]] = {PROVEN: 0, NOT_PROVEN: 1, COULD_NOT_RUN: 2}
TITLES: Final[Mapping[str, str]] = {
    PROVEN: "Proven",
    NOT_PROVEN: "Not proven",
    COULD_NOT_RUN: "Could not run",
}

REACHABLE, CHECKED, VERIFIED, EXTRACTED, DATA_PROVEN, ANSWERS = range(6)
LEVELS: Final[Mapping[int, str]] = {
    REACHABLE: "the repository is reachable",
    CHECKED: "the repository passes borg check",
    VERIFIED: "every stored chunk was read and verified",
    EXTRACTED: "the archive was extracted completely",
    DATA_PROVEN: "the data is proven against the manifest",
    ANSWERS: "the agent itself is up and answers",
}
SHORT_LEVELS: Final[Mapping[int, str]] = {
    REACHABLE: "Reachable",
    CHECKED: "Check",
    VERIFIED: "Verify data",
    EXTRACTED: "Extracted",
    DATA_PROVEN: "Data proven",
    ANSWERS: "Agent answers",
}
# These two are about the repository as a whole. Extraction proves every chunk of the archive that
# was drilled, so a drill may stand without them; the report then says that they were not tested.
WHOLE_REPOSITORY: Final = (CHECKED, VERIFIED)

OFFENDERS_SHOWN: Final = 5


@dataclass(frozen=True)
class Check:
    """One question, asked and answered with numbers."""

    name: str
    level: int
    status: str
    expected: str = ""
    found: str = ""
    tolerance: str = "none"
    duration: float = 0.0
    offenders: tuple[str, ...] = ()
    offenders_count: int = 0
    hint: str = ""
    phase: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "offenders": list(self.offenders)}

    @classmethod
    def from_dict(cls, item: Mapping[str, Any]) -> Check:
        """A check as another program handed it over; what cannot be read counts as failed."""
        offenders = tuple(str(offender) for offender in item.get("offenders") or ())
        status = str(item.get("status"))
        return cls(
            name=str(item.get("name", "unnamed")),
            level=int(item.get("level", REACHABLE)),
            status=status if status in (PASSED, FAILED, SKIPPED) else FAILED,
            expected=str(item.get("expected", "")),
            found=str(item.get("found", "")),
            tolerance=str(item.get("tolerance", "none")),
            duration=float(item.get("duration", 0.0)),
            offenders=offenders[:OFFENDERS_SHOWN],
            offenders_count=int(item.get("offenders_count", len(offenders))),
            hint=str(item.get("hint", "")),
            phase=str(item.get("phase", "")),
        )

    def sentence(self) -> str:
        """What is wrong, on one line."""
        where = f" ({self.offenders[0]})" if self.offenders else ""
        more = self.offenders_count - 1
        where = f" ({self.offenders[0]} and {more} more)" if self.offenders and more > 0 else where
        return f"{self.name}: expected {self.expected}, found {self.found}{where}"


def effective(checks: Iterable[Check]) -> list[Check]:
    """All checks, without the skipped ones that were made up for later under the same name."""
    items = list(checks)
    ran = {check.name for check in items if check.status != SKIPPED}
    return [check for check in items if check.status != SKIPPED or check.name not in ran]


@dataclass(frozen=True)
class LevelState:
    level: int
    status: str  # reached, failed, not_tested
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"name": LEVELS[self.level], **asdict(self)}


def level_states(
    checks: Iterable[Check], reasons: Mapping[int, str] | None = None
) -> list[LevelState]:
    """For each level: reached, failed or not tested, and why."""
    known = effective(checks)
    return [
        _level_state(level, [check for check in known if check.level == level], reasons or {})
        for level in LEVELS
    ]


def _level_state(level: int, own: Sequence[Check], reasons: Mapping[int, str]) -> LevelState:
    failed = [check for check in own if check.status == FAILED]
    if failed:
        return LevelState(level, "failed", failed[0].sentence())
    skipped = [check for check in own if check.status == SKIPPED]
    if skipped:
        return LevelState(level, "not_tested", f"{skipped[0].name}: {skipped[0].found}")
    if own:
        return LevelState(level, "reached")
    return LevelState(level, "not_tested", reasons.get(level, "the drill did not get this far"))


def reached(states: Sequence[LevelState]) -> int | None:
    """The highest level with nothing failed or left out below it, or None."""
    highest: int | None = None
    for state in states:
        if state.status == "reached":
            highest = state.level
        elif state.status == "failed" or state.level not in WHOLE_REPOSITORY:
            break
    return highest


def level_of_call(checks: Iterable[Check]) -> int:
    """The level that these checks alone reach; levels below the lowest one asked are not judged."""
    level = 0
    for state in level_states(checks):
        if state.status == "failed":
            break
        if state.status == "reached":
            level = state.level
        elif state.reason != "the drill did not get this far":
            break
    return level


@dataclass(frozen=True)
class Failure:
    """Why a drill stopped before its end."""

    phase: str
    message: str
    hint: str = ""
    proves_loss: bool = False  # the repository answered, and what it answered is the problem

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


# What borg says when the way to the data is open and the data is not what it has to be.
# Everything else (no route, lock held, disk full, time out) says nothing about the data.
LOSS_MESSAGES: Final[Mapping[str, str]] = {
    "Repository.DoesNotExist": "The storage host answers, but the repository is gone. "
    "Look at the storage snapshots, then playbooks/rollback.yml.",
    "Repository.InvalidRepository": "What lies at the repository's path is no repository. "
    "Look at the storage snapshots, then playbooks/rollback.yml.",
    "Repository.InvalidRepositoryConfig": "The repository's config was damaged. "
    "Look at the storage snapshots, then playbooks/rollback.yml.",
    "Repository.ObjectNotFound": "Objects that the archive needs are gone from the repository. "
    "Run playbooks/custody.yml, then playbooks/rollback.yml.",
    "Repository.CheckNeeded": "The repository is inconsistent. Run playbooks/custody.yml.",
    "Archive.DoesNotExist": "The archive that was asked for is not in the repository. "
    "List what is there with playbooks/status.yml.",
    "NoManifestError": "The repository has lost its manifest. "
    "Look at the storage snapshots, then playbooks/rollback.yml.",
    "RepoIdMismatch": "Another repository lies at this path. "
    "Look at the storage snapshots, then playbooks/rollback.yml.",
    "UnencryptedRepo": "A repository without encryption lies at this path: it was exchanged.",
    "IntegrityError": "Stored data fails its checksum. Run playbooks/custody.yml with verify-data.",
    "FileIntegrityError": "Stored data fails its checksum. Run playbooks/custody.yml.",
    "DecompressionError": "Stored data cannot be unpacked. Run playbooks/custody.yml.",
    "IDHashMismatch": "Stored data was exchanged. Run playbooks/custody.yml at once.",
    "TAMInvalid": "The manifest or archive is not authenticated: treat it as tampered with.",
    "ArchiveTAMInvalid": "The archive is not authenticated: treat it as tampered with.",
    "TAMRequiredError": "The manifest is not authenticated: treat it as tampered with.",
    "ArchiveTAMRequiredError": "The archive is not authenticated: treat it as tampered with.",
    "PassphraseWrong": "The passphrase in the vault does not open the escrowed key. "
    "Run playbooks/site.yml to escrow the box's key again while the box still lives.",
    "KeyfileInvalidError": "The escrowed key is damaged. "
    "Run playbooks/site.yml to escrow it again.",
    "KeyfileMismatchError": "The escrowed key belongs to another repository. "
    "Run playbooks/site.yml to escrow the right one.",
    "KeyfileNotFoundError": "The vault holds no key for this repository. "
    "Run playbooks/site.yml to escrow it.",
    "RepoKeyNotFoundError": "The vault holds no key for this repository. "
    "Run playbooks/site.yml to escrow it.",
    "Cache.RepositoryReplay": "The repository is older than it was: "
    "it was rolled back or exchanged.",
    "Cache.EncryptionMethodMismatch": "Another repository lies at this path: "
    "its encryption differs.",
    # Said by lifeboat itself.
    "lifeboat.repository_id": "Another repository lies at this path. "
    "Look at the storage snapshots, then playbooks/rollback.yml.",
    "lifeboat.no_archive": "The repository holds no archive to restore. Run playbooks/backup.yml.",
    "lifeboat.no_snapshot": "There is no storage snapshot to drill from. "
    "See the snapshot timer on the storage host.",
    "lifeboat.manifest": "The archive holds no manifest that can be trusted. "
    "Drill an earlier archive with -e archive=NAME.",
    "lifeboat.configuration": "The archive brings a configuration that no agent can use. "
    "Drill an earlier archive with -e archive=NAME.",
    "lifeboat.escrow": "The vault does not hold what a restore needs. Run playbooks/site.yml.",
}
# The same by exit code (BORG_EXIT_CODES=modern), for output without a message id.
LOSS_CODES: Final[Mapping[int, str]] = {
    12: "Repository.CheckNeeded",
    13: "Repository.DoesNotExist",
    15: "Repository.InvalidRepository",
    16: "Repository.InvalidRepositoryConfig",
    17: "Repository.ObjectNotFound",
    26: "NoManifestError",
    31: "Archive.DoesNotExist",
    40: "KeyfileInvalidError",
    41: "KeyfileMismatchError",
    42: "KeyfileNotFoundError",
    43: "KeyfileInvalidError",
    44: "RepoKeyNotFoundError",
    45: "RepoIdMismatch",
    46: "UnencryptedRepo",
    52: "PassphraseWrong",
    61: "Cache.EncryptionMethodMismatch",
    64: "Cache.RepositoryReplay",
    90: "IntegrityError",
    91: "FileIntegrityError",
    92: "DecompressionError",
    95: "ArchiveTAMInvalid",
    96: "ArchiveTAMRequiredError",
    97: "TAMInvalid",
    98: "TAMRequiredError",
}


# What lifeboat itself says of the repository and the escrow; a test holds each to its source.
LOSS_PHRASES: Final[Mapping[str, str]] = {
    r"This is not the repository that the vault describes": "lifeboat.repository_id",
    r"(The repository holds|There is) no archive ": "lifeboat.no_archive",
    r"There is no snapshot": "lifeboat.no_snapshot",
    r"borg check found errors": "IntegrityError",
    r"holds no manifest|The manifest inside the archive is refused|manifest is larger than": (
        "lifeboat.manifest"
    ),
    r"The escrow of .* (is not complete|holds no|knows nothing)|There is no escrow of agent": (
        "lifeboat.escrow"
    ),
}
# Only here does anybody read the repository, the escrow or the archive.
LOSS_PHASES: Final = ("preflight", "identity", "check", "extract")
# What the archive brought, as the start of the agent finds it; nothing else of a start is about the archive.
START_PHRASES: Final[Mapping[str, str]] = {
    r"The agent's configuration is refused": "lifeboat.configuration",
}


def classify_failure(
    phase: str, message: str, details: Mapping[str, Any] | None = None, hint: str = ""
) -> Failure:
    """Tell a loss from a drill that could not run."""
    facts = details or {}
    identifier = ""
    if phase in LOSS_PHASES:
        identifier = next(
            (name for name in _identifiers(message, facts) if name in LOSS_MESSAGES), ""
        )
    if phase == "start":
        identifier = next(
            (name for phrase, name in START_PHRASES.items() if re.search(phrase, message)), ""
        )
    return Failure(
        phase=phase,
        message=message.strip() or "no message",
        hint=hint or str(facts.get("hint") or "") or LOSS_MESSAGES.get(identifier, ""),
        proves_loss=bool(identifier),
    )


def _identifiers(message: str, facts: Mapping[str, Any]) -> Iterator[str]:
    """What the failure may be called, the surest first."""
    code = facts.get("rc")
    yield LOSS_CODES.get(code, "") if isinstance(code, int) else ""
    yield str(facts.get("msgid") or "")
    yield from (name for phrase, name in LOSS_PHRASES.items() if re.search(phrase, message))
    yield from (name for name in LOSS_MESSAGES if _names(message, name))


def _names(message: str, identifier: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(identifier)}(?![\w.])", message) is not None


@dataclass(frozen=True)
class Objective:
    """A time that was promised, and the time it took."""

    name: str  # rto, rpo
    target: float | None
    measured: float | None
    basis: str = ""
    judged: bool = True

    @property
    def met(self) -> bool | None:
        if self.target is None or not self.judged:
            return None
        return self.measured is not None and self.measured <= self.target

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}

    def sentence(self) -> str:
        measured = "unknown" if self.measured is None else duration_text(self.measured)
        target = "no target" if self.target is None else f"at most {duration_text(self.target)}"
        return f"{self.name.upper()}: {measured}, asked for {target}"


@dataclass(frozen=True)
class Verdict:
    result: str
    level: int | None
    required_level: int
    reason: str
    hint: str
    levels: tuple[LevelState, ...]
    not_tested: tuple[tuple[str, str], ...] = field(default=())

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.result]

    def as_dict(self) -> dict[str, Any]:
        return {
            "result": self.result,
            "exit_code": self.exit_code,
            "level": self.level,
            "level_name": "nothing" if self.level is None else LEVELS[self.level],
            "required_level": self.required_level,
            "reason": self.reason,
            "hint": self.hint,
        }


def decide(
    checks: Sequence[Check],
    *,
    failure: Failure | None = None,
    objectives: Sequence[Objective] = (),
    required_level: int = ANSWERS,
    reasons: Mapping[int, str] | None = None,
    leftovers: Sequence[str] = (),
) -> Verdict:
    """The verdict over one drill."""
    states = level_states(checks, reasons)
    level = reached(states)
    result, reason, hint = _result(checks, failure, objectives, level, required_level, states)
    if result == PROVEN and leftovers:
        result, hint = COULD_NOT_RUN, "Run the drill again: it removes what was left over first."
        reason = f"the drill could not be ended cleanly: {'; '.join(leftovers)}"
    return Verdict(
        result=result,
        level=level,
        required_level=required_level,
        reason=reason,
        hint=hint,
        levels=tuple(states),
        not_tested=_not_tested(checks, states),
    )


def _result(
    checks: Sequence[Check],
    failure: Failure | None,
    objectives: Sequence[Objective],
    level: int | None,
    required_level: int,
    states: Sequence[LevelState],
) -> tuple[str, str, str]:
    failed = sorted(
        (check for check in checks if check.status == FAILED), key=lambda check: check.level
    )
    if failed:
        return NOT_PROVEN, failed[0].sentence(), failed[0].hint
    if failure is not None:
        result = NOT_PROVEN if failure.proves_loss else COULD_NOT_RUN
        return result, f"stopped in phase {failure.phase}: {failure.message}", failure.hint
    if level is None or level < required_level:
        return _short_of(level, required_level, states)
    for objective in objectives:
        if objective.met is False:
            return NOT_PROVEN, objective.sentence(), _objective_hint(objective)
    return PROVEN, f"L{level}: {LEVELS[level]}", ""


def _short_of(
    level: int | None, required_level: int, states: Sequence[LevelState]
) -> tuple[str, str, str]:
    start = -1 if level is None else level
    gap = next(
        state
        for state in states
        if state.level > start
        and state.status != "reached"
        and (state.level not in WHOLE_REPOSITORY or state.level == required_level)
    )
    result = COULD_NOT_RUN if level is None else NOT_PROVEN
    reason = f"L{gap.level} was asked for and not tested: {gap.reason}"
    return result, reason, "See what was not tested, or ask for less with drill_required_level."


def _objective_hint(objective: Objective) -> str:
    if objective.name == "rpo":
        return (
            "The newest data in the archive is older than promised: look at the backup timer "
            "(playbooks/status.yml), run it more often, or raise rpo_target."
        )
    return (
        "The restore took longer than promised: see the phases for where the time went "
        "(a prepared image, a wheelhouse, a nearer repository), or raise rto_target."
    )


def _not_tested(
    checks: Sequence[Check], states: Sequence[LevelState]
) -> tuple[tuple[str, str], ...]:
    levels = [
        (f"L{state.level} {SHORT_LEVELS[state.level].lower()}", state.reason)
        for state in states
        if state.status == "not_tested" and not any(check.level == state.level for check in checks)
    ]
    skipped = [(check.name, check.found) for check in effective(checks) if check.status == SKIPPED]
    return tuple(levels + skipped)


def worst(results: Iterable[str]) -> str:
    """The verdict over several agents; no agent at all means that nothing could run."""
    items = set(results)
    for result in (NOT_PROVEN, COULD_NOT_RUN, PROVEN):
        if result in items:
            return result
    return COULD_NOT_RUN


_UNITS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds(value: object) -> float | None:
    """A duration as people write it (90, "90s", "15m", "26h", "1d 12h") in seconds."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a duration")
    if isinstance(value, (int, float)):
        return float(value)
    text = str(value).strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(min|[smhdw])", text)
    rest = re.sub(r"(\d+(?:\.\d+)?)\s*(min|[smhdw])|\s+", "", text)
    if not parts or rest:
        raise ValueError(f"{value!r} is not a duration; write seconds, or 90s, 15m, 26h, 2d")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def duration_text(value: float) -> str:
    """A duration as people read it."""
    if value < 0:
        return f"-{duration_text(-value)}"
    if value < 10:
        return f"{value:.1f} s"
    if value < 100:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime.datetime | None:
    """An ISO time as a moment in UTC, or None."""
    try:
        value = datetime.datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        return None
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.timezone.utc)
    return value.astimezone(datetime.timezone.utc)


def age(earlier: str, later: str) -> float | None:
    """Seconds between two ISO times, or None when one of them is unknown."""
    first, second = moment(earlier), moment(later)
    if first is None or second is None:
        return None
    return (second - first).total_seconds()
