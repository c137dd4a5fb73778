# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening a repository with nothing but what the escrow holds, as a user that can do nothing else.

For the length of one session the key, the passphrase's way in, the SSH identity and the pinned
host keys lie in a private folder on a tmpfs that belongs to the system user lifeboat-restore.
borg runs as that user, without privileges to regain, and sees of the target's file systems
only as much as any other user; the folder it extracts to is bound to a fixed place in a mount
namespace of its own, because the agent's own folder is usually closed to others.

Not guaranteed: that a folder left by SIGKILL is gone at once. The next session removes it, and
so does a restart, since it lies below /run.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import pwd
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .restore_manifest import SIZE_LIMIT, RestoreError, RestoreManifest, parse
from .restore_tree import opened, remove

USER = "lifeboat-restore"
RUN_DIRECTORY = "/run/lifeboat-restore"
BORG = "/usr/local/bin/lifeboat-borg"
_ARCHIVE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:?\d{2})?)?\Z")

# BORG_EXIT_CODES=modern: what a restore can meet, and what to do about it.
MEANING: Mapping[int, tuple[str, str]] = {
    13: (
        "there is no repository at that address",
        "Check the inventory (repository host, agent name) and the repository host itself.",
    ),
    15: ("the repository is damaged", "Restore from a snapshot or from another repository."),
    16: ("the repository is damaged", "Restore from a snapshot or from another repository."),
    31: ("the archive does not exist", "List what exists: leave -e archive away."),
    44: (
        "the escrowed key does not belong to this repository",
        "Either the vault holds the key of another repository, or the repository was replaced: "
        "compare the repository id in the vault with the one on the host.",
    ),
    45: ("the escrowed key is not a borg key", "Run the escrow check; the vault entry is damaged."),
    52: (
        "the escrowed passphrase does not open the escrowed key",
        "The vault entry is wrong or from before a rotation. Look for an older copy of the file.",
    ),
    72: ("the lock on the repository failed", "See the message; try again."),
    73: (
        "the repository is locked by somebody else",
        "A backup or custody may be running. Try again, or wait longer with restore_lock_wait.",
    ),
    80: (
        "the connection to the repository host ended",
        "Is the host up, does it accept the identity (it expires), do its host keys match the "
        "escrowed ones? See the message.",
    ),
    81: ("the connection to the repository host ended", "Try again; see the message."),
    82: ("borg is missing or too old on the repository host", "Run site.yml on that host."),
}


@dataclass(frozen=True)
class Access:
    """Everything that opens one repository. From the escrow and the inventory, never the box."""

    agent: str
    url: str
    repository_id: str
    passphrase: str = field(repr=False)
    key: str = field(repr=False)
    host_keys: tuple[str, ...] = ()
    identity: str = ""
    borg: str = BORG
    lock_wait: int = 60
    bypass_lock: bool = False

    def problems(self) -> list[str]:
        """What is missing or malformed; empty when everything is there."""
        found = []
        if not self.passphrase:
            found.append("the passphrase is missing")
        if not self.key.startswith("BORG_KEY "):
            found.append("the borg key export is missing")
        elif self.key.split(None, 2)[1] != self.repository_id:
            found.append("the borg key is not the one of the pinned repository id")
        if not re.fullmatch("[0-9a-f]{64}", self.repository_id):
            found.append("the repository id is missing")
        if self.is_remote and not self.host_keys:
            found.append("the repository host's keys are missing")
        if self.is_remote and not self.identity:
            found.append("no SSH identity was given")
        return found

    @property
    def is_remote(self) -> bool:
        return self.url.startswith("ssh://")

    def known_hosts(self) -> str:
        match = re.match(r"ssh://(?:[^@/]+@)?(\[[^\]]+\]|[^:/]+)(?::(\d+))?/", self.url)
        if not match:
            return ""
        host, port = match.group(1).strip("[]"), match.group(2) or "22"
        names = host if port == "22" else f"[{host}]:{port}"
        return "".join(f"{names} {key.strip()}\n" for key in self.host_keys)


