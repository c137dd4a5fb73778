# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole nights of custody with a real borg behind the guard: honest, hostile, interrupted."""

from __future__ import annotations

import json
import os
import random
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import ledger
from ansible_collections.lifeboat.agents.plugins.module_utils.ledger import Ledger
from ansible_collections.lifeboat.agents.plugins.module_utils.verdict import classify_failure
from ansible_collections.lifeboat.agents.tests.unit.custody.nights import (
    TOLD,
    Custody,
    ModuleFailed,
)
from ansible_collections.lifeboat.agents.tests.unit.custody.support import World, tree
from ansible_collections.lifeboat.agents.tests.unit.custody.test_audit import attack
from ansible_collections.lifeboat.agents.tests.unit.custody.test_serve import (
    killed_after_a_checkpoint,
)

START = datetime(2026, 3, 1, 4, 0, tzinfo=timezone.utc)
SMALL = {"daily": 2, "weekly": 0, "monthly": 0, "floor": 1}


@pytest.fixture
def custody(world: World) -> Custody:
    """A first night is over."""
    made = Custody(world, START, **SMALL)
    world.write("SOUL.md", 3_000)
    made.backup()
    made.night()
    return made


def next_night(custody: Custody, *, backup: bool = True) -> None:
    custody.now += timedelta(days=1)
    if backup:
        custody.world.write(f"memories/{custody.now:%j}", 20_000)
        custody.backup()


def test_nights_keep_what_retention_keeps(custody: Custody) -> None:
    for _unused in range(3):
        next_night(custody)
        result = custody.night()
        assert result["night"]["blocked"] is None
    assert sorted(custody.world.archives()) == [
        "acme-2026-03-03T02:00:00Z",
        "acme-2026-03-04T02:00:00Z",
    ]
    said = custody.ledger()
    assert len(said["names"]) == 2
    assert said["findings"] == []
    assert said["last"]["deletion"]


def test_compaction_comes_due(world: World) -> None:
    custody = Custody(world, START, **SMALL, compact_every_days=4, compact_delay_hours=20)
    custody.backup()
    custody.night()
    (world.home / "SOUL.md").write_bytes(b"x" * 1000)
    said = []
    for _unused in range(7):
        next_night(custody)
        said.append(custody.night()["night"])
    assert sum(one["compact"] for one in said) == 1
    assert custody.ledger()["last"]["compaction"]
    assert len(list((world.root / "snapshots").iterdir())) == 1
    assert world.extract(sorted(world.archives())[-1]) == tree(world.home)


def test_a_poisoned_object_stops_everything_and_is_undone(custody: Custody) -> None:
    """Through plain serving, as at a host without the guard."""
    world = custody.world
    next_night(custody)
    custody.night()
    before = world.archives()
    mark = custody.ledger()["mark"]
    next_night(custody)
    victim = bytes.fromhex(next(iter(before.values())))
    attack(world, lambda c: c.call("put", id=victim, data=b"garbage"))
    result = custody.night()
    assert "unresolved" not in result["night"]["blocked"]
    assert result["findings"][0]["counts"] == {"overwritten": 1}
    assert result["night"]["plan"]["deletions"] == []
    assert custody.ledger()["mark"] == mark, "the accepted state stays what it was"
    next_night(custody, backup=False)
    assert custody.night()["night"]["blocked"]
    kinds = [line["kind"] for line in custody.ledger()["findings"]]
    assert kinds.count("audit") == 1, "the same finding is one line"
    custody.lockout("closed")
    planned = custody.rollback(mark=mark, check_mode=True)
    assert planned["changed"]
    assert "move segment" in planned["diff"]["prepared"]
    done = custody.rollback(mark=mark)
    assert done["evidence"]
    assert not custody.rollback(mark=mark)["changed"]
    custody.lockout("open")
    undone = [one for one in custody.ledger()["names"] if one not in before.values()]
    custody._record("rollback", undone=undone)
    assert world.archives(client="fresh") == before
    # A client that wrote after the accepted state refuses to go on until it forgets it.
    refused = world.create("acme-x", check=False)
    assert "newer than repository" in refused.stderr
    world.forget("box")
    world.forget("control")
    next_night(custody)
    assert custody.night()["night"]["blocked"] is None


