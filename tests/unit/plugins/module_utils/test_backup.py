# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of a small home into real borg repositories."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import (
    assemble,
    databases,
    look,
    quick_list,
    report,
    sqlite,
    targets,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.backup import Backup
from ansible_collections.lifeboat.agents.plugins.module_utils.borg import Access, Borg
from ansible_collections.lifeboat.agents.plugins.module_utils.databases import Databases
from ansible_collections.lifeboat.agents.plugins.module_utils.errors import CouldNotRun
from ansible_collections.lifeboat.agents.plugins.module_utils.hold import Holder
from ansible_collections.lifeboat.agents.plugins.module_utils.home_audit import audit
from ansible_collections.lifeboat.agents.plugins.module_utils.profile import load
from ansible_collections.lifeboat.agents.plugins.module_utils.secrets import MARKER
from ansible_collections.lifeboat.agents.plugins.module_utils.survey import Database
from ansible_collections.lifeboat.agents.plugins.module_utils.verify import verify
from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils import engine
from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils.engine import (
    PASSPHRASE,
    Box,
    entries,
    make_database,
    wait_for,
    write,
)

TOKEN = "gh" + "p_" + "c" * 36


def messages(status: dict[str, Any]) -> str:
    return "\n".join(problem["message"] for problem in status["problems"])


