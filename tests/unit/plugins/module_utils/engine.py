# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small home, a box configured for it, and a real borg: what the tests of the engine share."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.lifeboat.agents.plugins.module_utils import config as configuration
from ansible_collections.lifeboat.agents.plugins.module_utils.backup import Backup
from ansible_collections.lifeboat.agents.plugins.module_utils.manifest import parse
from ansible_collections.lifeboat.agents.plugins.module_utils.privilege import Identity, lookup
from ansible_collections.lifeboat.agents.plugins.module_utils.profile import load

ROOT = Path(__file__).resolve().parents[4]
USER = pwd.getpwuid(os.geteuid()).pw_name
PASSPHRASE = "a passphrase for tests"

SMALL_PROFILE: dict[str, Any] = {
    "format": 1,
    "name": "small",
    "nested_homes": ["profiles/*"],
    "rules": [
        {"match": ".env*", "at": "any", "class": "secret"},
        {"match": ["auth.json", "tokens/"], "class": "secret"},
        {"match": ["*.pid", "*.lock"], "class": "runtime"},
        {
            "match": ["SOUL.md", "memories/", "sessions/", "workspace/", "state.db", "other.db"],
            "class": "keep",
        },
        {"match": "config.yaml", "class": "scrub"},
        {"match": "cache/images/", "class": "keep"},
        {"match": ["cache/", "logs/", "hermes-agent/"], "class": "drop"},
    ],
    "secrets": {"environment": ["*_ALLOWED_USERS"]},
    "databases": {
        "newest": [{"path": "state.db", "table": "messages", "column": "at", "unit": "s"}]
    },
    "outside": [
        {"database": "state.db", "table": "sessions", "column": "cwd"},
        {"json": "workspace/jobs.json", "pointer": "/jobs/*/workdir"},
    ],
}


def find_borg() -> str:
    """The borg to test with; its absence is a skip unless LIFEBOAT_REQUIRE_BORG is set."""
    for candidate in (os.environ.get("LIFEBOAT_BORG"), "/usr/local/bin/lifeboat-borg", "borg"):
        found = shutil.which(candidate) if candidate else None
        if found:
            return str(Path(found).resolve())
    message = "no borg: set LIFEBOAT_BORG to the path of a borg 1.4"
    if os.environ.get("LIFEBOAT_REQUIRE_BORG"):
        pytest.fail(message)
    pytest.skip(message)


def identity() -> Identity:
    """The user of the tests."""
    return lookup(USER)


def shipped(name: str) -> dict[str, Any]:
    """A profile of the collection."""
    return load(yaml.safe_load((ROOT / "profiles" / f"{name}.yml").read_text(encoding="utf-8")))


def write(path: Path, text: str | bytes = "x\n", mode: int | None = None) -> Path:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    if mode is not None:
        path.chmod(mode)
    return path


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    """Until something is so. The limit ends a test that has failed; it is no measure of time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@contextlib.contextmanager
def small_disk(place: Path, options: str) -> Iterator[None]:
    """A file system of its own at a folder, with these options of tmpfs."""
    mount = ["mount", "-t", "tmpfs", "-o", options, "lifeboat-test", str(place)]
    # Root of an unprivileged container may not mount; script/test counts and names what is skipped.
    # Where it may not mount it says so and skips.
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def make_database(path: Path, *, journal: str = "wal", rows: int = 50) -> Path:
    """A state.db as agents have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.executescript(
        f"PRAGMA journal_mode = {journal};"
        "CREATE TABLE sessions (id TEXT PRIMARY KEY, cwd TEXT);"
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, body TEXT, at REAL);"
        "CREATE VIRTUAL TABLE messages_fts USING fts5(body);"
        "INSERT INTO sessions VALUES ('s', '/srv/project');"
        "PRAGMA user_version = 22; PRAGMA application_id = 7;"
    )
    connection.executemany(
        "INSERT INTO messages (body, at) VALUES (?, ?)",
        [(f"message {number}", 1_700_000_000 + number) for number in range(rows)],
    )
    connection.commit()
    connection.close()
    return path


