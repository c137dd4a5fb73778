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
import dataclasses
import datetime
import errno
import fcntl
import os
import pwd
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from . import borg
from .errors import LifeboatError
from .process import Completed, LineReader, Runner, Running, Subprocesses
from .restore_manifest import SIZE_LIMIT, RestoreError, RestoreManifest, parse
from .restore_tree import opened, remove

USER = "lifeboat-restore"
RUN_DIRECTORY = "/run/lifeboat-restore"
B = TypeVar("B", bound=borg.Borg)
BORG = borg.DEFAULT_EXECUTABLE
# A restore whose playbook is gone ends when ssh notices that nothing answers, after two minutes.
ORPHAN_SECONDS = 180.0
_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ARCHIVE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:?\d{2})?)?\Z")

# What the table of borg's codes advises is meant for the box; a restore stands elsewhere.
HINTS: Mapping[str, str] = {
    "DoesNotExist": "Check the inventory (repository host, agent) and the repository host itself; "
    "playbooks/rollback.yml brings a repository back from a snapshot.",
    "ArchiveDoesNotExist": "Leave -e archive away to see which exist.",
    "KeyfileMismatchError": "Somebody replaced the repository, or the vault is of another one: "
    "do not restore from it. Use a storage snapshot or the agent's second repository.",
    "PassphraseWrong": "The vault entry is wrong or from before a rotation: look for an older copy "
    "of the file.",
    "LockTimeout": "A backup or custody may be running: try again, or raise restore_lock_wait.",
    "ConnectionClosed": "Is the host up, is the identity still valid, do its host keys match the "
    "escrowed ones?",
    "ConnectionClosedWithHint": "Is the host up, is the identity still valid, do its host keys "
    "match the escrowed ones?",
}


@dataclasses.dataclass(frozen=True)
class EscrowedAccess:
    """Everything that opens one repository. From the escrow and the inventory, never the box."""

    agent: str
    url: str
    repository_id: str
    passphrase: str = dataclasses.field(repr=False)
    key: str = dataclasses.field(repr=False)
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


def access_of(parameters: Mapping[str, Any], agent: str) -> EscrowedAccess:
    """From the options that the restore modules share."""
    repository = parameters["repository"]
    return EscrowedAccess(
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


def moment_of(archive: borg.ArchiveInfo) -> datetime.datetime:
    """When the archive was made, by the clock of the box."""
    moment = datetime.datetime.strptime(archive.time, "%Y-%m-%dT%H:%M:%SZ")
    return moment.replace(tzinfo=datetime.timezone.utc)


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
        "--pdeathsig=KILL",  # a module that is killed leaves no borg behind
        "--",
        *argv,
    ]


def inside(argv: Sequence[str], folder: int, mountpoint: str) -> list[str]:
    """With an open folder as the working folder; by name it could be led elsewhere in between.

    Where a mount point is given, the folder is found there in a mount namespace of its own:
    borg spells out the path of its working folder, and the agent's own is closed to others.
    """
    enter = ["sh", "-c", 'cd "/proc/self/fd/$1" && shift && exec "$@"', "sh", str(folder)]
    if not mountpoint:
        return [*enter, *argv]
    # Entered before the namespace is left: an open descriptor stays in the old one.
    unshare = ["unshare", "--mount", "--propagation=private", "--"]
    bind = 'mount --no-canonicalize --bind . "$1" && cd "$1" && shift && exec "$@"'
    return [*enter, *unshare, "sh", "-c", bind, "sh", mountpoint, *argv]


