# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""lifeboat-serve: the forced command behind every SSH key of a repository.

It stands on the repository host as /usr/local/lib/lifeboat/serve.py, is started by
/usr/local/sbin/lifeboat-serve with borg's own Python (nothing but borg and the standard
library is imported), and speaks borg's serving protocol through borg's own
RepositoryServer. What it adds is what it refuses. One connection has one identity:

=========  =======================================================================
box        adds objects; never touches an object that stood when it connected
control    deletes objects and rewrites the manifest; adds nothing, never compacts
read-only  reads
=========  =======================================================================

No identity creates a sealed repository, destroys, compacts, checks, replaces the key,
breaks a lock, moves the nonce back or out of range, or opens another path.

What it does not promise: a box may replace the manifest (borg has no other way to add an
archive), fill its quota and hold its lock until a time limit. The audit of the trusted
side is what notices the first, maintenance ends the last.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import functools
import inspect
import json
import os
import re
import signal
import stat
import sys
import syslog
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Callable, NoReturn

try:
    import borg
    from borg import helpers, logger, remote
    from borg import repository as storage
except ImportError:  # imported by a test of the decisions, or by Ansible: no borg there
    borg = helpers = logger = remote = storage = None

_RepositoryServer: Any = getattr(remote, "RepositoryServer", object)

EXIT_USAGE = 2
EXIT_BUSY = 75  # EX_TEMPFAIL: maintenance holds the repository, try again later
EXIT_UNSUPPORTED = 78  # EX_CONFIG: this borg is not one the guard knows

BOX, CONTROL, READ_ONLY = "box", "control", "read-only"

MANIFEST = bytes(32)
OBJECT_OVERHEAD = 41  # header and id of one entry in a segment file
BLOCK = 4096  # what a new segment file costs at least, so that empty commits cost too
TRANSACTION_COST = 3 * BLOCK  # a commit and a manifest each begin a segment file
# Key type, MAC and nonce: an encrypted manifest cannot be shorter.
MANIFEST_SHORTEST = 1 + 32 + 8

NONCE_END = 2**63
# borg reserves 2**28 blocks at a time. What one connection may reserve is a fixed
# allowance plus what the bytes it stored can have used up.
NONCE_ALLOWANCE = 2**32

REFUSALS_BEFORE_HANGUP = 50


