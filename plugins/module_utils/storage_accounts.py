# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a storage host holds for each agent: an account, a forced key, a sealed repository.

Sealing guards what borg itself would do on behalf of a client: its whole-repository delete removes
``config`` first, and its key replacement rewrites it. It does not guard segments against a shell
as the account; the account has none.
"""

from __future__ import annotations

import errno
import os
import pwd
import re
import stat
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

MANAGED = (
    "# Managed by lifeboat.agents (role repository): rendered anew from the inventory at every run."
)
BTRFS_SUBVOLUME_INODE = 256
UNITS = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
KEY = re.compile(r"(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-\S+|sk-\S+) [A-Za-z0-9+/=]+")
SEALED_DIRECTORY = 0o1770
SEALED_FILE = 0o640


class RunCommand(Protocol):
    """The one way in which commands are run: AnsibleModule.run_command, or a fake of it."""

    def __call__(self, args: list[str]) -> tuple[int, str, str]: ...


class StorageError(Exception):
    """The storage host cannot be brought into shape."""

    def __init__(self, message: str, failure: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.failure = failure or {}


@dataclass(frozen=True)
class Account:
    """One agent's account, as the inventory wants it."""

    name: str
    agent: str
    path: str
    quota: str
    public_key: str | None = None


@dataclass(frozen=True)
class Layout:
    """Where things are on this host, and what every account gets."""

    command: str
    group: str
    keys_directory: str
    homes_directory: str
    lock_directory: str
    subvolumes: bool
    quota_groups: bool
    headroom_percent: int
    key_options: tuple[str, ...] = ("restrict",)


@dataclass(frozen=True)
class Served:
    """What is true of one account after the run."""

    agent: str
    initialised: bool
    sealed: bool
    lost: bool
    subvolume: bool
    limit: int | None
    keys: int


class Ownership(NamedTuple):
    """Owner, group and mode of a path."""

    uid: int
    gid: int
    mode: int


@dataclass
class Result:
    """Everything a run decided, in the order in which it was decided."""

    accounts: list[Served] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unmanaged: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)

    def as_return(self) -> dict[str, Any]:
        """Shape it as a module returns it."""
        return {
            "changed": bool(self.reasons),
            "accounts": [asdict(account) for account in self.accounts],
            "reasons": self.reasons,
            "unmanaged": self.unmanaged,
            "diff": self.diff,
        }


