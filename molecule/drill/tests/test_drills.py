"""The table of drills that have to end badly: verdict, exit code, what is named; and what is left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import World

DATABASE = "python3 -c \"import sqlite3; c = sqlite3.connect('state.db'); {}; c.commit()\""


def test_a_good_drill_is_proven_and_leaves_nothing(world: World) -> None:
    ended = world.drill("-e", "agent=a0")
    assert ended.code == 0, ended.output[-3000:]
    verdict = ended.only["verdict"]
    assert (verdict["result"], verdict["level"]) == ("proven", 4)
    assert ended.only["objectives"]["rto"]["met"]
    assert "fence" in {check["name"] for check in ended.only["checks"]}
    assert world.boxes() == []
    granted = world.host("vault-1").run("cat /etc/lifeboat/access/lb-a0")
    assert granted.stdout == ""


def test_everything_that_is_stored_can_be_verified(world: World) -> None:
    ended = world.drill("-e", "agent=a0", "-e", "check=data")
    assert ended.code == 0, ended.output[-3000:]
    states = {state["level"]: state["status"] for state in ended.only["levels"]}
    assert [states[level] for level in range(5)] == ["reached"] * 5


def test_a_snapshot_of_the_storage_brings_the_agent_back(world: World) -> None:
    ended = world.drill("-e", "agent=a0", "-e", "source=snapshot", "-e", "archive=random")
    assert ended.code == 0, ended.output[-3000:]
    assert ended.only["drill"]["source"] == "snapshot"
    assert world.host("vault-1").run("mount").stdout.count("/run/lifeboat/drill") == 0


# What is done to the restored home, and the check that has to name it.
SPOILED = {
    "state.db truncated": ("truncate -s 4096 state.db", "database_opens"),
    "state.db zeroed": (
        "dd if=/dev/zero of=state.db conv=notrunc bs=4096 count=10 status=none",
        "database_opens",
    ),
    "a page of state.db corrupted": (
        "dd if=/dev/urandom of=state.db conv=notrunc bs=4096 seek=5 count=1 status=none",
        "database_integrity",
    ),
    "state.db emptied": (DATABASE.format("c.execute('DELETE FROM messages')"), "database_rows"),
    "SOUL.md missing": ("rm SOUL.md", "entries_present"),
    "SOUL.md altered": ("sed -i s/I/i/ SOUL.md", "content"),
    "memories missing": ("rm -r memories", "entries_present"),
    "mode wrong": ("chmod 644 SOUL.md", "entries_mode"),
    "owner wrong": ("chown root SOUL.md", "entries_owner"),
    "canary present": ("echo KEY=canary > .env", "secret_files"),
    "lock present": ("touch gateway.lock", "runtime_files"),
    "log left over": ("cp state.db state.db-wal", "stray_journals"),
    "stranger present": ("touch planted", "unknown_files"),
}


@pytest.mark.parametrize("name", ["state.db truncated", "SOUL.md altered", "canary present"])
def test_a_spoiled_restore_ends_with_1(world: World, name: str) -> None:
    spoil, check = SPOILED[name]
    ended = world.drill("-e", "agent=a0", spoil=spoil)
    assert ended.code == 1, ended.output[-3000:]
    assert ended.only["verdict"]["result"] == "not_proven"
    assert check in ended.failed()
    assert "NOT PROVEN" in ended.output
    assert world.boxes() == []


def test_everything_at_once_is_named(world: World) -> None:
    ended = world.drill(
        "-e", "agent=a0", spoil="; ".join(spoil for spoil, _check in SPOILED.values())
    )
    assert ended.code == 1
    assert {"entries_present", "secret_files", "runtime_files", "unknown_files"} <= ended.failed()


@contextmanager
def escrow_changed(world: World, agent: str, *edit: str) -> Iterator[None]:
    """The escrow of an agent, spoiled by a sed script for as long as the block lasts."""
    path = world.vault / f"{agent}.yml"
    kept = path.with_suffix(".kept")
    shutil.copy(path, kept)
    try:
        if edit:
            world.run("ansible-vault", "decrypt", str(path))
            world.run("sed", "--in-place", *edit, str(path))
            world.run("ansible-vault", "encrypt", str(path))
        else:
            path.unlink()
        yield
    finally:
        kept.replace(path)


ESCROW: dict[str, tuple[str, ...]] = {
    "no escrow": (),
    "wrong passphrase": ("-E", r"s/(passphrase: ).*/\1wrong/"),
    "another repository pinned": ("-E", r"s/(repository_id: .).../\1000/"),
    "no key": ("-E", r"s/key: [|].*/key: ''/; /^ +(BORG_KEY|[A-Za-z0-9+\/=]{40,})/d"),
}


@pytest.mark.parametrize("name", ESCROW)
def test_an_escrow_that_does_not_open_the_history_ends_with_1(world: World, name: str) -> None:
    with escrow_changed(world, "a0", *ESCROW[name]):
        ended = world.drill("-e", "agent=a0")
    assert ended.code == 1, ended.output[-3000:]
    assert ended.only["failure"]["proves_loss"]
    assert ended.only["verdict"]["hint"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("-e", "archive=a0-2020-01-01T00:00:00Z"), 1, "There is no archive"),
        (("-e", "at=2020-01-01"), 1, "There is no archive"),
        (("-e", "agent=nobody"), 2, "not in the inventory"),
        (("-e", "source=tape"), 2, "tape"),
        (("-e", "provider=nowhere"), 2, "nowhere"),
        (("-e", '{"drill_distribution": "beos"}'), 2, "beos"),
        (("--limit", "box"), 2, "--limit"),
        (("--vault-password-file", "/dev/null"), 2, "vault"),
    ],
)
def test_what_cannot_be_had(world: World, arguments: tuple[str, ...], code: int, text: str) -> None:
    agent = () if "agent=nobody" in arguments else ("-e", "agent=a0")
    ended = world.drill(*agent, *arguments)
    assert ended.code == code, ended.output[-3000:]
    assert text in ended.output
    assert all(record["verdict"]["exit_code"] == code for record in ended.records.values())


def test_a_snapshot_that_is_gone_ends_with_1(world: World) -> None:
    host = world.host("vault-1")
    with moved(host, "/srv/lifeboat/snapshots", "/srv/lifeboat/snapshots.kept"):
        ended = world.drill("-e", "agent=a0", "-e", "source=snapshot")
    assert ended.code == 1
    assert "There is no snapshot" in ended.only["verdict"]["reason"]


@contextmanager
def moved(host: Any, path: str, aside: str) -> Iterator[None]:
    assert host.run(f"mv {path} {aside}").rc == 0
    try:
        yield
    finally:
        assert host.run(f"mv {aside} {path}").rc == 0


def test_a_repository_that_is_gone_ends_with_1(world: World) -> None:
    host = world.host("vault-1")
    path = "/srv/lifeboat/repositories/a0"
    with moved(host, path, f"{path}.kept"):
        ended = world.drill("-e", "agent=a0")
    assert ended.code == 1, ended.output[-3000:]
    assert ended.only["failure"]["proves_loss"]


def test_a_storage_host_that_does_not_answer_ends_with_2(world: World) -> None:
    host = world.host("vault-1")
    name = world.run("podman", "ps", "--format", "{{.Names}}").stdout.split()
    (container,) = [item for item in name if item.endswith("vault-1")]
    assert host.exists("sshd")
    world.run("podman", "pause", container)
    try:
        ended = world.drill("-e", "agent=a0")
    finally:
        world.run("podman", "unpause", container)
    assert ended.code == 2, ended.output[-3000:]
    assert ended.only["verdict"]["result"] == "could_not_run"


def test_a_box_that_dies_ends_with_2(world: World) -> None:
    kill = ["podman", "kill", "{{ inventory_hostname }}"]
    ended = world.drill("-e", "agent=a0", spoil_box=kill)
    assert ended.code == 2, ended.output[-3000:]
    assert "did not answer any more" in ended.only["verdict"]["reason"]
    assert world.boxes() == []


def test_a_missed_objective_ends_with_1(world: World) -> None:
    agent = {"name": "a0", "profile": "generic", "user": "fleet", "home": "/home/fleet/a0"}
    ended = world.drill("-e", "agent=a0", backup_agents=[{**agent, "rto_target": "1s"}])
    assert ended.code == 1, ended.output[-3000:]
    assert ended.only["verdict"]["level"] == 4
    assert ended.only["verdict"]["reason"].startswith("RTO")


def test_ten_at_once_with_one_of_them_broken(world: World) -> None:
    with escrow_changed(world, "a7", "-E", r"s/(passphrase: ).*/\1wrong/"):
        ended = world.drill("-e", "parallel=3")
    assert ended.code == 1, ended.output[-3000:]
    results = {name: record["verdict"]["result"] for name, record in ended.records.items()}
    assert results.pop("a7") == "not_proven"
    assert list(results.values()) == ["proven"] * 9
    assert world.boxes() == []


def test_a_sample_takes_who_waited_longest(world: World) -> None:
    ended = world.drill("-e", "sample=2")
    assert ended.code == 0, ended.output[-3000:]
    oldest = sorted(
        (
            max(
                r["drill"]["started"]
                for r in world.records().values()
                if r["agent"]["name"] == name and r["drill"]["run"] != ended.run
            ),
            name,
        )
        for name in {r["agent"]["name"] for r in world.records().values()} - {"nobody"}
    )
    assert set(ended.records) == {name for _time, name in oldest[:2]}


def test_all_of_it_is_evidence(world: World) -> None:
    done = world.run(
        "ansible",
        *("localhost", "-m", "lifeboat.agents.drill_evidence_info"),
        *("-a", f"directory={world.folder}/evidence"),
    )
    assert done.returncode == 0, done.stdout
    assert '"problems": []' in done.stdout
    page = Path(world.folder, "evidence", "index.html").read_text()
    assert "agents proven" in page
