# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a night of the role ends, played by Ansible itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.lifeboat.agents.plugins.module_utils.spelling import misspelt

ROOT = Path(__file__).resolve().parents[3]
TASKS = ROOT / "roles" / "custody" / "tasks"


def played(folder: Path, tasks: Any, *, path: str = "", **variables: Any) -> tuple[int, str]:
    """Play tasks on the controller, with programs from ``path``; the exit code and what was said."""
    play = {"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": tasks}
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), str(folder / "play.yml")],
        env={
            "PATH": f"{path}:/usr/bin:/bin".lstrip(":"),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_NOCOLOR": "1",
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,  # its end is given to the test
    )
    return done.returncode, done.stdout + done.stderr


AGENT = {
    "custody_agent": {"agent": "acme"},
    "custody_repository": {"name": "vault1"},
}


@pytest.mark.parametrize(
    "refused", [None, "retention deletes nothing: let it through: custody.yml"]
)
def test_a_plan_that_waits_for_a_person_ends_red(tmp_path: Path, refused: str | None) -> None:
    plan = {"keep": [], "remove": [], "quarantined": [], "stopped": "a pause", "refused": refused}
    code, said = played(
        tmp_path,
        yaml.safe_load((TASKS / "report.yml").read_text()),
        **AGENT,
        __custody_decided={"summary": "one stays", "findings": []},
        __custody_found="no finding",
        __custody_known={"last": {"accepted": None}},
        __custody_night={"plan": plan, "blocked": None, "compact_reason": "none"},
    )
    assert code == (2 if refused else 0), said
    assert ("let it through: custody.yml with -e agent=acme -e repository=vault1" in said) == bool(
        refused
    )


def test_status_tells_of_a_plan_that_waits() -> None:
    tasks = yaml.safe_load((TASKS / "status.yml").read_text())
    gather = next(one for one in tasks if one["name"].startswith("Gather what is not"))
    assert "[__custody_known.retention]" in gather["ansible.builtin.set_fact"]["__custody_problems"]


def test_what_lets_a_plan_through_once_is_no_misspelt_argument() -> None:
    begin = yaml.safe_load((ROOT / "playbooks" / "custody.yml").read_text())[0]
    known = begin["vars"]["custody_arguments"]
    assert misspelt(["custody_retention_remove_at_most"], known) == []


@pytest.mark.parametrize(
    ("targets", "more", "refused"),
    [
        (["custody-acme-one", "custody-acme-two"], {"resolve": "the clock"}, True),
        (["custody-acme-one"], {"resolve": "the clock"}, False),
        (["custody-acme-one", "custody-acme-two"], {}, False),
    ],
)
def test_an_explanation_is_about_one_repository(
    tmp_path: Path, targets: list[str], more: dict[str, str], refused: bool
) -> None:
    plays = yaml.safe_load((ROOT / "playbooks" / "custody.yml").read_text())
    tasks = next(one["tasks"] for one in plays if one["name"].startswith("Name what"))
    named = [
        {"ansible.builtin.add_host": {"name": one, "groups": ["custody_targets"]}}
        for one in targets
    ]
    code, said = played(tmp_path, [*named, tasks[-1]], **more)
    assert code == (2 if refused else 0), said
    assert ("-e agent=NAME -e repository=HOST" in said) == refused


def test_two_runs_at_a_provider_are_kept_apart(tmp_path: Path) -> None:
    """No host of ours closes the repository there, so the trusted side keeps its own runs apart."""
    base = tmp_path / "state" / "acme" / "vault1"

    def run(tasks: str, token: str, seconds: int = 600, **more: Any) -> tuple[int, str]:
        role = {"name": "lifeboat.agents.custody", "tasks_from": tasks}
        return played(
            tmp_path,
            [{"ansible.builtin.include_role": role}],
            **AGENT,
            __custody_scan=True,
            __custody_run=token,
            __custody_base=str(base),
            __custody_lock="/nonexistent/lock",
            __custody_host="vault1",
            custody_lockout_seconds=seconds,
            ansible_python_interpreter=sys.executable,
            **more,
        )

    code, said = run("close", "first")
    assert code == 0, said
    code, said = run("close", "second")
    assert code == 2, said
    assert "another maintenance (first) keeps the repository closed" in said
    assert f"remove {base}/run.closed" in said
    assert run("reopen", "second")[0] == 0, "it lets go of nothing that is not its own"
    code, said = run("delete", "second", __custody_deletions=[])
    assert code == 2
    assert "another maintenance (first)" in said
    assert run("reopen", "first")[0] == 0
    assert run("close", "second", seconds=0)[0] == 0
    code, said = run("close", "third")
    assert code == 0, "a run that died holds it until its time is over, no longer: " + said
