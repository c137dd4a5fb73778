# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nights of these tests call the modules in the order in which the role calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.lifeboat.agents.tests.unit.custody import nights
from ansible_collections.lifeboat.agents.tests.unit.custody.support import World

TASKS = Path(__file__).resolve().parents[3] / "roles" / "custody" / "tasks"
PREFIX = "lifeboat.agents.repository_"
INCLUDE = "ansible.builtin.include_tasks"
DEFAULTS = {"archives": "listed", "ledger": "read", "lockout": "closed"}
# What a night at a storage host of ours without an operator's word does not do.
OTHERS = (
    "__custody_scan",
    "custody_resolve | length > 0",
    "custody_compacted | length > 0",
    "custody_reopen",
    "custody_stay_closed | default(false)",
)

Call = tuple[str, str]


def role(
    file: str, variables: Mapping[str, Any] | None = None, *, without: str = ""
) -> Iterator[Call]:
    """Every call of a repository's module, in the order of the tasks, with its state."""
    yield from _tasks(
        yaml.safe_load((TASKS / file).read_text(encoding="utf-8")), variables or {}, without
    )


def _tasks(
    tasks: list[dict[str, Any]], variables: Mapping[str, Any], without: str
) -> Iterator[Call]:
    for task in tasks:
        if task.get("when") in OTHERS:
            continue
        for part in ("block", "always"):
            yield from _tasks(task.get(part, []), variables, without)
        included = task.get(INCLUDE)
        if included is not None and included != without:
            yield from role(included, task.get("vars"), without=without)
        for module, arguments in task.items():
            if module.startswith(PREFIX):
                name = module.removeprefix(PREFIX)
                state = str(arguments.get("state", DEFAULTS.get(name, "")))
                yield name, str(variables.get(state.strip("{} "), state))


def told(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """The calls that the nights make."""
    calls: list[Call] = []
    names = {main: name for name, main in nights.MODULES.items()}
    real = nights.call

    def call(main: Callable[[], None], **arguments: Any) -> dict[str, Any]:
        name = names[main]
        calls.append((name, arguments.get("state", DEFAULTS.get(name, ""))))
        return real(main, **arguments)

    monkeypatch.setattr(nights, "call", call)
    return calls


def test_the_order_is_the_roles(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start = datetime(2026, 3, 1, 4, 0, tzinfo=timezone.utc)
    rule = {"daily": 1, "weekly": 0, "monthly": 0, "floor": 1}
    custody = nights.Custody(world, start, **rule, compact_every_days=1, compact_delay_hours=20)
    calls = told(monkeypatch)
    seen = []
    for _night in range(3):
        world.write("SOUL.md")
        custody.backup()
        calls.clear()
        night = custody.night()["night"]
        seen.append((list(calls), bool(night["plan"]["deletions"]), night["compact"]))
        custody.now += timedelta(days=1)
    deleting = [done for done, deletes, compacts in seen if deletes and not compacts]
    compacting = [done for done, deletes, compacts in seen if compacts and not deletes]
    assert deleting[0] == list(role("night.yml", without="compact.yml"))
    assert compacting[0] == list(role("night.yml", without="delete.yml"))


def test_the_roles_order_is_read_as_it_stands() -> None:
    assert list(role("night.yml")) == [
        ("ledger", "read"),
        ("lockout", "closed"),
        ("ledger", "read"),
        ("archives", "listed"),
        ("audit", ""),
        ("ledger", "watched"),
        ("ledger", "recorded"),
        ("archives", "absent"),
        ("ledger", "read"),
        ("audit", ""),
        ("archives", "checked"),
        ("ledger", "recorded"),
        ("compaction", ""),
        ("ledger", "recorded"),
        ("lockout", "open"),
    ]


def test_what_is_gone_back_to_is_chosen_by_what_is_known_once_the_box_is_out() -> None:
    assert list(role("rollback.yml"))[:5] == [
        ("ledger", "read"),
        ("lockout", "closed"),
        ("ledger", "read"),
        ("rollback", ""),
        ("archives", "checked"),
    ]
    block = yaml.safe_load((TASKS / "rollback.yml").read_text(encoding="utf-8"))[-2]["block"]
    included = [task.get(INCLUDE) for task in block]
    assert included[:3] == ["close.yml", "ledger.yml", "target.yml"]
