# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The acts of the scenario hostile: both ways of serving get the same list, and some of it here as well."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import serve_client
from ansible_collections.lifeboat.agents.plugins.module_utils.audit_store import Store, audited
from ansible_collections.lifeboat.agents.tests.unit.custody.support import World, files_of

HOSTILE = Path(__file__).resolve().parents[3] / "molecule" / "hostile"


@pytest.fixture
def attack(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program that the scenario brings to the box."""
    monkeypatch.setitem(sys.modules, "serve_client", serve_client)
    spec = importlib.util.spec_from_file_location("attack", HOSTILE / "files" / "attack.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec.loader.exec_module(module)
    return module


class Box:
    """The box's way to its repository, a pipe instead of SSH."""

    def __init__(self, world: World, serving: list[str]) -> None:
        self.world = world
        self.serving = serving

    def opened(self) -> serve_client.ServeConnection:
        connection: serve_client.ServeConnection = self.world.connect(serving=self.serving)
        connection.open(str(self.world.repository), exclusive=True, lock_wait=10)
        return connection

    def borg(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {
            **self.world.environment(self.serving, "attacker"),
            "BORG_REPO": self.world.url,
            "BORG_DELETE_I_KNOW_WHAT_I_AM_DOING": "YES",
            **environment,
        }
        return subprocess.run(
            [str(self.world.borg_path), *arguments],
            env=given,
            cwd=self.world.home,
            capture_output=True,
            text=True,
            check=False,  # refusals are what is looked at
        )

    def archives(self) -> list[str]:
        return self.borg("list", "--short").stdout.split()


def tried(attack: Any, world: World, serving: list[str], act: str) -> str:
    """How an act was refused; nothing when it was not."""
    try:
        return str(attack.ACTS[act](Box(world, serving)))
    except serve_client.ServeError as error:
        return str(error)


def found(world: World, folder: Path, act: Any) -> dict[str, int]:
    """What the audit finds after an act."""
    store = Store(folder)
    report, state = audited(world.repository, store, None)
    assert report.mark
    assert state
    store.save(report.mark, state)
    act()
    return audited(world.repository, store, report.mark)[0].counts


def constants(file: str, *names: str) -> set[str]:
    """The acts that a test file of the scenario names."""
    tree = ast.parse((HOSTILE / "tests" / file).read_text(encoding="utf-8"))
    named = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return named & set(names)


@pytest.mark.parametrize("act", ["destroy", "initialise again", "delete the repository"])
def test_at_plain_append_only_without_effect(attack: Any, lived_in: World, act: str) -> None:
    before = files_of(lived_in.repository)
    assert tried(attack, lived_in, lived_in.plain(), act)
    assert files_of(lived_in.repository) == before


def test_at_plain_append_only_the_nonce_back_is_found(
    attack: Any, lived_in: World, tmp_path: Path
) -> None:
    refused = []
    counts = found(
        lived_in,
        tmp_path / "state",
        lambda: refused.append(tried(attack, lived_in, lived_in.plain(), "nonce back")),
    )
    assert refused == [""]
    assert counts == {"nonce-back": 1}


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("nonce back", "refused nonce"),
        ("destroy", "refused destroy"),
        ("initialise again", "refused create"),
    ],
)
def test_behind_the_guard(attack: Any, lived_in: World, act: str, reason: str) -> None:
    before = files_of(lived_in.repository)
    nonce = (lived_in.repository / "nonce").read_text()
    assert reason in tried(attack, lived_in, lived_in.guard(), act)
    assert files_of(lived_in.repository) == before
    assert (lived_in.repository / "nonce").read_text() == nonce


def test_both_ways_of_serving_get_the_same_list(attack: Any) -> None:
    guarded = constants("test_1_guarded.py", *attack.ACTS)
    assert len(guarded) > 20
    assert guarded - constants("test_2_journal.py", *attack.ACTS) <= {"list"}
