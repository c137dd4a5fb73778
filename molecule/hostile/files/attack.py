"""What root of a box can try with the box's own key: attack.py REPOSITORY ACT.

Prints one JSON object: whether it was refused, and in which words. Only calls and commands
that anybody finds in borg's own documentation and protocol.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from serve_client import MANIFEST, ServeConnection, ServeError

NEW = b"n" * 32


class Box:
    """The box's way to one of its repositories."""

    def __init__(self, name: str) -> None:
        config = json.loads(Path("/etc/lifeboat/agents/hal/config.json").read_text())
        self.agent = config["agent"]
        self.borg_path = config["borg"]
        self.repository = {one["name"]: one for one in config["repositories"]}[name]
        match = re.match(r"ssh://([^:/]+)(?::(\d+))?(/.*)", self.repository["url"])
        assert match
        self.account, self.port, self.path = match[1], match[2] or "22", match[3]

    def ssh(self, *words: str) -> list[str]:
        pinned = self.repository["known_hosts"]
        options = ["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=60"]
        options += ["-o", f"UserKnownHostsFile={pinned}", "-o", "StrictHostKeyChecking=yes"]
        key = self.repository["ssh_key"]
        return ["ssh", "-i", key, *options, "-p", self.port, self.account, *words]

    def opened(self) -> ServeConnection:
        connection = ServeConnection(self.ssh("borg", "serve"), timeout=300)
        connection.open(self.path, exclusive=True, lock_wait=10)
        return connection

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "LC_ALL": "C.UTF-8",
            "BORG_BASE_DIR": os.environ.get("ATTACK_BASE", self.repository["base_dir"]),
            "BORG_KEYS_DIR": self.repository["keys_dir"],
            "BORG_PASSCOMMAND": f"cat {self.repository['passphrase_file']}",
            "BORG_RSH": " ".join(self.ssh()[: self.ssh().index("-p")]),
            "BORG_REPO": self.repository["url"],
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
            "BORG_DELETE_I_KNOW_WHAT_I_AM_DOING": "YES",
            "BORG_CHECK_I_KNOW_WHAT_I_AM_DOING": "YES",
        }

    def borg(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.borg_path, *arguments],
            env={**self.environment(), **environment},
            cwd="/home/hal/agent",
            capture_output=True,
            text=True,
            check=False,
        )

    def archives(self) -> list[str]:
        done = self.borg("list", "--short")
        if done.returncode != 0:
            raise ServeError(done.stderr or f"rc {done.returncode}")
        return done.stdout.split()


def objects(connection: ServeConnection) -> list[bytes]:
    return [key for key in connection.scan() if key != MANIFEST]


def calls(*acts: Callable[[ServeConnection], Any]) -> Callable[[Box], str]:
    """Raw calls, then a commit; ServeError says what was refused."""

    def run(box: Box) -> str:
        with box.opened() as connection:
            for act in acts:
                act(connection)
            connection.call("commit")
        return ""

    return run


def command(*arguments: str, **environment: str) -> Callable[[Box], str]:
    """A command of borg; FIRST is the oldest archive."""

    def run(box: Box) -> str:
        oldest = box.archives()[0]
        words = [word.replace("FIRST", oldest) for word in arguments]
        done = box.borg(*words, **environment)
        return "" if done.returncode == 0 else done.stderr or f"rc {done.returncode}"

    return run


def forge(box: Box) -> str:
    """Archives with dates of the past and of the future."""
    for number in range(int(os.environ.get("FORGED", "40"))):
        year = 2019 + number % 15
        name = f"::hal-{year}-01-{number % 28 + 1:02d}T00:00:{number % 60:02d}Z"
        done = box.borg("create", "--timestamp", f"{year}-01-02T00:00:00", name, "SOUL.md")
        if done.returncode != 0:
            return done.stderr
    return ""


def fill(box: Box) -> str:
    """Junk until something says stop."""
    with box.opened() as connection:
        for number in range(1000):
            key = number.to_bytes(32, "big")[:-1] + b"j"
            connection.call("put", id=key, data=os.urandom(4_000_000))
        connection.call("commit")
    return ""


def nonce(wanted: int) -> Callable[[ServeConnection], Any]:
    return lambda c: c.call(
        "commit_nonce_reservation", next_unreserved=wanted, start_nonce=c.call("get_free_nonce")
    )


def put(c: ServeConnection) -> Any:
    return c.call("put", id=NEW, data=b"junk")


ACTS: dict[str, Callable[[Box], str]] = {
    "delete an archive": command("delete", "::FIRST"),
    "prune": command("prune", "--keep-last=1"),
    "rename": command("rename", "::FIRST", "hal-x.checkpoint"),
    "recreate": command("recreate", "--exclude", "*memories*", "::FIRST"),
    "delete chunks": calls(lambda c: [c.call("delete", id=key) for key in objects(c)[:3]]),
    "delete everything": calls(
        lambda c: [c.call("delete", id=key) for key in objects(c)],
        lambda c: c.call("delete", id=MANIFEST),
    ),
    "garbage over a chunk": calls(lambda c: c.call("put", id=objects(c)[0], data=os.urandom(999))),
    "another chunk over a chunk": calls(
        lambda c: c.call("put", id=objects(c)[0], data=c.call("get", id=objects(c)[1]))
    ),
    "empty manifest": calls(lambda c: c.call("put", id=MANIFEST, data=b"")),
    "unencrypted manifest": calls(lambda c: c.call("put", id=MANIFEST, data=b"\x02" + bytes(200))),
    "store a key": calls(lambda c: c.call("save_key", keydata=b"BORG_KEY x\nx"), put),
    "highest nonce": calls(nonce(2**64 - 1), put),
    "break the lock": calls(lambda c: c.call("break_lock")),
    "destroy": calls(lambda c: c.call("destroy")),
    "repair": calls(lambda c: c.call("check", repair=True)),
    "initialise again": command("init", "--encryption", "none"),
    "delete the repository": command("delete"),
    "compact": calls(lambda c: c.call("commit", compact=True, cleanup_commits=True)),
    "forged archives": forge,
    "fill the quota": fill,
    "change the passphrase": command("key", "change-passphrase", BORG_NEW_PASSPHRASE="x"),
    "list": command("list"),
    "create": command("create", "::hal-2026-01-01T00:00:00Z", "SOUL.md"),
}


def contents(box: Box) -> dict[str, str]:
    """A hash of all that is in each archive."""
    found = {}
    for name in box.archives():
        done = subprocess.run(
            [box.borg_path, "export-tar", f"::{name}", "-"],
            env=box.environment(),
            capture_output=True,
            check=True,
        )
        found[name] = hashlib.sha256(done.stdout).hexdigest()
    return found


def main() -> int:
    box = Box(sys.argv[1])
    if sys.argv[2] == "contents":
        sys.stdout.write(json.dumps(contents(box)) + "\n")
        return 0
    try:
        refused = ACTS[sys.argv[2]](box)
    except ServeError as error:
        refused = str(error)
    sys.stdout.write(json.dumps({"refused": bool(refused), "message": refused.strip()}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