class Refused(Exception):
    """A call that this identity may not make."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class UsageError(Exception):
    """The forced command is wrong, or this host is not prepared for it."""

    def __init__(self, message: str, code: int = EXIT_USAGE) -> None:
        super().__init__(message)
        self.code = code


class SessionOver(BaseException):
    """Ends the session from a signal handler; not an Exception, so nothing swallows it."""


@dataclass(frozen=True)
class Settings:
    """What the forced command line says; nothing in it comes from the client."""

    repository: str
    storage_quota: int
    identity: str = BOX
    agent: str = ""
    create_unless: tuple[str, ...] = ()
    lock: str = ""
    lock_wait: float = 0.0
    counters: str = ""
    idle_timeout: int = 7200
    session_timeout: int = 43200


# --------------------------------------------------------------------------------------
# Decisions: no borg, no file, no clock below this line
# --------------------------------------------------------------------------------------


class Policy:
    """Says why a call is refused, or None. Pure, so that every rule is a line of a test."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.writable = False
        self.standing = -1  # the last transaction of the repository as we found it
        self.manifest_type: int | None = None
        self.nonce_at_start: int | None = None
        self.stored = 0
        self.used = 0  # bytes on the disk, this session included

    def open_reason(
        self, *, path: str, opened: bool, create: bool, make_parent_dirs: bool
    ) -> str | None:
        if opened:
            return "a repository is already open on this connection"
        if path != os.path.realpath(self.settings.repository):
            return "this key opens one repository only, and it is another one"
        if make_parent_dirs:
            return "directories are made by the repository host alone"
        if create:
            return self.create_reason()
        return None

    def create_reason(self) -> str | None:
        if self.settings.identity != BOX:
            return f"the {self.settings.identity} identity creates no repository"
        if not self.settings.create_unless:
            return "this key creates no repository"
        for marker in self.settings.create_unless:
            if not _surely_absent(marker):
                return "the repository of this agent is sealed: it was created once"
        return None

    def write_reason(self) -> str | None:
        if self.settings.identity == READ_ONLY:
            return "this key only reads"
        if not self.writable:
            return "the repository was not opened for writing"
        return None

    def put_reason(self, key: object, data: object, segment: int | None) -> str | None:
        if not isinstance(key, bytes) or len(key) != 32 or not isinstance(data, bytes):
            return "not an object"
        if key == MANIFEST:
            return self._manifest_reason(data)
        if self.settings.identity == CONTROL:
            return "the control identity adds no objects"
        if self._stood(segment):
            return "an object that stood before this session cannot be replaced"
        return None

    def delete_reason(self, key: object, segment: int | None) -> str | None:
        if not isinstance(key, bytes) or len(key) != 32:
            return "not an object"
        if key == MANIFEST:
            return "the manifest cannot be deleted"
        if self._stood(segment) and self.settings.identity != CONTROL:
            return "an object that stood before this session cannot be deleted"
        return None

    def nonce_reason(self, current: int | None, wanted: object, start: object) -> str | None:
        if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 0:
            return "not a nonce"
        if start != current:
            return "the reservation starts from a nonce that is not the current one"
        floor = current or 0
        if wanted <= floor:
            return "the nonce never goes back"
        first = self.nonce_at_start if self.nonce_at_start is not None else floor
        if wanted >= NONCE_END or wanted - first > NONCE_ALLOWANCE + self.stored // 8:
            return "the reservation is far larger than what this session can use"
        return None

    def over_quota(self, cost: int) -> bool:
        return bool(self.settings.storage_quota) and self.used + cost > self.settings.storage_quota

    def _stood(self, segment: int | None) -> bool:
        # Serving never compacts, so an object that stood lies in a segment of its time.
        return segment is not None and segment <= self.standing

    def _manifest_reason(self, data: bytes) -> str | None:
        if len(data) < MANIFEST_SHORTEST:
            return "too short to be a manifest of this repository"
        if self.manifest_type is not None and data[0] != self.manifest_type:
            return "a manifest that is not encrypted as this repository is"
        return None


