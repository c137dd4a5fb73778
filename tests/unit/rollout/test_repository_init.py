# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Binding a box to its repository: once, and never a second time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.repository_init import (
    Binding,
    Bound,
    RepositoryBinder,
    RepositoryError,
    hint,
    key_files,
    readable,
)

ID, OTHER = "a" * 64, "b" * 64
KEY = f"BORG_KEY {ID}\nhqlhbGdvcml0aG2mc2hhMjU2\n"


def failure(code: int, message: str, identifier: str) -> tuple[int, str, str]:
    """What borg 1.4 says with --log-json when it fails."""
    line = {"type": "log_message", "levelname": "ERROR", "message": message, "msgid": identifier}
    return code, "", json.dumps(line) + "\n"


ABSENT = failure(13, "Repository /r does not exist.", "Repository.DoesNotExist")
EMPTY = failure(15, "/r is not a valid repository.", "Repository.InvalidRepository")
NO_KEY = failure(42, "No key file for repository /r found in /k.", "KeyfileNotFoundError")
MOVED = failure(63, "Repository access aborted", "Cache.RepositoryAccessAborted")


@dataclass
class Borg:
    """A borg that answers what the test says, and remembers what it was asked."""

    keys: Path
    listing: tuple[int, str, str] = ABSENT
    calls: list[list[str]] = field(default_factory=list)
    environments: list[dict[str, str]] = field(default_factory=list)

    def __call__(
        self, argv: list[str], *, environment: Mapping[str, str], passphrase: str
    ) -> tuple[int, str, str]:
        assert passphrase == "open sesame"
        self.calls.append(argv)
        self.environments.append(dict(environment))
        if "init" in argv:
            (self.keys / "vault1").write_text(KEY)
            return 0, "", ""
        if self.listing == MOVED and environment.get("BORG_RELOCATED_REPO_ACCESS_IS_OK"):
            return found(ID)
        return self.listing

    @property
    def initialised(self) -> bool:
        """Whether a repository was made."""
        return any("init" in argv for argv in self.calls)


def found(identifier: str) -> tuple[int, str, str]:
    """What borg says of a repository that it opened."""
    return 0, json.dumps({"repository": {"id": identifier}, "archives": []}), ""


