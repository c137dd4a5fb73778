# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backing up now: following a unit, telling how far it is, summing up."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleError

from ansible_collections.lifeboat.agents.plugins.action.unit_run import ActionModule
from ansible_collections.lifeboat.agents.plugins.module_utils.backup_summary import summary
from ansible_collections.lifeboat.agents.plugins.module_utils.borg import Progress
from ansible_collections.lifeboat.agents.plugins.module_utils.report import ProgressLines
from ansible_collections.lifeboat.agents.plugins.module_utils.unit import (
    Followed,
    UnitError,
    follow_command,
    read,
    start_command,
)

UNIT = "lifeboat-backup@acme.service"


def answer(
    state: str, job: str = "0", result: str = "success", journal: str = "", **more: str
) -> str:
    """What systemctl show and journalctl print."""
    values = {"Result": result, "ExecMainStatus": "0", "LoadState": "loaded", **more}
    head = [f"{key}={value}" for key, value in values.items()]
    return "\n".join([*head, f"ActiveState={state}", f"Job={job}", "InvocationID=abc", "", journal])


@pytest.mark.parametrize(
    ("state", "job", "finished"),
    [
        ("inactive", "12", False),  # asked for, not begun
        ("activating", "12", False),
        ("deactivating", "0", False),
        ("inactive", "0", True),
        ("inactive", "", True),
        ("failed", "0", True),
        ("failed", "12", False),  # the run before failed, the new one has not begun
    ],
)
def test_a_unit_is_over_when_no_job_is_left(state: str, job: str, finished: bool) -> None:
    followed, _lines = read(Followed(UNIT), answer(state, job))
    assert followed.finished is finished


def test_every_line_is_told_once() -> None:
    journal = "begun\n-- cursor: s=1;i=2\n"
    state, lines = read(Followed(UNIT), answer("activating", "1", journal=journal))
    assert lines == ["begun"]
    assert "--after-cursor='s=1;i=2'" in follow_command(state)
    journal = "over = well\n-- cursor: s=1;i=3\n"
    state, lines = read(state, answer("inactive", journal=journal).replace("\n", "\r\n"))
    assert lines == ["over = well"]
    assert state.lines == ("begun", "over = well")
    assert state.good


def test_a_failure_is_no_success() -> None:
    state, _lines = read(Followed(UNIT), answer("failed", result="exit-code", ExecMainStatus="1"))
    assert (state.finished, state.good, state.status) == (True, False, 1)
    assert not Followed(UNIT, result="success").good


def test_a_unit_that_was_never_rolled_out_says_so() -> None:
    with pytest.raises(UnitError, match=r"site\.yml"):
        read(Followed(UNIT), answer("inactive", LoadState="not-found"))


@pytest.mark.parametrize("name", ["", "a.timer", "a;id.service", "a b.service", "$(id).service"])
def test_what_is_no_name_of_a_service_is_not_started(name: str) -> None:
    with pytest.raises(UnitError, match="not the name of a service"):
        start_command(name)


