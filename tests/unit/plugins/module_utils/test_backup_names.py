# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of several names: what has the name of a secret is one by every name."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.databases import Databases
from ansible_collections.lifeboat.agents.plugins.module_utils.home_audit import audit
from ansible_collections.lifeboat.agents.plugins.module_utils.profile import load
from ansible_collections.lifeboat.agents.plugins.module_utils.survey import Database
from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils.engine import (
    SMALL_PROFILE,
    Box,
    make_database,
    write,
)

OLD = 1_600_000_000


def test_other_names_of_secrets_are_withheld_and_named(box: Box) -> None:
    vault = make_database(box.home / ".env.sqlite")
    with contextlib.closing(sqlite3.connect(vault)) as connection:
        connection.execute("INSERT INTO messages (body) VALUES ('CANARY')")
        connection.commit()
    (box.home / "workspace").mkdir()
    os.link(vault, box.home / "workspace" / "snap.sqlite")
    os.link(vault, box.home / "unknown.sqlite")
    for name, target in {
        ".env": "workspace/dotfiles/agent-env",
        "config.yaml": "workspace/dotfiles/agent.yaml",
        "auth.json": "a-note",
        "sessions/s/.env": "../../workspace/z-env",
    }.items():
        link = box.home / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
        place = write(link.parent / target, "api: CANARY\n")
        os.utime(place, (OLD, OLD))
    write(box.home / "SOUL.md", "precious")
    status = box.backup()
    target = box.extract(status)
    assert [p for p in target.rglob("*") if p.is_file() and b"CANARY" in p.read_bytes()] == []
    said = [problem["message"] for problem in status["problems"]]
    reason = "a link to it, has the name of a secret"
    for path, other in (
        ("workspace/dotfiles/agent-env", ".env"),
        ("workspace/dotfiles/agent.yaml", "config.yaml"),
        ("workspace/z-env", "sessions/s/.env"),
    ):
        assert f"{path} was withheld: {other}, {reason}" in said
    assert "workspace/snap.sqlite was withheld: it is the same file as .env.sqlite" in said
    quarantined = {item["path"] for item in status["unknown"] if item["decision"] == "quarantined"}
    assert {"a-note", "unknown.sqlite"} <= quarantined
    assert (box.restored_home(target) / "SOUL.md").read_text(encoding="ascii") == "precious"


def test_other_names_of_what_lies_in_a_folder_of_secrets_are_withheld(box: Box) -> None:
    """The walk does not enter such a folder, so the second name is all that it sees."""
    folder = box.home / "tokens"
    (box.home / "workspace").mkdir()
    for path, name in (("one", "a"), ("deeper/two", "b")):
        os.link(write(folder / path, "CANARY\n"), box.home / "workspace" / name)
    os.link(folder / "one", box.home / "unknown")
    (box.home / "sessions").mkdir(exist_ok=True)
    os.link(
        write(box.home / "workspace" / "c", "precious\n"),
        write(box.home / "sessions" / "x", "").with_name("c"),
    )
    status = box.backup()
    target = box.extract(status)
    assert [p for p in target.rglob("*") if p.is_file() and b"CANARY" in p.read_bytes()] == []
    said = [problem["message"] for problem in status["problems"]]
    assert "workspace/a was withheld: it is the same file as tokens/one" in said
    assert "workspace/b was withheld: it is the same file as tokens/deeper/two" in said
    assert "it is the same file as tokens/one" in str(status["unknown"])
    assert (box.restored_home(target) / "sessions" / "c").read_text() == "precious\n"


def test_a_kept_file_in_a_folder_of_secrets_is_no_second_name_of_itself(box: Box) -> None:
    box.profile["rules"].insert(0, {"match": "tokens/*-allowFrom.json", "class": "keep"})
    kept = write(box.home / "tokens" / "x-allowFrom.json", "precious\n")
    os.link(kept, box.home / "workspace-of-x")
    os.link(
        write(box.home / "tokens" / "one", "CANARY\n"), box.home / "tokens" / "y-allowFrom.json"
    )
    status = box.backup()
    target = box.extract(status)
    assert [p for p in target.rglob("*") if p.is_file() and b"CANARY" in p.read_bytes()] == []
    restored = box.restored_home(target)
    assert (restored / "tokens" / "x-allowFrom.json").read_text() == "precious\n"
    assert (restored / "workspace-of-x").read_text() == "precious\n"


