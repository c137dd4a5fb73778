"""Drills on servers of a cloud: a stand-in of its interface, whose servers are containers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from conftest import Ended, World

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "token-that-must-not-show"


def load(name: str) -> ModuleType:
    path = ROOT / "tests" / "stand_ins" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"stand_in_{name}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


hetzner = load("hetzner")

BOOT = "until systemctl is-system-running 2>&1 | grep -qE 'running|degraded'; do sleep 1; done"
KEYS = "umask 077; mkdir -p /root/.ssh; cat >/root/.ssh/authorized_keys"
HOST_KEY = "umask 077; rm -f /etc/ssh/ssh_host_*; cat >/etc/ssh/ssh_host_ed25519_key"
CLOUD_INIT = (
    "printf '#!/bin/sh\\necho status: done\\n' >/usr/bin/cloud-init; chmod 755 /usr/bin/cloud-init"
)


class Containers:
    """Containers that look like freshly booted servers of the cloud, to the user data they got."""

    def __init__(self, image: str, network: str) -> None:
        self.image = image
        self.network = network
        fallback = sorted(Path("/var/lib/lifeboat/drill-boxes").glob("containers-*.conf"))
        conf = {"CONTAINERS_CONF": str(fallback[0])} if fallback else {}
        self.environment = {**os.environ, **conf}
        self.names: list[str] = []
        self.own_host_key = False

    def podman(self, *argv: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["podman", *argv],
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise hetzner.Refused(503, "unavailable", f"podman {argv[0]}: {done.stderr}")
        return done.stdout.strip()

    def inside(self, name: str, script: str, stdin: str = "") -> str:
        return self.podman("exec", "--interactive", name, "/bin/sh", "-ceu", script, stdin=stdin)

    def boot(self, name: str, user_data: str) -> str:
        data = yaml.safe_load(user_data)
        container = f"molecule-providers-{name}"
        self.names.append(container)
        self.podman(
            *("run", "--detach", "--name", container, "--hostname", name, "--privileged"),
            *("--systemd=always", "--network", self.network, self.image),
        )
        self.inside(container, BOOT)
        self.inside(container, KEYS, "\n".join(data["ssh_authorized_keys"]) + "\n")
        if not self.own_host_key:
            self.inside(container, HOST_KEY, data["ssh_keys"]["ed25519_private"])
            self.inside(
                container,
                "cat >/etc/ssh/ssh_host_ed25519_key.pub; systemctl restart ssh",
                data["ssh_keys"]["ed25519_public"] + "\n",
            )
        self.inside(container, CLOUD_INIT)
        for command in data.get("runcmd", []):
            self.podman("exec", container, *command)
        place = '{{(index .NetworkSettings.Networks "' + self.network + '").IPAddress}}'
        return self.podman("inspect", "--format", place, container)

    def destroy(self, name: str) -> None:
        if f"molecule-providers-{name}" in self.names:
            self.podman("rm", "--force", "--time", "0", f"molecule-providers-{name}")
            self.names.remove(f"molecule-providers-{name}")


@pytest.fixture
def containers(world: World) -> Iterator[Containers]:
    done = world.run("podman", "inspect", "--format", "{{.ImageName}}", "molecule-providers-spare")
    made = Containers(done.stdout.strip(), "lifeboat-molecule-providers")
    yield made
    for name in list(made.names):
        made.podman("rm", "--force", "--time", "0", name)


@pytest.fixture
def cloud(world: World, containers: Containers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    project = hetzner.Cloud(token=TOKEN, machines=containers)
    place = load("collection").hetzner_collection(ROOT / ".cache" / "built")
    with hetzner.served(project) as endpoint:
        for name, value in {
            "HCLOUD_TOKEN": TOKEN,
            "HCLOUD_ENDPOINT": endpoint,
            "ANSIBLE_COLLECTIONS_PATH": f"{place}:{ROOT / '.collections'}",
        }.items():
            monkeypatch.setitem(world.environment, name, value)
        yield project


def could_not_run(world: World, cloud: Any, ended: Ended, text: str) -> None:
    """Says so, and nothing is left: no server, no key, here or there."""
    assert ended.code == 2, ended.output[-3000:]
    assert ended.only["verdict"]["result"] == "could_not_run"
    assert text in ended.output
    assert not cloud.servers
    assert not cloud.ssh_keys
    assert world.boxes() == []
    assert TOKEN not in ended.output


def test_a_server_is_made_used_and_destroyed(
    world: World, cloud: Any, containers: Containers
) -> None:
    past = str(int(time.time()) - 60)
    over = {"lifeboat-drill": "drill-left", "lifeboat-drill-expires": past}
    cloud.add_key({}, {"name": "left", "public_key": "ssh-ed25519 AAAA", "labels": over})
    cloud.add_key({}, {"name": "theirs", "public_key": "ssh-ed25519 AAAA", "labels": {}})
    ended = world.drill("hcloud", "-vvv", "-e", "agent=p0")
    assert ended.code == 0, ended.output[-3000:]
    assert ended.only["verdict"]["result"] == "proven"
    assert ended.only["drill"]["provider"] == "hcloud"
    assert ended.only["leftovers"] == []
    assert [key["name"] for key in cloud.ssh_keys.values()] == ["theirs"]
    assert (cloud.servers, containers.names, world.boxes()) == ({}, [], [])
    assert ("POST", "/v1/servers", 201) in cloud.requests
    assert TOKEN not in ended.output
    (data,) = cloud.user_data.values()
    private = yaml.safe_load(data)["ssh_keys"]["ed25519_private"]
    assert private.splitlines()[1] not in ended.output


def test_somebody_else_at_the_servers_address_is_not_trusted(
    world: World, cloud: Any, containers: Containers
) -> None:
    containers.own_host_key = True
    ended = world.drill("hcloud", "-e", "agent=p0", drill_box_hcloud_boot_timeout=20)
    could_not_run(world, cloud, ended, "Host key verification failed")
    assert containers.names == []


def test_a_token_that_is_refused(world: World, cloud: Any) -> None:
    cloud.token = "another"
    ended = world.drill("hcloud", "-e", "agent=p0")
    assert ended.code == 2, ended.output[-3000:]
    assert "unable to authenticate" in ended.output
    assert TOKEN not in ended.output


def test_a_limit_that_is_reached(world: World, cloud: Any) -> None:
    cloud.limit = 0
    ended = world.drill("hcloud", "-e", "agent=p0")
    could_not_run(world, cloud, ended, "server limit exceeded")
    assert "limit is reached" in ended.only["verdict"]["reason"]


def test_a_server_that_never_comes_up(world: World, cloud: Any) -> None:
    cloud.creation = "running"
    ended = world.drill("hcloud", "-e", "agent=p0", drill_box_hcloud_boot_timeout=5)
    could_not_run(world, cloud, ended, "The cloud gave no box")
    assert ("POST", "/v1/servers", 201) in cloud.requests


def test_a_server_that_never_answers(world: World, cloud: Any) -> None:
    cloud.machines = hetzner.NoMachines()
    ended = world.drill("hcloud", "-e", "agent=p0", drill_box_hcloud_boot_timeout=5)
    could_not_run(world, cloud, ended, "imed out")
