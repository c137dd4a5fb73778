# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compaction behind its gates, and rollback, on real repositories."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import audit_compaction, rollback
from ansible_collections.lifeboat.agents.plugins.module_utils.audit import (
    AuditError,
    Mark,
    State,
    objects_digest,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.audit_compaction import (
    CompactionError,
    Request,
    compact,
    take_snapshot,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.audit_store import (
    Store,
    audited,
    read_part,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.rollback import (
    Rollback,
    RollbackError,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.segments import SegmentError
from ansible_collections.lifeboat.agents.plugins.module_utils.serve_client import MANIFEST
from ansible_collections.lifeboat.agents.tests.unit.custody.support import World, files_of, tree
from ansible_collections.lifeboat.agents.tests.unit.custody.test_audit import attack


def run(argv: Sequence[str], environment: dict[str, str] | None) -> tuple[int, str, str]:
    done = subprocess.run(
        list(argv),
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


class Host:
    """A repository host after a night of custody: an accepted state on record."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = Store(world.root / "custody")
        self.mark, self.state = self.accept(None)

    def accept(self, previous: Mark | None) -> tuple[Mark, State]:
        report, state = audited(self.world.repository, self.store, previous)
        assert report.clean, report.findings
        assert report.mark
        assert state
        self.store.save(report.mark, state, previous=previous)
        self.store.save_config(self.world.repository)
        return report.mark, state

    def delete(self, name: str) -> None:
        """By the control side, accepted by it."""
        world = self.world
        world.borg(
            "delete", f"{world.url}::{name}", serving=world.guard("--control"), client="control"
        )
        self.mark, self.state = self.accept(None)

    def request(self, **more: Any) -> Request:
        made = Request(
            repository=self.world.repository,
            mark=self.mark,
            snapshots=self.world.root / "snapshots",
            borg=str(self.world.borg_path),
            threshold=0,
        )
        return replace(made, **more)

    def compact(self, **more: Any) -> audit_compaction.Outcome:
        return compact(self.request(**more), self.store, run, still_closed=lambda: None)

    def rollback(self, **more: Any) -> Rollback:
        options: dict[str, Any] = {
            "evidence": self.world.root / "evidence" / "run",
            "state": self.store.load(self.mark),
            "config": self.store.config(),
            **more,
        }
        return Rollback(self.world.repository, options.pop("mark", self.mark), **options)


@pytest.fixture
def host(lived_in: World) -> Host:
    return Host(lived_in)


# Compaction


def test_compaction_frees_space_and_keeps_every_accepted_object(host: Host) -> None:
    world = host.world
    (world.home / "memories/one").unlink()
    world.create("day-3")
    before = world.extract("day-3")
    host.delete("day-1")
    host.delete("day-2")
    outcome = host.compact()
    assert outcome.size_after < outcome.size_before - 150_000
    assert outcome.report.clean
    assert outcome.report.mark
    assert outcome.report.mark.transaction != host.mark.transaction
    assert Path(outcome.snapshot).is_dir()
    assert world.extract("day-3") == before
    world.create("day-4")
    # The next audit, from the new mark, is an ordinary one.
    report, _unused = audited(world.repository, host.store, outcome.report.mark)
    assert report.clean
    assert world.borg("check", str(world.repository)).returncode == 0


def test_the_snapshot_brings_it_back(host: Host) -> None:
    host.delete("day-1")
    outcome = host.compact()
    copy = host.world.root / "copy"
    shutil.copytree(outcome.snapshot, copy)
    host.world.repository.rename(host.world.root / "gone")
    copy.rename(host.world.repository)
    report, _unused = audited(host.world.repository, Store(host.world.root / "empty"), host.mark)
    assert report.clean


def refused(host: Host, message: str, **more: Any) -> None:
    before = files_of(host.world.repository)
    with pytest.raises(CompactionError, match=message):
        host.compact(**more)
    after = files_of(host.world.repository)
    assert before == after
    assert not host.store.intent()


def test_refused_when_the_audit_finds_something(host: Host) -> None:
    key = next(iter(host.state.objects))
    attack(host.world, lambda c: c.call("put", id=key, data=b"x"))
    refused(host, "TAMPERING")


def test_refused_at_another_transaction_than_the_accepted(host: Host) -> None:
    host.world.write("new")
    host.world.create("day-3")
    refused(host, "accepted was")


def test_refused_when_the_box_may_be_back(host: Host) -> None:
    host.delete("day-1")
    calls: list[int] = []

    def closed() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise CompactionError("open again")

    before = files_of(host.world.repository)
    with pytest.raises(CompactionError, match="open again"):
        compact(host.request(), host.store, run, still_closed=closed)
    assert files_of(host.world.repository) == before


def test_refused_without_a_snapshot(host: Host) -> None:
    host.delete("day-1")
    refused(host, "no snapshot", snapshot_method="btrfs")


def test_refused_when_the_snapshot_is_not_whole(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.delete("day-1")

    def partial(source: Path, target: Path) -> None:
        shutil.copytree(source, target)
        next(target.glob("data/0/*")).unlink()

    monkeypatch.setattr(audit_compaction, "_link_copy", partial)
    refused(host, "not a copy")


def test_copies_by_links_do_not_pile_up(host: Host) -> None:
    snapshots = host.world.root / "snapshots"
    for day in range(1, 6):
        old = snapshots / f"acme.2026010{day}T000000+0000"
        old.mkdir(parents=True)
    take_snapshot(host.request(), run)
    assert len(list(snapshots.iterdir())) == audit_compaction.KEPT_COPIES


def test_a_compaction_that_loses_an_object_is_noticed(host: Host) -> None:
    host.delete("day-1")
    key = list(host.state.objects)[-1]

    def faulty(argv: Sequence[str], environment: dict[str, str] | None) -> tuple[int, str, str]:
        result = run(argv, environment)
        attack(host.world, lambda c: c.call("delete", id=key))
        return result

    with pytest.raises(CompactionError, match="compaction lost objects"):
        compact(host.request(), host.store, faulty, still_closed=lambda: None)


def test_a_failing_borg(host: Host) -> None:
    host.delete("day-1")
    with pytest.raises(CompactionError, match="borg compact ended with 1"):
        host.compact(borg="/bin/false")
    # Its intent makes the next audit compare everything, and everything is there.
    report, _unused = audited(host.world.repository, host.store, host.mark)
    assert report.clean


class Killed(BaseException):
    """The host died."""


@pytest.mark.parametrize("after", ["before borg", "within borg", "after borg", "before the ledger"])
def test_an_interrupted_compaction_is_no_tampering(host: Host, after: str) -> None:
    world = host.world
    (world.home / "memories/one").unlink()
    world.create("day-3")
    host.delete("day-1")
    host.delete("day-2")

    def dying(argv: Sequence[str], environment: dict[str, str] | None) -> tuple[int, str, str]:
        if after == "before borg":
            raise Killed
        if after == "within borg":
            dice = random.Random(3)
            process = subprocess.Popen(
                list(argv), env={**os.environ, **(environment or {})}, stderr=subprocess.DEVNULL
            )
            try:
                process.wait(timeout=0.35 + dice.random() / 10)
            except subprocess.TimeoutExpired:
                process.kill()
            process.wait()
            raise Killed
        result = run(argv, environment)
        if after == "after borg":
            raise Killed
        return result

    if after == "before the ledger":
        compact(host.request(), host.store, dying, still_closed=lambda: None)
    else:
        with pytest.raises(Killed):
            compact(host.request(), host.store, dying, still_closed=lambda: None)
    for path in world.repository.glob("lock.*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    # The ledger still has the mark from before.
    report, state = audited(world.repository, host.store, host.mark)
    assert report.clean, report.findings
    assert report.mark
    assert state
    assert objects_digest(state.objects) == objects_digest(host.state.objects)
    host.store.save(report.mark, state, previous=host.mark)
    host.store.clear_intent()
    world.create("day-4")
    assert audited(world.repository, host.store, report.mark)[0].clean
    # And without the intent it would have looked like tampering (where anything moved).
    if after in ("after borg", "before the ledger"):
        assert not audited(world.repository, Store(world.root / "none"), host.mark)[0].clean


def test_tampering_during_an_interrupted_compaction_is_found(host: Host) -> None:
    host.delete("day-1")
    host.compact()
    key = next(iter(host.state.objects))
    attack(host.world, lambda c: c.call("put", id=key, data=b"x"))
    report, _unused = audited(host.world.repository, host.store, host.mark)
    assert report.counts == {"compaction-lost": 1}


# What is kept on the host


def test_the_store_keeps_two_states(host: Host) -> None:
    world = host.world
    for day in (3, 4, 5):
        world.write(f"new-{day}")
        world.create(f"day-{day}")
        host.mark, host.state = host.accept(host.mark)
    assert len(list(host.store.folder.glob("objects-*"))) == 2
    assert host.store.load(host.mark) == host.state
    assert (host.store.folder / "config").stat().st_mode & 0o777 == 0o600
    with pytest.raises(AuditError, match="does not belong"):
        host.store.save(host.mark, State())


def test_heads_and_intents(tmp_path: Path) -> None:
    store = Store(tmp_path / "custody")
    assert store.head() == {}
    assert store.write_head({"sequence": 3, "hash": "ab"})
    assert not store.write_head({"sequence": 3, "hash": "ab"})
    assert store.head() == {"sequence": 3, "hash": "ab"}
    assert (tmp_path / "custody").stat().st_mode & 0o777 == 0o700
    (tmp_path / "custody" / "head").write_text("{")
    with pytest.raises(AuditError, match="cannot be read"):
        store.head()


def test_all_of_it_is_read_within_the_parts(host: Host) -> None:
    parts = [read_part(host.world.repository, part, 5) for part in range(5)]
    assert sum(one["segments"] for one in parts) == len(host.state.layout)
    size = host.mark.size or 0
    assert sum(one["bytes_read"] for one in parts) >= size
    path = host.world.repository / "data/0/0"
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    with pytest.raises(SegmentError, match="checksum"):
        for part in range(5):
            read_part(host.world.repository, part, 5)


# Rollback


def poison(host: Host) -> None:
    attack(host.world, lambda c: c.call("put", id=next(iter(host.state.objects)), data=b"x"))


def delete_everything(host: Host) -> None:
    attack(
        host.world,
        lambda c: list(c.calls("delete", [{"id": key} for key in host.state.objects])),
        lambda c: c.call("delete", id=MANIFEST),
    )


def prune(host: Host) -> None:
    world = host.world
    world.create("attack", serving=world.plain())
    world.borg("prune", "--keep-last=1", world.url, serving=world.plain())


def move_the_nonce(host: Host, nonce: int) -> None:
    attack(
        host.world,
        lambda c: c.call(
            "commit_nonce_reservation",
            next_unreserved=nonce,
            start_nonce=c.call("get_free_nonce"),
        ),
        lambda c: c.call("put", id=b"n" * 32, data=b"junk"),
    )


def use_up_the_nonce(host: Host) -> None:
    move_the_nonce(host, 2**64 - 1)


def nearly_use_up_the_nonce(host: Host) -> None:
    """The next honest backup passes the end."""
    move_the_nonce(host, 2**63 - 1)
    host.world.create("day-3", serving=host.world.plain())


def store_a_key(host: Host) -> None:
    attack(
        host.world,
        lambda c: c.call("save_key", keydata=b"BORG_KEY 00\nx"),
        lambda c: c.call("put", id=b"n" * 32, data=b"junk"),
    )


ATTACKS: dict[str, Callable[[Host], None]] = {
    "garbage over a chunk": poison,
    "everything deleted": delete_everything,
    "pruned": prune,
    "nonce used up": use_up_the_nonce,
    "nonce nearly used up": nearly_use_up_the_nonce,
    "key stored": store_a_key,
}


@pytest.mark.parametrize("name", ATTACKS)
def test_rollback(host: Host, name: str) -> None:
    world = host.world
    archives, contents = world.archives(), world.extract("day-2")
    files = files_of(world.repository)
    nonce = int((world.repository / "nonce").read_text(), 16)
    ATTACKS[name](host)
    assert not audited(world.repository, host.store, host.mark)[0].clean
    undo = host.rollback()
    steps = undo.plan()
    assert steps.needed
    report = undo.carry_out(steps)
    assert report.clean
    back = files_of(world.repository)
    for path, data in files.items():
        if path.startswith("data/") or path == "config":
            assert back[path] == data, path
    assert int((world.repository / "nonce").read_text(), 16) >= nonce
    evidence = tree(world.root / "evidence")
    assert evidence, "what the attacker wrote is kept"
    for folder in (world.root / "evidence", world.root / "evidence" / "run"):
        assert folder.stat().st_mode & 0o077 == 0, "and is nobody else's to look into"
    # A fresh client sees the old history, extracts it, and goes on.
    assert world.archives(client="fresh") == archives
    assert world.extract("day-2", client="fresh") == contents
    world.borg("check", "--verify-data", str(world.repository), client="fresh")
    world.create("day-3", client="fresh")
    again = host.rollback(evidence=world.root / "evidence-2")
    assert again.plan().segments, "a rollback undoes honest work that came later, too"


def test_nothing_to_roll_back(host: Host) -> None:
    before = files_of(host.world.repository)
    undo = host.rollback()
    steps = undo.plan()
    assert not steps.needed
    undo.carry_out(steps)
    assert files_of(host.world.repository) == before
    assert not (host.world.root / "evidence").exists()


@pytest.mark.parametrize("point", range(8))
def test_a_killed_rollback_goes_on(host: Host, monkeypatch: pytest.MonkeyPatch, point: int) -> None:
    world = host.world
    archives = world.archives()
    poison(host)
    prune(host)
    undo = host.rollback()
    steps = undo.plan()
    moved: list[Path] = []
    aside = Rollback._set_aside

    def dying(self: Rollback, path: Path) -> None:
        if len(moved) == point:
            raise Killed
        moved.append(path)
        aside(self, path)

    monkeypatch.setattr(Rollback, "_set_aside", dying)
    with pytest.raises(Killed):
        undo.carry_out(steps)
    monkeypatch.undo()
    assert len(moved) == point
    # borg can open what is left ...
    assert world.borg("info", world.url, client=f"fresh-{point}").returncode == 0
    # ... and the next rollback ends it.
    again = host.rollback()
    assert again.carry_out(again.plan()).clean
    assert world.archives(client="fresher") == archives


def test_refused_after_a_compaction(host: Host) -> None:
    host.delete("day-1")
    old = host.mark
    outcome = host.compact()
    before = files_of(host.world.repository)
    with pytest.raises(RollbackError, match="Give a snapshot"):
        host.rollback(mark=old).plan()
    assert files_of(host.world.repository) == before
    # The snapshot from before has it.
    undo = host.rollback(mark=old, snapshot=Path(outcome.snapshot))
    assert undo.carry_out(undo.plan()).clean
    assert list(host.world.archives(client="fresh")) == ["day-2"]


def test_from_a_snapshot_after_everything_is_gone(host: Host) -> None:
    world = host.world
    archives = world.archives()
    snapshot = Path(take_snapshot(host.request(), run))
    nonce = int((world.repository / "nonce").read_text(), 16)
    shutil.rmtree(world.repository)
    world.repository.mkdir()
    with pytest.raises(RollbackError, match="give a snapshot"):
        host.rollback().plan()
    undo = host.rollback(snapshot=snapshot)
    steps = undo.plan()
    assert any("new repository" in note for note in steps.notes)
    assert undo.carry_out(steps).clean
    assert int((world.repository / "nonce").read_text(), 16) >= nonce + 2**40
    assert world.archives(client="fresh") == archives


def test_a_snapshot_that_is_not_ours(host: Host, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    shutil.copytree(host.world.repository, snapshot)
    (snapshot / "data/0/0").write_bytes(b"BORG_SEG")
    with pytest.raises(RollbackError):
        host.rollback(snapshot=snapshot).plan()


def test_a_scan_knows_no_transactions(host: Host) -> None:
    with pytest.raises(RollbackError, match="provider"):
        host.rollback(mark=replace(host.mark, transaction=None)).plan()


def test_a_lost_copy_of_the_config(host: Host) -> None:
    store_a_key(host)
    with pytest.raises(RollbackError, match="its copy is lost"):
        host.rollback(config=None).plan()


def test_a_box_that_wrote_after_the_nonce_jumped_can_back_up_again(host: Host) -> None:
    world = host.world
    world.create("day-0")
    host.mark, host.state = host.accept(host.mark)
    nearly_use_up_the_nonce(host)
    undo = host.rollback()
    steps = undo.plan()
    assert steps.nonce_lowered
    undo.carry_out(steps)
    world.forget("box")
    assert world.create("day-4", check=False).returncode, "its own nonce is that of the jump"
    world.forget("box", nonce=True)
    world.create("day-5")
    assert audited(world.repository, host.store, host.mark)[0].clean


def test_no_room_above_the_accepted_nonce(host: Host) -> None:
    """Accepted before a jump was a finding: nothing is changed, and the way out is told."""
    mark = replace(host.mark, nonce=2**63 - 2**30)
    use_up_the_nonce(host)
    before = files_of(host.world.repository)
    with pytest.raises(RollbackError, match="begin a new repository"):
        host.rollback(mark=mark).plan()
    assert files_of(host.world.repository) == before


def test_the_lead_of_the_nonce() -> None:
    assert rollback.NONCE_LEAD > 2**28 * 1000, "a thousand backups ahead"