def test_a_home_comes_back(box: Box) -> None:
    home = box.home
    write(home / "SOUL.md", "soul", 0o600)
    write(home / "memories" / "MEMORY.md", "memory", 0o640)
    write(home / "sessions" / "line\nbreak.json", "{}")
    odd = Path(os.fsdecode(os.fsencode(home / "sessions") + b"/bad\xff\xfe name"))
    odd.write_bytes(b"odd")
    os.link(home / "SOUL.md", home / "memories" / "soul-again")
    (home / "sessions" / "link").symlink_to("/etc/hostname")
    (home / "memories" / "empty").mkdir(mode=0o700)
    sparse = write(home / "workspace" / "sparse", "")
    os.truncate(sparse, 3_000_000)
    os.mkfifo(home / "sessions" / "fifo")
    os.utime(home / "SOUL.md", ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
    make_database(home / "state.db")
    make_database(home / "other.db", journal="delete")
    status = box.backup()
    assert status["result"] == "success", messages(status)
    target = box.extract(status)
    restored = box.restored_home(target)
    assert (restored / "SOUL.md").read_text(encoding="ascii") == "soul"
    assert (restored / "SOUL.md").stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert stat.S_IMODE((restored / "SOUL.md").stat().st_mode) == 0o600
    assert (restored / "SOUL.md").stat().st_ino == (
        restored / "memories" / "soul-again"
    ).stat().st_ino
    assert (restored / "sessions" / "line\nbreak.json").read_text(encoding="ascii") == "{}"
    assert Path(str(odd).replace(str(home), str(restored))).read_bytes() == b"odd"
    assert os.readlink(restored / "sessions" / "link") == "/etc/hostname"
    assert stat.S_IMODE((restored / "memories" / "empty").stat().st_mode) == 0o700
    assert (restored / "workspace" / "sparse").stat().st_size == 3_000_000
    assert not (restored / "sessions" / "fifo").exists()
    for name, place in (
        ("state.db", restored),
        ("other.db", target / str(box.run_dir).lstrip("/") / "databases"),
    ):
        copied = sqlite3.connect(place / name)
        assert copied.execute("SELECT count(*) FROM messages").fetchone() == (50,)
        copied.close()

    manifest = box.manifest(target)
    found = entries(manifest)
    assert found["SOUL.md"]["sha256"] == hashlib.sha256(b"soul").hexdigest()
    assert found["SOUL.md"]["mode"] == "0600"
    assert found["memories/soul-again"]["type"] == "hardlink"
    assert found["memories/soul-again"]["target"] == "SOUL.md"
    assert found["sessions/fifo"]["type"] == "fifo"
    assert found["sessions/link"]["target"] == "/etc/hostname"
    assert found["other.db"]["stored"] == "database"
    assert found[""]["type"] == "directory"
    databases = {database["path"]: database for database in manifest["databases"]}
    assert databases["state.db"]["tables"] == {
        "messages": 50,
        "messages_fts_content": 0,
        "sessions": 1,
    }
    assert databases["state.db"]["full_text"]["messages_fts"] > 0
    assert (databases["state.db"]["method"], databases["other.db"]["method"]) == ("main", "backup")
    assert databases["state.db"]["newest"]["time"] == "2023-11-14T22:14:09Z"
    assert {"path": "/srv/project", "source": "state.db:sessions.cwd"} in manifest["outside"]
    assert {"path": "/etc/hostname", "source": "link sessions/link"} in manifest["outside"]
    assert manifest["agent"]["home_real"] == str(home)
    assert manifest["agent"]["user"] == engine.USER
    assert manifest["configuration"] == audit(box.config(), box.profile)["configuration"]
    assert manifest["configuration"]["chunker_params"] == "fixed,32768"


CANARIES = [
    ".env", "workspace/app/.env.production", "auth.json", "tokens/oauth.json", "profiles/work/.env",
    "profiles/work/auth.json", "cache/leftover", "logs/debug.log", "hermes-agent/x",
]  # fmt: skip
NEW_PLACES = {
    "credentials.json": '{"x": "CANARY"}',
    "new/deploy_key": "-----BEGIN " + "OPENSSH PRIVATE KEY-----\nCANARY\n",
    "new/.netrc": "machine x password CANARY",
    "new/settings.json": '{"refresh_token": "CANARY-value"}',
    "new/bot.txt": "123456789" + ":AA" + "CANARY" + "x" * 30,
    "new/.ssh/config": "CANARY",
    "new/dump.sql": "postgres://u:CANARYpass@db/x",
    "profiles/work/oauth_token.json": "CANARY",
    "server.pem": "CANARY",
    "workspace/deploy": "-----BEGIN " + "RSA PRIVATE KEY-----\nCANARY\n",
}


def test_no_canary_reaches_the_archive_and_nothing_precious_is_lost(box: Box) -> None:
    home = box.home
    for path in CANARIES:
        write(home / path, "CANARY\n")
    for path, text in NEW_PLACES.items():
        write(home / path, text)
    for place in (home, home / "profiles" / "work"):
        write(place / "config.yaml", "# kept\nmodel:\n  api_key: CANARY\n  provider: custom\n")
    write(home / ".env", "TELEGRAM_TOKEN=CANARY\nTELEGRAM_ALLOWED_USERS=7,8\n")
    unknown = sqlite3.connect(home / "mystery.bin")
    unknown.execute("CREATE TABLE secrets (v)")
    unknown.execute("INSERT INTO secrets VALUES (?)", ("sk" + "-CANARY0000000000000000",))
    unknown.commit()
    unknown.close()
    for path in ("SOUL.md", "memories/a", "sessions/b.json", "workspace/c", "harmless-new.txt"):
        write(home / path, "precious\n")
    status = box.backup()
    target = box.extract(status)
    leaks = [
        str(path.relative_to(target))
        for path in target.rglob("*")
        if path.is_file() and b"CANARY" in path.read_bytes()
    ]
    assert leaks == []
    restored = box.restored_home(target)
    for path in ("SOUL.md", "memories/a", "sessions/b.json", "workspace/c", "harmless-new.txt"):
        assert (restored / path).read_text(encoding="ascii") == "precious\n"
    scrubbed = target / str(box.run_dir).lstrip("/") / "scrubbed"
    for path in ("config.yaml", "profiles/work/config.yaml"):
        text = (scrubbed / path).read_text(encoding="ascii")
        assert text == f"# kept\nmodel:\n  api_key: {MARKER}\n  provider: custom\n"
        assert not (restored / path).exists()
    manifest = box.manifest(target)
    assert {"path": "config.yaml", "key": "model.api_key"} in manifest["to_be_supplied"]
    assert "TELEGRAM_TOKEN" in manifest["environment"]
    exported = json.loads((scrubbed.parent / "environment.json").read_bytes())
    assert exported["files"][".env"]["values"] == {"TELEGRAM_ALLOWED_USERS": "7,8"}
    decisions = {item["path"]: item["decision"] for item in manifest["unknown"]}
    assert decisions["harmless-new.txt"] == "kept"
    assert decisions["mystery.bin"] == "quarantined"
    assert set(NEW_PLACES) <= set(manifest["withheld"])
    assert status["result"] == "warning"
    assert "CANARY" not in json.dumps(status)


def test_a_second_name_of_a_secret_is_a_secret(box: Box) -> None:
    key = "-----BEGIN " + "RSA PRIVATE KEY-----\nCANARY\n"
    write(box.home / "workspace" / "a-key", key)
    os.link(box.home / "workspace" / "a-key", box.home / "workspace" / "b-key")
    for name in (".env", "config.yaml", "auth.json"):
        write(box.home / name, "api_key: CANARY\n")
        os.link(box.home / name, box.home / "workspace" / f"again-{name}")
        os.link(box.home / name, box.home / f"unknown-{name}")
    write(box.home / "memories" / "one", "precious\n")
    os.link(box.home / "memories" / "one", box.home / "memories" / "two")
    status = box.backup()
    target = box.extract(status)
    assert [p for p in target.rglob("*") if p.is_file() and b"CANARY" in p.read_bytes()] == []
    restored = box.restored_home(target)
    assert (restored / "memories" / "two").read_text(encoding="ascii") == "precious\n"
    for name in ("a-key", "b-key", "again-.env", "again-config.yaml", "again-auth.json"):
        assert f"workspace/{name} was withheld" in messages(status)
    assert "it is the same file as auth.json" in json.dumps(status["unknown"])


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("workspace/mail/credentials.json", False),
        ("workspace/mail/gmail_token.json", False),
        ("workspace/client_secret_77.apps.example.json", False),
        ("workspace/infra/.kube/config", False),
        ("sessions/2026-11-token-of-the-portal.json", True),
        ("workspace/about/oauth.md", True),
    ],
)
def test_a_file_of_credentials_in_a_kept_folder(box: Box, path: str, kept: bool) -> None:
    """Its name and a hit together; a talk about tokens is a talk."""
    write(box.home / path, '{"refresh_token": "CANARY-CANARY-CANARY"}\n')
    write(box.home / "workspace" / "tokens.txt", "the tokens of the board game are in the box\n")
    status = box.backup()
    assert (path in box.listing(status)) is kept
    assert "workspace/tokens.txt" in box.listing(status)
    assert (f"{path} was withheld" in messages(status)) is not kept
    assert status["result"] == ("success" if kept else "warning")
    box.settings["accepted_findings"] = [{"path": path, "rule": "name"}]
    assert path in box.listing(box.backup())


