# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key with which status looks into a repository lists, and cannot delete."""

from __future__ import annotations

import shlex
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.lifeboat.agents.tests.unit.custody.nights import Custody, ModuleFailed
from ansible_collections.lifeboat.agents.tests.unit.custody.support import (
    GUARD,
    World,
    files_of,
    python_of,
)

ROLE = Path(__file__).resolve().parents[3] / "roles" / "custody"


def tasks(file: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ROLE / "tasks" / file).read_text("utf-8"))
    return [one for task in found for one in (task, *task.get("block", []))]


def commands() -> dict[str, dict[str, str]]:
    """The forced commands of the role, as they stand."""
    said = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))
    found: dict[str, dict[str, str]] = said["__custody_serving"]
    return found


def forced(world: World, command: str) -> list[str]:
    """What the host would start for it."""
    for name, value in (
        ("agent", world.agent),
        ("path", world.repository),
        ("quota", world.quota),
        ("counters", world.counters),
    ):
        command = command.replace(f"{{{name}}}", str(value))
    program, *options = shlex.split(command)
    assert program == "/usr/local/sbin/lifeboat-serve"
    return [python_of(world.borg_path), "-I", str(GUARD), *options]


@pytest.fixture
def custody(lived_in: World) -> Custody:
    return Custody(lived_in, datetime(2026, 3, 1, tzinfo=timezone.utc))


def test_status_asks_for_the_command_that_reads() -> None:
    (included,) = [
        task
        for task in tasks("status.yml")
        if task.get("ansible.builtin.include_tasks") == "identity.yml"
    ]
    assert included["vars"] == {"custody_identity_command": "{{ custody_read_command }}"}
    (grant,) = [task for task in tasks("identity.yml") if "import_role" in str(task.keys())]
    assert grant["vars"]["repository_grant_command"] == (
        "{{ custody_identity_command | default(custody_control_command) }}"
    )


def test_it_lists_also_during_maintenance(custody: Custody) -> None:
    serving = forced(custody.world, commands()["write-once"]["read"])
    assert len(custody.archives(serving=serving)["archives"]) == 2
    custody.lockout("closed")
    assert len(custody.archives(serving=serving)["archives"]) == 2


def test_it_cannot_delete(custody: Custody) -> None:
    world = custody.world
    (name, identity), *_others = world.archives().items()
    before = files_of(world.repository)
    gone = [{"id": identity, "name": name}]
    serving = commands()["write-once"]
    with pytest.raises(ModuleFailed):
        custody.archives(state="absent", archives=gone, serving=forced(world, serving["read"]))
    assert files_of(world.repository) == before
    custody.archives(state="absent", archives=gone, serving=forced(world, serving["control"]))
    assert name not in world.archives(), "the control: custody's own key does"
