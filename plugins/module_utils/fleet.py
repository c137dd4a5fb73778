# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet as the inventory describes it: agents, their boxes and their repositories.

Every playbook asks here, so a default or a refusal is written once. Nothing is looked up on a
host: an entry is what the inventory says, checked, with the defaults filled in.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .spelling import misspelt

AGENT_NAME = re.compile(r"[a-z][a-z0-9-]{0,23}")
USER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
STORAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
PROFILE_NAME = re.compile(r"[a-z][a-z0-9_-]*")
QUOTA = re.compile(r"[1-9][0-9]*[KMGT]")
ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]*")
SAFE_PATH = re.compile(r"(/[A-Za-z0-9._+@-]+)+")
DURATION = re.compile(r"[1-9][0-9]*[smhd]")

ENTRY_KEYS = (
    *("name", "profile", "user", "home", "repositories", "unknown", "schedule", "rpo_target"),
    *("rto_target", "database_mode", "compression", "chunker_params", "ping_url"),
    *("accepted_findings", "profile_overrides"),
)
UNKNOWN_DECISIONS = ("keep", "drop", "refuse")
ACCOUNT_PREFIX = "lb-"
DEFAULT_ROOT = "/srv/lifeboat"
DEFAULT_QUOTA = "20G"
DEFAULT_RPO_TARGET = "26h"
DEFAULT_RTO_TARGET = "1h"
EXAMPLE = "backup_agents: [{name: acme, profile: hermes, user: hermes, home: /home/hermes/.hermes}]"


class FleetError(Exception):
    """The inventory does not describe a fleet that can be backed up."""


@dataclass(frozen=True)
class Repository:
    """One agent's repository on one storage host."""

    name: str
    address: str
    port: int
    account: str
    path: str
    url: str
    quota: str


@dataclass(frozen=True)
class Agent:
    """One agent on one box, with the repositories that hold its history."""

    agent: str
    host: str
    profile: str
    user: str
    home: str
    unknown: str
    rpo_target: str
    rto_target: str
    repositories: tuple[Repository, ...]


