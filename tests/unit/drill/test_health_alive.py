# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent after its start, and a live agent in production."""

from __future__ import annotations

import http.server
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.health import (
    HealthError,
    Thresholds,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.health_account import (
    Answer,
    Outcome,
    account_of,
    fetch,
    isolated,
    run_command,
)

from .world import PROFILE, USER, World, build


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = build(tmp_path)
    made.answers = {
        "agent sessions stats": Outcome(0, "Sessions: 12\n"),
        "agent chat ping": Outcome(0, "pong\n"),
        "systemctl is-active agent.service": Outcome(0, "active\n"),
        "systemctl is-active drill.service": Outcome(0, "active\n"),
    }
    return made


def failed(world: World, phase: str, **changes: Any) -> dict[str, Any]:
    checks = world.examine(phase, **changes).checks
    return {check.name: check for check in checks if check.status == "failed"}


def test_a_started_agent_that_answers(world: World) -> None:
    health = world.examine("started", service="drill.service")
    assert health.healthy, health.summary
    assert health.level == 5
    assert [check.name for check in health.checks] == [
        "manifest",
        "home",
        "agent_version",
        "service: drill.service",
        "http: status",
        "command: sessions",
        "command: chat",
        "content_after_start",
        "owner_after_start",
        "rows_after_start",
    ]
    assert (USER, "agent", "chat", "ping") in world.asked
    assert world.environments[-1]["AGENT_HOME"] == str(world.home)
    assert world.environments[-1]["USER"] == USER


@pytest.mark.parametrize(
    ("command", "outcome", "found"),
    [
        ("agent sessions stats", Outcome(0, "Sessions: 0\n"), "no match in: Sessions: 0"),
        ("agent sessions stats", Outcome(0, ""), "no match in: nothing"),
        ("agent chat ping", Outcome(1, "no model\npong"), "exit code 1: no model"),
        ("agent chat ping", Outcome(124, "", True), "no answer within 60 s: nothing"),
        ("agent chat ping", Outcome(127, "agent: not found"), "exit code 127: agent: not found"),
    ],
)
def test_an_answer_that_proves_nothing(
    world: World, command: str, outcome: Outcome, found: str
) -> None:
    world.answers[command] = outcome
    name = "command: sessions" if "sessions" in command else "command: chat"
    bad = failed(world, "started")
    assert list(bad) == [name]
    assert bad[name].found == found
    assert bad[name].hint == f"As {USER}: {command}"


def test_http_and_service_that_do_not_answer(world: World) -> None:
    world.http = Answer(0, "Connection refused")
    world.answers["systemctl is-active drill.service"] = Outcome(3, "failed\n")
    bad = failed(world, "started", service="drill.service")
    assert list(bad) == ["service: drill.service", "http: status"]
    assert bad["http: status"].found == "status 0: Connection refused"


def test_an_agent_that_began_afresh(world: World) -> None:
    (world.home / "SOUL.md").write_text("I am a new agent.\n")
    with closing(sqlite3.connect(world.home / "state.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM messages")
    assert set(failed(world, "started")) == {"content_after_start", "rows_after_start"}


def test_an_agent_that_went_on(world: World) -> None:
    with closing(sqlite3.connect(world.home / "state.db", isolation_level=None)) as connection:
        connection.execute("INSERT INTO sessions (title) VALUES ('drill')")
    (world.home / "sessions" / "0002.json").write_text("{}")
    (world.home / "agent.lock").write_text("")
    assert failed(world, "started") == {}


def test_a_job_that_fired(world: World) -> None:
    health = {**PROFILE["health"], "jobs": ["sessions/", "kanban.db"]}
    quiet = {"profile": {**PROFILE, "health": health}}
    assert failed(world, "started", **quiet) == {}
    assert "jobs_after_start" in {check.name for check in world.examine("started", **quiet).checks}
    (world.home / "sessions" / "fired.json").write_text("{}")
    with closing(sqlite3.connect(world.home / "kanban.db", isolation_level=None)) as connection:
        connection.execute("INSERT INTO tasks (title) VALUES ('fired')")
    bad = failed(world, "started", **quiet)
    assert list(bad) == ["jobs_after_start"]
    assert bad["jobs_after_start"].offenders == (
        "sessions/fired.json",
        "kanban.db: tasks has 3 rows, expected 2",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_command_that_ran_as_somebody_else(world: World) -> None:
    (world.home / "auth.json").write_text("{}")
    os.chown(world.home / "auth.json", 12345, 12345)
    bad = failed(world, "started")
    assert bad["owner_after_start"].offenders == ("auth.json: 12345:12345",)


def test_an_agent_that_cannot_be_asked_is_not_proven(world: World) -> None:
    health = world.examine("started", profile={**PROFILE, "health": {}})
    assert health.healthy
    assert health.level == 0
    skipped = [check.name for check in health.checks if check.status == "skipped"]
    assert skipped == ["agent_answers"]


def test_without_a_model_nobody_is_asked_who_needs_one(world: World) -> None:
    health = world.examine("started", model=False)
    assert health.healthy
    assert health.level == 0
    assert (USER, "agent", "chat", "ping") not in world.asked
    skipped = [check.name for check in health.checks if check.status == "skipped"]
    assert skipped == ["command: chat"]


def test_a_missing_agent_after_the_start_fails(world: World) -> None:
    world.version = ""
    assert "agent_version" in failed(world, "started")


def test_production_is_read_only_and_needs_no_manifest(world: World) -> None:
    (world.home / ".env").write_text("API_KEY=x")
    (world.home / ".env").chmod(0o600)
    (world.home / "gateway.pid").write_text("1")
    before = world.snapshot()
    health = world.examine("production", manifest="")
    assert health.healthy, health.summary
    assert {
        key: value for key, value in world.snapshot().items() if "state.db-" not in key
    } == before
    assert (USER, "agent", "chat", "ping") not in world.asked  # costs money in production
    assert (USER, "agent", "sessions", "stats") in world.asked
    assert health.newest["time"] == "2025-11-22T08:26:40Z"


@pytest.mark.parametrize("harm", ["damaged", "cut short", "gone", "emptied"])
def test_a_live_database_that_tells_no_time_is_not_among_the_dated(world: World, harm: str) -> None:
    path = world.home / "state.db"
    assert world.examine().contents["dated"] == ["state.db"]
    assert world.examine("production", manifest="").contents["dated"] == ["state.db"]
    if harm == "damaged":
        path.write_bytes(path.read_bytes()[:100] + b"\xff" * 40000)
    elif harm == "cut short":
        os.truncate(path, 100)
    elif harm == "gone":
        path.unlink()
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DELETE FROM messages")
            connection.commit()
    assert world.examine("production", manifest="").contents["dated"] == []


def test_production_finds_what_is_wrong(world: World) -> None:
    (world.home / ".env").write_text("API_KEY=x")
    (world.home / ".env").chmod(0o644)
    world.home.chmod(0o755)
    with (world.home / "state.db").open("r+b") as stream:
        stream.seek(4096 * 9)
        stream.write(b"\xff" * 4096)
    world.answers["systemctl is-active agent.service"] = Outcome(3, "inactive")
    thresholds = Thresholds.of({"newest_age": "26h"})
    bad = failed(world, "production", manifest="", thresholds=thresholds)
    assert set(bad) == {
        "secret_modes",
        "database_integrity",
        "newest_age",
        "service: agent.service",
    }


def test_production_against_a_manifest_finds_lost_rows(world: World) -> None:
    with closing(sqlite3.connect(world.home / "kanban.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM tasks")
    assert "database_rows" in failed(world, "production")
    tolerant = Thresholds.of({"rows_tolerance": 2})
    assert failed(world, "production", thresholds=tolerant) == {}


def test_unknown_thresholds_and_users_are_refused(world: World) -> None:
    with pytest.raises(HealthError, match="unknown key 'rows'"):
        Thresholds.of({"rows": 1})
    with pytest.raises(HealthError, match="fortnight"):
        Thresholds.of({"newest_age": "a fortnight"})
    with pytest.raises(HealthError, match="no user"):
        world.examine(user="nobody-of-that-name")


def test_drift_names_what_this_host_cannot_use(world: World) -> None:
    world.manifest["outside"] = [{"path": "/nowhere/project", "source": "state.db:sessions.cwd"}]
    world.manifest["unknown"] = [{"path": "workspace", "decision": "kept", "reason": "clean"}]
    world.manifest["agent"]["version"] = "0.20.0"
    world.version = "0.21.0"
    drift = {item["what"]: item["where"] for item in world.examine().drift}
    assert drift == {
        "absolute path that does not exist here": "/nowhere/project",
        "kept although no rule knows it": "workspace",
        "agent version that the profile was not checked with": "0.20.0, checked up to 0.19.0",
        "another agent version than the archived one": "0.21.0, archived 0.20.0",
    }


# -- the real ways out of the process -----------------------------------------------------------


def test_commands_run_with_a_clean_environment_and_end_in_time() -> None:
    account = account_of(USER)
    script = "import os; print(sorted(os.environ)); print(os.getsid(0) == os.getpid())"
    outcome = run_command(account, [sys.executable, "-I", "-c", script], {"A": "1"}, 20)
    assert outcome.rc == 0
    assert "'A'" in outcome.output
    assert "HOME" not in outcome.output
    assert "True" in outcome.output
    late = run_command(account, ["/bin/sh", "-c", "echo begun; sleep 60"], {}, 3)
    assert late.timed_out
    assert late.output == "begun\n"
    assert run_command(account, ["/nowhere/agent"], {}, 1).rc == 127


def test_a_child_that_hangs_or_dies_is_an_answer() -> None:
    from ansible_collections.lifeboat.agents.plugins.module_utils.health_account import WorkFailed

    account = account_of(USER)
    with pytest.raises(WorkFailed, match="no answer within"):
        isolated(account, _hang, 0.3)
    with pytest.raises(WorkFailed, match="ended early"):
        isolated(account, _crash, 60)
    with pytest.raises(WorkFailed, match="ValueError: broken"):
        isolated(account, _broken, 60)


def _hang() -> dict[str, Any]:
    time.sleep(30)
    return {}


def _crash() -> dict[str, Any]:
    os.kill(os.getpid(), 11)
    return {}


def _broken() -> dict[str, Any]:
    raise ValueError("broken")


@pytest.fixture
def server() -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/away":
                self.send_response(302)
                self.send_header("Location", "http://example.net/")
            else:
                self.send_response(200 if self.path == "/api" else 404)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: Any) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_address[1]
        running.shutdown()


def test_http_stays_on_loopback(server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    base = f"http://127.0.0.1:{server}"
    assert fetch(f"{base}/api", 5) == Answer(200, "ok")
    assert fetch(f"{base}/nothing", 5).status == 404
    assert fetch(f"{base}/away", 5).status == 302
    assert fetch("http://127.0.0.1:1/api", 5).status == 0
    with pytest.raises(HealthError, match="not on loopback"):
        fetch("http://example.net/", 5)
