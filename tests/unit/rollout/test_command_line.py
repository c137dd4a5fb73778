# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that would do something else than was meant, or nothing, and end well: it is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ansible_collections.lifeboat.agents.plugins.action import command_line
from ansible_collections.lifeboat.agents.plugins.module_utils.command_line import (
    CommandLine,
    refusals,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.spelling import misspelt
from ansible_collections.lifeboat.agents.tests.unit import contracts

ROOT = Path(__file__).resolve().parents[3]
RESTORE = ("agent", "target", "dry_run", "replace", "at", "paired")
INVENTORY = {
    "agents": {
        "hosts": {
            "box": {
                "backup_agents": [
                    {"name": "acme", "profile": "hermes", "user": "hermes", "home": "/home/h/.h"}
                ]
            }
        }
    },
    "repositories": {"hosts": {"vault1": None}},
    "control": {"hosts": {"localhost": {"ansible_connection": "local"}}},
}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("dryrun", "dry_run"),
        ("dry-run", "dry_run"),
        ("Dry_Run", "dry_run"),
        ("agents", "agent"),
        ("agnet", "agent"),
        ("traget", "target"),
        ("replaced", "replace"),
    ],
)
def test_a_misspelt_argument_is_refused(given: str, meant: str) -> None:
    (problem,) = refusals(CommandLine([given, "agent"], hosts=1), RESTORE)
    assert f"-e {given}=" in problem
    assert f"{meant} must be meant" in problem


@pytest.mark.parametrize(
    "name",
    ["agent", "at", "cat", "restore_time_limit", "agent_version", "ansible_user", "region", "env"],
)
def test_variables_of_roles_and_of_others_are_none_of_its_business(name: str) -> None:
    assert misspelt([name], RESTORE) == []


def test_a_limit_a_tag_and_no_inventory_are_told_at_once() -> None:
    typed = CommandLine([], limit="box", tags=["--tags now"])
    problems = refusals(typed, RESTORE, limit=False, narrow="Name a target.")
    assert [
        "-i FILE" in problems[0],
        "--limit box" in problems[1],
        "--tags now" in problems[2],
    ] == [
        True,
        True,
        True,
    ]
    assert "Name a target." in problems[1]
    assert refusals(CommandLine([], limit="box", hosts=1), (), limit=True, narrow="") == []


def test_the_action_reads_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = {"subset": "box", "tags": ("all",), "skip_tags": ("untagged", "notest")}
    monkeypatch.setattr(command_line.context, "CLIARGS", typed)
    monkeypatch.setattr(command_line, "load_extra_vars", lambda loader: {"dryrun": "true"})
    task = SimpleNamespace(
        args={"arguments": ["dry_run"], "check": False}, check_mode=True, async_val=0, diff=False
    )
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
    action = command_line.ActionModule(task, connection, None, None, None, None)
    result = action.run(task_vars={"groups": {"all": ["box"]}})
    assert result["failed"] and not result["changed"]
    for words in ("--limit box", "--skip-tags untagged", "-e dryrun=", "--check"):
        assert words in result["msg"]
    assert "-i FILE" not in result["msg"]
    assert "notest" not in result["msg"]  # what molecule adds leaves nothing out


def play(folder: Path, playbook: str, *options: str, inventory: bool = True) -> tuple[int, str]:
    """Run a playbook of the collection on boxes that are not there; its exit code and output."""
    (folder / "hosts.yml").write_text(yaml.safe_dump(INVENTORY))
    (folder / "secret").write_text("for tests\n")
    given = ["-i", str(folder / "hosts.yml")] if inventory else []
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            str(ROOT / "playbooks" / f"{playbook}.yml"),
            *given,
            *("--vault-password-file", str(folder / "secret"), *options),
        ],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_NOCOLOR": "1",
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_no_inventory_is_no_empty_fleet(tmp_path: Path) -> None:
    code, said = play(tmp_path, "backup", inventory=False)
    assert code == 2
    assert "Give yours: -i FILE" in said
    assert "changed=0" in said


@pytest.mark.parametrize(
    ("playbook", "options", "words"),
    [
        ("restore", ("--limit", "box", "-e", "agent=acme", "-e", "target=box"), "--limit box"),
        ("restore", ("-e", "agent=acme", "-e", "target=box", "-e", "dryrun=true"), "dry_run must"),
        ("site", ("--tags", "backup"), "--tags backup"),
        ("restore", ("-e", "agent=acme", "-e", "target=box", "--check"), "Use -e dry_run=true"),
        ("backup", ("-e", "agent=amce"), 'no agent "amce"'),
        ("backup", ("--limit", "vault1"), "leaves out the boxes of acme"),
        ("drill", ("-e", "archive=x", "-e", "at=2026-11-01"), "at=2026-11-01, not both"),
    ],
)
def test_a_playbook_refuses_before_it_connects(
    tmp_path: Path, playbook: str, options: tuple[str, ...], words: str
) -> None:
    code, said = play(tmp_path, playbook, *options)
    assert code == 2, said[-2000:]
    assert words in said
    assert "UNREACHABLE" not in said


def test_a_python_that_is_not_there_is_not_taken_on_the_controller(tmp_path: Path) -> None:
    """As the shim of a version manager is, which Ansible would find first."""
    shim = tmp_path / "bin" / "python3.13"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    (tmp_path / "find.yml").write_text(
        yaml.safe_dump(
            [
                {
                    "import_playbook": str(ROOT / "playbooks" / "shared" / "begin.yml"),
                    "vars": {"custody_arguments": []},
                },
                {"hosts": "localhost", "gather_facts": False, "tasks": [{"ping": None}]},
            ]
        )
    )
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(INVENTORY))
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            *("-i", str(tmp_path / "hosts.yml"), str(tmp_path / "find.yml")),
        ],
        env={
            "PATH": f"{shim.parent}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "LANG": "C.UTF-8",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_playbooks_name_all_their_arguments() -> None:
    assert contracts.playbook_arguments(ROOT) == []
