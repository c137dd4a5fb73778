# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which archive is meant, what the escrow must hold, and how borg is called."""

from __future__ import annotations

import os
import pwd
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.borg import ArchiveInfo
from ansible_collections.lifeboat.agents.plugins.module_utils.process import Completed
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_session import (
    EscrowedAccess,
    access_of,
    demoted,
    inside,
    of_agent,
    parse_moment,
    select,
    session,
)

from .support import extracting_user

ID = "ab" * 32
ARCHIVES = [
    ArchiveInfo("acme-2026-11-01T02:10:00Z", "1" * 64, "2026-11-01T02:10:00Z"),
    ArchiveInfo("acme-2026-11-02T02:10:00Z", "2" * 64, "2026-11-02T02:10:00Z"),
    ArchiveInfo("acme-2026-11-03T02:10:00Z", "3" * 64, "2026-11-03T02:10:00Z"),
    ArchiveInfo("acme-2026-11-03T09:00:00Z.checkpoint", "4" * 64, "2026-11-03T09:00:00Z"),
    ArchiveInfo("acme-two-2026-11-04T02:10:00Z", "5" * 64, "2026-11-04T02:10:00Z"),
    ArchiveInfo("anything", "6" * 64, "2027-01-01T00:00:00Z"),
]


def access(**changes: Any) -> EscrowedAccess:
    values: dict[str, Any] = {
        "agent": "acme",
        "url": "ssh://lb-acme@vault:2222/srv/lifeboat/repositories/acme",
        "repository_id": ID,
        "passphrase": "s3cret",
        "key": f"BORG_KEY {ID}\nabc\n",
        "host_keys": ("ssh-ed25519 AAAA",),
        "identity": "/dev/null",
    }
    return EscrowedAccess(**{**values, **changes})


def test_only_an_agents_own_finished_archives_count() -> None:
    assert [item.id[0] for item in of_agent(ARCHIVES, "acme")] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("archive", "at", "chosen"),
    [
        ("latest", "", "3"),
        ("", "", "3"),
        ("acme-2026-11-01T02:10:00Z", "", "1"),
        ("2" * 64, "", "2"),
        ("anything", "", "6"),
        ("latest", "2026-11-02", "2"),
        ("latest", "2026-11-02T02:09", "1"),
        ("latest", "2026-11-02T03:10:00+01:00", "2"),
        ("latest", "2099-01-01", "3"),
    ],
)
def test_the_archive_that_is_meant(archive: str, at: str, chosen: str) -> None:
    assert select(ARCHIVES, "acme", archive, at).id[0] == chosen


def test_asking_for_what_does_not_exist_lists_what_does() -> None:
    with pytest.raises(RestoreError, match="no archive 'acme-x'") as caught:
        select(ARCHIVES, "acme", "acme-x", "")
    assert "acme-2026-11-01T02:10:00Z" in caught.value.hint
    with pytest.raises(RestoreError, match="at or before 2026-10-01") as caught:
        select(ARCHIVES, "acme", "latest", "2026-10-01")
    assert caught.value.failure["available"] == [item.name for item in of_agent(ARCHIVES, "acme")]
    with pytest.raises(RestoreError, match="no archive of 'none'"):
        select(ARCHIVES, "none", "latest", "")


def test_a_date_is_the_whole_day_in_utc() -> None:
    assert parse_moment("2026-11-01").isoformat() == "2026-11-01T23:59:59+00:00"
    assert parse_moment("2026-11-01T10:00Z").isoformat() == "2026-11-01T10:00:00+00:00"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"passphrase": ""}, "passphrase is missing"),
        ({"key": ""}, "key export is missing"),
        ({"key": f"BORG_KEY {'cd' * 32}\nabc"}, "not the one of the pinned repository"),
        ({"repository_id": ""}, "repository id is missing"),
        ({"host_keys": ()}, "host's keys are missing"),
        ({"identity": ""}, "no SSH identity"),
    ],
)
def test_an_escrow_that_lacks_something_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RestoreError, match=said), session(access(**changes)):
        pass


def test_a_local_repository_needs_no_identity() -> None:
    assert access(url="/srv/r", identity="", host_keys=()).problems() == []


def test_host_keys_are_pinned_for_their_port() -> None:
    assert access().known_hosts() == "[vault]:2222 ssh-ed25519 AAAA\n"
    plain = access(url="ssh://lb-acme@vault/srv/x", host_keys=("a b", "c d"))
    assert plain.known_hosts() == "vault a b\nvault c d\n"


def test_secrets_do_not_show_in_what_is_printed() -> None:
    assert "s3cret" not in repr(access())
    assert "abc" not in repr(access())


