# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The trusted side at a repository: lists, deletes by name, checks. Never prunes, never compacts.

Key and passphrase come from the escrow and are there for one call: the key in a private
folder on a tmpfs, the passphrase in a pipe. borg's cache stays, because making it anew costs
more than everything else of a night.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .borg import (
    Access,
    ArchiveInfo,
    Borg,
    RepositoryInfo,
    _repository_info,
    parse_messages,
)
from .borg_codes import SUCCESS, WARNING
from .process import Runner

_URL = re.compile(r"ssh://(?:[^@/]+@)?(\[[^\]]+\]|[^:/]+)(?::(\d+))?/")


class ControlError(Exception):
    """What was to be done was not done, or not done alone."""

    def __init__(self, message: str, failure: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.failure = dict(failure or {})


@dataclass(frozen=True)
class Escrowed:
    """What opens the repository, from the escrow."""

    url: str
    repository_id: str
    passphrase: str
    key: str
    host_keys: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        found = []
        if not self.passphrase:
            found.append("the passphrase is missing")
        if not self.key.startswith(f"BORG_KEY {self.repository_id}"):
            found.append("the key is not the one of the pinned repository id")
        if not re.fullmatch("[0-9a-f]{64}", self.repository_id):
            found.append("the repository id is missing")
        if self.url.startswith("ssh://") and not self.host_keys:
            found.append("the host keys are missing")
        return found

    def known_hosts(self) -> str:
        match = _URL.match(self.url)
        if match is None:
            return ""
        host, port = match[1].strip("[]"), match[2] or "22"
        name = host if port == "22" else f"[{host}]:{port}"
        return "".join(f"{name} {key.strip()}\n" for key in self.host_keys)


class ControlBorg(Borg):
    """borg, with what only the trusted side asks for."""

    def everything(self) -> RepositoryInfo:
        """All archives, those of interrupted creates included."""
        data = self._json("list", ["--json", "--consider-checkpoints", self._access.url])
        return _repository_info(data)


@contextlib.contextmanager
def opened(
    escrowed: Escrowed,
    *,
    base_dir: str,
    identity: str = "",
    executable: str = "/usr/local/bin/lifeboat-borg",
    lock_wait: int = 600,
    runner: Runner | None = None,
) -> Iterator[ControlBorg]:
    """borg on the repository, for as long as the context lasts."""
    problems = escrowed.problems()
    if problems:
        raise ControlError(f"the escrow of {escrowed.url} is not complete: {'; '.join(problems)}")
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    private = Path(tempfile.mkdtemp(prefix="lifeboat-custody-", dir=memory))
    try:
        keys = private / "keys"
        keys.mkdir(mode=0o700)
        _write(keys / "key", escrowed.key.rstrip("\n") + "\n")
        _write(private / "known_hosts", escrowed.known_hosts())
        Path(base_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        access = Access(
            url=escrowed.url,
            base_dir=base_dir,
            keys_dir=str(keys),
            repository_id=escrowed.repository_id,
            passphrase=escrowed.passphrase,
            ssh_key=identity,
            known_hosts=str(private / "known_hosts"),
            lock_wait=lock_wait,
        )
        yield ControlBorg(access, executable=executable, runner=runner)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)


def archives(borg: ControlBorg) -> list[ArchiveInfo]:
    return list(borg.everything().archives)


def delete(borg: ControlBorg, wanted: Sequence[Mapping[str, str]]) -> list[ArchiveInfo]:
    """Delete these archives, each named and identified; what stands afterwards is returned.

    A name is only a name: whoever wrote the manifest chose it. So the list is read first, each
    name must stand for the id that was decided upon, and afterwards exactly these are gone.
    """
    before = {one.name: one.id for one in archives(borg)}
    for one in wanted:
        found = before.get(one["name"])
        if found != one["id"]:
            raise ControlError(
                f"the archive {one['name']} is {found or 'not there'}, decided upon was"
                f" {one['id']}: nothing was deleted"
            )
    if wanted:
        borg.delete([one["name"] for one in wanted])
    after = archives(borg)
    gone = set(before.values()) - {one.id for one in after}
    expected = {one["id"] for one in wanted}
    if gone != expected:
        raise ControlError(
            f"{len(expected)} archives were to be deleted, {len(gone)} are gone",
            {"left": sorted(expected - gone), "gone": sorted(gone - expected)},
        )
    if {one.id for one in after} - set(before.values()):
        raise ControlError("archives appeared while others were deleted: is the box locked out?")
    return after


def check(borg: ControlBorg, *, verify_data: bool = False) -> None:
    """Every object that an archive refers to is there (and, when asked, is what it was)."""
    completed = borg.check(archives_only=True, verify_data=verify_data)
    code = borg.judge("check", completed)
    if code.severity != SUCCESS:
        messages = [message.text for message in parse_messages(completed.stderr)]
        # borg ends a check that found something with a warning; an error is a check that broke off.
        outcome = "found errors" if code.severity == WARNING else "did not come to its end"
        raise ControlError(
            f"borg check {outcome}: {messages[-1] if messages else 'no message'}",
            {"rc": code.code, "messages": messages[-20:]},
        )


def as_listed(found: Sequence[ArchiveInfo]) -> list[dict[str, str]]:
    return [{"id": one.id, "name": one.name, "time": one.time} for one in found]
