"""An agent with two storage hosts: nothing in common, and none of them keeps the other back."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from conftest import World

BORG = f"custody_borg={Path(sys.executable).parent / 'borg'}"


def play(world: World, name: str, *arguments: str) -> tuple[int, str]:
    done = world.run(
        *("ansible-playbook", "--inventory", str(world.inventory), f"playbooks/{name}.yml"),
        *("-e", BORG, *arguments),
    )
    return done.returncode, done.stdout + done.stderr


@contextmanager
def out_of_reach(world: World, name: str) -> Iterator[None]:
    """A storage host that is there and does not answer: what was begun hangs."""
    assert world.run("podman", "pause", f"molecule-providers-{name}").returncode == 0
    try:
        yield
    finally:
        assert world.run("podman", "unpause", f"molecule-providers-{name}").returncode == 0


def archives(world: World, name: str) -> int:
    done = world.host(name).run("grep -c . /srv/lifeboat/repositories/p1/transactions")
    return int(done.stdout)


def escrow(world: World) -> dict[str, Any]:
    done = world.run("ansible-vault", "view", str(world.folder / "vault" / "p1.yml"))
    assert done.returncode == 0, done.stderr
    content = yaml.safe_load(done.stdout)
    repositories: dict[str, Any] = content["lifeboat_escrow"]["repositories"]
    return repositories


def test_keys_and_ids_are_independent(world: World) -> None:
    repositories = escrow(world)
    assert set(repositories) == {"vault-1", "vault-2"}
    for what in ("repository_id", "key", "passphrase", "box_public_key"):
        assert len({repositories[name][what] for name in repositories}) == 2, what


def test_each_has_a_ledger_of_its_own(world: World) -> None:
    code, output = play(world, "custody", "-e", "agent=p1", "-e", "adopt=true")
    assert code == 0, output[-3000:]
    ledgers = sorted((world.folder / "ledger" / "p1").glob("*.jsonl"))
    assert [path.stem for path in ledgers] == ["vault-1", "vault-2"]
    heads = [json.loads(path.read_text().splitlines()[-1]) for path in ledgers]
    assert heads[0] != heads[1]


def test_a_host_that_hangs_keeps_nothing_from_the_other(world: World) -> None:
    box = world.host("box")
    before = archives(world, "vault-2")
    with out_of_reach(world, "vault-1"):
        done = box.run("lifeboat backup p1 --json")
        assert done.rc == 1
        assert archives(world, "vault-2") > before
    status = json.loads(box.file("/var/lib/lifeboat/p1/status.json").content_string)
    assert status["result"] == "failed"
    assert not status["repositories"]["vault-1"]["success"]
    assert status["repositories"]["vault-2"]["success"]
    assert status["repositories"]["vault-2"]["listing"]


def test_custody_of_the_other_goes_on(world: World) -> None:
    ledger = world.folder / "ledger" / "p1" / "vault-2.jsonl"
    before = ledger.read_text()
    with out_of_reach(world, "vault-1"):
        code, output = play(world, "custody", "-e", "agent=p1")
    assert code != 0
    assert ledger.read_text().startswith(before)
    assert len(ledger.read_text()) > len(before)
    assert "custody-p1-vault-2" in output.rpartition("PLAY RECAP")[2]


def test_a_drill_takes_the_one_that_is_left(world: World) -> None:
    with out_of_reach(world, "vault-1"):
        ended = world.drill("existing", "-e", "agent=p1", "-e", "repository=vault-2")
    assert ended.code == 0, ended.output[-3000:]
    assert ended.only["repository"]["name"] == "vault-2"


@pytest.mark.parametrize("name", ["vault-1", "vault-2"])
def test_both_bring_the_agent_back(world: World, name: str) -> None:
    ended = world.drill("existing", "-e", "agent=p1", "-e", f"repository={name}")
    assert ended.code == 0, ended.output[-3000:]
    assert ended.only["repository"]["name"] == name


def test_what_is_left_of_a_repository_that_is_gone_brings_the_agent_back(world: World) -> None:
    vault = world.host("vault-1")
    place = "/srv/lifeboat/repositories/p0"
    assert vault.run(f"mv {place} {place}.away").rc == 0
    try:
        ended = world.drill("existing", "-e", "agent=p0", "-e", "source=snapshot")
    finally:
        vault.run(f"mv {place}.away {place}")
    assert ended.code == 0, ended.output[-3000:]
    assert ended.only["drill"]["source"] == "snapshot"