class Confined:
    """Runs borg as the system user, away from everything but the folder it is given."""

    def __init__(
        self,
        runner: Runner,
        account: pwd.struct_passwd | None,
        environment: Mapping[str, str],
        folder: int | None = None,
        mountpoint: str = "",
    ) -> None:
        self._runner = runner
        self._account = account
        self._environment = dict(environment)
        self._folder = folder
        self._mountpoint = mountpoint if account else ""

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        stdin: bytes = b"",
        on_line: LineReader | None = None,
        on_output: LineReader | None = None,
    ) -> Completed:
        env = {**env, **self._environment}
        fds = self._descriptors(pass_fds)
        return self._runner.run(
            self._argv(argv),
            env=env,
            pass_fds=fds,
            stdin=stdin,
            on_line=on_line,
            on_output=on_output,
        )

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        on_line: LineReader | None = None,
        on_output: LineReader | None = None,
    ) -> Running:
        env = {**env, **self._environment}
        return self._runner.start(
            self._argv(argv),
            env=env,
            pass_fds=self._descriptors(pass_fds),
            on_line=on_line,
            on_output=on_output,
        )

    def _descriptors(self, given: Sequence[int]) -> tuple[int, ...]:
        return (*given, self._folder) if self._folder is not None else tuple(given)

    def _argv(self, argv: Sequence[str]) -> list[str]:
        command = demoted(argv, self._account) if self._account else list(argv)
        if self._folder is None:
            return command
        return inside(command, self._folder, self._mountpoint)


def _told(message: str, hint: str, error: LifeboatError) -> RestoreError:
    facts = {key: value for key, value in error.failure.items() if key != "hint"}
    return RestoreError(message, hint, **facts)


class Session:
    """One repository, open for as long as the private folder lives."""

    def __init__(
        self,
        access: EscrowedAccess,
        folder: str,
        runner: Runner,
        account: pwd.struct_passwd | None,
    ) -> None:
        self.access = access
        self.folder = folder
        self.runner = runner
        self.account = account

    def _borg(self, into: int | None = None) -> borg.Borg:
        return self.client(borg.Borg, into=into)

    def client(
        self, kind: type[B], *, into: int | None = None, extra: Mapping[str, str] | None = None
    ) -> B:
        """borg on this repository, confined; extra is added to its environment."""
        identity = f"lifeboat-restore-{self.access.agent}-{secrets.token_hex(8)}"
        environment = {"BORG_HOST_ID": identity, **(extra or {})}
        mountpoint = f"{self.folder}/extract"
        confined = Confined(self.runner, self.account, environment, into, mountpoint)
        remote = self.access.is_remote
        return kind(
            borg.Access(
                url=self.access.url,
                base_dir=f"{self.folder}/base",
                keys_dir=f"{self.folder}/keys",
                repository_id=self.access.repository_id,
                passphrase=self.access.passphrase,
                ssh_key=f"{self.folder}/identity" if remote else "",
                known_hosts=f"{self.folder}/known_hosts" if remote else "",
                lock_wait=self.access.lock_wait,
                bypass_lock=self.access.bypass_lock,
            ),
            executable=self.access.borg,
            runner=confined,
            environ={"PATH": _PATH, "HOME": f"{self.folder}/base"},
        )

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        try:
            yield
        except borg.BorgError as error:
            hint = HINTS.get(error.code.name, error.hint)
            raise _told(f"Reading {self.access.url}: {error.message}", hint, error) from error
        except RestoreError:
            raise
        except LifeboatError as error:
            raise _told(error.message, error.hint, error) from error

    def archives(self) -> list[borg.ArchiveInfo]:
        """All archives, oldest first, after the repository proved to be the pinned one."""
        with self.errors():
            listed = self._borg().list_archives()
        if listed.id != self.access.repository_id:
            raise RestoreError(
                f"This is not the repository that the vault describes: {listed.id} stands at "
                f"{self.access.url}, {self.access.repository_id} is pinned.",
                HINTS["KeyfileMismatchError"],
            )
        return sorted(listed.archives, key=lambda archive: (archive.time, archive.name))

    def manifest(self, archive: str) -> RestoreManifest:
        """The manifest inside one archive, validated."""
        path = f"run/lifeboat/{self.access.agent}/manifest.json"
        with self.errors():
            completed = self._borg().extract(archive, [path], to_stdout=True)
        if not completed.stdout:
            raise RestoreError(
                f"The archive {archive!r} holds no manifest; it was not made by lifeboat.",
                "Choose another archive, or extract it by hand with borg.",
            )
        if len(completed.stdout) > SIZE_LIMIT:
            raise RestoreError("The manifest is larger than any home needs.", "Choose another.")
        return parse(completed.stdout, self.access.agent)

    def extract(self, archive: str, into: int, paths: Sequence[str] = ()) -> list[str]:
        """Extract into an open folder of the session's user; returns borg's warnings."""
        with self.errors():
            completed = self._borg(into).extract(archive, paths, sparse=True)
        warnings = [
            message.text
            for message in borg.parse_messages(completed.stderr)
            if message.level in ("WARNING", "ERROR", "CRITICAL")
        ]
        refuse_full_disk(warnings)
        return warnings