def test_a_hit_in_precious_text_is_counted_and_the_text_kept(box: Box) -> None:
    write(box.home / "sessions" / "talk.json", "one\ntwo " + TOKEN + "\n")
    status = box.backup()
    assert status["result"] == "success"
    assert status["findings_count"] == 1
    manifest = box.manifest(box.extract(status))
    assert manifest["findings"] == [
        {"path": "sessions/talk.json", "rule": "github-token", "line": 2}
    ]
    assert TOKEN not in json.dumps(manifest)
    box.settings["accepted_findings"] = [{"path": "sessions/*", "rule": "github-token"}]
    assert box.backup()["findings_count"] == 0


@pytest.mark.parametrize(
    ("policy", "kept", "result"),
    [("keep", True, "success"), ("drop", False, "warning"), ("refuse", False, "failed")],
)
def test_the_policy_for_the_unknown(box: Box, policy: str, kept: bool, result: str) -> None:
    write(box.home / "SOUL.md")
    write(box.home / "new" / "a")
    box.settings["unknown"] = policy
    status = box.backup()
    assert status["result"] == result
    if policy == "refuse":
        assert "new" in status["message"]
        assert status["archive"] is None
        assert not json.loads(
            box.raw("vault1", "list", "--json", str(box.root / "vault1" / "repository"))
        )["archives"]
        return
    assert ("new/a" in box.listing(status)) is kept
    assert status["unknown"][0]["path"] == "new"


def test_an_unchanged_home_is_not_read_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        write(box.home / "sessions" / f"{number}.json", f"{{{number}}}")
    make_database(box.home / "state.db")
    monkeypatch.setattr(assemble, "_FRESH_SECONDS", -1000)
    first = box.backup()
    read: list[str] = []
    looker = look.Looker._read

    def counted(self: Any, entry: Any, *rest: Any, **more: Any) -> Any:
        read.append(entry.path)
        return looker(self, entry, *rest, **more)

    monkeypatch.setattr(look.Looker, "_read", counted)
    write(box.home / "sessions" / "3.json", "{changed}")
    second = box.backup()
    assert read == ["sessions/3.json"]
    assert first["result"] == second["result"] == "success"
    manifests = [box.manifest(box.extract(status)) for status in (first, second)]
    assert manifests[0]["databases"] == manifests[1]["databases"]


