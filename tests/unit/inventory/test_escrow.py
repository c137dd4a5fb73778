# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The escrow: what a restore needs, encrypted as a whole, and never silently exchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.lifeboat.agents.plugins.action.escrow import ActionModule
from ansible_collections.lifeboat.agents.plugins.module_utils import escrow as logic
from ansible_collections.lifeboat.agents.plugins.module_utils import escrow_proof

Call = Callable[..., dict[str, Any]]
KEY = "BORG_KEY 0000\nline\n"


def vault(**secrets: bytes) -> VaultLib:
    return VaultLib([(name, VaultSecret(secret)) for name, secret in secrets.items()])


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Call the action as a task does."""

    def run(
        check: bool = False, secrets: VaultLib | None = None, **arguments: Any
    ) -> dict[str, Any]:
        task = SimpleNamespace(
            args={"directory": str(tmp_path / "vault"), **arguments},
            action="lifeboat.agents.escrow",
            async_val=0,
            check_mode=check,
            diff=False,
        )
        loader = SimpleNamespace(_vault=secrets or vault(default=b"secret"))
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        action = ActionModule(task, connection, None, loader, None, None)
        answer: dict[str, Any] = action.run(task_vars={})
        return answer

    return run


def data(**repository: Any) -> dict[str, Any]:
    return {"profile": "hermes", "repositories": {"vault1": repository}}


def test_a_passphrase_is_made_once_and_the_file_is_encrypted_and_private(
    call: Call, tmp_path: Path
) -> None:
    first = call(agent="acme", data=data(url="ssh://x"), generate=["vault1"])
    assert first["changed"] and first["created"] and first["_ansible_no_log"]
    passphrase = first["escrow"]["repositories"]["vault1"]["passphrase"]
    assert len(passphrase) >= 40
    path = tmp_path / "vault" / "acme.yml"
    content = path.read_bytes()
    assert content.startswith(b"$ANSIBLE_VAULT;") and b"ssh://" not in content
    assert path.stat().st_mode & 0o777 == 0o600
    again = call(agent="acme", data=data(url="ssh://x"), generate=["vault1"])
    assert not again["changed"] and path.read_bytes() == content
    assert again["escrow"]["repositories"]["vault1"]["passphrase"] == passphrase


def test_a_key_can_be_read_by_people_and_by_yaml(call: Call, tmp_path: Path) -> None:
    call(agent="acme", data=data(key=KEY, passphrase="p"))
    plain = vault(default=b"secret").decrypt((tmp_path / "vault" / "acme.yml").read_bytes())
    assert yaml.safe_load(plain)["lifeboat_escrow"]["repositories"]["vault1"]["key"] == KEY
    assert b"key: |" in plain


def test_what_is_not_named_stays(call: Call) -> None:
    call(agent="acme", data=data(passphrase="p", host_keys=["k"]))
    after = call(agent="acme", data=data(host_keys=None, url="u"))["escrow"]
    assert after["repositories"]["vault1"] == {"passphrase": "p", "host_keys": ["k"], "url": "u"}


@pytest.mark.parametrize("field", ["passphrase", "key", "repository_id"])
def test_another_identity_is_refused_unless_it_is_meant(
    call: Call, tmp_path: Path, field: str
) -> None:
    call(agent="acme", data=data(**{field: "canary-1"}))
    before = (tmp_path / "vault" / "acme.yml").read_bytes()
    with pytest.raises(AnsibleError, match=f"The {field} of repository vault1 differs") as refused:
        call(agent="acme", data=data(**{field: "canary-2"}))
    assert "replace=true" in str(refused.value) and "canary" not in str(refused.value)
    assert (tmp_path / "vault" / "acme.yml").read_bytes() == before
    replaced = call(agent="acme", data=data(**{field: "canary-2"}), replace=True)
    assert replaced["changed_fields"] == [f"repositories.vault1.{field}"]


def test_a_key_without_its_passphrase_gets_no_other_one(call: Call) -> None:
    with pytest.raises(AnsibleError, match="a new one could not open it"):
        call(agent="acme", data=data(key=KEY), generate=["vault1"])


def test_check_mode_writes_nothing(call: Call, tmp_path: Path) -> None:
    answer = call(check=True, agent="acme", data=data(url="u"), generate=["vault1"])
    assert answer["changed"] and not (tmp_path / "vault").exists()


def test_a_run_without_a_secret_is_refused(call: Call, tmp_path: Path) -> None:
    with pytest.raises(AnsibleError, match="no vault secret"):
        call(secrets=vault(), agent="acme", data=data(url="u"))
    assert not (tmp_path / "vault").exists()


def test_a_wrong_secret_is_named_and_overwrites_nothing(call: Call, tmp_path: Path) -> None:
    call(agent="acme", data=data(passphrase="p"))
    before = (tmp_path / "vault" / "acme.yml").read_bytes()
    for state in ("present", "read"):
        with pytest.raises(AnsibleError, match="not the one it was written with"):
            call(secrets=vault(default=b"other"), agent="acme", state=state)
    assert (tmp_path / "vault" / "acme.yml").read_bytes() == before


def test_a_vault_id_that_the_run_lacks_is_named(call: Call) -> None:
    with pytest.raises(AnsibleError, match="no vault secret with the id 'prod'"):
        call(agent="acme", vault_id="prod", data=data(passphrase="p"))


def test_a_file_in_clear_text_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "acme.yml").write_text("lifeboat_escrow: {}\n")
    with pytest.raises(AnsibleError, match="not encrypted"):
        call(agent="acme", state="read")


def test_reading_gives_what_was_kept_and_names_what_there_is(call: Call) -> None:
    call(agent="acme", data=data(passphrase="p"))
    assert call(agent="acme", state="read")["escrow"]["profile"] == "hermes"
    with pytest.raises(AnsibleError, match=r"no escrow of agent 'beta' .*there are: acme"):
        call(agent="beta", state="read")


def test_a_file_of_another_agent_is_refused(call: Call, tmp_path: Path) -> None:
    call(agent="acme", data=data(passphrase="p"))
    (tmp_path / "vault" / "acme.yml").rename(tmp_path / "vault" / "beta.yml")
    with pytest.raises(AnsibleError, match="belongs to agent 'acme', not to 'beta'"):
        call(agent="beta", state="read")


def test_checking_says_who_is_missing(call: Call) -> None:
    call(agent="acme", data=data(passphrase="p"))
    answer = call(state="check", agents=["acme", "beta"])
    assert (answer["escrowed"], answer["missing"]) == (["acme"], ["beta"])


def test_one_unfit_pair_ends_a_rollout_and_not_the_drills_of_others(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("acme", "beta"):
        call(agent=name, data=data(passphrase="p"))
    monkeypatch.setattr(escrow_proof, "unfit", lambda escrow: ["vault1"])
    with pytest.raises(AnsibleError, match="acme.yml: vault1: the passphrase does not open"):
        call(state="check", agents=["acme", "beta"])
    assert call(state="check", agents=["acme", "beta"], pairs=False)["missing"] == []


def test_a_newer_format_is_refused() -> None:
    with pytest.raises(logic.EscrowError, match="format 2, this version reads format 1"):
        logic.check({"format": 2, "agent": "acme"}, "acme", "acme.yml")


def test_what_would_not_open_the_repository_is_told_and_no_secret_with_it(call: Call) -> None:
    call(agent="acme", data=data(url="ssh://x"), generate=["vault1"])
    told = call(agent="acme", state="proven")
    assert told["problems"] == {
        "vault1": [
            "the key is missing",
            "the repository id is missing",
            "the host keys are missing",
        ]
    }
    assert "escrow" not in told
    with pytest.raises(AnsibleError, match="no escrow of agent 'other'"):
        call(agent="other", state="proven")