def test_a_folder_of_secrets_that_cannot_be_read_whole_keeps_second_names_back(box: Box) -> None:
    deep = box.home / "tokens"
    deep.mkdir(parents=True)
    for _unused in range(220):
        deep = deep / "d"
        deep.mkdir()
    os.link(write(deep / "one", "CANARY\n"), box.home / "unknown")
    write(box.home / "SOUL.md", "precious")
    status = box.backup()
    target = box.extract(status)
    assert [p for p in target.rglob("*") if p.is_file() and b"CANARY" in p.read_bytes()] == []
    assert status["result"] == "failed"
    assert "tokens could not be read: nested too deeply" in status["message"]
    assert "it may be the same file as one in tokens, not all of it read" in str(status["unknown"])
    assert (box.restored_home(target) / "SOUL.md").read_text() == "precious"


def test_a_link_of_settings_to_a_folder_withholds_none_of_it(box: Box) -> None:
    os.utime(write(box.home / "workspace" / "skills" / "a.md", "precious\n"), (OLD, OLD))
    (box.home / "config.yaml").symlink_to("workspace/skills")
    status = box.backup()
    restored = box.restored_home(box.extract(status))
    assert (restored / "workspace" / "skills" / "a.md").read_text() == "precious\n"


def test_one_link_seen_late_is_one_problem(box: Box) -> None:
    for name in ("a", "b", "c"):
        os.utime(write(box.home / "memories" / "m" / name, "x"), (OLD, OLD))
    (box.home / "workspace").mkdir()
    (box.home / "workspace" / ".env").symlink_to("../memories/m")
    status = box.backup()
    late = [p["message"] for p in status["problems"] if "was archived before" in p["message"]]
    assert len(late) == 1 and "memories/m/a and 2 more files" in late[0]


def test_a_settings_link_to_a_key_exports_nothing_of_it(box: Box) -> None:
    body = "QyNTUxAAAAINcanary=="
    key = (
        f"-----BEGIN {'OPENSSH'} PRIVATE KEY-----\n{body}\n-----END {'OPENSSH'} PRIVATE KEY-----\n"
    )
    write(box.home / "id_x", key)
    (box.home / ".env").symlink_to("id_x")
    status = box.backup()
    target = box.extract(status)
    assert [p for p in target.rglob("*") if p.is_file() and b"canary" in p.read_bytes()] == []
    assert ".env is a link to id_x, which is no settings file of the home" in str(
        status["problems"]
    )


def test_what_a_link_to_a_folder_of_secrets_leads_to_is_withheld(box: Box) -> None:
    os.utime(write(box.home / "workspace" / "kept" / "deep" / "one", "CANARY\n"), (OLD, OLD))
    os.utime(write(box.home / "workspace" / "kept-not" / "two", "precious\n"), (OLD, OLD))
    (box.home / "tokens").symlink_to("workspace/kept")
    status = box.backup()
    target = box.extract(status)
    assert [p for p in target.rglob("*") if p.is_file() and b"CANARY" in p.read_bytes()] == []
    said = [problem["message"] for problem in status["problems"]]
    reason = "tokens, a link to it, has the name of a secret"
    assert f"workspace/kept/deep/one was withheld: {reason}" in said
    restored = box.restored_home(target)
    assert (restored / "workspace" / "kept-not" / "two").read_text() == "precious\n"


def test_what_was_archived_before_the_link_to_it_was_seen_is_told(box: Box) -> None:
    os.utime(write(box.home / "memories" / "note", "x"), (OLD, OLD))
    (box.home / "workspace").mkdir()
    (box.home / "workspace" / ".env").symlink_to("../memories/note")
    status = box.backup()
    assert status["result"] == "failed"
    assert "memories/note was archived before workspace/.env was seen" in status["message"]
    assert "name it secret by a rule" in status["hint"]


