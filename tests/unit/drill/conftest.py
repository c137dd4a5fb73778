# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of a drill as drill.yml hands them over, to be spoiled by the tests."""

from __future__ import annotations

import copy
from typing import Any

import pytest

GOOD_CHECKS = [
    {"name": "repository_reachable", "level": 0, "status": "passed"},
    {"name": "extraction", "level": 3, "status": "passed", "duration": 2.5},
    {"name": "content", "level": 4, "status": "passed", "expected": "3 files", "found": "3 files"},
    {"name": "command: chat", "level": 5, "status": "passed"},
]

FACTS: dict[str, Any] = {
    "production": {"asked": True},
    "drill": {
        "id": "0a1b2c3d",
        "run": "20261122T210000Z-77aa",
        "started": "2026-11-22T21:00:00Z",
        "provider": "podman",
        "distribution": "debian-13",
        "source": "repository",
        "selection": "latest",
        "parallel": 1,
    },
    "agent": {
        "agent": "acme",
        "host": "acme-agent",
        "profile": "hermes",
        "user": "hermes",
        "home": "/home/hermes/.hermes",
        "rto_target": "10m",
        "rpo_target": "26h",
    },
    "repository": {"name": "vault1", "url": "ssh://lb-acme@vault1/srv", "id": "5f" * 32},
    "archive": {
        "name": "acme-2026-11-22T20:00:00Z",
        "id": "9b" * 32,
        "time": "2026-11-22T20:00:00Z",
    },
    "manifest": {
        "agent": {"version": "0.19.0"},
        "to_be_supplied": [{"path": "config.yaml", "key": "model.api_key"}],
    },
    "checks": GOOD_CHECKS,
    "phases": {"provision": 20, "install": 40, "extract": 30, "verify": 10, "start": 20},
    "newest": {"time": "2026-11-22T19:59:00Z", "source": "state.db messages.timestamp"},
    "drift": [],
}


@pytest.fixture
def facts() -> dict[str, Any]:
    return copy.deepcopy(FACTS)
