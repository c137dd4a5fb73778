# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bind a box to its repository: initialise it once, and never a second time.

After a repository was wiped, a new one at the same path looks healthy to every client. So the
repository id is pinned in the escrow, and a repository that should be there and is not, or is
another one, is an alarm and not a reason to begin again.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

KEY_HEADER = re.compile(r"\ABORG_KEY ([0-9a-f]{64})\n")
MESSAGE_OF_ABSENCE = ("Repository.DoesNotExist", "Repository.InvalidRepository")
MESSAGE_OF_ANOTHER = (
    "KeyfileNotFoundError",
    "Cache.CacheInitAbortedError",
    "Cache.EncryptionMethodMismatch",
)
MESSAGE_OF_MOVE = ("Cache.RepositoryAccessAborted",)


class RunBorg(Protocol):
    """Run borg with an environment and the passphrase on a file descriptor."""

    def __call__(
        self, argv: list[str], *, environment: Mapping[str, str], passphrase: str
    ) -> tuple[int, str, str]: ...


class RepositoryError(Exception):
    """The box and its repository do not belong together, or cannot be brought together."""

    def __init__(self, message: str, failure: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.failure = failure or {}


@dataclass(frozen=True)
class Binding:
    """What a box knows about one repository, and what the escrow knows."""

    url: str
    borg: str
    ssh_key: str
    known_hosts: str
    keys_dir: str
    base_dir: str
    passphrase: str
    encryption: str = "keyfile-blake2"
    expected_id: str | None = None
    expected_key: str | None = None
    lock_wait: int = 60


@dataclass(frozen=True)
class Bound:
    """The outcome: which repository it is, where its key is, and what was done."""

    repository_id: str | None
    key_file: str | None
    reasons: tuple[str, ...]

    def as_return(self) -> dict[str, Any]:
        """Shape it as a module returns it."""
        return {
            "changed": bool(self.reasons),
            "repository_id": self.repository_id,
            "key_file": self.key_file,
            "reasons": list(self.reasons),
            "diff": {"prepared": "".join(f"{reason}\n" for reason in self.reasons)},
        }


class RepositoryBinder:
    """Decides first, acts second; see the module documentation for the cases."""

    def __init__(self, binding: Binding, *, run: RunBorg, check_mode: bool) -> None:
        self._binding = binding
        self._run = run
        self._check_mode = check_mode
        self._reasons: list[str] = []

    def bind(self) -> Bound:
        """Bring key and repository together, or refuse."""
        if not os.access(self._binding.borg, os.X_OK):
            if self._check_mode:
                return Bound(None, None, ("borg is not installed yet",))
            raise RepositoryError(f"{self._binding.borg} is missing. Run the role borg first.")
        key_file = self._ensure_key()
        if self._check_mode and self._reasons:
            return Bound(self._binding.expected_id, str(key_file), tuple(self._reasons))
        found = self._repository_id()
        if found is None:
            return self._initialise(key_file)
        return self._accept(found, key_file)

    def _ensure_key(self) -> Path | None:
        """Find the key on the box; a box that lost it gets it back from the escrow."""
        keys = key_files(Path(self._binding.keys_dir))
        expected = self._binding.expected_id
        if len(keys) > 1:
            raise RepositoryError(
                f"{self._binding.keys_dir} holds {len(keys)} keys, one is right. Move the others "
                "away: a repository has exactly one key."
            )
        for identifier, path in keys.items():
            if expected and identifier != expected:
                raise RepositoryError(
                    f"The key on the box is of repository {identifier}, the escrow has {expected}. "
                    f"Nothing was changed. If the escrow is right, move {path} away and run again."
                )
            return path
        if not self._binding.expected_key:
            return None
        return self._import_key(self._binding.expected_key)

    def _import_key(self, key: str) -> Path:
        header = KEY_HEADER.match(key)
        if not header:
            raise RepositoryError(
                "The key in the escrow does not begin with BORG_KEY. Take it from an older copy of "
                "the escrow file."
            )
        if self._binding.expected_id and header.group(1) != self._binding.expected_id:
            raise RepositoryError(
                f"The key in the escrow is of repository {header.group(1)}, not of "
                f"{self._binding.expected_id}: the escrow file contradicts itself. Take both from "
                "an older copy of it."
            )
        path = Path(self._binding.keys_dir) / "repository"
        self._reasons.append("the key was missing on the box: imported from the escrow")
        if not self._check_mode:
            _write_private(path, key)
        return path

    def _repository_id(self) -> str | None:
        argv = ["list", "--json", "--last", "1", "--bypass-lock", self._binding.url]
        if not Path(self._binding.ssh_key).exists() and self._check_mode:
            return None
        return_code, output, error = self._borg(argv)
        if return_code != 0 and _message_id(error) in MESSAGE_OF_MOVE and self._binding.expected_id:
            # The address changed in the inventory; the id tells whether it is the same repository.
            return_code, output, error = self._borg(
                argv, {"BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
            )
        if return_code in (0, 1):
            return str(json.loads(output)["repository"]["id"])
        if _message_id(error) in MESSAGE_OF_ABSENCE:
            return None
        if _message_id(error) in MESSAGE_OF_ANOTHER:
            raise self._another(f"one that the key of {self._binding.expected_id} does not open")
        if self._check_mode and self._binding.expected_id is None:
            return None
        raise self._failure("could not be opened", argv, return_code, error)

    def _initialise(self, key_file: Path | None) -> Bound:
        if key_file is not None or self._binding.expected_id:
            known = self._binding.expected_id or "on this box"
            raise RepositoryError(
                f"The repository {self._binding.url} is GONE, and its key is known ({known}). "
                "Nothing was initialised: a new repository at the same place would hide the loss. "
                "Recover it from a storage snapshot (playbooks/rollback.yml). Only if its history "
                "may be given up, remove it from the escrow file and its key from the box."
            )
        self._reasons.append("the repository was absent: initialised")
        if self._check_mode:
            return Bound(None, None, tuple(self._reasons))
        argv = ["init", "--encryption", self._binding.encryption, self._binding.url]
        return_code, _output, error = self._borg(argv)
        if return_code != 0:
            raise self._failure("could not be initialised", argv, return_code, error)
        keys = key_files(Path(self._binding.keys_dir))
        if len(keys) != 1:
            raise RepositoryError(f"borg init left {len(keys)} keys in {self._binding.keys_dir}.")
        identifier, path = next(iter(keys.items()))
        return Bound(identifier, str(path), tuple(self._reasons))

    def _accept(self, found: str, key_file: Path | None) -> Bound:
        expected = self._binding.expected_id
        if expected and found != expected:
            raise self._another(found)
        if key_file is None:
            raise self._another(found)
        header = KEY_HEADER.match(key_file.read_text(encoding="utf-8"))
        if not header or header.group(1) != found:
            raise RepositoryError(
                f"The key {key_file} is not the one of repository {found} at {self._binding.url}."
            )
        return Bound(found, str(key_file), tuple(self._reasons))

    def _another(self, found: str) -> RepositoryError:
        expected = self._binding.expected_id
        if expected:
            return RepositoryError(
                f"At {self._binding.url} is not repository {expected}, which the escrow has, but "
                f"{found}: it was EXCHANGED. Nothing was changed. Look at the storage host, and "
                "recover the right one from a snapshot (playbooks/rollback.yml)."
            )
        return RepositoryError(
            f"At {self._binding.url} is a repository, but neither the box nor the escrow has its "
            "key. Put the escrow file of the agent back, or move the repository away."
        )

    def _borg(
        self, arguments: list[str], extra: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        binding = self._binding
        environment = {
            "BORG_KEYS_DIR": binding.keys_dir,
            "BORG_BASE_DIR": binding.base_dir,
            "BORG_RSH": (
                f"ssh -i {binding.ssh_key} -o IdentitiesOnly=yes -o BatchMode=yes "
                f"-o UserKnownHostsFile={binding.known_hosts} -o GlobalKnownHostsFile=/dev/null "
                "-o StrictHostKeyChecking=yes -o ConnectTimeout=20 -o ServerAliveInterval=15"
            ),
            "BORG_EXIT_CODES": "modern",
            "BORG_DISPLAY_PASSPHRASE": "no",
            "LC_ALL": "C.UTF-8",
            **(extra or {}),
        }
        argv = [binding.borg, "--log-json", "--lock-wait", str(binding.lock_wait), *arguments]
        return self._run(argv, environment=environment, passphrase=binding.passphrase)

    def _failure(self, what: str, argv: list[str], return_code: int, error: str) -> RepositoryError:
        text = readable(error)
        return RepositoryError(
            f"The repository {self._binding.url} {what}: {text or f'borg ended with {return_code}'}"
            f" {hint(return_code, text)}".rstrip(),
            {
                "rc": return_code,
                "cmd": " ".join(argv),
                "msgid": _message_id(error),
                "hint": hint(return_code, text),
            },
        )


def key_files(directory: Path) -> dict[str, Path]:
    """Find the key files of borg in a directory, by the id of their repository."""
    found: dict[str, Path] = {}
    if directory.is_dir():
        for path in sorted(directory.iterdir()):
            header = KEY_HEADER.match(path.read_text(encoding="utf-8", errors="replace"))
            if header:
                found[header.group(1)] = path
    return found


def readable(log: str) -> str:
    """The messages of borg's JSON log lines, and every line that is none."""
    messages: list[str] = []
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            messages.append(line.strip())
            continue
        if isinstance(entry, dict) and entry.get("levelname") in ("WARNING", "ERROR", "CRITICAL"):
            messages.append(str(entry.get("message", "")).strip())
    return " ".join(message for message in messages if message)


def hint(return_code: int, text: str) -> str:
    """What to do about it."""
    if "is in maintenance" in text:  # the words of the guard on the storage host
        return "The storage host is at maintenance and keeps boxes out: run again later."
    if "Permission denied" in text:
        return (
            "The storage host does not take this box's key: roll out to the storage host as well "
            "(site.yml without --limit)."
        )
    if "Host key verification failed" in text or "IDENTIFICATION HAS CHANGED" in text:
        return (
            "The storage host does not show the host key that is pinned. If it was reinstalled, "
            "roll out to it as well (site.yml without --limit); if not, somebody is in between."
        )
    if return_code == 52:
        return "The passphrase of the escrow does not open the key: were both from the same box?"
    if return_code in (26, 64):
        return (
            "What the storage host holds is not what this box wrote last. Look at the storage host, "
            "and recover the right state with playbooks/rollback.yml."
        )
    if "resolve hostname" in text or "Connection refused" in text or "timed out" in text:
        return "Check repository_address and repository_port of the storage host."
    return ""


def _message_id(log: str) -> str | None:
    identifier: str | None = None
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("msgid"):
            identifier = str(entry["msgid"])
    return identifier


def _write_private(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".key.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text if text.endswith("\n") else f"{text}\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
