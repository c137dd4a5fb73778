# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet: what an inventory means, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.fleet import (
    FleetError,
    accounts,
    escrow_facts,
    fleet,
    known_hosts,
    public_keys,
)

ACME = {"name": "acme", "profile": "hermes", "user": "hermes", "home": "/home/hermes/.hermes"}
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIexample"


def describe(
    *agents: Any, storage: tuple[str, ...] = ("vault1",), **repository: Any
) -> list[dict[str, Any]]:
    """The fleet of one box with these entries and one kind of storage host."""
    hostvars: dict[str, Any] = {"box": {"backup_agents": list(agents)}}
    hostvars.update(dict.fromkeys(storage, repository))
    return fleet(["box"], hostvars, storage)


def test_ten_lines_of_inventory_are_enough() -> None:
    (entry,) = describe(ACME)
    assert entry["agent"] == "acme"
    assert entry["host"] == "box"
    assert entry["unknown"] == "keep"
    assert (entry["rpo_target"], entry["rto_target"]) == ("26h", "1h")
    assert entry["repositories"] == [
        {
            "name": "vault1",
            "address": "vault1",
            "port": 22,
            "account": "lb-acme",
            "path": "/srv/lifeboat/repositories/acme",
            "url": "ssh://lb-acme@vault1:22/srv/lifeboat/repositories/acme",
            "quota": "20G",
        }
    ]


def test_a_storage_host_says_where_it_is() -> None:
    (entry,) = describe(
        ACME,
        repository_address="2001:db8::1",
        repository_port=23,
        repository_root="/mnt/pool",
        repository_quota="500M",
    )
    (repository,) = entry["repositories"]
    assert repository["url"] == "ssh://lb-acme@[2001:db8::1]:23/mnt/pool/repositories/acme"
    assert repository["quota"] == "500M"


def test_the_address_of_the_connection_is_the_second_choice() -> None:
    (entry,) = describe(ACME, ansible_host="192.0.2.7")
    assert entry["repositories"][0]["address"] == "192.0.2.7"


def test_the_first_storage_host_is_the_default_and_others_can_be_named() -> None:
    both = ["vault2", "vault1"]
    entries = describe(
        ACME,
        {**ACME, "name": "b", "home": "/home/hermes/.b", "repositories": both},
        storage=("vault1", "vault2"),
    )
    assert [r["name"] for r in entries[0]["repositories"]] == ["vault1"]
    assert [r["name"] for r in entries[1]["repositories"]] == both


def test_keys_of_the_inventory_that_are_not_ours_stay() -> None:
    (entry,) = describe({**ACME, "owner": "ops", "schedule": "hourly"})
    assert (entry["owner"], entry["schedule"]) == ("ops", "hourly")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "Acme"}, "name must begin with a letter"),
        ({"name": "a" * 25}, "24 characters"),
        ({"name": "a\n"}, "name must begin"),
        ({"home": ""}, "home missing"),
        ({"home": "hermes/.hermes"}, "absolute path"),
        ({"home": "/home/../etc"}, "absolute path"),
        ({"home": "/"}, "not /"),
        ({"home": "//"}, "not /"),
        ({"profile": "../hermes"}, "not the name of a file"),
        ({"user": None}, "user missing"),
        ({"user": "root"}, "user is root"),
        ({"user": "0"}, "not the name of a user"),
        ({"user": "hermes agent"}, "not the name of a user"),
        ({"shedule": "hourly"}, "schedule must be meant"),
        ({"unknown": "maybe"}, "keep, drop, refuse"),
        ({"rpo_target": "soon"}, "for example 26h"),
        ({"repositories": ["elsewhere"]}, "not a host of the group 'repositories' (vault1)"),
        ({"repositories": "vault1"}, "not a list"),
        ({"repositories": ["vault1", "vault1"]}, "named twice"),
    ],
)
def test_an_entry_that_cannot_work_is_refused_with_its_place(
    changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(FleetError, match="host box, agent ") as refused:
        describe({**ACME, **changed})
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"repository_quota": "much"}, "for example 20G"),
        ({"repository_root": "/srv/life boat"}, "plain characters"),
        ({"repository_root": 'x";id'}, "plain characters"),
        ({"repository_address": "a b"}, "no host name"),
        ({"repository_address": "-oProxyCommand=x"}, "no host name"),
    ],
)
def test_a_storage_host_that_cannot_work_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(FleetError) as refused:
        describe(ACME, **changed)
    assert said in str(refused.value)


