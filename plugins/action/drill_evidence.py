# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge drills and keep the evidence, on the controller, signed with a key out of the vault.

The documentation is in plugins/modules/drill_evidence.py.
"""

from __future__ import annotations

import datetime
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.parsing.vault import AnsibleVaultError, VaultLib
from ansible.plugins.action import ActionBase

from ansible_collections.lifeboat.agents.plugins.module_utils import evidence
from ansible_collections.lifeboat.agents.plugins.module_utils.evidence_facts import failure, gather
from ansible_collections.lifeboat.agents.plugins.module_utils.evidence_record import (
    compose,
    could_not_run,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.report_fleet import fleet_page
from ansible_collections.lifeboat.agents.plugins.module_utils.report_html import run_page
from ansible_collections.lifeboat.agents.plugins.module_utils.report_junit import junit
from ansible_collections.lifeboat.agents.plugins.module_utils.report_text import lines, summary
from ansible_collections.lifeboat.agents.plugins.module_utils.verdict import (
    EXIT_CODES,
    Failure,
    now,
    worst,
)

UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class SigningKey:
    """The private key, in a file that is encrypted as a whole by the run's vault secret."""

    def __init__(self, path: Path, vault: VaultLib) -> None:
        self.path = path
        self._vault = vault

    def read(self) -> str:
        """The key, or a refusal that says why this run cannot sign with it."""
        if not self._vault.secrets:
            raise evidence.EvidenceError(
                "This run has no vault secret, so its evidence cannot be signed.",
                "Give one with --vault-password-file FILE, --vault-id NAME@FILE or "
                "--ask-vault-pass.",
            )
        if not self.path.is_file():
            raise evidence.EvidenceError(
                f"There is no signing key {self.path}, so the evidence cannot be signed.",
                "Bring it back from a copy. Without one, drill again: a new key is made.",
            )
        content = self.path.read_bytes()
        if not self._vault.is_encrypted(content):
            raise evidence.EvidenceError(
                f"{self.path} is not encrypted; it is not used.",
                f"Encrypt it with 'ansible-vault encrypt {self.path}', or remove it, and treat "
                "what it signed so far as unsigned.",
            )
        try:
            return str(to_text(self._vault.decrypt(content)))
        except AnsibleVaultError as error:
            raise evidence.EvidenceError(
                f"The signing key {self.path} cannot be decrypted with the vault secret of this "
                "run, so its evidence cannot be signed.",
                "If the vault was rekeyed, rekey this file as well: 'ansible-vault rekey "
                f"{self.path}' with its old secret. If that is lost, move the file away: the next "
                "drill makes a new key, and what the old one signed still verifies.",
            ) from error

    def create(self) -> bool:
        """Make a key when there is none; whether one was made."""
        if self.path.exists() or not self._vault.secrets:
            return False
        content = self._vault.encrypt(evidence.generate_key())
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".signing-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            os.link(temporary, self.path)
        except FileExistsError:
            return False  # another run was faster: its key is as good
        finally:
            Path(temporary).unlink(missing_ok=True)
        return True


