# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of ways to spoil a restored home: each is found, named, and takes the level down."""

from __future__ import annotations

import copy
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.evidence_facts import gather
from ansible_collections.lifeboat.agents.plugins.module_utils.evidence_record import compose
from ansible_collections.lifeboat.agents.plugins.module_utils.health import Health

from .test_facts import RAW
from .world import World, build, describe, make_kanban, make_state


@pytest.fixture
def world(tmp_path: Path) -> World:
    return build(tmp_path)


def failed(world: World, **changes: Any) -> dict[str, tuple[str, ...]]:
    checks = world.examine(**changes).checks
    return {check.name: check.offenders for check in checks if check.status == "failed"}


def verdict(health: Health) -> tuple[str, int]:
    """How a drill ends that is without a flaw but for this."""
    raw = copy.deepcopy(RAW)
    raw["agent"]["rpo_target"] = ""  # the data of these homes is of another year
    raw["health"][0] = health.as_dict()
    record = compose(gather(raw))
    return record["verdict"]["result"], record["verdict"]["exit_code"]


def test_a_good_restore_is_proven(world: World) -> None:
    before = world.snapshot()
    health = world.examine()
    assert [check for check in health.checks if check.status != "passed"] == []
    assert health.healthy
    assert verdict(health) == ("proven", 0)
    assert not any("ss as archived" in check.expected for check in health.checks)
    assert health.level == 5  # the version of the agent is asked here as well
    assert health.newest == {
        "time": "2025-11-22T08:26:40Z",
        "source": "state.db messages.created",
    }
    assert world.snapshot() == before
    assert not list(world.manifest_path.parent.glob("lifeboat-health-*"))


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for side in ("-wal", "-shm"):
        Path(f"{path}{side}").unlink(missing_ok=True)


def fresh(make: Callable[[Path], None], path: Path, *statements: str) -> None:
    """Another database in the place of this one."""
    mode = path.stat().st_mode
    path.unlink()
    make(path)
    execute(path, *statements)
    path.chmod(mode)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)


def add(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)


def write(path: Path, text: str) -> None:
    path.write_text(text)


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir(0o600)


