# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory as all playbooks read it: defaults filled in, nonsense refused with advice."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.lifeboat.agents.plugins.filter.decision import FilterModule as Decisions
from ansible_collections.lifeboat.agents.plugins.filter.fleet import FilterModule
from ansible_collections.lifeboat.agents.plugins.filter.profile import FilterModule as Profiles

FILTERS = FilterModule().filters()
ACME = {"name": "acme", "profile": "hermes", "user": "hermes", "home": "/home/hermes/.hermes"}


def fleet(*agents: Any, storage: tuple[str, ...] = ("vault1",), **variables: Any) -> Any:
    """The fleet of one box with these agents."""
    hostvars = {"box": {"backup_agents": list(agents)}, **dict.fromkeys(storage, variables)}
    return FILTERS["fleet"](["box"], hostvars, list(storage))


def test_the_shortest_inventory_gets_every_default() -> None:
    assert fleet(ACME) == [
        {
            "agent": "acme",
            "host": "box",
            "profile": "hermes",
            "user": "hermes",
            "home": "/home/hermes/.hermes",
            "unknown": "keep",
            "rpo_target": "26h",
            "rto_target": "1h",
            "repositories": [
                {
                    "name": "vault1",
                    "address": "vault1",
                    "port": 22,
                    "account": "lb-acme",
                    "path": "/srv/lifeboat/repositories/acme",
                    "url": "ssh://lb-acme@vault1:22/srv/lifeboat/repositories/acme",
                    "quota": "20G",
                }
            ],
        }
    ]


def test_what_the_storage_host_says_of_itself_is_used() -> None:
    (entry,) = fleet(
        ACME,
        ansible_host="192.0.2.1",
        repository_address="2001:db8::1",
        repository_port=2222,
        repository_root="/data/",
        repository_quota="2T",
    )
    (repository,) = entry["repositories"]
    assert repository["url"] == "ssh://lb-acme@[2001:db8::1]:2222/data/repositories/acme"
    assert repository["quota"] == "2T"


def test_further_keys_of_an_agent_stay_and_two_repositories_are_two() -> None:
    wanted = {**ACME, "repositories": ["vault2", "vault1"], "profile_overrides": {"rules": []}}
    (entry,) = fleet(wanted, storage=("vault1", "vault2"))
    assert [repository["name"] for repository in entry["repositories"]] == ["vault2", "vault1"]
    assert entry["profile_overrides"] == {"rules": []}


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({"name": "Acme"}, "must begin with a letter"),
        ({"name": "a" * 25}, "24 characters at most"),
        ({"home": ".hermes"}, "must be an absolute path"),
        ({"home": "/home/../etc"}, "must be an absolute path"),
        ({"home": "/"}, "not /"),
        ({"user": "root"}, "give it a user"),
        ({"user": None}, "user missing"),
        ({"profile": "../x"}, "not the name of a file in profiles/"),
        ({"unknown": "maybe"}, "keep, drop, refuse"),
        ({"rpo_target": "soon"}, "write a number with s, m, h or d"),
        ({"repositories": "vault1"}, "Write repositories: [vault1]"),
        ({"repositories": ["vault9"]}, "'vault9' is not a host of the group 'repositories'"),
        ({"repositories": ["vault1", "vault1"]}, "named twice"),
    ],
)
def test_an_agent_that_cannot_work_is_refused_with_advice(
    change: dict[str, Any], advice: str
) -> None:
    with pytest.raises(AnsibleFilterError) as refused:
        fleet({**ACME, **change})
    assert advice in str(refused.value)
    assert "host box" in str(refused.value)


