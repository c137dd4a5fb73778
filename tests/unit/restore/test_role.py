# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role hands to the steps, and what it says when they fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles" / "restore"
RECORDS = "/var/lib/lifeboat-restore/acme"


def task(file: str, name: str) -> dict[str, Any]:
    found = yaml.safe_load((ROLE / "tasks" / file).read_text())
    return next(item for item in found if item["name"].startswith(name))


def rendered(text: str, **facts: Any) -> str:
    environment = jinja2.Environment(undefined=jinja2.ChainableUndefined, trim_blocks=True)
    return environment.from_string(text).render(facts)


@pytest.mark.parametrize(
    ("home", "kept"), [("/home/hermes/.hermes", RECORDS), ("/home/hermes/look", "OMITTED")]
)
def test_records_are_kept_of_the_agents_own_home_alone(home: str, kept: str) -> None:
    """A later paired=true judges by them: they must not speak of an archive that was looked into."""
    records = task("stage.yml", "Place copies")["lifeboat.agents.agent_restore"]["records"]
    agent = {"agent": "acme", "home": "/home/hermes/.hermes"}
    facts = {"restore_home": home, "restore_agent": agent, "__restore_records": RECORDS}
    assert rendered(records, omit="OMITTED", **facts) == kept
    manifest = task("report.yml", "State")["ansible.builtin.set_fact"]["restore_result"]["manifest"]
    expected = f"{RECORDS}/manifest.json" if kept == RECORDS else ""
    assert rendered(manifest, **facts) == expected


def failed(**target: Any) -> str:
    fail = task("failed.yml", "Fail with")["ansible.builtin.fail"]["msg"]
    return rendered(
        fail,
        ansible_failed_result={"msg": "No space left on device"},
        restore_request={"home": "/home/hermes/.hermes"},
        __restore_now={"target": target} if target else {},
    )


def test_a_failed_restore_says_how_to_free_what_it_took() -> None:
    said = failed(exists=True, bytes_staged=5_000_000)
    assert "as it stood before" in said
    assert "4.8 MiB" in said
    assert "-e abandon=true" in said
    assert "abandon" not in failed(exists=True, bytes_staged=0)
    assert "abandon" not in failed(exists=True, bytes_staged=5, in_mid_switch=True)


def test_a_home_that_could_not_be_looked_at_is_not_said_to_be_gone() -> None:
    assert "still no home" in failed(exists=False)
    assert "no home" not in failed()


def test_what_stands_already_is_not_said_to_be_still_staged() -> None:
    refuse = task("verify.yml", "Refuse to switch")["ansible.builtin.assert"]["fail_msg"]
    health = {"summary": "1 of 9 failed", "checks": []}
    for stands in (True, False):
        staged = {"stands": stands, "begun": "2026-11-01T03:00:00Z", "staged_home": "/h"}
        said = rendered(refuse, __restore_health=health, __restore_staged=staged)
        assert ("Nothing was switched" in said) is not stands
        assert ("begun 2026-11-01T03:00:00Z" in said) is stands


def told(**result: Any) -> str:
    restored = {
        "agent": "acme",
        "archive": "acme-2026-11-01T02:00:00Z",
        "home": "/home/hermes/.hermes",
        "home_real": "/home/hermes/.hermes",
        "begun": "2026-11-02T03:00:00Z",
        "phases": {},
        "folded": [],
        "applied": {},
        **result,
    }
    text = (ROLE / "templates" / "next_steps.txt.j2").read_text()
    return rendered(text, restore_result=restored, restore_request={"path": "/home/hermes/look"})


def test_who_only_completed_an_earlier_run_is_told_so() -> None:
    said = told(resumed=True)
    assert "acme was restored from acme-2026-11-01T02:00:00Z" in said
    assert "completed an earlier run, begun 2026-11-02T03:00:00Z" in said
    assert "To restore anew" in said
    assert "earlier" not in told(resumed=False)


def test_an_earlier_restore_that_was_cleaned_up_is_named() -> None:
    ended = {"archive": "acme-old", "home": "/home/hermes/look", "switched": "2026-10-01"}
    said = told(ended=ended)
    assert "acme-old to /home/hermes/look, stood there since 2026-10-01" in said


def test_a_home_behind_a_link_is_told_with_where_it_really_is() -> None:
    assert "/home/hermes/.hermes (really /disk/hermes)" in told(home_real="/disk/hermes")
    assert "really" not in told()
