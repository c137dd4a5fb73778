"""The box, its two storage hosts, and the trusted side, for a story told in order."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
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

    def play(self, playbook: str, *extra: str) -> subprocess.CompletedProcess[str]:
        """A playbook of the collection, as the trusted side runs it."""
        borg = shutil.which("borg")
        assert borg, "the trusted side of this test needs borg in PATH"
        argv = ["ansible-playbook", "--inventory", str(self.inventory)]
        argv += ["-e", f"custody_borg={borg}", *extra, str(CHECKOUT / "playbooks" / playbook)]
        return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=CHECKOUT)

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

    def ledger(self, repository: str) -> dict[str, Any]:
        directory = str(self.inventory.parent / "ledger")
        return self.module(
            "localhost",
            "repository_ledger",
            directory=directory,
            agent="hal",
            repository=repository,
        )

    def audit(self, repository: str) -> dict[str, Any]:
        return self.module(
            repository,
            "repository_audit",
            path=REPOSITORY,
            state_directory=STATE,
            mark=self.ledger(repository)["mark"],
            fail_on_findings=False,
        )

    def rollback(self, repository: str, **more: Any) -> dict[str, Any]:
        """The module alone: the playbook around it has a test of its own."""
        given = {"lock": LOCK, "token": "test"}
        closed = self.module(repository, "repository_lockout", **given, wait=0)
        assert "until" in closed, closed
        done = self.module(
            repository,
            "repository_rollback",
            path=REPOSITORY,
            mark=self.ledger(repository)["mark"],
            state_directory=STATE,
            evidence=f"/srv/lifeboat/evidence/{os.urandom(4).hex()}",
            **given,
            **more,
        )
        self.module(repository, "repository_lockout", **given, state="open")
        return done

    def contents(self, repository: str) -> dict[str, str]:
        """Every archive and a hash of all that is in it, read by a client without a past."""
        done = self.box.run(
            "ATTACK_BASE=$(mktemp -d) && export ATTACK_BASE &&"
            f" python3 /root/attack.py {repository} contents; rm -rf $ATTACK_BASE"
        )
        assert done.rc == 0, done.stderr
        found: dict[str, str] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> World:
    path = request.config.option.ansible_inventory
    runner = AnsibleRunner.get_runner(path)

    def host(name: str) -> Host:
        return testinfra.host.get_host(
            f"ansible://{name}?force_ansible=true", ansible_inventory=path
        )

    assert set(runner.get_hosts("repositories")) == {"guarded", "journal"}
    hosts = {name: host(name) for name in ("guarded", "journal")}
    return World(Path(path), host("box"), hosts)


@pytest.fixture(scope="session")
def before(world: World) -> dict[str, dict[str, str]]:
    """All archives made before the first attack, with what is in them."""
    found = {name: world.contents(name) for name in ("guarded", "journal")}
    assert all(len(archives) == 2 for archives in found.values()), found
    return found
