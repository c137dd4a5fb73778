# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger: what is written stays, what is changed is detected, what it adds up to."""

from __future__ import annotations

import contextlib
import json
import os
import resource
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import ledger
from ansible_collections.lifeboat.agents.plugins.module_utils.ledger import (
    Ledger,
    LedgerError,
    contains,
    view,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.ledger_night import (
    Seen,
    Settings,
    decide,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.ledger_watch import (
    FINDINGS,
    Limits,
    Listed,
    Watch,
    watch,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.retention import Policy, plan

NOW = datetime(2026, 11, 22, 4, 0, tzinfo=timezone.utc)
ID = "ab" * 32
REPOSITORY = "cd" * 32


def seen(identity: str = ID, name: str = "acme-2026-11-21T02:00:00Z") -> dict[str, Any]:
    time = name.removeprefix("acme-")
    return {
        "id": identity,
        "name": name,
        "client_time": time,
        "server_time": time,
        "source": "transaction",
    }


@pytest.fixture
def book(tmp_path: Path) -> Ledger:
    made = Ledger(tmp_path / "acme" / "vault1.jsonl", "acme", "vault1")
    made.append(NOW, ("begin", {"repository_id": REPOSITORY}), ("seen", seen()))
    made.append(NOW, ("mark", {"transaction": 5}), ("checked", {"what": ["archives"]}))
    return made


def test_what_is_written_is_read(book: Ledger) -> None:
    lines = book.read()
    assert [line.kind for line in lines] == ["begin", "seen", "mark", "checked"]
    assert [line.sequence for line in lines] == [1, 2, 3, 4]
    assert book.path.stat().st_mode & 0o777 == 0o600
    assert book.path.parent.stat().st_mode & 0o777 == 0o700
    known = view(lines)
    assert known.repository_id == REPOSITORY
    assert known.mark == {"transaction": 5}
    assert known.last_check == {"archives": "2026-11-22T04:00:00Z"}
    assert known.names() == {ID: "acme-2026-11-21T02:00:00Z"}
    assert known.head == {"sequence": 4, "hash": lines[-1].hash}


def test_a_missing_ledger_is_empty_and_not_an_error(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "none", "acme", "vault1").read() == []
    assert view([]).repository_id is None


def changed(book: Ledger, number: int, **fields: Any) -> None:
    rows = book.path.read_text().splitlines(keepends=True)
    rows[number - 1] = json.dumps({**json.loads(rows[number - 1]), **fields}, sort_keys=True) + "\n"
    book.path.write_text("".join(rows))


@pytest.mark.parametrize(
    "fields",
    [
        {"time": "2026-11-22T05:00:00Z"},
        {"kind": "mark"},
        {"data": {"repository_id": "00" * 32}},
        {"previous": "0" * 64},
        {"hash": "0" * 64},
        {"sequence": 7},
        {"more": 1},
    ],
)
def test_a_changed_line_is_detected(book: Ledger, fields: dict[str, Any]) -> None:
    changed(book, 1, **fields)
    with pytest.raises(LedgerError, match=":1 "):
        book.read()
    with pytest.raises(LedgerError):
        book.append(NOW, ("mark", {}))


def test_a_line_changed_with_its_own_hash_is_detected(book: Ledger) -> None:
    line = book.read()[1]
    data = seen(name="acme-2020-01-01T00:00:00Z")
    forged = book._next(book.read()[0], line.time, "seen", data)
    changed(book, 2, data=forged.data, hash=forged.hash)
    with pytest.raises(LedgerError, match=":3 was changed"):
        book.read()


@pytest.mark.parametrize("drop", [1, 2, 3])
def test_a_removed_line_is_detected(book: Ledger, drop: int) -> None:
    rows = book.path.read_text().splitlines(keepends=True)
    del rows[drop - 1]
    book.path.write_text("".join(rows))
    with pytest.raises(LedgerError):
        book.read()


def test_an_inserted_line_is_detected(book: Ledger) -> None:
    rows = book.path.read_text().splitlines(keepends=True)
    book.path.write_text("".join([*rows[:2], rows[1], *rows[2:]]))
    with pytest.raises(LedgerError, match=":3 was changed"):
        book.read()


def test_a_cut_end_is_seen_by_the_head_that_the_host_keeps(book: Ledger) -> None:
    head = view(book.read()).head
    rows = book.path.read_text().splitlines(keepends=True)
    book.path.write_text("".join(rows[:-1]))
    assert book.read(), "the chain alone does not tell"
    assert not contains(book.read(), head)
    assert contains(book.read(), view(book.read()).head)
    assert contains([], {"sequence": 0, "hash": ""})
    assert not contains(book.read(), {"sequence": 2, "hash": "0" * 64})
    assert not contains(book.read(), {"sequence": -1})


def test_the_ledger_of_another_repository_does_not_pass(book: Ledger) -> None:
    for agent, repository in (("acme", "vault2"), ("other", "vault1")):
        with pytest.raises(LedgerError, match=":1 was changed"):
            Ledger(book.path, agent, repository).read()


def test_a_line_cut_off_by_a_crash_is_dropped(book: Ledger) -> None:
    before = book.path.read_bytes()
    with book.path.open("ab") as stream:
        stream.write(b'{"sequence": 5, "ti')
    assert len(book.read()) == 4
    [said] = book.unfinished()
    assert f"{book.path}: the last 19 bytes were never finished" in said
    book.append(NOW, ("mark", {"transaction": 6}))
    assert book.path.read_bytes().startswith(before)
    assert len(book.read()) == 5
    assert book.unfinished() == []


LAST = (
    ("seen", seen("ef" * 32, "acme-2026-11-22T02:00:00Z")),
    ("quarantined", {"id": "ef" * 32, "reason": "archive-time: x"}),
    ("finding", {"kind": "archive-time"}),
)


def test_lines_written_together_are_read_together_or_not_at_all(book: Ledger) -> None:
    """Cut within a night's lines, an archive must not be left seen without its quarantine."""
    before = book.path.read_bytes()
    book.append(NOW, *LAST)
    whole = book.path.read_bytes()
    for cut in range(len(before), len(whole) + 1):
        book.path.write_bytes(whole[:cut])
        assert len(book.read()) == (7 if cut == len(whole) else 4), cut
        assert book.torn == (0 if cut == len(whole) else cut - len(before)), cut


def test_what_was_cut_is_written_again_as_it_would_have_been(book: Ledger) -> None:
    before = book.path.read_bytes()
    book.append(NOW, *LAST)
    whole = book.path.read_bytes()
    for cut in range(len(before), len(whole), 7):
        book.path.write_bytes(whole[:cut])
        book.append(NOW, *LAST)
        assert book.path.read_bytes() == whole, cut


def test_a_cut_hides_no_changed_line_before_it(book: Ledger) -> None:
    changed(book, 2, time="2026-11-22T05:00:00Z")
    with book.path.open("ab") as stream:
        stream.write(b'{"sequence": 5, "ti')
    with pytest.raises(LedgerError, match=":2 was changed"):
        book.read()
    held = book.path.read_bytes()
    with pytest.raises(LedgerError, match=":2 was changed"):
        book.append(NOW, *LAST)
    assert book.path.read_bytes() == held


def test_only_what_was_never_finished_is_removed(book: Ledger) -> None:
    """A line that says the same with other spaces is a line; its length is its own."""
    rows = book.path.read_text().splitlines(keepends=True)
    book.path.write_text(rows[0].replace('": ', '":') + "".join(rows[1:]) + '{"seq')
    book.append(NOW, ("mark", {"transaction": 6}))
    assert [line.kind for line in book.read()][-2:] == ["checked", "mark"]


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_full_in_the_midst_of_a_write_leaves_the_former_lines(book: Ledger) -> None:
    before = book.path.read_bytes()
    for room in (0, 1, 200, 500, 700):
        with files_of_at_most(len(before) + room), pytest.raises(LedgerError) as refused:
            book.append(NOW, *LAST)
        assert "could not be written" in str(refused.value)
        assert str(book.path) in str(refused.value)
        assert "run the same again" in str(refused.value)
        assert book.path.read_bytes() == before, room
    book.append(NOW, *LAST)
    assert len(book.read()) == 7


def test_a_new_ledger_is_in_its_folder_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    flush = os.fsync

    def noted(descriptor: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    path = tmp_path / "ledger" / "acme" / "vault1.jsonl"
    Ledger(path, "acme", "vault1").append(NOW, ("begin", {"repository_id": REPOSITORY}))
    assert flushed == [str(path), str(path.parent), str(path.parent.parent)]


def test_unknown_kinds_are_not_written(book: Ledger) -> None:
    with pytest.raises(LedgerError, match="kind 'gossip'"):
        book.append(NOW, ("mark", {}), ("gossip", {}))
    assert len(book.read()) == 4


def test_replaying(book: Ledger) -> None:
    other = "ef" * 32
    book.append(
        NOW,
        ("seen", seen(other, "acme-2026-11-22T02:00:00Z")),
        ("quarantined", {"id": other, "reason": "archive-time: x"}),
        ("finding", {"kind": "archive-time"}),
    )
    known = view(book.read())
    assert known.archives[other].state == ledger.QUARANTINED
    assert known.findings[0]["kind"] == "archive-time"
    book.append(NOW, ("resolved", {"why": "the clock", "release": [known.archives[other].name]}))
    assert view(book.read()).archives[other].state == ledger.PRESENT
    book.append(NOW, ("quarantined", {"id": other, "reason": "x"}))
    book.append(NOW, ("released", {"id": other}), ("resolved", {}), ("proved", {"id": other}))
    known = view(book.read())
    assert known.archives[other].state == ledger.PRESENT
    assert known.archives[other].proved
    assert known.findings == []
    book.append(NOW, ("proved", {"id": ID}), ("deleting", {"archives": [{"id": other}]}))
    known = view(book.read())
    assert known.archives[ID].proved
    assert known.archives[other].proved, "a proof stays one, for when the last one does not stand"
    assert known.deleting == [other]
    book.append(NOW, ("removed", {"archives": [{"id": other, "reason": "no rule keeps it"}]}))
    known = view(book.read())
    assert known.deleting == [other], "until the state without it is accepted"
    assert known.last_deletion
    assert list(known.names()) == [ID]
    book.append(NOW, ("mark", {"transaction": 6}))
    assert view(book.read()).deleting == []
    book.append(NOW, ("rollback", {"undone": [ID], "restored": [other]}), ("compacted", {}))
    assert list(view(book.read()).names()) == [other]


def test_a_proof_outlives_one_that_a_rollback_undid(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger", "acme", "vault1")
    names = [f"acme-2026-11-{day:02d}T02:00:00Z" for day in range(15, 22)]
    ids = [f"{number:064x}" for number in range(len(names))]
    pairs = zip(ids, names, strict=True)
    book.append(NOW, ("begin", {"repository_id": REPOSITORY}))
    book.append(NOW, *[("seen", seen(one, name)) for one, name in pairs])
    book.append(NOW, ("proved", {"id": ids[1]}), ("proved", {"id": ids[-1]}))
    policy = Policy(daily=2, weekly=0, monthly=0, floor=1)
    assert ids[1] in {one.id for one in plan(view(book.read()).standing, policy).remove}
    book.append(NOW, ("rollback", {"undone": [ids[-1]]}))
    assert ids[1] not in {one.id for one in plan(view(book.read()).standing, policy).remove}


def test_proofs_of_archives_that_stand_are_taken_over_once(book: Ledger) -> None:
    other, gone = "ef" * 32, "09" * 32
    book.append(NOW, ("seen", seen(gone, "acme-1")), ("removed", {"archives": [{"id": gone}]}))
    book.append(NOW, ("seen", seen(other, "acme-2026-11-22T02:00:00Z")), ("proved", {"id": ID}))
    listed = tuple(Listed(one.id, one.name, one.client_time) for one in view(book.read()).standing)
    evidence = Seen(
        REPOSITORY, listed, times={}, counts={}, audit="", proved=(gone, ID, other, "un" * 32)
    )
    _night, added = decide(book, book.read(), evidence, Settings(), now=NOW)
    assert [(line.kind, line.data) for line in added] == [("proved", {"id": other})]


def test_every_kind_can_be_replayed() -> None:
    assert set(ledger._APPLY) == set(ledger.KINDS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("acme-2026.checkpoint", True),
        ("acme-2026.checkpoint.1", True),
        ("acme-2026", False),
        ("acme.checkpoint.x", False),
        (".checkpoint", False),
        ("acme-2026.1", False),
        ("checkpoint", False),
    ],
)
def test_checkpoints(name: str, expected: bool) -> None:
    assert ledger.is_checkpoint(name) is expected


# The list of archives, night after night


class Nights:
    """A ledger, and a list of archives that grows."""

    def __init__(self, tmp_path: Path) -> None:
        self.book = Ledger(tmp_path / "ledger", "acme", "vault1")
        self.listed: list[Listed] = []
        self.times: dict[str, str] = {}
        self.now = NOW
        self.limits = Limits(prefix="acme-")

    def archive(
        self,
        *,
        arrived: timedelta = timedelta(hours=-2),
        clock: timedelta = timedelta(),
        name: str = "",
    ) -> str:
        """An archive that arrived at now + arrived, by a client whose clock is off."""
        identity = f"{len(self.times):064x}"
        at = self.now + arrived
        client = at + clock
        self.times[identity] = ledger.stamp(at)
        name = name or f"acme-{ledger.stamp(client)}"
        self.listed.append(Listed(identity, name, ledger.stamp(client)))
        return identity

    def look(self, *, times: bool = True, repository_id: str = REPOSITORY) -> Watch:
        known = view(self.book.read())
        result = watch(
            known,
            self.listed,
            repository_id=repository_id,
            now=self.now,
            times=self.times if times else None,
            limits=self.limits,
        )
        lines = result.lines()
        if known.repository_id is None:
            lines = [("begin", {"repository_id": repository_id}), *lines]
        self.book.append(self.now, *lines, ("mark", {}))
        return result

    def night(self, days: float = 1) -> None:
        self.now += timedelta(days=days)

    @property
    def known(self) -> ledger.View:
        return view(self.book.read())


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    made = Nights(tmp_path)
    made.archive()
    made.look()
    made.night()
    return made


def kinds(result: Watch) -> list[str]:
    return [finding["kind"] for finding in result.findings]


@pytest.mark.parametrize("times", [True, False])
def test_sixty_honest_nights(tmp_path: Path, times: bool) -> None:
    """Two clocks off by hours, interrupted creates, a week without custody: no alarm."""
    nights = Nights(tmp_path)
    for number in range(60):
        clock = timedelta(hours=(7, -5)[number % 2])
        if number % 9 == 4:
            name = f"acme-{ledger.stamp(nights.now)}"
            nights.archive(name=f"{name}.checkpoint", clock=clock)
            nights.archive(name=f"{name}.checkpoint.1", clock=clock)
        nights.archive(clock=clock)
        if number % 11 == 3:
            nights.archive(arrived=timedelta(hours=-1), clock=clock)
        if not 30 <= number < 37:
            assert nights.look(times=times).findings == []
        nights.night()
    standing = nights.known.standing
    assert all(archive.state == ledger.PRESENT for archive in standing)
    days = {archive.when.date() for archive in standing}
    assert len(days) >= 56, "archives first seen at once keep their days"


def test_vanished(nights: Nights) -> None:
    nights.archive()
    nights.listed.pop(0)
    result = nights.look()
    assert kinds(result) == ["archive-vanished"]
    nights.night()
    nights.archive()
    assert nights.known.findings, "it stays until somebody resolves it"


def test_renamed_in_a_forged_manifest(nights: Nights) -> None:
    nights.archive()
    one = nights.listed[0]
    nights.listed[0] = Listed(one.id, one.name + ".checkpoint", one.time)
    assert kinds(nights.look()) == ["archive-renamed"]


def test_returned(nights: Nights) -> None:
    nights.archive()
    nights.book.append(nights.now, ("removed", {"archives": [{"id": nights.listed[0].id}]}))
    assert kinds(nights.look()) == ["archive-returned"]


def test_a_deletion_that_a_killed_run_had_begun(nights: Nights) -> None:
    nights.archive()
    gone = nights.listed.pop(0)
    nights.book.append(nights.now, ("deleting", {"archives": [{"id": gone.id}]}))
    result = nights.look()
    assert result.findings == []
    assert result.removed == [gone.id]
    assert nights.known.deleting == [gone.id], "no state without it was accepted"
    nights.book.append(nights.now, ("removed", {"archives": []}))
    assert nights.known.deleting == [gone.id], "until the state without it is accepted"
    assert nights.known.last_deletion is None
    nights.book.append(nights.now, ("mark", {}))
    assert nights.known.deleting == []


def test_a_deletion_that_a_killed_run_had_not_carried_out(nights: Nights) -> None:
    nights.archive()
    nights.book.append(nights.now, ("deleting", {"archives": [{"id": nights.listed[0].id}]}))
    result = nights.look()
    assert result.findings == []
    assert result.removed == []


@pytest.mark.parametrize("clock", [timedelta(days=-400), timedelta(days=3), timedelta(hours=-31)])
def test_times_that_are_far_off(nights: Nights, clock: timedelta) -> None:
    forged = nights.archive(clock=clock)
    nights.archive()
    result = nights.look()
    assert kinds(result) == ["archive-time"]
    archive = nights.known.archives[forged]
    assert archive.state == ledger.QUARANTINED
    assert archive.server_time == nights.times[forged], "what it claims counts for nothing"


@pytest.mark.parametrize("clock", [timedelta(days=-400), timedelta(days=3)])
def test_times_that_are_far_off_where_the_server_tells_none(
    nights: Nights, clock: timedelta
) -> None:
    forged = nights.archive(clock=clock)
    nights.archive()
    assert kinds(nights.look(times=False)) == ["archive-time"]
    assert nights.known.archives[forged].state == ledger.QUARANTINED


def test_two_hundred_archives(nights: Nights) -> None:
    for _unused in range(200):
        nights.archive()
    result = nights.look()
    assert kinds(result) == ["too-many-archives"]
    states = {archive.state for archive in result.seen}
    assert states == {ledger.QUARANTINED}


def test_many_checkpoints(nights: Nights) -> None:
    nights.archive()
    for number in range(10):
        nights.archive(name=f"acme-x.checkpoint.{number}")
    assert kinds(nights.look()) == ["too-many-archives"]


def test_names(nights: Nights) -> None:
    nights.archive(name="other-2026")
    nights.archive()
    assert kinds(nights.look()) == ["archive-name"]


def test_silence(nights: Nights) -> None:
    nights.night()
    result = nights.look()
    assert kinds(result) == ["no-new-archive"]
    assert result.lines() == [], "the next archive ends it"
    nights.archive()
    assert nights.look().findings == []


def test_a_checkpoint_is_no_backup(nights: Nights) -> None:
    nights.night()
    nights.archive(name="acme-x.checkpoint")
    assert kinds(nights.look()) == ["no-new-archive"]


def test_another_repository(nights: Nights) -> None:
    assert kinds(nights.look(repository_id="00" * 32)) == ["repository-replaced"]


def test_adopting_a_repository_that_was_compacted(tmp_path: Path) -> None:
    """A ledger that was lost: the host's times may be those of a compaction."""
    nights = Nights(tmp_path)
    for days in range(40, 0, -1):
        nights.archive(arrived=timedelta(days=-days))
    future = nights.archive(clock=timedelta(days=9))
    nights.times = dict.fromkeys(nights.times, ledger.stamp(nights.now))
    result = nights.look()
    assert kinds(result) == ["archive-time"]
    assert [archive.id for archive in result.seen if archive.state != ledger.PRESENT] == [future]
    days_seen = {archive.when.date() for archive in result.seen}
    assert len(days_seen) >= 39


def test_every_finding_has_a_meaning() -> None:
    assert all(meaning for meaning, _unused in FINDINGS.values())
