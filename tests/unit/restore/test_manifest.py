# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A manifest out of an archive is untrusted input."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import (
    RestoreError,
    parse,
)

from .support import AGENT, World


def minimal(*entries: dict[str, Any], **changes: Any) -> bytes:
    agent = {"name": AGENT, "home": "/home/hermes/.hermes", **changes.pop("agent", {})}
    value = {"format": 1, "agent": agent, "entries": list(entries), **changes}
    return json.dumps(value).encode()


def entry(path: str, kind: str = "file", **changes: Any) -> dict[str, Any]:
    return {"path": path, "type": kind, "mode": "0644", "stored": "home", **changes}


def test_the_manifest_of_a_home_is_read(world: World) -> None:
    manifest = parse(json.dumps(world.make_source()).encode(), AGENT)
    assert manifest.entries["memories/USER.md"].mode == 0o600
    assert manifest.entries["config.yaml"].stored == "scrubbed"
    assert "memories/odd\nname-\udcff.md" in manifest.entries
    assert manifest.companions == {"state.db-wal"}
    assert "entries" not in manifest.summary()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (minimal(entry("../../etc/passwd")), "climbs"),
        (minimal(entry("memories/../../x")), "climbs"),
        (minimal(entry("/etc/passwd")), "absolute"),
        (minimal(entry("a//b")), "plain form"),
        (minimal(entry("a/./b")), "plain form"),
        (minimal(entry("a\0b")), "NUL"),
        (minimal(entry("x" * 300)), "longer"),
        (minimal({"type": "file", "path_base64": base64.b64encode(b"../x").decode()}), "climbs"),
        (minimal({"type": "file", "path_base64": "%%%"}), "cannot be decoded"),
        (minimal({"type": "file"}), "without a path"),
        (minimal(entry("a", "symlink"), entry("a/b")), "below a symlink"),
        (minimal(entry("a", "file"), entry("a/b/c")), "below a file"),
        (minimal(entry("a"), entry("a")), "twice"),
        (minimal(entry("a", "device")), "not one that a home"),
        (minimal(entry("a", stored="elsewhere")), "unknown"),
        (minimal(entry("a", "symlink", stored="scrubbed")), "cannot be stored"),
        (minimal(entry("a", mode="17777")), "out of range"),
        (minimal(entry("a", mode="rw")), "cannot be read"),
        (minimal(agent={"name": "other"}), "not 'acme'"),
        (minimal(agent={"home": "relative"}), "absolute"),
        (minimal(agent={"home": "/home/../etc"}), "plain form"),
        (minimal(agent={"home": "/"}), "plain form"),
        (minimal(agent={"home_real": "/x/"}), "plain form"),
        (minimal(format=2), "format"),
        (b"[]", "format"),
        (b"{not json", "not JSON"),
        (b'{"format": 1}', "which agent"),
        (minimal(entries="all"), "no list"),
    ],
)
def test_a_hostile_manifest_is_refused_with_the_reason(text: bytes, said: str) -> None:
    with pytest.raises(RestoreError, match=said):
        parse(text, AGENT)