def lead_to(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def hold_open_wal(home: Path) -> None:
    """A log of another database beside the restored one."""
    other = home.parent / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    shutil.copy(f"{other}-wal", home / "state.db-wal")
    connection.close()


def lose_wal(path: Path) -> None:
    """The newest rows were in the log alone, and the log is gone."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        newest = connection.execute("SELECT * FROM messages WHERE id > 30").fetchall()
        connection.execute("DELETE FROM messages WHERE id > 30")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.executemany("INSERT INTO messages VALUES (?, ?, ?)", newest)
        connection.commit()
        alone = path.read_bytes()
        assert Path(f"{path}-wal").stat().st_size > 0
    path.write_bytes(alone)
    for side in ("-wal", "-shm"):
        Path(f"{path}{side}").unlink(missing_ok=True)


# What is done to the home, the check that names it, what it names, the level that is left.
SPOILED: dict[str, tuple[Callable[[Path], object], str, str, int]] = {
    "state.db truncated": (
        lambda home: os.truncate(home / "state.db", 4096),
        *("database_opens", "state.db", 3),
    ),
    "state.db emptied": (
        lambda home: os.truncate(home / "state.db", 0),
        *("database_opens", "state.db", 3),
    ),
    "state.db zeroed": (
        lambda home: overwrite(home / "state.db", 0, bytes((home / "state.db").stat().st_size)),
        *("database_opens", "state.db", 3),
    ),
    "state.db full of garbage": (
        lambda home: overwrite(home / "state.db", 0, b"\xa7" * 4096 * 8),
        *("database_opens", "state.db", 3),
    ),
    "one page of state.db corrupted": (
        lambda home: overwrite(home / "state.db", 4096 * 9, b"\xff" * 4096),
        *("database_integrity", "state.db", 3),
    ),
    "state.db of a format that may only be read": (
        lambda home: overwrite(home / "state.db", 18, b"\x03"),  # the header's write version
        *("database_write", "state.db: attempt to write a readonly database", 3),
    ),
    "state.db gone": (lambda home: (home / "state.db").unlink(), "entries_present", "state.db", 0),
    "state.db swapped for a fresh one": (
        lambda home: fresh(
            make_state,
            home / "state.db",
            *("DELETE FROM messages", "DELETE FROM sessions"),
            "INSERT INTO messages_fts (messages_fts) VALUES ('rebuild')",
        ),
        *("database_rows", "state.db: messages has 0 rows, expected 40", 3),
    ),
    "state.db swapped for last month's": (
        lambda home: fresh(
            lambda path: make_state(path, 30, newest=1_761_000_000), home / "state.db"
        ),
        *("database_newest", "state.db: 2025-10-20T22:40:00Z, expected 2025-11-22", 3),
    ),
    "state.db of the same size in rows but older": (
        lambda home: fresh(
            lambda path: make_state(path, 40, newest=1_761_000_000), home / "state.db"
        ),
        *("database_newest", "state.db", 3),
    ),
    "state.db swapped for another database": (
        lambda home: fresh(make_kanban, home / "state.db"),
        *("database_schema", "state.db: schema", 3),
    ),
    "the WAL of state.db lost": (
        lambda home: lose_wal(home / "state.db"),
        *("database_rows", "state.db: messages has 30 rows, expected 40", 3),
    ),
    "kanban.db truncated": (
        lambda home: os.truncate(home / "kanban.db", 4096),
        *("database_opens", "kanban.db", 3),
    ),
    "kanban.db zeroed": (
        lambda home: overwrite(home / "kanban.db", 0, bytes((home / "kanban.db").stat().st_size)),
        *("database_opens", "kanban.db", 3),
    ),
    "a page of kanban.db corrupted": (
        lambda home: overwrite(home / "kanban.db", 4096, b"\xff" * 4096),
        *("database_integrity", "kanban.db", 3),
    ),
    "kanban.db swapped for a fresh one": (
        lambda home: fresh(make_kanban, home / "kanban.db", "DELETE FROM tasks"),
        *("database_rows", "kanban.db: tasks has 0 rows, expected 2", 3),
    ),
    "kanban.db swapped for last month's": (
        lambda home: fresh(make_kanban, home / "kanban.db", "DELETE FROM tasks WHERE id > 1"),
        *("database_rows", "kanban.db: tasks has 1 row, expected 2", 3),
    ),
    "a table dropped": (
        lambda home: execute(home / "state.db", "DROP TABLE sessions"),
        *("database_rows", "state.db: table sessions is gone, expected 1 row", 3),
    ),
    "one row lost": (
        lambda home: execute(home / "kanban.db", "DELETE FROM tasks WHERE id = 2"),
        *("database_rows", "kanban.db: tasks has 1 row, expected 2", 3),
    ),
    "one row too many": (
        lambda home: execute(home / "kanban.db", "INSERT INTO tasks (title) VALUES ('three')"),
        *("database_rows", "kanban.db: tasks has 3 rows, expected 2", 3),
    ),
    "an index gone": (
        lambda home: execute(home / "state.db", "DROP INDEX by_time"),
        *("database_schema", "state.db", 3),
    ),
    "user_version lost, as a dump loses it": (
        lambda home: execute(home / "state.db", "PRAGMA user_version = 0"),
        *("database_version", "state.db: user_version 0, expected 22", 3),
    ),
    "application_id lost": (
        lambda home: execute(home / "state.db", "PRAGMA application_id = 0"),
        *("database_version", "state.db: application_id 0, expected 77", 3),
    ),
    "schema ahead of the archived one": (
        lambda home: execute(home / "state.db", "PRAGMA user_version = 23"),
        *("database_version", "state.db: user_version 23, expected 22", 3),
    ),
    "full-text index damaged": (
        lambda home: execute(home / "state.db", "DELETE FROM messages_fts_data WHERE id > 10"),
        *("database_full_text", "state.db: messages_fts", 3),
    ),
    "full-text index emptied": (
        lambda home: execute(
            home / "state.db", "INSERT INTO messages_fts (messages_fts) VALUES ('delete-all')"
        ),
        *("database_full_text", "state.db: messages_fts has an index of 3 rows, expected 4", 3),
    ),
    "full-text index emptied, its list of documents kept": (
        lambda home: execute(
            home / "state.db",
            *("CREATE TEMP TABLE kept AS SELECT * FROM messages_fts_docsize",),
            "INSERT INTO messages_fts (messages_fts) VALUES ('delete-all')",
            "INSERT INTO messages_fts_docsize SELECT * FROM kept",
        ),
        *("database_full_text", "state.db: messages_fts has an index of", 3),
    ),
    "a full-text table emptied that holds the only copy": (
        lambda home: execute(home / "kanban.db", "DELETE FROM notes"),
        *("database_rows", "kanban.db: notes_content has 0 rows, expected 3", 3),
    ),
    "a row lost of an FTS4 table that holds the only copy": (
        lambda home: execute(home / "kanban.db", "DELETE FROM letters"),
        *("database_rows", "kanban.db: letters_content has 0 rows, expected 1", 3),
    ),
    "SOUL.md missing": (lambda home: (home / "SOUL.md").unlink(), "entries_present", "SOUL.md", 0),
    "SOUL.md emptied": (lambda home: write(home / "SOUL.md", ""), "content", "SOUL.md: empty", 0),
    "SOUL.md altered, same size": (
        lambda home: overwrite(home / "SOUL.md", 0, b"i"),
        *("content", "SOUL.md: altered", 3),
    ),
    "SOUL.md replaced by a folder": (
        lambda home: become_folder(home / "SOUL.md"),
        *("entries_type", "SOUL.md: directory, expected file", 0),
    ),
    "SOUL.md of another profile altered": (
        lambda home: overwrite(home / "profiles/b/SOUL.md", 0, b"i"),
        *("content", "profiles/b/SOUL.md: altered", 3),
    ),
    "all memories gone": (
        lambda home: shutil.rmtree(home / "memories"),
        *("entries_present", "memories", 0),
    ),
    "one memory gone": (
        lambda home: (home / "memories/USER.md").unlink(),
        *("entries_present", "memories/USER.md", 0),
    ),
    "a link led elsewhere": (
        lambda home: lead_to(home / "memories/latest", "/etc/passwd"),
        *("links", "memories/latest: leads to /etc/passwd, expected MEMORY.md", 3),
    ),
    "a session cut short": (
        lambda home: os.truncate(home / "sessions/0001.json", 10),
        *("entries_size", "sessions/0001.json: 10 bytes", 0),
    ),
    "a pairing gone": (
        lambda home: (home / "platforms/pairing/irc-approved.json").unlink(),
        *("pairings", "platforms/pairing/irc-approved.json: missing", 0),
    ),
    "a pairing emptied": (
        lambda home: write(home / "platforms/pairing/irc-approved.json", ""),
        *("pairings", "platforms/pairing/irc-approved.json: empty", 0),
    ),
    "a pairing that cannot be read": (
        lambda home: write(home / "platforms/pairing/irc-approved.json", "{"),
        *("pairings", "platforms/pairing/irc-approved.json: cannot be read as JSON", 0),
    ),
    "mode wrong": (
        lambda home: (home / "sessions/0001.json").chmod(0o644),
        *("entries_mode", "sessions/0001.json: 0644, expected 0600", 3),
    ),
    "mode of the home wrong": (
        lambda home: home.chmod(0o777),
        *("entries_mode", ".: 0777", 3),
    ),
    "owner wrong": (
        lambda home: os.chown(home / "SOUL.md", 12345, 12345),
        *("entries_owner", "SOUL.md: 12345:12345", 3),
    ),
    "owner of the home wrong": (
        lambda home: os.chown(home, 12345, 12345),
        *("entries_owner", ".: 12345:12345", 3),
    ),
    "a canary .env": (
        lambda home: add(home / ".env", "API_KEY=canary-0123456789"),
        *("secret_files", ".env", 3),
    ),
    "a canary .env of another profile": (
        lambda home: add(home / "profiles/b/.env", "API_KEY=canary-0123456789"),
        *("secret_files", "profiles/b/.env", 3),
    ),
    "an auth.json": (lambda home: add(home / "auth.json", "{}"), "secret_files", "auth.json", 3),
    "a key in a file that is no secret file": (
        lambda home: write(home / "sessions/0001.json", "sk-" + "a1B2" * 10),
        *("secret_content", "sessions/0001.json:1: sk-key", 0),
    ),
    "a secret put back into a scrubbed file": (
        lambda home: write(
            home / "config.yaml", "model:\n  provider: custom\n  api_key: hunter2222\n"
        ),
        *("scrubbed", "config.yaml: model.api_key holds a value", 0),
    ),
    "the marker gone": (
        lambda home: write(home / "config.yaml", "model:\n  provider: custom\n"),
        *("scrubbed", "config.yaml: no __LIFEBOAT", 0),
    ),
    "a stale lock": (lambda home: add(home / "gateway.lock"), "runtime_files", "gateway.lock", 3),
    "a stale pid": (lambda home: add(home / "gateway.pid", "1"), "runtime_files", "gateway.pid", 3),
    "a state that says running": (
        lambda home: add(home / "gateway_state.json", "{}"),
        *("runtime_files", "gateway_state.json", 3),
    ),
    "a stray log": (hold_open_wal, "stray_journals", "state.db-wal", 3),
    "a stray journal": (
        lambda home: add(home / "kanban.db-journal", "x"),
        *("stray_journals", "kanban.db-journal", 3),
    ),
    "a file of another origin": (
        lambda home: add(home / "workspace/planted.py", "x"),
        *("unknown_files", "workspace/planted.py", 3),
    ),
    "a folder of another origin": (
        lambda home: add(home / "newthing/deep/file", "x"),
        *("unknown_files", "newthing", 3),
    ),
    "a database of another origin": (
        lambda home: make_kanban(home / "extra.db"),
        *("unknown_files", "extra.db", 3),
    ),
    "the whole home gone": (shutil.rmtree, "home", "", 0),
}


@pytest.mark.parametrize("name", SPOILED)
def test_spoiled(world: World, name: str) -> None:
    spoil, check, offender, level = SPOILED[name]
    if "owner" in name and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    spoil(world.home)
    health = world.examine()
    found = {item.name: item for item in health.checks if item.status == "failed"}
    assert check in found, health.summary
    assert not health.healthy
    assert health.level == level
    assert any(offender in item for item in found[check].offenders) or not offender
    assert found[check].hint
    assert found[check].expected
    assert verdict(health) == ("not_proven", 1)


def test_there_are_enough_ways() -> None:
    assert len(SPOILED) >= 25


INDEXED = "CREATE TABLE pages (id INTEGER PRIMARY KEY, body TEXT)"
HONEST: dict[str, tuple[str, ...]] = {
    "an index that leaves out rows on purpose": (
        *("CREATE VIRTUAL TABLE found USING fts5(body, content='pages', content_rowid='id')",),
        "INSERT INTO found (rowid, body) SELECT id, body FROM pages WHERE id = 1",
    ),
    "an FTS4 index that leaves out rows on purpose": (
        "CREATE VIRTUAL TABLE found USING fts4(content='pages', body)",
        "INSERT INTO found (docid, body) SELECT id, body FROM pages WHERE id = 1",
    ),
    "an index of a table that is gone": (
        *("CREATE VIRTUAL TABLE found USING fts5(body, content='gone')",),
        "INSERT INTO found (rowid, body) VALUES (1, 'one')",
    ),
    "an index of more than its content column": (
        *("CREATE VIRTUAL TABLE found USING fts5(body, content='pages', content_rowid='id')",),
        "INSERT INTO found (rowid, body) SELECT id, body || ' and tools' FROM pages",
    ),
    "an FTS4 index without its text": (
        "CREATE VIRTUAL TABLE found USING fts4(content='', body)",
        "INSERT INTO found (docid, body) VALUES (1, 'one')",
    ),
}
IN_STEP: dict[str, tuple[str, ...]] = {
    "an index of a view": (
        "CREATE VIEW short AS SELECT id, body FROM pages WHERE id = 1",
        *("CREATE VIRTUAL TABLE found USING fts5(body, content='short', content_rowid='id')",),
        "INSERT INTO found (rowid, body) SELECT id, body FROM short",
    ),
    "an index without its text": (
        "CREATE VIRTUAL TABLE found USING fts5(body, content='')",
        "INSERT INTO found (rowid, body) VALUES (1, 'one')",
    ),
    "an index without sizes": (
        "CREATE VIRTUAL TABLE found USING fts5(body, content='pages', content_rowid='id',"
        " columnsize=0)",
        "INSERT INTO found (rowid, body) SELECT id, body FROM pages",
    ),
    "a table of its own text": (
        "CREATE VIRTUAL TABLE found USING fts5(body, kind UNINDEXED, tokenize='trigram')",
        "INSERT INTO found SELECT body, 'page' FROM pages WHERE id = 1",
    ),
}


@pytest.mark.parametrize("known", [True, False], ids=["counted", "before it was counted"])
@pytest.mark.parametrize("name", [*HONEST, *IN_STEP])
def test_an_index_as_the_agent_made_it_is_no_alarm(world: World, name: str, known: bool) -> None:
    path = world.home / "kanban.db"
    pages = "INSERT INTO pages (body) VALUES ('one'), ('two')"
    execute(path, INDEXED, pages, *(HONEST.get(name) or IN_STEP[name]))
    world.manifest["databases"][1] = describe(path, "kanban.db")
    if not known:
        forget_full_text(world)
    health = world.examine()
    assert health.healthy, health.summary
    assert verdict(health) == ("proven", 0)
    [check] = [check for check in health.checks if check.name == "database_full_text"]
    assert ("kanban.db: found: " in check.tolerance) == (name in HONEST)


def forget_full_text(world: World) -> None:
    """The manifest as versions wrote it that did not look at full-text tables."""
    for database in world.manifest["databases"]:
        del database["full_text"]
        for name in ("notes_content", "letters_content", "found_content"):
            database["tables"].pop(name, None)


def test_a_manifest_that_does_not_count_full_text_is_taken_as_it_is(world: World) -> None:
    forget_full_text(world)
    assert world.examine().healthy
    execute(
        world.home / "state.db", "INSERT INTO messages_fts (messages_fts) VALUES ('delete-all')"
    )
    [check] = [c for c in world.examine().checks if c.name == "database_full_text"]
    assert "state.db: messages_fts: " in check.tolerance, "named, where it cannot be judged"


@pytest.mark.parametrize("stranger", ["x", 5, ["messages_fts"], {"messages_fts": "many"}, None])
def test_a_count_that_is_none_is_no_crash(world: World, stranger: Any) -> None:
    world.manifest["databases"][0]["full_text"] = stranger
    assert world.examine().healthy


def test_the_original_is_not_touched_by_a_damaged_database(world: World) -> None:
    overwrite(world.home / "state.db", 4096 * 9, b"\xff" * 4096)
    before = world.snapshot()
    world.examine()
    assert world.snapshot() == before


# What is done to the manifest, and the check that names it.
SPOILED_MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another format": (lambda manifest: manifest.update(format=2), "manifest"),
    "no entries": (lambda manifest: manifest.update(entries=[]), "entries_present"),
    "a path that climbs": (
        lambda manifest: manifest["entries"][1].update(path="../x"),
        "manifest",
    ),
    "no agent": (lambda manifest: manifest.pop("agent"), "manifest"),
    "rows that were never there": (
        lambda manifest: manifest["databases"][0]["tables"].update(messages=41),
        "database_rows",
    ),
    "a database that was damaged already": (
        lambda manifest: manifest["databases"].append({"path": "SOUL.md", "quick_check": "bad"}),
        "database_opens",
    ),
}


@pytest.mark.parametrize("name", SPOILED_MANIFESTS)
def test_spoiled_manifest(world: World, name: str) -> None:
    spoil, check = SPOILED_MANIFESTS[name]
    spoil(world.manifest)
    assert check in failed(world)
    assert verdict(world.examine()) == ("not_proven", 1)


def test_manifest_missing(world: World) -> None:
    health = world.examine(manifest=str(world.home / "nowhere.json"))
    assert [check.name for check in health.checks if check.status == "failed"] == ["manifest"]
    assert health.level == 0


def test_older_agent_than_the_archive(world: World) -> None:
    world.version = "0.18.3"
    health = world.examine()
    bad = [check for check in health.checks if check.status == "failed"]
    assert [check.name for check in bad] == ["agent_version"]
    assert "schema ahead of the installed agent" in bad[0].found
    assert verdict(health) == ("not_proven", 1)
    assert health.level == 4


def test_no_agent_installed_is_not_tested_and_no_proof(world: World) -> None:
    world.version = ""
    health = world.examine()
    assert health.healthy
    assert health.level == 4
    assert [check.name for check in health.checks if check.status == "skipped"] == ["agent_version"]


def test_a_file_without_a_digest_may_have_grown(world: World) -> None:
    path = world.home / "sessions/0001.json"
    path.write_text(path.read_text() + " " * 100)
    checks = {check.name: check for check in world.examine().checks}
    assert checks["entries_size"].status == "passed"
    assert checks["entries_size"].found.endswith("1 of them grew")


def test_known_and_accepted_findings_pass(world: World) -> None:
    write(world.home / "skills/cook/SKILL.md", "sk-" + "a1B2" * 10)
    world.manifest["entries"] = [
        {**item, "size": 43} if item["path"] == "skills/cook/SKILL.md" else item
        for item in world.manifest["entries"]
    ]
    assert "secret_content" in failed(world)
    accepted = [{"path": "skills/*", "rule": "sk-key"}]
    assert failed(world, accepted_findings=accepted) == {}
    world.manifest["findings"] = [{"path": "skills/cook/SKILL.md", "rule": "sk-key", "line": 1}]
    assert failed(world) == {}


def test_what_is_too_large_to_be_scanned_is_named(world: World) -> None:
    def secrets() -> Any:
        [check] = [c for c in world.examine().checks if c.name == "secret_content"]
        return check

    assert secrets().tolerance == "none"
    (world.home / "workspace" / "photo").write_bytes(b"\0" * (2 << 20))
    for number in range(6):
        write(world.home / f"workspace/{number}.txt", "x " * (1 << 19))
    assert secrets().tolerance == "none", "no text, and text of just the limit, which is scanned"
    write(world.home / "sessions/0001.json", "sk-" + "a1B2" * 10 + " " * (1 << 20))
    assert secrets().tolerance == (
        "1 text above the limit of 1,048,576 bytes not scanned: sessions/0001.json"
    )
    for number in range(6):
        write(world.home / f"workspace/{number}.txt", "x " * (1 << 19) + ".")
    check = secrets()
    assert check.tolerance.startswith("7 texts above the limit")
    assert check.tolerance.endswith("0.txt, workspace/1.txt, workspace/2.txt, workspace/3.txt, ...")


def test_a_database_that_hangs_or_crashes_its_reader_is_found(world: World) -> None:
    from ansible_collections.lifeboat.agents.plugins.module_utils.health_account import WorkFailed

    def broken(account: Any, work: Any, timeout: float) -> dict[str, Any]:
        raise WorkFailed("no answer within 1 s")

    tools = world.tools(isolated=broken)
    assert "no answer within 1 s" in failed(world, tools=tools)["database_opens"][0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_databases_are_opened_as_the_agents_user(world: World) -> None:
    from ansible_collections.lifeboat.agents.plugins.module_utils.health_account import (
        isolated,
    )

    seen: list[Any] = []

    def watched(account: Any, work: Any, timeout: float) -> dict[str, Any]:
        seen.append(isolated(account, lambda: {"uid": os.getuid(), "groups": os.getgroups()}, 5))
        return isolated(account, work, timeout)

    for place in [world.home, *world.home.rglob("*")]:
        os.chown(place, 65534, 65534, follow_symlinks=False)
    for item in world.manifest["entries"]:
        item.update(uid=65534, gid=65534)
    world.manifest["agent"].update(uid=65534, gid=65534)
    os.chmod(world.manifest_path.parent, 0o755)
    tools = world.tools(isolated=watched)
    health = world.examine(user="nobody", tools=tools, work_directory="/var/tmp")
    assert health.healthy, health.summary
    assert [item["uid"] for item in seen] == [65534, 65534]
    assert all(0 not in item["groups"] for item in seen)


def test_what_was_written_to_while_archived_is_named_and_not_compared(world: World) -> None:
    (world.home / "SOUL.md").write_text("longer than it was, by a message")
    assert set(failed(world)) == {"content", "entries_size"}
    health = world.examine(rewritten=frozenset({"SOUL.md"}))
    assert health.healthy
    [content] = [check for check in health.checks if check.name == "content"]
    assert content.tolerance.endswith("SOUL.md")
    (world.home / "memories" / "USER.md").write_text("")
    assert "content" in failed(world, rewritten=frozenset({"SOUL.md"})), "the others still count"
