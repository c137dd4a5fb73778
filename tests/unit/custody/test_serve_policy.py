# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decisions of the guard, one by one, without borg."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import serve

SETTINGS = serve.Settings(repository="/srv/lifeboat/repositories/acme", storage_quota=1000)
KEY = b"k" * 32


def policy(identity: str = serve.BOX, **more: object) -> serve.Policy:
    made = serve.Policy(replace(SETTINGS, identity=identity))
    made.writable = True
    made.standing = 10
    made.manifest_type = 4
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_a_box_adds_and_touches_only_what_it_added() -> None:
    box = policy()
    assert box.put_reason(KEY, b"data", None) is None
    assert box.put_reason(KEY, b"data", 11) is None
    assert box.delete_reason(KEY, 11) is None
    assert "stood before" in (box.put_reason(KEY, b"data", 10) or "")
    assert "stood before" in (box.delete_reason(KEY, 10) or "")
    assert "stood before" in (box.delete_reason(KEY, 0) or "")


def test_control_deletes_and_adds_nothing() -> None:
    control = policy(serve.CONTROL)
    assert control.delete_reason(KEY, 3) is None
    assert "adds no objects" in (control.put_reason(KEY, b"data", None) or "")
    assert "adds no objects" in (control.put_reason(KEY, b"data", 3) or "")
    assert control.put_reason(serve.MANIFEST, b"\x04" + bytes(60), 3) is None


@pytest.mark.parametrize("identity", [serve.BOX, serve.CONTROL])
def test_the_manifest_is_replaced_only_by_one_of_the_same_kind(identity: str) -> None:
    one = policy(identity)
    assert one.put_reason(serve.MANIFEST, b"\x04" + bytes(60), 10) is None
    assert "too short" in (one.put_reason(serve.MANIFEST, b"", 10) or "")
    assert "encrypted" in (one.put_reason(serve.MANIFEST, b"\x02" + bytes(60), 10) or "")
    assert "cannot be deleted" in (one.delete_reason(serve.MANIFEST, 10) or "")
    assert "cannot be deleted" in (one.delete_reason(serve.MANIFEST, 11) or "")


@pytest.mark.parametrize("key", [b"", b"short", b"k" * 33, None, 7, "k" * 32, ["k"]])
def test_what_is_not_an_object_id_is_refused(key: object) -> None:
    assert policy().put_reason(key, b"data", None) == "not an object"
    assert policy().delete_reason(key, None) == "not an object"


@pytest.mark.parametrize("data", [None, 5, "text", [b"x"]])
def test_what_is_not_data_is_refused(data: object) -> None:
    assert policy().put_reason(KEY, data, None) == "not an object"


def test_writing_needs_an_exclusive_lock_and_the_right() -> None:
    assert policy().write_reason() is None
    assert "not opened for writing" in (policy(writable=False).write_reason() or "")
    assert "only reads" in (policy(serve.READ_ONLY).write_reason() or "")


def opening(
    one: serve.Policy,
    path: str = SETTINGS.repository,
    *,
    opened: bool = False,
    create: bool = False,
    make_parent_dirs: bool = False,
) -> str:
    return (
        one.open_reason(path=path, opened=opened, create=create, make_parent_dirs=make_parent_dirs)
        or ""
    )


def test_opening() -> None:
    assert opening(policy()) == ""
    assert "already open" in opening(policy(), opened=True)
    assert "another one" in opening(policy(), "/srv/lifeboat/repositories/other")
    assert "another one" in opening(policy(), SETTINGS.repository + "/data")
    assert "made by" in opening(policy(), create=True, make_parent_dirs=True)


def test_creating_needs_every_marker_to_be_surely_absent(tmp_path: Path) -> None:
    absent, other = str(tmp_path / "sealed"), str(tmp_path / "other")
    settings = replace(SETTINGS, create_unless=(absent, other))
    assert opening(serve.Policy(settings), create=True) == ""
    Path(other).touch()
    assert "sealed" in opening(serve.Policy(settings), create=True)
    Path(other).unlink()
    # A marker that cannot be looked for counts as one that is there.
    nowhere = replace(SETTINGS, create_unless=(absent, str(tmp_path / "no" / "folder")))
    assert "sealed" in opening(serve.Policy(nowhere), create=True)
    os.symlink("nowhere", absent)
    assert "sealed" in opening(serve.Policy(settings), create=True)


