# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Hermes home with everything in it, by the shipped profile: no canary in the archive, all that is
precious bit for bit. The scenario failures does the same on boxes, with a restore."""

from __future__ import annotations

import importlib.util
import types
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils import engine
from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils.engine import Box

PROGRAM = engine.ROOT / "molecule" / "failures" / "files" / "full_home.py"

IN_CONFIG = {
    "model.api_key",
    "platforms.matrix.password",
    "platforms.webhook.extra.secret",
    "platforms.webhook.extra.routes.deploys.secret",
    "terminal.sudo_password",
    "dashboard.basic_auth.password_hash",
    "dashboard.basic_auth.secret",
}


@pytest.fixture
def full_home(tmp_path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("full_home", PROGRAM)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.RECORD = tmp_path / "record.json"
    return module


def test_no_canary_and_all_that_is_precious(box: Box, full_home: types.ModuleType) -> None:
    box.home.rmdir()
    full_home.make(engine.USER, box.home)
    box.profile = engine.shipped("hermes")
    status = box.backup()
    target = box.extract(status)
    in_home, in_archive = full_home.search(box.home), full_home.search(target)
    assert len(in_home["found"]) == in_home["planted"] > 50
    assert in_archive["files"] > 80
    assert in_archive["found"] == {}
    supplied = box.manifest(target)["to_be_supplied"]
    keys = {item["key"] for item in supplied if item["path"] == "config.yaml"}
    assert keys == IN_CONFIG
    result = full_home.compare(box.restored_home(target))
    assert result["compared"] > 120
    result["different"].pop("workspace/sparse", None)  # holes are the restore's business
    assert result["different"] == {}
    assert result["should_not_be"] == []
    assert status["result"] == "warning"
    named = {item["path"] for item in status["unknown"] if item["decision"] == "quarantined"}
    named |= {problem["message"].partition(" was withheld")[0] for problem in status["problems"]}
    assert {full_home.NEW_DATABASE, full_home.NEW_LOG, *full_home.NEW} - named == {
        "workspace/site/keys/id_ed25519"
    }
