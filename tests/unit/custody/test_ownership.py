# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who owns what, alone: no guard, no append-only serving, a shell as the storage account."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.audit_store import Store, audited
from ansible_collections.lifeboat.agents.tests.unit.custody.support import (
    World,
    files_of,
    python_of,
)
from ansible_collections.lifeboat.agents.tests.unit.rollout.test_storage_accounts import Host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs an account beside root")

# borg becomes the account once it is loaded: the account itself may not reach this borg's files.
AS_ACCOUNT = """
import os, sys
import borg.archiver
user, group = int(sys.argv.pop(1)), int(sys.argv.pop(1))
os.setgroups([])
os.setgid(group)
os.setuid(user)
borg.archiver.main()
"""


class Account:
    """A repository as the role leaves it, and its account with a shell."""

    def __init__(self, root: Path, world: World) -> None:
        self.host = Host(root)
        self.path = Path(self.host.account.path)
        self.borg_path = world.borg_path
        self.host.ensure()
        entry = self.host.users["lb-acme"]
        self.uid, self.gid = entry.pw_uid, entry.pw_gid
        shutil.copytree(world.repository, self.path, dirs_exist_ok=True)
        self.base = root / "base"
        self.base.mkdir()
        for top in (self.path, self.base):
            for path in (top, *top.rglob("*")):
                os.chown(path, self.uid, self.gid)

        self.environment = {
            "PATH": os.environ["PATH"],
            "BORG_BASE_DIR": str(self.base),
            "BORG_DELETE_I_KNOW_WHAT_I_AM_DOING": "YES",
        }

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,  # refusals are what is looked at
        )

    def delete(self) -> subprocess.CompletedProcess[str]:
        """borg's own command, beside the files: nobody told this borg to append only."""
        program = [python_of(self.borg_path), "-c", AS_ACCOUNT, str(self.uid), str(self.gid)]
        return subprocess.run(
            [*program, "delete", "--force", str(self.path)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,  # refusals are what is looked at
        )


@pytest.fixture
def unsealed(lived_in: World) -> Iterator[Account]:
    """In a folder that another account can reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        made = Account(Path(folder), lived_in)
        yield made


@pytest.fixture
def sealed(unsealed: Account) -> Account:
    (served,) = unsealed.host.ensure().accounts
    assert served.sealed
    return unsealed


def test_the_control_without_the_seal_borg_deletes_it(unsealed: Account) -> None:
    unsealed.delete()
    assert files_of(unsealed.path) == {}


def test_borg_cannot_delete_the_repository(sealed: Account) -> None:
    before = files_of(sealed.path)
    done = sealed.delete()
    assert done.returncode != 0
    assert "Operation not permitted" in done.stderr, done.stderr
    assert files_of(sealed.path) == before


@pytest.mark.parametrize(
    "command",
    ["rm -f config", "mv config kept", ": > config", "mv data kept", "cd .. && mv acme kept"],
)
def test_config_and_folders_stay_where_they_are(sealed: Account, command: str) -> None:
    before = files_of(sealed.path)
    assert sealed.run("sh", "-c", command).returncode != 0
    assert files_of(sealed.path) == before


def test_the_segments_are_the_accounts_own_and_the_audit_misses_them(
    sealed: Account, tmp_path: Path
) -> None:
    """What ownership does not stop: no key gets a shell, so this takes a hole in sshd or borg."""
    store = Store(tmp_path / "state")
    report, state = audited(sealed.path, store, None)
    assert report.mark
    assert state
    store.save(report.mark, state)
    assert sealed.run("rm", "-r", "data/0").returncode == 0
    assert audited(sealed.path, store, report.mark)[0].counts.keys() <= {
        "history-lost",
        "segment-missing",
    }
    assert not audited(sealed.path, store, report.mark)[0].clean
