"""A stand-in of the Hetzner Cloud API: hcloud_api.py PORT TOKEN IMAGE NETWORK.

The real client library talks to it. Its servers are containers of IMAGE in NETWORK, with the SSH
keys and the cloud-init data that they were ordered with. It knows what the provider hcloud asks
for, answers in the form of the real API, and refuses everything else. When it ends, its servers
end with it.
"""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

LOCATION = {
    "id": 1,
    "name": "fsn1",
    "description": "a container host",
    "country": "DE",
    "city": "Falkenstein",
    "latitude": 50.5,
    "longitude": 12.4,
    "network_zone": "eu-central",
}
KINDS = {"supported": [1], "available": [1], "available_for_migration": [1]}
DATACENTER = {
    "id": 1,
    "name": "fsn1-dc1",
    "description": "",
    "location": LOCATION,
    "server_types": KINDS,
}
SERVER_TYPE = {
    "id": 1,
    "name": "cx23",
    "description": "CX23",
    "category": "shared",
    "cores": 2,
    "memory": 4.0,
    "disk": 40,
    "prices": [],
    "storage_type": "local",
    "cpu_type": "shared",
    "architecture": "x86",
    "deprecated": False,
    "deprecation": None,
    "locations": [{"id": 1, "name": "fsn1", "deprecation": None}],
}
IMAGES = [
    {
        "id": number,
        "type": "system",
        "status": "available",
        "name": name,
        "description": name,
        "image_size": None,
        "disk_size": 5,
        "bound_to": None,
        "created": "2026-01-01T00:00:00+00:00",
        "created_from": None,
        "labels": {},
        "os_flavor": "debian",
        "os_version": name[-2:],
        "rapid_deploy": True,
        "protection": {"delete": False},
        "architecture": "x86",
        "deprecated": None,
    }
    for number, name in ((1, "debian-12"), (2, "debian-13"))
]


