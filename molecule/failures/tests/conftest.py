"""The box, reached through its container: its network and its power come and go."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Ended:
    """How a backup ended, and all the places where that is told."""

    code: int
    unit: dict[str, str]
    status: dict[str, Any]
    metrics: dict[str, float]
    journal: str

    @property
    def failed_loudly(self) -> bool:
        return (
            self.code != 0
            and self.unit["ActiveState"] == "failed"
            and self.status["result"] == "failed"
            and bool(self.status["message"])
            and self.metrics["success"] == 0
        )

    @property
    def went_well(self) -> bool:
        return (
            self.code == 0
            and self.unit["ActiveState"] == "inactive"
            and self.status["result"] in ("success", "warning")
            and self.metrics["success"] == 1
        )


@dataclass
class World:
    """The inventory of the scenario, and its two containers."""

    inventory: Path

    @property
    def prefix(self) -> str:
        return os.environ.get("WORLD_NAME", "molecule-failures")

    def podman(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["podman", *words], capture_output=True, text=True, check=False, **more
        )

    def on(self, host: str, script: str) -> subprocess.CompletedProcess[str]:
        return self.podman("exec", f"{self.prefix}-{host}", "bash", "-c", script)

    def must(self, host: str, script: str) -> str:
        done = self.on(host, script)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def nights(self, *words: str) -> dict[str, Any]:
        return dict(json.loads(self.must("box", f"python3 -I /root/nights.py {' '.join(words)}")))

    def begin(self, agent: str = "kit") -> None:
        """Something new, and the unit of the night, which is not waited for."""
        if agent == "kit":
            self.must("box", "sleep 1.1; python3 -I /root/nights.py learn")
        self.must("box", f"systemctl start --no-block lifeboat-backup@{agent}.service")

    def end(self, agent: str = "kit", seconds: float = 600) -> Ended:
        """Wait for the unit, and read what is told of it."""
        unit = f"lifeboat-backup@{agent}.service"
        state: dict[str, str] = {}
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            names = "ActiveState,Result,ExecMainStatus"
            lines = self.must("box", f"systemctl show -p {names} {unit}").splitlines()
            state = dict(line.split("=", 1) for line in lines)
            if state["ActiveState"] not in ("activating", "deactivating"):
                break
            time.sleep(0.3)
        if agent == "kit":
            self.must("box", "python3 -I /root/nights.py remember")
        return self.told(agent, int(state["ActiveState"] == "failed"), state)

    def told(self, agent: str, code: int, state: dict[str, str]) -> Ended:
        status = json.loads(self.must("box", f"cat /var/lib/lifeboat/{agent}/status.json"))
        lines = self.must("box", f"cat /var/lib/metrics/lifeboat-{agent}.prom").splitlines()
        metrics = {
            line.partition("{")[0].removeprefix("lifeboat_backup_"): float(line.rpartition(" ")[2])
            for line in lines
            if not line.startswith("#")
        }
        journal = f"journalctl --no-pager --lines=25 --unit lifeboat-backup@{agent}.service"
        return Ended(code, state, status, metrics, self.must("box", journal))

    def backup(self, agent: str = "kit") -> Ended:
        """A whole night, as the timer would start it."""
        self.begin(agent)
        return self.end(agent)

    @contextmanager
    def full(self, host: str, folder: str) -> Iterator[None]:
        """No room in a folder's file system, until the test is over."""
        script = (
            f"cd {folder} && dd if=/dev/zero of=filler bs=1M status=none; sync;"
            " for n in 1 2 3 4 5; do dd if=/dev/zero of=filler$n bs=4k status=none; sync; done;"
            " ! dd if=/dev/zero of=filler9 bs=64k count=1 status=none"
        )
        self.must(host, script)
        try:
            yield
        finally:
            self.must(host, f"cd {folder} && rm -f filler* && sync")

    def play(self, playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = ["ansible-playbook", "--inventory", str(self.inventory), *arguments]
        return subprocess.run(
            [*argv, f"playbooks/{playbook}.yml"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> World:
    path = Path(str(request.config.option.ansible_inventory))
    return World(path / "inventory.yml" if path.is_dir() else path)
