# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What docs/restore.md tells a tired operator to type has been typed before, on real boxes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.tests.unit import runbook

ROOT = Path(__file__).resolve().parents[2]

PAGE = """
# A page

    ansible-playbook playbooks/restore.yml -e agent=acme -e target=box

With `-e replace=true` more. `-e at=2026-11-01` takes a date, see `playbooks/site.yml`; and `lifeboat status` tells.
"""
TEST = """
def test_it(world):
    world.runbook("ansible-playbook playbooks/restore.yml -e agent=acme -e target=box").well()
    world.restore("a", "replace=true", f"at={world.day}")
    world.play("site")
    assert world.run("lifeboat status a")
"""


def test_every_command_of_the_runbook_is_executed_by_a_test() -> None:
    assert runbook.problems(ROOT, "docs/restore.md", "molecule/restore/tests") == []


def test_there_is_something_to_execute() -> None:
    text = (ROOT / "docs/restore.md").read_text(encoding="utf-8")
    assert len(runbook.blocks(text)) >= 13
    assert len(runbook.options(text)) >= 12
    assert {"site", "custody", "rollback"} <= set(runbook.playbooks(text))


def judged(folder: Path, page: str = PAGE, test: str = TEST) -> list[str]:
    (folder / "page.md").write_text(page, encoding="utf-8")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_it.py").write_text(test, encoding="utf-8")
    return runbook.problems(folder, "page.md", "tests")


def test_a_page_that_was_executed_is_good(tmp_path: Path) -> None:
    assert judged(tmp_path) == []


@pytest.mark.parametrize(
    ("was", "becomes", "problem"),
    [
        ("target=box\n", "target=box -e only=x\n", "page.md: no test runs: ansible-playbook"),
        ("replace=true", "undo=true", "page.md: no test gives undo=true"),
        ("-e at=2026-11-01", "-e archive=acme-2026-11-01", "page.md: no test gives archive="),
        ("playbooks/site.yml", "playbooks/retire.yml", "no test runs playbooks/retire.yml"),
        ("lifeboat status", "lifeboat audit", "page.md: no test runs: lifeboat audit"),
    ],
)
def test_what_nobody_executed_is_found(
    tmp_path: Path, was: str, becomes: str, problem: str
) -> None:
    assert was in PAGE
    found = judged(tmp_path, page=PAGE.replace(was, becomes))
    assert any(problem in line for line in found), found


def test_what_the_page_no_longer_says_is_found(tmp_path: Path) -> None:
    found = judged(tmp_path, page=PAGE.replace("target=box", "target=crate"))
    assert any(line.startswith("tests: runs what page.md does not say") for line in found)


def test_what_stands_in_no_test_is_not_executed(tmp_path: Path) -> None:
    found = judged(tmp_path, test=TEST.replace("def test_it", "def helper"))
    assert len(found) == 5, found
