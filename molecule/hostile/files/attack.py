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
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from serve_client import MANIFEST, ServeConnection, ServeError

NEW = b"n" * 32


class Box:
    """The box's way to one of its repositories."""

    def __init__(self, name: str, agent: str = "hal") -> None:
        config = json.loads(Path(f"/etc/lifeboat/agents/{agent}/config.json").read_text())
        self.agent = config["agent"]
        self.borg_path = config["borg"]
        self.repository = {one["name"]: one for one in config["repositories"]}[name]
        match = re.match(r"ssh://([^:/]+)(?::(\d+))?(/.*)", self.repository["url"])
        assert match
        self.account, self.port, self.path = match[1], match[2] or "22", match[3]

    def ssh(self, *words: str, more: Sequence[str] = ()) -> list[str]:
        pinned = self.repository["known_hosts"]
        options = ["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=60"]
        options += more
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
    """Archives with dates of the past and of the future, a month between each two."""
    for number in range(int(os.environ["FORGED"])):
        month = number // 2 + 1 if number % 2 else -(number // 2) - 1
        day = datetime.now(timezone.utc) + timedelta(days=31 * month)
        name = f"::hal-{day:%Y-%m-%d}T00:00:00Z"
        done = box.borg("create", "--timestamp", f"{day:%Y-%m-%d}T00:00:00", name, "SOUL.md")
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


def hold(box: Box) -> str:
    """Keep the exclusive lock, and keep talking so that nobody calls it silence."""
    end = time.monotonic() + float(os.environ["SECONDS_HELD"])
    with box.opened() as connection:
        Path("/run/attack.holds").touch()
        while time.monotonic() < end:
            connection.call("get", id=MANIFEST)
            time.sleep(0.5)
    return ""


def initialise_anew(box: Box) -> str:
    """A repository of the attacker's own where the old one was."""
    with tempfile.TemporaryDirectory() as empty:
        base = {"BORG_BASE_DIR": empty, "BORG_KEYS_DIR": f"{empty}/keys"}
        done = box.borg("init", "--encryption", "keyfile-blake2", **base)
        return "" if done.returncode == 0 else done.stderr or f"rc {done.returncode}"


def nonce(wanted: int) -> Callable[[ServeConnection], Any]:
    return lambda c: c.call(
        "commit_nonce_reservation", next_unreserved=wanted, start_nonce=c.call("get_free_nonce")
    )


def put(c: ServeConnection) -> Any:
    return c.call("put", id=NEW, data=b"junk")


ACTS: dict[str, Callable[[Box], str]] = {
    "delete an archive": command("delete", "::FIRST"),
    "delete every archive": command("delete", "--glob-archives", "*"),
    "forget an archive": command("delete", "--force", "--force", "::FIRST"),
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
    "nonce back": calls(nonce(1), put),
    "break the lock": calls(lambda c: c.call("break_lock")),
    "destroy": calls(lambda c: c.call("destroy")),
    "repair": calls(lambda c: c.call("check", repair=True)),
    "initialise again": command("init", "--encryption", "none"),
    "initialise anew": initialise_anew,
    "delete the repository": command("delete"),
    "compact": calls(lambda c: c.call("commit", compact=True, cleanup_commits=True)),
    "forged archives": forge,
    "prune by the book": command("prune", "--keep-daily=7", "--keep-weekly=4", "--keep-monthly=6"),
    "hold the lock": hold,
    "fill the quota": fill,
    "change the passphrase": command("key", "change-passphrase", BORG_NEW_PASSPHRASE="x"),
    "list": command("list"),
    "create": command("create", "::hal-2026-01-01T00:00:00Z", "SOUL.md"),
}


def contents(box: Box, only: Sequence[str]) -> dict[str, str]:
    """A hash of all that is in each archive that is listed."""
    found = {}
    for name in box.archives():
        if only and name not in only:
            continue
        done = subprocess.run(
            [box.borg_path, "export-tar", f"::{name}", "-"],
            env=box.environment(),
            capture_output=True,
            check=True,
        )
        found[name] = hashlib.sha256(done.stdout).hexdigest()
    return found


def opens(box: Box, path: str) -> dict[str, Any]:
    """Whether the box's key opens the repository at a path."""
    box.path = path
    try:
        with box.opened() as connection:
            return {"opened": True, "id": connection.repository_id.hex(), "message": ""}
    except ServeError as error:
        return {"opened": False, "id": "", "message": str(error)}


def knock(box: Box, arguments: Sequence[str]) -> dict[str, Any]:
    """SSH with the box's key: options, then -- and the words for the other side."""
    split = arguments.index("--")
    done = subprocess.run(
        box.ssh(*arguments[split + 1 :], more=arguments[:split]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def main() -> int:
    box = Box(sys.argv[1], os.environ.get("AGENT", "hal"))
    if sys.argv[2] == "knock":
        sys.stdout.write(json.dumps(knock(box, sys.argv[3:])) + "\n")
        return 0
    if sys.argv[2] == "open":
        sys.stdout.write(json.dumps(opens(box, sys.argv[3])) + "\n")
        return 0
    if sys.argv[2] == "contents":
        sys.stdout.write(json.dumps(contents(box, sys.argv[3:])) + "\n")
        return 0
    try:
        refused = ACTS[sys.argv[2]](box)
    except ServeError as error:
        refused = str(error)
    sys.stdout.write(json.dumps({"refused": bool(refused), "message": refused.strip()}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