def test_options_become_access() -> None:
    given = {
        "repository": {
            "url": "u",
            "repository_id": None,
            "passphrase": None,
            "key": None,
            "host_keys": None,
        },
        "identity": None,
        "borg": "/b",
        "lock_wait": 3,
        "bypass_lock": True,
    }
    assert access_of(given, "acme").bypass_lock is True
    assert access_of(given, "acme").host_keys == ()


class Recorder:
    """Stands for borg: notes how it was called and what it could have read."""

    def __init__(self, stdout: bytes = b"") -> None:
        self.stdout = stdout
        self.argv: list[str] = []
        self.env: dict[str, str] = {}
        self.passphrase = b""
        self.files: dict[str, int] = {}

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str], pass_fds: Sequence[int] = (), **_: Any
    ) -> Completed:
        self.argv = list(argv)
        self.env = dict(env)
        self.passphrase = os.read(pass_fds[0], 100)
        folder = Path(env["BORG_BASE_DIR"]).parent
        self.files = {
            str(path.relative_to(folder)): path.stat().st_mode & 0o777
            for path in folder.rglob("*")
            if path.is_file()
        }
        return Completed(tuple(argv), 0, self.stdout, b"")

    def start(self, argv: Sequence[str], **_: Any) -> Any:
        raise AssertionError("a restore feeds borg nothing")


def listing(repository_id: str) -> bytes:
    return (
        b'{"repository": {"id": "%s"}, "archives": [{"name": "acme-2026-11-01T02:10:00Z",'
        b' "id": "1", "time": "2026-11-01T02:10:00.000000"}]}' % repository_id.encode()
    )


def test_what_borg_is_given_and_what_is_left_behind(tmp_path: Path) -> None:
    recorder = Recorder(listing(ID))
    options: dict[str, Any] = {"runner": recorder, "user": extracting_user()}
    with session(access(), run_directory=str(tmp_path), **options) as opened:
        assert [item.id for item in opened.archives()] == ["1"]
    assert recorder.passphrase == b"s3cret"
    assert "s3cret" not in " ".join(recorder.argv)
    assert not any("s3cret" in value for value in recorder.env.values())
    assert recorder.files == {"keys/key": 0o600, "known_hosts": 0o600, "identity": 0o600}
    assert "StrictHostKeyChecking=yes" in recorder.env["BORG_RSH"]
    assert recorder.env["BORG_HOST_ID"].startswith("lifeboat-restore-acme-")
    assert recorder.env["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] == "no"
    assert [path.name for path in tmp_path.iterdir()] == ["acme.lock"]


def test_another_repository_at_the_same_address_is_refused(tmp_path: Path) -> None:
    recorder = Recorder(listing("cd" * 32))
    options: dict[str, Any] = {"runner": recorder, "user": extracting_user()}
    with (
        session(access(), run_directory=str(tmp_path), **options) as opened,
        pytest.raises(RestoreError, match="not the repository that the vault describes"),
    ):
        opened.archives()


def test_two_restores_of_one_agent_do_not_meet(tmp_path: Path) -> None:
    options: dict[str, Any] = {"run_directory": str(tmp_path), "user": extracting_user()}
    with (
        session(access(), **options),
        pytest.raises(RestoreError, match="Another restore of 'acme'"),
        session(access(), wait=0, **options),
    ):
        pass


def test_a_restore_waits_for_one_that_lost_its_playbook(tmp_path: Path) -> None:
    """As after a cable that was pulled: what ran on the box goes on until it has noticed."""
    options: dict[str, Any] = {"run_directory": str(tmp_path), "user": extracting_user()}
    began, ended = threading.Event(), threading.Event()

    def orphan() -> None:
        with session(access(), **options):
            began.set()
            time.sleep(0.5)
            ended.set()

    thread = threading.Thread(target=orphan)
    thread.start()
    assert began.wait(30)
    with session(access(), **options):
        assert ended.is_set()
    thread.join()


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "acme/keys").mkdir(parents=True)
    (tmp_path / "acme/keys/key").write_text("old")
    with session(access(), run_directory=str(tmp_path), user=extracting_user()):
        assert (tmp_path / "acme/keys/key").read_text().startswith("BORG_KEY")
    assert not (tmp_path / "acme").exists()


def test_an_identity_that_is_not_there_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(RestoreError, match="cannot be read"),
        session(access(identity="/none"), run_directory=str(tmp_path), user=extracting_user()),
    ):
        pass


def test_borg_runs_without_a_way_back_to_root() -> None:
    argv = demoted(["borg"], pwd.getpwuid(os.geteuid()))
    assert argv[-1] == "borg"
    for option in ("--no-new-privs", "--bounding-set=-all", "--clear-groups", "--pdeathsig=KILL"):
        assert option in argv
    assert inside(["borg"], 7, "")[-3:] == ["sh", "7", "borg"]
    assert inside(["borg"], 7, "/m")[-3:] == ["sh", "/m", "borg"]