@pytest.fixture
def borg(tmp_path: Path) -> Borg:
    """A borg whose repository is absent."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "ssh_key").touch()
    program = tmp_path / "borg"
    program.touch(mode=0o755)
    return Borg(tmp_path / "keys")


def bind(borg: Borg, *, check_mode: bool = False, **known: Any) -> Bound:
    """Bind with what the escrow knows."""
    root = borg.keys.parent
    binding = Binding(
        url="ssh://lb-acme@vault1:22/r",
        borg=str(root / "borg"),
        ssh_key=str(root / "ssh_key"),
        known_hosts=str(root / "known_hosts"),
        keys_dir=str(borg.keys),
        base_dir=str(root / "base"),
        passphrase="open sesame",
    )
    return RepositoryBinder(replace(binding, **known), run=borg, check_mode=check_mode).bind()


def test_a_new_repository_is_initialised_with_a_key_that_is_not_in_it(borg: Borg) -> None:
    for borg.listing in (ABSENT, EMPTY):
        for path in borg.keys.iterdir():
            path.unlink()
        bound = bind(borg)
        assert (bound.repository_id, bound.key_file) == (ID, str(borg.keys / "vault1"))
        assert bound.as_return()["changed"]
    assert borg.calls[-1][-4:] == [
        "init",
        "--encryption",
        "keyfile-blake2",
        "ssh://lb-acme@vault1:22/r",
    ]


def test_the_passphrase_is_in_no_argument_and_only_the_pinned_hosts_are_known(borg: Borg) -> None:
    bind(borg)
    for argv, environment in zip(borg.calls, borg.environments):
        assert "open sesame" not in " ".join(argv) + " ".join(environment.values())
        assert "StrictHostKeyChecking=yes" in environment["BORG_RSH"]
        assert "GlobalKnownHostsFile=/dev/null" in environment["BORG_RSH"]
        assert "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK" not in environment


def test_the_second_run_changes_nothing_and_takes_no_lock(borg: Borg) -> None:
    (borg.keys / "k").write_text(KEY)
    borg.listing = found(ID)
    assert not bind(borg, expected_id=ID, expected_key=KEY).as_return()["changed"]
    assert "--bypass-lock" in borg.calls[0]


def test_a_controller_that_died_after_init_finds_the_key_again(borg: Borg) -> None:
    (borg.keys / "k").write_text(KEY)
    borg.listing = found(ID)
    assert bind(borg).key_file == str(borg.keys / "k")
    assert not borg.initialised


def test_a_rebuilt_box_gets_its_key_from_the_escrow(borg: Borg) -> None:
    borg.listing = found(ID)
    bound = bind(borg, expected_id=ID, expected_key=KEY.rstrip())
    assert (borg.keys / "repository").read_text() == KEY
    assert (borg.keys / "repository").stat().st_mode & 0o777 == 0o600
    assert bound.as_return()["changed"]
    assert not borg.initialised


@pytest.mark.parametrize("listing", [ABSENT, EMPTY])
@pytest.mark.parametrize("known", ["escrow", "box"])
def test_a_repository_that_is_gone_is_not_begun_again(
    borg: Borg, listing: tuple[int, str, str], known: str
) -> None:
    borg.listing = listing
    if known == "box":
        (borg.keys / "k").write_text(KEY)
    escrow: dict[str, Any] = {"expected_id": ID, "expected_key": KEY}
    with pytest.raises(RepositoryError, match="GONE"):
        bind(borg, **(escrow if known == "escrow" else {}))
    assert not borg.initialised


@pytest.mark.parametrize("listing", [found(OTHER), NO_KEY])
def test_a_repository_that_was_exchanged_is_refused(
    borg: Borg, listing: tuple[int, str, str]
) -> None:
    borg.listing = listing
    with pytest.raises(RepositoryError, match="EXCHANGED"):
        bind(borg, expected_id=ID, expected_key=KEY)
    assert not borg.initialised


@pytest.mark.parametrize("listing", [found(OTHER), NO_KEY])
def test_a_repository_whose_key_nobody_has_is_refused(
    borg: Borg, listing: tuple[int, str, str]
) -> None:
    borg.listing = listing
    with pytest.raises(RepositoryError, match="neither the box nor the escrow"):
        bind(borg)


def test_a_new_address_is_taken_when_the_id_proves_the_repository(borg: Borg) -> None:
    (borg.keys / "k").write_text(KEY)
    borg.listing = MOVED
    assert bind(borg, expected_id=ID).repository_id == ID
    with pytest.raises(RepositoryError, match="could not be opened"):
        bind(borg)


@pytest.mark.parametrize(
    ("escrow", "said"),
    [
        ({"expected_key": "not a key"}, "does not begin with BORG_KEY"),
        ({"expected_key": KEY, "expected_id": OTHER}, "contradicts itself"),
    ],
)
def test_an_escrow_that_cannot_be_right_is_refused(
    borg: Borg, escrow: dict[str, Any], said: str
) -> None:
    with pytest.raises(RepositoryError, match=said):
        bind(borg, **escrow)
    assert borg.calls == []


def test_a_key_on_the_box_that_is_not_the_escrowed_one_is_refused(borg: Borg) -> None:
    (borg.keys / "k").write_text(KEY)
    with pytest.raises(RepositoryError, match="The key on the box is of repository"):
        bind(borg, expected_id=OTHER)
    (borg.keys / "second").write_text(KEY.replace(ID, OTHER))
    with pytest.raises(RepositoryError, match="holds 2 keys"):
        bind(borg)


def test_check_mode_touches_nothing(borg: Borg) -> None:
    assert bind(borg, check_mode=True).as_return()["changed"]
    assert not borg.initialised
    bound = bind(borg, check_mode=True, expected_id=ID, expected_key=KEY)
    assert bound.reasons == ("the key was missing on the box: imported from the escrow",)
    assert list(borg.keys.iterdir()) == []
    (borg.keys.parent / "borg").unlink()
    assert bind(borg, check_mode=True).reasons == ("borg is not installed yet",)
    with pytest.raises(RepositoryError, match="Run the role borg first"):
        bind(borg)


def test_a_failure_carries_what_borg_said_and_what_to_do(borg: Borg) -> None:
    borg.listing = failure(52, "passphrase supplied is incorrect.", "PassphraseWrong")
    with pytest.raises(RepositoryError) as failed:
        bind(borg)
    assert failed.value.failure["rc"] == 52
    assert failed.value.failure["msgid"] == "PassphraseWrong"
    assert "were both from the same box" in str(failed.value)


@pytest.mark.parametrize(
    ("code", "text", "said"),
    [
        (80, "lb-acme@vault1: Permission denied (publickey).", "does not take this box's key"),
        (80, "Host key verification failed.", "somebody is in between"),
        (80, "ssh: Could not resolve hostname vault1", "repository_address"),
        (80, "lifeboat: the repository of acme is in maintenance, try again later", "run again"),
        (64, "newer than repository", "rollback.yml"),
        (26, "Repository has no manifest.", "rollback.yml"),
        (2, "something else", ""),
    ],
)
def test_hints(code: int, text: str, said: str) -> None:
    assert said in hint(code, text)
    assert bool(hint(code, text)) == bool(said)


def test_what_ssh_says_is_kept_and_chatter_is_not() -> None:
    chatter = json.dumps({"type": "log_message", "levelname": "INFO", "message": "hello"})
    log = f"{chatter}\nssh: connect to host vault1 port 22: Connection refused\n{ABSENT[2]}"
    assert readable(log) == (
        "ssh: connect to host vault1 port 22: Connection refused Repository /r does not exist."
    )


def test_only_files_of_keys_are_keys(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("BORG_KEY soon\n")
    (tmp_path / "k").write_text(KEY)
    assert key_files(tmp_path) == {ID: tmp_path / "k"}
    assert key_files(tmp_path / "none") == {}
