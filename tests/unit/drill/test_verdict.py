# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A verdict is never better than what was tested."""

from __future__ import annotations

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import verdict
from ansible_collections.lifeboat.agents.plugins.module_utils.verdict import (
    COULD_NOT_RUN,
    FAILED,
    NOT_PROVEN,
    PASSED,
    PROVEN,
    SKIPPED,
    Check,
    Objective,
    classify_failure,
    decide,
)


def check(name: str, level: int, status: str = PASSED, **more: object) -> Check:
    return Check(name=name, level=level, status=status, expected="1", found="0", **more)  # type: ignore[arg-type]


GOOD = [check("reach", 0), check("entries", 3), check("rows", 4), check("answers", 5)]
RTO = Objective("rto", 3600, 240)


def test_everything_tested_is_proven() -> None:
    result = decide(GOOD, objectives=[RTO])
    assert (result.result, result.level, result.exit_code) == (PROVEN, 5, 0)
    assert [name for name, _reason in result.not_tested] == ["L1 check", "L2 verify data"]


@pytest.mark.parametrize("level", [0, 3, 4, 5])
def test_one_failed_check_is_not_proven_and_names_itself(level: int) -> None:
    checks = [*GOOD, check("broken", level, FAILED, offenders=("state.db",), offenders_count=3)]
    result = decide(checks)
    assert (result.result, result.exit_code) == (NOT_PROVEN, 1)
    assert result.reason == "broken: expected 1, found 0 (state.db and 2 more)"
    assert result.level == {0: None, 3: 0, 4: 3, 5: 4}[level]


def test_failed_verification_of_the_repository_stops_the_level() -> None:
    result = decide([*GOOD, check("borg_check", 1, FAILED)])
    assert (result.result, result.level) == (NOT_PROVEN, 0)


def test_a_skipped_check_is_no_proof() -> None:
    result = decide([*GOOD, check("database_writable", 4, SKIPPED)])
    assert (result.result, result.level) == (NOT_PROVEN, 3)
    assert "database_writable" in result.reason
    assert ("database_writable", "0") in result.not_tested


def test_a_skip_is_made_up_for_by_the_same_check_later() -> None:
    result = decide([check("agent_version", 5, SKIPPED), check("agent_version", 5), *GOOD])
    assert result.result == PROVEN


def test_no_checks_at_all_is_not_green() -> None:
    result = decide([])
    assert (result.result, result.level, result.exit_code) == (COULD_NOT_RUN, None, 2)


def test_a_level_without_checks_stops_there() -> None:
    result = decide([check("reach", 0), check("entries", 3), check("answers", 5)])
    assert (result.result, result.level) == (NOT_PROVEN, 3)


def test_less_can_be_asked_for() -> None:
    assert decide(GOOD[:3], required_level=4).result == PROVEN


def test_more_can_be_asked_for() -> None:
    assert decide(GOOD[:2], required_level=2).result == PROVEN  # extraction is above it
    assert decide(GOOD[:1], required_level=2).result == NOT_PROVEN


def test_a_missed_objective_is_not_proven() -> None:
    result = decide(GOOD, objectives=[Objective("rto", 100, 101)])
    assert (result.result, result.level) == (NOT_PROVEN, 5)
    assert result.reason == "RTO: 1 min 41 s, asked for at most 1 min 40 s"
    assert "rto_target" in result.hint


def test_an_unknown_measure_misses_its_objective() -> None:
    assert decide(GOOD, objectives=[Objective("rpo", 100, None)]).result == NOT_PROVEN


def test_an_objective_that_is_not_judged_decides_nothing() -> None:
    assert decide(GOOD, objectives=[Objective("rpo", 1, 1e6, judged=False)]).result == PROVEN


def test_leftovers_are_never_green() -> None:
    result = decide(GOOD, leftovers=["the box drill-acme is still there"])
    assert (result.result, result.exit_code) == (COULD_NOT_RUN, 2)
    assert decide([*GOOD, check("x", 4, FAILED)], leftovers=["x"]).result == NOT_PROVEN


@pytest.mark.parametrize(
    ("message", "details", "result"),
    [
        ("Connection closed by remote host", {"rc": 80}, COULD_NOT_RUN),
        ("ssh: connect to host vault1: Connection refused", {}, COULD_NOT_RUN),
        ("lock", {"msgid": "LockTimeout", "rc": 73}, COULD_NOT_RUN),
        ("timed out", {"rc": 124}, COULD_NOT_RUN),
        ("pass", {"msgid": "PassphraseWrong"}, NOT_PROVEN),
        ("pass", {"rc": 52}, NOT_PROVEN),
        ("no repository", {"rc": 13}, NOT_PROVEN),
        ("failed: Repository.DoesNotExist: /srv", {}, NOT_PROVEN),
        ("none", {"msgid": "lifeboat.no_archive"}, NOT_PROVEN),
        ("none", {"msgid": "lifeboat.no_snapshot"}, NOT_PROVEN),
        ("integrity", {"rc": 90}, NOT_PROVEN),
    ],
)
def test_a_loss_is_told_from_a_drill_that_could_not_run(
    message: str, details: dict[str, object], result: str
) -> None:
    failure = classify_failure("extract", message, details)
    assert decide([], failure=failure).result == result
    assert decide(GOOD, failure=failure).result == result  # never green
    if result == NOT_PROVEN:
        assert failure.hint


def test_only_what_reads_the_repository_can_prove_a_loss() -> None:
    for phase in ("provision", "install", "start"):
        assert not classify_failure(phase, "IntegrityError in a wheel", {"rc": 52}).proves_loss


def test_a_failed_check_outweighs_a_failure() -> None:
    failure = classify_failure("start", "Connection closed by remote host")
    assert decide([check("rows", 4, FAILED)], failure=failure).result == NOT_PROVEN


def test_several_agents() -> None:
    assert verdict.worst([PROVEN, PROVEN]) == PROVEN
    assert verdict.worst([PROVEN, COULD_NOT_RUN]) == COULD_NOT_RUN
    assert verdict.worst([PROVEN, COULD_NOT_RUN, NOT_PROVEN]) == NOT_PROVEN
    assert verdict.worst([]) == COULD_NOT_RUN


def test_unreadable_status_counts_as_failed() -> None:
    assert Check.from_dict({"name": "x", "level": 3, "status": "ok"}).status == FAILED


def test_level_of_a_call() -> None:
    assert verdict.level_of_call([check("a", 3), check("b", 4)]) == 4
    assert verdict.level_of_call([check("a", 3), check("b", 4, FAILED)]) == 3
    assert verdict.level_of_call([check("a", 3, FAILED), check("b", 4)]) == 0
    assert verdict.level_of_call([check("a", 5)]) == 5
    assert verdict.level_of_call([]) == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(90, 90), ("90", 90), ("15m", 900), ("26h", 93600), ("1d 12h", 129600), ("", None)],
)
def test_durations(text: object, seconds: float | None) -> None:
    assert verdict.seconds(text) == seconds


@pytest.mark.parametrize("text", ["soon", "3 fortnights", True])
def test_bad_durations(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        verdict.seconds(text)


def test_durations_read_well() -> None:
    texts = [verdict.duration_text(value) for value in (0.42, 42, 252, 3600, 93600, 180000)]
    assert texts == ["0.4 s", "42 s", "4 min 12 s", "1 h", "26 h", "2 d 2 h"]
