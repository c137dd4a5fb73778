# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules as the role custody calls them, night after night, without Ansible between them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from ansible.module_utils.testing import patch_module_args

from ansible_collections.lifeboat.agents.plugins.modules import (
    repository_archives,
    repository_audit,
    repository_compaction,
    repository_ledger,
    repository_lockout,
    repository_rollback,
)
from ansible_collections.lifeboat.agents.tests.unit.custody.support import PASSPHRASE, World

MODULES = {
    "archives": repository_archives.main,
    "audit": repository_audit.main,
    "compaction": repository_compaction.main,
    "ledger": repository_ledger.main,
    "lockout": repository_lockout.main,
    "rollback": repository_rollback.main,
}


TOLD = ("counts", "summary", "findings", "archive_times", "compacting")


class ModuleFailed(Exception):
    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(result.get("msg"))
        self.result = result


def call(main: Callable[[], None], *, check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
    """Run a module in this process; what it returns, or ModuleFailed."""
    given = {**arguments, "_ansible_check_mode": check_mode, "_ansible_diff": True}
    output = io.StringIO()
    with (
        patch_module_args(given),
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
    ):
        main()
    result: dict[str, Any] = json.loads(output.getvalue())
    if result.get("failed"):
        raise ModuleFailed(result)
    return result


class Custody:
    """The trusted side of one repository."""

    def __init__(self, world: World, start: datetime, **settings: Any) -> None:
        self.world = world
        self.now = start
        self.settings = settings
        self.arrived: dict[str, str] = {}  # id to the time at which the server saw it
        self.directory = world.root / "ledgers"
        self.state = world.root / "custody"
        self.repository_id = ""
        (world.root / "host" / "control.lock").touch()
        world.environment(world.guard("--control", "--lock", str(self.control_lock)), "control")

    @property
    def control_lock(self) -> Any:
        return self.world.root / "host" / "control.lock"

    def ledger(self, *, check_mode: bool = False, **more: Any) -> dict[str, Any]:
        return call(
            repository_ledger.main,
            check_mode=check_mode,
            directory=str(self.directory),
            agent="acme",
            repository="vault1",
            now=self.now.isoformat(),
            **more,
        )

    def archives(
        self, *, check_mode: bool = False, serving: list[str] | None = None, **more: Any
    ) -> dict[str, Any]:
        """As the control side, over its own identity. The pipe stands for SSH."""
        world = self.world
        key = next((world.root / "keys").iterdir()).read_text()
        self.repository_id = key.split()[1]
        environment = dict(os.environ)
        try:
            os.environ["PATH"] = f"{world.root / 'bin'}:{environment['PATH']}"
            (world.root / "bin").mkdir(exist_ok=True)
            ssh = world.root / "bin" / "ssh"
            serving = serving or world.guard("--control", "--lock", str(self.control_lock))
            ssh.write_text("#!/bin/sh\nexec " + shlex.join(serving) + "\n")
            ssh.chmod(0o755)
            return call(
                repository_archives.main,
                check_mode=check_mode,
                url=world.url,
                repository_id=self.repository_id,
                passphrase=PASSPHRASE,
                key=key,
                host_keys=["ssh-ed25519 AAAA"],
                base_dir=str(world.root / "clients" / "control"),
                borg=str(world.borg_path),
                **more,
            )
        finally:
            os.environ.clear()
            os.environ.update(environment)

    def audit(self, *, check_mode: bool = False, **more: Any) -> dict[str, Any]:
        return call(
            repository_audit.main,
            check_mode=check_mode,
            path=str(self.world.repository),
            **{"state_directory": str(self.state), "fail_on_findings": False, **more},
        )

    def lockout(self, state: str) -> dict[str, Any]:
        return call(
            repository_lockout.main, lock=str(self.world.lock), token="run", state=state, wait=0
        )

    def compaction(self, mark: dict[str, Any]) -> dict[str, Any]:
        return call(
            repository_compaction.main,
            path=str(self.world.repository),
            mark=mark,
            state_directory=str(self.state),
            snapshots=str(self.world.root / "snapshots"),
            lock=str(self.world.lock),
            token="run",
            borg=str(self.world.borg_path),
        )

    def rollback(self, *, check_mode: bool = False, **more: Any) -> dict[str, Any]:
        return call(
            repository_rollback.main,
            check_mode=check_mode,
            path=str(self.world.repository),
            state_directory=str(self.state),
            evidence=str(self.world.root / "evidence"),
            lock=str(self.world.lock),
            token="run",
            **more,
        )

    def night(self, *, die: Callable[[str], None] = lambda step: None) -> dict[str, Any]:
        """One night, in the order of roles/custody/tasks/night.yml: test_order.py compares."""
        self.ledger()
        die("read")
        self.lockout("closed")
        try:
            return self._night(self.ledger(), die)
        finally:
            self.lockout("open")

    def _night(self, known: dict[str, Any], die: Callable[[str], None]) -> dict[str, Any]:
        die("closed")
        listed: list[dict[str, str]] = []
        unreadable = ""
        try:
            listed = self.archives()["archives"]
        except ModuleFailed as failed:
            unreadable = str(failed)
        die("listed")
        names = {**known["names"], **{one["id"]: one["name"] for one in listed}}
        audit = self.audit(
            mark=known["mark"],
            archives=names,
            deleting=known["deleting"],
            part=known["reading"]["part"],
            parts=known["reading"]["parts"],
        )
        times = {**audit["archive_times"], **self.arrived}
        audit["archive_times"] = {one: time for one, time in times.items() if one in names}
        die("audited")
        result = self.ledger(
            state="watched",
            repository_id=self.repository_id,
            archives=listed,
            unreadable=unreadable,
            audit={name: audit[name] for name in TOLD},
            head=audit["head"],
            **self.settings,
        )
        night = result["night"]
        die("watched")
        if not night["accept"]:
            return result
        deletions = night["plan"]["deletions"]
        if deletions:
            self._record("deleting", archives=deletions)
            die("deleting")
            self.archives(state="absent", archives=deletions)
            die("deleted")
        head = self.ledger()["head"]
        accepted = self.audit(
            mark=known["mark"],
            accept=True,
            accept_deletions=bool(deletions) or night["recovering"],
            head=head,
            archives=names,
            deleting=known["deleting"],
        )
        assert accepted["clean"] or (
            accepted["only_deletions"] and (deletions or night["recovering"])
        ), accepted["summary"]
        die("accepted")
        entries: list[tuple[str, dict[str, Any]]] = [
            ("checked", {**audit["part"], "what": ["data"]})
        ]
        if deletions or night["check"] or night["recovering"]:
            self.archives(state="checked", verify_data=night["verify"])
            entries.append(("checked", {"what": ["archives"]}))
            die("checked")
        if deletions or known["deleting"]:
            entries.append(("removed", {"archives": [*deletions, *night["recovered"]]}))
        entries.append(("mark", accepted["mark"]))
        self.ledger(state="recorded", entries=[{"kind": k, "data": d} for k, d in entries])
        die("marked")
        if night["compact"]:
            compacted = self.compaction(accepted["mark"])
            die("compacted")
            done = ("compacted", {"snapshot": compacted["snapshot"]}), ("mark", compacted["mark"])
            self.ledger(state="recorded", entries=[{"kind": k, "data": d} for k, d in done])
        return result

    def _record(self, kind: str, **data: Any) -> None:
        self.ledger(state="recorded", entries=[{"kind": kind, "data": data}])

    def backup(self, *, clock: timedelta = timedelta(), name: str = "", **more: Any) -> str:
        """The box's night, seen by the server at self.now minus two hours."""
        arrived = self.now - timedelta(hours=2)
        client = arrived + clock
        name = name or f"acme-{client.strftime('%Y-%m-%dT%H:%M:%SZ')}"
        stamp = client.strftime("%Y-%m-%dT%H:%M:%S")
        done = self.world.create(name, "--timestamp", stamp, "--json", **more)
        self.arrived[json.loads(done.stdout)["archive"]["id"]] = arrived.isoformat()
        return name