class StorageHost:
    """The accounts of one storage host."""

    def __init__(
        self,
        layout: Layout,
        *,
        run: RunCommand,
        check_mode: bool,
        find_user: Callable[[str], pwd.struct_passwd] = pwd.getpwnam,
        root: tuple[int, int] = (0, 0),
    ) -> None:
        self._layout = layout
        self._run = run
        self._check_mode = check_mode
        self._find_user = find_user
        self._root = root
        self._result = Result()

    def ensure(self, accounts: Iterable[Account]) -> Result:
        """Bring every account into shape, and report what had to change."""
        wanted = list(accounts)
        for account in wanted:
            passwd = self._ensure_user(account)
            self._ensure_home(account)
            keys = self._ensure_keys(account)
            self._ensure_lock(account, passwd)
            self._ensure_counters(account, passwd)
            self._result.accounts.append(self._ensure_repository(account, passwd, keys))
        self._report_unmanaged({account.name for account in wanted})
        return self._result

    def _ensure_repository(
        self, account: Account, passwd: pwd.struct_passwd | None, keys: int
    ) -> Served:
        if self._is_lost(account):
            self._result.warnings.append(
                f"The repository of agent {account.agent} is GONE from {account.path}, where it was "
                "sealed. Nothing is made in its place. Recover it from a snapshot "
                "(playbooks/rollback.yml). Only if its history may be given up, remove "
                f"{self._marker(account)} and its entries in the escrow file and on the box."
            )
            return Served(account.agent, False, False, True, False, None, keys)
        subvolume = self._ensure_directory(account)
        limit = self._ensure_limit(account) if subvolume else None
        initialised = self._ensure_ownership(account, passwd)
        if initialised:
            self._ensure_marker(account)
        return Served(account.agent, initialised, initialised, False, subvolume, limit, keys)

    # accounts

    def _ensure_user(self, account: Account) -> pwd.struct_passwd | None:
        home = self._home(account)
        try:
            known = self._find_user(account.name)
        except KeyError:
            self._change(f"account {account.name} is new")
            self._command(
                "useradd", "--system", "--user-group", "--groups", self._layout.group,
                "--home-dir", home, "--no-create-home", "--shell", "/bin/sh",
                "--password", "*", "--comment", f"lifeboat repository of {account.agent}",
                account.name,
            )  # fmt: skip
            return None if self._check_mode else self._find_user(account.name)
        if known.pw_uid == 0:
            raise StorageError(f"account {account.name} has uid 0. Remove it, then run again.")
        if known.pw_dir != home or known.pw_shell != "/bin/sh":
            self._change(f"account {account.name} has another home or shell")
            self._command("usermod", "--home", home, "--shell", "/bin/sh", account.name)
        if account.name not in self._members():
            self._change(f"account {account.name} is not in group {self._layout.group}")
            self._command("usermod", "--append", "--groups", self._layout.group, account.name)
        return known

    def _members(self) -> list[str]:
        return_code, output, _error = self._run(["getent", "group", self._layout.group])
        if return_code != 0:
            return []
        return [name for name in output.strip().split(":")[-1].split(",") if name]

    def _report_unmanaged(self, wanted: set[str]) -> None:
        self._result.unmanaged = sorted(set(self._members()) - wanted)
        if self._result.unmanaged:
            self._result.warnings.append(
                "Accounts that the inventory does not name any more still hold a repository and a "
                f"key: {', '.join(self._result.unmanaged)}. Retire them with playbooks/retire.yml."
            )

    def _home(self, account: Account) -> str:
        return f"{self._layout.homes_directory}/{account.name}"

    def _ensure_home(self, account: Account) -> None:
        self._ensure_plain_directory(self._home(account), Ownership(*self._root, 0o755))

    def _ensure_counters(self, account: Account, passwd: pwd.struct_passwd | None) -> None:
        """The one file that a session may write besides its repository: what it refused."""
        path = Path(self._home(account)) / "counters.json"
        if not path.exists():
            self._change(f"counters of {account.agent} are missing")
            if not self._check_mode:
                path.touch(mode=0o600)
        if passwd is not None:
            self._set_ownership(str(path), Ownership(passwd.pw_uid, passwd.pw_gid, 0o600))

    def _marker(self, account: Account) -> Path:
        return Path(self._home(account)) / "sealed"

    def _is_lost(self, account: Account) -> bool:
        return self._marker(account).exists() and not (Path(account.path) / "config").is_file()

    def _ensure_marker(self, account: Account) -> None:
        """Remember that there was a repository once: a lost one is not begun again in silence."""
        path = self._marker(account)
        if not path.exists():
            self._change(f"repository of {account.agent} is new: it is not created a second time")
            if not self._check_mode:
                path.touch(mode=0o644)

    # keys

    def _ensure_keys(self, account: Account) -> int:
        path = Path(self._layout.keys_directory) / account.name
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        key = (
            _key(account.public_key) if account.public_key else _present_key(before, account.agent)
        )
        after = self._authorized_keys(account, key)
        if before != after or not path.exists():
            self._change(f"authorized keys of {account.name} differ", str(path), before, after)
            if not self._check_mode:
                _replace(path, after, Ownership(*self._root, 0o644))
        elif _ownership(path) != Ownership(*self._root, 0o644):
            self._set_ownership(str(path), Ownership(*self._root, 0o644))
        if key is None:
            self._result.warnings.append(
                f"No key of agent {account.agent} is known here yet: its box was not in this run."
            )
        return 1 if key else 0

    def _authorized_keys(self, account: Account, key: str | None) -> str:
        if key is None:
            return f"{MANAGED}\n"
        command = self._layout.command
        home = self._home(account)
        for name, value in (
            ("agent", account.agent),
            ("account", account.name),
            ("path", account.path),
            ("quota", account.quota),
            ("lock", f"{self._layout.lock_directory}/{account.agent}"),
            ("counters", f"{home}/counters.json"),
            ("marker", str(self._marker(account))),
        ):
            command = command.replace("{" + name + "}", value)
        options = ",".join([*self._layout.key_options, f'command="{_quoted(command)}"'])
        return f"{MANAGED}\n{options} {key} {account.agent}\n"

    # locks and directories

    def _ensure_lock(self, account: Account, passwd: pwd.struct_passwd | None) -> None:
        path = Path(self._layout.lock_directory) / account.agent
        if not path.exists():
            self._change(f"lock file of {account.agent} is missing")
            if not self._check_mode:
                path.touch(mode=0o640)
        if passwd is not None:
            self._set_ownership(str(path), Ownership(self._root[0], passwd.pw_gid, 0o640))

    def _ensure_directory(self, account: Account) -> bool:
        path = Path(account.path)
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise StorageError(f"{path} is not a directory. Move it away, then run again.")
        if not path.exists():
            self._change(f"repository directory {path} is missing")
            if self._layout.subvolumes:
                self._command("btrfs", "subvolume", "create", str(path))
            elif not self._check_mode:
                path.mkdir(mode=0o700)
            return self._layout.subvolumes
        subvolume = _is_subvolume(path) if self._layout.subvolumes else False
        if self._layout.subvolumes and not subvolume:
            self._result.warnings.append(
                f"{path} is a plain directory on btrfs: it has no snapshots and no limit of its "
                "own. Copy the repository into a subvolume while its box is locked out."
            )
        return subvolume

    def _ensure_limit(self, account: Account) -> int | None:
        if not self._layout.quota_groups:
            return None
        limit = file_system_limit(account.quota, self._layout.headroom_percent)
        if self._check_mode and not Path(account.path).exists():
            return limit
        if self._limit(account.path) == limit:
            return limit
        self._change(f"quota group limit of {account.path} differs")
        self._command("btrfs", "qgroup", "limit", str(limit), account.path)
        return limit

    def _limit(self, path: str) -> int | None:
        return_code, output, error = self._run(["btrfs", "qgroup", "show", "-rf", "--raw", path])
        if return_code != 0:
            raise StorageError(
                f"The quota group of {path} cannot be read: {error.strip()}. "
                "Set repository_filesystem_quota: false to do without.",
                {"rc": return_code, "cmd": "btrfs qgroup show", "hint": error.strip()},
            )
        return parse_limit(output)

    # ownership

    def _ensure_ownership(self, account: Account, passwd: pwd.struct_passwd | None) -> bool:
        path = Path(account.path)
        initialised = (path / "config").is_file()
        if passwd is None:
            return initialised
        if not initialised:
            if path.exists():
                self._set_ownership(str(path), Ownership(passwd.pw_uid, passwd.pw_gid, 0o700))
            return False
        for name in (".", "data"):
            self._set_ownership(
                str(path / name), Ownership(self._root[0], passwd.pw_gid, SEALED_DIRECTORY)
            )
        for name in ("config", "README"):
            if (path / name).exists():
                self._set_ownership(
                    str(path / name), Ownership(self._root[0], passwd.pw_gid, SEALED_FILE)
                )
        return True

    def _ensure_plain_directory(self, path: str, wanted: Ownership) -> None:
        if not os.path.isdir(path):
            self._change(f"directory {path} is missing")
            if self._check_mode:
                return
            os.mkdir(path, wanted.mode)
        self._set_ownership(path, wanted)

    def _set_ownership(self, path: str, wanted: Ownership) -> None:
        """Set owner and mode through a descriptor: the account may move names in its directory."""
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise StorageError(f"{path} is a symbolic link. Somebody put it there.") from error
            if error.errno == errno.ENOENT and self._check_mode:
                return
            raise
        try:
            status = os.fstat(handle)
            found = Ownership(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
            if found == wanted:
                return
            if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                raise StorageError(f"{path} has a second hard link. Somebody put it there.")
            self._change(f"ownership of {path} is {_show(found)}, not {_show(wanted)}")
            if not self._check_mode:
                os.fchown(handle, wanted.uid, wanted.gid)
                os.fchmod(handle, wanted.mode)
        finally:
            os.close(handle)

    # plumbing

    def _change(self, reason: str, path: str = "", before: str = "", after: str = "") -> None:
        self._result.reasons.append(reason)
        if path:
            self._result.diff.append(
                {"before_header": path, "after_header": path, "before": before, "after": after}
            )
        else:
            self._result.diff.append({"prepared": f"{reason}\n"})

    def _command(self, *argv: str) -> None:
        if self._check_mode:
            return
        return_code, _output, error = self._run(list(argv))
        if return_code != 0:
            raise StorageError(
                f"{argv[0]} failed with {return_code}: {error.strip()}",
                {"rc": return_code, "cmd": " ".join(argv), "hint": error.strip()},
            )


def file_system_limit(quota: str, headroom_percent: int) -> int:
    """Bytes that the file system allows: borg's quota, and room for its index and compaction."""
    return int(quota[:-1]) * UNITS[quota[-1]] * (100 + headroom_percent) // 100


def parse_limit(output: str) -> int | None:
    """Read the limit of referenced bytes out of ``btrfs qgroup show -rf --raw``."""
    for line in output.splitlines():
        fields = line.split()
        if fields and re.fullmatch(r"\d+/\d+", fields[0]):
            return int(fields[3]) if len(fields) > 3 and fields[3].isdigit() else None
    return None


def _key(text: str) -> str:
    found = KEY.match(text.strip())
    if not found:
        raise StorageError(f"{text[:40]!r} is not an OpenSSH public key.")
    return found.group(0)


def _present_key(authorized_keys: str, comment: str) -> str | None:
    for line in authorized_keys.splitlines():
        found = KEY.findall(line)
        if found and line.endswith(f"{found[-1]} {comment}"):
            return str(found[-1])
    return None


def _quoted(command: str) -> str:
    return command.replace("\\", "\\\\").replace('"', '\\"')


def _show(ownership: Ownership) -> str:
    return f"{ownership.uid}:{ownership.gid} {ownership.mode:04o}"


def _ownership(path: Path) -> Ownership:
    status = path.lstat()
    return Ownership(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))


def _is_subvolume(path: Path) -> bool:
    return path.stat().st_ino == BTRFS_SUBVOLUME_INODE


def _replace(path: Path, text: str, ownership: Ownership) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchown(stream.fileno(), ownership.uid, ownership.gid)
            os.fchmod(stream.fileno(), ownership.mode)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
