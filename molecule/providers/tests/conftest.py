"""Drills of the scenario's agents with boxes from somewhere else than podman."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import testinfra.host
from testinfra.host import Host

PLAIN = {"ANSIBLE_FORCE_COLOR": "false", "ANSIBLE_NOCOLOR": "true"}  # molecule asks for colours
ROOT = Path(__file__).resolve().parents[3]

# Everything that a drill might leave on a host: files with owner and mode, what they hold where it
# is configuration, accounts, packages, units, the fence. The system's own moving parts are left out.
STATE = r"""
set -eu
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /var/log \
  -o -path /var/lib/systemd -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/cache \
  -o -path /usr/lib -o -path /usr/share -o -path '/tmp/systemd-private-*' -o -path '/var/tmp/systemd-private-*' \
  -o -path /root/.ansible -o -path /etc/ld.so.cache \) -prune -o -printf '%y %m %u:%g %p\n' | sort
find /run -maxdepth 1 -name 'lifeboat*'
cd /etc && find . -type f ! -name '*-' ! -name ld.so.cache -print0 | sort -z | xargs -0 sha256sum
cat /root/.ssh/authorized_keys
dpkg-query --show --showformat='${db:Status-Abbrev} ${Package}\n' | sort
systemctl list-units --all --plain --no-legend 'lifeboat*' | cut -d' ' -f1
nft list ruleset 2>/dev/null || echo no nft
loginctl --no-legend list-users | awk '{print $2}'
"""


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


@dataclass
class World:
    """The inventory of the scenario, and everything beside it."""

    inventory: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def folder(self) -> Path:
        return self.inventory.parent

    def host(self, name: str) -> Host:
        return testinfra.host.get_host(f"ansible://{name}", ansible_inventory=str(self.inventory))

    def state(self, name: str) -> list[str]:
        done = self.host(name).run(STATE)
        assert done.rc == 0, done.stderr
        return done.stdout.splitlines()

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=ROOT,
            env={**self.environment, **PLAIN},
            capture_output=True,
            text=True,
            check=False,  # how it ends is what tests ask
        )

    def records(self) -> dict[Path, dict[str, Any]]:
        found = (self.folder / "evidence").glob("*/*Z-*[0-9a-f].json")
        return {path: json.loads(path.read_text()) for path in found}

    def drill(self, provider: str, *arguments: str, **variables: Any) -> Ended:
        before = set(self.records())
        extra = {"drill_production": False, "provider": provider, **variables}
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

    def boxes(self) -> list[str]:
        """Keys of drill boxes that the controller still has."""
        return sorted(path.name for path in (self.folder / "boxes").glob("drill-*"))


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> World:
    path = Path(str(request.config.option.ansible_inventory))
    return World(path / "inventory.yml" if path.is_dir() else path)
