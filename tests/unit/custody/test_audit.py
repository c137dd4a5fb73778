# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both audits against a real repository that a box attacks through plain append-only serving.

The guard is left out here on purpose: this is the layer that must hold without it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import audit, rollback
from ansible_collections.lifeboat.agents.plugins.module_utils.audit import (
    AuditError,
    Mark,
    Report,
    State,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.segments import (
    COMMIT_ENTRY,
    SegmentError,
    Segments,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.serve_client import (
    MANIFEST,
    ServeConnection,
    pack,
    unpack,
)
from ansible_collections.lifeboat.agents.tests.unit.custody.support import World

NEW = b"n" * 32


def on_host(world: World, mark: Mark | None = None, **more: Any) -> tuple[Report, State | None]:
    return audit.audit_segments(world.repository, mark=mark, **more)


def by_scan(world: World, mark: Mark | None = None, **more: Any) -> tuple[Report, State]:
    with world.connect(serving=world.plain()) as connection:
        connection.open(str(world.repository), exclusive=True, lock_wait=1)
        return audit.audit_scan(connection, mark=mark, **more)


@dataclass
class Accepted:
    """A world and its accepted state, by both methods."""

    world: World
    mark: Mark
    state: State
    names: dict[str, str]  # archive id to name

    def on_host(self, **more: Any) -> Report:
        options: dict[str, Any] = {"state": self.state, "archives": self.names, **more}
        return on_host(self.world, self.mark, **options)[0]

    def by_scan(self, **more: Any) -> Report:
        options: dict[str, Any] = {"state": self.state, "archives": self.names, **more}
        return by_scan(self.world, self.mark, **options)[0]


@pytest.fixture
def accepted(lived_in: World) -> Accepted:
    report, state = on_host(lived_in)
    assert report.clean
    assert report.mark
    assert state
    names = {identity: name for name, identity in lived_in.archives().items()}
    return Accepted(lived_in, report.mark, state, names)


def attack(world: World, *acts: Callable[[ServeConnection], Any]) -> None:
    with world.connect(serving=world.plain()) as connection:
        connection.open(str(world.repository), exclusive=True, lock_wait=1)
        for act in acts:
            act(connection)
        connection.call("commit")


def some_chunk(world: World, state: State, names: dict[str, str]) -> bytes:
    """An object that is no archive's head."""
    return next(key for key in state.objects if key.hex() not in names)


def kinds(report: Report) -> set[str]:
    return set(report.counts)


# The two forms agree


def test_both_forms_make_the_same_mark(accepted: Accepted) -> None:
    scanned = by_scan(accepted.world)[0].mark
    assert scanned
    assert (scanned.objects, scanned.sha256) == (accepted.mark.objects, accepted.mark.sha256)
    assert scanned.repository_id == accepted.mark.repository_id
    assert scanned.nonce == accepted.mark.nonce
    assert scanned.nonce
    assert scanned.manifest_type == accepted.mark.manifest_type == audit.KEYFILE_BLAKE2
    # So one can take over from the other.
    assert on_host(accepted.world, scanned, state=None)[0].clean
    assert accepted.by_scan().clean


def test_nothing_new_is_clean(accepted: Accepted) -> None:
    for report in (accepted.on_host(), accepted.by_scan()):
        assert report.clean
        assert report.mark
        assert report.mark.sha256 == accepted.mark.sha256
        assert "no accepted object" in report.summary()


# Attacks


def delete_archive(accepted: Accepted) -> None:
    accepted.world.borg("delete", f"{accepted.world.url}::day-1", serving=accepted.world.plain())


def rename_archive(accepted: Accepted) -> None:
    world = accepted.world
    world.borg("rename", f"{world.url}::day-1", "day-1.checkpoint", serving=world.plain())


def prune(accepted: Accepted) -> None:
    world = accepted.world
    world.write("SOUL.md", 3_000)
    world.create("day-3", serving=world.plain())
    world.borg("prune", "--keep-last=1", world.url, serving=world.plain())


def recreate(accepted: Accepted) -> None:
    world = accepted.world
    world.borg("recreate", "--exclude", "*one*", world.url, serving=world.plain())


def delete_chunk(accepted: Accepted) -> None:
    chunk = some_chunk(accepted.world, accepted.state, accepted.names)
    attack(accepted.world, lambda c: c.call("delete", id=chunk))


def overwrite_chunk(accepted: Accepted) -> None:
    chunk = some_chunk(accepted.world, accepted.state, accepted.names)
    attack(accepted.world, lambda c: c.call("put", id=chunk, data=os.urandom(1000)))


def overwrite_with_well_formed(accepted: Accepted) -> None:
    """Another object of this very repository: encrypted with the right key."""
    first, second = list(accepted.state.objects)[:2]
    attack(
        accepted.world,
        lambda c: c.call("put", id=first, data=c.call("get", id=second)),
    )


def overwrite_and_put_back(accepted: Accepted) -> None:
    """The old bytes again, but as a new entry: nobody honest does that either."""
    chunk = some_chunk(accepted.world, accepted.state, accepted.names)
    attack(accepted.world, lambda c: c.call("put", id=chunk, data=c.call("get", id=chunk)))


def delete_everything(accepted: Accepted) -> None:
    attack(
        accepted.world,
        lambda c: list(c.calls("delete", [{"id": key} for key in accepted.state.objects])),
    )


def overwrite_then_delete(accepted: Accepted) -> None:
    chunk = some_chunk(accepted.world, accepted.state, accepted.names)
    attack(accepted.world, lambda c: c.call("put", id=chunk, data=b"x"))
    attack(accepted.world, lambda c: c.call("delete", id=chunk))


def hidden_among_honest_work(accepted: Accepted) -> None:
    overwrite_chunk(accepted)
    for number in range(3):
        accepted.world.write(f"memories/new-{number}", 100_000)
        accepted.world.create(f"day-{number + 3}", serving=accepted.world.plain())


OBJECT_ATTACKS: dict[str, tuple[Callable[[Accepted], None], set[str]]] = {
    "delete an archive": (delete_archive, {"deleted"}),
    "rename an archive": (rename_archive, {"deleted"}),
    "prune": (prune, {"deleted"}),
    "recreate": (recreate, {"deleted"}),
    "delete a chunk": (delete_chunk, {"deleted"}),
    "overwrite a chunk with garbage": (overwrite_chunk, {"overwritten"}),
    "overwrite a chunk, well-formed": (overwrite_with_well_formed, {"overwritten"}),
    "overwrite a chunk with itself": (overwrite_and_put_back, {"overwritten"}),
    "overwrite, then delete": (overwrite_then_delete, {"deleted"}),
    "delete everything": (delete_everything, {"deleted"}),
    "hidden among honest work": (hidden_among_honest_work, {"overwritten"}),
}


@pytest.mark.parametrize("name", OBJECT_ATTACKS)
def test_attacks_on_objects_are_found_by_both(accepted: Accepted, name: str) -> None:
    act, expected = OBJECT_ATTACKS[name]
    act(accepted)
    host, scan = accepted.on_host(), accepted.by_scan()
    assert kinds(host) == expected
    assert kinds(scan) == expected
    assert host.counts == scan.counts
    assert {f.object for f in host.findings} == {f.object for f in scan.findings}
    for report in (host, scan):
        assert not report.clean
        assert report.summary().startswith("TAMPERING")
    assert all(f.transaction is not None for f in host.findings)
    assert host.mark
    assert scan.mark
    assert host.mark.sha256 == scan.mark.sha256 == on_host(accepted.world)[0].mark.sha256  # type: ignore[union-attr]


def test_findings_name_the_archives(accepted: Accepted) -> None:
    delete_archive(accepted)
    for report in (accepted.on_host(), accepted.by_scan()):
        head = report.findings[0]
        assert (head.archive, head.kind) == ("day-1", "deleted"), "the head of an archive first"
        assert head.object in accepted.names


def test_findings_name_the_archive_an_object_came_with(accepted: Accepted) -> None:
    world = accepted.world
    heads = {name: bytes.fromhex(identity) for identity, name in accepted.names.items()}
    order = list(accepted.state.objects)
    of_day_2 = order[order.index(heads["day-1"]) + 1]
    attack(world, lambda c: c.call("delete", id=order[0]), lambda c: c.call("delete", id=of_day_2))
    for report in (accepted.on_host(), accepted.by_scan()):
        came_with = {f.object: f.written_with for f in report.findings}
        assert came_with == {order[0].hex(): "day-1", of_day_2.hex(): "day-2"}


def test_findings_are_all_counted_and_the_first_told(
    accepted: Accepted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "SHOWN", 2)
    delete_everything(accepted)
    report = accepted.on_host()
    assert report.counts == {"deleted": len(accepted.state.objects)}
    assert len(report.findings) == 2


def test_the_manifest(accepted: Accepted) -> None:
    attack(accepted.world, lambda c: c.call("put", id=MANIFEST, data=b"\x02" + bytes(100)))
    for report in (accepted.on_host(), accepted.by_scan()):
        assert kinds(report) == {"manifest-foreign"}
    attack(accepted.world, lambda c: c.call("put", id=MANIFEST, data=b""))
    for report in (accepted.on_host(), accepted.by_scan()):
        assert kinds(report) == {"manifest-foreign"}
    attack(accepted.world, lambda c: c.call("delete", id=MANIFEST))
    for report in (accepted.on_host(), accepted.by_scan()):
        assert kinds(report) == {"manifest-deleted"}


def test_a_key_in_the_config(accepted: Accepted) -> None:
    attack(
        accepted.world,
        lambda c: c.call("save_key", keydata=b"BORG_KEY 00\nxyz"),
        lambda c: c.call("put", id=NEW, data=b"x"),
    )
    for report in (accepted.on_host(), accepted.by_scan()):
        assert kinds(report) == {"key-stored"}


def test_a_changed_config(accepted: Accepted) -> None:
    config = accepted.world.repository / "config"
    config.write_text(config.read_text().replace("append_only = 0", "append_only = 1"))
    assert kinds(accepted.on_host()) == {"config-changed"}
    config.write_text("nonsense")
    assert kinds(accepted.on_host()) == {"config-changed"}


def test_a_check_on_the_host_does_not_change_the_config(accepted: Accepted) -> None:
    config = accepted.world.repository / "config"
    config.write_text(config.read_text() + "last_segment_checked = 7\n")
    assert accepted.on_host().clean


def test_another_repository_in_its_place(accepted: Accepted) -> None:
    world = accepted.world
    shutil.rmtree(world.repository)
    world.borg("init", "-e", "keyfile-blake2", world.url, serving=world.plain(), client="other")
    assert kinds(accepted.on_host()) == {"repository-replaced"}
    assert kinds(accepted.by_scan()) == {"repository-replaced"}
    shutil.rmtree(world.repository)
    assert kinds(accepted.on_host()) == {"repository-missing"}


def test_the_nonce(accepted: Accepted) -> None:
    nonce = accepted.world.repository / "nonce"
    for audited in (accepted.on_host, accepted.by_scan):
        nonce.write_text("f" * 16)
        assert kinds(audited()) == {"nonce-exhausted"}
        nonce.write_text("0" * 16)
        assert kinds(audited()) == {"nonce-back"}
        nonce.unlink()
        assert kinds(audited()) == {"nonce-back"}


def test_a_nonce_that_jumps_is_found_while_it_is_still_in_range(accepted: Accepted) -> None:
    nonce = accepted.world.repository / "nonce"
    honest = accepted.mark.nonce or 0
    for audited in (accepted.on_host, accepted.by_scan):
        nonce.write_text(f"{2**63 - 1:016x}")
        assert kinds(audited()) == {"nonce-jumped"}
        nonce.write_text(f"{honest + 1000 * 2**28 + rollback.NONCE_LEAD:016x}")
        assert audited().clean, "a thousand backups that stored nothing, and a rollback"


def test_a_nonce_that_jumped_before_the_first_night_is_not_accepted(lived_in: World) -> None:
    (lived_in.repository / "nonce").write_text(f"{2**63 - 1:016x}")
    assert kinds(on_host(lived_in)[0]) == {"nonce-jumped"}
    assert kinds(by_scan(lived_in)[0]) == {"nonce-jumped"}


def test_a_mark_from_before_scans_saw_the_nonce(accepted: Accepted) -> None:
    report, _state = by_scan(accepted.world, replace(accepted.mark, nonce=None))
    assert report.clean
    assert report.mark
    assert report.mark.nonce == accepted.mark.nonce


def test_files_changed_behind_borgs_back(accepted: Accepted) -> None:
    segments = sorted(accepted.world.repository.glob("data/0/*"), key=lambda p: int(p.name))
    with segments[0].open("ab") as stream:
        stream.write(b"x")
    assert kinds(accepted.on_host()) == {"segment-changed"}
    segments[0].unlink()
    assert kinds(accepted.on_host()) == {"segment-missing"}


def test_history_cut_off(accepted: Accepted) -> None:
    last = accepted.world.repository / "data/0" / str(accepted.mark.transaction)
    last.unlink()
    assert kinds(accepted.on_host()) == {"history-lost"}


def test_damage_in_what_is_new(accepted: Accepted) -> None:
    world = accepted.world
    world.write("memories/three", 100_000)
    world.create("day-3", serving=world.plain())
    assert accepted.on_host(checksums=True).clean
    path = world.repository / "data/0" / str((accepted.mark.transaction or 0) + 1)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert accepted.on_host().clean, "headers alone do not tell"
    assert kinds(accepted.on_host(checksums=True)) == {"damaged"}
    path.write_bytes(data[:200])
    assert kinds(accepted.on_host()) == {"damaged"}


# Honest work


def test_honest_work_is_clean_and_extends_the_mark(accepted: Accepted) -> None:
    world = accepted.world
    world.write("memories/three", 100_000)
    (world.home / "memories/one").unlink()
    world.create("day-3", serving=world.plain())
    world.create("day-4", serving=world.plain())
    names = {identity: name for name, identity in world.archives().items()}
    host, state = on_host(world, accepted.mark, state=accepted.state, archives=names)
    scan, _unused = by_scan(world, accepted.mark, state=accepted.state)
    assert host.clean
    assert scan.clean
    assert host.mark
    assert scan.mark
    assert (host.mark.objects, host.mark.sha256) == (scan.mark.objects, scan.mark.sha256)
    assert host.mark.objects > accepted.mark.objects
    assert len(host.transactions) == 2
    new = {names[identity] for identity in host.archive_times}
    assert new == {"day-3", "day-4"}
    full, _unused = on_host(world)
    assert full.mark == host.mark, "the incremental mark is that of a full walk"
    assert state
    assert on_host(world, host.mark, state=state)[0].clean


def test_what_the_box_deletes_of_its_own_session_is_no_finding(accepted: Accepted) -> None:
    attack(
        accepted.world,
        lambda c: c.call("put", id=NEW, data=b"x"),
        lambda c: c.call("commit"),
        lambda c: c.call("put", id=NEW, data=b"y"),
        lambda c: c.call("commit"),
        lambda c: c.call("delete", id=NEW),
    )
    assert accepted.on_host().clean
    assert accepted.by_scan().clean


def test_an_unfinished_transaction_is_left_alone(accepted: Accepted) -> None:
    chunk = some_chunk(accepted.world, accepted.state, accepted.names)
    with accepted.world.connect(serving=accepted.world.plain()) as connection:
        connection.open(str(accepted.world.repository), exclusive=True, lock_wait=1)
        connection.call("delete", id=chunk)
    report = accepted.on_host()
    assert report.clean
    assert report.unfinished == [(accepted.mark.transaction or 0) + 1]


def test_after_a_compaction_by_the_host(accepted: Accepted) -> None:
    """What looks like tampering to the old mark is whole by size and checksum."""
    world = accepted.world
    control = world.guard("--control")
    world.borg("delete", f"{world.url}::day-1", serving=control, client="control")
    after_delete, state = on_host(world)
    assert after_delete.mark
    world.borg("compact", "--threshold", "0", str(world.repository))
    assert not on_host(world, after_delete.mark, state=state)[0].clean
    report, new = on_host(world, after_delete.mark, state=state, compacting=True)
    assert report.clean, report.findings
    assert report.mark
    assert report.mark.objects == after_delete.mark.objects
    assert new
    assert audit.objects_digest(new.objects) == audit.objects_digest(state.objects if state else [])
    # And an object lost on the way is found.
    attack(world, lambda c: c.call("delete", id=next(iter(new.objects))))
    lost, _unused = on_host(world, after_delete.mark, state=state, compacting=True)
    assert kinds(lost) == {"compaction-lost"}


def test_an_object_replaced_during_an_interrupted_compaction(accepted: Accepted) -> None:
    overwrite_chunk(accepted)
    assert kinds(accepted.on_host(compacting=True)) == {"compaction-lost"}


# The record of accepted objects


def test_a_lost_record_is_made_again(accepted: Accepted) -> None:
    report = accepted.on_host(state=None)
    assert report.clean
    assert "the recorded list of objects is lost" in report.notes
    overwrite_chunk(accepted)
    assert kinds(accepted.on_host(state=None)) == {"overwritten"}


def test_a_forged_record_does_not_help(accepted: Accepted) -> None:
    """Whoever can write the record cannot write the ledger."""
    chunk = some_chunk(accepted.world, accepted.state, accepted.names)
    overwrite_chunk(accepted)
    objects = {key: value for key, value in accepted.state.objects.items() if key != chunk}
    forged = State(objects, accepted.state.layout)
    assert kinds(accepted.on_host(state=forged)) == {"overwritten"}
    forged = State(accepted.state.objects, {})
    assert kinds(accepted.on_host(state=forged)) == {"overwritten"}


def test_a_mark_of_another_history(accepted: Accepted) -> None:
    other = Mark.from_dict({**accepted.mark.to_dict(), "sha256": "0" * 64})
    report, _unused = on_host(accepted.world, other, state=accepted.state)
    assert "state-differs" in kinds(report)
    with accepted.world.connect(serving=accepted.world.plain()) as connection:
        connection.open(str(accepted.world.repository), exclusive=True)
        assert kinds(audit.audit_scan(connection, mark=other)[0]) == {"state-differs"}


def test_the_record_survives_a_round_trip(accepted: Accepted, tmp_path: Path) -> None:
    path = tmp_path / "objects"
    audit.write_file(path, accepted.state.dump())
    assert path.stat().st_mode & 0o777 == 0o600
    again = audit.load_state(path)
    assert again == accepted.state
    assert again.dump() == accepted.state.dump()
    path.write_bytes(accepted.state.dump()[:-1])
    assert audit.load_state(path) is None
    path.write_bytes(b"\xff")
    assert audit.load_state(path) is None
    assert audit.load_state(tmp_path / "missing") is None


def test_marks() -> None:
    mark = Mark(repository_id="a" * 64, transaction=3, objects=1, sha256="b" * 64)
    assert Mark.from_dict(mark.to_dict()) == mark
    assert Mark.from_dict({**mark.to_dict(), "added_later": 1}) == mark
    with pytest.raises(AuditError, match="format"):
        Mark.from_dict({**mark.to_dict(), "format": 2})
    with pytest.raises(AuditError, match="incomplete"):
        Mark.from_dict({"format": 1, "objects": 3})


def test_could_not_run_is_never_clean(tmp_path: Path, world: World) -> None:
    with pytest.raises(AuditError, match="no repository"):
        audit.audit_segments(tmp_path / "missing")
    for path in world.repository.glob("data/0/*"):
        path.unlink()
    with pytest.raises(AuditError, match="nothing to audit"):
        audit.audit_segments(world.repository)


def test_the_cost_grows_with_what_is_new(accepted: Accepted) -> None:
    world = accepted.world
    for number in range(10):
        world.write(f"more/{number}", 500_000)
    world.create("day-3", serving=world.plain())
    report, state = on_host(world, accepted.mark, state=accepted.state)
    assert report.mark
    world.write("SOUL.md", 3_000)
    world.create("day-4", serving=world.plain())
    small, _unused = on_host(world, report.mark, state=state)
    full, _unused = on_host(world)
    assert small.bytes_read < 40_000
    assert full.bytes_read > 2 * small.bytes_read


# Segment files


def test_times_and_transactions(accepted: Accepted) -> None:
    files = Segments(accepted.world.repository)
    times = files.times()
    assert accepted.mark.transaction in times
    assert all(moment.tzinfo is not None for moment in times.values())
    (accepted.world.repository / "transactions").write_text("junk\ntransaction 5, UTC time x\n")
    assert files.times() == {}


def segment_file(tmp_path: Path, data: bytes) -> Segments:
    folder = tmp_path / "data" / "0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "0").write_bytes(data)
    return Segments(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"BORG_XXX", "begin"),
        (b"BORG_SEG\x00", "within"),
        (b"BORG_SEG" + bytes(9), "size 0"),
        (b"BORG_SEG" + COMMIT_ENTRY[:-1] + b"\x03", "unknown"),
        (b"BORG_SEG" + b"xxxx" + COMMIT_ENTRY[4:], "malformed commit"),
        (b"BORG_SEG" + bytes(4) + (41).to_bytes(4, "little") + b"\x01" + bytes(32), "deletion"),
        (b"BORG_SEG" + bytes(4) + (5000).to_bytes(4, "little") + bytes(33), "size 5000"),
    ],
)
def test_files_that_borg_did_not_write(tmp_path: Path, data: bytes, message: str) -> None:
    files = segment_file(tmp_path, data)
    with pytest.raises(SegmentError, match=message):
        list(files.entries(0))
    assert not files.is_committed(0)