def access_of(parameters: Mapping[str, Any], agent: str) -> Access:
    """From the options that the restore modules share."""
    repository = parameters["repository"]
    return Access(
        agent=agent,
        url=repository["url"],
        repository_id=repository["repository_id"] or "",
        passphrase=repository["passphrase"] or "",
        key=repository["key"] or "",
        host_keys=tuple(repository["host_keys"] or ()),
        identity=parameters["identity"] or "",
        borg=parameters["borg"],
        lock_wait=parameters["lock_wait"],
        bypass_lock=parameters["bypass_lock"],
    )


def access_options() -> dict[str, Any]:
    """The options by which the restore modules are told how to open a repository."""
    return {
        "repository": {
            "type": "dict",
            "options": {
                "url": {"type": "str", "required": True},
                "repository_id": {"type": "str"},
                "passphrase": {"type": "str", "no_log": True},
                "key": {"type": "str", "no_log": True},
                "host_keys": {"type": "list", "elements": "str", "no_log": False},
            },
        },
        "identity": {"type": "path"},
        "borg": {"type": "path", "default": BORG},
        "lock_wait": {"type": "int", "default": 60},
        "bypass_lock": {"type": "bool", "default": False},
    }


@dataclass(frozen=True)
class Archive:
    name: str
    id: str
    time: str

    @property
    def moment(self) -> datetime.datetime:
        return datetime.datetime.strptime(self.time, "%Y-%m-%dT%H:%M:%SZ").replace(
            tzinfo=datetime.timezone.utc
        )


@dataclass(frozen=True)
class Outcome:
    rc: int
    stdout: bytes
    stderr: str


