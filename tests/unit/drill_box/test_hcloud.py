# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The provider hcloud: its tasks and the real modules of hetzner.hcloud, against a stand-in of the cloud.

That a server becomes a box that a drill can use is shown by molecule (scenario providers).
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

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


@pytest.fixture(scope="session")
def collections() -> Path:
    place: Path = load("collection").hetzner_collection(ROOT / ".cache" / "built")
    return place


@dataclass
class Played:
    code: int
    output: str
    facts: dict[str, Any]


@dataclass
class Controller:
    """Runs tasks of the role drill_box against a cloud."""

    folder: Path
    endpoint: str
    collections: Path

    def play(self, tasks: str, name: str = "drill-a", **variables: Any) -> Played:
        names = ["key", "providers/hcloud/create"] if tasks == "create" else [tasks]
        facts = ["__drill_box_made", "__drill_box_destroyed", "drill_box_reaped"]
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {
                "drill_box_name": name,
                "drill_box_provider": "hcloud",
                "drill_box_directory": str(self.folder / "boxes"),
                "drill_box_hcloud_endpoint": self.endpoint,
                "drill_box_hcloud_token": TOKEN,
                "drill_box_hcloud_boot_timeout": 20,
                "drill_box_ca_certificates": [],
                **variables,
            },
            "tasks": [
                *(
                    {
                        "ansible.builtin.include_role": {
                            "name": "lifeboat.agents.drill_box",
                            "tasks_from": item,
                        }
                    }
                    for item in names
                ),
                {
                    "ansible.builtin.copy": {
                        "dest": str(self.folder / "facts.json"),
                        "content": "{{ (vars | dict2items | selectattr('key', 'in', wanted) | items2dict) | to_json }}",
                        "mode": "0600",
                    },
                    "vars": {"wanted": facts},
                },
            ],
        }
        path = self.folder / "play.yml"
        path.write_text(yaml.safe_dump([play]))
        (self.folder / "facts.json").unlink(missing_ok=True)
        done = subprocess.run(
            [
                Path(sys.executable).parent / "ansible-playbook",
                "-vvv",
                "--connection=local",
                str(path),
            ],
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": f"{self.collections}:{ROOT / '.collections'}",
                "ANSIBLE_NOCOLOR": "1",
            },
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        facts_file = self.folder / "facts.json"
        found = json.loads(facts_file.read_text()) if facts_file.exists() else {}
        return Played(done.returncode, done.stdout + done.stderr, found)


@pytest.fixture
def cloud() -> Any:
    return hetzner.Cloud(token=TOKEN)


@pytest.fixture
def controller(cloud: Any, tmp_path: Path, collections: Path) -> Iterator[Controller]:
    with hetzner.served(cloud) as endpoint:
        yield Controller(tmp_path, endpoint, collections)


def nothing_left(cloud: Any) -> bool:
    return not cloud.servers and not cloud.ssh_keys


def processes_show(secret: str, stop: threading.Event, shown: list[str]) -> None:
    """Look at every command line of the machine until told to stop."""
    while not stop.is_set():
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = entry.read_bytes().decode(errors="replace")
            except OSError:  # it has ended
                continue
            if secret in line:
                shown.append(line)
        time.sleep(0.02)


