# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import os
import stat

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import manifest
from ansible_collections.lifeboat.agents.plugins.module_utils.manifest import ManifestError
from ansible_collections.lifeboat.agents.plugins.module_utils.survey import Candidate
from ansible_collections.lifeboat.agents.plugins.module_utils.walk import Entry


def candidate(path: str, *, size: int = 5, sha256: str | None = "0" * 64) -> Candidate:
    status = os.stat_result(
        (stat.S_IFREG | 0o640, 7, 1, 1, os.geteuid(), os.getegid(), size, 0, 1, 0),
        {"st_mtime_ns": 10**9, "st_ctime_ns": 1},
    )
    result = Candidate(Entry(path, "file", status, "keep", 0))
    result.sha256 = sha256
    return result


def rendered(records: list[Candidate], block: int = 0) -> bytes:
    file = io.BytesIO()
    writer = manifest.Writer(file, block=block)
    for record in records:
        writer.add(record)
    writer.finish({"archive": "a", "databases": []})
    return file.getvalue()


def test_round_trip() -> None:
    records = [
        candidate("a"),
        candidate('quote"\\ and\nline'),
        candidate("odd\udcff"),
        candidate("ü"),
    ]
    records[1].target = "to\udcfe"
    records[2].changed = True
    data = manifest.parse(rendered(records))
    assert [manifest.read_name(entry) for entry in data["entries"]] == [r.path for r in records]
    assert manifest.read_name(data["entries"][1], "target") == "to\udcfe"
    assert "path" not in data["entries"][2] and "path_base64" in data["entries"][2]
    assert data["entries"][2]["changed"] is True
    first = data["entries"][0]
    assert (first["mode"], first["size"], first["class"], first["stored"]) == (
        "0640",
        5,
        "keep",
        "home",
    )
    assert first["sha256"] == "0" * 64
    assert data["archive"] == "a"
    rendered(records).decode("ascii")


def test_without_entries_and_with_no_hash() -> None:
    assert manifest.parse(rendered([]))["entries"] == []
    assert manifest.parse(rendered([candidate("a", sha256=None)]))["entries"][0]["sha256"] is None


def test_a_change_touches_few_chunks() -> None:
    """The list of entries must not be stored anew every night."""
    block = 32768
    names = [f"sessions/2026/{number:05d}.json" for number in range(20000)]
    before = rendered([candidate(name) for name in names], block)
    changed = [candidate(name, size=7 if name.endswith("123.json") else 5) for name in names]
    changed[777:777] = [candidate(f"sessions/2026/{777:05d}-new-{n}.json") for n in range(3)]
    after = rendered(changed, block)
    assert manifest.parse(before)["entries"] != manifest.parse(after)["entries"]

    def chunks(data: bytes) -> set[bytes]:
        return {data[start : start + block] for start in range(0, len(data), block)}

    new = chunks(after) - chunks(before)
    touched = sum(name.endswith("123.json") for name in names) + 1
    assert len(new) <= 2 * touched + 1 < len(chunks(after)) / 3
    assert len(after) < 3 * len(rendered(changed))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "format is not 1"),
        (b'{"format": 2}', "format is not 1"),
        (b'{"format": 1}', "no entries"),
    ],
)
def test_what_is_no_manifest(data: bytes, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        manifest.parse(data)


def test_a_name_in_bad_base64_is_an_error() -> None:
    with pytest.raises(ManifestError):
        manifest.read_name({"path_base64": "***"})


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        ("fixed,32768", 32768),
        ("fixed,4096,512", 4096),
        ("buzhash,19,23,21,4095", 0),
        ("default", 0),
    ],
)
def test_the_block_of_a_chunker(parameters: str, size: int) -> None:
    assert manifest.fixed_block(parameters) == size


def test_names_of_users_that_do_not_exist_are_their_numbers() -> None:
    names = manifest.Names()
    assert names.user(4_000_000_001) == "4000000001"
    assert names.group(4_000_000_001) == "4000000001"
    assert names.user(0) == "root"