class Evidence:
    """The evidence of one directory."""

    def __init__(self, directory: str, key: SigningKey, write: bool) -> None:
        self.directory = directory
        self.unsigned: evidence.EvidenceError | None = None
        self._key: str | None = None
        self._write = write
        try:
            self._key = key.read()
        except evidence.EvidenceError as error:
            self.unsigned = error

    @property
    def signed(self) -> bool:
        return self.unsigned is None

    def record(self, made: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Store a record and its pages; its path without an ending, and the record."""
        if not self._write:
            return "", made
        writer = evidence.Writer(self.directory, self._key)
        path, record = writer.write(made)
        history = evidence.history(self.directory, str(record["agent"]["name"]))
        page = run_page(record, history, os.path.basename(path))
        evidence.store(f"{path}.html", page.encode(), replace=True)
        evidence.store(f"{path}.junit.xml", junit([record]), replace=True)
        return path, record

    def of_run(self, run: str) -> dict[str, dict[str, Any]]:
        """The records of one run, by agent."""
        found = {}
        for agent in evidence.agents(self.directory):
            for record in evidence.history(self.directory, agent):
                if record.data.get("drill", {}).get("run") == run:
                    found[agent] = dict(record.data)
        return found

    def publish(
        self, records: list[dict[str, Any]], reason: str, overdue_days: int, fleet: list[str]
    ) -> str:
        """The page of the fleet and the JUnit file of the run."""
        path = os.path.join(self.directory, "index.html")
        if not self._write:
            return path
        names = sorted({*evidence.agents(self.directory), *fleet})
        histories = {name: evidence.history(self.directory, name) for name in names}
        moment = datetime.datetime.now(datetime.timezone.utc)
        page = fleet_page(histories, moment, overdue_days)
        evidence.store(path, page.encode(), replace=True)
        evidence.store(
            os.path.join(self.directory, "junit.xml"), junit(records, reason), replace=True
        )
        return path


class ActionModule(ActionBase):
    """Prepare, record or publish the evidence of drills."""

    _requires_connection = False
    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(
            argument_spec={
                "state": {"choices": ["prepared", "recorded", "published"], "required": True},
                "directory": {"type": "path", "required": True},
                "signing_key": {"type": "path", "required": True, "no_log": False},
                "facts": {"type": "dict", "default": {}},
                "run": {"type": "dict", "default": {}},
                "agents": {"type": "list", "elements": "dict", "default": []},
                "failed": {"type": "dict", "default": {}},
                "overdue_days": {"type": "int", "default": 35},
            },
        )
        try:
            result.update(self._act(args))
        except (evidence.EvidenceError, OSError, ValueError) as error:
            raise AnsibleError(to_text(error)) from error
        return result

    def _act(self, args: dict[str, Any]) -> dict[str, Any]:
        key = SigningKey(Path(args["signing_key"]).expanduser(), self._loader._vault)
        directory = os.path.expanduser(args["directory"])
        check = bool(self._task.check_mode)
        if args["state"] == "prepared":
            return self._prepare(directory, key, check)
        store = Evidence(directory, key, not check)
        if args["state"] == "recorded":
            return self._record(store, args["facts"])
        return self._publish(store, args)

    def _prepare(self, directory: str, key: SigningKey, check: bool) -> dict[str, Any]:
        missing = not key.path.exists()
        if check and missing:
            return {"changed": True, "signed": False}
        if not check:
            os.makedirs(directory, mode=0o755, exist_ok=True)
            missing = key.create()
        key.read()
        return {"changed": missing, "signed": True}

    def _record(self, store: Evidence, raw: Mapping[str, Any]) -> dict[str, Any]:
        name = str(raw["agent"]["agent"])
        try:
            made = self._judge(store, raw, name)
        except UNREADABLE as error:
            text = f"what the drill found cannot be judged: {type(error).__name__}: {error}"
            hint = "Look at the agent's entry in the inventory, and report this."
            made = could_not_run(raw["drill"], raw["agent"], "record", text, hint)
        path, record = store.record(made)
        return {
            "changed": True,
            "result": record["verdict"]["result"],
            "exit_code": record["verdict"]["exit_code"],
            "lines": lines(record),
            "record": record,
            "path": f"{path}.json",
            "signed": store.signed,
        }

    def _judge(self, store: Evidence, raw: Mapping[str, Any], name: str) -> dict[str, Any]:
        facts = gather(raw)
        if store.unsigned and facts.failure is None and not self._task.check_mode:
            facts = replace(
                facts, failure=Failure("record", store.unsigned.message, store.unsigned.hint)
            )
        return compose(facts, evidence.history(store.directory, name))

    def _missing(
        self,
        store: Evidence,
        run: Mapping[str, Any],
        entry: Mapping[str, Any],
        reason: Mapping[str, Any],
    ) -> dict[str, Any]:
        """The record of an agent that has none; told at least when it cannot be written either."""
        drill = {**run, "run": run.get("id"), "id": secrets.token_hex(4), "started": now()}
        message, hint = str(reason["message"]), str(reason["hint"])
        made = could_not_run(drill, entry, "preflight", message, hint)
        try:
            _path, made = store.record(made)
        except (evidence.EvidenceError, OSError) as error:
            message = f"{message}; its record cannot be written: {error}"
            made = could_not_run(drill, entry, "preflight", message, hint)
        return made

    def _publish(self, store: Evidence, args: Mapping[str, Any]) -> dict[str, Any]:
        run = args["run"]
        entries = args["agents"]
        if not self._task.check_mode:  # a run that ended in its preflight made none
            os.makedirs(store.directory, mode=0o755, exist_ok=True)
        known = store.of_run(str(run.get("id", "")))
        reason = failure({"phase": "preflight", "failed": args["failed"]}) or {
            "message": "the drill of this agent ended without a record",
            "hint": "Look for the first error above.",
        }
        for entry in entries:
            if entry["agent"] not in known:
                known[entry["agent"]] = self._missing(store, run, entry, reason)
        records = [known[name] for name in sorted(known)]
        result = worst(record["verdict"]["result"] for record in records)
        names = [str(entry["agent"]) for entry in entries]
        why = str(reason["message"]) if args["failed"] else ""
        path = store.publish(records, why, args["overdue_days"], names)
        return {
            "changed": True,
            "result": result,
            "exit_code": EXIT_CODES[result],
            "summary": summary(records),
            "reason": why,
            "path": path,
            "signed": store.signed,
        }
