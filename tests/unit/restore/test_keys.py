# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new passphrase is proven before anybody hears of it; the former one goes on to work."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import restore_keys
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_session import session
from ansible_collections.lifeboat.agents.plugins.modules import borg_key

from .support import PASSPHRASE, World, extracting_user


@pytest.fixture
def options(borg_world: World) -> dict[str, Any]:
    borg_world.make_source()
    borg_world.initialise()
    borg_world.create()
    folder = borg_world.root / "run"
    folder.mkdir()
    folder.chmod(0o711)
    return {"run_directory": str(folder), "user": extracting_user()}


def test_a_new_pair_opens_and_the_former_still_does(
    borg_world: World, options: dict[str, Any]
) -> None:
    access = borg_world.access()
    pair = restore_keys.rotate(access, **options)
    assert pair.passphrase != PASSPHRASE
    assert pair.key.split()[1] == access.repository_id
    assert PASSPHRASE not in repr(pair) and pair.passphrase not in repr(pair)
    with session(access, **options) as opened:
        assert len(opened.archives()) == 1
    mixed = borg_world.access(passphrase=PASSPHRASE, key=pair.key)
    with session(mixed, **options) as opened, pytest.raises(RestoreError, match="passphrase"):
        opened.manifest("acme-2026-11-01T02:00:00Z")


def test_a_pair_is_not_made_from_a_wrong_passphrase(
    borg_world: World, options: dict[str, Any]
) -> None:
    with pytest.raises(RestoreError, match="passphrase is wrong"):
        restore_keys.rotate(borg_world.access(passphrase="wrong"), **options)


def test_the_key_on_paper(borg_world: World, options: dict[str, Any]) -> None:
    printed = restore_keys.paper(borg_world.access(), **options)
    assert "BORG PAPER KEY" in printed.text
    assert "<html" in printed.page
    assert list((borg_world.root / "run").glob("*/*")) == []


def test_check_mode_only_opens(
    borg_world: World, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = borg_key.session
    monkeypatch.setattr(borg_key, "session", lambda access: real(access, **options))
    access = borg_world.access()
    parameters = {
        "agent": "acme",
        "state": "rotated",
        "repository": {
            "url": access.url,
            "repository_id": access.repository_id,
            "passphrase": access.passphrase,
            "key": access.key,
            "host_keys": [],
        },
        "identity": None,
        "borg": borg_world.borg,
        "lock_wait": 5,
        "bypass_lock": False,
    }
    assert borg_key.act(parameters, True) == {"changed": True}