@pytest.mark.parametrize("name", ["2001:db8::1", "vault 1", "../vault", "-vault", "vault%1"])
def test_a_storage_host_whose_name_names_no_folder_is_refused(name: str) -> None:
    """Its name is part of paths and of the names of credentials, where systemd takes no colon."""
    with pytest.raises(FleetError, match="its address as ansible_host"):
        describe(ACME, storage=(name,))


def test_everything_that_is_wrong_is_said_at_once() -> None:
    hostvars: dict[str, Any] = {
        "one": {"backup_agents": [{**ACME, "name": "1"}]},
        "two": {},
        "three": {"backup_agents": "acme"},
        "four": {"backup_agents": ["acme"]},
        "vault1": {},
    }
    with pytest.raises(FleetError) as refused:
        fleet(["one", "two", "three", "four"], hostvars, ["vault1"])
    for host in ("one", "two", "three", "four"):
        assert f"host {host}" in str(refused.value)


def test_a_name_is_unique_in_the_fleet() -> None:
    hostvars = {"a": {"backup_agents": [ACME]}, "b": {"backup_agents": [ACME]}, "vault1": {}}
    with pytest.raises(FleetError, match="agent acme is declared on a, b"):
        fleet(["a", "b"], hostvars, ["vault1"])


def test_two_agents_do_not_share_a_home() -> None:
    with pytest.raises(FleetError, match="share the home"):
        describe(ACME, {**ACME, "name": "widget"})


@pytest.mark.parametrize("groups", [([], ["vault1"]), (["box"], [])])
def test_an_empty_group_is_refused(groups: tuple[list[str], list[str]]) -> None:
    with pytest.raises(FleetError, match="has no hosts"):
        fleet(groups[0], {"box": {"backup_agents": [ACME]}, "vault1": {}}, groups[1])


def test_accounts_are_those_that_name_the_host_and_unknown_keys_stay_unknown() -> None:
    other = {**ACME, "name": "b", "home": "/h/b", "repositories": ["vault2"]}
    entries = describe(ACME, other, storage=("vault1", "vault2"))
    hostvars = {"box": {"backup_public_keys": {"acme": {"vault1": ED25519}, "b": {"vault2": ""}}}}
    keys = public_keys(entries, hostvars)
    assert accounts(entries, "vault1", keys) == [
        {
            "agent": "acme",
            "name": "lb-acme",
            "path": "/srv/lifeboat/repositories/acme",
            "quota": "20G",
            "public_key": ED25519,
        }
    ]
    assert [a["public_key"] for a in accounts(entries, "vault2", keys)] == [None]
    assert accounts(entries, "vault1", public_keys(entries, {"box": {}}))[0]["public_key"] is None


def test_the_escrow_gets_what_the_run_knows_and_nothing_empty() -> None:
    (entry,) = describe(ACME)
    seen: dict[str, Any] = {
        "box": {"backup_public_keys": {"acme": {"vault1": ED25519}}},
        "vault1": {"repository_host_keys": [ED25519]},
    }
    facts = escrow_facts(entry, seen)
    assert facts["home"] == "/home/hermes/.hermes"
    assert facts["repositories"]["vault1"] == {
        "url": "ssh://lb-acme@vault1:22/srv/lifeboat/repositories/acme",
        "host_keys": [ED25519],
        "box_public_key": ED25519,
    }
    unseen = escrow_facts(entry, {"box": {}, "vault1": {}})
    assert list(unseen["repositories"]["vault1"]) == ["url"]


def test_known_hosts_names_the_port_where_it_is_another() -> None:
    assert known_hosts("vault1", 22, [f"{ED25519} root@vault1"]) == f"vault1 {ED25519}\n"
    assert known_hosts("vault1", 23, [ED25519]) == f"[vault1]:23 {ED25519}\n"
