# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small agent home, the manifest of its archive, and a repository that holds it."""

from __future__ import annotations

import base64
import dataclasses
import grp
import hashlib
import json
import os
import pwd
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.lifeboat.agents.plugins.module_utils import restore
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_session import EscrowedAccess

AGENT = "acme"
MARKER = "__LIFEBOAT_TO_BE_SUPPLIED__"
PASSPHRASE = "correct horse"
IS_ROOT = os.geteuid() == 0


def find_borg() -> str | None:
    candidates = (
        os.environ.get("LIFEBOAT_BORG"),
        shutil.which("borg"),
        "/usr/local/bin/lifeboat-borg",
    )
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            said = subprocess.run(
                [candidate, "--version"], capture_output=True, text=True, check=False
            )
            if said.stdout.startswith("borg 1.4."):
                return candidate
    return None


def agent_user() -> str:
    """A user that is not root, where there is one to become."""
    return "daemon" if IS_ROOT else pwd.getpwuid(os.geteuid()).pw_name


def extracting_user() -> str:
    return "nobody" if IS_ROOT else agent_user()


@dataclasses.dataclass
class World:
    root: Path
    borg: str = ""
    names: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def parent(self) -> Path:
        return self.root / "target" / "hermes"

    @property
    def home(self) -> Path:
        return self.parent / ".hermes"

    @property
    def staging(self) -> Path:
        return self.parent / f".lifeboat-restore-{AGENT}"

    @property
    def repository(self) -> Path:
        return self.root / "repository"

    @property
    def source(self) -> Path:
        """Where the archived tree lies: home/hermes/.hermes and run/lifeboat/acme below it."""
        return self.root / "source"

    def request(self, **changes: Any) -> restore.Request:
        values = {"agent": AGENT, "home": str(self.home), "user": agent_user(), **changes}
        return restore.Request(**values)

    def make_target(self) -> None:
        self.parent.mkdir(parents=True)
        if IS_ROOT:
            account = pwd.getpwnam(agent_user())
            os.chown(self.parent, account.pw_uid, account.pw_gid)
        self.parent.chmod(0o700)

    def old_home(self, text: str = "old soul") -> None:
        self.home.mkdir(exist_ok=True)
        (self.home / "SOUL.md").write_text(text)
        (self.home / ".env").write_text("KEY=secret")

    def make_source(self) -> dict[str, Any]:
        home = self.source / "home/hermes/.hermes"
        run = self.source / f"run/lifeboat/{AGENT}"
        home.mkdir(parents=True)
        (run / "scrubbed/profiles/work").mkdir(parents=True)
        (run / "databases/cron").mkdir(parents=True)
        (home / "SOUL.md").write_text("I am acme.\n")
        (home / "memories").mkdir(mode=0o700)
        (home / "memories/USER.md").write_text("likes tea\n")
        (home / "memories/USER.md").chmod(0o600)
        (home / "scripts").mkdir()
        (home / "scripts/run.sh").write_text("#!/bin/sh\n")
        (home / "scripts/run.sh").chmod(0o755)
        (home / "scripts/link").symlink_to("../SOUL.md")
        (home / "scripts/away").symlink_to("/etc/hostname")
        os.link(home / "SOUL.md", home / "scripts/hard")
        os.mkfifo(home / "scripts/pipe")
        odd = os.fsencode(home) + b"/memories/odd\nname-\xff.md"
        Path(os.fsdecode(odd)).write_text("odd\n")
        make_database(home / "state.db", rows=5, leave_wal=True)
        make_database(run / "databases/cron/executions.db", rows=3)
        (run / "scrubbed/config.yaml").write_text(f"model:\n  api_key: {MARKER}\n")
        (run / "scrubbed/profiles/work/config.yaml").write_text(f"api_key: {MARKER}\n")
        manifest = self.make_manifest(home)
        (run / "manifest.json").write_text(json.dumps(manifest))
        for path in sorted(home.rglob("*"), reverse=True):
            os.utime(path, ns=(1_700_000_000_000_000_000,) * 2, follow_symlinks=False)
        os.utime(home, ns=(1_700_000_000_000_000_000,) * 2)
        return manifest

    def make_manifest(self, home: Path) -> dict[str, Any]:
        entries = [_entry(home, path) for path in [home, *sorted(home.rglob("*"))]]
        entries = [
            entry for entry in entries if not entry.get("path", "").endswith(("-wal", "-shm"))
        ]
        for path, stored in (
            ("config.yaml", "scrubbed"),
            ("profiles/work/config.yaml", "scrubbed"),
            ("cron/executions.db", "database"),
        ):
            entries.append(
                {
                    **_owner(),
                    "path": path,
                    "type": "file",
                    "mode": "0600",
                    "mtime_ns": 1_700_000_000_000_000_000,
                    "class": "scrub" if stored == "scrubbed" else "keep",
                    "stored": stored,
                    "sha256": None,
                    "size": 1,
                }
            )
        return {
            "format": 1,
            "archive": f"{AGENT}-2026-11-01T02:00:00Z",
            "created": "2026-11-01T02:00:00Z",
            "agent": {
                **_owner(),
                "name": AGENT,
                "host": "acme-agent",
                "profile": "hermes",
                "version": "0.19.0",
                "home": "/home/hermes/.hermes",
                "home_real": "/home/hermes/.hermes",
            },
            "entries": entries,
            "databases": [
                {"path": "state.db", "method": "pair", "journal_mode": "wal", "quick_check": "ok"},
                {"path": "cron/executions.db", "method": "backup", "quick_check": "ok"},
            ],
            "to_be_supplied": [{"path": "config.yaml", "key": "model.api_key"}],
            "environment": ["TELEGRAM_BOT_TOKEN"],
            "outside": [],
        }

    def stage_by_hand(
        self,
        manifest: dict[str, Any] | None = None,
        only: Sequence[str] = (),
        beside: Path | None = None,
    ) -> None:
        """What an extraction leaves, without borg."""
        home = beside or self.home
        staging = home.parent / self.staging.name
        staging.mkdir(mode=0o700)
        shutil.copytree(self.source, staging / "tree", symlinks=True, copy_function=copy_entry)
        if manifest is not None:
            path = staging / f"tree/run/lifeboat/{AGENT}/manifest.json"
            path.write_text(json.dumps(manifest))
        state = {
            "agent": AGENT,
            "home": str(home),
            "archive": f"{AGENT}-2026-11-01T02:00:00Z",
            "archive_id": "a" * 64,
            "step": "extracted",
            "only": list(only),
        }
        (staging / "state.json").write_text(json.dumps(state))

    def create(self, name: str = f"{AGENT}-2026-11-01T02:00:00Z", **extra: str) -> None:
        self._borg(
            "create",
            "--timestamp",
            name.removeprefix(f"{AGENT}-").removesuffix("Z"),
            f"{self.repository}::{name}",
            "home",
            "run",
            cwd=self.source,
        )
        if IS_ROOT:
            shutil.chown(self.repository, "nobody")
            for path in self.repository.rglob("*"):
                shutil.chown(path, "nobody")

    def initialise(self) -> None:
        self._borg("init", "--encryption", "keyfile-blake2", str(self.repository), cwd=self.root)

    def access(self, **changes: Any) -> EscrowedAccess:
        key = next((self.root / "keys").iterdir()).read_text()
        values = {
            "agent": AGENT,
            "url": str(self.repository),
            "repository_id": key.split()[1],
            "passphrase": PASSPHRASE,
            "key": key,
            "borg": self.borg,
            **changes,
        }
        return EscrowedAccess(**values)

    def _borg(self, *arguments: str, cwd: Path) -> None:
        env = {
            **os.environ,
            "TZ": "UTC",
            "BORG_BASE_DIR": str(self.root / "base"),
            "BORG_KEYS_DIR": str(self.root / "keys"),
            "BORG_PASSPHRASE": PASSPHRASE,
            "BORG_EXIT_CODES": "modern",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }
        said = subprocess.run(
            [self.borg, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False
        )
        assert said.returncode in (0, 100), said.stderr

    def extract(self, **changes: Any) -> dict[str, Any]:
        run_directory = self.root / "run"
        run_directory.mkdir(exist_ok=True)
        run_directory.chmod(0o711)
        return restore.extract(
            changes.pop("request", self.request()),
            changes.pop("access", self.access()),
            changes.pop("archive", f"{AGENT}-2026-11-01T02:00:00Z"),
            changes.pop("archive_id", "a" * 64),
            run_directory=str(run_directory),
            user=extracting_user(),
            **changes,
        )


def make_database(path: Path, rows: int, leave_wal: bool = False) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL" if leave_wal else "PRAGMA journal_mode=DELETE")
    connection.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, body TEXT)")
    if leave_wal:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.executemany(
        "INSERT INTO messages (body) VALUES (?)", [(f"m{n}",) for n in range(rows)]
    )
    if leave_wal:
        # The copies of a live pair: the log is not folded when the connection stays open.
        for ending in ("", "-wal"):
            shutil.copy(f"{path}{ending}", f"{path}{ending}.copy")
        connection.close()
        for ending in ("", "-wal"):
            os.replace(f"{path}{ending}.copy", f"{path}{ending}")
    else:
        connection.close()