class Box:
    """An agent's box in a temporary folder."""

    def __init__(self, root: Path, borg: str, repositories: tuple[str, ...] = ("vault1",)) -> None:
        self.root = root
        self.home = root / "home"
        self.borg = borg
        self.state = root / "state"
        self.run_dir = root / "run"
        self.settings: dict[str, Any] = {}
        self._second = 0
        self.profile = load(SMALL_PROFILE)
        self.home.mkdir()
        write(root / "passphrase", PASSPHRASE + "\n", 0o400)
        self.repositories = [self._repository(name) for name in repositories]

    def environment(self, name: str) -> dict[str, str]:
        """What raw borg needs for one repository."""
        return {
            **os.environ,
            "BORG_BASE_DIR": str(self.root / name / "borg"),
            "BORG_KEYS_DIR": str(self.root / name / "keys"),
            "BORG_PASSPHRASE": PASSPHRASE,
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }

    def raw(self, name: str, *arguments: str) -> bytes:
        """Raw borg on one repository."""
        argv = [self.borg, *arguments]
        completed = subprocess.run(
            argv, env=self.environment(name), check=True, capture_output=True, cwd=self.root
        )
        return completed.stdout

    def _repository(self, name: str) -> dict[str, Any]:
        place = self.root / name
        (place / "keys").mkdir(parents=True)
        self.raw(name, "init", "--encryption", "keyfile-blake2", str(place / "repository"))
        info = json.loads(self.raw(name, "info", "--json", str(place / "repository")))
        return {
            "name": name,
            "url": str(place / "repository"),
            "id": info["repository"]["id"],
            "keys_dir": str(place / "keys"),
            "base_dir": str(place / "borg"),
            "passphrase_file": str(self.root / "passphrase"),
        }

    def config(self) -> configuration.BoxConfig:
        """The checked configuration."""
        return configuration.parse(
            {
                "format": 1,
                "agent": "acme",
                "host": "box",
                "user": USER,
                "home": str(self.home),
                "profile": str(self.root / "profile.json"),
                "repositories": self.repositories,
                "state_dir": str(self.state),
                "run_dir": str(self.run_dir),
                "lock_wait": 5,
                "borg": self.borg,
                **self.settings,
            },
            "test",
        )

    def backup(self) -> dict[str, Any]:
        """One run; the status. Archives are named by the second: the next run begins in another."""
        wait_for(lambda: int(time.time()) > self._second)
        run = Backup(self.config(), self.profile)
        self._second = int(time.time())
        return run.run()

    def listing(self, status: dict[str, Any], name: str = "vault1") -> set[str]:
        """The archive's paths: below the home as they are, others with their first part."""
        url = f"{self.root}/{name}/repository::{status['archive']}"
        text = self.raw(name, "list", "--format", "{bpath}{NUL}", url).decode("utf-8", "replace")
        home = str(self.home).lstrip("/") + "/"
        run = str(self.run_dir).lstrip("/") + "/"
        return {
            path.replace(home, "", 1).replace(run, "run:", 1) for path in text.split("\0") if path
        }

    def extract(self, status: dict[str, Any], name: str = "vault1") -> Path:
        """The whole archive, extracted; the place of the home in it."""
        target = self.root / f"extracted-{status['archive']}-{name}"
        target.mkdir()
        url = f"{self.root}/{name}/repository::{status['archive']}"
        subprocess.run(
            [self.borg, "extract", url], env=self.environment(name), check=True, cwd=target
        )
        return target

    def restored_home(self, target: Path) -> Path:
        """Where the home lies in an extracted archive."""
        return target / str(self.home).lstrip("/")

    def manifest(self, target: Path) -> dict[str, Any]:
        """The manifest of an extracted archive."""
        return parse((target / str(self.run_dir).lstrip("/") / "manifest.json").read_bytes())


def entries(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The manifest's entries by path."""
    return {entry.get("path", entry.get("path_base64")): entry for entry in manifest["entries"]}