def run_action(
    answers: Iterator[str], *, check_mode: bool = False
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Run the action on a host that answers like that: result, what it showed, what it ran."""
    task = SimpleNamespace(
        args={"units": [UNIT], "interval": 0.0}, check_mode=check_mode, async_val=0, diff=False
    )
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
    action = ActionModule(task, connection, None, None, None, None)
    shown: list[str] = []
    commands: list[str] = []

    def execute(command: str, sudoable: bool) -> dict[str, Any]:
        assert sudoable
        commands.append(command)
        return {"rc": 0, "stdout": "" if "start" in command else next(answers)}

    action._low_level_execute_command = execute
    action._display = SimpleNamespace(display=shown.append)
    return action.run(task_vars={"inventory_hostname": "box"}), shown, commands


def test_the_action_shows_what_the_unit_says_and_ends_with_it() -> None:
    answers = iter(
        [
            answer("activating", "1", journal="begun\n-- cursor: c1\n"),
            answer("inactive", journal="over\n-- cursor: c2\n"),
        ]
    )
    result, shown, commands = run_action(answers)
    assert shown == ["box: begun", "box: over"]
    assert commands[0] == f"systemctl start --no-block {UNIT}"
    assert not result.get("failed")
    assert result["units"] == [
        {"unit": UNIT, "result": "success", "status": 0, "lines": ["begun", "over"]}
    ]


def test_the_action_fails_with_what_the_unit_said() -> None:
    said = "lifeboat: the home is gone\n-- cursor: c\n"
    failed = answer("failed", result="exit-code", journal=said, ExecMainStatus="2")
    result, _shown, _commands = run_action(iter([failed]))
    assert result["failed"]
    assert "exit status 2" in result["msg"]
    assert "the home is gone" in result["msg"]


def test_the_action_in_check_mode_starts_nothing() -> None:
    result, shown, commands = run_action(iter([]), check_mode=True)
    assert (result["changed"], shown, commands) == (True, [], [])


def test_the_action_names_the_host_of_a_unit_that_is_missing() -> None:
    with pytest.raises(AnsibleError, match="box: There is no unit"):
        run_action(iter([answer("inactive", LoadState="not-found")]))


def test_progress_is_a_line_now_and_then() -> None:
    stream, times = io.StringIO(), iter([0.0, 5.0, 11.0, 12.0, 30.0, 60.0])
    progress = ProgressLines(stream, clock=lambda: next(times), every=10.0)
    for number in (1, 2, 3):
        progress.show("vault1", Progress(number, 1_500_000, 2_000, "home/x", False))
    progress.show("vault1", Progress(4, 3_000_000, 2_000, "home/y", False))
    progress.show("vault1", Progress(5, 0, 0, "", True))
    assert stream.getvalue().splitlines() == [
        "vault1: 2 files, 1.5 MB read, 2.0 kB new after 11 s",
        "vault1: 4 files, 3.0 MB read, 2.0 kB new after 30 s",
    ]


def test_a_summary_counts_by_class_and_names_what_is_unknown() -> None:
    status: dict[str, Any] = {
        "agent": "acme",
        "result": "warning",
        "archive": "acme-2026-11-23T01:00:00Z",
        "counts": {"keep": 9, "secret": 3, "scrub": 0},
        "bytes": {"keep": 16_400, "secret": 120},
        "repositories": {
            "vault1": {
                "success": True,
                "files": 6,
                "original_size": 82_900,
                "deduplicated_size": 5,
            },
            "vault2": {"success": False, "error": "Connection refused"},
        },
        "databases": [{"path": "state.db"}],
        "unknown": [{"path": f"new{i}", "decision": "kept", "reason": ""} for i in range(7)],
        "findings_count": 2,
        "problems": [{"error": False, "message": "odd", "hint": "look"}],
        "message": "vault2 has no archive",
        "hint": "",
    }
    assert summary(status, "box") == [
        "acme on box: warning, acme-2026-11-23T01:00:00Z",
        "        9 entries   16.4 kB  kept",
        "        3 entries     120 B  withheld as secrets",
        "  to vault1: 6 files, 82.9 kB, 5 B of them new",
        "  to vault2: FAILED, Connection refused",
        "  database: state.db",
        *[f"  unknown: new{i} (kept)" for i in range(5)],
        "  unknown: and 2 more",
        "  2 findings of the secret scan in kept text: lifeboat audit",
        "  warning: odd look",
        "  vault2 has no archive",
    ]
    assert summary({}, "box") == ["box: no backup was recorded"]


def test_nothing_waits_for_a_pager() -> None:
    """On the terminal that SSH may bring, systemctl would page, and wait for a key for ever."""
    for command in re.findall(
        r"(?:systemctl show|journalctl)\b[^|&;)]*", follow_command(Followed(UNIT))
    ):
        assert "--no-pager" in command
