# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scrubbing TOML in place: values are replaced by position, comments and order stay."""

from __future__ import annotations

import re

from .scrub import Policy, Scrubbed, ScrubError, Siblings
from .secrets import MARKER

_TOKEN = re.compile(
    r"(?P<space>[ \t]+)|(?P<newline>\r?\n)|(?P<comment>#[^\n]*)"
    r"|(?P<string>\"\"\"(?:[^\\]|\\.)*?\"{3,5}|'''.*?'{3,5}|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*')"
    r"|(?P<mark>[{}\[\],=.])|(?P<bare>[^\s{}\[\],=#\"'.]+(?:\.[0-9][^\s{}\[\],=#\"']*)?)",
    re.DOTALL,
)


def _plain(token: str) -> str:
    for quote in ('"""', "'''", '"', "'"):
        if token.startswith(quote) and token.endswith(quote) and len(token) >= 2 * len(quote):
            return token[len(quote) : -len(quote)]
    return token


class _Toml:
    def __init__(self, text: str, policy: Policy, siblings: Siblings) -> None:
        self._text = text
        self._policy = policy
        self._position = 0
        self._out: list[str] = []
        self._keys: list[str] = []
        self._table: list[str] = []
        self._where = 0  # where the table began
        self._siblings = siblings

    def run(self) -> Scrubbed:
        while self._position < len(self._text):
            kind, token = self._next()
            if kind in ("space", "newline", "comment"):
                self._emit(kind, token)
            elif token == "[":
                self._header(token)
            else:
                path = self._key(kind, token)
                self._value([*self._table, *path])
        return Scrubbed("".join(self._out), tuple(self._keys))

    def _next(self) -> tuple[str, str]:
        match = _TOKEN.match(self._text, self._position)
        if match is None:
            line = self._text.count("\n", 0, self._position) + 1
            raise ScrubError(f"line {line}: not TOML")
        self._position = match.end()
        return str(match.lastgroup), match.group(0)

    def _emit(self, kind: str, token: str) -> None:
        self._out.append(self._policy.scanner.redact(token) if kind == "comment" else token)

    def _header(self, token: str) -> None:
        """[table] and [[array of tables]]"""
        self._table = []
        self._where = self._position
        self._out.append(token)
        while self._position < len(self._text):
            kind, token = self._next()
            if kind == "newline":
                self._out.append(token)
                return
            if kind in ("string", "bare"):
                self._table += [_plain(token)] if kind == "string" else token.split(".")
            self._emit(kind, token)

    def _key(self, kind: str, token: str) -> list[str]:
        """A dotted key up to its equals sign."""
        path: list[str] = []
        while token != "=":
            if kind in ("string", "bare"):
                path.append(_plain(token))
            elif kind == "newline" or token in ("{", "}", "[", "]", ","):
                raise ScrubError(f"not TOML near {'.'.join(path)!r}: no value")
            self._emit(kind, token)
            if self._position >= len(self._text):
                raise ScrubError("not TOML: a key without a value")
            kind, token = self._next()
        self._out.append(token)
        return path

    def _value(self, path: list[str]) -> None:
        kind, token = self._skip_space(newlines=False)
        if token == "[":
            self._array(path, token)
        elif token == "{":
            self._inline_table(path, token)
        else:
            self._scalar(path, kind, token)

    def _skip_space(self, *, newlines: bool) -> tuple[str, str]:
        while self._position < len(self._text):
            kind, token = self._next()
            if kind == "space" or (newlines and kind in ("newline", "comment")):
                self._emit(kind, token)
            else:
                return kind, token
        raise ScrubError("not TOML: ends in the middle of a value")

    def _array(self, path: list[str], token: str) -> None:
        self._out.append(token)
        before = ""
        while True:
            kind, token = self._skip_space(newlines=True)
            if token == "]":
                self._out.append(token)
                return
            if token == ",":
                self._out.append(token)
            elif token == "[":
                self._array(path, token)
            elif token == "{":
                self._inline_table(path, token)
            else:
                self._scalar(path, kind, token, before)
                before = _plain(token)

    def _inline_table(self, path: list[str], token: str) -> None:
        self._out.append(token)
        outer, self._where = self._where, self._position
        while True:
            kind, token = self._skip_space(newlines=True)
            if token in ("}", ","):
                self._out.append(token)
                if token == "}":
                    self._where = outer
                    return
            else:
                self._value([*path, *self._key(kind, token)])

    def _scalar(self, path: list[str], kind: str, token: str, after: str = "") -> None:
        if kind not in ("string", "bare"):
            raise ScrubError(f"not TOML at {'.'.join(path)}")
        while (
            kind == "bare"
            and self._position < len(self._text)
            and self._text[self._position] == "."
        ):
            token += self._next()[1] + self._next()[1]
        where = (self._where, *path[:-1])
        if self._siblings.secret(self._policy, where, path, _plain(token), after):
            self._keys.append(".".join(path))
            token = f'"{MARKER}"'
        elif self._policy.shorn(token) != token:
            self._keys.append(".".join(path))
            token = self._policy.shorn(token)
        self._out.append(token)


def scrub_toml(text: str, policy: Policy) -> Scrubbed:
    """The text with secret values replaced by the marker."""
    siblings = Siblings()
    _Toml(text, policy, siblings).run()
    return _Toml(text, policy, siblings).run()
