# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments of restore.yml: everything that is wrong is said at once, with what would be right."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.filter.restore_request import restore_request
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_request import (
    ARGUMENTS,
    read,
)

FLEET = [
    {
        "agent": "acme",
        "host": "acme-agent",
        "home": "/home/hermes/.hermes",
        "user": "hermes",
        "repositories": [{"name": "vault1"}, {"name": "vault2"}],
    },
    {"agent": "widget", "host": "box2", "home": "/home/w/.hermes", "repositories": []},
]
HOSTS = ["acme-agent", "box2", "vault1", "vault2", "new"]


def asked(**given: Any) -> dict[str, Any]:
    return read({"agent": "acme", "target": "acme-agent", **given}, FLEET, HOSTS)


def test_the_defaults_are_the_careful_ones() -> None:
    request = asked()
    assert request["archive"] == "latest"
    assert request["repository"] == {"name": "vault1"}
    assert request["home"] == "/home/hermes/.hermes"
    assert request["is_the_box"] is True
    assert request["pair"] == "wait"
    for name in (
        "dry_run",
        "replace",
        "start",
        "undo",
        "new_box",
        "abandon",
        "unhealthy",
        "paired",
    ):
        assert request[name] is False


def test_words_become_values() -> None:
    request = asked(
        replace="yes", dry_run="True", only=" memories/USER.md, sessions/ ", repository="vault2"
    )
    assert request["replace"] is True
    assert request["dry_run"] is True
    assert request["only"] == ("memories/USER.md", "sessions")
    assert request["repository"]["name"] == "vault2"
    assert asked(only=["a", "b"])["only"] == ("a", "b")
    assert asked(only="memories/USER.md,memories,memories/")["only"] == ("memories",)


def test_a_path_is_for_looking() -> None:
    request = asked(target="new:/srv/look")
    assert (request["host"], request["path"], request["home"]) == ("new", "/srv/look", "/srv/look")
    assert request["is_the_box"] is False


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"agent": ""}, "agent is missing.*acme, widget"),
        ({"agent": "acne"}, "agent='acne' is not in the inventory.*acme, widget"),
        ({"target": ""}, "target is missing.*own box is acme-agent"),
        ({"target": "nowhere"}, "target='nowhere' is not a host.*acme-agent, box2"),
        ({"target": "new:relative"}, "absolute path"),
        ({"target": "new:/"}, "absolute path"),
        ({"repository": "vault9"}, "holds nothing of 'acme'.*vault1, vault2"),
        ({"dry_run": "maybe"}, "dry_run='maybe' is neither true nor false"),
        ({"replace": 7}, "replace=7 is neither"),
        ({"pair": "never"}, "pair='never' is unknown; it is one of wait, later"),
        ({"only": "../etc"}, "only='../etc' must be a path below the home"),
        ({"only": "/etc/passwd"}, "must be a path below"),
        ({"only": "."}, "only='.' must be a path below the home"),
        ({"only": "./"}, "must be a path below"),
        ({"only": "/"}, "only='/' must be a path below"),
        ({"only": "SOUL.md,."}, "only='.' must be a path below"),
        ({"only": ","}, "only=',' names no path"),
        ({"at": "yesterday"}, "'yesterday' is not a date"),
        ({"at": "2026-13-01"}, "not a date or time"),
        ({"at": "2026-11-01", "archive": "acme-x"}, "archive and at were both given"),
        ({"archive": ["a"]}, "archive=.* must be text"),
        ({"undo": "true", "dry_run": "true"}, "undo and dry_run do not go together"),
        ({"undo": "true", "only": "a"}, "undo and only"),
        ({"abandon": "true", "undo": "true"}, "undo and abandon"),
        ({"paired": "true", "at": "2026-11-01"}, "paired and at"),
        ({"target": "new:/srv/x", "start": "true"}, "start makes no sense"),
        ({"only": "a", "new_box": "true"}, "only restores paths into a home that is there"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_can(given: dict[str, Any], said: str) -> None:
    with pytest.raises(RestoreError, match=said):
        asked(**given)


def test_all_problems_come_at_once() -> None:
    with pytest.raises(RestoreError) as caught:
        read({"agent": "x", "target": "y", "pair": "z"}, FLEET, HOSTS)
    assert len(caught.value.failure["problems"]) == 3


def test_the_filter_returns_the_refusal_for_one_plain_message() -> None:
    assert restore_request({"agent": "acme", "target": "new"}, FLEET, HOSTS)["refusal"] == ""
    refused = restore_request({}, FLEET, HOSTS)
    assert list(refused) == ["refusal"]
    assert refused["refusal"].startswith("Nothing was changed. agent is missing")


def test_the_playbook_hands_on_every_argument() -> None:
    from pathlib import Path

    playbook = Path(__file__).resolve().parents[3] / "playbooks/restore.yml"
    text = playbook.read_text(encoding="utf-8")
    for name in ARGUMENTS:
        assert f'{name}: "{{{{ {name} | default(none) }}}}"' in text, name
