# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scrubbing YAML line by line, without a YAML library: comments, order and style stay.

Covers what configuration files use: block mappings and sequences, plain and quoted scalars over
several lines, block scalars, flow collections, anchors and tags. What it does not understand with
certainty (a complex key, a tab as indentation) raises ScrubError, and the file is withheld.
"""

from __future__ import annotations

import re
import sys

from .scrub import Policy, Scrubbed, ScrubError, Siblings
from .secrets import MARKER

_KEY = re.compile(
    r"(?P<key>\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'|[^\s\-?:,\[\]{}#&*!|>'\"%@`][^\n]*?|[-?:](?=[^\s])[^\n]*?)"
    r"\s*:(?P<gap>[ \t]+|$)"
)
_DASH = re.compile(r"- +|-$")
_PROPERTIES = re.compile(r"(?:[&!][^\s,\[\]{}]*[ \t]+)+")
_BLOCK = re.compile(r"[|>][+\-0-9]*[ \t]*(?:#.*)?$")
_COMMENT = re.compile(r"[ \t]+#.*$")
_FLOW = re.compile(
    r"(?P<space>\s+)|(?P<comment>(?<=\s)#[^\n]*)|(?P<double>\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<single>'(?:[^']|'')*')|(?P<property>[!&][^\s{}\[\],]*(?=\s))|(?P<mark>[{}\[\],]|:(?=[\s,{}\[\]]|$))"
    r"|(?P<plain>(?:[^\s{}\[\],:#\"']|:(?![\s,{}\[\]])|(?<=\S)#)(?:[^{}\[\],:#\n]|:(?![\s,{}\[\]])|(?<=\S)#)*)",
    re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U(00[01][0-9A-Fa-f]{5})|(.))", re.DOTALL
)


def scrub_yaml(text: str, policy: Policy) -> Scrubbed:
    """The text with secret values replaced by the marker."""
    siblings = Siblings()
    _Yaml(text, policy, siblings).run()
    return _Yaml(text, policy, siblings).run()


def _unquote(token: str) -> str:
    if len(token) >= 2 and token[0] == token[-1] == "'":
        return token[1:-1].replace("''", "'")
    if len(token) >= 2 and token[0] == token[-1] == '"':
        return _ESCAPE.sub(_unescape, token[1:-1])
    return token


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1) or match.group(2) or match.group(3)
    if code is None:
        return str(match.group(4))
    if int(code, 16) > sys.maxunicode:
        raise ScrubError(f"no character has the number {code}")
    return chr(int(code, 16))


class _Yaml:
    def __init__(self, text: str, policy: Policy, siblings: Siblings) -> None:
        self._lines = text.splitlines(keepends=True)
        self._policy = policy
        self._stack: list[tuple[int, str]] = []
        self._out: list[str] = []
        self._keys: list[str] = []
        self._number = 0
        self._begun = 0  # documents, list items and flow collections
        self._items: list[tuple[int, int]] = []  # those that are open: column, number
        self._siblings = siblings
        self._before = ""  # the list item before this one, for options of commands

    def run(self) -> Scrubbed:
        while self._number < len(self._lines):
            line = self._lines[self._number]
            self._number += 1
            self._line(line)
        return Scrubbed("".join(self._out), tuple(self._keys))

    def _line(self, line: str) -> None:
        body = line.rstrip("\r\n")
        ending = line[len(body) :]
        stripped = body.strip()
        if not stripped or stripped in ("---", "...") or body.startswith("%"):
            if stripped in ("---", "..."):
                self._begin_document()
            self._out.append(line)
            return
        if stripped.startswith("#"):
            self._out.append(self._comment(body) + ending)
            return
        indent = len(body) - len(body.lstrip(" "))
        if body[indent] == "\t":
            raise ScrubError(f"line {self._number}: a tab as indentation")
        column, rest = indent, body[indent:]
        if rest.startswith("--- "):
            self._begin_document()
            column, rest = 4, rest[4:]
        dash = -1
        while True:
            match = _DASH.match(rest)
            if not match:
                break
            dash = column
            self._pop(column + 1)
            self._begin_item(column)
            column += match.end()
            rest = rest[match.end() :]
        self._entry(body, ending, column, rest, indent if dash < 0 else dash, dash >= 0)

    def _entry(
        self, body: str, ending: str, column: int, rest: str, indent: int, in_list: bool
    ) -> None:
        """What follows the dashes: a key with its value, or a scalar of a list."""
        if rest.startswith(("? ", "@", "`")) or rest == "?":
            raise ScrubError(f"line {self._number}: a form of YAML that is not supported")
        properties = _PROPERTIES.match(rest)
        if properties:
            rest = rest[properties.end() :]
            column += properties.end()
        if not in_list:
            self._before = ""
        match = _KEY.match(rest) if not rest.startswith(("{", "[")) else None
        head = body[: len(body) - len(rest)]
        if match:
            key = _unquote(match.group("key"))
            self._pop(column)
            if not in_list:
                self._pop(indent)
            self._stack.append((column, key))
            head += rest[: match.end()]
            value = rest[match.end() :]
        else:
            value = rest
            if not in_list:  # the value of a key on a line of its own
                self._pop(column)
                if not self._stack and not rest.startswith(("{", "[")):
                    raise ScrubError(f"line {self._number}: neither a key nor a list")
        self._value(head, value, ending, column if match else indent)

    def _begin_document(self) -> None:
        self._stack.clear()
        self._items.clear()
        self._begin_item(-1)

    def _begin_item(self, column: int) -> None:
        while self._items and self._items[-1][0] >= column:
            self._items.pop()
        self._begun += 1
        self._items.append((column, self._begun))

    def _pop(self, column: int) -> None:
        for opened in (self._stack, self._items):
            while opened and opened[-1][0] >= column:
                opened.pop()

    def _path(self) -> list[str]:
        return [key for _column, key in self._stack]

    def _value(self, head: str, value: str, ending: str, indent: int) -> None:
        properties = _PROPERTIES.match(value)
        if properties:
            head += properties.group(0)
            value = value[properties.end() :]
        if not value or value.startswith("#"):
            self._out.append(head + self._comment(value) + ending)
        elif _BLOCK.match(value):
            self._block(head, value, ending, indent)
        elif value[0] in "{[":
            self._flow(head, value, ending)
        elif value[0] in "\"'":
            self._quoted(head, value, ending)
        elif value[0] == "*":
            self._out.append(head + value + ending)
        else:
            self._plain(head, value, ending, indent)

    def _plain(self, head: str, value: str, ending: str, indent: int) -> None:
        comment = _COMMENT.search(value)
        tail = comment.group(0) if comment else ""
        scalar = value[: len(value) - len(tail)].rstrip()
        gap = value[len(scalar) : len(value) - len(tail)]
        more = [] if tail else self._indented(indent, stop_at_comment=True)
        whole = " ".join([scalar, *(line.strip() for line in more)])
        if self._secret(whole):
            self._found()
            self._out.append(head + MARKER + gap + self._comment(tail) + ending)
        else:
            self._out.append(head + self._shorn(scalar) + gap + self._comment(tail) + ending)
            self._out.extend(self._shorn(line) for line in more)

    def _secret(self, value: str) -> bool:
        after, self._before = self._before, value
        return self._named_secret(value, after)

    def _named_secret(self, value: str, after: str = "") -> bool:
        where = (*self._items, *self._stack[:-1])
        return self._siblings.secret(self._policy, where, self._path(), value, after)

    def _shorn(self, text: str) -> str:
        shorn = self._policy.shorn(text)
        if shorn != text:
            self._found()
        return shorn

    def _block(self, head: str, value: str, ending: str, indent: int) -> None:
        body = self._indented(indent)
        text = "".join(body)
        if not text.strip():
            self._out.append(head + value + ending)
            self._out.extend(body)
        elif self._named_secret(text):
            comment = value[value.index("#") :] if "#" in value else ""
            self._found()
            self._out.append(
                f"{head}{MARKER}{'  ' if comment else ''}{self._comment(comment)}{ending}"
            )
            trailing = len(body) - len("".join(body).rstrip().splitlines())
            self._out.extend(body[len(body) - trailing :] if trailing > 0 else [])
        else:
            self._out.append(head + value + ending)
            self._out.extend(self._shorn(line) for line in body)

    def _indented(self, indent: int, *, stop_at_comment: bool = False) -> list[str]:
        """The following lines that are indented further, with empty ones between them."""
        start = self._number
        end = start
        for number in range(start, len(self._lines)):
            line = self._lines[number]
            stripped = line.strip()
            if not stripped:
                continue
            depth = len(line) - len(line.lstrip(" "))
            minimum = indent if self._stack or indent else -1
            if depth <= minimum or (stop_at_comment and stripped.startswith("#")):
                break
            end = number + 1
        self._number = end
        return self._lines[start:end]

    def _quoted(self, head: str, value: str, ending: str) -> None:
        pattern = (
            re.compile(r"\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
            if value[0] == '"'
            else re.compile(r"'(?:[^']|'')*'", re.DOTALL)
        )
        text = value + ending
        match = pattern.match(text)
        while match is None:
            if self._number >= len(self._lines):
                raise ScrubError("a quoted value has no end")
            text += self._lines[self._number]
            self._number += 1
            match = pattern.match(text)
        token, tail = match.group(0), text[match.end() :]
        if tail.lstrip(" \t").startswith(":") and not self._ends_entry(tail):
            raise ScrubError(f"line {self._number}: a key that was not understood")
        quote = value[0]
        if self._secret(_unquote(token)):
            self._found()
            token = f"{quote}{MARKER}{quote}"
        self._out.append(head + self._shorn(token) + self._comment(tail))

    @staticmethod
    def _ends_entry(tail: str) -> bool:
        return not tail.strip() or tail.lstrip().startswith("#")

    def _flow(self, head: str, value: str, ending: str) -> None:
        text = value + ending
        self._begun += 1
        result = self._try_flow(text)
        while result is None:
            if self._number >= len(self._lines):
                raise ScrubError("a flow collection has no end")
            text += self._lines[self._number]
            self._number += 1
            result = self._try_flow(text)
        self._out.append(head + result)

    def _try_flow(self, text: str) -> str | None:
        """The collection scrubbed with what follows it, None while it is not closed."""
        parts: list[str] = []
        keys: list[str] = []
        opened = 0
        numbers: list[int] = []  # of the collections that are open
        stack: list[list[str | None]] = []  # per collection: [bracket, key, pending scalar index]
        position = 0
        pending: tuple[int, str] | None = None  # a scalar that may turn out to be a key
        before = ""
        adjacent = False  # after a quoted scalar or a bracket a colon needs no space behind it

        def doubt(what: str) -> ScrubError:
            return ScrubError(f"line {self._number}: {what}")

        def settle() -> None:
            nonlocal pending, before
            if pending is None:
                return
            index, token = pending
            pending = None
            path = self._path() + [str(frame[1]) for frame in stack if frame[1]]
            after, before = before, _unquote(token)
            where = (self._begun, numbers[-1])
            if self._siblings.secret(self._policy, where, path, before, after):
                quote = token[0] if token[0] in "\"'" else ""
                parts[index] = f"{quote}{MARKER}{quote}" if quote else f'"{MARKER}"'
                keys.append(".".join(path))
            elif self._policy.shorn(token) != token:
                parts[index] = parts[index].replace(token, self._policy.shorn(token))
                keys.append(".".join(path))

        while position < len(text):
            match = _FLOW.match(text, position)
            if adjacent and text[position] == ":":
                token, kind = ":", "mark"
            elif match is not None:
                token, kind = match.group(0), str(match.lastgroup)
            elif text[position] in "\"'":
                return None
            else:
                raise doubt("a flow collection that was not understood")
            position += len(token)
            if kind not in ("space", "comment"):
                adjacent = kind in ("double", "single") or token in "}]"
            if kind == "comment":
                parts.append(self._comment(token))
            elif kind == "space":
                parts.append(token)
            elif kind == "mark":
                if token in "{[":
                    stack.append([token, None])
                    opened += 1
                    numbers.append(opened)
                elif token == ":":
                    if pending is None:
                        raise doubt("a colon without a plain or quoted key before it")
                    stack[-1][1] = _unquote(pending[1])
                    pending = None
                else:
                    settle()
                    if token == ",":
                        stack[-1][1] = None
                    else:
                        numbers.pop()
                        if stack.pop()[0] != {"}": "{", "]": "["}[token]:
                            raise doubt("brackets do not match")
                parts.append(token)
                if not stack:
                    tail = text[position:]
                    if not self._ends_entry(tail):
                        raise doubt("text after a flow collection")
                    self._keys.extend(keys)
                    return "".join(parts) + self._comment(tail)
            elif token.startswith("#") or (
                pending is not None and (kind != "plain" or pending[1][0] in "\"'")
            ):
                raise doubt(f"{token[0]} where a comma or a space is missing")
            elif kind == "property":
                parts.append(token)
            else:
                if pending is not None:  # a plain scalar over two lines
                    index = pending[0]
                    joined = "".join(parts[index:]) + token
                    del parts[index:]
                    token = joined
                parts.append(token)
                pending = (len(parts) - 1, token.rstrip())
        return None

    def _comment(self, text: str) -> str:
        """A comment without credentials, also where a setting was commented out."""
        if "#" not in text:
            return text
        match = re.match(
            r"(?P<head>.*?#[#\s-]*(?P<key>[A-Za-z_][\w.-]*)\s*[:=]\s+)(?P<value>\S.*)$", text, re.S
        )
        value = match.group("value").strip("\"' \t\r\n") if match else ""
        if match and len(value.split()) == 1 and self._policy.secret([match.group("key")], value):
            ending = text[len(text.rstrip("\r\n")) :]
            return match.group("head") + MARKER + ending
        return self._policy.scanner.redact(text)

    def _found(self) -> None:
        self._keys.append(".".join(self._path()))