def _surely_absent(path: str) -> bool:
    """True only when the folder can be looked into and the file is not there."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        try:
            return stat.S_ISDIR(os.stat(os.path.dirname(path)).st_mode)
        except OSError:
            return False
    except OSError:
        return False
    return False


_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGTP]?)B?\Z")


def parse_size(text: str) -> int:
    """A size as borg writes it: decimal units, ``20G`` is 20,000,000,000."""
    match = _SIZE.match(text.strip().upper())
    if match is None:
        raise argparse.ArgumentTypeError(f"not a size: {text!r} (write 500M, 20G or 1.5T)")
    return int(float(match[1]) * 1000 ** " KMGTP".index(match[2] or " "))


# --------------------------------------------------------------------------------------
# Record: what was refused, where root finds it
# --------------------------------------------------------------------------------------


class Record:
    """Refusals and sessions: one line each to the journal, and a counter file.

    The counter file is rewritten in place and does not grow, however often a box is
    refused. It belongs to the account, and its folder to root.
    """

    LINES_PER_SESSION = 20

    def __init__(self, settings: Settings, log: Callable[[int, str], None] = syslog.syslog) -> None:
        self._settings = settings
        self._log = log
        self._lines = 0
        self.refusals: dict[str, int] = {}
        self.commits: list[int] = []

    def refused(self, reason: Refused) -> None:
        self.refusals[reason.kind] = self.refusals.get(reason.kind, 0) + 1
        if self._lines < self.LINES_PER_SESSION:
            self._lines += 1
            self._log(syslog.LOG_WARNING, self._line(f"REFUSED {reason.kind}: {reason.detail}"))
        self._count(
            refusals={reason.kind: 1},
            last_refusal={
                "time": _now(),
                "kind": reason.kind,
                "detail": reason.detail,
                "identity": self._settings.identity,
            },
        )

    def session(self, *, stored: int, seconds: float) -> None:
        last = {
            "time": _now(),
            "identity": self._settings.identity,
            "stored": stored,
            "commits": len(self.commits),
            "transaction": self.commits[-1] if self.commits else None,
            "refusals": sum(self.refusals.values()),
            "seconds": round(seconds, 1),
        }
        self._log(syslog.LOG_INFO, self._line("session " + json.dumps(last)))
        self._count(sessions={self._settings.identity: 1}, last_session=last)

    def check(self) -> None:
        """Fail before serving when counting would fail."""
        if self._settings.counters:
            try:
                os.close(os.open(self._settings.counters, os.O_RDWR | os.O_CLOEXEC))
            except OSError as error:
                raise UsageError(
                    f"cannot write the counter file {self._settings.counters}: {error.strerror};"
                    " create it, owned by the account and mode 0600",
                    EXIT_UNSUPPORTED,
                ) from error

    def _line(self, text: str) -> str:
        client = os.environ.get("SSH_CONNECTION", "").split(" ", 1)[0]
        return f"{self._settings.agent} {self._settings.identity} {client or 'local'}: {text}"

    def _count(self, **what: Any) -> None:
        if not self._settings.counters:
            return
        try:
            with open(self._settings.counters, "r+", encoding="utf-8") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                try:
                    counted = json.loads(stream.read() or "{}")
                except ValueError:
                    counted = {}
                if not isinstance(counted, dict):
                    counted = {}
                stream.seek(0)
                json.dump(_added(counted, what), stream, sort_keys=True)
                stream.truncate()
        except OSError as error:
            self._log(syslog.LOG_ERR, self._line(f"cannot count: {error}"))


def _added(counted: dict[str, Any], what: dict[str, Any]) -> dict[str, Any]:
    result = {"format": 1, "since": _now(), "refusals": {}, "sessions": {}, **counted}
    for name, value in what.items():
        if name in ("refusals", "sessions"):
            for kind, number in value.items():
                result[name][kind] = result[name].get(kind, 0) + number
        else:
            result[name] = value
    return result


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


# --------------------------------------------------------------------------------------
# Serving: borg's own server, each call behind a decision
# --------------------------------------------------------------------------------------

# What the guard relies on. A borg in which one of these differs is not served with.
KNOWN_API = {
    "remote.RepositoryServer.__init__": (
        "self restrict_to_paths restrict_to_repositories append_only storage_quota"
    ),
    "remote.RepositoryServer.open": (
        "self path create lock_wait lock exclusive append_only make_parent_dirs"
    ),
    "remote.RepositoryServer.serve": "self",
    "remote.RepositoryServer.negotiate": "self client_data",
    "remote.RepositoryServer.filter_args": "self f kwargs",
    "remote.RepositoryServer._resolve_path": "self path",
    "repository.Repository.__init__": (
        "self path create exclusive lock_wait lock append_only storage_quota"
        " check_segment_magic make_parent_dirs"
    ),
    "repository.Repository.put": "self id data wait",
    "repository.Repository.delete": "self id wait",
    "repository.Repository.get": "self id",
    "repository.Repository.list": "self limit marker",
    "repository.Repository.scan": "self limit marker",
    "repository.Repository.commit": "self save_space compact threshold cleanup_commits",
    "repository.Repository.rollback": "self",
    "repository.Repository._rollback": "self cleanup",
    "repository.Repository.prepare_txn": "self transaction_id do_cleanup",
    "repository.Repository.get_transaction_id": "self",
    "repository.Repository.get_index_transaction_id": "self",
    "repository.Repository.load_key": "self",
    "repository.Repository.get_free_nonce": "self",
    "repository.Repository.commit_nonce_reservation": "self next_unreserved start_nonce",
    "repository.Repository.close": "self",
    "repository.LoggedIO.segment_iterator": "self segment reverse",
    "repository.LoggedIO.read": "self segment offset id read_data",
}
KNOWN_ATTRIBUTES = ("append_only", "created", "index", "io", "lock", "_active_txn")


def api_reason() -> str | None:
    """Why this borg is not one the guard knows; None when it is."""
    if borg is None:
        return "no borg can be imported by this Python"
    version = str(getattr(borg, "__version__", "unknown"))
    if re.match(r"1\.4\.\d+\Z", version) is None:
        return f"borg {version} is not of the 1.4 series"
    modules = {"remote": remote, "repository": storage}
    for name, parameters in KNOWN_API.items():
        module, *path = name.split(".")
        try:
            found = " ".join(
                inspect.signature(functools.reduce(getattr, path, modules[module])).parameters
            )
        except (AttributeError, TypeError, ValueError):
            return f"borg {version} has no {name}"
        if found != parameters:
            return f"borg {version} changed {name}({found.replace(' ', ', ')})"
    if storage.Manifest.MANIFEST_ID != MANIFEST:
        return f"borg {version} keeps its manifest elsewhere"
    sample = vars(storage.Repository("/nonexistent"))
    for attribute in KNOWN_ATTRIBUTES:
        if attribute not in sample:
            return f"borg {version} has no Repository.{attribute}"
    return None


def _served(method: Callable[..., Any]) -> Callable[..., Any]:
    """A call of the protocol: refusals become borg's own error, time limits are kept."""

    @functools.wraps(method)
    def call(self: GuardedServer, *args: Any, **kwargs: Any) -> Any:
        with self.busy():
            try:
                return method(self, *args, **kwargs)
            except Refused as reason:
                self.refuse(reason)

    return call