def test_creating_without_the_option_or_as_another_identity() -> None:
    assert "creates no repository" in opening(policy(), create=True)
    for identity in (serve.CONTROL, serve.READ_ONLY):
        assert "creates no repository" in opening(policy(identity), create=True)


def test_the_nonce_goes_forward_in_reach_and_nowhere_else() -> None:
    one = policy(nonce_at_start=1000)
    assert one.nonce_reason(1000, 1000 + 2**28, 1000) is None
    assert "goes back" in (one.nonce_reason(1000, 1000, 1000) or "")
    assert "goes back" in (one.nonce_reason(1000, 10, 1000) or "")
    assert "current one" in (one.nonce_reason(1000, 2000, 999) or "")
    assert "current one" in (one.nonce_reason(1000, 2000, None) or "")
    assert "far larger" in (one.nonce_reason(1000, 2**64 - 1, 1000) or "")
    assert "far larger" in (one.nonce_reason(1000, 1000 + 2**32 + 1, 1000) or "")
    for wrong in (True, "1", None, 1.5, -5):
        assert one.nonce_reason(1000, wrong, 1000) == "not a nonce"


def test_many_small_steps_of_the_nonce_add_up() -> None:
    one = policy(nonce_at_start=0)
    current, steps = 0, 0
    while one.nonce_reason(current, current + 2**28, current) is None:
        current += 2**28
        steps += 1
        assert steps < 100
    assert current == serve.NONCE_ALLOWANCE


def test_an_honest_first_backup_of_a_terabyte_stays_in_reach() -> None:
    one = policy(nonce_at_start=None)
    current: int | None = None
    for _unused in range(40_000_000_000_000 // 2**28 // 16 // 40):
        wanted = (current or 0) + 2**28 + 2**17
        assert one.nonce_reason(current, wanted, current) is None
        one.stored += 2**28 * 16
        current = wanted


def test_quota() -> None:
    assert not policy(used=900).over_quota(100)
    assert policy(used=900).over_quota(101)
    unlimited = serve.Policy(replace(SETTINGS, storage_quota=0))
    assert not unlimited.over_quota(10**15)


@pytest.mark.parametrize(
    ("text", "size"), [("20G", 20 * 10**9), ("1.5t", 15 * 10**11), ("500", 500), ("3KB", 3000)]
)
def test_sizes(text: str, size: int) -> None:
    assert serve.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "20 G", "-1", "20GiB", "1e9"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a size"):
        serve.parse_size(text)


def test_counting_survives_a_damaged_file_and_does_not_grow(tmp_path: Path) -> None:
    counters = tmp_path / "counters"
    counters.write_text("{ damaged")
    lines: list[str] = []
    record = serve.Record(
        replace(SETTINGS, counters=str(counters), agent="acme"),
        lambda _unused, line: lines.append(line),
    )
    record.check()
    for _unused in range(100):
        record.refused(serve.Refused("delete", "no"))
    size = counters.stat().st_size
    record.refused(serve.Refused("delete", "no"))
    assert counters.stat().st_size == size
    assert json.loads(counters.read_text())["refusals"] == {"delete": 101}
    assert len(lines) == record.LINES_PER_SESSION
    assert "REFUSED delete: no" in lines[0]


def test_a_counter_file_that_is_missing_stops_before_serving(tmp_path: Path) -> None:
    record = serve.Record(replace(SETTINGS, counters=str(tmp_path / "missing")))
    with pytest.raises(serve.UsageError, match="create it"):
        record.check()


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    given = serve.parse(["--repository", "/srv/x/acme", "--storage-quota", "2G"])
    assert (given.identity, given.agent, given.create_unless) == ("box", "acme", ())
    given = serve.parse(["--repository", "/srv/x/acme", "--storage-quota", "2G", "--control"])
    assert given.identity == "control"
    for wrong in (
        ["--repository", "relative", "--storage-quota", "2G"],
        ["--repository", "/srv/x", "--storage-quota", "lots"],
        ["--repository", "/srv/x", "--storage-quota", "2G", "--control", "--read-only"],
        ["--repository", "/srv/x"],
    ):
        with pytest.raises(SystemExit):
            serve.parse(wrong)
    capsys.readouterr()
