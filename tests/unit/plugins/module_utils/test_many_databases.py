# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A home with more databases than files may be open by default."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.privilege import Call, Lines, send
from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils.engine import (
    Box,
    identity,
    make_database,
)

DATABASES = 60
HIGH = 5000


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    """What may be open; set back afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def crowded(box: Box, limits: tuple[int, int]) -> Box:
    """More databases than the soft limit lets be held."""
    for number in range(DATABASES):
        make_database(box.home / "workspace" / f"{number}.db", rows=1)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + DATABASES, limits[1]))
    return box


def test_more_databases_than_the_soft_limit_has_files(crowded: Box) -> None:
    status = crowded.backup()
    assert (status["result"], status["problems"]) == ("success", [])
    assert [item["quick_check"] for item in status["databases"]] == ["ok"] * DATABASES


def test_more_databases_than_may_be_held_are_told_with_the_setting(
    crowded: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_what: int, _limits: tuple[int, int]) -> None:
        raise PermissionError(1, "Operation not permitted")

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with monkeypatch.context() as patched:
        patched.setattr(resource, "setrlimit", refused)
        status = crowded.backup()
    assert status["result"] == "failed"
    assert f"{DATABASES} databases" in status["message"]
    assert f"no more than {soft} may be open" in status["message"]
    assert "LimitNOFILE" in status["hint"]
    assert len(status["problems"]) == 1


@pytest.fixture
def high(limits: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """A pipe whose reading end has a high number, as after many databases."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(HIGH + 100, limits[0]), limits[1]))
    reading, writing = os.pipe()
    os.dup2(reading, HIGH)
    os.close(reading)
    yield HIGH, writing
    os.close(HIGH)
    os.close(writing)


def test_an_answer_arrives_by_a_high_descriptor(high: tuple[int, int]) -> None:
    reading, writing = high
    send(writing, {"held": True})
    assert Lines(reading).next(5) == {"held": True}
    assert Lines(reading).next(0.01) == {"error": "no answer within 0 s"}


def test_a_child_inherits_no_high_descriptor(high: tuple[int, int]) -> None:
    call = Call(identity(), lambda: {"open": os.path.lexists(f"/proc/self/fd/{high[0]}")})
    assert call.result(30) == {"open": False}
