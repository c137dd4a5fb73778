# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What status sees of a provider's snapshots, with the real modules of hetzner.hcloud and a stand-in."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "token-that-must-not-show"
NOW = datetime.now(timezone.utc)
DAILY = {"max_snapshots": 10, "minute": 0, "hour": 12, "day_of_week": None, "day_of_month": None}


def load(name: str) -> ModuleType:
    path = ROOT / "tests" / "stand_ins" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"stand_in_{name}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


hetzner = load("hetzner")


@dataclass
class Control:
    """Plays the part of status that looks at providers."""

    folder: Path
    endpoint: str
    collections: Path

    def ansible(self, tasks: list[dict[str, Any]], said: dict[str, Any]) -> tuple[int, str]:
        inventory = {
            "all": {
                "hosts": {
                    "provider": said,
                    "control": {
                        "ansible_connection": "local",
                        "ansible_python_interpreter": sys.executable,
                    },
                }
            }
        }
        play = {
            "hosts": "control",
            "gather_facts": False,
            "vars": {
                "custody_repository": {"name": "provider", "address": "127.0.0.1", "port": 22},
                "custody_storage_box_token": TOKEN,
                "custody_storage_box_endpoint": self.endpoint,
            },
            "tasks": tasks,
        }
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
        (self.folder / "play.yml").write_text(yaml.safe_dump([play]))
        done = subprocess.run(
            [
                Path(sys.executable).parent / "ansible-playbook",
                "-vvv",
                "--inventory=hosts.yml",
                "play.yml",
            ],
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": f"{self.collections}:{ROOT / '.collections'}",
                "ANSIBLE_NOCOLOR": "1",
                # Its actions are asked for at the cloud's address.
                "HCLOUD_ENDPOINT": self.endpoint,
            },
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert TOKEN not in output
        return done.returncode, output

    def problems(self, **said: Any) -> list[str]:
        write = {
            "ansible.builtin.copy": {
                "dest": str(self.folder / "found.json"),
                "content": "{{ __custody_provided | to_json }}",
                "mode": "0600",
            }
        }
        code, output = self.ansible([self.role("provided"), write], said)
        assert code == 0, output[-3000:]
        found: dict[str, list[str]] = json.loads((self.folder / "found.json").read_text())
        return found["problems"]

    def role(self, tasks: str) -> dict[str, Any]:
        return {
            "ansible.builtin.include_role": {"name": "lifeboat.agents.custody", "tasks_from": tasks}
        }


@pytest.fixture(scope="session")
def collections() -> Path:
    place: Path = load("collection").hetzner_collection(ROOT / ".cache" / "built")
    return place


@pytest.fixture
def cloud() -> Any:
    return hetzner.Cloud(token=TOKEN)


@pytest.fixture
def control(cloud: Any, tmp_path: Path, collections: Path) -> Iterator[Control]:
    with hetzner.served(cloud) as endpoint:
        yield Control(tmp_path, endpoint, collections)


def storage_box(cloud: Any, plan: dict[str, Any] | None, days: list[int]) -> None:
    number = cloud.add_storage_box("vault", plan)
    for day in days:
        when = NOW - timedelta(days=day, hours=1)
        cloud.add_snapshot(number, when.isoformat(timespec="seconds"))


@pytest.mark.parametrize(
    ("plan", "days", "problem"),
    [
        (DAILY, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], ""),
        (DAILY, [2, 3, 4, 5, 6, 7, 8], "the newest snapshot is of"),
        (DAILY, [0, 1, 2, 6, 7, 8, 9], "no snapshot between"),
        (DAILY, [], "there is no snapshot"),
        (None, [0, 1, 2, 3, 4, 5, 6], "has no snapshot plan"),
        ({**DAILY, "day_of_week": 1}, [0, 1, 2, 3, 4, 5, 6], "not one of every day"),
        ({**DAILY, "max_snapshots": 3}, [0, 1, 2], "daily snapshots reach 3 days back"),
    ],
)
def test_a_storage_box(
    cloud: Any, control: Control, plan: dict[str, Any] | None, days: list[int], problem: str
) -> None:
    storage_box(cloud, plan, days)
    found = control.problems(custody_snapshot_source="storage_box", custody_storage_box="vault")
    if problem:
        assert any(problem in one for one in found), found
    else:
        assert found == []


def test_a_storage_box_that_cannot_be_asked(cloud: Any, control: Control) -> None:
    said = {"custody_snapshot_source": "storage_box", "custody_storage_box": "vault"}
    [found] = control.problems(**said)
    assert 'could not be seen: The project has no Storage Box "vault"' in found
    cloud.token = "another"
    [found] = control.problems(**said)
    assert "could not be seen: unable to authenticate" in found


def test_the_plan_of_a_storage_box_is_set(cloud: Any, control: Control) -> None:
    storage_box(cloud, None, [])
    set_it = [{**control.role("storage_box"), "vars": {"custody_storage_box": "vault"}}]
    code, output = control.ansible(set_it, {})
    assert code == 0, output[-3000:]
    (box,) = cloud.storage_boxes.values()
    assert (box["snapshot_plan"]["max_snapshots"], box["snapshot_plan"]["hour"]) == (10, 12)
    asked = len([one for one in cloud.requests if one[0] == "POST"])
    code, output = control.ansible(set_it, {})
    assert code == 0, output[-3000:]
    assert len([one for one in cloud.requests if one[0] == "POST"]) == asked, "a second run changes"


def test_silence_of_the_inventory_is_a_problem(control: Control) -> None:
    [found] = control.problems()
    assert "nobody has said where its snapshots are" in found
    assert control.problems(custody_snapshot_source="none") == []


@pytest.mark.parametrize(
    ("seen", "preserve", "problem"),
    [
        (10, "7d", ""),
        (100, "7d", "somebody has to look"),
        (-10, "7d", "somebody has to look"),  # a day to come
        (10, "2d", "daily snapshots reach 2 days back"),
        (10, "", "daily snapshots reach 0 days back"),
    ],
)
def test_snapshots_that_only_a_person_can_see(
    control: Control, seen: int, preserve: str, problem: str
) -> None:
    found = control.problems(
        custody_snapshot_source="by_hand",
        custody_snapshot_seen=f"{NOW - timedelta(days=seen):%Y-%m-%d}",
        custody_snapshot_preserve=preserve,
    )
    if problem:
        assert any(problem in one for one in found), found
    else:
        assert found == []
