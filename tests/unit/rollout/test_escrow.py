# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The escrow: what may change, and what is on disk."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.lifeboat.agents.plugins.action.escrow import Store
from ansible_collections.lifeboat.agents.plugins.module_utils.escrow import (
    EscrowError,
    changed_fields,
    check,
    empty,
    merge,
)

KEY = f"BORG_KEY {'a' * 64}\nhqlhbGdvcml0aG2mc2hhMjU2\nsecond line\n"


def held(**repository: Any) -> dict[str, Any]:
    """An escrow with one repository."""
    return {**empty("acme"), "repositories": {"vault1": repository}}


def vault(*secrets: tuple[str, str]) -> VaultLib:
    """A vault with these ids and secrets."""
    return VaultLib([(name, VaultSecret(text.encode())) for name, text in secrets])


def test_a_passphrase_is_made_once() -> None:
    first = merge(empty("acme"), {}, generate=["vault1", "vault2"])
    one, two = (first["repositories"][name]["passphrase"] for name in ("vault1", "vault2"))
    assert one != two
    assert len(one) >= 43
    assert merge(first, {}, generate=["vault1", "vault2"]) == first


def test_what_is_not_named_stays_and_none_changes_nothing() -> None:
    before = held(passphrase="p", url="old", host_keys=["k"])
    after = merge(before, {"home": "/h", "repositories": {"vault1": {"url": "new", "key": None}}})
    assert after["repositories"]["vault1"] == {"passphrase": "p", "url": "new", "host_keys": ["k"]}
    assert after["home"] == "/h"
    assert before["repositories"]["vault1"]["url"] == "old"


@pytest.mark.parametrize("field", ["passphrase", "key", "repository_id"])
def test_another_identity_is_refused_unless_said(field: str) -> None:
    before = held(**{field: "known"})
    other = {"repositories": {"vault1": {field: "other"}}}
    with pytest.raises(EscrowError, match="differs from the escrowed one") as refused:
        merge(before, other)
    assert "known" not in str(refused.value)
    assert "other" not in str(refused.value).replace("another", "")
    assert merge(before, other, replace=True)["repositories"]["vault1"][field] == "other"
    assert merge(before, {"repositories": {"vault1": {field: "known\n"}}})


def test_no_new_passphrase_for_a_key_that_it_could_not_open() -> None:
    with pytest.raises(EscrowError, match="no passphrase"):
        merge(held(key=KEY), {}, generate=["vault1"])


def test_changed_fields_are_named_without_their_values() -> None:
    before, after = held(passphrase="old secret"), held(passphrase="new secret", key=KEY)
    fields = changed_fields(before, after)
    assert fields == ["repositories.vault1.key", "repositories.vault1.passphrase"]
    assert changed_fields(after, after) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "holds no lifeboat_escrow"),
        ({**empty("acme"), "format": 2}, "format 2"),
        (empty("widget"), "belongs to agent 'widget'"),
    ],
)
def test_a_file_of_somebody_else_is_not_taken(content: Any, said: str) -> None:
    with pytest.raises(EscrowError) as refused:
        check(content, "acme", "vault/acme.yml")
    assert said in str(refused.value)


def test_the_whole_file_is_encrypted_private_and_readable_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "vault", vault(("default", "open sesame")))
    store.write("acme", held(passphrase="p4ss", key=KEY))
    path = tmp_path / "vault" / "acme.yml"
    assert path.read_text().startswith("$ANSIBLE_VAULT;1.1;AES256\n")
    assert "p4ss" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["acme.yml"]
    assert store.read("acme") == held(passphrase="p4ss", key=KEY)
    plain = vault(("default", "open sesame")).decrypt(path.read_bytes()).decode()
    assert "    key: |\n" in plain.replace("      key", "    key")
    assert list(yaml.safe_load(plain)) == ["lifeboat_escrow"]


def test_a_file_that_is_absent_is_no_error_and_one_that_is_plain_is(tmp_path: Path) -> None:
    store = Store(tmp_path, vault(("default", "x")))
    assert store.read("acme") is None
    (tmp_path / "acme.yml").write_text("lifeboat_escrow: {}\n")
    with pytest.raises(EscrowError, match="not encrypted"):
        store.read("acme")


def test_a_wrong_secret_is_said(tmp_path: Path) -> None:
    Store(tmp_path, vault(("default", "right"))).write("acme", held())
    with pytest.raises(EscrowError, match="not the one it was written with"):
        Store(tmp_path, vault(("default", "wrong"))).read("acme")


def test_a_file_keeps_the_vault_id_that_it_has(tmp_path: Path) -> None:
    both = (("fleet", "one"), ("other", "two"))
    Store(tmp_path, vault(*both), "other").write("acme", held())
    assert (tmp_path / "acme.yml").read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;other\n")
    store = Store(tmp_path, vault(*both))
    assert store.read("acme") == held()
    store.write("acme", held(passphrase="p"))
    assert (tmp_path / "acme.yml").read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;other\n")


def test_a_vault_id_that_the_run_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EscrowError, match="no vault secret with the id 'fleet'"):
        Store(tmp_path, vault(("default", "x")), "fleet").write("acme", held())
    assert not (tmp_path / "acme.yml").exists()
