# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a box out of its repository while the trusted side works on it.

Two files beside each other: LOCK is held shared by every session of the guard, and
LOCK.closed names the time until which no new session is let in. So a repository opens
again by itself when the side that closed it has died; nothing has to be cleaned up.

On a repository host both lie in memory, so a reboot opens the repository too; what keeps two runs
at a provider apart lies on the control host's disk. One that is to stay closed on purpose
gets a file of systemd-tmpfiles besides, which makes both again at boot until their time is over.

Sessions that are under way get time to end; then the host ends them. The guard gives the
borg lock back when it is told to end, and what was not committed was never there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

GRACE = 15.0  # seconds between asking a session to end and making it end
POLL = 0.1
TMPFILES = Path("/etc/tmpfiles.d")


class LockoutError(Exception):
    """The repository could not be closed or opened."""


@dataclass(frozen=True)
class Closed:
    """Who keeps a repository closed, and until when."""

    token: str
    until: float
    kept: bool = False  # on purpose: no run is under way

    @property
    def end(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.until))

    @property
    def left(self) -> float:
        return max(0.0, self.until - time.time())


class Lockout:
    """The lock of one repository, on its host."""

    def __init__(
        self,
        lock: Path,
        *,
        holders: Callable[[Path], list[int]] | None = None,
        end: Callable[[int, int], None] = os.kill,
        tmpfiles: Path = TMPFILES,
    ) -> None:
        self.lock = lock
        self.closed_file = lock.with_name(lock.name + ".closed")
        self.holder_file = lock.with_name(lock.name + ".holder")
        self.boot_file = tmpfiles / f"lifeboat-closed-{lock.name}.conf"
        self._holders = holders or sessions
        self._end = end

    def current(self) -> Closed | None:
        """The maintenance that keeps this repository closed; None when it is open."""
        try:
            until = float(self.closed_file.read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except ValueError:
            raise LockoutError(
                f"{self.closed_file} cannot be read; nobody is let in. Remove it when no"
                " maintenance is under way."
            ) from None
        if until <= time.time():
            return None
        token, kept = "", False
        with contextlib.suppress(FileNotFoundError, ValueError, AttributeError):
            holder = json.loads(self.holder_file.read_text(encoding="utf-8"))
            token, kept = str(holder.get("token", "")), bool(holder.get("kept"))
        return Closed(token, until, kept)

    def close(self, token: str, seconds: float, *, wait: float = 60.0) -> list[int]:
        """Let nobody in for so long; the sessions that had to be ended are returned."""
        if not self.lock.exists():
            raise LockoutError(f"{self.lock} is missing: systemd-tmpfiles --create makes it")
        with self._changing():
            held = self.current()
            if held is not None and held.kept:
                raise LockoutError(
                    f"the repository is kept closed on purpose until {held.end}, since the rollback"
                    f" {held.token} with stay_closed. Nothing was done. To let the box in before:"
                    " custody.yml -e agent=NAME -e repository=HOST -e reopen=true"
                )
            if held is not None and held.token != token:
                raise LockoutError(
                    f"another maintenance ({held.token or 'unknown'}) keeps the repository closed"
                    f" for {held.left:.0f} more seconds. Wait for it to end; if it died, wait until"
                    f" then, or remove {self.closed_file}"
                )
            self._write(token, time.time() + seconds)
        return self._drain(wait)

    def require(self, token: str) -> Closed:
        held = self.current()
        if held is None or held.token != token:
            raise LockoutError(
                "the repository is no longer closed by this run: its time was over."
                " Nothing was changed; run again, with a longer custody_lockout_seconds."
            )
        return held

    def open(self, token: str) -> bool:
        """Let the box in again; whether there was something to open."""
        with self._changing():
            held = self.current()
            if held is not None and held.token != token:
                return False  # ours was over, and somebody else has closed it since
            return self._open()

    def keep(self, token: str) -> bool:
        """Stay closed after the run has ended and after a reboot, until the time that was set."""
        with self._changing():
            held = self.current()
            if held is not None and held.token != token:
                return False
            held = self.require(token)
            holder = json.dumps({"token": token, "kept": True})
            _replace(
                self.boot_file,
                f"f {self.closed_file} 0644 root root - {held.until:.3f}\n"
                f"f {self.holder_file} 0600 root root - {holder}\n",
                0o644,
            )
            _replace(self.holder_file, holder, 0o600)
            return not held.kept

    def reopen(self) -> bool:
        """Let the box in again that was kept out on purpose; no maintenance is disturbed."""
        with self._changing():
            held = self.current()
            return held is not None and held.kept and self._open()

    def _open(self) -> bool:
        existed = self.closed_file.exists()
        self.boot_file.unlink(missing_ok=True)
        self.closed_file.unlink(missing_ok=True)
        self.holder_file.unlink(missing_ok=True)
        return existed

    def _write(self, token: str, until: float) -> None:
        _replace(self.holder_file, json.dumps({"token": token}), 0o600)
        _replace(self.closed_file, f"{until:.3f}", 0o644)

    def _drain(self, wait: float) -> list[int]:
        """Wait until nobody holds the lock; a session that came first may end by itself."""
        ended: set[int] = set()
        start = time.monotonic()
        with self.lock.open("rb") as stream:
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return sorted(ended)
                except BlockingIOError:
                    pass
                waited = time.monotonic() - start
                if waited > wait + 2 * GRACE:
                    raise LockoutError(f"sessions {self._holders(self.lock)} do not end")
                if waited >= wait:
                    hard = waited > wait + GRACE
                    for process in self._holders(self.lock):
                        if hard or process not in ended:
                            ended.add(process)
                            with contextlib.suppress(ProcessLookupError):
                                self._end(process, signal.SIGKILL if hard else signal.SIGTERM)
                time.sleep(POLL)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """One maintenance at a time decides."""
        path = self.lock.with_name(self.lock.name + ".changing")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _replace(path: Path, text: str, mode: int) -> None:
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def sessions(lock: Path) -> list[int]:
    """The processes that have the lock file open, ours left out."""
    wanted = os.stat(lock)
    found = []
    for process in os.listdir("/proc"):
        if not process.isdigit() or int(process) == os.getpid():
            continue
        try:
            for descriptor in os.listdir(f"/proc/{process}/fd"):
                status = os.stat(f"/proc/{process}/fd/{descriptor}")
                if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
                    found.append(int(process))
                    break
        except OSError:
            continue  # it ended, or is none of ours to look at
    return found