@pytest.mark.parametrize(
    ("variables", "advice"),
    [
        ({"repository_quota": "lots"}, "a number with K, M, G or T"),
        ({"repository_root": "srv"}, "must be an absolute path"),
        ({"repository_root": "/srv/a b"}, "plain characters"),
        ({"repository_address": "-oProxyCommand=x"}, "no host name or address"),
        ({"repository_port": "ssh"}, "repository_port"),
    ],
)
def test_a_storage_host_that_cannot_work_is_refused_with_advice(
    variables: dict[str, Any], advice: str
) -> None:
    with pytest.raises(AnsibleFilterError) as refused:
        fleet(ACME, **variables)
    assert advice in str(refused.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    hostvars = {
        "one": {"backup_agents": [ACME]},
        "two": {"backup_agents": [ACME, {**ACME, "name": "beta"}]},
        "three": {},
        "four": {"backup_agents": "acme"},
        "five": {"backup_agents": ["acme"]},
        "vault1": {},
    }
    with pytest.raises(AnsibleFilterError) as refused:
        FILTERS["fleet"](["one", "two", "three", "four", "five"], hostvars, ["vault1"])
    text = str(refused.value)
    assert "agent acme is declared on one, two" in text
    assert "host two: agents acme, beta share the home /home/hermes/.hermes" in text
    assert "host three: no backup_agents" in text
    assert "host four: backup_agents is not a list" in text
    assert "host five: an entry of backup_agents is not a mapping" in text


@pytest.mark.parametrize(
    ("hosts", "storage", "group"), [([], ["vault1"], "'agents'"), (["box"], [], "'repositories'")]
)
def test_an_empty_group_is_named(hosts: list[str], storage: list[str], group: str) -> None:
    with pytest.raises(AnsibleFilterError, match=f"group {group} has no hosts"):
        FILTERS["fleet"](hosts, {"box": {"backup_agents": [ACME]}}, storage)


def test_a_storage_host_serves_its_own_agents_with_the_keys_that_are_known() -> None:
    beta = {**ACME, "name": "beta", "home": "/home/beta", "repositories": ["vault2"]}
    entries = fleet(ACME, beta, storage=("vault1", "vault2"))
    hostvars = {"box": {"backup_public_keys": {"acme": {"vault1": "ssh-ed25519 AAAA acme"}}}}
    accounts = FILTERS["fleet_accounts"]
    assert [a["public_key"] for a in accounts(entries, "vault1", hostvars)] == [
        "ssh-ed25519 AAAA acme"
    ]
    # A box that did not report in this run keeps the key it has there.
    (known_later,) = accounts(entries, "vault2", hostvars)
    assert (known_later["name"], known_later["public_key"]) == ("lb-beta", None)


def test_the_escrow_gets_what_the_run_knows_and_nothing_empty() -> None:
    (entry,) = fleet(ACME)
    facts = FILTERS["escrow_facts"](entry, {"box": {}, "vault1": {"repository_host_keys": ["k"]}})
    assert facts["repositories"]["vault1"] == {
        "url": entry["repositories"][0]["url"],
        "host_keys": ["k"],
    }
    assert facts["home"] == ACME["home"]


@pytest.mark.parametrize(
    ("port", "name"), [(22, "vault1"), ("22", "vault1"), (2222, "[vault1]:2222")]
)
def test_host_keys_are_pinned_under_the_name_that_ssh_looks_up(port: Any, name: str) -> None:
    known = FILTERS["known_hosts"]("vault1", port, ["ssh-ed25519 AAAA a comment"])
    assert known == f"{name} ssh-ed25519 AAAA\n"


def test_a_profile_that_is_wrong_is_an_error_of_the_filter() -> None:
    check = Profiles().filters()["profile"]
    good = {"format": 1, "name": "x", "rules": [{"match": "memories/", "class": "keep"}]}
    assert check(good)["name"] == "x"
    with pytest.raises(AnsibleFilterError, match="profile: "):
        check({**good, "rules": [{"match": "memories/", "class": "precious"}]})


def test_a_decision_about_an_archive_is_one_line() -> None:
    entry = {"server_time": "2026-11-01T02:00:00Z", "name": "acme-1", "reason": "daily"}
    line = Decisions().filters()["decision"](entry, "keep")
    assert line.split() == ["keep", "2026-11-01T02:00:00Z", "acme-1", "daily"]
