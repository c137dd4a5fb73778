# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import sqlite
from ansible_collections.lifeboat.agents.plugins.module_utils.sqlite import Questions
from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils.engine import make_database


@pytest.mark.parametrize(("journal", "mode"), [("wal", "wal"), ("delete", "rollback")])
def test_the_header_tells_the_journal_mode(tmp_path: Path, journal: str, mode: str) -> None:
    path = make_database(tmp_path / "a", journal=journal)
    header = sqlite.parse_header(path.read_bytes()[:100])
    assert header is not None
    assert (header.journal_mode, header.page_size) == (mode, 4096)


@pytest.mark.parametrize(
    "data", [b"", b"SQLite format 3", b"x" * 100, b"SQLite format 2\0" + b"\0" * 90]
)
def test_what_is_no_database(data: bytes) -> None:
    assert sqlite.parse_header(data) is None


def test_inspect(tmp_path: Path) -> None:
    connection = sqlite.connect(str(make_database(tmp_path / "a b?#%.db")), "ro", timeout=1)
    report = sqlite.inspect(
        connection,
        Questions(
            ({"path": "*", "table": "messages", "column": "at", "unit": "s"},),
            ({"database": "state.db", "table": "sessions", "column": "cwd"},),
        ),
    )
    assert report["quick_check"] == "ok"
    assert (report["user_version"], report["application_id"]) == (22, 7)
    assert report["tables"] == {"messages": 50, "messages_fts_content": 0, "sessions": 1}
    assert report["newest"] == {
        "table": "messages",
        "column": "at",
        "time": "2023-11-14T22:14:09Z",
    }
    assert report["outside"] == [["/srv/project", "state.db:sessions.cwd"]]
    assert len(report["schema_sha256"]) == 64


def test_the_schema_hash_changes_with_the_schema_only(tmp_path: Path) -> None:
    path = make_database(tmp_path / "a.db")

    def current() -> str:
        connection = sqlite.connect(str(path), "ro", timeout=1)
        try:
            return str(sqlite.inspect(connection, Questions())["schema_sha256"])
        finally:
            connection.close()

    first = current()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO messages (body) VALUES ('x')")
    connection.close()
    assert current() == first
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE more (a)")
    connection.close()
    assert current() != first


def test_a_full_text_table_counts_by_the_text_that_it_alone_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.executescript(
        """CREATE TABLE pages (id INTEGER PRIMARY KEY, body TEXT);
        INSERT INTO pages (body) VALUES ('one'), ('two');
        CREATE VIRTUAL TABLE notes USING fts5(body); INSERT INTO notes VALUES ('a'), ('b');
        CREATE TABLE notes_tags (tag TEXT); INSERT INTO notes_tags VALUES ('t');
        CREATE VIRTUAL TABLE "odd name" USING FTS4 (body); INSERT INTO "odd name" VALUES ('a');
        CREATE VIRTUAL TABLE found USING fts5(body, content='pages', content_rowid='id');
        INSERT INTO found (found) VALUES ('rebuild');
        CREATE VIRTUAL TABLE boxes USING rtree(id, low, high); INSERT INTO boxes VALUES (1, 2, 3);
        """
    )
    connection.close()
    connection = sqlite.connect(str(path), "ro", timeout=1)
    report = sqlite.inspect(connection, Questions())
    assert report["tables"] == {
        "pages": 2,
        "notes_content": 2,
        "notes_tags": 1,
        "odd name_content": 1,
    }
    indexes = report["full_text"]
    assert set(indexes) == {"found", "notes", "odd name"}
    connection.close()
    with sqlite3.connect(path) as writing:
        writing.execute("INSERT INTO found (found) VALUES ('delete-all')")
    writing.close()
    connection = sqlite.connect(str(path), "ro", timeout=1)
    emptied = sqlite.inspect(connection, Questions())["full_text"]
    assert emptied["found"] < indexes["found"]
    assert emptied["notes"] == indexes["notes"]


def test_questions_about_what_is_not_there_are_no_error(tmp_path: Path) -> None:
    connection = sqlite.connect(str(make_database(tmp_path / "a.db")), "ro", timeout=1)
    rule = {"path": "*", "database": "x", "table": "no", "column": "no"}
    report = sqlite.inspect(connection, Questions((rule,), (rule,)))
    assert report["newest"] is None
    assert report["outside"] == []


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1_700_000_000, "s", "2023-11-14T22:13:20"),
        (1_700_000_000_000, "ms", "2023-11-14T22:13:20"),
        ("2023-11-14T23:13:20+01:00", "iso", "2023-11-14T22:13:20"),
        ("2023-11-14 22:13:20", "iso", "2023-11-14T22:13:20"),
        ("2023-11-14T22:13:20Z", "iso", "2023-11-14T22:13:20"),
        ("yesterday", "iso", None),
        (None, "s", None),
        (1e300, "s", None),
        ("x", "s", None),
    ],
)
def test_times(value: object, unit: str, expected: str | None) -> None:
    moment = sqlite.to_time(value, unit)
    assert (moment.isoformat()[:19] if moment else None) == expected


def test_a_damaged_database_is_reported_and_does_not_raise(tmp_path: Path) -> None:
    path = make_database(tmp_path / "a.db", rows=2000)
    data = bytearray(path.read_bytes())
    for page in range(3, len(data) // 4096):
        data[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(data)
    report = sqlite.inspect(sqlite.connect(str(path), "ro", timeout=1), Questions())
    assert report["quick_check"] != "ok"


@pytest.mark.parametrize(
    ("path", "matches"), [("state.db", True), ("profiles/a/state.db", True), ("xstate.db", False)]
)
def test_rules_speak_of_nested_homes_too(path: str, matches: bool) -> None:
    assert bool(sqlite.matching(path, [{"path": "state.db"}], "path")) is matches