def test_a_server_is_made_marked_and_destroyed(cloud: Any, controller: Controller) -> None:
    shown: list[str] = []
    stop = threading.Event()
    watcher = threading.Thread(target=processes_show, args=(TOKEN, stop, shown))
    watcher.start()
    try:
        played = controller.play("create")
    finally:
        stop.set()
        watcher.join()
    assert played.code == 0, played.output[-3000:]
    (server,) = cloud.servers.values()
    (key,) = cloud.ssh_keys.values()
    assert server["labels"]["lifeboat-drill"] == "drill-a" == key["labels"]["lifeboat-drill"]
    assert 7000 < int(server["labels"]["lifeboat-drill-expires"]) - time.time() < 7300
    made = played.facts["__drill_box_made"]
    assert made["address"] == "192.0.2.7"
    assert made["direct"]
    # The host key was made here, so nothing has to be trusted at first sight.
    user_data = yaml.safe_load(cloud.user_data["drill-a"])
    assert made["host_keys"] == [user_data["ssh_keys"]["ed25519_public"]]
    private = user_data["ssh_keys"]["ed25519_private"]
    derived = subprocess.run(
        ["ssh-keygen", "-y", "-f", controller.folder / "boxes" / "drill-a" / "host_ed25519"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert derived.stdout.split()[:2] == made["host_keys"][0].split()
    # Neither token nor host key in any log, at the highest verbosity, nor in any command line.
    assert TOKEN not in played.output
    assert private.splitlines()[1] not in played.output
    assert shown == []

    played = controller.play("destroy")
    assert played.code == 0, played.output[-3000:]
    assert nothing_left(cloud)
    assert not (controller.folder / "boxes" / "drill-a").exists()
    assert controller.play("destroy").code == 0


def test_every_server_has_a_host_key_of_its_own(cloud: Any, controller: Controller) -> None:
    first = controller.play("create").facts["__drill_box_made"]["host_keys"]
    assert controller.play("destroy").code == 0
    second = controller.play("create").facts["__drill_box_made"]["host_keys"]
    assert first != second


def test_leftovers_are_reaped_and_nothing_else(cloud: Any, controller: Controller) -> None:
    past, future = str(int(time.time()) - 60), str(int(time.time()) + 3600)
    labels = {
        "drill-old": {"lifeboat-drill": "drill-old", "lifeboat-drill-expires": past},
        "drill-young": {"lifeboat-drill": "drill-young", "lifeboat-drill-expires": future},
        "drill-for-ever": {"lifeboat-drill": "drill-for-ever", "lifeboat-drill-expires": "0"},
        "production": {"lifeboat-drill-expires": past},
        "web": {},
    }
    for name, marked in labels.items():
        cloud.add_key({}, {"name": name, "public_key": "ssh-ed25519 AAAA", "labels": marked})
        cloud.create({}, {"name": name, "labels": marked})
    # A key whose server was never made.
    lost = {"lifeboat-drill": "drill-lost", "lifeboat-drill-expires": past}
    cloud.add_key({}, {"name": "lost", "public_key": "ssh-ed25519 AAAA", "labels": lost})
    played = controller.play("reap")
    assert played.code == 0, played.output[-3000:]
    assert sorted(played.facts["drill_box_reaped"]) == ["drill-lost", "drill-old"]
    left = {"drill-young", "drill-for-ever", "production", "web"}
    assert {server["name"] for server in cloud.servers.values()} == left
    assert {key["name"] for key in cloud.ssh_keys.values()} == left


def test_a_network_is_cleared(cloud: Any, controller: Controller) -> None:
    assert controller.play("create", drill_box_network="here").code == 0
    assert controller.play("create", name="drill-b", drill_box_network="there").code == 0
    assert controller.play("clear", drill_box_network="here").code == 0
    assert {server["name"] for server in cloud.servers.values()} == {"drill-b"}


def test_a_foreign_server_of_the_name_is_not_touched(cloud: Any, controller: Controller) -> None:
    cloud.create({}, {"name": "drill-a"})
    played = controller.play("create")
    assert played.code == 2
    assert "already" in played.output
    assert controller.play("destroy").code == 0
    assert len(cloud.servers) == 1


def test_a_wrong_token(cloud: Any, controller: Controller) -> None:
    cloud.token = "another"
    played = controller.play("create")
    assert played.code == 2
    assert "unable to authenticate" in played.output
    assert TOKEN not in played.output


def test_a_quota_that_is_reached(cloud: Any, controller: Controller) -> None:
    cloud.limit = 0
    played = controller.play("create")
    assert played.code == 2
    assert "server limit exceeded" in played.output
    assert "The project's limit is reached." in played.output
    assert nothing_left(cloud)
    assert ("POST", "/v1/servers", 403) in cloud.requests


@pytest.mark.parametrize("ending", ["running", "error"])
def test_a_server_that_never_comes_up(cloud: Any, controller: Controller, ending: str) -> None:
    cloud.creation = ending
    played = controller.play("create", drill_box_hcloud_boot_timeout=4)
    assert played.code == 2
    assert "The cloud gave no box drill-a." in played.output
    assert ("POST", "/v1/servers", 201) in cloud.requests
    assert nothing_left(cloud)


def test_a_cloud_that_is_not_there(controller: Controller) -> None:
    controller.endpoint = "http://127.0.0.1:9/v1"
    played = controller.play("create")
    assert played.code == 2
    assert "Connection refused" in played.output


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"drill_box_hcloud_token": ""}, "is empty: keep it in the vault"),
        ({"drill_box_hcloud_endpoint": "http://192.0.2.1/v1"}, "must begin with https://"),
        ({"drill_box_distribution": "beos"}, 'has no box of "beos"'),
    ],
)
def test_what_is_refused_before_anything_is_asked(
    cloud: Any, controller: Controller, variables: dict[str, str], text: str
) -> None:
    played = controller.play("create", **variables)
    assert played.code == 2
    assert text in " ".join(played.output.split())
    assert cloud.requests == []


def test_the_collection_that_comes_with_ansible_12_is_refused(
    cloud: Any, controller: Controller
) -> None:
    controller.collections = ROOT / ".collections"
    played = controller.play("create")
    assert played.code == 2
    assert "needs the collection hetzner.hcloud 6.8.0 or later" in " ".join(played.output.split())
    assert cloud.requests == []