def test_an_object_that_ends_like_a_commit_is_none(world: World) -> None:
    """A forged end of transaction inside the data of an object."""
    with world.connect(serving=world.plain()) as connection:
        connection.open(str(world.repository), exclusive=True)
        connection.call("put", id=NEW, data=b"x" * 50 + COMMIT_ENTRY)
    files = Segments(world.repository)
    layout = files.layout()
    last = max(layout)
    assert (world.repository / f"data/0/{last}").read_bytes().endswith(COMMIT_ENTRY)
    assert not files.is_committed(last)
    assert files.last_commit(layout) == last - 1


# The small protocol client


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, 127, 128, -1, -33, 2**32, 2**64 - 1, -(2**40), 1.5,
        b"", b"x" * 31, b"x" * 32, b"x" * 70_000, [], [1] * 20, [b"x"] * 70_000,
        {}, {b"a": [1, {b"b": None}]}, {number: number for number in range(20)},
    ],
)  # fmt: skip
def test_msgpack(value: Any) -> None:
    packed = pack(value)
    assert unpack(packed) == (value, len(packed))
    for cut in range(0, len(packed), max(1, len(packed) // 50)):
        with pytest.raises(IndexError):
            unpack(packed[:cut])


def test_what_nobody_else_sees(accepted: Accepted) -> None:
    """The control: borg's own list and check are content with an overwritten chunk."""
    overwrite_chunk(accepted)
    world = accepted.world
    assert set(world.archives().values()) == set(accepted.names)
    assert world.borg("check", "--repository-only", str(world.repository)).returncode == 0
    assert world.create("day-3", serving=world.plain()).returncode == 0
    assert not accepted.on_host().clean


# What returns after a deletion by the trusted side


def touch(accepted: Accepted, *transactions: str, key: bytes) -> None:
    """Each word is a transaction: the archive goes, or something happens to the object."""
    for word in transactions:
        if word == "archive":
            delete_archive(accepted)
            continue
        acts: dict[str, Callable[[ServeConnection], Any]] = {
            "put": lambda c: c.call("put", id=key, data=b"\x04" + bytes(100)),
            "again": lambda c: c.call("put", id=key, data=c.call("get", id=key)),
            "delete": lambda c: c.call("delete", id=key),
        }
        attack(accepted.world, acts[word])


@pytest.mark.parametrize(
    ("transactions", "mine", "counted"),
    [
        (["archive", "put"], True, "returned"),
        (["archive", "put", "put"], True, "returned"),
        (["again", "archive"], True, "deleted"),
        (["again", "archive", "put"], True, "overwritten"),
        (["put"], True, "overwritten"),
        (["delete", "put"], False, "overwritten"),
        (["archive", "put"], False, "overwritten"),
        (["archive", "delete", "put"], False, "overwritten"),
    ],
)
def test_only_what_went_with_the_archive_may_return(
    accepted: Accepted, transactions: list[str], mine: bool, counted: str
) -> None:
    world = accepted.world
    going = next(one for one, name in accepted.names.items() if name == "day-1")
    shared = some_chunk(world, accepted.state, accepted.names)
    key = bytes.fromhex(going) if mine else shared
    touch(accepted, *transactions, key=key)
    found = accepted.on_host(deleting=[going])
    kind = next(one.kind for one in found.findings if one.object == key.hex())
    assert kind == counted
    assert accepted.on_host().counts.get("returned") is None
