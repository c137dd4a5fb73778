# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small home as a restore leaves it, and the manifest that was written when it was archived."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.lifeboat.agents.plugins.module_utils import sqlite
from ansible_collections.lifeboat.agents.plugins.module_utils.health import (
    Health,
    Request,
    Thresholds,
    examine_health,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.health_account import (
    Answer,
    Outcome,
    Tools,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.privilege import Identity
from ansible_collections.lifeboat.agents.plugins.module_utils.profile import load
from ansible_collections.lifeboat.agents.plugins.module_utils.secrets import MARKER

USER = pwd.getpwuid(os.geteuid()).pw_name

PROFILE: dict[str, Any] = load(
    {
        "format": 1,
        "name": "synthetic",
        "checked_versions": ["0.19.0"],
        "rules": [
            {"match": [".env*", "auth.json"], "at": "any", "class": "secret"},
            {"match": ["*.lock", "*.pid"], "at": "any", "class": "runtime"},
            {"match": "gateway_state.json", "class": "runtime"},
            {"match": ["logs/", "cache/"], "class": "drop"},
            {"match": "config.yaml", "class": "scrub"},
            {"match": "SOUL.md", "class": "keep", "hash": True},
            {"match": "memories/", "class": "keep", "hash": True},
            {"match": "platforms/pairing/*-approved.json", "class": "keep", "hash": True},
            {"match": ["sessions/", "skills/", "workspace/"], "class": "keep"},
            {"match": ["state.db", "kanban.db"], "class": "keep"},
        ],
        "nested_homes": ["profiles/*"],
        "version": {"command": ["agent", "--version"]},
        "databases": {
            "newest": [{"path": "state.db", "table": "messages", "column": "created", "unit": "s"}]
        },
        "pairing": {"approved": ["platforms/pairing/*-approved.json"]},
        "health": {
            "environment": {"AGENT_HOME": "{home}"},
            "commands": [
                {
                    "name": "sessions",
                    "argv": ["agent", "sessions", "stats"],
                    "expect_regex": "Sessions: [1-9][0-9]*",
                    "production": True,
                },
                {
                    "name": "chat",
                    "argv": ["agent", "chat", "ping"],
                    "expect_regex": "pong",
                    "model": True,
                },
            ],
            "http": {"name": "status", "url": "http://127.0.0.1:9/api", "expect_regex": "ok"},
            "service": {"unit": "agent.service"},
        },
    }
)


def make_state(path: Path, messages: int = 40, *, newest: int = 1_763_800_000) -> None:
    """A database with full-text search, as an agent has it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA user_version = 22; PRAGMA application_id = 77;"
            "CREATE TABLE sessions (id INTEGER PRIMARY KEY, title TEXT);"
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, content TEXT, created INTEGER);"
            "CREATE INDEX by_time ON messages (created);"
            "CREATE VIRTUAL TABLE messages_fts USING fts5(content, content='messages',"
            " content_rowid='id');"
        )
        connection.execute("INSERT INTO sessions (title) VALUES ('first')")
        for number in range(messages):
            text = f"message {number} " + "lorem ipsum dolor " * 40
            created = newest - (messages - 1 - number)
            connection.execute(
                "INSERT INTO messages (content, created) VALUES (?, ?)", (text, created)
            )
        connection.execute(
            "INSERT INTO messages_fts (rowid, content) SELECT id, content FROM messages"
        )
        connection.commit()


def make_kanban(path: Path) -> None:
    """A database in rollback-journal mode."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE tasks (id INTEGER PRIMARY KEY, title TEXT);"
            "INSERT INTO tasks (title) VALUES ('one'), ('two');"
            "CREATE VIRTUAL TABLE notes USING fts5(body);"
            "INSERT INTO notes VALUES ('alpha'), ('beta'), ('gamma');"
            "CREATE VIRTUAL TABLE letters USING fts4(body);"
            "INSERT INTO letters VALUES ('dear all');"
        )


def describe(path: Path, name: str) -> dict[str, Any]:
    """A database as the manifest has it."""
    newest = sqlite.matching(name, PROFILE["databases"]["newest"], "path")
    with closing(sqlite.connect(str(path), "ro", timeout=1, immutable=True)) as connection:
        facts = sqlite.inspect(connection, sqlite.Questions(newest=newest))
    facts.pop("outside")
    return {"path": name, "journal_mode": "wal", "method": "main", "size": 1, **facts}


def entry(home: Path, path: str, stored: str = "home", digest: bool = False) -> dict[str, Any]:
    """An entry as the manifest has it."""
    place = home / path
    status = place.lstat()
    kind = "symlink" if place.is_symlink() else "directory" if place.is_dir() else "file"
    return {
        "path": path,
        "type": kind,
        "class": "scrub" if stored == "scrubbed" else "keep",
        "size": status.st_size,
        "mode": f"{status.st_mode & 0o7777:04o}",
        "uid": status.st_uid,
        "gid": status.st_gid,
        "user": USER,
        "group": grp.getgrgid(os.getegid()).gr_name,
        "mtime_ns": status.st_mtime_ns,
        "sha256": hashlib.sha256(place.read_bytes()).hexdigest() if digest else None,
        "target": os.readlink(place) if kind == "symlink" else None,
        "stored": stored,
    }


@dataclass
class World:
    """A home, its manifest, and stand-ins for everything outside this process."""

    home: Path
    manifest: dict[str, Any]
    manifest_path: Path
    version: str = "0.19.0"
    answers: dict[str, Outcome] = field(default_factory=dict)
    http: Answer = field(default_factory=lambda: Answer(200, "ok"))
    asked: list[tuple[str, ...]] = field(default_factory=list)
    environments: list[dict[str, str]] = field(default_factory=list)

    def run_command(self, account: Identity, argv: Any, env: Any, timeout: float) -> Outcome:
        self.asked.append((account.name, *argv))
        self.environments.append(dict(env))
        return self.answers.get(" ".join(argv), Outcome(1, "unknown command"))

    def tools(self, **changes: Any) -> Tools:
        return Tools(
            **{
                "run_command": self.run_command,
                "fetch": lambda url, timeout: self.http,
                "version": lambda account, profile, home, timeout: self.version,
                **changes,
            }
        )

    def examine(self, phase: str = "restored", **changes: Any) -> Health:
        self.manifest_path.write_text(json.dumps(self.manifest))
        request: dict[str, Any] = {
            "home": str(self.home),
            "user": USER,
            "profile": PROFILE,
            "phase": phase,
            "manifest": str(self.manifest_path),
            "tools": self.tools(),
            "work_directory": str(self.manifest_path.parent),
            "thresholds": Thresholds(),
            "model": True,
        }
        return examine_health(Request(**{**request, **changes}))

    def snapshot(self) -> dict[str, tuple[int, int, int, bytes]]:
        """Everything in the home, to see that nothing changed."""
        found = {}
        for place in sorted(self.home.rglob("*")):
            status = place.lstat()
            content = place.read_bytes() if place.is_file() and not place.is_symlink() else b""
            found[str(place)] = (status.st_mode, status.st_mtime_ns, status.st_ino, content)
        return found


def build(folder: Path) -> World:
    """The home of an agent that was restored without a flaw."""
    home = folder / "agent" / ".agent"
    for name in (
        "memories",
        "sessions",
        "platforms/pairing",
        "skills/cook",
        "workspace",
        "profiles/b",
    ):
        (home / name).mkdir(parents=True)
    texts = {
        "SOUL.md": "I am the agent.\n" * 20,
        "memories/USER.md": "Likes tea.\n",
        "memories/MEMORY.md": "The key lies under the mat.\n",
        "sessions/0001.json": json.dumps({"messages": ["hello"] * 50}),
        "platforms/pairing/irc-approved.json": json.dumps({"alice": {}, "bob": {}}),
        "skills/cook/SKILL.md": "Boil water.\n",
        "workspace/travel-journal": "Day one.\n",
        "profiles/b/SOUL.md": "I am the other one.\n",
        "config.yaml": f"model:\n  provider: custom\n  api_key: {MARKER}\n",
    }
    for path, text in texts.items():
        (home / path).write_text(text)
        (home / path).chmod(0o600)
    (home / "memories" / "latest").symlink_to("MEMORY.md")
    make_state(home / "state.db")
    make_kanban(home / "kanban.db")
    for database in home.glob("*.db"):
        database.chmod(0o600)
    for place in home.rglob("*"):
        if place.is_dir():
            place.chmod(0o700)
    digests = {"SOUL.md", "profiles/b/SOUL.md", "config.yaml"}
    digests |= {path for path in texts if path.startswith(("memories/", "platforms/"))}
    entries = [{**entry(home, "."), "path": ""}]
    for place in sorted(home.rglob("*")):
        path = str(place.relative_to(home))
        stored = "scrubbed" if path == "config.yaml" else "home"
        stored = "database" if path == "kanban.db" else stored
        entries.append(entry(home, path, stored, path in digests))
    manifest = {
        "format": 1,
        "archive": "acme-2026-11-22T20:00:00Z",
        "created": "2026-11-22T20:00:00Z",
        "agent": {
            "name": "acme",
            "host": "acme-agent",
            "profile": "synthetic",
            "profile_checked_versions": ["0.19.0"],
            "version": "0.19.0",
            "user": USER,
            "group": USER,
            "uid": os.geteuid(),
            "gid": os.getegid(),
            "home": "/home/agent/.agent",
            "home_real": "/home/agent/.agent",
        },
        "entries": entries,
        "databases": [
            describe(home / "state.db", "state.db"),
            describe(home / "kanban.db", "kanban.db"),
        ],
        "to_be_supplied": [{"path": "config.yaml", "key": "model.api_key"}],
        "findings": [],
        "unknown": [],
        "outside": [],
    }
    return World(home, manifest, folder / "manifest.json")