@pytest.mark.parametrize("act", ["delete", "forge", "vanish"])
def test_attacks_on_archives_stop_everything(custody: Custody, act: str) -> None:
    world = custody.world
    next_night(custody)
    custody.night()
    next_night(custody)
    first = sorted(world.archives())[0]
    if act == "delete":
        world.borg("delete", f"{world.url}::{first}", serving=world.plain())
    elif act == "forge":
        for days in (-400, -200, 200, 400):
            custody.backup(clock=timedelta(days=days))
    else:
        # The archive leaves the manifest; its objects stay, so no audit can see it.
        world.borg("delete", "--force", "--force", f"{world.url}::{first}", serving=world.plain())
    result = custody.night()
    kinds = {one["kind"] for one in result["findings"]}
    expected = {
        "delete": {"audit", "archive-vanished"},
        "forge": {"archive-time", "too-many-archives"},
        "vanish": {"archive-vanished"},
    }[act]
    assert kinds <= expected
    assert kinds
    assert result["night"]["plan"]["deletions"] == []
    assert not result["night"]["compact"]


def test_an_unreadable_list_stops_everything(custody: Custody) -> None:
    next_night(custody)
    attack(custody.world, lambda c: c.call("put", id=bytes(32), data=b"\x04" + bytes(100)))
    result = custody.night()
    assert "cannot be listed" in result["night"]["blocked"]


def test_a_ledger_that_was_shortened_or_lost_stops_everything(custody: Custody) -> None:
    next_night(custody)
    custody.night()
    path = custody.directory / "acme" / "vault1.jsonl"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:3]))
    next_night(custody)
    result = custody.night()
    assert result["findings"][0]["kind"] == "ledger-cut"
    path.unlink()
    result = custody.night()
    assert result["findings"][0]["kind"] == "ledger-lost"
    assert not path.exists()
    custody.settings["adopt"] = True
    result = custody.night()
    assert result["night"]["blocked"] is None
    assert "adopted" in path.read_text()
    path.write_text(path.read_text().replace("adopted", "begun"))
    with pytest.raises(ModuleFailed, match="was changed"):
        custody.night()


def test_more_is_due_than_retention_deletes_by_itself(custody: Custody) -> None:
    """As after two weeks without custody: it is told every night, and let through once."""
    custody.settings["remove_at_most"] = limit = 2
    policy = {name: custody.settings[name] for name in (*SMALL, "remove_at_most")}
    for _unused in range(5):
        next_night(custody)
    for due in (4, 5):
        night = custody.night()["night"]
        assert night["blocked"] is None and night["plan"]["deletions"] == []
        assert f"custody_retention_remove_at_most={due}" in night["plan"]["refused"]
        assert custody.ledger(**policy)["retention"] == night["plan"]["refused"]
        next_night(custody)
    custody.settings["remove_at_most"] = 6
    assert len(custody.night()["night"]["plan"]["deletions"]) == 6
    custody.settings["remove_at_most"] = limit
    assert custody.ledger(**policy)["retention"] is None
    next_night(custody)
    night = custody.night()["night"]
    assert night["plan"]["refused"] is None and len(night["plan"]["deletions"]) == 1


def test_silence_is_an_alarm(custody: Custody) -> None:
    next_night(custody, backup=False)
    custody.now += timedelta(hours=10)
    result = custody.night()
    assert [one["kind"] for one in result["findings"]] == ["no-new-archive"]
    next_night(custody)
    assert custody.night()["night"]["blocked"] is None


class Killed(BaseException):
    """The control host died."""


