# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/drill.yml as a whole, with a provider that makes no box: every run leaves evidence."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.lifeboat.agents.plugins.action.escrow import Store
from ansible_collections.lifeboat.agents.plugins.module_utils import evidence
from ansible_collections.lifeboat.agents.plugins.module_utils.escrow import empty

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
AGENTS = ("acme", "globex")


@dataclass
class Fleet:
    """A controller with two agents on one live box, all of them this machine."""

    root: Path

    def build(self) -> None:
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        agents = [
            {"name": name, "user": "nobody", "home": f"/srv/{name}", "profile": "generic"}
            for name in AGENTS
        ]
        inventory = {
            "hosts": {"localhost": local},
            "children": {
                "agents": {"hosts": {"box1": {**local, "backup_agents": agents}}},
                "repositories": {"hosts": {"vault1": local}},
            },
        }
        (self.root / "inventory.yml").write_text(yaml.safe_dump({"all": inventory}))
        (self.root / "password").write_text("secret")
        provider = self.root / "provider"
        provider.mkdir()
        none = {"name": "None", "ansible.builtin.set_fact": {"__drill_box_destroyed": []}}
        (provider / "destroy.yml").write_text(yaml.safe_dump([none]))

    def drill(self, *extra: str) -> subprocess.CompletedProcess[str]:
        provider = "../" * 30 + str(self.root / "provider").lstrip("/")
        arguments = [f"provider={provider}", *extra]
        return subprocess.run(
            [
                *(str(PLAYBOOK), "-i", str(self.root / "inventory.yml"), "playbooks/drill.yml"),
                *("--vault-password-file", str(self.root / "password")),
                *(word for argument in arguments for word in ("-e", argument)),
            ],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_HOME": str(self.root / ".a")},
            capture_output=True,
            text=True,
            check=False,  # its exit code is what tests ask
            timeout=300,
        )

    def records(self) -> dict[str, list[dict[str, Any]]]:
        folder = self.root / "evidence"
        return {
            name: [dict(record.data) for record in evidence.history(str(folder), name)]
            for name in evidence.agents(str(folder))
        }


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    made = Fleet(tmp_path)
    made.build()
    return made


def test_a_live_box_that_hangs_is_not_waited_for(fleet: Fleet) -> None:
    asleep = fleet.root / "asleep"
    asleep.write_text("#!/bin/sh\nexec sleep 20\n")
    asleep.chmod(0o755)
    inventory = yaml.safe_load((fleet.root / "inventory.yml").read_text())
    box = inventory["all"]["children"]["agents"]["hosts"]["box1"]
    box["ansible_python_interpreter"] = str(asleep)
    box["backup_agents"] = box["backup_agents"][:1]
    (fleet.root / "inventory.yml").write_text(yaml.safe_dump(inventory))
    (fleet.root / "vault").mkdir()
    secret = VaultLib([("default", VaultSecret(b"secret"))])
    known = {"passphrase": "p", "key": "k", "repository_id": "5f"}
    escrowed = {**empty("acme"), "repositories": {"vault1": known}}
    Store(fleet.root / "vault", secret).write("acme", escrowed)
    done = fleet.drill("drill_production_time_limit=3")
    assert list(fleet.records()) == ["acme"], done.stdout + done.stderr
    (record,) = fleet.records()["acme"]
    reasons = {item["name"]: item["reason"] for item in record["not_tested"]}
    assert "imed out after 3" in reasons["drift of the live agent"], done.stdout
    assert record["verdict"]["result"] == "could_not_run"
    assert done.stdout.index("Destroy it") < done.stdout.index("Ask the live agent")


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("repository=typo", "has no repository 'typo'"),
        ("parallel=abc", "drill_parallel"),
        ("source=tape", "drill_source"),
    ],
)
def test_a_wrong_argument_is_recorded(fleet: Fleet, argument: str, reason: str) -> None:
    done = fleet.drill(argument)
    assert done.returncode == 2, done.stdout
    records = fleet.records()
    assert sorted(records) == sorted(AGENTS), done.stdout
    for (record,) in records.values():
        assert record["verdict"]["result"] == "could_not_run"
        assert reason in record["verdict"]["reason"]
    for name in ("index.html", "junit.xml"):
        assert (fleet.root / "evidence" / name).is_file()


def test_a_sample_of_no_number_ends_as_could_not_run(fleet: Fleet) -> None:
    done = fleet.drill("sample=abc")
    assert done.returncode == 2, done.stdout
    assert fleet.records() == {}
    assert "drill_sample" in (fleet.root / "evidence/junit.xml").read_text()


def test_a_record_that_fails_stops_no_other_agent(fleet: Fleet) -> None:
    """With one drill at a time, its whole batch fails; the next batch has to come all the same."""
    (fleet.root / "evidence").mkdir()
    (fleet.root / "evidence" / AGENTS[0]).write_text("no folder")
    done = fleet.drill("parallel=1")
    assert "The drill of acme could not be recorded" in done.stdout
    assert done.returncode == 1, done.stdout
    (record,) = fleet.records()["globex"]
    assert "There is no escrow of agent 'globex'" in record["verdict"]["reason"]
    assert "its record cannot be written" in (fleet.root / "evidence/junit.xml").read_text()
