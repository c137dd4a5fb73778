# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What status makes of a box's answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.filter.box_said import box_said

GOOD = {"result": "success", "last_success": "2026-01-02T03:04:05Z", "at_work": False}


def answer(**said: Any) -> dict[str, Any]:
    return {"rc": 0, "stdout": json.dumps({**GOOD, **said}), "stderr": ""}


def test_a_box_that_is_well() -> None:
    told = box_said(answer())
    assert told == {
        "line": "last backup success, last success 2026-01-02T03:04:05Z",
        "problems": [],
    }


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"unreachable": True, "msg": "timed out"}, "the box cannot be reached: timed out"),
        ({"rc": 127, "msg": "No such file"}, "the box does not say how it stands: No such file"),
        ({"rc": 0, "stdout": "[1, 2]"}, "the box does not say how it stands: [1, 2]"),
        ({"rc": 0, "stdout": ""}, "the box does not say how it stands: no answer"),
        ({"rc": 1, "stdout": "{}"}, "the box has made no backup yet"),
        (
            answer(result="failed", message="no room"),
            "the last backup failed: no room",
        ),
        (
            answer(unpaired={"message": "its logins have to be paired again"}),
            "the agent is not paired: its logins have to be paired again",
        ),
        (answer(unpaired="x"), "the agent is not paired: restored and not started"),
    ],
)
def test_what_is_not_well_is_a_problem(given: dict[str, Any], problem: str) -> None:
    assert box_said(given)["problems"] == [problem]


def test_a_run_that_is_at_work_has_not_failed() -> None:
    told = box_said(answer(result="failed", at_work=True))
    assert told["problems"] == []
    assert "at work" in told["line"]


def test_a_box_cannot_fill_the_screen() -> None:
    (problem,) = box_said(answer(result="failed", message="x\n" * 10**6))["problems"]
    assert len(problem) < 600 and "\n" not in problem
