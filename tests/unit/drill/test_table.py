# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/drill-findings.md is what the tests do, row by row: no row without a test.

LIFEBOAT_WRITE_TABLE=1 writes the document anew.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from .test_health_spoiled import SPOILED, SPOILED_MANIFESTS

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "drill-findings.md"
INTRODUCTION = """# What the drill finds

Every row is a test: something is spoiled on purpose, and the drill has to find it, name it, and end with this exit
code. None of them ends green. The tests write this document (`tests/unit/drill/test_table.py`). How to spoil a drill
of your own: [the drill](drill.md#try-your-own-drill).

"""
DRILLS = """## Whole drills, on real boxes

`playbooks/drill.yml` with `molecule/drill`: real borg, real SSH, real systemd. Each has to be found by the check that
is named, or to be told as the reason of the verdict.

| what was done | verdict | found by | exit code |
|---|---|---|---|
"""
RESTORES = """
## Restored homes

The same checks on made homes with real SQLite databases (`tests/unit/drill/test_health_spoiled.py`): everything is as
it was archived but for one thing.

| what was done | verdict | found by | exit code |
|---|---|---|---|
"""


def endings() -> ModuleType:
    """The table of the scenario."""
    path = ROOT / "molecule" / "drill" / "tests" / "endings.py"
    spec = importlib.util.spec_from_file_location("lifeboat_drill_endings", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def document() -> str:
    drills = "".join(
        f"| {what} | {verdict} | {found} | {code} |\n"
        for what, verdict, found, code in endings().rows()
    )
    homes = [(what, check) for what, (_spoil, check, _offender, _level) in SPOILED.items()]
    homes += [(f"manifest: {what}", check) for what, (_s, check) in SPOILED_MANIFESTS.items()]
    homes += [("manifest missing", "manifest"), ("older agent than the archive", "agent_version")]
    rows = "".join(f"| {what} | not proven | `{check}` | 1 |\n" for what, check in homes)
    return INTRODUCTION + DRILLS + drills + RESTORES + rows


def test_the_document_is_what_the_tests_do() -> None:
    if os.environ.get("LIFEBOAT_WRITE_TABLE"):
        DOCUMENT.write_text(document(), encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == document()


def test_there_are_enough_ways_and_none_is_green() -> None:
    rows = [line for line in document().splitlines() if line.startswith("| ")][1:]
    assert len([row for row in rows if "exit code" not in row]) >= 25
    assert not [row for row in rows if row.endswith("| 0 |")]
    assert all("reason" in row or "`" in row.split("|")[3] for row in rows if "what was" not in row)
