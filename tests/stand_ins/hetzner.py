# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the interfaces of Hetzner that the project uses, on loopback.

It speaks what the cloud's own client library expects, as the public reference described it in
November 2026 (a server has a location and no datacenter). It is no proof about the real cloud.

What a server is in truth is decided by the machines that a test plugs in.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, dict[str, Any]]


class Machines(Protocol):
    """Where servers come from."""

    def boot(self, name: str, user_data: str) -> str:
        """Make a machine; its address."""

    def destroy(self, name: str) -> None:
        """Take it away."""


class NoMachines:
    """Servers that nobody can reach."""

    def boot(self, name: str, user_data: str) -> str:
        return "192.0.2.7"

    def destroy(self, name: str) -> None:
        return None


class Refused(Exception):
    """The cloud says no, by its code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def timestamp() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


LOCATION = {
    "id": 1,
    "name": "fsn1",
    "description": "Falkenstein DC Park 1",
    "country": "DE",
    "city": "Falkenstein",
    "latitude": 50.47612,
    "longitude": 12.370071,
    "network_zone": "eu-central",
}
SERVER_TYPE = {
    "id": 114,
    "name": "cx23",
    "description": "CX23",
    "category": "Shared vCPU",
    "cores": 2,
    "memory": 4.0,
    "disk": 40,
    "deprecated": False,
    "deprecation": None,
    "prices": [],
    "storage_type": "local",
    "cpu_type": "shared",
    "architecture": "x86",
    "locations": [{"id": 1, "name": "fsn1", "available": True, "deprecation": None}],
}


def image(number: int, name: str) -> dict[str, Any]:
    return {
        "id": number,
        "name": name,
        "type": "system",
        "status": "available",
        "description": name,
        "image_size": None,
        "disk_size": 5,
        "created": "2026-01-01T00:00:00+00:00",
        "created_from": None,
        "bound_to": None,
        "os_flavor": "debian",
        "os_version": name.rsplit("-", 1)[-1],
        "rapid_deploy": True,
        "protection": {"delete": False},
        "deprecated": None,
        "labels": {},
        "architecture": "x86",
        "deleted": None,
    }


@dataclass
class Cloud:
    """A project: what stands in it, and how it behaves."""

    token: str = "stand-in-token"
    limit: int = 10
    machines: Machines = field(default_factory=NoMachines)
    # How a server's creation ends: success, error, or running for ever.
    creation: str = "success"
    servers: dict[int, dict[str, Any]] = field(default_factory=dict)
    ssh_keys: dict[int, dict[str, Any]] = field(default_factory=dict)
    storage_boxes: dict[int, dict[str, Any]] = field(default_factory=dict)
    snapshots: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    actions: dict[int, dict[str, Any]] = field(default_factory=dict)
    # Every request as method, path and status.
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    user_data: dict[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    last: int = 1000

    def number(self) -> int:
        self.last += 1
        return self.last

    def action(self, command: str, status: str = "success") -> dict[str, Any]:
        made = {
            "id": self.number(),
            "command": command,
            "status": status,
            "progress": 100 if status != "running" else 10,
            "started": timestamp(),
            "finished": timestamp() if status != "running" else None,
            "resources": [],
            "error": {"code": "action_failed", "message": "Action failed"}
            if status == "error"
            else None,
        }
        self.actions[made["id"]] = made
        return made

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> Answer:
        for wanted, pattern, act in self.routes():
            found = re.fullmatch(pattern, path)
            if found and method == wanted:
                with self.lock:
                    return act(query, body, *(int(part) for part in found.groups()))
        raise Refused(404, "not_found", f"no route {method} {path}")

    def routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        fixed: dict[str, list[dict[str, Any]]] = {
            "locations": [LOCATION],
            "server_types": [SERVER_TYPE],
            "images": [image(1, "debian-12"), image(2, "debian-13")],
        }

        def listing(kind: str) -> Callable[..., Answer]:
            return lambda query, _body: page(kind, fixed[kind], query)

        return [
            *(("GET", f"/v1/{kind}", listing(kind)) for kind in fixed),
            ("GET", "/v1/ssh_keys", lambda q, _b: page("ssh_keys", self.ssh_keys.values(), q)),
            ("POST", "/v1/ssh_keys", self.add_key),
            ("GET", r"/v1/ssh_keys/(\d+)", lambda q, b, n: one("ssh_key", self.ssh_keys, n)),
            ("DELETE", r"/v1/ssh_keys/(\d+)", self.remove_key),
            ("GET", "/v1/servers", lambda q, _b: page("servers", self.servers.values(), q)),
            ("POST", "/v1/servers", self.create),
            ("GET", r"/v1/servers/(\d+)", lambda q, b, n: one("server", self.servers, n)),
            ("DELETE", r"/v1/servers/(\d+)", self.delete),
            (
                "GET",
                r"/v1/(?:servers/)?actions/(\d+)",
                lambda q, b, n: one("action", self.actions, n),
            ),
            (
                "GET",
                "/v1/storage_boxes",
                lambda q, _b: page("storage_boxes", self.storage_boxes.values(), q),
            ),
            (
                "GET",
                r"/v1/storage_boxes/(\d+)",
                lambda q, b, n: one("storage_box", self.storage_boxes, n),
            ),
            # The client reads a box again by changing nothing of it.
            (
                "PUT",
                r"/v1/storage_boxes/(\d+)",
                lambda q, b, n: one("storage_box", self.storage_boxes, n),
            ),
            ("GET", r"/v1/storage_boxes/(\d+)/snapshots", self.list_snapshots),
            ("POST", r"/v1/storage_boxes/(\d+)/actions/enable_snapshot_plan", self.plan),
            (
                "GET",
                r"/v1/storage_boxes/actions/(\d+)",
                lambda q, b, n: one("action", self.actions, n),
            ),
        ]

    def add_key(self, _query: dict[str, str], body: dict[str, Any]) -> Answer:
        if any(key["name"] == body["name"] for key in self.ssh_keys.values()):
            raise Refused(409, "uniqueness_error", "SSH key with the same name already exists")
        made = {
            "id": self.number(),
            "name": body["name"],
            "public_key": body["public_key"],
            "labels": body.get("labels") or {},
            "fingerprint": "00:" * 15 + "00",
            "created": timestamp(),
        }
        self.ssh_keys[made["id"]] = made
        return 201, {"ssh_key": made}

    def remove_key(self, _query: dict[str, str], _body: dict[str, Any], number: int) -> Answer:
        one("ssh_key", self.ssh_keys, number)
        del self.ssh_keys[number]
        return 204, {}

    def create(self, _query: dict[str, str], body: dict[str, Any]) -> Answer:
        if "datacenter" in body:
            raise Refused(422, "invalid_input", "unknown field datacenter")
        if len(self.servers) >= self.limit:
            raise Refused(403, "resource_limit_exceeded", "server limit exceeded")
        if any(server["name"] == body["name"] for server in self.servers.values()):
            raise Refused(409, "uniqueness_error", "server name is already used")
        known = {key["id"] for key in self.ssh_keys.values()}
        if not set(body.get("ssh_keys") or ()) <= known:
            raise Refused(422, "invalid_input", "invalid input in field 'ssh_keys'")
        number = self.number()
        address = "192.0.2.7"
        if self.creation == "success":
            address = self.machines.boot(body["name"], body.get("user_data") or "")
        self.user_data[body["name"]] = body.get("user_data") or ""
        made = self.described(number, body, address)
        self.servers[number] = made
        return 201, {
            "server": made,
            "action": self.action("create_server", self.creation),
            "next_actions": [],
            "root_password": None,
        }

    def described(self, number: int, body: dict[str, Any], address: str) -> dict[str, Any]:
        return {
            "id": number,
            "name": body["name"],
            "status": "running" if self.creation == "success" else "initializing",
            "created": timestamp(),
            "public_net": {
                "ipv4": {"id": number, "ip": address, "blocked": False, "dns_ptr": ""},
                "ipv6": {"id": number, "ip": "2001:db8::/64", "blocked": False, "dns_ptr": []},
                "floating_ips": [],
                "firewalls": [],
            },
            "private_net": [],
            "server_type": SERVER_TYPE,
            "location": LOCATION,
            "image": image(2, "debian-13"),
            "iso": None,
            "rescue_enabled": False,
            "locked": False,
            "backup_window": None,
            "outgoing_traffic": 0,
            "ingoing_traffic": 0,
            "included_traffic": 0,
            "protection": {"delete": False, "rebuild": False},
            "labels": body.get("labels") or {},
            "volumes": [],
            "load_balancers": [],
            "primary_disk_size": 40,
            "placement_group": None,
        }

    def delete(self, _query: dict[str, str], _body: dict[str, Any], number: int) -> Answer:
        one("server", self.servers, number)
        self.machines.destroy(self.servers.pop(number)["name"])
        return 200, {"action": self.action("delete_server")}

    def list_snapshots(self, query: dict[str, str], _body: dict[str, Any], number: int) -> Answer:
        one("storage_box", self.storage_boxes, number)
        return page("snapshots", self.snapshots.get(number, []), query)

    def plan(self, _query: dict[str, str], body: dict[str, Any], number: int) -> Answer:
        one("storage_box", self.storage_boxes, number)
        self.storage_boxes[number]["snapshot_plan"] = body
        return 201, {"action": self.action("enable_snapshot_plan")}

    def add_storage_box(self, name: str, plan: dict[str, Any] | None) -> int:
        number = self.number()
        self.storage_boxes[number] = {
            "id": number,
            "name": name,
            "username": "u00001",
            "status": "active",
            "storage_box_type": {"id": 1, "name": "bx11", "snapshot_limit": 10, "prices": []},
            "location": LOCATION,
            "access_settings": {
                "reachable_externally": True,
                "samba_enabled": False,
                "ssh_enabled": True,
                "webdav_enabled": False,
                "zfs_enabled": False,
            },
            "server": "u00001.your-storagebox.de",
            "system": "FSN1-BX355",
            "stats": {"size": 0, "size_data": 0, "size_snapshots": 0},
            "labels": {},
            "protection": {"delete": True},
            "snapshot_plan": plan,
            "created": timestamp(),
        }
        return number

    def add_snapshot(self, box: int, created: str, automatic: bool = True) -> None:
        number = self.number()
        self.snapshots.setdefault(box, []).append(
            {
                "id": number,
                "name": re.sub(r"[:+]", "-", created),
                "description": None,
                "stats": {"size": 0, "size_filesystem": 0},
                "is_automatic": automatic,
                "labels": {},
                "created": created,
                "storage_box": box,
            }
        )


def one(kind: str, things: dict[int, dict[str, Any]], number: int) -> Answer:
    if number not in things:
        raise Refused(404, "not_found", f"{kind} with ID '{number}' not found")
    return 200, {kind: things[number]}


def page(kind: str, things: Any, query: dict[str, str]) -> Answer:
    chosen = [thing for thing in things if matches(thing, query)]
    total = len(chosen)
    return 200, {
        kind: chosen,
        "meta": {
            "pagination": {
                "page": 1,
                "per_page": 50,
                "previous_page": None,
                "next_page": None,
                "last_page": 1,
                "total_entries": total,
            }
        },
    }


def matches(thing: dict[str, Any], query: dict[str, str]) -> bool:
    if "name" in query and thing["name"] != query["name"]:
        return False
    for condition in query.get("label_selector", "").split(","):
        key, _equals, value = condition.partition("=")
        if key and (key not in thing["labels"] or (value and thing["labels"][key] != value)):
            return False
    return True


class Handler(BaseHTTPRequestHandler):
    """HTTP in front of the cloud."""

    protocol_version = "HTTP/1.1"
    cloud: Cloud

    def handle_one(self, method: str) -> None:
        split = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(split.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        try:
            if self.headers.get("Authorization") != f"Bearer {self.cloud.token}":
                raise Refused(401, "unauthorized", "unable to authenticate")
            body = json.loads(raw) if raw else {}
            status, answer = self.cloud.answer(method, split.path, query, body)
        except Refused as error:
            status = error.status
            answer = {"error": {"code": error.code, "message": str(error), "details": None}}
        self.cloud.requests.append((method, split.path, status))
        content = b"" if status == 204 else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self.handle_one("GET")

    def do_POST(self) -> None:
        self.handle_one("POST")

    def do_PUT(self) -> None:
        self.handle_one("PUT")

    def do_DELETE(self) -> None:
        self.handle_one("DELETE")

    def log_message(self, *_arguments: Any) -> None:
        return


@contextmanager
def served(cloud: Cloud) -> Iterator[str]:
    """Serve the cloud on loopback; the address for a client."""
    handler = type("BoundHandler", (Handler,), {"cloud": cloud})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