def test_a_file_of_two_names_that_is_replaced_meanwhile_is_archived(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = write(box.home / "sessions" / "jobs.json", "old")
    os.link(jobs, box.root / "snapshot-of-jobs.json")
    os.utime(jobs, (OLD, OLD))
    original = Databases.hold

    def hold(self: Databases, databases: list[Database]) -> None:
        os.replace(write(jobs.with_name("jobs.new"), "new"), jobs)
        original(self, databases)

    monkeypatch.setattr(Databases, "hold", hold)
    status = box.backup()
    assert (status["result"], status["problems"]) == ("success", [])
    restored = box.restored_home(box.extract(status))
    assert (restored / "sessions" / "jobs.json").read_text(encoding="ascii") == "new"


def test_the_settings_of_an_env_that_is_a_link_are_exported_as_of_one_that_is_none(
    box: Box,
) -> None:
    text = "TELEGRAM_ALLOWED_USERS=1,2\nAPI_KEY=CANARY\n"
    for name in ("agent-env", "deep/agent-env"):
        write(box.home / "workspace" / "dotfiles" / name, text)
    (box.home / ".env").symlink_to("workspace/dotfiles/agent-env")
    write(box.home / "sessions" / "note")
    (box.home / "sessions" / "dotfiles").symlink_to("../workspace/dotfiles")
    (box.home / "sessions" / ".env").symlink_to("dotfiles/deep/agent-env")
    target = box.extract(box.backup())
    run = target / str(box.run_dir).lstrip("/")
    exported = json.loads((run / "environment.json").read_text(encoding="ascii"))["files"]
    settings = {"names": ["API_KEY", "TELEGRAM_ALLOWED_USERS"]}
    settings["values"] = {"TELEGRAM_ALLOWED_USERS": "1,2"}
    assert exported == {".env": settings, "sessions/.env": settings}
    assert [p for p in target.rglob("*") if p.is_file() and b"CANARY" in p.read_bytes()] == []


def test_a_link_to_settings_that_are_not_in_the_home_is_told(box: Box) -> None:
    outside = write(box.root / "elsewhere" / "agent", "api_key: CANARY\nTOKEN=CANARY\n")
    (box.home / ".env").symlink_to(outside)
    (box.home / "config.yaml").symlink_to(outside)
    (box.home / "workspace").mkdir()
    (box.home / "workspace" / ".env").symlink_to("gone")
    status = box.backup()
    assert status["result"] == "warning"
    nothing = "which is no settings file of the home: its names and harmless values are not in the archive"
    expected = {
        f".env is a link to {outside}, {nothing}",
        f"workspace/.env is a link to gone, {nothing}",
        f"config.yaml is a link to {outside}: the link is archived, what it leads to is not",
    }
    assert {problem["message"] for problem in status["problems"]} == expected
    assert all("the file itself" in problem["hint"] for problem in status["problems"])
    outside.unlink()  # the extracted link leads there too
    target = box.extract(status)
    assert [p for p in target.rglob("*") if p.is_file() and b"CANARY" in p.read_bytes()] == []
    told = audit(box.config(), box.profile)["problems"]
    assert {problem["message"] for problem in told} == expected


def test_a_link_to_a_config_that_is_archived_by_its_own_name_is_fine(box: Box) -> None:
    rule = {"match": "config.yaml", "at": "any", "class": "scrub"}
    box.profile = load({**SMALL_PROFILE, "rules": [rule, *SMALL_PROFILE["rules"]]})
    write(box.home / "workspace" / "config.yaml", "api_key: CANARY\n")
    (box.home / "config.yaml").symlink_to("workspace/config.yaml")
    status = box.backup()
    assert (status["result"], status["problems"]) == ("success", [])
    assert "run:scrubbed/workspace/config.yaml" in box.listing(status)


def test_the_hint_of_what_is_withheld_says_what_lets_it_in(box: Box) -> None:
    key = "-----BEGIN " + "RSA PRIVATE KEY-----\nabc\n"
    write(box.home / "workspace" / "demo-key", key)
    write(box.home / "workspace" / "credentials.json", '{"refresh_token": "abc-abc-abc-abc"}\n')
    for name in (".env", "auth.json"):
        write(box.home / name, "A=b\n")
    os.link(box.home / ".env", box.home / "workspace" / "second-name")
    vault = make_database(box.home / ".env.sqlite")
    os.link(vault, box.home / "workspace" / "second.sqlite")
    write(box.home / "workspace" / "z-led-to")
    (box.home / ".env.local").symlink_to("workspace/z-led-to")
    names = ("demo-key", "credentials.json", "second-name", "second.sqlite", "z-led-to")
    paths = [f"workspace/{name}" for name in names]

    def hints() -> dict[str, str]:
        problems = box.backup()["problems"]
        return {item["message"].partition(" was withheld")[0]: item["hint"] for item in problems}

    told = hints()
    assert sorted(told) == sorted(paths)
    assert "{path: workspace/demo-key, rule: private-key} in accepted_findings" in told[paths[0]]
    assert "{path: workspace/credentials.json, rule: name} in accepted_findings" in told[paths[1]]
    for path in paths[2:]:
        assert "no setting lets it in" in told[path] and "accepted_findings" not in told[path]
    accepted = [(paths[0], "private-key"), (paths[1], "name"), *((path, "*") for path in paths[2:])]
    box.settings["accepted_findings"] = [{"path": p, "rule": rule} for p, rule in accepted]
    assert sorted(hints()) == sorted(paths[2:])
    (box.home / ".env.local").unlink()
    for name, other in ((".env", paths[2]), (".env.sqlite", paths[3])):
        (box.home / name).unlink()
        assert (box.home / other).stat().st_nlink == 1
    assert hints() == {}