class Refused(Exception):
    """An answer other than the one that was asked for."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def podman(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run(
        ["podman", *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Refused(503, "unavailable", f"podman {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


class Project:
    """What was ordered: servers and keys."""

    def __init__(self, image: str, network: str) -> None:
        self.image = image
        self.network = network
        self.numbers = itertools.count(1)
        self.servers: dict[int, dict[str, Any]] = {}
        self.ssh_keys: dict[int, dict[str, Any]] = {}
        self.actions: dict[int, dict[str, Any]] = {}
        self.lock = threading.Lock()

    def container(self, name: str) -> str:
        return f"hcloud-{name}"

    def create_ssh_key(self, order: dict[str, Any]) -> dict[str, Any]:
        self._unused(self.ssh_keys, order["name"])
        if not re.match(r"ssh-ed25519 [A-Za-z0-9+/=]+", order["public_key"]):
            raise Refused(422, "invalid_input", "public_key is no SSH key")
        key = {
            "id": next(self.numbers),
            "name": order["name"],
            "public_key": order["public_key"],
            "labels": order.get("labels", {}),
            "fingerprint": "",
            "created": now(),
        }
        self.ssh_keys[key["id"]] = key
        return {"ssh_key": key}

    def create_server(self, order: dict[str, Any]) -> dict[str, Any]:
        self._unused(self.servers, order["name"])
        keys = [key for key in self.ssh_keys.values() if key["id"] in order.get("ssh_keys", ())]
        if not keys:
            raise Refused(422, "invalid_input", "this stand-in sends no root password")
        for label in order.get("labels", {}).values():
            if not re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,61})?[A-Za-z0-9]?", label):
                raise Refused(422, "invalid_input", f"invalid label {label!r}")
        address = self._boot(order["name"], keys, yaml.safe_load(order.get("user_data") or "{}"))
        server = {
            "id": next(self.numbers),
            "name": order["name"],
            "status": "running",
            "created": now(),
            "server_type": SERVER_TYPE,
            "datacenter": DATACENTER,
            "image": next(i for i in IMAGES if order["image"] in (i["id"], i["name"])),
            "public_net": {
                "ipv4": {"id": 1, "ip": address, "blocked": False, "dns_ptr": ""},
                "ipv6": None,
                "floating_ips": [],
                "firewalls": [],
            },
            "private_net": [],
            "iso": None,
            "rescue_enabled": False,
            "locked": False,
            "backup_window": None,
            "outgoing_traffic": 0,
            "ingoing_traffic": 0,
            "included_traffic": 0,
            "protection": {"delete": False, "rebuild": False},
            "labels": order.get("labels", {}),
            "volumes": [],
            "load_balancers": [],
            "primary_disk_size": 40,
            "placement_group": None,
        }
        self.servers[server["id"]] = server
        return {
            "server": server,
            "action": self._action("create_server"),
            "next_actions": [],
            "root_password": None,
        }

    def _boot(self, name: str, keys: list[dict[str, Any]], data: dict[str, Any]) -> str:
        container = self.container(name)
        podman(
            *("run", "--detach", "--name", container, "--hostname", name, "--privileged"),
            *("--systemd=always", "--network", self.network, self.image),
        )
        inside = ("exec", "--interactive", container, "/bin/sh", "-ceu")
        podman(
            *inside,
            "until systemctl is-system-running 2>&1 | grep -qE 'running|degraded'; do sleep 1; done",
        )
        authorized = "".join(key["public_key"] + "\n" for key in keys)
        podman(
            *inside,
            "umask 077; mkdir -p /root/.ssh; cat >/root/.ssh/authorized_keys",
            stdin=authorized,
        )
        host = data.get("ssh_keys", {})
        if "ed25519_private" in host:
            place = "/etc/ssh/ssh_host_ed25519_key"
            podman(
                *inside,
                f"umask 077; rm -f /etc/ssh/ssh_host_*; cat >{place}",
                stdin=host["ed25519_private"],
            )
            podman(*inside, f"cat >{place}.pub", stdin=host["ed25519_public"] + "\n")
            podman(*inside, "systemctl restart ssh")
        podman(*inside, "dpkg-query --show " + " ".join(data.get("packages", [])) + " >/dev/null")
        for command in data.get("runcmd", []):
            podman("exec", container, *command)
        podman(
            *inside,
            "cat >/usr/bin/cloud-init; chmod 755 /usr/bin/cloud-init",
            stdin="#!/bin/sh\necho status: done\n",
        )
        return podman(
            "inspect",
            "--format",
            '{{(index .NetworkSettings.Networks "' + self.network + '").IPAddress}}',
            container,
        )

    def delete_server(self, number: int) -> dict[str, Any]:
        server = self._one(self.servers, number)
        podman("rm", "--force", "--time", "0", self.container(server["name"]))
        del self.servers[number]
        return {"action": self._action("delete_server")}

    def delete_ssh_key(self, number: int) -> dict[str, Any]:
        self._one(self.ssh_keys, number)
        del self.ssh_keys[number]
        return {}

    def _action(self, command: str) -> dict[str, Any]:
        action = {
            "id": next(self.numbers),
            "command": command,
            "status": "success",
            "progress": 100,
            "started": now(),
            "finished": now(),
            "resources": [],
            "error": None,
        }
        self.actions[action["id"]] = action
        return action

    def _unused(self, items: dict[int, dict[str, Any]], name: str) -> None:
        if any(item["name"] == name for item in items.values()):
            raise Refused(409, "uniqueness_error", f"name {name} is already used")

    def _one(self, items: dict[int, dict[str, Any]], number: int) -> dict[str, Any]:
        if number not in items:
            raise Refused(404, "not_found", f"there is no {number}")
        return items[number]

    def close(self) -> None:
        for number in list(self.servers):
            self.delete_server(number)


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def listed(items: list[dict[str, Any]], name: str, query: dict[str, list[str]]) -> dict[str, Any]:
    """Those that the query asks for, on one page."""
    if "name" in query:
        items = [item for item in items if item["name"] in query["name"]]
    if "label_selector" in query:
        items = [item for item in items if query["label_selector"][0] in item["labels"]]
    page = {
        "page": 1,
        "per_page": 50,
        "previous_page": None,
        "next_page": None,
        "last_page": 1,
        "total_entries": len(items),
    }
    return {name: items, "meta": {"pagination": page}}


def handler(project: Project, token: str) -> type[BaseHTTPRequestHandler]:
    def answer(method: str, path: str, query: Any, body: dict[str, Any]) -> dict[str, Any]:
        kind, _slash, number = path.strip("/").partition("/")
        lists = {
            "servers": list(project.servers.values()),
            "images": IMAGES,
            "ssh_keys": list(project.ssh_keys.values()),
            "server_types": [SERVER_TYPE],
            "locations": [LOCATION],
            "datacenters": [DATACENTER],
        }
        orders: dict[tuple[str, str], Callable[..., dict[str, Any]]] = {
            ("POST", "servers"): project.create_server,
            ("POST", "ssh_keys"): project.create_ssh_key,
            ("DELETE", "servers"): project.delete_server,
            ("DELETE", "ssh_keys"): project.delete_ssh_key,
        }
        if method == "GET" and kind == "actions" and number:
            return {"action": project.actions[int(number)]}
        if method == "GET" and kind in lists and not number:
            return listed(lists[kind], kind, query)
        if method == "GET" and kind in lists:
            found = [item for item in lists[kind] if str(item["id"]) == number]
            if found:
                return {kind.removesuffix("s"): found[0]}
            raise Refused(404, "not_found", f"there is no {path}")
        if (method, kind) in orders:
            return orders[method, kind](int(number) if number else body)
        raise Refused(404, "not_found", f"this stand-in does not know {method} {path}")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.serve()

        do_POST = do_DELETE = do_GET

        def serve(self) -> None:
            address = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status = {"POST": 201}.get(self.command, 200)
            try:
                if self.headers.get("Authorization") != f"Bearer {token}":
                    raise Refused(401, "unauthorized", "unable to authenticate")
                path = address.path.removeprefix("/v1")
                with project.lock:
                    data = answer(
                        self.command, path, parse_qs(address.query), json.loads(body or "{}")
                    )
            except Refused as error:
                status = error.status
                data = {"error": {"code": error.code, "message": str(error), "details": {}}}
            content = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Handler


def main(port: str, token: str, image: str, network: str) -> None:
    project = Project(image, network)
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), handler(project, token))
    signal.signal(signal.SIGTERM, lambda *_unused: threading.Thread(target=server.shutdown).start())
    try:
        server.serve_forever()
    finally:
        project.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
