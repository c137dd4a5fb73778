# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import stat

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.borg import Item, parse_item
from ansible_collections.lifeboat.agents.plugins.module_utils.listing import Comparer, lossy
from ansible_collections.lifeboat.agents.plugins.module_utils.survey import Candidate
from ansible_collections.lifeboat.agents.plugins.module_utils.walk import Entry

FILE = stat.S_IFREG | 0o644


def candidate(path: str, mode: int = FILE, size: int = 5) -> Candidate:
    kind = "directory" if stat.S_ISDIR(mode) else "symlink" if stat.S_ISLNK(mode) else "file"
    status = os.stat_result(
        (mode, 7, 1, 1, 10, 20, size, 0, 1, 0), {"st_mtime_ns": 10**9, "st_ctime_ns": 1}
    )
    return Candidate(Entry(path, kind, status, "keep", 0))


def item(path: str, mode: str = "-rw-r--r--", size: int = 5, uid: int = 10, gid: int = 20) -> Item:
    return Item(lossy(os.fsencode(path)), mode[0], mode, uid, gid, size)


def comparer(*records: Candidate) -> Comparer:
    copy = candidate("m", size=9)
    return Comparer("/h/a", {r.path: r for r in records}, {b"run/manifest.json": copy})


MANIFEST = item("run/manifest.json", size=9)


def test_all_as_it_should_be() -> None:
    names = ["a", "line\nbreak", "odd\udcff", "ü"]
    compared = comparer(candidate("", stat.S_IFDIR | 0o700), *(candidate(name) for name in names))
    compared.take(item("h/a", "drwx------", 0))
    for name in names:
        compared.take(item(f"h/a/{name}"))
    compared.take(MANIFEST)
    result = compared.result()
    assert result.good and not result.resized
    assert result.compared == 6
    assert result.describe() == "6 entries as the manifest says"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (item("h/a/a", "lrwxrwxrwx"), "replaced"),
        (item("h/a/a", "-rw-r-----"), "replaced"),
        (item("h/a/a", uid=0), "disowned"),
        (item("h/a/a", gid=0), "replaced"),
        (item("h/a/a", size=6), "resized"),
        (item("h/a/.env"), "unexpected"),
        (item("h/b"), "unexpected"),
        (item("etc/shadow"), "unexpected"),
        (item("h/a/../x"), "unexpected"),
    ],
)
def test_what_must_not_be(given: Item, field: str) -> None:
    compared = comparer(candidate("a"), candidate("c"))
    compared.take(given)
    result = compared.result()
    assert getattr(result, field) == (given.path,)
    assert b"h/a/c" in result.missing and b"run/manifest.json" in result.missing
    assert not result.good


def test_the_original_of_a_scrubbed_file_is_not_expected() -> None:
    """Only what was archived under the home is given to the comparer."""
    compared = comparer(candidate("a"))
    compared.take(item("h/a/config.yaml"))
    assert compared.result().unexpected == (b"h/a/config.yaml",)


def test_twice_is_once_too_often() -> None:
    compared = comparer(candidate("a"))
    compared.take(item("h/a/a"))
    compared.take(item("h/a/a"))
    assert compared.result().unexpected == (b"h/a/a",)


def test_a_hard_link_and_a_held_log_may_have_another_size() -> None:
    link, log = candidate("link"), candidate("state.db-wal")
    link.any_size = log.any_size = True
    compared = comparer(link, log)
    compared.take(item("h/a/link", "hrw-r--r--", 0))
    compared.take(item("h/a/state.db-wal", size=999))
    compared.take(MANIFEST)
    assert compared.result().good
    assert not compared.result().resized


def test_names_that_borg_prints_alike_are_told_apart_by_what_they_are() -> None:
    records = [candidate("a\udcff", size=1), candidate("a\udcfe", size=2), candidate("a?", size=3)]
    for order in ([3, 1, 2], [2, 3, 1]):
        compared = comparer(*records)
        for size in order:
            compared.take(item("h/a/a?", size=size))
        compared.take(MANIFEST)
        result = compared.result()
        assert result.good and not result.resized
    compared = comparer(*records)
    compared.take(item("h/a/a?", size=1))
    assert len(compared.result().missing) == 3


def lines(*items: Item) -> list[bytes]:
    """As borg prints them."""
    return [f"{i.type} {i.mode} {i.uid} {i.gid} {i.size} ".encode() + i.path for i in items]


def test_lines_are_judged_like_items() -> None:
    """Also where a name is that of a file whose own cannot be printed."""
    link = candidate("link")
    link.any_size = True
    records = [
        candidate("", stat.S_IFDIR | 0o700),
        candidate("a"),
        candidate("b", size=7),
        candidate("odd\udcff"),
        candidate("odd?"),
        link,
    ]
    good = [
        item("h/a", "drwx------", 0),
        item("h/a/a"),
        item("h/a/b", size=7),
        item("h/a/odd?"),
        item("h/a/odd?"),
        item("h/a/link", "hrw-r--r--", 0),
        MANIFEST,
    ]
    compared = comparer(*records)
    compared.take_lines(lines(*good))
    assert compared.result().good and compared.result().compared == 7
    for number in range(len(good)):
        compared.begin()
        compared.take_lines(lines(*good[:number], *good[number + 1 :]))
        assert len(compared.result().missing) == 1
        compared.begin()
        compared.take_lines(lines(*good, good[number]))
        assert compared.result().unexpected == (good[number].path,)
    for wrong, field in (
        (item("h/a/a", "-rwsr-xr-x"), "replaced"),
        (item("h/a/a", uid=0), "disowned"),
        (item("h/a/a", size=6), "resized"),
    ):
        compared.begin()
        compared.take_lines(lines(*good[:1], wrong, *good[2:]))
        assert getattr(compared.result(), field) == (wrong.path,)


def test_recorded_listing() -> None:
    """As borg 1.4.5 prints it in the format that is asked for."""
    data = b"d drwxr-xr-x 0 0 0 h/a\0- -rw-r--r-- 10 20 5 h/a/with space\0l lrwxrwxrwx 10 20 4 h/a/x\ny"
    assert [parse_item(line) for line in data.split(b"\0")] == [
        Item(b"h/a", "d", "drwxr-xr-x", 0, 0, 0),
        Item(b"h/a/with space", "-", "-rw-r--r--", 10, 20, 5),
        Item(b"h/a/x\ny", "l", "lrwxrwxrwx", 10, 20, 4),
    ]
