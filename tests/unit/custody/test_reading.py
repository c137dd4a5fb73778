# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All of the data is read in turn, whatever nights were missed; when it takes too long, status says so."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.ledger import Ledger, view
from ansible_collections.lifeboat.agents.plugins.module_utils.ledger_reading import reading
from ansible_collections.lifeboat.agents.tests.unit.custody.nights import Custody
from ansible_collections.lifeboat.agents.tests.unit.custody.support import World

START = datetime(2026, 3, 1, 4, 0, tzinfo=timezone.utc)
PARTS = 28


class Reader:
    """Nights that do nothing but read."""

    def __init__(self, root: Path, parts: int = PARTS) -> None:
        self.book = Ledger(root / "acme" / "vault1.jsonl", "acme", "vault1")
        self.parts = parts
        self.book.append(START, ("begin", {"repository_id": "cd" * 32}))

    def problems(self, day: int) -> list[str]:
        now = START + timedelta(days=day)
        return reading(view(self.book.read()), self.parts, now=now).problems

    def nights(self, days: Iterable[int]) -> list[int]:
        """The part that was read on each of these days."""
        parts = []
        for day in days:
            now = START + timedelta(days=day)
            part = reading(view(self.book.read()), self.parts, now=now).part
            line = {"what": ["data"], "part": part, "parts": self.parts}
            self.book.append(now, ("checked", line))
            parts.append(part)
        return parts


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def test_every_part_in_so_many_nights(reader: Reader) -> None:
    assert reader.nights(range(1, 29)) == list(range(28))
    assert reader.nights(range(29, 57)) == list(range(28))
    assert reader.problems(57) == []


def test_a_missed_night_is_made_up_for_by_the_next(reader: Reader) -> None:
    kept = [day for day in range(1, 34) if day not in (4, 5, 11, 20, 21)]
    assert reader.nights(kept) == list(range(28))
    assert reader.problems(34) == []


def test_a_weekly_timer_reads_all_of_it_and_is_said_to_be_too_slow(reader: Reader) -> None:
    assert reader.nights(range(0, 4 * 7, 7)) == [0, 1, 2, 3]
    assert reader.problems(35) == []
    assert reader.problems(36) == [
        "a part of the data was not read since the ledger began 2026-03-01T04:00:00Z:"
        " one of 28 is read each night of custody"
    ]
    assert reader.nights(range(28, 28 * 7, 7)) == list(range(4, 28))
    assert "was last read 2026-03-01T04:00:00Z" in reader.problems(28 * 7)[0]


def test_a_weekly_timer_may_read_all_of_it_at_once(tmp_path: Path) -> None:
    reader = Reader(tmp_path, parts=1)
    assert reader.nights(range(7, 70, 7)) == [0] * 9
    assert reader.problems(70) == []


def test_nights_that_stop_are_loud(reader: Reader) -> None:
    reader.nights(range(1, 29))
    assert reader.problems(1 + 35) == []
    assert reader.problems(1 + 36) != []


@pytest.mark.parametrize(("former", "parts", "read"), [(28, 14, 7), (14, 28, 7), (28, 27, 3)])
def test_another_number_of_parts(tmp_path: Path, former: int, parts: int, read: int) -> None:
    """What was read still counts, and no segment waits longer than the larger round."""
    reader = Reader(tmp_path, former)
    reader.nights(range(1, former + read + 1))
    reader.parts = parts
    last = {n: _day(former, read, n) for n in range(former * parts)}
    for day in range(former + read + 1, former + read + parts + 1):
        (part,) = reader.nights([day])
        last.update(dict.fromkeys(range(part, former * parts, parts), day))
    end = former + read + parts
    assert min(last.values()) > end - max(former, parts) - min(former, parts)
    assert reader.problems(end) == []


def _day(former: int, read: int, number: int) -> int:
    """When a segment of this number was read last in nights 1 to former + read."""
    first = number % former + 1
    return first + former if number % former < read else first


def test_halving_the_number_counts_what_was_read(tmp_path: Path) -> None:
    reader = Reader(tmp_path, 4)
    reader.nights([1, 2, 3, 4, 5])
    reader.parts = 2
    assert reader.nights([6, 7]) == [1, 0]


def test_a_ledger_from_before_readings_were_written_down(reader: Reader) -> None:
    reader.book.append(START, ("checked", {"what": ["archives"]}))
    assert view(reader.book.read()).readings == {}
    assert reader.nights([1]) == [0]


def test_an_empty_ledger_has_no_problem_and_begins_at_the_beginning(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "none.jsonl", "acme", "vault1")
    said = reading(view(book.read()), PARTS, now=START)
    assert (said.part, said.read, said.problems) == (0, None, [])


def test_no_parts_at_all_is_a_mistake(reader: Reader) -> None:
    with pytest.raises(ValueError, match="one is the least"):
        reading(view(reader.book.read()), 0, now=START)


def test_nights_write_down_what_they_read(world: World) -> None:
    custody = Custody(world, START)
    read: list[dict[str, Any]] = []
    for _night in range(3):
        world.write("memories/new", 20_000)
        custody.backup()
        custody.night()
        lines = Ledger(Path(custody.ledger()["path"]), "acme", "vault1").read()
        told = [dict(line.data) for line in lines if line.data.get("what") == ["data"]]
        read.append(told[-1])
        custody.now += timedelta(days=1)
    assert [one["part"] for one in read] == [0, 1, 2]
    assert sum(one["bytes_read"] for one in read) > 20_000
    assert custody.ledger()["last"]["checks"].keys() == {"archives", "data"}
    assert custody.ledger()["reading"]["problems"] == []
    custody.now += timedelta(days=60)
    assert "a part of the data was not read" in custody.ledger()["reading"]["problems"][0]


def test_what_cannot_be_accepted_is_not_read(world: World) -> None:
    """A finding is told, and not hidden behind data that cannot be read."""
    custody = Custody(world, START)
    custody.backup()
    custody.night()
    mark = custody.ledger()["mark"]
    (world.repository / "config").unlink()
    audit = custody.audit(mark=mark, part=0)
    assert audit["counts"] == {"repository-missing": 1}
    assert "part" not in audit
