# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a box gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.lifeboat.agents.plugins.filter.box import FilterModule
from ansible_collections.lifeboat.agents.plugins.module_utils import cli

FILTERS = FilterModule().filters()
ENTRY = {
    "agent": "acme",
    "repositories": [{"name": "vault1", "address": "vault1", "port": 2222}],
}


def test_directories_come_parents_first_and_secrets_are_for_root_alone() -> None:
    modes = {item["path"]: item["mode"] for item in FILTERS["box_directories"]([ENTRY])}
    paths = list(modes)
    for path in paths:
        parent = path.rsplit("/", 1)[0]
        assert parent not in paths or paths.index(parent) < paths.index(path)
    assert modes["/etc/lifeboat/agents/acme/repositories/vault1/keys"] == "0700"
    assert modes["/var/lib/lifeboat/acme/vault1/borg"] == "0700"


def test_host_keys_of_the_escrow_are_pinned() -> None:
    escrow = {"repositories": {"vault1": {"host_keys": ["ssh-ed25519 AAAA x"]}}}
    assert FILTERS["box_pins"](ENTRY, escrow) == [
        {
            "path": "/etc/lifeboat/agents/acme/repositories/vault1/known_hosts",
            "content": "[vault1]:2222 ssh-ed25519 AAAA\n",
        }
    ]


def test_the_command_comes_with_all_that_it_imports(tmp_path: Path) -> None:
    (tmp_path / "cli.py").write_text("import json\nfrom .deep import x\nfrom . import also\n")
    (tmp_path / "deep.py").write_text("def f():\n    from .later import y\n")
    for name in ("also", "later", "unneeded"):
        (tmp_path / f"{name}.py").write_text("")
    files = FILTERS["box_engine"](str(tmp_path), [{"path": "/usr/local/sbin/x", "content": "p"}])
    assert files[0]["path"] == "/usr/local/sbin/x"
    assert [Path(item["path"]).stem for item in files[1:]] == [
        "__init__",
        "also",
        "cli",
        "deep",
        "later",
    ]


def test_the_command_of_this_collection_is_complete() -> None:
    files = FILTERS["box_engine"](str(Path(str(cli.__file__)).parent))
    names = {Path(item["path"]).stem for item in files}
    assert {"cli", "backup", "sqlite", "manifest", "secrets"} <= names
    assert "fleet" not in names


def test_a_collection_with_a_file_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cli.py").write_text("from .deep import x\n")
    with pytest.raises(AnsibleFilterError, match="deep.py is missing"):
        FILTERS["box_engine"](str(tmp_path))