Runner = Callable[..., Outcome]


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    secret: str = "",
    cwd: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Outcome:
    """Run one command; a secret travels through a pipe whose number borg is told."""
    reading, writing = os.pipe()
    try:
        os.write(writing, secret.encode())
        os.close(writing)
        writing = -1
        with subprocess.Popen(
            list(argv),
            env={**env, "BORG_PASSPHRASE_FD": str(reading)},
            pass_fds=(reading,),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            stdout, stderr = process.communicate()
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
    return Outcome(process.returncode, stdout, stderr.decode("utf-8", "replace"))


def demoted(argv: Sequence[str], account: pwd.struct_passwd) -> list[str]:
    """As the system user, with no way back to more."""
    return [
        "setpriv",
        f"--reuid={account.pw_uid}",
        f"--regid={account.pw_gid}",
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--",
        *argv,
    ]


def bound(argv: Sequence[str], target: str) -> list[str]:
    """In a mount namespace of its own, with the working folder found at target.

    The folder is bound as ".": by name, its path could be led elsewhere in between.
    """
    script = 'mount --no-canonicalize --bind . "$1" && cd "$1" && shift && exec "$@"'
    unshare = ["unshare", "--mount", "--propagation=private", "--"]
    return [*unshare, "sh", "-c", script, "sh", target, *argv]


class Session:
    """One repository, open for as long as the private folder lives."""

    def __init__(
        self, access: Access, folder: str, runner: Runner, account: pwd.struct_passwd | None
    ) -> None:
        self.access = access
        self.folder = folder
        self.runner = runner
        self.account = account

    def environment(self) -> dict[str, str]:
        ssh = [
            "ssh",
            *("-F", "/dev/null", "-i", f"{self.folder}/identity"),
            *("-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"),
            *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"),
            *("-o", f"UserKnownHostsFile={self.folder}/known_hosts"),
            *("-o", "GlobalKnownHostsFile=/dev/null", "-o", "UpdateHostKeys=no"),
            *("-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15"),
            *("-o", "ServerAliveCountMax=4"),
        ]
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": f"{self.folder}/base",
            "TZ": "UTC",
            "LC_ALL": "C.UTF-8",
            "BORG_BASE_DIR": f"{self.folder}/base",
            "BORG_KEYS_DIR": f"{self.folder}/keys",
            "BORG_HOST_ID": f"lifeboat-restore-{self.access.agent}-{secrets.token_hex(8)}",
            "BORG_RSH": " ".join(ssh),
            "BORG_EXIT_CODES": "modern",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "no",
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "no",
        }

    def _borg(self, *arguments: str, inside: str = "", mountpoint: str = "") -> Outcome:
        common = ["--lock-wait", str(self.access.lock_wait)]
        if self.access.bypass_lock:
            common.append("--bypass-lock")
        argv = [self.access.borg, *common, *arguments]
        if self.account:
            argv = demoted(argv, self.account)
        if mountpoint:
            argv = bound(argv, mountpoint)
        outcome = self.runner(
            argv,
            env=self.environment(),
            secret=self.access.passphrase,
            cwd=inside or "/",
        )
        if outcome.rc != 0 and not 100 <= outcome.rc < 128:
            raise self._failure(outcome, arguments)
        return outcome

    def _failure(self, outcome: Outcome, arguments: Sequence[str]) -> RestoreError:
        meaning, hint = MEANING.get(
            outcome.rc, ("borg failed", "See the message of borg; nothing was changed.")
        )
        said = [line for line in outcome.stderr.strip().splitlines() if line.strip()]
        return RestoreError(
            f"Reading {self.access.url}: {meaning} (borg {arguments[0]}, rc {outcome.rc}). "
            f"borg says: {' | '.join(said[-4:]) or 'nothing'}",
            hint,
            rc=outcome.rc,
            cmd=f"borg {' '.join(arguments)}",
            stderr=said[-20:],
        )

    def archives(self) -> list[Archive]:
        """All archives, oldest first, after the repository proved to be the pinned one."""
        outcome = self._borg("list", "--json", self.access.url)
        try:
            listed = json.loads(outcome.stdout)
            found_id = listed["repository"]["id"]
            archives = [_archive(item) for item in listed["archives"]]
        except (ValueError, KeyError, TypeError) as error:
            raise RestoreError(
                f"borg list gave something that is not a listing: {error}",
                "Is the borg in restore_borg a borg 1.4?",
            ) from error
        if found_id != self.access.repository_id:
            raise RestoreError(
                f"This is not the repository that the vault describes: {found_id} stands at "
                f"{self.access.url}, {self.access.repository_id} is pinned.",
                "Do not restore from it. Somebody replaced the repository: use a storage "
                "snapshot or the agent's second repository.",
            )
        return sorted(archives, key=lambda archive: (archive.time, archive.name))

    def manifest(self, archive: str) -> RestoreManifest:
        """The manifest inside one archive, validated."""
        path = f"run/lifeboat/{self.access.agent}/manifest.json"
        outcome = self._borg("extract", "--stdout", f"{self.access.url}::{archive}", path)
        if not outcome.stdout:
            raise RestoreError(
                f"The archive {archive!r} holds no manifest; it was not made by lifeboat.",
                "Choose another archive, or extract it by hand with borg.",
            )
        if len(outcome.stdout) > SIZE_LIMIT:
            raise RestoreError("The manifest is larger than any home needs.", "Choose another.")
        return parse(outcome.stdout, self.access.agent)

    def extract(self, archive: str, into: int, paths: Sequence[str] = ()) -> list[str]:
        """Extract into an open folder of the session's user; returns borg's warnings."""
        outcome = self._borg(
            "extract",
            "--sparse",
            f"{self.access.url}::{archive}",
            *paths,
            inside=f"/proc/self/fd/{into}",
            mountpoint=f"{self.folder}/extract" if self.account else "",
        )
        return [line for line in outcome.stderr.splitlines() if line.strip()]


def _archive(item: Mapping[str, Any]) -> Archive:
    moment = datetime.datetime.strptime(str(item["time"])[:19], "%Y-%m-%dT%H:%M:%S")
    return Archive(str(item["name"]), str(item["id"]), moment.strftime("%Y-%m-%dT%H:%M:%SZ"))


def of_agent(archives: Sequence[Archive], agent: str) -> list[Archive]:
    """The archives that carry this agent's name and a time, and no checkpoint's ending."""
    pattern = re.compile(re.escape(agent) + r"-\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z?\Z")
    return [archive for archive in archives if pattern.match(archive.name)]


def parse_moment(text: str) -> datetime.datetime:
    """A date (its whole day counts) or a time; without a zone it is UTC."""
    value = text.strip()
    if not _ARCHIVE_TIME.match(value):
        raise RestoreError(
            f"{text!r} is not a date or time.",
            "Give at=2026-11-01 or at=2026-11-01T13:30 (UTC) or at=2026-11-01T13:30:00+01:00.",
        )
    try:
        if len(value) == 10:
            moment = datetime.datetime.fromisoformat(value) + datetime.timedelta(
                hours=23, minutes=59, seconds=59
            )
        else:
            moment = datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError as error:
        raise RestoreError(
            f"{text!r} is not a date or time: {error}", "See docs/restore.md."
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)


