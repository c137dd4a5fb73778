# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A provider's repository that a person compacted: taken over when it is that, and nothing more."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.tests.unit.custody.nights import Custody
from ansible_collections.lifeboat.agents.tests.unit.custody.support import PASSPHRASE, World
from ansible_collections.lifeboat.agents.tests.unit.custody.test_audit import attack
from ansible_collections.lifeboat.agents.tests.unit.custody.test_role import TASKS, played

START = datetime(2026, 3, 1, 4, 0, tzinfo=timezone.utc)


@dataclass
class Provider:
    """A repository that is reached over append-only serving alone, after a clean night."""

    custody: Custody

    def __post_init__(self) -> None:
        world = self.custody.world
        world.write("shared", 3_000)  # it survives acme-1, so a compaction moves it
        for name in ("acme-1", "acme-2", "acme-3"):
            world.write("SOUL.md", 200_000)
            world.create(name)
        self.custody.archives(serving=world.plain())
        first = self.audit(accept=True)
        world.borg("delete", f"{world.url}::acme-1", serving=world.plain(), client="control")
        night = self.audit(mark=first["mark"], accept=True, accept_deletions=True)
        self.custody._record("begin", repository_id=self.custody.repository_id)
        at = START.isoformat()
        for name, identity in world.archives(client="control").items():
            times = {"client_time": at, "server_time": at, "source": "first-seen"}
            self.custody._record("seen", id=identity, name=name, **times)
        self.custody._record("mark", **night["mark"])

    @property
    def base(self) -> Path:
        return self.custody.world.root / "base"

    @property
    def lines(self) -> list[dict[str, Any]]:
        path = self.custody.directory / "acme" / "vault1.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def audit(self, **more: Any) -> dict[str, Any]:
        objects = str(self.base / "objects")
        return self.custody.audit(
            command=self.custody.world.plain(), state_directory=objects, **more
        )

    def again(self) -> dict[str, Any]:
        """The audit of the next night."""
        return self.audit(mark=self.custody.ledger()["mark"])

    def compact(self) -> None:
        world = self.custody.world
        world.borg("compact", "--threshold", "0", str(world.repository), client="control")

    def taken_over(self, **more: Any) -> tuple[int, str]:
        """As custody.yml does with -e compacted, by the tasks of the role."""
        world = self.custody.world
        ssh = world.root / "bin" / "ssh"
        ssh.write_text("#!/bin/sh\nexec " + shlex.join(world.plain()) + "\n")
        ssh.chmod(0o755)
        repository = {"name": "vault1", "path": str(world.repository), "url": world.url}
        access = {"port": 22, "account": "lb-acme", "address": "vault1"}
        escrowed = {
            "repository_id": self.custody.repository_id,
            "passphrase": PASSPHRASE,
            "key": next((world.root / "keys").iterdir()).read_text(),
            "host_keys": ["ssh-ed25519 AAAA"],
        }
        variables = {
            "custody_agent": {"agent": "acme"},
            "custody_repository": {**repository, **access},
            "custody_ledger_dir": str(self.custody.directory),
            "custody_host_state_dir": str(world.root / "unused"),
            "custody_borg": str(world.borg_path),
            "custody_lock_wait": 60,
            "custody_checksums": False,
            "custody_read_parts": 28,
            "custody_compacted": "the quota was nearly full",
            "__custody_scan": True,
            "__custody_host": "vault1",
            "__custody_base": str(self.base),
            "__custody_identity": str(world.root / "identity"),
            "__custody_escrow": {"escrow": {"repositories": {"vault1": escrowed}}},
            "__custody_known": {
                name: self.custody.ledger()[name] for name in ("mark", "names", "deleting")
            },
        }
        tasks = [
            {"ansible.builtin.add_host": {"name": "vault1"}},
            {"ansible.builtin.include_tasks": str(TASKS / "compacted.yml")},
        ]
        return played(world.root, tasks, path=str(ssh.parent), **{**variables, **more})


@pytest.fixture
def provider(world: World) -> Provider:
    return Provider(Custody(world, START))


def refused(provider: Provider, words: str) -> None:
    before = provider.lines
    code, said = provider.taken_over()
    assert code == 2, said
    assert words in said
    assert provider.lines == before, "nothing was accepted"
    assert not provider.again()["clean"], "and the finding stays"


def test_an_honest_compaction_is_taken_over_when_it_is_told_of(provider: Provider) -> None:
    assert provider.again()["clean"]
    provider.compact()
    assert not provider.again()["clean"], "the order of the ids is another one"
    code, said = provider.taken_over()
    assert code == 0, said
    told, mark = provider.lines[-2:]
    assert (told["kind"], mark["kind"]) == ("compacted", "mark")
    assert told["data"]["why"] == "the quota was nearly full"
    assert sorted(told["data"]["verified"]) == sorted(provider.custody.ledger()["names"])
    assert provider.again()["clean"]
    provider.custody.world.create("acme-4")
    assert provider.again()["clean"], "the next night is an ordinary one"
    attack(provider.custody.world, lambda c: c.call("delete", id=next(iter(c.scan()))))
    assert not provider.again()["clean"], "and what comes after it is found"


def test_a_compaction_and_a_deleted_archive(provider: Provider) -> None:
    world = provider.custody.world
    world.borg("delete", f"{world.url}::acme-2", serving=world.plain())
    provider.compact()
    refused(provider, "archives are gone: acme-2")


def test_a_compaction_and_an_overwritten_chunk(provider: Provider) -> None:
    """Put in the place of a chunk: another object of this repository, as its owner encrypted it."""
    world = provider.custody.world
    heads = set(provider.custody.ledger()["names"])
    with world.connect(serving=world.plain()) as connection:
        connection.open(str(world.repository), exclusive=True, lock_wait=1)
        chunks = [key for key in connection.scan() if any(key) and key.hex() not in heads]
        other = bytes(connection.call("get", id=chunks[1]))
    attack(world, lambda c: c.call("put", id=bytes(chunks[0]), data=other))
    provider.compact()
    refused(provider, "borg check")


def test_a_repository_of_our_own_is_not_taken_over(provider: Provider) -> None:
    code, said = provider.taken_over(__custody_scan=False)
    assert code == 2, said
    assert "is compacted by custody itself" in said
