# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A number given with -e NAME=VALUE is text: whatever is calculated with makes it a number first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import Environment

ROOT = Path(__file__).resolve().parents[2]
NUMBER = r"(?:custody|restore|drill|backup|repository)_\w*(?:hours|days|seconds|minutes|parts)"
CALCULATED = re.compile(rf"(?:[-+*%/]\s+{NUMBER}\b(?!\s*\|\s*int)|\b{NUMBER}\s+[*%/+-]\s)")


def calculations() -> list[str]:
    files = [path for name in ("roles", "playbooks") for path in (ROOT / name).rglob("*.yml")]
    found = []
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if CALCULATED.search(line) and not line.lstrip().startswith("#"):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    return found


def test_numbers_from_the_command_line_are_made_numbers() -> None:
    assert calculations() == []


@pytest.mark.parametrize(
    "text",
    ["1 + custody_lockout_seconds", "5 % custody_read_parts", "9 - custody_silence_hours * 3600"],
)
def test_one_that_is_not_is_noticed(text: str) -> None:
    assert CALCULATED.search(text)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("1 + custody_lockout_seconds | int", "121"),
        ("9 // 2 % custody_lockout_seconds | int", "4"),
        ("500000 - custody_lockout_seconds | int * 3600", "68000"),
    ],
)
def test_the_filter_binds_tighter_than_the_calculation(text: str, result: str) -> None:
    assert not CALCULATED.search(text)
    rendered = Environment(autoescape=True).from_string("{{ " + text + " }}")
    assert rendered.render(custody_lockout_seconds="120") == result