def listing(archives: Sequence[Archive], limit: int = 40) -> str:
    if not archives:
        return "The repository holds no archive of this agent."
    lines = [f"  {archive.name}  {archive.time}" for archive in archives[-limit:]]
    more = len(archives) - len(lines)
    return "What exists:\n" + ("  ...\n" if more > 0 else "") + "\n".join(lines)


def select(archives: Sequence[Archive], agent: str, archive: str, at: str) -> Archive:
    """The archive asked for; asking for what does not exist lists what does."""
    own = of_agent(archives, agent)
    if at and archive not in ("", "latest"):
        raise RestoreError("Both archive and at were given.", "Give one of the two.")
    if not at and archive not in ("", "latest"):
        chosen = [item for item in archives if archive in (item.name, item.id)]
        if chosen:
            return chosen[0]
        raise RestoreError(
            f"There is no archive {archive!r}.", listing(own), available=[a.name for a in own]
        )
    if not own:
        raise RestoreError(
            f"The repository holds no archive of {agent!r}.",
            "Back up first (backup.yml), or name another repository with -e repository=NAME.",
            available=[item.name for item in archives],
        )
    if not at:
        return own[-1]
    moment = parse_moment(at)
    earlier = [item for item in own if item.moment <= moment]
    if earlier:
        return earlier[-1]
    raise RestoreError(
        f"There is no archive of {agent!r} at or before {at}.",
        listing(own),
        available=[item.name for item in own],
    )


@contextlib.contextmanager
def session(
    access: Access,
    *,
    runner: Runner = run,
    run_directory: str = RUN_DIRECTORY,
    user: str = USER,
) -> Iterator[Session]:
    """A session with its private folder, which goes away with it."""
    problems = access.problems()
    if problems:
        raise RestoreError(
            f"The escrow of {access.agent!r} is not complete: {', '.join(problems)}.",
            "Run site.yml while the box lives, or put the missing part into the vault file.",
            missing=problems,
        )
    account = _account(user) if os.geteuid() == 0 else None
    Path(run_directory).mkdir(mode=0o711, parents=True, exist_ok=True)
    with _locked(run_directory, access.agent), opened(run_directory) as parent:
        remove(access.agent, parent)
        folder = f"{run_directory}/{access.agent}"
        try:
            _fill(folder, access, account)
            yield Session(access, folder, runner, account)
        finally:
            remove(access.agent, parent)


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError as error:
        raise RestoreError(
            f"The system user {user!r} does not exist on the target.",
            "The role restore makes it; run the role, not the module alone.",
        ) from error


@contextlib.contextmanager
def _locked(run_directory: str, agent: str) -> Iterator[None]:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(f"{run_directory}/{agent}.lock", flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise RestoreError(
            f"Another restore of {agent!r} is running on this host.", "Wait for it to end."
        ) from error
    finally:
        os.close(descriptor)


def _fill(folder: str, access: Access, account: pwd.struct_passwd | None) -> None:
    identity = _read_identity(access)
    for name in ("", "/keys", "/base"):
        os.mkdir(folder + name, 0o700)
    os.mkdir(f"{folder}/extract", 0o755)
    _write(f"{folder}/keys/key", access.key.rstrip("\n") + "\n")
    _write(f"{folder}/known_hosts", access.known_hosts())
    _write(f"{folder}/identity", identity)
    if account:
        for name in ("", "/keys", "/base", "/keys/key", "/known_hosts", "/identity"):
            os.chown(folder + name, account.pw_uid, account.pw_gid, follow_symlinks=False)


def _read_identity(access: Access) -> str:
    if not access.is_remote:
        return ""
    try:
        return Path(access.identity).read_text(encoding="utf-8")
    except OSError as error:
        raise RestoreError(
            f"The SSH identity {access.identity!r} cannot be read: {error.strerror}.",
            "restore.yml and drill.yml make a short-lived one; a role call must name its own.",
        ) from error


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
