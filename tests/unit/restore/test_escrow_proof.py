# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An escrow that would not open its repository is found before the bad night."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import escrow_proof

from .support import World


@pytest.fixture
def held(borg_world: World) -> dict[str, Any]:
    """A repository's part of an escrow, with a key that borg made."""
    borg_world.make_source()
    borg_world.initialise()
    access = borg_world.access()
    return {
        "url": "ssh://lb-acme@vault1/./repo",
        "host_keys": ["ssh-ed25519 AAAA"],
        "passphrase": access.passphrase,
        "key": access.key,
        "repository_id": access.repository_id,
    }


def test_what_belongs_together_is_good(held: dict[str, Any]) -> None:
    assert escrow_proof.problems(held) == []
    assert escrow_proof.problems({**held, "key": held["key"].rstrip("\n")}) == []
    assert escrow_proof.problems({**held, "url": "/srv/repo", "host_keys": []}) == []


@pytest.mark.parametrize("name", ["passphrase", "key", "repository_id", "url", "host_keys"])
def test_what_is_missing_is_named(held: dict[str, Any], name: str) -> None:
    assert escrow_proof.problems({**held, name: None}) == [
        f"the {name.replace('_', ' ')} {'are' if name == 'host_keys' else 'is'} missing"
    ]


def test_one_wrong_letter_is_found(held: dict[str, Any]) -> None:
    wrong = {**held, "passphrase": f"x{held['passphrase'][1:]}"}
    assert escrow_proof.problems(wrong) == [escrow_proof.WRONG]
    assert held["passphrase"] not in escrow_proof.WRONG
    pairs = {"right": held, "wrong": wrong, "begun": {"passphrase": "p"}}
    assert escrow_proof.unfit({"repositories": pairs}) == ["wrong"]


def test_the_key_of_another_repository_is_found(held: dict[str, Any]) -> None:
    other = "0" * 64
    assert escrow_proof.problems({**held, "repository_id": other}) == [
        "the key is not the one of the pinned repository id"
    ]
    relabelled = held["key"].replace(held["repository_id"], other)
    assert escrow_proof.problems({**held, "repository_id": other, "key": relabelled}) == [
        "the key belongs to another repository than it says"
    ]


@pytest.mark.parametrize("cut", [1, 20, 200, 400])
def test_a_damaged_key_is_never_good(held: dict[str, Any], cut: int) -> None:
    head, _newline, body = held["key"].strip().partition("\n")
    broken = "".join(body.split())[:-cut]
    (problem,) = escrow_proof.problems({**held, "key": f"{head}\n{broken}\n"})
    assert "damaged" in problem or problem == escrow_proof.WRONG
    assert escrow_proof.problems({**held, "key": "something"}) == [
        "the key is not a key export of borg"
    ]
