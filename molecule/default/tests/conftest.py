"""What every test of the loop needs to know: the fleet, and how to reach its hosts."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra.host
from testinfra.host import Host
from testinfra.utils.ansible_runner import AnsibleRunner

CONFIGURATION = "/etc/lifeboat/agents/{agent}/config.json"


REFUSED = 254


@dataclass(frozen=True)
class Agent:
    """One agent as its box knows it."""

    name: str
    box: Host
    config: dict[str, Any]

    @property
    def user(self) -> str:
        return str(self.config["user"])

    @property
    def home(self) -> str:
        return str(self.config["home"])

    @property
    def repository(self) -> dict[str, Any]:
        return dict(self.config["repositories"][0])

    @property
    def account(self) -> str:
        return f"lb-{self.name}"

    def ssh(self, *words: str, options: str = "") -> str:
        """The box's own way to its repository host, with its own key, as a command line."""
        repository = self.repository
        user_and_host, _unused, rest = repository["url"].removeprefix("ssh://").partition(":")
        port = rest.split("/")[0]
        return (
            f"timeout 20 ssh -i {repository['ssh_key']} -o IdentitiesOnly=yes -o BatchMode=yes "
            f"-o UserKnownHostsFile={repository['known_hosts']} -o StrictHostKeyChecking=yes "
            f"{options} -p {port} {user_and_host} {shlex.join(words)}"
        )

    def knock(self, command: str) -> Any:
        """Try an SSH connection that may well be refused; then its exit code is REFUSED.

        Testinfra takes 255 for a failure of its own connection to the box.
        """
        end = f"code=$?; [ $code -eq 255 ] && exit {REFUSED}; exit $code"
        return self.box.run(f"{command} < /dev/null; {end}")

    def borg(self, arguments: str, url: str = "", inside: str = "/") -> Any:
        """Run borg on the box as its root would, with the box's own key and passphrase."""
        repository = self.repository
        rsh = self.ssh().split(" -p ")[0].removeprefix("timeout 20 ")
        environment = {
            "BORG_BASE_DIR": repository["base_dir"],
            "BORG_KEYS_DIR": repository["keys_dir"],
            "BORG_PASSCOMMAND": f"cat {repository['passphrase_file']}",
            "BORG_RSH": rsh,
            "BORG_REPO": url or repository["url"],
            "BORG_EXIT_CODES": "modern",
        }
        exports = " ".join(f"{key}={shlex.quote(value)}" for key, value in environment.items())
        command = f"env {exports} {self.config['borg']} --lock-wait 30 {arguments}"
        return self.box.run(f"cd {inside} && {command}")


def _runner(request: pytest.FixtureRequest) -> AnsibleRunner:
    return AnsibleRunner.get_runner(request.config.option.ansible_inventory)


@pytest.fixture(scope="session")
def inventory(request: pytest.FixtureRequest) -> AnsibleRunner:
    return _runner(request)


def _host(inventory: AnsibleRunner, name: str) -> Host:
    return testinfra.host.get_host(f"ansible://{name}", ansible_inventory=inventory.inventory_file)


@pytest.fixture(scope="session")
def agents(inventory: AnsibleRunner) -> list[Agent]:
    found = []
    for name in inventory.get_hosts("agents"):
        box = _host(inventory, name)
        for declared in inventory.get_variables(name)["backup_agents"]:
            path = CONFIGURATION.format(agent=declared["name"])
            config = json.loads(box.file(path).content_string)
            found.append(Agent(declared["name"], box, config))
    assert found, "the inventory of the scenario names no agent"
    return found


@pytest.fixture(scope="session")
def repository_host(inventory: AnsibleRunner) -> Host:
    return _host(inventory, inventory.get_hosts("repositories")[0])


@pytest.fixture(scope="session")
def beside_inventory(inventory: AnsibleRunner) -> Path:
    """The directory that holds the vault and the evidence."""
    path = Path(str(inventory.inventory_file))
    return path if path.is_dir() else path.parent
