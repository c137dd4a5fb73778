# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The threat model names tests: they exist. The findings have words: they are all explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import audit, ledger_watch

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parents[1]
THREATS = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")


def missing(text: str) -> list[str]:
    found = []
    for file, name in re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", text):
        found_files = [*TESTS.rglob(file), *(ROOT / "molecule").rglob(file)]
        texts = [path.read_text(encoding="utf-8") for path in found_files]
        if not any(f"def {name}(" in text if name else True for text in texts):
            found.append(f"{file}::{name}")
    return found


def test_every_test_that_is_named_exists() -> None:
    assert missing(THREATS) == []


def test_a_test_that_is_gone_is_noticed() -> None:
    assert missing("`test_serve.py::test_gone`, `test_nowhere.py`") == [
        "test_serve.py::test_gone",
        "test_nowhere.py::",
    ]


def test_every_act_has_a_test() -> None:
    rows = [line for line in THREATS.splitlines() if line.startswith("| ") and "refused" in line]
    assert len(rows) > 10
    assert [row for row in rows if "test_" not in row and "boxes" not in row] == []


@pytest.mark.parametrize("kind", [*audit.FINDINGS, *ledger_watch.FINDINGS])
def test_every_finding_has_words(kind: str) -> None:
    words = audit.FINDINGS.get(kind) or ledger_watch.FINDINGS[kind][0]
    assert len(words) > 10
    assert re.fullmatch(r"[a-z-]+", kind)


STATUS = {
    "roles/custody/tasks/status.yml": ["it does not open the repository"],
    "plugins/filter/box_said.py": [
        "the agent is not paired",
        "the box cannot be reached",
        "the box does not say how it stands",
        "the box has made no backup yet",
        "the last backup failed",
    ],
    "plugins/module_utils/ledger_reading.py": ["a part of the data"],
}


@pytest.mark.parametrize(
    ("file", "words"), [(file, words) for file, every in STATUS.items() for words in every]
)
def test_what_status_names_has_a_row_that_says_what_to_do(file: str, words: str) -> None:
    assert words in (ROOT / file).read_text(encoding="utf-8")
    rows = (ROOT / "docs" / "custody.md").read_text(encoding="utf-8").splitlines()
    assert [row for row in rows if row.startswith("|") and words in row.split("|")[1]]
