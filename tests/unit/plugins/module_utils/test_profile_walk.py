# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.classify import Classifier
from ansible_collections.lifeboat.agents.plugins.module_utils.errors import CouldNotRun
from ansible_collections.lifeboat.agents.plugins.module_utils.profile import load
from ansible_collections.lifeboat.agents.plugins.module_utils.survey import Survey
from ansible_collections.lifeboat.agents.plugins.module_utils.walk import (
    Entry,
    Walk,
    open_below,
    open_file,
    open_home,
)
from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils.engine import (
    SMALL_PROFILE,
    make_database,
    write,
)


def surveyed(home: Path, *, measure: bool = False) -> Survey:
    survey = Survey(Classifier(load(SMALL_PROFILE)), measure=measure)
    _real, descriptor = open_home(str(home), os.geteuid())
    try:
        survey.run(descriptor)
    finally:
        os.close(descriptor)
    return survey


def archived(survey: Survey) -> list[str]:
    return [entry.path for entry in survey.archived]


def test_folders_come_before_their_content_and_only_where_needed(tmp_path: Path) -> None:
    for path in ("cache/images/a/1.png", "cache/junk/x", "logs/l", "sessions/d/s.json", "odd/new"):
        write(tmp_path / path)
    found = archived(surveyed(tmp_path))
    assert found == [
        "",
        "cache",
        "cache/images",
        "cache/images/a",
        "cache/images/a/1.png",
        "odd",
        "odd/new",
        "sessions",
        "sessions/d",
        "sessions/d/s.json",
    ]


def test_a_dropped_tree_is_entered_only_to_measure_it(tmp_path: Path) -> None:
    write(tmp_path / "logs" / "a" / "b", "12345")
    assert surveyed(tmp_path).bytes["drop"] == 0
    assert surveyed(tmp_path, measure=True).bytes["drop"] == 5


def test_every_kind_of_entry(tmp_path: Path) -> None:
    sessions = tmp_path / "sessions"
    write(sessions / "file")
    os.mkfifo(sessions / "fifo")
    (sessions / "link").symlink_to("/etc/shadow")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(sessions / "socket"))
    write(tmp_path / "sessions" / "line\nbreak")
    (Path(os.fsdecode(os.fsencode(sessions) + b"/\xff\xfe"))).write_bytes(b"x")
    survey = surveyed(tmp_path)
    server.close()
    kinds = {entry.path: entry.type for entry in survey.archived}
    assert kinds["sessions/fifo"] == "fifo"
    assert kinds["sessions/socket"] == "socket"
    assert kinds["sessions/link"] == "symlink"
    assert kinds["sessions/line\nbreak"] == "file"
    assert kinds["sessions/\udcff\udcfe"] == "file"
    target = next(entry.target for entry in survey.archived if entry.path == "sessions/link")
    assert target == "/etc/shadow"


def test_unknown_entries_have_one_topmost_root(tmp_path: Path) -> None:
    write(tmp_path / "new" / "a" / "1")
    write(tmp_path / "new" / "b")
    write(tmp_path / "profiles" / "p" / "odd")
    survey = surveyed(tmp_path)
    assert survey.unknown_roots() == {"new", "profiles/p/odd"}


def test_databases_are_found_by_content(tmp_path: Path) -> None:
    make_database(tmp_path / "sessions" / "no-suffix")
    make_database(tmp_path / "state.db", journal="delete")
    write(tmp_path / "other.db", b"not a database, but named like one" + b"\0" * 478)
    write(tmp_path / "sessions" / "text", "SQLite format 3 is what this text is about")
    survey = surveyed(tmp_path)
    modes = {database.path: database.header.journal_mode for database in survey.databases}
    assert modes == {"sessions/no-suffix": "wal", "state.db": "rollback"}
    assert [entry.path for entry in survey.not_sqlite] == ["other.db"]


def test_side_files_go_with_their_database(tmp_path: Path) -> None:
    make_database(tmp_path / "state.db")
    write(tmp_path / "state.db-wal", b"\0" * 32)
    write(tmp_path / "state.db-shm", b"\0" * 32)
    survey = surveyed(tmp_path)
    assert "state.db-wal" not in archived(survey)
    assert set(survey.databases[0].sides) == {"-wal", "-shm"}


def test_a_folder_swapped_for_a_link_is_not_followed(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    write(home / "sessions" / "a")
    write(elsewhere / "secret")

    class Swapping(Walk):
        def _subfolder(self, parent: int, name: str, *rest: object) -> None:
            if name == "sessions":
                (home / "sessions").rename(home / "aside")
                (home / "sessions").symlink_to(elsewhere)
            super()._subfolder(parent, name, *rest)  # type: ignore[arg-type]

    walk = Swapping(Classifier(load(SMALL_PROFILE)))
    seen: list[str] = []
    _real, descriptor = open_home(str(home), os.geteuid())
    walk.run(descriptor, lambda entry, folder, name: seen.append(entry.path))
    os.close(descriptor)
    assert "sessions/secret" not in seen
    assert [trouble.path for trouble in walk.troubles] == ["sessions"]


def test_files_are_opened_without_following_anything(tmp_path: Path) -> None:
    write(tmp_path / "real" / "file", "content")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "flink").symlink_to(tmp_path / "real" / "file")
    os.mkfifo(tmp_path / "fifo")
    _real, home = open_home(str(tmp_path), os.geteuid())
    try:
        os.close(open_below(home, "real/file"))
        for path in ("link/file", "flink", "fifo", "real"):
            with pytest.raises(OSError):
                os.close(open_below(home, path))
        with pytest.raises(FileNotFoundError):
            open_file("fifo", home, (1, 1))
    finally:
        os.close(home)


def test_a_home_that_is_a_link_is_resolved_and_one_of_another_user_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    real, descriptor = open_home(str(tmp_path / "link"), os.geteuid())
    os.close(descriptor)
    assert real == str(tmp_path / "real")
    with pytest.raises(CouldNotRun, match="not to the agent's user"):
        open_home(str(tmp_path / "real"), os.geteuid() + 1)
    with pytest.raises(CouldNotRun, match="No such file"):
        open_home(str(tmp_path / "nowhere"), os.geteuid())


def test_a_tree_without_end_ends(tmp_path: Path) -> None:
    deep = tmp_path / "sessions"
    deep.mkdir()
    descriptor = os.open(deep, os.O_RDONLY)
    for _level in range(250):
        os.mkdir("d", dir_fd=descriptor)
        following = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = following
    os.close(descriptor)
    survey = surveyed(tmp_path)
    assert [trouble.reason for trouble in survey.troubles] == ["nested too deeply"]


def test_entry_keeps_what_was_given() -> None:
    status = os.stat("/")
    assert Entry("a", "file", status, "keep", 1).target is None
