# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep an agent's escrow in an ansible-vault file, on the controller, with the run's own secrets.

The documentation is in plugins/modules/escrow.py. A success is never logged, a failure always is:
no message of a failure holds a secret.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.parsing.vault import AnsibleVaultError, VaultLib
from ansible.plugins.action import ActionBase

from ansible_collections.lifeboat.agents.plugins.module_utils import escrow as logic
from ansible_collections.lifeboat.agents.plugins.module_utils import escrow_proof

ROOT_KEY = "lifeboat_escrow"
HEADER = (
    "# Written by lifeboat.agents. With this file and the vault secret alone the history of\n"
    "# the agent can be opened from any machine: keep a copy of both away from the fleet.\n"
)
NO_SECRET = (
    "This run has no vault secret, and the passphrases of the backups are only ever kept "
    "encrypted. Give one with --vault-password-file FILE, --vault-id NAME@FILE, "
    "--ask-vault-pass or vault_password_file in ansible.cfg. Nothing was changed."
)


class _Dumper(yaml.SafeDumper):
    """Writes keys as readable blocks of lines."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


class Store:
    """The escrow files of one directory, all of them encrypted as a whole."""

    def __init__(self, directory: Path, vault: VaultLib, vault_id: str | None = None) -> None:
        self.directory = directory
        self._vault = vault
        self._vault_id = vault_id

    def path(self, agent: str) -> Path:
        return self.directory / f"{agent}.yml"

    def read(self, agent: str) -> dict[str, Any] | None:
        """Return the escrow of an agent, or None when there is none yet."""
        path = self.path(agent)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise logic.EscrowError(f"{path} cannot be read: {error.strerror}.") from error
        if not self._vault.is_encrypted(content):
            raise logic.EscrowError(
                f"{path} is not encrypted. Nothing is read from it or written to it: encrypt it "
                f"with 'ansible-vault encrypt {path}', and treat what was in it as disclosed."
            )
        try:
            plain, vault_id, _secret = self._vault.decrypt_and_get_vault_id(content)
        except AnsibleVaultError:
            raise logic.EscrowError(
                f"{path} cannot be decrypted: the vault secret of this run is not the one it was "
                "written with. Nothing was changed. Give the right secret (--vault-password-file, "
                "--vault-id)."
            ) from None
        self._vault_id = self._vault_id or vault_id
        loaded = yaml.safe_load(plain)
        return logic.check(
            loaded.get(ROOT_KEY) if isinstance(loaded, dict) else None, agent, str(path)
        )

    def write(self, agent: str, escrow: dict[str, Any]) -> None:
        """Put the file into place in one step: a power cut leaves the old or the new one."""
        text = HEADER + yaml.dump(
            {ROOT_KEY: escrow}, Dumper=_Dumper, sort_keys=False, explicit_start=False, width=1000
        )
        secret = self._secret()
        encrypted = self._vault.encrypt(
            text, secret=secret, vault_id=None if self._vault_id == "default" else self._vault_id
        )
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self.directory, prefix=f".{agent}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(encrypted)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, self.path(agent))
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise

    def agents(self) -> list[str]:
        """Name the agents that have an escrow here."""
        return sorted(path.stem for path in self.directory.glob("*.yml"))

    def _secret(self) -> Any:
        if not self._vault_id:
            return None
        for name, secret in self._vault.secrets:
            if name == self._vault_id:
                return secret
        known = ", ".join(name for name, _secret in self._vault.secrets)
        raise logic.EscrowError(
            f"This run has no vault secret with the id {self._vault_id!r} (it has: {known})."
        )


class ActionModule(ActionBase):
    """Keep, read or check the escrow of one agent."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = True
    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(
            argument_spec={
                "agent": {"type": "str"},
                "agents": {"type": "list", "elements": "str", "default": []},
                "directory": {"type": "path", "required": True},
                "state": {"choices": ["present", "read", "check", "proven"], "default": "present"},
                "data": {"type": "dict", "default": {}, "no_log": True},
                "pairs": {"type": "bool", "default": True},
                "generate": {"type": "list", "elements": "str", "default": []},
                "replace": {"type": "bool", "default": False},
                "vault_id": {"type": "str"},
            },
            required_if=[("state", state, ("agent",)) for state in ("present", "read", "proven")],
        )
        with self._errors():
            result.update(self._act(args))
        return result

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (logic.EscrowError, OSError) as error:
            # Without its cause: Ansible would say everything twice.
            raise AnsibleError(to_text(error)) from None

    def _act(self, args: dict[str, Any]) -> dict[str, Any]:
        vault = self._loader._vault
        if not vault.secrets:
            raise logic.EscrowError(NO_SECRET)
        store = Store(Path(args["directory"]).expanduser(), vault, args["vault_id"])
        if args["state"] == "check":
            return self._check(store, args)
        if args["state"] == "read":
            return self._read(store, args["agent"])
        if args["state"] == "proven":
            return self._proven(store, args["agent"])
        return self._present(store, args)

    def _check(self, store: Store, args: dict[str, Any]) -> dict[str, Any]:
        names = args["agents"] or ([args["agent"]] if args["agent"] else store.agents())
        held = {name: store.read(name) for name in names}
        found = [name for name, escrow in held.items() if escrow is not None]
        unfit = [
            f"{store.path(name)}: {repository}: {escrow_proof.WRONG}."
            for name, escrow in (held.items() if args["pairs"] else ())
            for repository in escrow_proof.unfit(escrow or {})
        ]
        if unfit:
            raise logic.EscrowError(" ".join([*unfit, "Nothing was changed."]))
        missing = [name for name in names if name not in found]
        return {"changed": False, "escrowed": found, "missing": missing}

    def _read(self, store: Store, agent: str) -> dict[str, Any]:
        escrow = store.read(agent)
        if escrow is None:
            known = ", ".join(store.agents()) or "none"
            raise logic.EscrowError(
                f"There is no escrow of agent {agent!r} in {store.directory} (there are: {known}). "
                "Roll the agent out with playbooks/site.yml, or point custody_vault_dir at the "
                "directory that holds it."
            )
        return {"changed": False, "escrow": escrow, "_ansible_no_log": True}

    def _proven(self, store: Store, agent: str) -> dict[str, Any]:
        found = escrow_proof.all_problems(self._read(store, agent)["escrow"])
        return {"changed": False, "problems": found}

    def _present(self, store: Store, args: dict[str, Any]) -> dict[str, Any]:
        agent = args["agent"]
        before = store.read(agent)
        after = logic.merge(
            before or logic.empty(agent),
            {**args["data"], "agent": agent},
            generate=args["generate"],
            replace=args["replace"],
        )
        fields = logic.changed_fields(before or {}, after)
        if fields and not self._task.check_mode:
            store.write(agent, after)
        return {
            "changed": bool(fields),
            "created": before is None,
            "changed_fields": fields,
            "path": str(store.path(agent)),
            "escrow": after,
            "_ansible_no_log": True,
        }
