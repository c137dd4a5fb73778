# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was there last night and is not there, or not whole, tonight."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.home_audit import audit
from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils.engine import (
    Box,
    make_database,
    write,
)


@pytest.mark.parametrize("size", [0, 66])
def test_a_database_that_was_emptied_or_cut_off_fails_until_it_is_back(box: Box, size: int) -> None:
    path = make_database(box.home / "state.db")
    assert box.backup()["result"] == "success"
    whole = path.read_bytes()
    os.truncate(path, size)
    for _night in range(2):
        status = box.backup()
        assert status["result"] == "failed"
        assert (
            f"database state.db is not readable: emptied or cut off, it has {size} bytes"
            in (status["message"])
        )
        assert "earlier archive" in status["hint"]
        assert "state.db" in box.listing(status)
    assert any("state.db" in problem["message"] for problem in audited(box))
    path.write_bytes(whole)
    assert box.backup()["result"] == "success"


def audited(box: Box) -> list[dict[str, object]]:
    problems: list[dict[str, object]] = audit(box.config(), box.profile)["problems"]
    return problems


def test_a_database_that_became_something_else_is_named_whatever_its_name(box: Box) -> None:
    path = make_database(box.home / "sessions" / "memory")
    assert box.backup()["result"] == "success"
    path.write_bytes(b"x" * 777)
    status = box.backup()
    assert status["result"] == "failed"
    assert "database sessions/memory is not readable" in status["message"]


def test_an_empty_file_with_the_name_of_a_database_is_none_yet(box: Box) -> None:
    write(box.home / "state.db", b"")
    write(box.home / "other.db", b"")
    write(box.home / "other.db-wal", b"")
    status = box.backup()
    assert (status["result"], status["problems"]) == ("success", [])
    assert {"state.db", "other.db"} <= box.listing(status)
    assert box.backup()["result"] == "success"


def test_a_database_that_was_always_cut_off_is_named(box: Box) -> None:
    write(box.home / "state.db", b"SQLite format 3\0")
    status = box.backup()
    assert status["result"] == "failed"
    assert "database state.db is not readable: emptied or cut off, it has 16" in status["message"]


def test_an_empty_database_beside_its_log_was_emptied(box: Box) -> None:
    path = make_database(box.home / "state.db")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO messages (body) VALUES ('x')")
        connection.commit()
        os.truncate(path, 0)
        status = box.backup()
    assert status["result"] == "failed"
    assert "database state.db is not readable: emptied" in status["message"]
    assert {"state.db", "state.db-wal"} <= box.listing(status)


def test_a_database_that_is_gone_is_told_once(box: Box) -> None:
    write(box.home / "SOUL.md")
    path = make_database(box.home / "state.db")
    sqlite3.connect(box.home / "other.db").close()
    assert box.backup()["result"] == "success"
    path.unlink()
    (box.home / "other.db").unlink()
    assert any("database state.db is gone" in str(problem["message"]) for problem in audited(box))
    status = box.backup()
    assert status["result"] == "warning"
    assert [problem["message"] for problem in status["problems"]] == [
        "database state.db is gone: the last good backup held it"
    ]
    assert "restore it from an earlier archive" in status["hint"]
    assert box.backup()["result"] == "success"


def test_a_failed_run_between_does_not_forget_what_there_was(box: Box) -> None:
    path = make_database(box.home / "state.db")
    assert box.backup()["result"] == "success"
    path.unlink()
    write(box.home / "config.yaml", "{ broken")
    assert box.backup()["result"] == "failed"
    (box.home / "config.yaml").write_text("a: 1\n", encoding="ascii")
    status = box.backup()
    assert status["result"] == "warning"
    assert "database state.db is gone" in status["message"]


def test_a_home_that_was_emptied_fails(box: Box) -> None:
    assert box.backup()["result"] == "success"
    write(box.home / "SOUL.md")
    make_database(box.home / "state.db")
    assert box.backup()["result"] == "success"
    shutil.rmtree(box.home)
    box.home.mkdir()
    for _night in range(2):
        status = box.backup()
        assert status["result"] == "failed"
        assert status["message"] == "the home is empty: the last good backup held 2 entries of it"
        assert "earlier archive" in status["hint"]