class GuardedServer(_RepositoryServer):
    """borg's RepositoryServer, with a decision before each call.

    Every method of the protocol is either defined here or not in ``rpc_methods``, so
    nothing of borg's Repository is reachable by name.
    """

    repository: Any

    rpc_methods = (
        "negotiate",
        "open",
        "__len__",
        "list",
        "scan",
        "get",
        "load_key",
        "get_free_nonce",
        "commit_nonce_reservation",
        "put",
        "delete",
        "commit",
        "rollback",
        # Here only so that asking for them is refused in words, logged and counted.
        "check",
        "destroy",
        "save_key",
        "break_lock",
        "inject_exception",
    )

    def __init__(self, settings: Settings, policy: Policy, record: Record) -> None:
        super().__init__(
            restrict_to_paths=None,
            restrict_to_repositories=[settings.repository],
            append_only=True,
            storage_quota=0,  # the guard keeps the quota: borg writes first and asks then
        )
        self.settings = settings
        self.policy = policy
        self.record = record
        self.started = time.monotonic()
        self._measured = False
        self._busy = False
        self._over: str | None = None
        self._useless = 0
        # Why nothing more is written in this session; the answer to every further attempt.
        self._ended_with: Exception | None = None

    # Opening

    @_served
    def negotiate(self, client_data: Any) -> Any:
        if not isinstance(client_data, dict):
            raise Refused("negotiate", "clients older than borg 1.1 are not served")
        return super().negotiate(client_data)

    @_served
    def open(
        self,
        path: Any,
        create: Any = False,
        lock_wait: Any = None,
        lock: Any = True,
        exclusive: Any = None,
        append_only: Any = False,
        make_parent_dirs: Any = False,
    ) -> Any:
        if not isinstance(path, (bytes, str)):
            raise Refused("open", "not a path")
        reason = self.policy.open_reason(
            path=self._resolve_path(path),
            opened=self.repository is not None,
            create=bool(create),
            make_parent_dirs=bool(make_parent_dirs),
        )
        if reason:
            raise Refused("create" if create else "open", reason)
        if not lock and self.settings.identity != READ_ONLY:
            # "borg key export" asks for no lock. It gets a shared one, because opening can
            # write an index; only a snapshot, which cannot be written, is read without.
            lock, exclusive = True, False
        try:
            identity = super().open(
                path=self.settings.repository,
                create=bool(create),
                lock_wait=_bounded(lock_wait),
                lock=bool(lock),
                exclusive=bool(exclusive),
            )
        except BaseException:
            self._close()
            raise
        # Whoever made it: from here on it is a repository like any other.
        self.repository.append_only = True
        self.repository.created = False
        if exclusive and self.settings.identity != READ_ONLY:
            self._remember_what_stands()
        return identity

    def _remember_what_stands(self) -> None:
        # The lock is exclusive and ours: nobody writes between this and our first write.
        store = self.repository
        transaction = store.get_transaction_id()
        self.policy.standing = -1 if transaction is None else transaction
        self.policy.nonce_at_start = store.get_free_nonce()
        if transaction is not None:
            with contextlib.suppress(storage.Repository.ObjectNotFound):
                self.policy.manifest_type = store.get(MANIFEST)[0]
        self.policy.writable = True

    # Reading

    @_served
    def __len__(self) -> int:
        return len(self._opened())

    @_served
    def list(self, limit: Any = None, marker: Any = None) -> Any:
        return self._opened().list(limit=limit, marker=marker)

    @_served
    def scan(self, limit: Any = None, marker: Any = None) -> Any:
        return self._opened().scan(limit=limit, marker=marker)

    @_served
    def get(self, id: Any) -> Any:
        return self._opened().get(id)

    @_served
    def load_key(self) -> Any:
        return self._opened().load_key()

    # Writing

    @_served
    def get_free_nonce(self) -> Any:
        return self._opened().get_free_nonce()

    @_served
    def commit_nonce_reservation(self, next_unreserved: Any, start_nonce: Any) -> Any:
        if self.settings.identity == READ_ONLY:
            # borg check encrypts what it would write when repairing. Nothing of that can be
            # stored through this connection, so its nonces need not be remembered.
            self._opened()
            return None
        store = self._for_writing("nonce")
        reason = self.policy.nonce_reason(store.get_free_nonce(), next_unreserved, start_nonce)
        if reason:
            raise Refused("nonce", reason)
        return store.commit_nonce_reservation(next_unreserved, start_nonce)

    @_served
    def put(self, id: Any, data: Any, wait: Any = True) -> None:
        store = self._in_transaction("put")
        reason = self.policy.put_reason(id, data, self._segment(id))
        if reason:
            raise Refused("manifest" if id == MANIFEST else "overwrite", reason)
        cost = OBJECT_OVERHEAD + len(data)
        if id == MANIFEST:
            cost += TRANSACTION_COST
        self._within_quota(cost)
        with self._cleaned_up_when_full():
            store.put(id, data)
        self.policy.stored += len(data)
        self.policy.used += cost

    @_served
    def delete(self, id: Any, wait: Any = True) -> None:
        store = self._in_transaction("delete")
        reason = self.policy.delete_reason(id, self._segment(id))
        if reason:
            raise Refused("delete", reason)
        self._within_quota(OBJECT_OVERHEAD)
        with self._cleaned_up_when_full():
            store.delete(id)
        self.policy.used += OBJECT_OVERHEAD

    @_served
    def commit(
        self,
        save_space: Any = False,
        compact: Any = True,
        threshold: Any = 0.1,
        cleanup_commits: Any = False,
    ) -> None:
        store = self._for_writing("commit")
        if not store._active_txn:
            raise Refused("commit", "there is nothing to commit")
        with self._cleaned_up_when_full():
            store.commit(compact=False)
        self.policy.used += TRANSACTION_COST
        self.record.commits.append(store.get_index_transaction_id())

    @_served
    def rollback(self) -> None:
        self._opened().rollback()

    # Refused in words

    @_served
    def check(self, repair: Any = False) -> NoReturn:
        raise Refused("check", "a repository is checked on its host, not through this key")

    @_served
    def destroy(self) -> NoReturn:
        raise Refused("destroy", "a repository is never deleted through this key")

    @_served
    def save_key(self, keydata: Any = None) -> NoReturn:
        raise Refused("save_key", "this repository holds no key: the key is a file of the client")

    @_served
    def break_lock(self) -> NoReturn:
        raise Refused("break_lock", "locks are not broken through this key")

    @_served
    def inject_exception(self, kind: Any = None) -> NoReturn:
        raise Refused("inject_exception", "not served")

    # Between decision and borg

    def _opened(self) -> Any:
        if self.repository is None:
            raise Refused("call", "no repository is open on this connection")
        return self.repository

    def _for_writing(self, kind: str) -> Any:
        store = self._opened()
        if self._ended_with is not None:
            # A client has hundreds of calls under way when the first one is refused.
            self._hang_up_after(10 * REFUSALS_BEFORE_HANGUP)
            raise self._ended_with
        reason = self.policy.write_reason()
        if reason:
            raise Refused(kind, reason)
        return store

    def _in_transaction(self, kind: str) -> Any:
        store = self._for_writing(kind)
        if not store._active_txn:
            store.prepare_txn(store.get_transaction_id())
        if not self._measured:
            # After prepare_txn, which has cleared away what killed sessions left behind.
            self.policy.used = _bytes_on_disk(store)
            self._measured = True
        return store

    def _segment(self, key: object) -> int | None:
        if not isinstance(key, bytes) or len(key) != 32:
            return None
        location = self.repository.index.get(key)
        return None if location is None else int(location[0])

    def _within_quota(self, cost: int) -> None:
        if not self.policy.over_quota(cost):
            return
        self._discard()
        self.record.refused(Refused("quota", f"{self.policy.used + cost} bytes would be in use"))
        self._ended_with = storage.Repository.StorageQuotaExceeded(
            helpers.format_file_size(self.settings.storage_quota),
            helpers.format_file_size(self.policy.used + cost),
        )
        raise self._ended_with

    @contextlib.contextmanager
    def _cleaned_up_when_full(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._discard()
                self._ended_with = helpers.Error("lifeboat: the repository host's disk is full")
            raise

    def _discard(self) -> None:
        """Leave the repository as it was after its last commit, and the space free."""
        store = self.repository
        with contextlib.suppress(OSError):
            store._rollback(cleanup=store.io.get_segments_transaction_id() is not None)

    def refuse(self, reason: Refused) -> NoReturn:
        """Tell the client in borg's own words, remember it, and write nothing more."""
        self.record.refused(reason)
        error = helpers.Error(f"lifeboat refused {reason.kind}: {reason.detail}")
        if self._ended_with is None and self.repository is not None:
            if self.repository._active_txn:
                self._discard()
            self._ended_with = error
        self._hang_up_after(REFUSALS_BEFORE_HANGUP)
        raise error

    def _hang_up_after(self, calls: int) -> None:
        self._useless += 1
        if self._useless >= calls:
            self._over = "too many refused calls"

    # Time limits and the end of a session

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        self._busy = True
        if self._over:
            self._leave()
        if time.monotonic() - self.started > self.settings.session_timeout:
            self._over = self._over or "the session lasted too long"
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            yield
        finally:
            self._busy = False
            # Over: hang up as soon as the answer is out. Else: after too long a silence.
            signal.setitimer(
                signal.ITIMER_REAL, 0.2 if self._over else self.settings.idle_timeout, 0.2
            )

    def interrupt(self, number: int, _frame: object) -> None:
        """A signal ends the session, but never in the middle of a call."""
        self._over = self._over or (
            "the client said nothing for too long"
            if number == signal.SIGALRM
            else "ended by the repository host"
        )
        signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
        if not self._busy:
            raise SessionOver(self._over)

    def run(self) -> int:
        for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, self.interrupt)
        signal.setitimer(signal.ITIMER_REAL, min(120, self.settings.idle_timeout), 0.2)
        code = 0
        try:
            self.serve()
        except SessionOver as over:
            sys.stderr.write(f"lifeboat: session ended: {over}\n")
            code = EXIT_BUSY
        except BrokenPipeError:
            code = 1
        finally:
            self._finish()
        return code

    def _leave(self) -> NoReturn:
        """End here and now: the answers are out, and borg's loop would go on with the next."""
        self._finish()
        os._exit(EXIT_BUSY)

    def _finish(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._close()
        self.record.session(stored=self.policy.stored, seconds=time.monotonic() - self.started)

    def _close(self) -> None:
        store, self.repository = self.repository, None
        if store is not None:
            store.close()


def _bounded(lock_wait: Any) -> float:
    if isinstance(lock_wait, (int, float)) and 0 <= lock_wait <= 3600:
        return lock_wait
    return 3600


def _bytes_on_disk(store: Any) -> int:
    used = 0
    for _segment, path in store.io.segment_iterator():
        size = os.stat(path).st_size
        used += -(-size // BLOCK) * BLOCK
    return used


# --------------------------------------------------------------------------------------
# The command
# --------------------------------------------------------------------------------------


@contextlib.contextmanager
def admitted(settings: Settings) -> Iterator[None]:
    """Hold the agent's lock shared, unless maintenance has closed the repository.

    Closed means: LOCK.closed names a time (seconds since 1970) that is not over yet. So a
    maintenance that died keeps nobody out for longer than it had announced.
    """
    if not settings.lock:
        yield
        return
    busy = f"lifeboat: the repository of {settings.agent} is in maintenance, try again later"
    _stop_when_closed(settings, busy)
    try:
        descriptor = os.open(settings.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(
            f"cannot open the lock {settings.lock}: {error.strerror}; systemd-tmpfiles makes it"
            " at boot",
            EXIT_UNSUPPORTED,
        ) from error
    try:
        deadline = time.monotonic() + settings.lock_wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise UsageError(busy, EXIT_BUSY) from None
                time.sleep(0.1)
        _stop_when_closed(settings, busy)
        yield
    finally:
        os.close(descriptor)


def _stop_when_closed(settings: Settings, busy: str) -> None:
    try:
        with open(settings.lock + ".closed", encoding="ascii") as stream:
            until = float(stream.read())
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        raise UsageError(busy, EXIT_BUSY) from None
    if time.time() < until:
        raise UsageError(busy, EXIT_BUSY)


def parse(argv: Sequence[str]) -> Settings:
    parser = argparse.ArgumentParser(
        prog="lifeboat-serve",
        description="Serve one borg repository over SSH without letting a client rewrite history.",
    )
    parser.add_argument("--repository", required=True, metavar="PATH")
    parser.add_argument("--storage-quota", required=True, type=parse_size, metavar="SIZE")
    parser.add_argument("--agent", default="", metavar="NAME", help="name in the journal")
    identity = parser.add_mutually_exclusive_group()
    identity.add_argument("--read-only", action="store_const", const=READ_ONLY, dest="identity")
    identity.add_argument("--control", action="store_const", const=CONTROL, dest="identity")
    parser.add_argument(
        "--allow-create-if-absent", nargs="+", default=(), metavar="MARKER", dest="create_unless"
    )
    parser.add_argument("--lock", default="", metavar="FILE")
    parser.add_argument("--lock-wait", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--counters", default="", metavar="FILE")
    parser.add_argument("--idle-timeout", type=int, default=7200, metavar="SECONDS")
    parser.add_argument("--session-timeout", type=int, default=43200, metavar="SECONDS")
    given = parser.parse_args(argv)
    for path in (given.repository, given.lock, given.counters, *given.create_unless):
        if path and not os.path.isabs(path):
            parser.error(f"not an absolute path: {path}")
    return Settings(
        repository=os.path.realpath(given.repository),
        storage_quota=given.storage_quota,
        identity=given.identity or BOX,
        agent=given.agent or os.path.basename(given.repository.rstrip("/")),
        create_unless=tuple(given.create_unless),
        lock=given.lock,
        lock_wait=given.lock_wait,
        counters=given.counters,
        idle_timeout=given.idle_timeout,
        session_timeout=given.session_timeout,
    )


def _clean_environment() -> None:
    """borg reads dozens of variables; of this session it gets none, nor does it report any."""
    for name in list(os.environ):
        if name.startswith(("BORG_", "PYTHON", "SSH_ORIGINAL_COMMAND")):
            del os.environ[name]
    os.environ["BORG_SHOW_SYSINFO"] = "no"
    os.umask(0o077)


def main(argv: Sequence[str] | None = None) -> int:
    _clean_environment()
    settings = parse(sys.argv[1:] if argv is None else argv)
    syslog.openlog("lifeboat-serve", syslog.LOG_PID, syslog.LOG_AUTH)
    try:
        reason = api_reason()
        if reason:
            raise UsageError(f"lifeboat: {reason}: not serving", EXIT_UNSUPPORTED)
        record = Record(settings)
        record.check()
        with admitted(settings):
            logger.setup_logging(is_serve=True, level="warning")
            return GuardedServer(settings, Policy(settings), record).run()
    except UsageError as error:
        if error.code != EXIT_BUSY:
            syslog.syslog(syslog.LOG_ERR, f"{settings.agent}: {error}")
        sys.stderr.write(f"{error}\n")
        return error.code


if __name__ == "__main__":
    raise SystemExit(main())
