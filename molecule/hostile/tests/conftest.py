"""The box, its two storage hosts, and the trusted side, for a story told in order."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra.host
from testinfra.host import Host
from testinfra.utils.ansible_runner import AnsibleRunner

CHECKOUT = Path(__file__).resolve().parents[3]
REPOSITORY = "/srv/lifeboat/repositories/hal"
STATE = "/var/lib/lifeboat/custody/hal"
LOCK = "/run/lifeboat/lock/hal"
PLAIN = {
    "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
    "ANSIBLE_FORCE_COLOR": "false",
    "ANSIBLE_NOCOLOR": "true",
}


@dataclass
class World:
    """Everything that takes part."""

    inventory: Path
    box: Host
    hosts: dict[str, Host]
    checkout: Path = CHECKOUT

    def attack(self, repository: str, act: str, **environment: str) -> dict[str, Any]:
        """Try something with the box's own key; what was answered."""
        given = " ".join(f"{name}={value}" for name, value in environment.items())
        # A client without a past, so that what it remembers does not save the box from itself.
        done = self.box.run(
            f"export ATTACK_BASE=$(mktemp -d) {given};"
            f" timeout 1500 python3 /root/attack.py {repository} '{act}'"
        )
        assert done.rc == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def knock(self, repository: str, *words: str) -> dict[str, Any]:
        """SSH with the box's own key: options, then -- and words for the other side."""
        done = self.box.run(f"python3 /root/attack.py {repository} knock {shlex.join(words)}")
        assert done.rc == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def opens(self, repository: str, path: str) -> dict[str, Any]:
        """What the box's own key gets at a path of a storage host."""
        done = self.box.run(f"python3 /root/attack.py {repository} open {path}")
        assert done.rc == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    @contextmanager
    def closed(self, repository: str) -> Iterator[None]:
        """Maintenance, as custody begins it."""
        given = {"lock": LOCK, "token": "test"}
        closed = self.module(repository, "repository_lockout", **given, wait=0)
        assert closed.get("until"), closed
        try:
            yield
        finally:
            self.module(repository, "repository_lockout", **given, state="open")

    def custody(self, repository: str, *extra: str) -> subprocess.CompletedProcess[str]:
        """A night of hal's repository at one storage host."""
        return self.play("custody.yml", "-e", f"repository={repository}", "-e", "agent=hal", *extra)

    def go_back(self, repository: str, *extra: str) -> None:
        """Back to the accepted state by the playbook, as a person would."""
        done = self.play(
            "rollback.yml", "-e", "agent=hal", "-e", f"repository={repository}", *extra
        )
        assert done.returncode == 0, done.stdout[-3000:]

    def playing(self, playbook: str, *extra: str) -> list[str]:
        """The command with which the trusted side runs a playbook of the collection."""
        borg = shutil.which("borg")
        assert borg, "the trusted side of this test needs borg in PATH"
        argv = ["ansible-playbook", "--inventory", str(self.inventory)]
        return [
            *argv,
            *("-e", f"custody_borg={borg}", *extra),
            str(CHECKOUT / "playbooks" / playbook),
        ]

    def play(self, playbook: str, *extra: str) -> subprocess.CompletedProcess[str]:
        """Run one to its end."""
        return subprocess.run(
            self.playing(playbook, *extra),
            capture_output=True,
            text=True,
            check=False,
            cwd=CHECKOUT,
        )

    def module(self, host: str, name: str, **arguments: Any) -> dict[str, Any]:
        """One module on one host."""
        argv = ["ansible", "--inventory", str(self.inventory), host]
        argv += ["-m", f"lifeboat.agents.{name}", "-a", json.dumps(arguments)]
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            check=False,
            cwd=CHECKOUT,
            env={**os.environ, **PLAIN},
        )
        answer: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
        return answer

    def mark(self, repository: str) -> dict[str, Any]:
        """The state that the ledger accepted last."""
        path = self.inventory.parent / "ledger" / "hal" / f"{repository}.jsonl"
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found: dict[str, Any] = [line["data"] for line in lines if line["kind"] == "mark"][-1]
        return found

    def audit(self, repository: str) -> dict[str, Any]:
        return self.module(
            repository,
            "repository_audit",
            path=REPOSITORY,
            state_directory=STATE,
            mark=self.mark(repository),
            fail_on_findings=False,
        )

    def rollback(self, repository: str, **more: Any) -> dict[str, Any]:
        """The module alone: the playbook around it has a test of its own."""
        with self.closed(repository):
            return self.module(
                repository,
                "repository_rollback",
                path=REPOSITORY,
                mark=self.mark(repository),
                state_directory=STATE,
                evidence=f"/srv/lifeboat/evidence/{os.urandom(4).hex()}",
                lock=LOCK,
                token="test",
                **more,
            )

    def after_a_flood(self, repository: str, standing: dict[str, str]) -> dict[str, str]:
        """Forged archives with dates of the past and the future: seen, none of ours goes, undone.

        Returns what is there in the end.
        """
        assert not self.attack(repository, "forged archives", FORGED="200")["refused"]
        stopped = self.custody(repository)
        assert stopped.returncode != 0
        assert "more archives arrived than nights have passed" in stopped.stdout
        assert "NOTHING IS DELETED" in stopped.stdout
        assert self.contents(repository, only=standing) == standing
        self.go_back(repository)
        return self.contents(repository)

    def contents(
        self, repository: str, agent: str = "hal", only: Iterable[str] = ()
    ) -> dict[str, str]:
        """The archives and a hash of all that is in each, read by a client without a past."""
        done = self.box.run(
            f"ATTACK_BASE=$(mktemp -d) && export ATTACK_BASE AGENT={agent} &&"
            f" python3 /root/attack.py {repository} contents {' '.join(only)};"
            " code=$?; rm -rf $ATTACK_BASE; exit $code"
        )
        assert done.rc == 0, done.stderr
        found: dict[str, str] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> World:
    path = request.config.option.ansible_inventory
    runner = AnsibleRunner.get_runner(path)

    def host(name: str) -> Host:
        return testinfra.host.get_host(f"ansible://{name}", ansible_inventory=path)

    assert set(runner.get_hosts("repositories")) == {"guarded", "journal"}
    hosts = {name: host(name) for name in ("guarded", "journal")}
    return World(Path(path), host("box"), hosts)


@pytest.fixture(scope="session")
def before(world: World) -> dict[str, dict[str, str]]:
    """All archives made before the first attack, with what is in them."""
    found = {name: world.contents(name) for name in ("guarded", "journal")}
    assert all(len(archives) == 2 for archives in found.values()), found
    return found