def rows_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM messages").fetchone()[0])
    finally:
        connection.close()


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below root that a restore has to bring back or leave alone."""
    found = {}
    for path in [root, *sorted(root.rglob("*"))]:
        status = path.lstat()
        content: Any = None
        if path.is_symlink():
            content = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        name = str(path.relative_to(root))
        found[name] = (stat.filemode(status.st_mode), status.st_uid, content)
    return found


def copy_entry(source: str, destination: str) -> None:
    if stat.S_ISFIFO(os.lstat(source).st_mode):
        os.mkfifo(destination)
    else:
        shutil.copy2(source, destination, follow_symlinks=False)


def _owner() -> dict[str, Any]:
    return {
        "uid": 4242,
        "gid": 4242,
        "user": "hermes",
        "group": "hermes",
    }


def _entry(home: Path, path: Path) -> dict[str, Any]:
    status = path.lstat()
    kinds = {stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo"}
    relative = "" if path == home else os.fsencode(path.relative_to(home))
    entry: dict[str, Any] = {
        **_owner(),
        "type": kinds.get(stat.S_IFMT(status.st_mode), "file"),
        "class": "keep",
        "size": status.st_size,
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "mtime_ns": 1_700_000_000_000_000_000,
        "sha256": None,
        "stored": "home",
    }
    try:
        entry["path"] = relative.decode() if isinstance(relative, bytes) else relative
    except UnicodeDecodeError:
        entry["path_base64"] = base64.b64encode(os.fsencode(path.relative_to(home))).decode()
    return entry


def group_name(gid: int) -> str:
    return grp.getgrgid(gid).gr_name
