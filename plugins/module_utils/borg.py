# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""borg, one method per subcommand; what it prints becomes frozen values here and nowhere else.

What is fixed for every call: modern exit codes, JSON messages, no question is ever answered with
yes, the passphrase reaches borg through a file descriptor, SSH checks the pinned host key, and
where the repository id is pinned borg is given that one key by name, so that it refuses any other
repository at the same address by itself, before anything is sent and without a call of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from . import quick_list
from .borg_codes import ERROR, SUCCESS, ExitCode, explain
from .errors import CouldNotRun, LifeboatError
from .process import Completed, Runner, Running, Subprocesses

DEFAULT_EXECUTABLE = "/usr/local/bin/lifeboat-borg"
_KEY_MAGIC = "BORG_KEY "
_FULL = "the disk of the repository host or of this box is full: free space there; nothing was lost"
_NO_ROOM = {"No space left on device": _FULL, "Disk quota exceeded": _FULL}
_LIST_FIELDS = "{type} {mode} {uid} {gid} {size} {bpath}{NUL}"


class BorgError(LifeboatError):
    """borg failed; `code` is the entry of the table."""

    def __init__(self, subcommand: str, code: ExitCode, completed: Completed, msgid: str) -> None:
        detail = _telling_line(completed.stderr)
        full = next((words for words in _NO_ROOM if words in detail), "")
        hint = _NO_ROOM[full] if full else code.hint
        super().__init__(
            f"borg {subcommand}: {code.meaning}" + (f": {detail}" if detail else ""),
            hint=hint,
            failure={
                "rc": code.code,
                "cmd": list(completed.argv),
                "msgid": msgid or code.name,
                "hint": hint,
            },
        )
        self.code = code


@dataclasses.dataclass(frozen=True)
class Access:
    """What opens one repository."""

    url: str
    base_dir: str
    keys_dir: str
    repository_id: str = ""
    passphrase_file: str = ""
    passphrase: str = dataclasses.field(default="", repr=False)
    ssh_key: str = ""
    known_hosts: str = ""
    lock_wait: int = 600
    bypass_lock: bool = False

    @property
    def remote(self) -> bool:
        return self.url.startswith("ssh://")


@dataclasses.dataclass(frozen=True)
class Message:
    """One line of borg's JSON log."""

    level: str
    text: str
    msgid: str


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a create is."""

    files: int
    original_size: int
    deduplicated_size: int
    path: str
    finished: bool


@dataclasses.dataclass(frozen=True)
class Created:
    """The outcome of a create."""

    archive: str
    archive_id: str
    repository_id: str
    files: int
    original_size: int
    deduplicated_size: int
    duration: float
    code: ExitCode
    warnings: tuple[Message, ...]


@dataclasses.dataclass(frozen=True)
class ArchiveInfo:
    """One archive as the repository lists it."""

    name: str
    id: str
    time: str


@dataclasses.dataclass(frozen=True)
class RepositoryInfo:
    """The repository as borg sees it."""

    id: str
    location: str
    last_modified: str
    encryption: str
    archives: tuple[ArchiveInfo, ...] = ()


class Item(NamedTuple):
    """One entry of an archive's listing; the path is as borg stores it, without leading slash."""

    path: bytes
    type: str
    mode: str
    uid: int
    gid: int
    size: int


def _telling_line(stderr: bytes) -> str:
    """What an error is about. A traceback says it in its last line, and a description of the
    machine follows as a message of its own."""
    messages = parse_messages(stderr)
    named = [message.text for message in messages if message.msgid]
    texts = named or [message.text for message in messages]
    if not texts:
        return _last_line(stderr)
    return _last_line(texts[-1].encode()) if "Traceback" in texts[-1] else texts[-1].strip()