def test_what_an_earlier_version_remembers_of_a_database_is_asked_again(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_database(box.home / "state.db")
    report = Holder.report

    def less(self: Holder, meanwhile: Any) -> dict[str, Any]:
        facts = report(self, meanwhile)
        return {name: value for name, value in facts.items() if name != "full_text"}

    with monkeypatch.context() as earlier:
        earlier.setattr(databases, "FACTS", sqlite.FACTS - 1)
        earlier.setattr(Holder, "report", less)
        first = box.manifest(box.extract(box.backup()))
    assert first["databases"][0]["full_text"] == {}
    second = box.manifest(box.extract(box.backup()))
    assert set(second["databases"][0]["full_text"]) == {"messages_fts"}


def test_two_repositories_and_one_that_fails(tmp_path: Path) -> None:
    box = Box(tmp_path, engine.find_borg(), ("vault1", "vault2"))
    write(box.home / "SOUL.md")
    status = box.backup()
    assert status["result"] == "success"
    assert box.listing(status, "vault1") == box.listing(status, "vault2")
    (tmp_path / "vault1" / "repository").rename(tmp_path / "vault1" / "gone")
    status = box.backup()
    assert status["result"] == "failed"
    assert status["repositories"]["vault1"]["failure"]["rc"] == 13
    assert status["repositories"]["vault2"]["success"]
    assert "SOUL.md" in box.listing(status, "vault2")
    assert status["hint"]
    assert status["last_success"] != status["last_attempt"] or status["last_success"]


def test_another_repository_at_the_same_place_gets_nothing(box: Box) -> None:
    write(box.home / "SOUL.md")
    assert box.backup()["result"] == "success"
    place = box.root / "vault1"
    (place / "repository").rename(place / "real")
    environment = {
        **box.environment("vault1"),
        "BORG_KEYS_DIR": str(box.root / "attacker"),
        "BORG_BASE_DIR": str(box.root / "attacker"),
    }
    for encryption in ("keyfile-blake2", "none"):
        shutil.rmtree(place / "repository", ignore_errors=True)
        subprocess.run(
            [box.borg, "init", "--encryption", encryption, str(place / "repository")],
            env=environment,
            check=True,
            capture_output=True,
        )
        before = sorted(path.stat().st_size for path in (place / "repository" / "data").rglob("*"))
        status = box.backup()
        assert status["result"] == "failed"
        assert status["archive"] is None
        assert status["repositories"]["vault1"]["failure"]["rc"] in (41, 42, 60, 61, 63, 64)
        assert before == sorted(
            path.stat().st_size for path in (place / "repository" / "data").rglob("*")
        )


def test_a_file_that_vanishes_and_one_that_grows(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    write(box.home / "SOUL.md")
    write(box.home / "sessions" / "gone.json")
    growing = write(box.home / "sessions" / "growing.json", "a")
    original = assemble.Assembly.settled

    def later(self: Any, files: int | None = None) -> Any:
        if files is None:
            (box.home / "sessions" / "gone.json").unlink()
            growing.write_text("aaaa", encoding="ascii")
        return original(self, files)

    monkeypatch.setattr(assemble.Assembly, "settled", later)
    status = box.backup()
    assert status["result"] in ("success", "warning")
    found = entries(box.manifest(box.extract(status)))
    assert found["sessions/growing.json"]["sha256"] is None
    assert found["sessions/growing.json"]["changed"] is True


def test_a_socket_is_noted_and_not_archived(box: Box) -> None:
    (box.home / "sessions").mkdir()
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(box.home / "sessions")
    try:
        server.bind("s")
    finally:
        os.chdir(here)
    status = box.backup()
    server.close()
    assert status["result"] == "success"
    assert "sessions/s" not in box.listing(status)
    assert entries(box.manifest(box.extract(status)))["sessions/s"]["type"] == "socket"


def test_a_home_that_is_a_link(box: Box) -> None:
    write(box.home / "SOUL.md")
    real = box.root / "elsewhere"
    box.home.rename(real)
    box.home.symlink_to(real)
    status = box.backup()
    assert status["result"] == "success"
    target = box.extract(status)
    assert (target / str(real).lstrip("/") / "SOUL.md").exists()
    assert box.manifest(target)["agent"]["home_real"] == str(real)
    assert box.manifest(target)["agent"]["home"] == str(box.home)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_home_that_is_a_mount_point(box: Box) -> None:
    with engine.small_disk(box.home, "size=9m,mode=0750"):
        write(box.home / "SOUL.md", "soul")
        make_database(box.home / "state.db")
        assert box.home.stat().st_dev != box.root.stat().st_dev
        nights = [box.backup(), box.backup()]
    assert [status["result"] for status in nights] == ["success"] * 2
    target = box.extract(nights[1])
    assert (box.restored_home(target) / "SOUL.md").read_text(encoding="utf-8") == "soul"
    manifest = box.manifest(target)
    assert manifest["databases"][0]["tables"]["messages"] == 50
    assert entries(manifest)[""]["mode"] == "0750"


def test_a_link_that_took_the_place_of_memories_is_kept_and_its_target_reported(box: Box) -> None:
    write(box.root / "outside" / "MEMORY.md")
    (box.home / "memories").symlink_to(box.root / "outside")
    status = box.backup()
    assert "memories" in box.listing(status)
    outside = box.manifest(box.extract(status))["outside"]
    assert outside == [{"path": str(box.root / "outside"), "source": "link memories"}]


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_damaged_database_is_archived_with_a_failing_result(box: Box, journal: str) -> None:
    make_database(box.home / "sessions" / "good.db")
    path = make_database(box.home / "state.db", rows=3000, journal=journal)
    data = bytearray(path.read_bytes())
    data[8 * 4096 : 9 * 4096] = b"\xff" * 4096
    path.write_bytes(data)
    status = box.backup()
    assert status["result"] == "failed"
    assert "state.db" in messages(status)
    assert "good.db" not in messages(status)
    assert status["archive"] is not None
    manifest = box.manifest(box.extract(status))
    checks = {database["path"]: database["quick_check"] for database in manifest["databases"]}
    assert checks["sessions/good.db"] == "ok"
    assert checks["state.db"] != "ok"


def test_an_encrypted_database_is_named(box: Box) -> None:
    write(box.home / "state.db", os.urandom(8192))
    status = box.backup()
    assert status["result"] == "failed"
    assert "state.db is not readable: encrypted" in status["message"]
    assert "state.db" in box.listing(status)
    box.settings["accepted_findings"] = [{"path": "state.db", "rule": "database"}]
    assert box.backup()["result"] == "success"


def test_a_config_that_cannot_be_scrubbed_is_withheld_and_fails(box: Box) -> None:
    write(box.home / "config.yaml", "model: {api_key: 'CANARY\n")
    status = box.backup()
    assert status["result"] == "failed"
    assert "config.yaml was withheld" in messages(status)
    assert not any("config.yaml" in path for path in box.listing(status))


def test_read_only_mode_leaves_the_database_alone(box: Box) -> None:
    path = make_database(box.home / "state.db")
    before = path.read_bytes(), path.stat().st_mtime_ns
    box.settings["database_mode"] = "read-only"
    status = box.backup()
    assert status["result"] == "success"
    assert before == (path.read_bytes(), path.stat().st_mtime_ns)
    assert status["databases"][0]["checkpoint"] == "not asked for"


def test_a_carriage_return_in_a_name_is_said_and_fails(box: Box) -> None:
    write(box.home / "sessions" / "car\rriage")
    status = box.backup()
    assert status["result"] == "failed"
    assert "carriage return" in status["message"]


def test_status_metrics_and_ping(box: Box) -> None:
    asked: list[str] = []

    def serve(server: socket.socket) -> None:
        connection, _address = server.accept()
        asked.append(connection.recv(1000).decode().split()[1])
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        connection.close()

    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, args=(server,))
    thread.start()
    write(box.home / "SOUL.md")
    box.settings["ping_url"] = f"http://127.0.0.1:{server.getsockname()[1]}/ping"
    box.settings["metrics_file"] = str(box.root / "lifeboat.prom")
    status = box.backup()
    thread.join(5)
    server.close()
    assert asked == ["/ping"]
    assert json.loads((box.state / "status.json").read_bytes()) == status
    assert stat.S_IMODE((box.state / "status.json").stat().st_mode) == 0o640
    text = (box.root / "lifeboat.prom").read_text(encoding="utf-8")
    assert 'lifeboat_backup_success{agent="acme"} 1' in text
    assert 'lifeboat_backup_repository_success{agent="acme",repository="vault1"} 1' in text
    assert text.count("# TYPE") == len(
        {line.split("{")[0] for line in text.splitlines() if line[0] != "#"}
    )
    assert status["last_success"] == status["last_attempt"]


def test_the_unknown_and_what_is_outside_are_named_everywhere(box: Box) -> None:
    make_database(box.home / "state.db")
    write(box.home / "new-thing", "harmless\n")
    write(box.home / "new.json", '{"refresh_token": "CANARY-CANARY-CANARY"}\n')
    status = box.backup()
    told = report.backup(status)
    assert "unknown      new-thing: kept" in told
    assert "unknown      new.json: quarantined" in told
    assert "outside      /srv/project (state.db:sessions.cwd): not covered" in told
    assert status["outside"] == [{"path": "/srv/project", "source": "state.db:sessions.cwd"}]
    text = (box.state / "metrics.prom").read_text(encoding="utf-8")
    assert 'unknown_entries{agent="acme"} 2' in text
    assert 'unknown_entry{agent="acme",path="new-thing",decision="kept"} 1' in text
    assert 'unknown_entry{agent="acme",path="new.json",decision="quarantined"} 1' in text


def test_a_file_that_changes_while_borg_reads_it(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expected of a database that is held, reported of anything else."""
    make_database(box.home / "state.db")
    write(box.home / "sessions" / "talk.json", os.urandom(60_000_000))
    os.utime(box.home / "sessions" / "talk.json", (1_700_000_000, 1_700_000_000))
    ended = threading.Event()

    def work() -> None:
        connection = sqlite3.connect(box.home / "state.db")
        connection.execute("PRAGMA synchronous = OFF")  # a busy disk must not hold the talk up
        while not ended.is_set():
            with (box.home / "sessions" / "talk.json").open("ab") as file:
                file.write(b"x")
            connection.execute("INSERT INTO messages (body, at) VALUES ('x', 1)")
            connection.commit()
            time.sleep(0.001)

    box.settings["database_mode"] = "read-only"  # the pair, whose log grows while borg reads it
    worker = threading.Thread(target=work)
    feed = targets.Archiving.feed

    def begin_to_work(self: targets.Archiving, *arguments: Any) -> None:
        if not worker.is_alive() and not ended.is_set():
            worker.start()
        feed(self, *arguments)

    monkeypatch.setattr(targets.Archiving, "feed", begin_to_work)
    try:
        status = box.backup()
    finally:
        ended.set()
        worker.join()
    assert status["result"] == "warning", messages(status)
    assert "sessions/talk.json" in messages(status)
    assert "state.db" not in messages(status)


def test_a_failure_is_told_too(box: Box) -> None:
    write(box.home / "SOUL.md")
    good = box.backup()
    (box.root / "passphrase").chmod(0o600)
    write(box.root / "passphrase", "wrong\n")
    status = box.backup()
    assert status["result"] == "failed"
    assert status["repositories"]["vault1"]["failure"]["msgid"] == "PassphraseWrong"
    assert status["last_success"] == good["last_success"]
    assert "passphrase" in status["message"]
    assert 'success{agent="acme"} 0' in (box.state / "metrics.prom").read_text(encoding="utf-8")


def test_the_run_directory_is_private_and_empty_afterwards(box: Box) -> None:
    write(box.home / "config.yaml", "api_key: x\n")
    make_database(box.home / "other.db", journal="delete")
    write(box.run_dir / "scrubbed" / "left-by-a-killed-run")
    status = box.backup()
    assert status["result"] == "success"
    assert "run:scrubbed/left-by-a-killed-run" not in box.listing(status)
    assert list(box.run_dir.iterdir()) == []
    assert stat.S_IMODE(box.run_dir.stat().st_mode) & 0o007 == 0


def test_two_runs_at_once_are_refused(box: Box) -> None:
    backup = Backup(box.config(), box.profile)
    with backup._lock(), pytest.raises(CouldNotRun, match="another backup of acme is running"):
        Backup(box.config(), box.profile).run()


def exporting(box: Box, *commands: list[str], **settings: Any) -> dict[str, Any]:
    write(box.home / "SOUL.md")
    make_database(box.home / "state" / "mixed.db")
    rules = [{"match": "state/", "class": "secret"}, *engine.SMALL_PROFILE["rules"]]
    export = {
        "reason": "secrets live beside memories",
        "hint": "do that",
        "commands": list(commands),
    }
    box.profile = load({**engine.SMALL_PROFILE, "rules": rules, "export": {**export, **settings}})
    return box.backup()


def test_what_only_the_agent_can_separate_is_exported(box: Box) -> None:
    script = (
        'mkdir "$1/t" "$1/.git"; echo memory > "$1/t/rows.jsonl"; echo x > "$1/.git/x";'
        ' echo "$STATE" > "$1/who"'
    )
    command = ["sh", "-c", script, "export", "{export}"]
    status = exporting(
        box,
        command,
        expect=["t/rows.jsonl"],
        expect_each={"SOUL*md": "t/rows*jsonl"},
        skip=[".git"],
        executable="sh",
        environment={"STATE": "{home}/state"},
    )
    assert status["result"] == "success", messages(status)
    found = box.listing(status)
    assert {"run:export/data/t/rows.jsonl", "run:export/data/who"} <= found
    assert not any(".git" in path or "mixed.db" in path for path in found)
    target = box.extract(status)
    manifest = box.manifest(target)
    assert manifest["export"]["files"] == 2
    assert (target / manifest["export"]["path"] / "who").read_text(
        encoding="utf-8"
    ) == f"{box.home}/state\n"
    assert (target / manifest["export"]["path"] / "t" / "rows.jsonl").read_text(
        encoding="ascii"
    ) == "memory\n"
    assert "state/" in manifest["withheld"]
    assert list(box.run_dir.iterdir()) == []


def keys_of(value: Any) -> Iterator[str]:
    """The keys of a mapping and of the mappings in a list."""
    for item in value if isinstance(value, list) else [value]:
        yield from item if isinstance(item, dict) else ()


def test_the_documentation_names_every_key(box: Box) -> None:
    write(box.home / "config.yaml", "api_key: " + TOKEN + "\n")
    write(box.home / ".env", "A=b\n")
    write(box.home / "sessions" / "talk.json", TOKEN + "\n")
    write(box.home / "new")
    (box.home / "memories").symlink_to(box.root)
    make_database(box.home / "state.db")
    status = exporting(box, ["sh", "-c", 'echo memory > "$1/rows"', "export", "{export}"])
    manifest = box.manifest(box.extract(status))
    by_item = {"entries", "databases", "agent", "export", "unknown", "findings"}
    by_item |= {"to_be_supplied", "outside"}
    assert all(manifest[key] for key in by_item | {"withheld", "environment"})
    keys = {*manifest, *(key for name in by_item for key in keys_of(manifest[name]))}
    document = (engine.ROOT / "docs" / "manifest.md").read_text(encoding="utf-8")
    named = {
        word for code in re.findall(r"`([^`]+)`", document) for word in re.findall(r"\w+", code)
    }
    assert keys - named == set()
    place = manifest["export"]["path"].removeprefix(str(box.run_dir).lstrip("/"))
    assert f"`run/lifeboat/<agent>{place}/<path>`" in document


@pytest.mark.parametrize(
    ("command", "settings", "said"),
    [
        (["sh", "-c", "echo no such option >&2; exit 3"], {}, "no such option"),
        (["true"], {"expect": ["global/manifest.json"]}, "has no global/manifest.json"),
        (["true"], {"executable": "no-such-agent-command"}, "is not installed"),
        (
            ["sh", "-c", "echo mixed degraded >&2"],
            {"expect_each": {"state/*.db": "agents/*/manifest.json"}},
            "has no agents/mixed/manifest.json; its last words: mixed degraded",
        ),
    ],
)
def test_without_its_export_there_is_no_backup(
    box: Box, command: list[str], settings: dict[str, Any], said: str
) -> None:
    status = exporting(box, command, **settings)
    assert (status["result"], status["archive"]) == ("failed", None)
    assert said in status["message"]
    assert status["hint"] == "do that"


def test_verify(box: Box) -> None:
    write(box.home / "SOUL.md")
    write(Path(os.fsdecode(os.fsencode(box.home) + b"/sessions/\xff")))
    box.backup()
    outcome = verify(box.config())
    assert outcome["good"], outcome
    assert outcome["repositories"]["vault1"]["entries"] >= 4


def test_verify_misses_every_copy_that_is_not_in_the_archive(box: Box) -> None:
    write(box.home / "config.yaml", "api_key: x\n")
    write(box.home / ".env", "A=b\n")
    make_database(box.home / "other.db", journal="delete")
    script = 'echo a > "$1/a"; echo b > "$1/b"'
    exporting(box, ["sh", "-c", script, "export", "{export}"])
    repository = str(box.root / "vault1" / "repository")
    run = str(box.run_dir).lstrip("/")
    gone = []
    for copy in ("scrubbed/config.yaml", "databases/other.db", "environment.json"):
        assert verify(box.config())["repositories"]["vault1"]["missing"] == gone
        box.raw("vault1", "recreate", "--exclude", f"pf:{run}/{copy}", repository)
        gone.append(f"{run}/{copy}")
        gone.sort()
    outcome = verify(box.config())
    assert (outcome["good"], outcome["repositories"]["vault1"]["missing"]) == (False, gone)
    box.raw("vault1", "recreate", "--exclude", f"pf:{run}/export/data/a", repository)
    missing = verify(box.config())["repositories"]["vault1"]["missing"]
    assert missing == [*gone, f"{run}/export/data: 1 of 2 files"]


def test_verify_does_not_expect_what_is_in_no_manifest(box: Box) -> None:
    status = box.backup()
    run = str(box.run_dir).lstrip("/")
    extracted = box.extract(status)
    strange = write(extracted / run / "scrubbed" / "strange.yaml")
    later = f"{status['archive']}-2"
    files = [str(path.relative_to(extracted)) for path in extracted.rglob("*") if path.is_file()]
    subprocess.run(
        [box.borg, "create", f"{box.root}/vault1/repository::{later}", *files],
        env=box.environment("vault1"),
        check=True,
        cwd=extracted,
    )
    outcome = verify(box.config())["repositories"]["vault1"]
    assert outcome["archive"] == later
    assert outcome["unexpected"] == [str(strange.relative_to(extracted))]


def listings(box: Box) -> tuple[bytes, bytes]:
    """All that borg can store, listed by borg's own code with our formatter, and by borg."""
    home = box.root / "everything"
    home.mkdir()
    write(home / "file", "text")
    os.link(home / "file", home / "second-name")
    os.symlink("file", home / "link")
    os.symlink("gone", home / "dangling")
    os.mkfifo(home / "pipe")
    (home / "folder").mkdir(mode=0o2755)
    write(home / "empty", "", 0o4755)
    for name in (b"new\nline", b"not-utf8-\xff", "ümlaut".encode(), b" blanks  and\ttab "):
        write(Path(os.fsdecode(os.fsencode(home) + b"/" + name)), "x" * 70000)
    url = f"{box.root}/vault1/repository"
    box.raw("vault1", "create", f"{url}::all", str(home))
    access = Access(
        url, str(box.root / "vault1/borg"), str(box.root / "vault1/keys"), passphrase=PASSPHRASE
    )
    borg = Borg(access, executable=box.borg)
    quick = bytearray()
    running = borg.start_quick_list("all", quick.extend)
    assert running is not None
    running.feed(b"\n")
    borg.judge_answer("list", running.finish())
    plain = bytearray()
    borg.list_plainly("all", plain.extend)
    return bytes(quick), bytes(plain)


def test_the_quick_listing_says_what_borg_says(box: Box) -> None:
    quick, plain = listings(box)
    assert quick == plain
    assert quick.count(b"\0") == 12
    assert b" hrw" in quick and b"- -rwsr-xr-x" in quick


@pytest.mark.parametrize("damage", ["from borg import no_such_part", "archiver = object()"])
def test_where_borg_is_another_the_listing_is_its_own(
    box: Box, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    source = Path(quick_list.__file__).read_text(encoding="utf-8")
    assert source.count("from borg import archiver\n") == 1
    program = box.root / "damaged.py"
    program.write_text(
        source.replace("import archiver\n", f"import archiver\n        {damage}\n"), "utf-8"
    )
    monkeypatch.setattr(quick_list, "__file__", str(program))
    quick, plain = listings(box)
    assert quick == plain


def test_the_archive_has_no_secret_even_when_it_appears_after_the_scan(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrubbed file is archived from its copy, whatever the agent writes meanwhile."""
    config = write(box.home / "config.yaml", "a: b\n")
    original = assemble.Assembly.settled

    def later(self: Any, files: int | None = None) -> Any:
        config.write_text("api_key: CANARY\n", encoding="ascii")
        return original(self, files)

    monkeypatch.setattr(assemble.Assembly, "settled", later)
    status = box.backup()
    target = box.extract(status)
    assert not any(b"CANARY" in path.read_bytes() for path in target.rglob("*") if path.is_file())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file of another user")
@pytest.mark.parametrize("afterwards", ["stays", "swapped back", "swapped back and touched"])
def test_a_folder_swapped_for_a_link_while_borg_reads_is_an_alarm(
    box: Box, monkeypatch: pytest.MonkeyPatch, afterwards: str
) -> None:
    """What root reads through such a link is not the agent's: the listing tells."""
    own = write(box.home / "sessions" / "shadow", "harmless\n")
    outside = write(box.root / "outside" / "shadow", "root:x:1\n", 0o600)
    os.chown(outside, 12345, 12345)
    original = targets.Archiving.begin
    feed = targets.Archiving.feed
    aside = box.home / "workspace"

    def slow(self: Any) -> None:
        original(self)
        self.held_back = []

    def hold_back(self: Any, paths: list[bytes], files: int) -> None:
        self.held_back.append((paths, files))

    complete = targets.Archiving.complete

    def swap(self: Any) -> None:
        (box.home / "sessions").rename(aside)
        (box.home / "sessions").symlink_to(outside.parent)
        for paths, files in self.held_back:
            feed(self, paths, files)
        complete(self)
        if afterwards != "stays":
            (box.home / "sessions").unlink()
            aside.rename(box.home / "sessions")
        if afterwards == "swapped back and touched":
            os.utime(own)

    monkeypatch.setattr(targets.Archiving, "begin", slow)
    monkeypatch.setattr(targets.Archiving, "feed", hold_back)
    monkeypatch.setattr(targets.Archiving, "complete", swap)
    status = box.backup()
    assert status["result"] == "failed"
    assert "replaced" in status["message"]
    assert "shadow" in status["message"]


@contextlib.contextmanager
def occupied(box: Box, name: str) -> Iterator[None]:
    """Another client holds the repository's lock for as long as the block lasts."""
    repository = box.root / name / "repository"
    argv = [box.borg, "with-lock", str(repository), "sleep", "300"]
    holder = subprocess.Popen(
        argv,
        env={**box.environment(name), "BORG_BASE_DIR": str(box.root / "other")},
        start_new_session=True,
    )
    try:
        wait_for((repository / "lock.exclusive").exists)
        yield
    finally:
        os.killpg(holder.pid, signal.SIGTERM)
        holder.wait(60)


def archives(box: Box, name: str) -> list[str]:
    """What stands in a repository, also while somebody works on it."""
    done = subprocess.run(
        [box.borg, "list", "--bypass-lock", "--short", str(box.root / name / "repository")],
        env={**box.environment(name), "BORG_BASE_DIR": str(box.root / "looker")},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split() if done.returncode == 0 else []


def test_one_repository_that_hangs_keeps_nothing_from_the_other(tmp_path: Path) -> None:
    box = Box(tmp_path, engine.find_borg(), ("vault1", "vault2"))
    write(box.home / "SOUL.md")
    box.settings["lock_wait"] = 600
    with futures.ThreadPoolExecutor(1) as pool:
        with occupied(box, "vault1"):
            running = pool.submit(box.backup)
            wait_for(lambda: archives(box, "vault2") != [])
            assert not running.done()
            assert archives(box, "vault1") == []
        status = running.result(timeout=300)
    assert status["result"] == "success"
    assert archives(box, "vault1") == archives(box, "vault2") == [status["archive"]]


def test_a_run_that_is_stopped_while_one_hangs_counts_for_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Box(tmp_path, engine.find_borg(), ("vault1", "vault2"))
    write(box.home / "SOUL.md")
    box.settings["lock_wait"] = 600
    complete, one_ended = targets.Archiving._complete, threading.Event()

    def told(*arguments: Any) -> None:
        complete(*arguments)
        one_ended.set()

    monkeypatch.setattr(targets.Archiving, "_complete", told)

    def stop() -> None:
        assert one_ended.wait(300)
        os.kill(os.getpid(), signal.SIGTERM)

    with occupied(box, "vault1"), futures.ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stop)
        status = box.backup()
        stopping.result()
    assert status["result"] == "failed"
    assert "told to stop" in status["repositories"]["vault1"]["error"]
    assert status["repositories"]["vault2"]["success"]
    assert status["repositories"]["vault2"]["listing"]
    assert archives(box, "vault1") == []


def test_repositories_have_nothing_in_common(tmp_path: Path) -> None:
    box = Box(tmp_path, engine.find_borg(), ("vault1", "vault2"))
    write(box.home / "SOUL.md")
    status = box.backup()
    one, two = (box.repositories[number] for number in (0, 1))
    assert one["id"] != two["id"]
    assert one["base_dir"] != two["base_dir"]
    keys = [sorted(Path(item["keys_dir"]).iterdir())[0].read_text() for item in (one, two)]
    assert keys[0] != keys[1]
    ids = [status["repositories"][name]["archive_id"] for name in ("vault1", "vault2")]
    assert ids[0] != ids[1]
    # The one's key opens nothing of the other.
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(
            [box.borg, "list", two["url"]],
            env={**box.environment("vault2"), "BORG_KEYS_DIR": str(one["keys_dir"])},
            check=True,
            capture_output=True,
        )


# The process that holds must not have the database open itself: SQLite does not survive a fork.
ANOTHER_PROGRAM = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
connection.execute("PRAGMA wal_autocheckpoint = 0")
for line in sys.stdin:
    connection.execute(line)
    print("done", flush=True)
"""
SECRET_ROW = '{"client_secret": "LBCANARY5f0c1d"}'


class Program:
    """A program of the agent's that keeps its database open."""

    def __init__(self, path: Path, journal: str) -> None:
        argv = [sys.executable, "-c", ANOTHER_PROGRAM, str(path)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)
        self.does(f"PRAGMA journal_mode = {journal}")
        self.does("CREATE TABLE notes (body TEXT)")
        self.notes("harmless")

    def does(self, statement: str) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(statement + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def notes(self, text: str) -> None:
        self.does(f"INSERT INTO notes VALUES ('{text}')")


@contextlib.contextmanager
def program(path: Path, journal: str) -> Iterator[Program]:
    running = Program(path, journal)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def holding(canary: bytes, folder: Path) -> list[str]:
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [str(path.relative_to(folder)) for path in found if canary in path.read_bytes()]


@pytest.mark.parametrize("moment", ["before the run", "before the hold"])
@pytest.mark.parametrize(
    ("journal", "mode"),
    [("wal", "checkpoint"), ("wal", "read-only"), ("delete", "checkpoint")],
)
def test_a_secret_that_an_unknown_database_has_not_yet_in_its_main_file(
    box: Box, monkeypatch: pytest.MonkeyPatch, journal: str, mode: str, moment: str
) -> None:
    make_database(box.home / "state.db")
    box.settings["database_mode"] = mode
    box.settings["metrics_file"] = str(box.root / "lifeboat.prom")
    hold = Databases.hold
    with program(box.home / "garden-of-2027", journal) as running:
        if moment == "before the run":
            running.notes(SECRET_ROW)

        def late(self: Databases, databases: list[Database]) -> None:
            if moment == "before the hold":
                running.notes(SECRET_ROW)
            hold(self, databases)

        monkeypatch.setattr(Databases, "hold", late)
        status = box.backup()
    assert holding(b"LBCANARY", box.extract(status)) == []
    assert not any("garden" in path for path in box.listing(status))
    assert status["result"] == "warning", messages(status)
    said = {"decision": "quarantined", "reason": "the secret scan hit: secret-field"}
    assert status["unknown"] == [{"path": "garden-of-2027", **said}]
    assert "garden-of-2027: quarantined" in report.backup(status)
    assert 'path="garden-of-2027"' in (box.root / "lifeboat.prom").read_text(encoding="utf-8")
    assert [item["path"] for item in status["databases"]] == ["state.db"]
    assert list(box.run_dir.iterdir()) == []


def test_the_audit_looks_into_the_log_of_an_unknown_database(box: Box) -> None:
    with program(box.home / "garden-of-2027", "wal") as running:
        assert audit(box.config(), box.profile)["unknown"][0]["decision"] == "kept"
        running.notes(SECRET_ROW)
        assert audit(box.config(), box.profile)["unknown"][0]["decision"] == "quarantined"
    assert not box.run_dir.exists()


def test_what_an_unknown_database_is_told_after_the_scan_is_not_archived(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log goes on growing; the archive has it as it was scanned, and it restores."""
    box.settings["database_mode"] = "read-only"
    reports = Databases.reports
    with program(box.home / "garden-of-2027", "wal") as running:

        def later(self: Databases) -> None:
            running.notes(SECRET_ROW)
            reports(self)

        monkeypatch.setattr(Databases, "reports", later)
        status = box.backup()
    assert status["result"] == "success", messages(status)
    assert [item["decision"] for item in status["unknown"]] == ["kept"]
    target = box.extract(status)
    assert holding(b"LBCANARY", target) == []
    manifest = box.manifest(target)
    assert manifest["databases"][0]["tables"] == {"notes": 1}
    assert entries(manifest)["garden-of-2027-wal"]["stored"] == "database"
    log = target / str(box.run_dir).lstrip("/") / "databases" / "garden-of-2027-wal"
    log.rename(box.restored_home(target) / log.name)
    connection = sqlite3.connect(box.restored_home(target) / "garden-of-2027")
    assert connection.execute("SELECT * FROM notes").fetchall() == [("harmless",)]
    connection.close()
