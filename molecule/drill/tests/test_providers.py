"""Boxes that are no containers of the drill's own making: servers by an API, and a host that is there."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import World

API = Path(__file__).resolve().parents[1] / "files" / "hcloud_api.py"


@dataclass
class Cloud:
    """The stand-in of the API, and one who asks it beside the drill."""

    endpoint: str
    token: str

    def ask(self, path: str, order: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.endpoint}/{path}",
            headers={"Authorization": f"Bearer {self.token}"},
            data=json.dumps(order).encode() if order else None,
        )
        with urllib.request.urlopen(request, timeout=120) as response:
            answer: dict[str, Any] = json.loads(response.read())
        return answer

    def names(self, kind: str) -> list[str]:
        return [item["name"] for item in self.ask(kind)[kind]]


@pytest.fixture
def cloud(world: World) -> Iterator[Cloud]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    box = world.container("box")
    image = world.run("podman", "inspect", "--format", "{{.ImageName}}", box).stdout.strip()
    fallback = sorted(Path("/var/lib/lifeboat/drill-boxes").glob("containers-*.conf"))
    environment = {**os.environ, **({"CONTAINERS_CONF": str(fallback[0])} if fallback else {})}
    process = subprocess.Popen(
        [sys.executable, str(API), str(port), token, image, world.network], env=environment
    )
    try:
        for _try in range(50):
            with socket.socket() as channel:
                if channel.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield Cloud(f"http://127.0.0.1:{port}/v1", token)
    finally:
        process.terminate()
        process.wait(60)


def test_a_server_of_the_cloud_is_made_used_and_destroyed(
    world: World, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = {"lifeboat-drill": "yes", "lifeboat-drill-expires": "1", "lifeboat-drill-network": "x"}
    key = (world.folder / "boxes" / world.container("box") / "id_ed25519.pub").read_text()
    left = {"name": "drill-left-0001", "labels": over}
    number = cloud.ask("ssh_keys", {**left, "public_key": key})["ssh_key"]["id"]
    cloud.ask("servers", {**left, "image": "debian-13", "ssh_keys": [number]})
    theirs = {"name": "somebody-elses", "public_key": key, "labels": {}}
    cloud.ask("ssh_keys", theirs)
    monkeypatch.setitem(world.environment, "HCLOUD_TOKEN", cloud.token)
    ended = world.drill(
        *("-e", "agent=a0", "-e", "provider=hcloud"), drill_box_hcloud_endpoint=cloud.endpoint
    )
    assert ended.code == 0, ended.output[-3000:]
    assert ended.only["drill"]["provider"] == "hcloud"
    assert (cloud.names("servers"), cloud.names("ssh_keys")) == ([], ["somebody-elses"])
    assert "PRIVATE KEY" not in ended.output


def test_a_token_that_is_refused_ends_with_2(
    world: World, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(world.environment, "HCLOUD_TOKEN", "wrong")
    ended = world.drill(
        *("-e", "agent=a0", "-e", "provider=hcloud"), drill_box_hcloud_endpoint=cloud.endpoint
    )
    assert ended.code == 2, ended.output[-3000:]
    assert "unable to authenticate" in ended.only["verdict"]["reason"]
    assert cloud.names("servers") == []


def test_an_existing_host_is_wiped_before_and_after(world: World) -> None:
    spare = world.host("spare")
    stray = "id stray || useradd --create-home stray; echo KEY=canary >/home/stray/.env"
    assert spare.run(stray).rc == 0
    assert spare.run("setsid runuser -u stray -- sleep 600 >/dev/null 2>&1 &").rc == 0
    ended = world.drill("-e", "agent=a0", "-e", "provider=existing", "-e", "drill_box_host=spare")
    assert ended.code == 0, ended.output[-3000:]
    assert ended.only["drill"]["provider"] == "existing"
    assert spare.run("ls -A /home").stdout == ""
    users = "awk -F: '$3 >= 1000 && $3 < 60000 || $1 == \"lifeboat-restore\"' /etc/passwd"
    assert spare.run(users).stdout == ""
    assert spare.run("pgrep -x sleep").rc == 1
    left = (
        "ls -d /run/lifeboat* /var/lib/lifeboat* /var/lib/drill-box* /etc/lifeboat* /opt/lifeboat*"
    )
    assert spare.run(left).stdout == ""
    assert "lifeboat box drill-" not in spare.file("/root/.ssh/authorized_keys").content_string
    assert spare.run("nft list tables").stdout == ""
    assert "vault-1" not in spare.file("/etc/hosts").content_string


def test_a_host_that_did_not_agree_is_not_wiped(world: World) -> None:
    ended = world.drill("-e", "agent=a0", "-e", "provider=existing", "-e", "drill_box_host=box")
    assert ended.code == 2, ended.output[-3000:]
    assert "drill_box_existing_may_be_wiped" in ended.only["verdict"]["reason"]
    assert world.host("box").file("/home/fleet/a0/SOUL.md").exists
