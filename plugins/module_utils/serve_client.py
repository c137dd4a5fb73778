# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of borg's serving protocol that needs neither borg nor a key.

The audit at a provider without a shell reads the list of object ids with it, and the
tests knock on the guard with it, call by call. Only what borg 1.1 to 1.4 speak is here:
one msgpack map per call, with the keys i (number), m (method), a (arguments); the answer
has i and r (result) or exception_class and its companions.
"""

from __future__ import annotations

import os
import select
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

MANIFEST = bytes(32)
SCAN_PAGE = 10_000
CLIENT_VERSION = (1, 4, 5, -1)


class ServeError(Exception):
    """The repository host said no, or said nothing."""

    def __init__(self, message: str, *, kind: str = "", stderr: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.stderr = stderr


class ServeConnection:
    """One connection to a serving process, started by ``argv`` (ssh, or a command here)."""

    def __init__(
        self, argv: Sequence[str], *, timeout: float = 600.0, env: Mapping[str, str] | None = None
    ) -> None:
        self._timeout = timeout
        self._number = 0
        self._buffer = bytearray()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in close()
        self._process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            env=None if env is None else dict(env),
        )
        self.repository_id = b""

    def __enter__(self) -> ServeConnection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> int:
        """Hang up; the exit code of the serving process (or of ssh)."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            code = self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if not self._stderr.closed:
            self._stderr.close()
        return code

    def stderr(self) -> str:
        """What the other side has said so far beside the protocol."""
        self._stderr.seek(0)
        return self._stderr.read().decode("utf-8", "replace").strip()

    def negotiate(self) -> Any:
        return self.call("negotiate", client_data={b"client_version": CLIENT_VERSION})

    def open(self, path: str, **options: Any) -> bytes:
        """Negotiate and open; the repository's id."""
        self.negotiate()
        self.repository_id = self.call("open", path=path.encode(), **options)
        return self.repository_id

    def scan(self) -> Iterator[bytes]:
        """The ids of all current objects in the order they lie on the disk."""
        marker: bytes | None = None
        while True:
            page = self.call("scan", limit=SCAN_PAGE, marker=marker)
            yield from page
            if len(page) < SCAN_PAGE:
                return
            marker = page[-1]

    def call(self, method: str, **arguments: Any) -> Any:
        return next(self.calls(method, [arguments]))

    def calls(self, method: str, arguments: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
        """Several calls of one method, sent before the first answer is awaited."""
        numbers = []
        message = bytearray()
        for one in arguments:
            self._number += 1
            numbers.append(self._number)
            message += pack({b"i": self._number, b"m": method, b"a": dict(one)})
        self.send(bytes(message))
        for number in numbers:
            yield self._answer(number)

    def send(self, message: bytes) -> None:
        """Raw bytes; used by the tests for what is not a well-formed call."""
        if self._process.stdin is None:
            raise ServeError("the connection is closed")
        view = memoryview(message)
        while view:
            try:
                view = view[os.write(self._process.stdin.fileno(), view) :]
            except BrokenPipeError:
                self._lost()

    def _answer(self, number: int) -> Any:
        answer = self._receive()
        if not isinstance(answer, dict) or answer.get(b"i") != number:
            raise ServeError(f"unexpected answer from the repository host: {answer!r:.200}")
        if b"exception_class" in answer:
            kind = bytes(answer[b"exception_class"]).decode("utf-8", "replace")
            short = answer.get(b"exception_short") or [b""]
            message = b"".join(short).decode("utf-8", "replace").strip()
            raise ServeError(message or kind, kind=kind)
        return answer.get(b"r")

    def _receive(self) -> Any:
        deadline = time.monotonic() + self._timeout
        output = self._process.stdout
        if output is None:
            raise ServeError("the connection is closed")
        while True:
            try:
                value, end = unpack(self._buffer)
            except IndexError:
                pass
            else:
                del self._buffer[:end]
                return value
            ready, _unused, _unused = select.select(
                [output], [], [], max(0.0, deadline - time.monotonic())
            )
            if not ready:
                raise ServeError(f"no answer from the repository host in {self._timeout:.0f} s")
            data = os.read(output.fileno(), 1 << 16)
            if not data:
                self._lost()
            self._buffer += data

    def _lost(self) -> None:
        code = self._process.wait()
        said = self.stderr()
        raise ServeError(
            f"the repository host ended the connection (code {code})"
            + (f": {said.splitlines()[-1]}" if said else ""),
            kind="ConnectionClosed",
            stderr=said,
        )


# msgpack, the part of it that borg uses: raw strings, no extension types.


def pack(value: Any) -> bytes:
    if value is None:
        return b"\xc0"
    if value is True:
        return b"\xc3"
    if value is False:
        return b"\xc2"
    if isinstance(value, int):
        return _pack_int(value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _pack_size(len(value), 0xA0, 32, 0xDA) + bytes(value)
    if isinstance(value, (list, tuple)):
        return _pack_size(len(value), 0x90, 16, 0xDC) + b"".join(pack(item) for item in value)
    if isinstance(value, dict):
        pairs = (pack(name) + pack(item) for name, item in value.items())
        return _pack_size(len(value), 0x80, 16, 0xDE) + b"".join(pairs)
    raise TypeError(f"cannot pack {type(value).__name__}")


def _pack_int(value: int) -> bytes:
    if 0 <= value < 128:
        return struct.pack(">B", value)
    if -32 <= value < 0:
        return struct.pack(">b", value)
    if value >= 0:
        return struct.pack(">BQ", 0xCF, value)
    return struct.pack(">Bq", 0xD3, value)


def _pack_size(size: int, small: int, limit: int, medium: int) -> bytes:
    if size < limit:
        return struct.pack(">B", small | size)
    if size < 1 << 16:
        return struct.pack(">BH", medium, size)
    return struct.pack(">BI", medium + 1, size)


_FIXED = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_SIZED = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_LISTS = {0xDC: ">H", 0xDD: ">I"}
_MAPS = {0xDE: ">H", 0xDF: ">I"}
_SINGLE = {0xC0: None, 0xC2: False, 0xC3: True}


def unpack(data: bytes | bytearray, start: int = 0) -> tuple[Any, int]:
    """One value and where it ends; IndexError when the data end before it does."""
    tag, at = data[start], start + 1
    if tag < 0x80:
        return tag, at
    if tag >= 0xE0:
        return tag - 256, at
    if tag in _SINGLE:
        return _SINGLE[tag], at
    if tag in _FIXED:
        return _number(data, at, _FIXED[tag])
    if 0xA0 <= tag < 0xC0:
        return _raw(data, at, tag & 0x1F)
    if tag in _SIZED:
        size, at = _number(data, at, _SIZED[tag])
        return _raw(data, at, size)
    if 0x90 <= tag < 0xA0:
        return _items(data, at, tag & 0x0F)
    if tag in _LISTS:
        size, at = _number(data, at, _LISTS[tag])
        return _items(data, at, size)
    if 0x80 <= tag < 0x90:
        return _pairs(data, at, tag & 0x0F)
    if tag in _MAPS:
        size, at = _number(data, at, _MAPS[tag])
        return _pairs(data, at, size)
    raise ServeError(f"not borg's serving protocol: {bytes(data[start : start + 60])!r}")


def _number(data: bytes | bytearray, at: int, form: str) -> tuple[Any, int]:
    end = at + struct.calcsize(form)
    if end > len(data):
        raise IndexError
    return struct.unpack_from(form, data, at)[0], end


def _raw(data: bytes | bytearray, at: int, size: int) -> tuple[bytes, int]:
    if at + size > len(data):
        raise IndexError
    return bytes(data[at : at + size]), at + size


def _items(data: bytes | bytearray, at: int, size: int) -> tuple[list[Any], int]:
    items = []
    for _unused in range(size):
        item, at = unpack(data, at)
        items.append(item)
    return items, at


def _pairs(data: bytes | bytearray, at: int, size: int) -> tuple[dict[Any, Any], int]:
    pairs = {}
    for _unused in range(size):
        name, at = unpack(data, at)
        pairs[name], at = unpack(data, at)
    return pairs, at
