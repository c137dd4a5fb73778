# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host that is lent to drills refuses, remembers and gives up again, on a tree of its own.

That a real host comes back as it was is shown by molecule (scenario providers).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
KEY = "ssh-ed25519 AAAA drill"


def load() -> ModuleType:
    path = ROOT / "roles" / "drill_box" / "files" / "existing.py"
    spec = importlib.util.spec_from_file_location("existing_host", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


existing = load()


class Commands:
    """The host's own commands: none has an effect, packages are a list."""

    def __init__(self) -> None:
        self.packages = ["bash", "openssh-server"]
        self.plan = ""
        self.ran: list[tuple[str, ...]] = []

    def __call__(self, *argv: str, check: bool = True) -> str:
        self.ran.append(argv)
        if argv[0] == "dpkg-query":
            return "".join(f"ii  {name}\n" for name in self.packages)
        if argv[:2] == ("apt-get", "--simulate"):
            return self.plan
        if argv[0] == "apt-get":
            self.packages = [name for name in self.packages if name not in argv]
        return ""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    made = Commands()
    monkeypatch.setattr(existing, "run", made)
    monkeypatch.setattr(existing.shutil, "which", lambda _name: "/usr/sbin/nft")
    return made


@pytest.fixture
def host(tmp_path: Path, commands: Commands) -> Any:
    for name, text in {
        "etc/os-release": 'ID=debian\nVERSION_ID="13"\n',
        "etc/machine-id": "aaaa\n",
        "etc/hosts": "127.0.0.1 localhost\n",
        "etc/ssh/ssh_host_ed25519_key.pub": "ssh-ed25519 HOST root@spare\n",
        "root/.ssh/authorized_keys": "ssh-ed25519 OWNER",
        "proc/self/mountinfo": "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "22 21 0:9 / /mnt/share rw - nfs4 there:/ rw\n",
        "mnt/share/file": "",
        "var/log/messages": "",
        "usr/bin/tool": "",
        "srv/data": "mine",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "var/lib").mkdir()
    return existing.Host(tmp_path)


def wanted(**settings: Any) -> argparse.Namespace:
    return argparse.Namespace(
        **{
            "name": "drill-a",
            "network": "lifeboat",
            "minutes": 0,
            "distribution": "debian-13",
            "controller": "bbbb",
            "key": KEY,
            "home": [],
            "again": False,
            "expired": False,
            **settings,
        }
    )


def state(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text() if path.is_file() else ""
        for path in root.rglob("*")
    }


def test_what_came_is_gone_and_what_was_there_stays(host: Any, commands: Commands) -> None:
    before = state(host.root)
    claimed = existing.claim(host, wanted())
    assert claimed["claimed"]
    assert claimed["host_key"] == "ssh-ed25519 HOST"
    keys = (host.root / "root/.ssh/authorized_keys").read_text().splitlines()
    assert keys == ["ssh-ed25519 OWNER", f"restrict,pty {KEY}"]
    for name in (
        "home/fleet/a0/SOUL.md",
        "opt/agent/bin/run",
        "usr/local/bin/agent",
        "run/lifeboat/x",
    ):
        (host.root / name).parent.mkdir(parents=True, exist_ok=True)
        (host.root / name).write_text("secret")
    (host.root / "etc/hosts").write_text("127.0.0.1 localhost\n10.0.0.1 vault\n")
    (host.root / "srv/link").symlink_to("data")
    commands.packages += ["borgbackup"]
    commands.plan = "Purg borgbackup [1.4]\n"
    assert existing.wipe_claimed(host, wanted()) == {"wiped": "drill-a", "left": []}
    assert state(host.root) == before
    assert "borgbackup" not in commands.packages
    # The fence falls when everything else has gone.
    assert [argv for argv in commands.ran if argv[0] in ("apt-get", "nft")][-1][0] == "nft"


def test_others_disks_logs_and_packages_are_left_alone(host: Any) -> None:
    found = set(host.paths())
    assert "srv/data" in found
    assert not found & {"mnt/share", "mnt/share/file", "var/log/messages", "usr/bin/tool"}


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ("home/fleet/a0/", "/home/fleet/a0 is an agent's home"),
        ("usr/local/sbin/lifeboat", "it backs up an agent"),
        ("etc/lifeboat/authorized_keys/", "it stores repositories"),
        (os.path.expanduser("~root/.hermes/").lstrip("/"), ".hermes is an agent's home"),
    ],
)
def test_a_host_that_something_lives_on_is_refused(host: Any, made: str, why: str) -> None:
    place = host.root / made
    place.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir() if made.endswith("/") else place.write_text("")
    before = state(host.root)
    answer = existing.claim(host, wanted(home=["/home/fleet/a0"]))
    assert not answer["claimed"]
    assert why in answer["refused"]
    assert state(host.root) == before


def test_the_controller_and_foreign_disks_are_refused(host: Any) -> None:
    assert "runs Ansible" in existing.claim(host, wanted(controller="aaaa"))["refused"]
    answer = existing.claim(host, wanted(home=["/mnt/share/agent"]))
    assert "another machine's disk" in answer["refused"]


def test_one_drill_at_a_time(host: Any) -> None:
    assert existing.claim(host, wanted())["claimed"]
    other = existing.claim(host, wanted(name="drill-b"))
    assert not other["claimed"]
    assert other["busy"].startswith("drill-a has it")
    assert existing.wipe_claimed(host, wanted(name="drill-b", network=""))["wiped"] is None
    assert existing.claim(host, wanted(again=True))["claimed"]
    keys = (host.root / "root/.ssh/authorized_keys").read_text()
    assert keys.count(KEY) == 1


def test_another_distribution_is_passed_by(host: Any) -> None:
    answer = existing.claim(host, wanted(distribution="debian-12"))
    assert answer == {"claimed": False, "busy": "it runs debian-13"}


def expire(host: Any) -> None:
    path = host.state / "claim.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "expires": time.time() - 1}))


def test_a_host_whose_time_is_over_is_wiped_and_lent_again(host: Any) -> None:
    assert existing.claim(host, wanted())["claimed"]
    (host.root / "srv/left").write_text("")
    expire(host)
    assert existing.claim(host, wanted(name="drill-b"))["claimed"]
    assert not (host.root / "srv/left").exists()
    expire(host)
    assert (
        existing.wipe_claimed(host, wanted(name="", network="", expired=True))["wiped"] == "drill-b"
    )


def test_a_claim_that_broke_off_leaves_the_host_free(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(host.root)

    def full(*_arguments: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(existing, "write", full)
    with pytest.raises(OSError, match="no space"):
        existing.claim(host, wanted())
    assert state(host.root) == before
    # Killed in the middle of it: after a while somebody else may.
    host.state.mkdir()
    assert "a drill that begins" in existing.claim(host, wanted())["busy"]
    os.utime(host.state, (0, 0))
    monkeypatch.undo()
    monkeypatch.setattr(existing, "run", Commands())
    assert existing.claim(host, wanted())["claimed"]


def test_packages_that_would_take_others_with_them_stay_and_are_named(
    host: Any, commands: Commands
) -> None:
    assert existing.claim(host, wanted())["claimed"]
    commands.packages += ["libnew"]
    commands.plan = "Purg libnew [1]\nRemv openssh-server [10]\n"
    answer = existing.wipe_claimed(host, wanted())
    assert "openssh-server" in answer["left"][0]
    assert "package libnew" in answer["left"]
    # It is not given back before somebody has looked.
    assert host.state.exists()
    assert ("nft", "delete", "table", "inet", "lifeboat_fence") not in commands.ran
