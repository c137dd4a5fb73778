# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import fcntl
import io
import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import cli, report
from ansible_collections.lifeboat.agents.plugins.module_utils import config as configuration
from ansible_collections.lifeboat.agents.plugins.module_utils import status as status_files
from ansible_collections.lifeboat.agents.plugins.module_utils.backup_summary import summary
from ansible_collections.lifeboat.agents.plugins.module_utils.borg import Progress
from ansible_collections.lifeboat.agents.plugins.module_utils.errors import CouldNotRun
from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils.engine import (
    USER,
    Box,
    make_database,
    write,
)


@pytest.fixture
def installed(box: Box) -> Path:
    """The configuration as the role writes it; the directory of all agents."""
    agent = box.root / "etc" / "acme"
    write(agent / "profile.json", json.dumps(box.profile))
    config = dataclasses.asdict(box.config())
    config.update(format=1, profile=str(agent / "profile.json"))
    write(agent / "config.json", json.dumps(config))
    return agent.parent


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_way_of_a_new_box(
    box: Box, installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(box.home / "SOUL.md", "soul")
    write(box.home / "config.yaml", "api_key: x\n")
    write(box.home / ".env", "A=b\n")
    write(box.home / "new", "x")
    make_database(box.home / "state.db")
    where = ("--config-directory", str(installed))

    code, out, _err = run(capsys, "status", "acme", *where)
    assert (code, out) == (1, "acme: no backup was attempted yet\n")

    code, out, _err = run(capsys, "audit", "acme", *where)
    assert code == 0
    for text in (
        "SOUL.md",
        "scrubbed  config.yaml: api_key",
        "unknown      new: kept",
        "state.db (wal",
        ".env",
    ):
        assert text in out
    assert not (box.state / "files.cache").exists()  # an audit writes nothing
    write(box.home / "sessions" / "a" / "talk.json", "{}")
    write(box.home / "other.db", "encrypted " * 100)
    code, out, _err = run(capsys, "audit", "acme", *where)
    assert "    sessions/\n" in out and "talk.json" not in out
    assert "ERROR: database other.db is not readable" in out
    code, out, _err = run(capsys, "audit", "acme", "--all", *where)
    assert "    sessions/a/talk.json\n" in out
    (box.home / "other.db").unlink()

    code, out, err = run(capsys, "backup", *where)
    assert (code, err) == (0, "")
    assert "acme: success in" in out and "entries as the manifest says" in out
    code, out, _err = run(capsys, "backup", "acme", "--json", *where)
    assert code == 0
    assert json.loads(out)["result"] == "success"
    code, out, _err = run(capsys, "verify", "--json", *where)
    assert code == 0
    assert json.loads(out)[0]["good"] is True
    code, out, _err = run(capsys, "status", *where)
    assert code == 0
    assert "acme: success" in out and "last success" in out

    write(box.home / "config.yaml", "{ broken")
    code, out, _err = run(capsys, "backup", *where)
    assert code == 1
    assert "ERROR" in out and "config.yaml was withheld" in out
    assert run(capsys, "status", *where)[0] == 1


def test_a_run_that_was_killed_is_told_from_one_at_work(
    box: Box, installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--config-directory", str(installed))
    assert run(capsys, "backup", "acme", *where)[0] == 0
    status_files.begin(str(box.state), "acme", "2026-11-23T02:00:00Z")
    code, out, _err = run(capsys, "status", "acme", *where)
    assert code == 1
    assert out.startswith("acme: failed: the run was killed before it ended\n")
    assert "last attempt 2026-11-23T02:00:00Z" in out
    with (box.state / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, out, _err = run(capsys, "status", "acme", *where)
        assert (code, out.splitlines()[0]) == (0, "acme: a backup is at work")
        code, out, _err = run(capsys, "status", "acme", "--json", *where)
        assert (code, json.loads(out)["at_work"]) == (0, True)


def test_what_could_not_run_is_2(
    installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--config-directory", str(installed))
    code, _out, err = run(capsys, "backup", "nobody", *where)
    assert code == 2
    assert "no agent 'nobody' on this box" in err and "known: acme" in err
    code, _out, err = run(capsys, "backup", "--config-directory", str(tmp_path / "nowhere"))
    assert code == 2
    assert "no agent is configured" in err
    write(
        installed / "acme" / "profile.json",
        '{"format": 1, "name": "x", "rules": [{"match": "a", "class": "b"}]}',
    )
    code, _out, err = run(capsys, "audit", *where)
    assert code == 2
    assert "class is 'b'" in err
    write(installed / "acme" / "config.json", "{")
    code, _out, err = run(capsys, "status", *where)
    assert code == 2
    assert "not valid JSON" in err


def test_a_broken_profile_is_told_in_status_and_metrics(
    box: Box, installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--config-directory", str(installed))
    for text in ("{}", "{ broken"):
        write(installed / "acme" / "profile.json", text)
        assert run(capsys, "backup", "acme", *where)[0] == 2
        code, out, _err = run(capsys, "status", "acme", *where)
        assert (code, "profile.json" in out) == (1, True)
        metrics = (box.state / "metrics.prom").read_text(encoding="utf-8")
        assert 'lifeboat_backup_success{agent="acme"} 0' in metrics
        (box.state / "status.json").unlink()


def test_a_file_name_does_not_command_the_terminal(
    box: Box, installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(box.home / "evil\x1b]0;owned\x07\x1b[2Jname\x9b")
    where = ("--config-directory", str(installed))
    for command in ("audit", "backup", "status"):
        _code, out, _err = run(capsys, command, "acme", *where)
        assert r"evil\x1b]0;owned\x07\x1b[2Jname\x9b" in out
        assert all(character.isprintable() or character == "\n" for character in out)


def test_a_file_name_does_not_forge_a_line(
    box: Box, installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = "acme: success in 1 s"
    write(box.home / f"new\n{forged}")
    make_database(box.home / f"vault\r\u2028{forged}")
    write(box.home / "workspace" / f"key\n{forged}", "-----BEGIN RSA PRIVATE KEY-----\nabc\n")
    where = ("--config-directory", str(installed))
    for command in ("audit", "backup", "status", "verify"):
        _code, out, err = run(capsys, command, "acme", *where)
        assert [line for line in (out + err).splitlines() if line.startswith(forged)] == []
        assert command == "verify" or rf"new\n{forged}: kept" in out
    status = status_files.read(str(box.state))
    assert f"new\n{forged}" in [item["path"] for item in status["unknown"]]
    assert [line for line in summary(status, "box") if not line.isprintable()] == []
    exposition = (box.state / "metrics.prom").read_text(encoding="utf-8")
    assert rf'path="new\\n{forged}"' in exposition
    assert all(line.isprintable() for line in exposition.split("\n"))


def test_a_name_in_a_listing_does_not_forge_a_line() -> None:
    item = {"archive": "a", "entries": 2, "missing": ["x\nacme: good"], "unexpected": ["y\r\x85"]}
    text = report.verification("acme", {"good": False, "repositories": {"r": item}})
    assert text.splitlines()[2:] == [r"    missing: x\nacme: good", r"    unexpected: y\r\x85"]


def test_one_agent_that_could_not_run_does_not_stop_the_next(
    box: Box, installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(box.home / "SOUL.md")
    write(installed / "aaa" / "config.json", "{")
    code, out, err = run(capsys, "backup", "--config-directory", str(installed))
    assert code == 2
    assert "not valid JSON" in err
    assert "acme: success" in out


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["backup", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as raised:
            cli.main(arguments)
        assert raised.value.code == 0
    out = capsys.readouterr().out
    for word in ("exit status:", "files:", "environment:", "examples:", "lifeboat backup"):
        assert word in out
    for command in ("backup", "audit", "status", "verify"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        out = capsys.readouterr().out
        assert f"lifeboat {command} " in out.partition("examples:")[2]
        assert "exit status:" in out
        assert max(map(len, out.splitlines())) <= 100
    with pytest.raises(SystemExit) as raised:
        cli.main(["explode"])
    assert raised.value.code == 2


def good() -> dict[str, Any]:
    repository = {"name": "r", "url": "/r", "id": "ab", "keys_dir": "/k", "base_dir": "/b"}
    return {
        "format": 1,
        "agent": "acme",
        "user": USER,
        "home": "/home/x",
        "profile": "/p",
        "repositories": [repository],
        "state_dir": "/s",
        "run_dir": "/run/x",
    }


def test_a_configuration_has_safe_defaults() -> None:
    config = configuration.parse(good(), "c")
    assert (config.unknown, config.database_mode, config.chunker_params) == (
        "keep",
        "checkpoint",
        "fixed,32768",
    )
    assert config.repositories[0].passphrase_path({}) == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format is not 1"),
        ({"repositories": []}, "no repository"),
        ({"surprise": 1}, "unknown key surprise"),
        ({"home": "relative"}, "home is not an absolute path"),
        ({"unknown": "maybe"}, "unknown is 'maybe'"),
        ({"database_mode": "x"}, "database_mode is 'x'"),
        ({"repositories": [{"name": "r"}]}, "missing key base_dir, id, keys_dir, url"),
    ],
)
def test_a_wrong_configuration_says_what_is_wrong(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CouldNotRun, match=message):
        configuration.parse({**good(), **change}, "c")


def test_a_credential_comes_before_the_file(tmp_path: Path) -> None:
    repository = configuration.RepositoryConfig(
        "r", "u", "i", "k", "b", passphrase_file="/file", passphrase_credential="passphrase-r"
    )
    assert repository.passphrase_path({}) == "/file"
    assert repository.passphrase_path({"CREDENTIALS_DIRECTORY": str(tmp_path)}) == "/file"
    write(tmp_path / "passphrase-r")
    credential = repository.passphrase_path({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert credential == str(tmp_path / "passphrase-r")


def test_the_progress_bar_draws_one_line_and_leaves_none() -> None:
    stream = io.StringIO()
    drawn = report.ProgressBar(stream)
    drawn.show("r", Progress(3, 2_500_000, 1000, "a\x1b[31m/b\n", False))
    drawn.end()
    text = stream.getvalue()
    assert "3 files, 2.5 MB read, 1.0 kB new" in text
    assert "\x1b" not in text and "\n" not in text
    assert text.endswith("\r")


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_500_000, "2.5 MB"), (3e15, "3000.0 TB")],
)
def test_sizes(number: float, text: str) -> None:
    assert report.size(number) == text
