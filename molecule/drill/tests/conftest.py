"""Drills of the scenario's agents, with the harm that a test asks for."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import testinfra.host
import yaml
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[3]
SPOIL = ROOT / "molecule" / "drill" / "files" / "spoil"


@dataclass(frozen=True)
class Ended:
    """How a drill ended: its exit code, what it printed, its records by agent."""

    code: int
    output: str
    records: dict[str, dict[str, Any]]

    @property
    def only(self) -> dict[str, Any]:
        (record,) = self.records.values()
        return record

    @property
    def run(self) -> str:
        return str(next(iter(self.records.values()))["drill"]["run"])

    def failed(self, agent: str = "") -> set[str]:
        record = self.records[agent] if agent else self.only
        return {check["name"] for check in record["checks"] if check["status"] == "failed"}


@dataclass
class World:
    """The inventory of the scenario, and everything beside it."""

    inventory: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def folder(self) -> Path:
        return self.inventory.parent

    @property
    def vault(self) -> Path:
        return self.folder / "vault"

    def host(self, name: str) -> Host:
        return testinfra.host.get_host(f"ansible://{name}", ansible_inventory=str(self.inventory))

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )

    def records(self) -> dict[Path, dict[str, Any]]:
        found = (self.folder / "evidence").glob("*/*Z-*[0-9a-f].json")
        return {path: json.loads(path.read_text()) for path in found}

    def drill(self, *arguments: str, **variables: Any) -> Ended:
        """Run the playbook; with spoil= or spoil_box= harm is done after the restore."""
        before = set(self.records())
        extra = {"drill_production": False, **variables}
        if "spoil" in variables or "spoil_box" in variables:
            extra["__drill_steps"] = self.steps()
        done = self.run(
            "ansible-playbook",
            *("--inventory", str(self.inventory), "playbooks/drill.yml"),
            *("--extra-vars", json.dumps(extra), *arguments),
        )
        records = {
            record["agent"]["name"]: record
            for path, record in self.records().items()
            if path not in before
        }
        return Ended(done.returncode, done.stdout + done.stderr, records)

    @staticmethod
    def steps() -> list[dict[str, str]]:
        variables = yaml.safe_load((ROOT / "roles" / "drill" / "vars" / "main.yml").read_text())
        steps: list[dict[str, str]] = variables["__drill_steps"]
        place = [step["step"] for step in steps].index("restore") + 1
        return [*steps[:place], {"step": str(SPOIL), "phase": "extract"}, *steps[place:]]

    def boxes(self) -> list[str]:
        """Drill boxes that stand."""
        done = self.run("podman", "ps", "--all", "--format", "{{.Names}}")
        return [name for name in done.stdout.split() if name.startswith("drill-")]


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> World:
    path = Path(str(request.config.option.ansible_inventory))
    return World(path / "inventory.yml" if path.is_dir() else path)