STEPS = [
    "read", "closed", "listed", "audited", "watched", "deleting", "deleted", "accepted",
    "checked", "marked", "compacted",
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_custody_killed_between_any_two_steps(world: World, step: str) -> None:
    """The repository is whole, the box backs up again, the next run completes without alarm."""
    custody = Custody(
        world, START, **SMALL, compact_every_days=2, compact_delay_hours=0 if step else 1
    )
    world.write("SOUL.md", 3_000)
    for _unused in range(3):
        custody.backup()
        custody.night()
        custody.now += timedelta(days=1)
        world.write(f"memories/{custody.now:%j}", 20_000)
    custody.backup()

    def die(at: str) -> None:
        if at == step:
            raise Killed

    with pytest.raises(Killed):
        custody.night(die=die)
    assert world.borg("check", str(world.repository)).returncode == 0
    next_night(custody)
    result = custody.night()
    assert result["findings"] == []
    assert result["night"]["blocked"] is None
    next_night(custody)
    result = custody.night()
    assert result["night"]["blocked"] is None
    assert len(world.archives()) == 2
    assert world.extract(sorted(world.archives())[-1]) == tree(world.home)
    said = custody.ledger()
    assert set(said["names"]) == set(world.archives().values())
    assert said["deleting"] == []


def ledger_of(custody: Custody) -> Path:
    return custody.directory / "acme" / "vault1.jsonl"


@pytest.fixture
def accepted(custody: Custody) -> list[bytes]:
    """The lines of a ledger whose last night deleted; the next morning has come."""
    for _unused in range(2):
        next_night(custody)
        custody.night()
    next_night(custody)
    lines = ledger_of(custody).read_bytes().splitlines(keepends=True)
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds[kinds.index("deleting") :] == ["deleting", "checked", "checked", "removed", "mark"]
    return lines


def test_a_night_cut_off_at_any_byte_of_its_last_write(
    custody: Custody, accepted: list[bytes]
) -> None:
    """The disk of the ledger was full, or the power went: never a finding the next night."""
    whole = b"".join(accepted)
    listed = custody.archives()["archives"]
    book = Ledger(ledger_of(custody), "acme", "vault1")
    clean = {}
    for cut in range(len(b"".join(accepted[:-4])), len(whole) + 1):
        ledger_of(custody).write_bytes(whole[:cut])
        known = ledger.view(book.read())
        if known.head["sequence"] in clean:
            continue  # a part of a line says no more than none of it
        audit = custody.audit(mark=known.mark)
        said = custody.ledger(
            state="watched", repository_id=custody.repository_id, archives=listed,
            audit={**{name: audit[name] for name in TOLD}, "archive_times": custody.arrived},
            head=audit["head"], check_mode=True, **custody.settings,
        )  # fmt: skip
        clean[known.head["sequence"]] = audit["clean"]
        assert said["findings"] == [], cut
        assert said["night"]["blocked"] is None, cut
    assert list(clean.values()) == [False, True]


@pytest.mark.parametrize("left", [50, -50], ids=["in the mark", "in removed"])
def test_a_night_after_a_torn_write(custody: Custody, accepted: list[bytes], left: int) -> None:
    whole = b"".join(accepted[:-1])
    torn = whole[:left] if left < 0 else whole + accepted[-1][:left]
    ledger_of(custody).write_bytes(torn)
    said = custody.ledger()
    assert f"{ledger_of(custody)}: the last " in str(said["warnings"])
    for _unused in range(2):
        assert custody.night()["findings"] == []
        next_night(custody)
    said = custody.ledger()
    assert said["deleting"] == []
    assert len(said["names"]) == 2


def test_an_archive_that_an_operator_deleted_by_hand(custody: Custody) -> None:
    world = custody.world
    next_night(custody)
    custody.night()
    next_night(custody)
    first = sorted(world.archives())[0]
    serving = world.guard("--control")
    world.borg("delete", f"{world.url}::{first}", serving=serving, client="control")
    assert "archive-vanished" in {one["kind"] for one in custody.night()["findings"]}
    with pytest.raises(ModuleFailed, match=f"open are {first}"):
        custody._record("resolved", why="it was me", gone=["acme-of-another-year"])
    custody._record("resolved", why="it was me", gone=[first])
    said = custody.night()
    assert said["findings"] == []
    assert said["night"]["verify"], "that it was this archive alone is proved, not believed"
    assert said["night"]["plan"]["deletions"] == []
    next_night(custody)
    said = custody.night()
    assert said["findings"] == []
    assert not said["night"]["verify"]


@pytest.mark.parametrize("more", ["an object", "the list alone"])
def test_what_an_operator_did_not_delete_stays(custody: Custody, more: str) -> None:
    world = custody.world
    next_night(custody)
    custody.night()
    next_night(custody)
    first = sorted(world.archives())[0]
    serving = world.guard("--control")
    force = ["--force", "--force"] if more == "the list alone" else []
    world.borg("delete", *force, f"{world.url}::{first}", serving=serving, client="control")
    if more == "an object":
        chunk = next(key for key in keys_of(world) if key not in heads_of(world))
        attack(world, lambda c: c.call("delete", id=chunk))
    mark = custody.ledger()["mark"]
    custody.night()
    custody._record("resolved", why="it was me", gone=[first])
    with pytest.raises(ModuleFailed, match="borg check found errors"):
        custody.night()
    assert custody.ledger()["mark"] == mark


def test_nothing_is_resolved_in_a_ledger_that_is_lost(custody: Custody) -> None:
    next_night(custody)
    custody.night()
    ledger_of(custody).unlink()
    next_night(custody)
    with pytest.raises(ModuleFailed, match="run custody.yml with -e adopt=true"):
        custody._record("resolved", why="the ledger is lost", release=[])
    assert not ledger_of(custody).exists()
    custody.settings["adopt"] = True
    assert custody.night()["night"]["blocked"] is None


def test_content_that_returns_after_a_killed_run(world: World) -> None:
    """The only archive of some content is deleted, custody dies, the box has that content again."""
    custody = Custody(world, START, **SMALL)
    contents = [os.urandom(3_000) for _unused in range(3)]

    def backup(content: bytes) -> None:
        next_night(custody, backup=False)
        (world.home / "state").write_bytes(content)
        custody.backup()

    for content in contents[:2]:
        backup(content)
        custody.night()

    def die(step: str) -> None:
        if step == "deleted":
            raise Killed

    backup(contents[2])
    with pytest.raises(Killed):
        custody.night(die=die)
    backup(contents[0])
    said = custody.night()
    assert said["findings"] == []
    assert said["night"]["verify"], "only the data tell that it is the same content"
    next_night(custody)
    said = custody.night()
    assert said["night"]["blocked"] is None
    assert not said["night"]["verify"]


def test_two_runs_at_once(custody: Custody) -> None:
    """The second has read the ledger, and gets in when the first has deleted and gone."""
    next_night(custody)
    custody.night()
    next_night(custody)
    first: list[dict[str, Any]] = []

    def meanwhile(step: str) -> None:
        if step == "read":
            first.append(custody.night())

    second = custody.night(die=meanwhile)
    assert first[0]["night"]["plan"]["deletions"]
    assert second["findings"] == []
    assert second["night"]["blocked"] is None


def test_a_deletion_by_the_box_hidden_behind_a_killed_run(custody: Custody) -> None:
    """What the killed run was about to delete does not cover what the box deleted meanwhile."""
    world = custody.world
    for _unused in range(2):
        next_night(custody)
        custody.night()
    next_night(custody)

    def die(step: str) -> None:
        if step == "deleting":
            raise Killed

    with pytest.raises(Killed):
        custody.night(die=die)
    listed = sorted(world.archives().items())
    key = bytes.fromhex(listed[0][1])
    chunk = next(k for k in keys_of(world) if k != key and k not in heads_of(world))
    attack(world, lambda c: c.call("delete", id=chunk))
    next_night(custody)
    with pytest.raises(ModuleFailed, match="borg check found errors") as caught:
        custody.night()
    told = str(caught.value)
    assert classify_failure("check", told, {"rc": 1}).proves_loss
    assert not classify_failure(
        "check", "borg check did not come to its end", {"rc": 2}
    ).proves_loss


def keys_of(world: World) -> list[bytes]:
    with world.connect(serving=world.plain()) as connection:
        connection.open(str(world.repository), lock_wait=1)
        return [key for key in connection.scan() if key != bytes(32)]


def heads_of(world: World) -> set[bytes]:
    return {bytes.fromhex(identity) for identity in world.archives().values()}


def test_sixty_honest_nights(world: World) -> None:
    """Growth, deletion, interrupted backups, checkpoints, two clocks off by hours: no alarm."""
    custody = Custody(world, START, compact_every_days=14, compact_delay_hours=30)
    dice = random.Random(4)
    world.write("SOUL.md", 3_000)
    compactions = 0
    for night in range(60):
        world.write(f"memories/{night % 17}", dice.randrange(500, 40_000))
        if night % 5 == 3:
            (world.home / f"memories/{dice.randrange(min(night, 17))}").unlink(missing_ok=True)
        if night % 13 == 6:
            with killed(world, f"acme-interrupted-{night}"):
                time.sleep(dice.random() * 0.8)
        if night in (20, 45):
            killed_after_a_checkpoint(world, f"acme-{night}")
        # The same box with another clock; one night it is a freshly installed one.
        clock = timedelta(hours=(6, -9)[night % 2])
        newest = custody.backup(clock=clock, **({"client": "rebuilt"} if night == 33 else {}))
        result = custody.night()
        assert result["findings"] == [], night
        assert result["night"]["blocked"] is None, night
        compactions += result["night"]["compact"]
        custody.now += timedelta(days=1)
    assert compactions >= 3
    assert world.counted()["refusals"] == {}
    said = custody.ledger()
    assert set(said["names"]) == set(world.archives().values())
    counting = [one for one in said["standing"] if not ledger.is_checkpoint(one["name"])]
    assert 12 <= len(counting) <= 22
    # By its name: a create that was to be killed and ended before bears the time of today.
    assert newest in [one["name"] for one in counting]
    assert world.extract(newest) == tree(world.home)


class killed:
    """A create that is killed hard after a while."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name

    def __enter__(self) -> None:
        self.process = self.world.popen("create", f"{self.world.url}::{self.name}", ".")

    def __exit__(self, *_unused: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.world.wait_for_sessions()


# What the modules claim


def test_check_mode_changes_nothing(custody: Custody, tmp_path: object) -> None:
    world = custody.world
    for _unused in range(2):
        next_night(custody)
        custody.night()
    next_night(custody)
    mark = custody.ledger()["mark"]
    state = tree(world.root / "custody"), tree(custody.directory), tree(world.repository)
    listed = custody.archives(check_mode=True)["archives"]
    doomed = [{"id": listed[0]["id"], "name": listed[0]["name"]}]
    planned = custody.archives(state="absent", archives=doomed, check_mode=True)
    assert planned["changed"]
    assert planned["diff"]["before"] != planned["diff"]["after"]
    audit = custody.audit(mark=mark, accept=True, check_mode=True, head={"sequence": 9})
    assert audit["changed"]
    assert audit["diff"]["before"] != audit["diff"]["after"]
    watched = custody.ledger(
        state="watched", archives=listed, repository_id=custody.repository_id,
        audit={"counts": {}, "summary": ""}, check_mode=True, **custody.settings,
    )  # fmt: skip
    assert watched["changed"]
    assert watched["night"]["plan"]["keep"]
    assert (
        tree(world.root / "custody"),
        tree(custody.directory),
        tree(world.repository),
    ) == state


def test_a_second_audit_changes_nothing(custody: Custody) -> None:
    mark = custody.ledger()["mark"]
    first = custody.audit(mark=mark, accept=True)
    second = custody.audit(mark=first["mark"], accept=True)
    assert not second["changed"]
    assert second["diff"]["before"] == second["diff"]["after"]


def test_an_audit_with_findings_fails_by_default(custody: Custody) -> None:
    victim = keys_of(custody.world)[0]
    attack(custody.world, lambda c: c.call("delete", id=victim))
    with pytest.raises(ModuleFailed, match="TAMPERING") as failed:
        custody.audit(mark=custody.ledger()["mark"], fail_on_findings=True)
    assert failed.value.result["counts"] == {"deleted": 1}


def test_an_audit_by_scan(custody: Custody) -> None:
    world = custody.world
    serving = world.guard("--read-only")
    options = {"command": serving, "state_directory": str(world.root / "at-control")}
    first = custody.audit(**options, accept=True)
    assert first["clean"]
    again = custody.audit(**options, mark=first["mark"])
    assert again["clean"]
    victim = keys_of(world)[0]
    attack(world, lambda c: c.call("delete", id=victim))
    assert custody.audit(**options, mark=first["mark"])["counts"] == {"deleted": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "/nonexistent"}, "could not be carried out"),
        ({"mark": {"format": 9}}, "format 9"),
        ({"accept": True, "state_directory": None}, "state_directory"),
        ({"command": ["false"]}, "ended the connection"),
    ],
)
def test_could_not_run_is_a_failure(
    custody: Custody, options: dict[str, object], message: str
) -> None:
    from ansible_collections.lifeboat.agents.plugins.modules import repository_audit
    from ansible_collections.lifeboat.agents.tests.unit.custody.nights import call

    arguments = {"path": str(custody.world.repository), **options}
    with pytest.raises(ModuleFailed, match=message):
        call(repository_audit.main, **arguments)


def test_deleting_asks_for_the_id_behind_the_name(custody: Custody) -> None:
    listed = custody.archives()["archives"]
    wrong = [{"id": "00" * 32, "name": listed[0]["name"]}]
    with pytest.raises(ModuleFailed, match="nothing was deleted"):
        custody.archives(state="absent", archives=wrong)
    assert custody.archives()["archives"] == listed


def test_an_incomplete_escrow(custody: Custody) -> None:
    from ansible_collections.lifeboat.agents.plugins.modules import repository_archives
    from ansible_collections.lifeboat.agents.tests.unit.custody.nights import call

    with pytest.raises(ModuleFailed, match="passphrase is missing; the key is not") as failed:
        call(
            repository_archives.main,
            url="ssh://x/y",
            repository_id="ab" * 32,
            passphrase="",
            key="x",
            base_dir=str(custody.world.root / "b"),
        )
    assert "host keys" in str(failed.value)


def test_compaction_needs_the_lockout(custody: Custody) -> None:
    mark = custody.ledger()["mark"]
    with pytest.raises(ModuleFailed, match="no longer closed by this run"):
        custody.compaction(mark)
    with pytest.raises(ModuleFailed, match="no longer closed by this run"):
        attack(custody.world, lambda c: c.call("put", id=b"n" * 32, data=b"x"))
        custody.rollback(mark=mark)
