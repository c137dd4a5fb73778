# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Environment files: harmless values and the vault's, never over what an operator typed."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import status
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_supply import parse, quote
from ansible_collections.lifeboat.agents.plugins.modules import agent_supply

SOURCE = {
    "format": 1,
    "files": {
        ".env": {"names": ["ALLOWED", "TOKEN", "BOT"], "values": {"ALLOWED": "4 2"}},
        "profiles/work/.env": {"names": ["KEY"], "values": {}},
    },
}


def given(tmp_path: Path, vault: dict[str, str], source: Any = None) -> dict[str, Any]:
    source = SOURCE if source is None else source
    home = tmp_path / "home"
    (home / "profiles/work").mkdir(parents=True, exist_ok=True)
    tmp_path.chmod(0o755)
    path = tmp_path / "environment.json"
    path.write_text(json.dumps(source))
    user = pwd.getpwuid(os.geteuid()).pw_name
    return {"home": str(home), "user": user, "source": str(path), "values": vault}


def test_what_is_known_is_filled_in_and_the_rest_is_named(tmp_path: Path) -> None:
    answer = agent_supply.supply(given(tmp_path, {"TOKEN": "it's"}), False)
    env = tmp_path / "home/.env"
    assert env.read_text() == "ALLOWED='4 2'\nTOKEN=\"it's\"\n"
    assert env.stat().st_mode & 0o777 == 0o600
    assert answer["changed"]
    assert answer["files"][0]["missing"] == ["BOT"]
    assert answer["files"][1]["missing"] == ["KEY"]
    assert not (tmp_path / "home/profiles/work/.env").exists()


def test_a_file_that_stands_is_left_as_it_is(tmp_path: Path) -> None:
    parameters = given(tmp_path, {})
    (tmp_path / "home/.env").write_text("TOKEN=typed")
    answer = agent_supply.supply(parameters, False)
    assert (tmp_path / "home/.env").read_text() == "TOKEN=typed"
    assert not answer["changed"]
    assert "stands already" in answer["files"][0]["reason"]


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    parameters = given(tmp_path, {})
    (tmp_path / "home/.env").symlink_to(tmp_path / "elsewhere")
    agent_supply.supply(parameters, False)
    assert not (tmp_path / "elsewhere").exists()


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    assert agent_supply.supply(given(tmp_path, {}), True)["changed"]
    assert not (tmp_path / "home/.env").exists()


def test_an_archive_without_environment_has_nothing_to_fill(tmp_path: Path) -> None:
    parameters = {**given(tmp_path, {}), "source": str(tmp_path / "none")}
    assert agent_supply.supply(parameters, False) == {"changed": False, "files": []}


def test_a_hostile_file_list_is_refused_or_left_out() -> None:
    with pytest.raises(RestoreError, match="climbs"):
        parse(b'{"files": {"../.env": {}}}')
    with pytest.raises(RestoreError, match="not JSON"):
        parse(b"nonsense")
    assert parse(b'{"files": {".bashrc": {"names": ["A"]}}}') == []
    found = parse(b'{"files": {".env": {"names": ["A B", "OK"], "values": {"X": "a\\nb"}}}}')
    assert found[0].names == ("OK",)
    assert found[0].values == {}


@pytest.mark.parametrize(
    ("value", "written"),
    [("42,43", "42,43"), ("a b", "'a b'"), ("", ""), ("a'b\"c", '"a\'b\\"c"')],
)
def test_values_are_quoted_only_where_they_have_to_be(value: str, written: str) -> None:
    assert quote(value) == written


def test_status_says_loudly_that_an_agent_waits_to_be_paired(tmp_path: Path) -> None:
    assert status.unpaired("acme", str(tmp_path)) == {}
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme/unpaired.json").write_text('{"message": "pair it"}')
    assert status.unpaired("acme", str(tmp_path))["message"] == "pair it"
    (tmp_path / "acme/unpaired.json").write_text("torn")
    assert status.unpaired("acme", str(tmp_path)) == {}