def _last_line(data: bytes) -> str:
    lines = [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def parse_messages(data: bytes) -> list[Message]:
    """The log messages in borg's --log-json output; other lines are left out."""
    messages = []
    for line in data.splitlines():
        value = _json_line(line)
        if value.get("type") == "log_message":
            messages.append(
                Message(
                    str(value.get("levelname", "")),
                    str(value.get("message", "")),
                    str(value.get("msgid") or ""),
                )
            )
    return messages


def parse_progress(line: bytes) -> Progress | None:
    """The progress of a create, or None where the line is about something else."""
    value = _json_line(line)
    if value.get("type") != "archive_progress":
        return None
    return Progress(
        int(value.get("nfiles", 0)),
        int(value.get("original_size", 0)),
        int(value.get("deduplicated_size", 0)),
        str(value.get("path", "")),
        bool(value.get("finished", False)),
    )


def parse_item(line: bytes) -> Item:
    """A line of `list` in the format that this module asks for."""
    kind, mode, uid, gid, size, path = line.split(b" ", 5)
    return Item(path, kind.decode(), mode.decode(), int(uid), int(gid), int(size))


def _json_line(line: bytes) -> dict[str, Any]:
    if not line.startswith(b"{"):
        return {}
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _interpreter(executable: str) -> str | None:
    """The Python that the first line of a script names by its path."""
    try:
        with open(executable, "rb") as file:
            words = os.fsdecode(file.readline(512)).split()
    except OSError:
        return None
    if len(words) != 1 or not words[0].startswith("#!/"):
        return None
    path = words[0][2:]
    return path if os.path.basename(path).startswith("python") else None


def key_files(keys_dir: str) -> dict[str, str]:
    """The keys in a directory: repository id -> path."""
    found = {}
    try:
        names = sorted(os.listdir(keys_dir))
    except OSError:
        return {}
    for name in names:
        path = os.path.join(keys_dir, name)
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                header = file.readline(256).strip()
        except OSError:
            continue
        if header.startswith(_KEY_MAGIC):
            found[header[len(_KEY_MAGIC) :].strip()] = path
    return found


class CreateSession:
    """A create that is fed paths while it works. Nothing is committed before `finish`."""

    def __init__(self, borg: Borg, running: Running, archive: str) -> None:
        self._borg = borg
        self._running = running
        self._archive = archive

    def feed(self, data: bytes) -> None:
        """NUL-terminated absolute paths."""
        self._running.feed(data)

    def abort(self) -> None:
        """End without an archive."""
        self._running.abort()

    def pump(self, seconds: float) -> bool:
        """Take what borg says for a while; False once it has ended."""
        return self._running.pump(seconds)

    def close(self) -> None:
        """End of the paths; pump says when borg has ended."""
        self._running.close()

    def has_read_all(self) -> bool:
        """Whether borg has read every path that it was fed; it need not have archived it."""
        return self._running.has_read_all()

    def finish(self) -> Created:
        """End of the paths: wait for the archive, or raise BorgError."""
        completed = self._running.finish()
        code = self._borg.judge("create", completed)
        return _created(completed, code, self._archive)


class Listing:
    """The listing of one archive, started ahead: loading borg takes as long as a small listing."""

    def __init__(self, borg: Borg, archive: str) -> None:
        self._borg = borg
        self._archive = archive
        self._take: Callable[[list[bytes]], object] | None = None
        self._rest = b""
        self._running: Running | None = None

    def load(self) -> None:
        """Load borg, where it can be loaded without beginning."""
        self._running = self._borg.start_quick_list(self._archive, self._output)

    def read(self, take: Callable[[list[bytes]], object]) -> None:
        """Some lines at a time while borg writes them, see parse_item; or BorgError."""
        self._take = take
        if self._running is None:
            self.load()
        running, self._running = self._running, None
        if running is None:
            self._borg.list_plainly(self._archive, self._output)
        else:
            running.feed(b"\n")
            self._borg.judge_answer("list", running.finish())

    def _output(self, data: bytes) -> None:
        if self._take is None:
            raise AssertionError("nobody reads the listing")
        *lines, self._rest = (self._rest + data).split(b"\0")
        self._take(lines)

    def abandon(self) -> None:
        """It is not wanted any more."""
        if self._running is not None:
            self._running.abort()
            self._running = None


def _created(completed: Completed, code: ExitCode, archive: str) -> Created:
    try:
        data = json.loads(completed.stdout)
        stats = data["archive"]["stats"]
        return Created(
            archive=str(data["archive"]["name"]),
            archive_id=str(data["archive"]["id"]),
            repository_id=str(data["repository"]["id"]),
            files=int(stats["nfiles"]),
            original_size=int(stats["original_size"]),
            deduplicated_size=int(stats["deduplicated_size"]),
            duration=float(data["archive"]["duration"]),
            code=code,
            warnings=tuple(
                message
                for message in parse_messages(completed.stderr)
                if message.level in ("WARNING", "ERROR", "CRITICAL")
            ),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise LifeboatError(
            f"borg create: no usable answer about archive {archive}: {error!r}",
            hint="is borg of the version that the role borg installs?",
        ) from error


class Borg:
    """borg on one repository."""

    def __init__(
        self,
        access: Access,
        *,
        executable: str = DEFAULT_EXECUTABLE,
        runner: Runner | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._access = access
        self._executable = executable
        self._runner: Runner = runner or Subprocesses()
        self._environ = dict(os.environ if environ is None else environ)

    # -- the subcommands --------------------------------------------------------------------

    def create(
        self,
        archive: str,
        *,
        compression: str,
        chunker_params: str,
        comment: str = "",
        on_progress: Callable[[Progress], None] | None = None,
    ) -> CreateSession:
        """Begin an archive of exactly the paths that the session is fed."""
        options = ["--compression", compression, "--chunker-params", chunker_params]
        options += ["--paths-from-stdin", "--paths-delimiter", r"\0", "--json"]
        options += ["--comment", comment] if comment else []
        if on_progress is None:
            on_line = None
        else:
            options.append("--progress")
            report = on_progress

            def on_line(line: bytes) -> None:
                progress = parse_progress(line)
                if progress is not None:
                    report(progress)

        argv = self._argv("create", [*options, f"{self._access.url}::{archive}"])
        with self._environment() as (env, fds):
            running = self._runner.start(argv, env=env, pass_fds=fds, on_line=on_line)
        return CreateSession(self, running, archive)

    def list_archives(self) -> RepositoryInfo:
        """Every archive of the repository, oldest first."""
        data = self._json("list", ["--json", self._access.url])
        return _repository_info(data)

    def list_archive(self, archive: str) -> Sequence[Item]:
        """The archive's own listing."""
        items: list[Item] = []
        self.listing(archive).read(lambda lines: items.extend(map(parse_item, lines)))
        return items

    def listing(self, archive: str) -> Listing:
        """The archive's own listing, to be loaded before the archive is there."""
        return Listing(self, archive)

    def list_plainly(self, archive: str, on_output: Callable[[bytes], None]) -> None:
        """The listing by the command `borg list`."""
        self._call("list", self._list_arguments(archive), on_output=on_output)

    def start_quick_list(self, archive: str, on_output: Callable[[bytes], None]) -> Running | None:
        """The listing by borg's own code with a quicker formatter, waiting for a byte to begin;
        None where borg is no Python program."""
        interpreter = _interpreter(self._executable)
        if interpreter is None:
            return None
        argv = [interpreter, "-I", quick_list.__file__]
        argv += self._argv("list", self._list_arguments(archive))
        with self._environment() as (env, fds):
            try:
                return self._runner.start(argv, env=env, pass_fds=fds, on_output=on_output)
            except FileNotFoundError:  # the first line names what is not there
                return None

    def _list_arguments(self, archive: str) -> list[str]:
        """Text with NUL at the end of an item, not JSON lines: those cost twice the time."""
        return ["--format", _LIST_FIELDS, f"{self._access.url}::{archive}"]

    def info(self) -> RepositoryInfo:
        """The repository: id, encryption, last change."""
        return _repository_info(self._json("info", ["--json", self._access.url]))

    def extract(
        self,
        archive: str,
        paths: Sequence[str] = (),
        *,
        to_stdout: bool = False,
        numeric_ids: bool = False,
        sparse: bool = False,
        strip_components: int = 0,
        dry_run: bool = False,
    ) -> Completed:
        """Extract into the current directory."""
        options = [
            *(["--stdout"] if to_stdout else []),
            *(["--numeric-ids"] if numeric_ids else []),
            *(["--sparse"] if sparse else []),
            *(["--strip-components", str(strip_components)] if strip_components else []),
            *(["--dry-run"] if dry_run else []),
        ]
        return self._call("extract", [*options, f"{self._access.url}::{archive}", *paths])

    def check(
        self,
        *,
        repository_only: bool = False,
        archives_only: bool = False,
        verify_data: bool = False,
    ) -> Completed:
        """Check the repository; never repairs."""
        options = [
            *(["--repository-only"] if repository_only else []),
            *(["--archives-only"] if archives_only else []),
            *(["--verify-data"] if verify_data else []),
        ]
        return self._call("check", [*options, self._access.url])

    def delete(self, archives: Sequence[str]) -> Completed:
        """Delete archives by name. Without a name nothing is called: that would be everything."""
        if not archives:
            raise LifeboatError("borg delete: no archive named")
        return self._call("delete", [self._access.url, *archives])

    def version(self) -> str:
        """The version of borg, as 1.4.5."""
        completed = self._runner.run([self._executable, "--version"], env=self._base_environment())
        if completed.returncode:
            raise CouldNotRun(f"{self._executable} --version ended with {completed.returncode}")
        return completed.stdout.decode("utf-8", "replace").strip().rpartition(" ")[2]

    # -- how a call is made -----------------------------------------------------------------

    def judge(self, subcommand: str, completed: Completed) -> ExitCode:
        """The exit code's entry; an error is raised."""
        code = explain(completed.returncode)
        if code.severity == ERROR:
            msgid = next(
                (m.msgid for m in reversed(parse_messages(completed.stderr)) if m.msgid), ""
            )
            raise BorgError(subcommand, code, completed, msgid)
        return code

    def _call(
        self,
        subcommand: str,
        arguments: Sequence[str],
        *,
        on_output: Callable[[bytes], None] | None = None,
    ) -> Completed:
        argv = self._argv(subcommand, arguments)
        with self._environment() as (env, fds):
            completed = self._runner.run(argv, env=env, pass_fds=fds, on_output=on_output)
        self.judge_answer(subcommand, completed)
        return completed

    def judge_answer(self, subcommand: str, completed: Completed) -> None:
        """As `judge`; of what only reads a warning is an error too."""
        code = self.judge(subcommand, completed)
        if code.severity != SUCCESS and subcommand in ("list", "info"):
            raise BorgError(subcommand, code, completed, code.name)

    def _json(self, subcommand: str, arguments: Sequence[str]) -> dict[str, Any]:
        data = json.loads(self._call(subcommand, arguments).stdout)
        return dict(data)

    def _argv(self, subcommand: str, arguments: Iterable[str]) -> list[str]:
        common = ["--log-json", "--lock-wait", str(self._access.lock_wait)]
        if self._access.bypass_lock:
            common.append("--bypass-lock")
        head, *rest = list(arguments)
        if subcommand == "key":  # options belong behind `key export`, not behind `key`
            return [self._executable, "key", head, *common, *rest]
        return [self._executable, subcommand, *common, head, *rest]

    def _base_environment(self) -> dict[str, str]:
        env = {
            name: value
            for name, value in self._environ.items()
            if not name.startswith("BORG_") and name != "CREDENTIALS_DIRECTORY"
        }
        env.update(
            BORG_BASE_DIR=self._access.base_dir,
            BORG_KEYS_DIR=self._access.keys_dir,
            BORG_EXIT_CODES="modern",
            BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK="no",
            BORG_RELOCATED_REPO_ACCESS_IS_OK="no",
            BORG_DELETE_I_KNOW_WHAT_I_AM_DOING="NO",
            BORG_CHECK_I_KNOW_WHAT_I_AM_DOING="NO",
            BORG_DISPLAY_PASSPHRASE="no",
            LC_ALL="C.UTF-8",
        )
        if self._access.repository_id:
            env["BORG_KEY_FILE"] = self._pinned_key()
        if self._access.remote:
            env["BORG_RSH"] = self._rsh()
        return env

    def _pinned_key(self) -> str:
        """borg itself compares the id in this file with the repository's, before anything else."""
        path = key_files(self._access.keys_dir).get(self._access.repository_id)
        if path is None:
            raise CouldNotRun(
                f"{self._access.keys_dir}: no key of repository {self._access.repository_id[:12]}",
                hint="playbooks/site.yml brings the escrowed key back",
            )
        return path

    def _rsh(self) -> str:
        options = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
        options += ["-o", "ServerAliveInterval=20", "-o", "ServerAliveCountMax=6"]
        options += ["-o", "ConnectTimeout=30"]
        if self._access.ssh_key:
            options += ["-i", self._access.ssh_key, "-o", "IdentitiesOnly=yes"]
        if self._access.known_hosts:
            options += ["-o", f"UserKnownHostsFile={self._access.known_hosts}"]
            options += ["-o", "GlobalKnownHostsFile=/dev/null"]
        return shlex.join(options)

    @contextlib.contextmanager
    def _environment(self) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
        """Environment and descriptors of a call. A passphrase file is passed on unread."""
        env = self._base_environment()
        if self._access.passphrase_file:
            try:
                descriptor = os.open(self._access.passphrase_file, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise CouldNotRun(
                    f"{self._access.passphrase_file}: {error.strerror}",
                    hint="run as root, or through the unit lifeboat-backup@",
                ) from error
        elif self._access.passphrase:
            descriptor, sender = os.pipe()
            os.write(sender, self._access.passphrase.encode())
            os.close(sender)
        else:
            yield env, ()
            return
        env["BORG_PASSPHRASE_FD"] = str(descriptor)
        try:
            yield env, (descriptor,)
        finally:
            os.close(descriptor)


def _repository_info(data: Mapping[str, Any]) -> RepositoryInfo:
    repository = data.get("repository", {})
    return RepositoryInfo(
        id=str(repository.get("id", "")),
        location=str(repository.get("location", "")),
        last_modified=str(repository.get("last_modified", "")),
        encryption=str(data.get("encryption", {}).get("mode", "")),
        archives=tuple(
            ArchiveInfo(str(entry["name"]), str(entry["id"]), _utc(str(entry["time"])))
            for entry in data.get("archives", [])
        ),
    )


def _utc(local: str) -> str:
    """borg prints local time without a zone; the box's zone is the one it printed in."""
    moment = datetime.datetime.fromisoformat(local).astimezone(datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
