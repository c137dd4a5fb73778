# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which logins an agent needs again, and whether it has them."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.lifeboat.agents.plugins.module_utils import restore_pairing
from ansible_collections.lifeboat.agents.plugins.module_utils.health_account import Outcome, Tools
from ansible_collections.lifeboat.agents.plugins.module_utils.privilege import Identity
from ansible_collections.lifeboat.agents.plugins.modules import agent_pairing_info

ROOT = Path(__file__).resolve().parents[3]
ME = pwd.getpwuid(os.geteuid()).pw_name


def profile(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "profiles" / f"{name}.yml").read_text("utf-8"))
    return found


def commands(name: str, *withheld: str) -> list[str]:
    return [step.command for step in restore_pairing.plan(profile(name), list(withheld)).steps]


def test_only_what_was_left_out_is_asked_for() -> None:
    assert commands("hermes") == []
    assert commands("hermes", "shared/nous_auth.json") == [
        "hermes auth add nous --type oauth --no-browser"
    ]
    assert commands("hermes", "platforms/whatsapp/session/", "mcp-tokens/") == [
        "hermes mcp reauth --all",
        "hermes whatsapp",
    ]


def test_a_nested_home_has_commands_of_its_own() -> None:
    assert commands("hermes", "auth.json", "profiles/helper/auth.json") == [
        "hermes auth add PROVIDER --type oauth --no-browser",
        "hermes -p helper auth add PROVIDER --type oauth --no-browser",
    ]
    assert commands("hermes", "profiles/$(reboot)/auth.json") == [
        "hermes -p NAME auth add PROVIDER --type oauth --no-browser"
    ]


def test_what_no_step_speaks_of_is_named() -> None:
    plan = restore_pairing.plan(
        profile("hermes"), ["google_token.json", ".env", "profiles/helper/.env", "auth.json"]
    )
    assert plan.others == ("google_token.json",)


def test_a_step_without_a_condition_is_always_listed() -> None:
    told = commands("openclaw")
    assert "openclaw models auth login" in told
    assert commands("generic", "secrets.json") == []
    assert restore_pairing.plan({}, "nonsense") == restore_pairing.Plan((), ())


class Answering:
    """Stands for the agent's own command."""

    def __init__(self, output: str, timed_out: bool = False) -> None:
        self.output = output
        self.timed_out = timed_out
        self.asked: list[list[str]] = []

    def __call__(
        self, account: Identity, argv: Sequence[str], env: Mapping[str, str], timeout: float
    ) -> Outcome:
        self.asked.append(list(argv))
        return Outcome(0, self.output, self.timed_out)


def asked(tmp_path: Path, answering: Answering, *withheld: str) -> dict[str, Any]:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"withheld": list(withheld)}))
    parameters = {
        "home": "/nowhere/home",
        "user": ME,
        "profile": profile("hermes"),
        "manifest": str(manifest),
        "prove": True,
        "timeout": 5.0,
    }
    return agent_pairing_info.told(parameters, Tools(run_command=answering))


@pytest.mark.parametrize(
    ("output", "says"),
    [("nous: logged out\n", "nous: logged out"), ("", "nothing"), ("Traceback", "Traceback")],
)
def test_a_login_that_the_agent_does_not_have_is_told(
    tmp_path: Path, output: str, says: str
) -> None:
    answer = asked(tmp_path, Answering(output), "shared/nous_auth.json")
    (missing,) = answer["unpaired"]
    assert missing == {
        "command": "hermes auth add nous --type oauth --no-browser",
        "asked": "hermes auth status nous",
        "says": says,
    }


def test_a_login_that_is_there_is_good(tmp_path: Path) -> None:
    answering = Answering("nous: logged in\n")
    assert asked(tmp_path, answering, "shared/nous_auth.json", "auth.json")["unpaired"] == []
    assert answering.asked == [["hermes", "auth", "status", "nous"]]


def test_an_agent_is_not_asked_for_what_it_never_had(tmp_path: Path) -> None:
    answering = Answering("nous: logged out\n")
    assert asked(tmp_path, answering, "auth.json")["unpaired"] == []
    assert answering.asked == []


def test_an_agent_that_does_not_answer_in_time_is_not_paired(tmp_path: Path) -> None:
    answering = Answering("nous: logged out", timed_out=True)
    (missing,) = asked(tmp_path, answering, "shared/nous_auth.json")["unpaired"]
    assert missing["says"] == "nothing in time"


def test_without_a_manifest_nothing_was_withheld(tmp_path: Path) -> None:
    assert agent_pairing_info.withheld(tmp_path / "none.json") == []
