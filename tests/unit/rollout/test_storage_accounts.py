# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A storage host: accounts, forced keys, sealed directories."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.storage_accounts import (
    Account,
    Layout,
    Result,
    StorageError,
    StorageHost,
    file_system_limit,
    parse_limit,
)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIexample"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIanother"
QGROUP = """\
Qgroupid    Referenced    Exclusive  Max referenced   Path
--------    ----------    ---------  --------------   ----
0/256            61440        61440     22000000000   repositories/acme
"""


@dataclass
class Host:
    """A storage host in a folder, whose root is whoever runs the test."""

    root: Path
    users: dict[str, pwd.struct_passwd] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)
    quota_output: tuple[int, str, str] = (0, QGROUP, "")

    def __post_init__(self) -> None:
        for name in ("keys", "homes", "locks", "repositories"):
            (self.root / name).mkdir()
        self.account = Account(
            name="lb-acme",
            agent="acme",
            path=str(self.root / "repositories" / "acme"),
            quota="20G",
            public_key=f"{KEY} acme@box",
        )
        self.layout = Layout(
            command="serve --agent {agent} {path} {quota} {lock} {counters} {marker}",
            group="lifeboat",
            keys_directory=str(self.root / "keys"),
            homes_directory=str(self.root / "homes"),
            lock_directory=str(self.root / "locks"),
            subvolumes=False,
            quota_groups=False,
            headroom_percent=10,
        )

    def run(self, args: list[str]) -> tuple[int, str, str]:
        """Do what the commands would do, as far as it matters here."""
        self.calls.append(args)
        if args[0] == "useradd":
            self.add(args[-1])
        if args[:2] == ["getent", "group"]:
            return 0, f"lifeboat:x:999:{','.join(self.users)}\n", ""
        if args[:3] == ["btrfs", "subvolume", "create"]:
            Path(args[3]).mkdir()
        if args[:3] == ["btrfs", "qgroup", "show"]:
            return self.quota_output
        return 0, "", ""

    def add(self, name: str) -> None:
        """Make an account whose ids the test may give files to."""
        # root may give files away; whoever is not root is the account as well.
        ids = (os.getuid() or 4242, os.getgid() or 4242)
        home = str(self.root / "homes" / name)
        self.users[name] = pwd.struct_passwd((name, "x", *ids, "", home, "/bin/sh"))

    def ensure(self, *accounts: Account, check_mode: bool = False) -> Result:
        """Run the module's logic once."""
        host = StorageHost(
            self.layout,
            run=self.run,
            check_mode=check_mode,
            find_user=self.users.__getitem__,
            root=(os.getuid(), os.getgid()),
        )
        return host.ensure(accounts or (self.account,))

    def initialise(self) -> Path:
        """What borg init leaves behind."""
        path = Path(self.account.path)
        (path / "data").mkdir(mode=0o700)
        for name in ("config", "README"):
            (path / name).touch(mode=0o600)
        return path

    @property
    def commands(self) -> list[str]:
        """Commands that change something."""
        return [a[0] for a in self.calls if a[0] != "getent" and "show" not in a]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A storage host without accounts."""
    return Host(tmp_path)


def mode(path: Path) -> int:
    """The mode of a path with its special bits."""
    return path.stat().st_mode & 0o7777


def test_an_account_is_locked_and_its_forced_key_is_not_in_its_reach(host: Host) -> None:
    result = host.ensure()
    (useradd,) = [argv for argv in host.calls if argv[0] == "useradd"]
    assert "--no-create-home" in useradd
    assert useradd[useradd.index("--password") + 1] == "*"
    line = (host.root / "keys" / "lb-acme").read_text().splitlines()[1]
    command = (
        f"serve --agent acme {host.account.path} 20G {host.root}/locks/acme "
        f"{host.root}/homes/lb-acme/counters.json {host.root}/homes/lb-acme/sealed"
    )
    assert line == f'restrict,command="{command}" {KEY} acme'
    assert mode(host.root / "keys" / "lb-acme") == 0o644
    assert mode(Path(host.account.path)) == 0o700
    assert result.accounts[0].keys == 1
    assert not result.accounts[0].initialised


def test_the_second_run_changes_nothing(host: Host) -> None:
    assert host.ensure().reasons
    host.calls.clear()
    assert host.ensure().as_return()["changed"] is False
    assert host.commands == []


def test_check_mode_tells_the_same_and_does_nothing(host: Host) -> None:
    before = sorted(host.root.rglob("*"))
    told = host.ensure(check_mode=True)
    assert sorted(host.root.rglob("*")) == before
    assert host.commands == []
    done = host.ensure()
    assert set(told.reasons) <= set(done.reasons)
    assert any("command=" in change.get("after", "") for change in told.diff)


def test_a_repository_is_sealed_once_it_is_initialised(host: Host) -> None:
    host.ensure()
    path = host.initialise()
    (served,) = host.ensure().accounts
    assert served.sealed
    assert (mode(path), mode(path / "data")) == (0o1770, 0o1770)
    assert (mode(path / "config"), mode(path / "README")) == (0o640, 0o640)
    assert (host.root / "homes" / "lb-acme" / "sealed").exists()
    assert not host.ensure().reasons


@pytest.mark.parametrize("rest", ["nothing", "directory without config"])
def test_nothing_is_made_in_the_place_of_a_sealed_repository(host: Host, rest: str) -> None:
    host.ensure()
    path = host.initialise()
    host.ensure()
    (path / "config").unlink()
    if rest == "nothing":
        for name in ("README", "data"):
            entry = path / name
            entry.rmdir() if entry.is_dir() else entry.unlink()
        path.rmdir()
    result = host.ensure()
    assert result.accounts[0].lost
    assert not result.accounts[0].sealed
    assert "GONE" in result.warnings[0]
    assert path.exists() == (rest != "nothing")
    assert not result.reasons


def test_a_box_that_was_not_in_the_run_keeps_its_key_under_new_options(host: Host) -> None:
    host.ensure()
    host.layout = replace(host.layout, command="other {agent}")
    result = host.ensure(replace(host.account, public_key=None))
    line = (host.root / "keys" / "lb-acme").read_text().splitlines()[1]
    assert line == f'restrict,command="other acme" {KEY} acme'
    assert not result.warnings


def test_a_box_that_was_never_seen_has_no_key_and_is_reported(host: Host) -> None:
    result = host.ensure(replace(host.account, public_key=None))
    assert "command=" not in (host.root / "keys" / "lb-acme").read_text()
    assert "No key of agent acme" in result.warnings[0]


def test_a_rebuilt_box_replaces_its_key(host: Host) -> None:
    host.ensure()
    host.ensure(replace(host.account, public_key=OTHER_KEY))
    text = (host.root / "keys" / "lb-acme").read_text()
    assert OTHER_KEY in text
    assert KEY not in text


@pytest.mark.parametrize("key", ["", "ssh-ed25519", 'x" ssh-ed25519 AAAA', "-----BEGIN"])
def test_what_is_no_public_key_is_not_rendered(host: Host, key: str) -> None:
    account = replace(host.account, public_key=key)
    if not key:
        host.ensure(account)
    else:
        with pytest.raises(StorageError, match="not an OpenSSH public key"):
            host.ensure(account)
    assert not any("command=" in path.read_text() for path in (host.root / "keys").iterdir())


def test_quotes_in_a_command_do_not_end_it(host: Host) -> None:
    host.layout = replace(host.layout, command='a "b" \\c')
    host.ensure()
    line = (host.root / "keys" / "lb-acme").read_text().splitlines()[1]
    assert line.startswith('restrict,command="a \\"b\\" \\\\c" ssh-ed25519 ')


def test_an_account_that_the_inventory_forgot_is_reported_not_removed(host: Host) -> None:
    host.add("lb-gone")
    result = host.ensure()
    assert result.unmanaged == ["lb-gone"]
    assert "retire.yml" in result.warnings[0]


def test_an_account_that_is_root_is_refused(host: Host) -> None:
    host.users["lb-acme"] = pwd.struct_passwd(("lb-acme", "x", 0, 0, "", "/root", "/bin/sh"))
    with pytest.raises(StorageError, match="uid 0"):
        host.ensure()


def test_a_link_in_the_place_of_a_sealed_file_is_not_followed(host: Host, tmp_path: Path) -> None:
    host.ensure()
    path = host.initialise()
    victim = tmp_path / "victim"
    victim.touch(mode=0o600)
    (path / "README").unlink()
    (path / "README").symlink_to(victim)
    with pytest.raises(StorageError, match="symbolic link"):
        host.ensure()
    assert mode(victim) == 0o600


def test_a_hard_link_in_the_place_of_a_sealed_file_is_refused(host: Host, tmp_path: Path) -> None:
    host.ensure()
    path = host.initialise()
    os.link(path / "config", tmp_path / "second name")
    with pytest.raises(StorageError, match="second hard link"):
        host.ensure()


def test_a_repository_that_is_a_link_is_refused(host: Host, tmp_path: Path) -> None:
    Path(host.account.path).symlink_to(tmp_path)
    with pytest.raises(StorageError, match="not a directory"):
        host.ensure()


def test_on_btrfs_a_repository_is_a_subvolume_with_a_limit(host: Host) -> None:
    host.layout = replace(host.layout, subvolumes=True, quota_groups=True)
    host.quota_output = (0, QGROUP.replace("22000000000", "none"), "")
    (served,) = host.ensure().accounts
    assert ["btrfs", "subvolume", "create", host.account.path] in host.calls
    assert ["btrfs", "qgroup", "limit", "22000000000", host.account.path] in host.calls
    assert served.limit == 22 * 10**9


def test_a_plain_directory_on_btrfs_is_reported(host: Host) -> None:
    host.ensure()
    host.layout = replace(host.layout, subvolumes=True, quota_groups=True)
    result = host.ensure()
    assert not result.accounts[0].subvolume
    assert "plain directory on btrfs" in result.warnings[0]


def test_a_quota_that_cannot_be_read_says_how_to_do_without(host: Host) -> None:
    host.layout = replace(host.layout, subvolumes=True, quota_groups=True)
    host.quota_output = (1, "", "ERROR: can't list qgroups: quotas not enabled\n")
    with pytest.raises(StorageError, match="repository_filesystem_quota: false"):
        host.ensure()


def test_limits() -> None:
    assert file_system_limit("20G", 10) == 22 * 10**9
    assert file_system_limit("500M", 0) == 500 * 10**6
    assert parse_limit(QGROUP) == 22 * 10**9
    assert parse_limit(QGROUP.replace("22000000000", "none")) is None
    assert parse_limit("") is None