def fleet(
    agent_hosts: Iterable[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    repository_hosts: Iterable[str] = (),
) -> list[dict[str, Any]]:
    """Describe every agent on the given hosts, or say all that is wrong with the inventory."""
    hosts = [str(host) for host in agent_hosts]
    storage = [str(host) for host in repository_hosts]
    if not hosts:
        raise FleetError(
            "The inventory group 'agents' has no hosts: is it the right inventory? Put the boxes "
            f"with an agent into it, each with {EXAMPLE}"
        )
    if not storage:
        raise FleetError(
            "The inventory group 'repositories' has no hosts. Put at least one storage host into it."
        )
    problems: list[str] = []
    entries: list[dict[str, Any]] = []
    for host in hosts:
        for raw in _declared(host, hostvars[host], problems):
            try:
                entries.append(_entry(host, raw, hostvars, storage))
            except FleetError as error:
                problems.append(str(error))
    problems += _duplicates(entries)
    if problems:
        raise FleetError("\n".join(["The inventory cannot be used:", *problems]))
    return entries


def accounts(
    entries: Iterable[Mapping[str, Any]],
    repository_host: str,
    public_keys: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """List what one storage host has to serve; a key that is not known stays as it is there."""
    return [
        {
            "agent": entry["agent"],
            "name": repository["account"],
            "path": repository["path"],
            "quota": repository["quota"],
            "public_key": (public_keys.get(entry["agent"]) or {}).get(repository_host) or None,
        }
        for entry in entries
        for repository in entry["repositories"]
        if repository["name"] == repository_host
    ]


def public_keys(
    entries: Iterable[Mapping[str, Any]], hostvars: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Gather the keys that the boxes reported earlier in this run, by agent and repository."""
    hosts = sorted({str(entry["host"]) for entry in entries})
    merged: dict[str, Any] = {}
    for host in hosts:
        merged.update(hostvars[host].get("backup_public_keys") or {})
    return merged


def escrow_facts(
    entry: Mapping[str, Any], hostvars: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What a run knows of an agent that its escrow has to hold; what it does not know is left out."""
    reported = hostvars[str(entry["host"])].get("backup_public_keys") or {}
    keys = reported.get(entry["agent"]) or {}
    repositories: dict[str, Any] = {}
    for repository in entry["repositories"]:
        name = repository["name"]
        facts = {
            "url": repository["url"],
            "host_keys": hostvars[name].get("repository_host_keys"),
            "box_public_key": keys.get(name),
        }
        repositories[name] = {key: value for key, value in facts.items() if value}
    return {
        **{key: entry[key] for key in ("agent", "profile", "user", "home", "host")},
        "repositories": repositories,
    }


def known_hosts(address: str, port: int, host_keys: Iterable[str]) -> str:
    """Render the lines of a known_hosts file for one repository."""
    name = address if int(port) == 22 else f"[{address}]:{port}"
    return "".join(f"{name} {' '.join(str(key).split()[:2])}\n" for key in host_keys)


def _declared(host: str, variables: Mapping[str, Any], problems: list[str]) -> list[dict[str, Any]]:
    declared = variables.get("backup_agents")
    if not declared:
        problems.append(
            f"- host {host}: no backup_agents. Add {EXAMPLE}, or take it out of 'agents'."
        )
        return []
    if isinstance(declared, (str, Mapping)) or not isinstance(declared, Iterable):
        problems.append(f"- host {host}: backup_agents is not a list. Write {EXAMPLE}")
        return []
    good = [dict(item) for item in declared if isinstance(item, Mapping)]
    if len(good) != len(list(declared)):
        problems.append(
            f"- host {host}: an entry of backup_agents is not a mapping. Write {EXAMPLE}"
        )
    return good


def _entry(
    host: str,
    raw: Mapping[str, Any],
    hostvars: Mapping[str, Mapping[str, Any]],
    storage: list[str],
) -> dict[str, Any]:
    where = f"- host {host}, agent {raw.get('name', '(no name)')}"
    missing = [key for key in ("name", "profile", "user", "home") if not raw.get(key)]
    if missing:
        raise FleetError(f"{where}: {', '.join(missing)} missing. Example: {EXAMPLE}")
    for key, meant in misspelt(map(str, raw), ENTRY_KEYS):
        raise FleetError(f"{where}: {key} is read by nobody, {meant} must be meant.")
    name = str(raw["name"])
    _require(
        bool(AGENT_NAME.fullmatch(name)),
        f"{where}: the name must begin with a letter and hold only a-z, 0-9 and '-', "
        "24 characters at most.",
    )
    agent = Agent(
        agent=name,
        host=host,
        profile=str(raw["profile"]),
        user=str(raw["user"]),
        home=_home(str(raw["home"]), where),
        unknown=str(raw.get("unknown", "keep")),
        rpo_target=str(raw.get("rpo_target", DEFAULT_RPO_TARGET)),
        rto_target=str(raw.get("rto_target", DEFAULT_RTO_TARGET)),
        repositories=_repositories(name, raw, hostvars, storage, where),
    )
    _check(agent, where)
    described = asdict(agent)
    described["repositories"] = [asdict(repository) for repository in agent.repositories]
    extra = {key: value for key, value in raw.items() if key not in described and key != "name"}
    return {**extra, **described}


def _check(agent: Agent, where: str) -> None:
    _require(
        bool(PROFILE_NAME.fullmatch(agent.profile)),
        f"{where}: profile {agent.profile!r} is not the name of a file in profiles/.",
    )
    _require(
        agent.unknown in UNKNOWN_DECISIONS,
        f"{where}: unknown is {agent.unknown!r}, it may be {', '.join(UNKNOWN_DECISIONS)}.",
    )
    _require(
        bool(USER_NAME.fullmatch(agent.user)),
        f"{where}: user {agent.user!r} is not the name of a user.",
    )
    for key, value in (("rpo_target", agent.rpo_target), ("rto_target", agent.rto_target)):
        _require(
            bool(DURATION.fullmatch(value)),
            f"{where}: {key} is {value!r}, write a number with s, m, h or d, for example 26h.",
        )
    _require(
        agent.user != "root",
        f"{where}: user is root. An agent that is root can read its own backup key: give it a user.",
    )


def _home(home: str, where: str) -> str:
    _require(
        posixpath.isabs(home) and ".." not in home.split("/") and "\n" not in home,
        f"{where}: home {home!r} must be an absolute path, for example /home/hermes/.hermes.",
    )
    clean = "/" + posixpath.normpath(home).lstrip("/")
    _require(clean != "/", f"{where}: home must be the agent's own directory, not /.")
    return clean


def _repositories(
    agent: str,
    raw: Mapping[str, Any],
    hostvars: Mapping[str, Mapping[str, Any]],
    storage: list[str],
    where: str,
) -> tuple[Repository, ...]:
    names = raw.get("repositories") or storage[:1]
    if isinstance(names, (str, Mapping)):
        raise FleetError(f"{where}: repositories is not a list. Write repositories: [{storage[0]}]")
    wanted = [str(name) for name in names]
    for name in wanted:
        _require(
            name not in storage or bool(STORAGE_NAME.fullmatch(name)),
            f"{where}: the storage host {name!r} names folders and credentials. Give it a name of "
            "a-z, 0-9, '.', '_' and '-' in the inventory, and its address as ansible_host.",
        )
        _require(
            name in storage,
            f"{where}: repository {name!r} is not a host of the group 'repositories' "
            f"({', '.join(storage)}).",
        )
    _require(len(set(wanted)) == len(wanted), f"{where}: a repository is named twice.")
    return tuple(_repository(agent, name, hostvars[name], where) for name in wanted)


def _repository(agent: str, name: str, variables: Mapping[str, Any], where: str) -> Repository:
    address = str(variables.get("repository_address") or variables.get("ansible_host") or name)
    port = str(variables.get("repository_port") or 22)
    root = posixpath.normpath(str(variables.get("repository_root") or DEFAULT_ROOT))
    quota = str(variables.get("repository_quota") or DEFAULT_QUOTA)
    place = f"{where}, repository {name}"
    _require(
        bool(ADDRESS.fullmatch(address)),
        f"{place}: repository_address {address!r} is no host name or address.",
    )
    _require(
        port.isascii() and port.isdigit() and 0 < int(port) < 65536,
        f"{place}: repository_port {port!r} is no port number.",
    )
    _require(
        bool(SAFE_PATH.fullmatch(root)),
        f"{place}: repository_root {root!r} must be an absolute path of plain characters.",
    )
    _require(
        bool(QUOTA.fullmatch(quota)),
        f"{place}: repository_quota {quota!r} must be a number with K, M, G or T, for example 20G.",
    )
    account = ACCOUNT_PREFIX + agent
    path = f"{root}/repositories/{agent}"
    host = f"[{address}]" if ":" in address else address
    url = f"ssh://{account}@{host}:{port}{path}"
    return Repository(name, address, int(port), account, path, url, quota)


def _duplicates(entries: list[dict[str, Any]]) -> list[str]:
    places: dict[str, list[str]] = {}
    homes: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        places.setdefault(entry["agent"], []).append(entry["host"])
        homes.setdefault((entry["host"], entry["home"]), []).append(entry["agent"])
    problems = [
        f"- agent {name} is declared on {', '.join(hosts)}. Names are unique in the fleet: "
        "they name accounts, repositories and vault files."
        for name, hosts in places.items()
        if len(hosts) > 1
    ]
    problems += [
        f"- host {host}: agents {', '.join(names)} share the home {home}."
        for (host, home), names in homes.items()
        if len(names) > 1 and len(set(names)) > 1
    ]
    return problems


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise FleetError(message)
