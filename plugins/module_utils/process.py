# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running one external command: the only place of the engine that touches subprocess.

Two forms behind one protocol: `run` for a command with a short answer, `start` for one that is
fed paths while it works. Tests inject a runner of their own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import selectors
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

_PR_SET_PDEATHSIG = 1
_LONGEST_WAIT = 1.0  # a signal that comes just before a wait is heard only after it


LineReader = Callable[[bytes], None]


@dataclasses.dataclass(frozen=True)
class Completed:
    """How a command ended."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes


class Running(Protocol):
    """A command that is being fed."""

    def feed(self, data: bytes) -> None:
        """Queue input; takes what the command has to say meanwhile."""

    def pump(self, seconds: float) -> bool:
        """Take what the command has to say for a while; False once it has said its last."""

    def close(self) -> None:
        """No more input; the end is waited for by pump and finish."""

    def has_read_all(self) -> bool:
        """Whether nothing that it was fed is left to read."""

    def finish(self) -> Completed:
        """Close the input and wait for the end."""

    def abort(self) -> None:
        """End the command before it can complete its work."""


class Runner(Protocol):
    """Starts commands; the default is Subprocesses."""

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        stdin: bytes = b"",
        on_line: LineReader | None = None,
        on_output: LineReader | None = None,
    ) -> Completed: ...

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        on_line: LineReader | None = None,
        on_output: LineReader | None = None,
    ) -> Running: ...


def _die_with_parent() -> None:
    """A fed command must not take the end of a killed feeder for the end of its input."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (ImportError, OSError, MemoryError):
        return  # a hardened unit forbids what ctypes needs; there systemd ends us all


class _Stream:
    """What arrives on one pipe: collected, read by lines as well, or handed on as it comes."""

    def __init__(
        self, *, on_line: LineReader | None = None, on_output: LineReader | None = None
    ) -> None:
        self.data = bytearray()
        self._rest = b""
        self._on_line = on_line
        self._on_output = on_output

    def take(self, chunk: bytes) -> None:
        if self._on_output is not None:
            self._on_output(chunk)
            return
        self.data += chunk
        if self._on_line is None:
            return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._on_line(line)


class Process:
    """A running command with non-blocking pipes, so that neither side can wait for the other."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        pass_fds: Sequence[int],
        on_line: LineReader | None = None,
        on_output: LineReader | None = None,
    ) -> None:
        self._argv = tuple(argv)
        self._process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            pass_fds=tuple(pass_fds),
            bufsize=0,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        process = self._process
        if not (process.stdin and process.stdout and process.stderr):
            raise AssertionError("every stream is a pipe")
        self._stdin = process.stdin
        self._pending = bytearray()
        self._closing = False
        self._selector = selectors.DefaultSelector()
        self.stdout, self.stderr = _Stream(on_output=on_output), _Stream(on_line=on_line)
        for pipe, stream in ((process.stdout, self.stdout), (process.stderr, self.stderr)):
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ, stream)
        os.set_blocking(process.stdin.fileno(), False)

    def feed(self, data: bytes) -> None:
        self._pending += data
        self._pump(0)

    def pump(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._speaks() and time.monotonic() < deadline:
            self._pump(max(0.0, deadline - time.monotonic()))
        return self._speaks()

    def has_read_all(self) -> bool:
        if self._pending or self._stdin.closed:
            return not self._pending
        left = fcntl.ioctl(self._stdin.fileno(), termios.FIONREAD, bytes(4))
        return not int.from_bytes(left, sys.byteorder)

    def _speaks(self) -> bool:
        return any(key.data is not None for key in self._selector.get_map().values())

    def close(self) -> None:
        self._closing = True
        self._watch_input()

    def finish(self) -> Completed:
        self.close()
        while self._selector.get_map():
            self._pump(_LONGEST_WAIT)
        code = self._process.wait()
        self._selector.close()
        return Completed(self._argv, code, bytes(self.stdout.data), bytes(self.stderr.data))

    def abort(self) -> None:
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()
        self._selector.close()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _watch_input(self) -> None:
        """Register the input while there is something to write; close it when all is written."""
        if self._stdin.closed:
            return
        registered = self._stdin in {key.fileobj for key in self._selector.get_map().values()}
        if self._pending and not registered:
            self._selector.register(self._stdin, selectors.EVENT_WRITE, None)
        elif not self._pending and registered:
            self._selector.unregister(self._stdin)
        if not self._pending and self._closing:
            self._stdin.close()

    def _pump(self, timeout: float) -> None:
        self._watch_input()
        for key, _events in self._selector.select(timeout):
            if key.data is None:
                self._write()
            else:
                self._read(key.fd, key.fileobj, key.data)
        self._watch_input()

    def _read(self, descriptor: int, pipe: object, stream: _Stream) -> None:
        try:
            chunk = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return
        if chunk:
            stream.take(chunk)
        else:
            self._selector.unregister(pipe)  # type: ignore[arg-type]
            pipe.close()  # type: ignore[attr-defined]

    def _write(self) -> None:
        try:
            sent = os.write(self._stdin.fileno(), bytes(self._pending[: 1 << 16]))
        except BlockingIOError:
            return
        except BrokenPipeError:  # the command ended early; its exit code says why
            self._pending.clear()
            self._selector.unregister(self._stdin)
            self._stdin.close()
            return
        del self._pending[:sent]


class Subprocesses:
    """The real runner."""

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
        process = Process(argv, env=env, pass_fds=pass_fds, on_line=on_line, on_output=on_output)
        process.feed(stdin)
        return process.finish()

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        on_line: LineReader | None = None,
        on_output: LineReader | None = None,
    ) -> Process:
        return Process(argv, env=env, pass_fds=pass_fds, on_line=on_line, on_output=on_output)


def encode_paths(paths: Iterable[bytes]) -> bytes:
    """Paths as borg reads them with --paths-delimiter '\\0'."""
    return b"".join(path + b"\0" for path in paths)