def refuse_full_disk(warnings: Sequence[str]) -> None:
    """borg goes on with the next file when there is no room for one, and warns."""
    full = [text for text in warnings if any(words in text for words in _FULL)]
    if full:
        raise RestoreError(
            f"The disk is full: {len(full)} files could not be extracted, such as: {full[0]}",
            "The home stands as it stood. Make room (bytes and inodes: df, df -i) and run the same "
            "command again; it begins the extraction anew.",
        )


def of_agent(archives: Sequence[borg.ArchiveInfo], agent: str) -> list[borg.ArchiveInfo]:
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


def listing(archives: Sequence[borg.ArchiveInfo], limit: int = 40) -> str:
    if not archives:
        return "The repository holds no archive of this agent."
    lines = [f"  {archive.name}  {archive.time}" for archive in archives[-limit:]]
    more = len(archives) - len(lines)
    return "What exists:\n" + ("  ...\n" if more > 0 else "") + "\n".join(lines)


def select(
    archives: Sequence[borg.ArchiveInfo], agent: str, archive: str, at: str
) -> borg.ArchiveInfo:
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
    earlier = [item for item in own if moment_of(item) <= moment]
    if earlier:
        return earlier[-1]
    raise RestoreError(
        f"There is no archive of {agent!r} at or before {at}.",
        listing(own),
        available=[item.name for item in own],
    )


@contextlib.contextmanager
def session(
    access: EscrowedAccess,
    *,
    runner: Runner | None = None,
    run_directory: str = RUN_DIRECTORY,
    user: str = USER,
    wait: float = ORPHAN_SECONDS,
) -> Iterator[Session]:
    """A session with its private folder, which goes away with it; `wait` seconds for another."""
    problems = access.problems()
    if problems:
        raise RestoreError(
            f"The escrow of {access.agent!r} is not complete: {', '.join(problems)}.",
            "Run site.yml while the box lives, or put the missing part into the vault file.",
            missing=problems,
        )
    account = _account(user) if os.geteuid() == 0 else None
    Path(run_directory).mkdir(mode=0o711, parents=True, exist_ok=True)
    with _locked(run_directory, access.agent, wait), opened(run_directory) as parent:
        remove(access.agent, parent)
        folder = f"{run_directory}/{access.agent}"
        try:
            _fill(folder, access, account)
            yield Session(access, folder, runner or Subprocesses(), account)
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
def _locked(run_directory: str, agent: str, wait: float) -> Iterator[None]:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(f"{run_directory}/{agent}.lock", flags, 0o600)
    deadline = time.monotonic() + wait
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise RestoreError(
                        f"Another restore of {agent!r} is running on this host.",
                        f"It did not end within {wait:.0f} seconds. Wait for it to end.",
                    ) from error
            time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


def _fill(folder: str, access: EscrowedAccess, account: pwd.struct_passwd | None) -> None:
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


def _read_identity(access: EscrowedAccess) -> str:
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
