"""Drills of the scenario's agents, with the harm that a test asks for."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import testinfra.host
import yaml
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[3]
SPOIL = ROOT / "molecule" / "drill" / "files" / "spoil.yml"
TEN = ",".join(f"a{number}" for number in range(10))

sys.path.insert(0, str(Path(__file__).parent))


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
    def results(self) -> dict[str, str]:
        return {name: record["verdict"]["result"] for name, record in self.records.items()}

    def failed(self, agent: str) -> dict[str, str]:
        """The checks that failed, each with what it named."""
        return {
            check["name"]: " ".join(check["offenders"])
            for check in self.records[agent]["checks"]
            if check["status"] == "failed"
        }


@dataclass
class Load:
    """What a run holds at its peak: memory without what is shared counted twice, and boxes."""

    megabytes: float = 0.0
    boxes: int = 0


@dataclass
class World:
    """The inventory of the scenario, and everything beside it."""

    inventory: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def folder(self) -> Path:
        return self.inventory.parent

    @property
    def declared(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.inventory.read_text())
        return found

    @property
    def network(self) -> str:
        return str(self.declared["all"]["vars"]["drill_box_network"])

    @property
    def agents(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.declared["agents"]["hosts"]["box"]["backup_agents"]
        return found

    def host(self, name: str) -> Host:
        return testinfra.host.get_host(f"ansible://{name}", ansible_inventory=str(self.inventory))

    def container(self, name: str) -> str:
        for hosts in (group.get("hosts", {}) for group in self.declared.values()):
            if name in hosts:
                return str(hosts[name]["world_box_name"])
        raise KeyError(name)

    def run(self, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=ROOT,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def command(self, *arguments: str, **variables: Any) -> list[str]:
        extra = {"drill_production": False, **variables}
        if "spoil" in variables or "spoil_box" in variables:
            extra["drill_rehearsal"] = str(SPOIL)
        return [
            *("ansible-playbook", "--inventory", str(self.inventory), "playbooks/drill.yml"),
            *("--extra-vars", json.dumps(extra), *arguments),
        ]

    def records(self) -> dict[Path, dict[str, Any]]:
        found = (self.folder / "evidence").glob("*/*Z-*[0-9a-f].json")
        return {path: json.loads(path.read_text()) for path in found}

    def drill(self, *arguments: str, **variables: Any) -> Ended:
        """Run the playbook; spoil= and spoil_box= are harm by agent, done after the restore."""
        return self.ended(lambda: self.run(*self.command(*arguments, **variables)))

    def ended(self, run: Callable[[], subprocess.CompletedProcess[str]]) -> Ended:
        before = set(self.records())
        done = run()
        records = {
            record["agent"]["name"]: record
            for path, record in sorted(self.records().items())
            if path not in before
        }
        return Ended(done.returncode, done.stdout + done.stderr, records)

    def unit(self, host: str, name: str) -> dict[str, list[str]]:
        """The lines of a unit file by their key."""
        found: dict[str, list[str]] = {}
        for line in self.host(host).file(f"/etc/systemd/system/{name}").content_string.splitlines():
            key, sign, value = line.partition("=")
            if sign:
                found.setdefault(key, []).append(value)
        return found

    def obey(self, unit: dict[str, list[str]], *more: str) -> Ended:
        """Run here what a unit runs, in its folder and with nothing but its environment."""
        assignments = [word for line in unit["Environment"] for word in shlex.split(line)]
        inherited = {"HOME": str(Path.home()), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return self.ended(
            lambda: subprocess.run(
                [*shlex.split(unit["ExecStart"][0]), *more],
                cwd=unit["WorkingDirectory"][0],
                env={**inherited, **dict(word.split("=", 1) for word in assignments)},
                capture_output=True,
                text=True,
                check=False,
            )
        )

    def boxes(self) -> list[str]:
        """Drill boxes that stand in the world's network."""
        done = self.run(
            *("podman", "ps", "--all", "--filter", f"network={self.network}"),
            *("--format", "{{.Names}}"),
        )
        return [name for name in done.stdout.split() if name.startswith("drill-")]

    def granted(self, agent: str) -> str:
        return str(self.host("vault-1").run("cat /etc/lifeboat/access/lb-%s", agent).stdout)

    def archives(self, agent: str) -> list[str]:
        """The names of an agent's archives, oldest first, as its box sees them."""
        box = self.host("box")
        config = json.loads(box.file(f"/etc/lifeboat/agents/{agent}/config.json").content_string)
        (repository,) = config["repositories"]
        ssh = f"ssh -i {repository['ssh_key']} -o UserKnownHostsFile={repository['known_hosts']}"
        listed = box.run(
            "env BORG_BASE_DIR=%s BORG_KEYS_DIR=%s BORG_PASSCOMMAND=%s BORG_RSH=%s %s list --short %s",
            *(repository["base_dir"], repository["keys_dir"]),
            *(f"cat {repository['passphrase_file']}", ssh, config["borg"], repository["url"]),
        )
        assert listed.rc == 0, listed.stderr
        return [str(line) for line in listed.stdout.split()]

    def escrow(self, agent: str) -> Path:
        return self.folder / "vault" / f"{agent}.yml"

    @contextmanager
    def escrow_changed(self, agent: str, **fields: str) -> Iterator[None]:
        """The escrow of an agent with other fields, or none at all, for as long as the block."""
        path = self.escrow(agent)
        kept = path.read_bytes()
        try:
            if fields:
                data = self.read_escrow(agent)
                data["lifeboat_escrow"]["repositories"]["vault-1"].update(fields)
                path.write_text(yaml.safe_dump(data))
                done = self.run("ansible-vault", "encrypt", str(path))
                assert done.returncode == 0, done.stderr
            else:
                path.unlink()
            yield
        finally:
            path.write_bytes(kept)

    def read_escrow(self, agent: str) -> dict[str, Any]:
        data = yaml.safe_load(self.run("ansible-vault", "view", str(self.escrow(agent))).stdout)
        assert isinstance(data, dict)
        return data

    @contextmanager
    def watched(self) -> Iterator[Load]:
        """What drills hold while the block runs, looked at once a second."""
        load, over = Load(), threading.Event()

        def look() -> None:
            while not over.wait(1.0):
                boxes = self.boxes()
                load.boxes = max(load.boxes, len(boxes))
                load.megabytes = max(load.megabytes, memory_of(self.roots(boxes)))

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield load
        finally:
            over.set()
            watcher.join()

    def roots(self, boxes: list[str]) -> list[int]:
        """This process, whose children drill, and the first process of each box."""
        if not boxes:
            return [os.getpid()]
        done = self.run("podman", "inspect", "--format", "{{.State.Pid}}", *boxes)
        return [os.getpid(), *(int(text) for text in done.stdout.split() if text != "0")]


def memory_of(roots: list[int]) -> float:
    """Megabytes of these processes' children and theirs; what they share counts once."""
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        parents.setdefault(int(fields[1]), []).append(int(status.parent.name))
    total, waiting = 0, list(roots[1:])
    waiting += parents.get(roots[0], [])
    while waiting:
        pid = waiting.pop()
        waiting += parents.get(pid, [])
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1000


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> World:
    path = Path(str(request.config.option.ansible_inventory))
    return World(path / "inventory.yml" if path.is_dir() else path)
