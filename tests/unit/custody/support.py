# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real borg, a real repository, and a transport that is a pipe instead of SSH.

BORG_RSH names a script that starts the serving process here, as sshd would start the
forced command of a key: nothing the client sends reaches its command line.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import serve, serve_client
from ansible_collections.lifeboat.agents.plugins.module_utils.serve_lockout import sessions

GUARD = Path(serve.__file__)
PASSPHRASE = "a passphrase for tests"


def find_borg() -> Path:
    """The borg to test with; its absence is a skip unless LIFEBOAT_REQUIRE_BORG is set."""
    for candidate in (os.environ.get("LIFEBOAT_BORG"), "/usr/local/bin/lifeboat-borg", "borg"):
        found = shutil.which(candidate) if candidate else None
        if found:
            return Path(found).resolve()
    message = "no borg: set LIFEBOAT_BORG to the path of a borg 1.4"
    if os.environ.get("LIFEBOAT_REQUIRE_BORG"):
        pytest.fail(message)
    pytest.skip(message)


def python_of(borg: Path) -> str:
    """The Python that can import the package of this borg."""
    with borg.open("rb") as stream:
        first = stream.readline().decode()
    if not first.startswith("#!"):
        pytest.skip(f"{borg} is not a Python script: its package cannot be imported")
    return shlex.split(first[2:])[0]


@dataclass
class World:
    """One repository host (folders), one box (a borg base directory and files)."""

    root: Path
    borg_path: Path
    quota: str = "10G"
    agent: str = "acme"
    extra: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for folder in ("host", "home", "marks"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        self.lock.touch()
        self.counters.write_text("")

    @property
    def repository(self) -> Path:
        return self.root / "host" / self.agent

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def lock(self) -> Path:
        return self.root / "host" / f"{self.agent}.lock"

    @property
    def counters(self) -> Path:
        return self.root / "host" / f"{self.agent}.counters"

    @property
    def sealed(self) -> Path:
        return self.root / "host" / f"{self.agent}.sealed"

    def guard(self, *options: str) -> list[str]:
        """The forced command of a key."""
        return [
            python_of(self.borg_path),
            "-I",
            str(GUARD),
            "--repository",
            str(self.repository),
            "--storage-quota",
            self.quota,
            "--agent",
            self.agent,
            "--lock",
            str(self.lock),
            "--counters",
            str(self.counters),
            *self.extra,
            *(options or ("--allow-create-if-absent", str(self.sealed))),
        ]

    def plain(self) -> list[str]:
        """What peers call immutable: borg's own append-only serving."""
        return [
            str(self.borg_path),
            "serve",
            "--append-only",
            "--restrict-to-repository",
            str(self.repository),
        ]

    def environment(self, serving: Sequence[str], client: str = "box") -> dict[str, str]:
        script = self.root / f"rsh-{client}"
        script.write_text("#!/bin/sh\nexec " + shlex.join(serving) + "\n")
        script.chmod(0o755)
        base = self.root / "clients" / client
        base.mkdir(parents=True, exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(base),
            "BORG_BASE_DIR": str(base),
            "BORG_KEYS_DIR": str(self.root / "keys"),
            "BORG_RSH": str(script),
            "BORG_PASSPHRASE": PASSPHRASE,
            "BORG_EXIT_CODES": "modern",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }

    @property
    def url(self) -> str:
        return f"ssh://lb-{self.agent}@vault{self.repository}"

    def borg(
        self,
        *arguments: str,
        serving: Sequence[str] | None = None,
        client: str = "box",
        check: bool = True,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """borg as a client of ``serving`` (the guard with the box's identity by default)."""
        done = subprocess.run(
            [str(self.borg_path), *arguments],
            env=self.environment(serving or self.guard(), client),
            cwd=cwd or self.home,
            text=True,
            capture_output=True,
            check=False,
            timeout=300,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"borg {shlex.join(arguments)}: rc {done.returncode}\n{done.stderr}"
            )
        return done

    def popen(self, *arguments: str, serving: Sequence[str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.borg_path), *arguments],
            env=self.environment(serving or self.guard()),
            cwd=self.home,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def wait_for_sessions(self) -> None:
        """Until the guard of a client that was killed has noticed, and given the lock back."""
        deadline = time.monotonic() + 120
        while sessions(self.lock):
            assert time.monotonic() < deadline, "a session outlived its client"
            time.sleep(0.02)

    def init(self) -> None:
        self.borg("init", "--encryption", "keyfile-blake2", self.url)
        self.sealed.touch()

    def create(self, name: str, *options: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.borg("create", *options, f"{self.url}::{name}", ".", **more)

    def forget(self, client: str, *, nonce: bool = False) -> None:
        """What a client must forget when its repository was rolled back, and its nonce lowered."""
        base = self.root / "clients" / client
        for name in ("manifest-timestamp", *(["nonce"] if nonce else [])):
            for path in base.glob(f".config/borg/security/*/{name}"):
                path.unlink()
        for path in base.glob(".cache/borg/*"):
            if path.is_dir():
                shutil.rmtree(path)

    def archives(self, **more: Any) -> dict[str, str]:
        """Name to id."""
        listed = json.loads(
            self.borg("list", "--json", "--consider-checkpoints", self.url, **more).stdout
        )
        return {entry["name"]: entry["id"] for entry in listed["archives"]}

    def extract(self, name: str, client: str = "box") -> dict[str, bytes]:
        """The files of an archive, read back through the guard's read-only identity."""
        target = self.root / "extracted" / name
        target.mkdir(parents=True)
        self.borg(
            "extract",
            f"{self.url}::{name}",
            serving=self.guard("--read-only"),
            client=client,
            cwd=target,
        )
        found = tree(target)
        shutil.rmtree(target)
        return found

    def connect(self, *options: str, serving: Sequence[str] | None = None) -> Any:
        """A raw client of the protocol."""
        return serve_client.ServeConnection(serving or self.guard(*options), timeout=60)

    def opened(self, *options: str, exclusive: bool = True) -> serve_client.ServeConnection:
        connection = self.connect(*options)
        connection.open(str(self.repository), exclusive=exclusive, lock_wait=1)
        return connection

    def counted(self) -> dict[str, Any]:
        text = self.counters.read_text()
        return json.loads(text) if text else {"refusals": {}, "sessions": {}}

    def write(self, name: str, size: int = 20_000, seed: int | None = None) -> None:
        """A file of bytes that neither compress nor deduplicate."""
        data = os.urandom(size) if seed is None else bytes((seed * i) % 251 for i in range(size))
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def files_of(root: Path) -> dict[str, bytes]:
    """The lasting files of a repository: locks and the counter of nonces left out."""
    return {
        name: data
        for name, data in tree(root).items()
        if not name.startswith("lock.") and name != "nonce"
    }
