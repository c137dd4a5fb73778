# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scrubbing JSON in place: values are replaced by position, so order, spacing and comments stay."""

from __future__ import annotations

import json
import re

from .scrub import Policy, Scrubbed, ScrubError, Siblings
from .secrets import MARKER

_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<comment>//[^\n]*|/\*.*?\*/)"
    r"|(?P<string>\"(?:[^\"\\\n]|\\.)*\")|(?P<single>'(?:[^'\\\n]|\\.)*')"
    r"|(?P<mark>[{}\[\],:])|(?P<bare>[^\s{}\[\],:\"']+)",
    re.DOTALL,
)


class _Frame:
    """An object or an array that is open."""

    __slots__ = ("before", "index", "is_object", "key", "where")

    def __init__(self, is_object: bool, where: int) -> None:
        self.is_object = is_object
        self.key: str | None = None
        self.index = 0
        self.before = ""
        self.where = where


def _decoded(token: str) -> str:
    if token[0] == "'":
        token = '"' + token[1:-1].replace('"', '\\"').replace("\\'", "'") + '"'
    try:
        return str(json.loads(token, strict=False))
    except ValueError as error:
        raise ScrubError(f"not a JSON string: {error}") from error


def scrub_json(text: str, policy: Policy) -> Scrubbed:
    """The text with secret strings and numbers replaced by the marker."""
    siblings = Siblings()
    _scrub(text, policy, siblings)
    return _scrub(text, policy, siblings)


def _scrub(text: str, policy: Policy, siblings: Siblings) -> Scrubbed:
    parts: list[str] = []
    keys: list[str] = []
    stack: list[_Frame] = []
    position = 1 if text.startswith("\ufeff") else 0
    parts.append(text[:position])
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ScrubError(f"not JSON at character {position}")
        token, kind = match.group(0), match.lastgroup
        position = match.end()
        if kind == "comment":
            token = policy.scanner.redact(token)
        elif kind == "mark":
            _structure(token, stack, position)
        elif kind in ("string", "single", "bare"):
            token = _scalar(token, kind, text, position, stack, policy, siblings, keys)
        parts.append(token)
    if stack:
        raise ScrubError("not JSON: an object or array is not closed")
    return Scrubbed("".join(parts), tuple(keys))


def _structure(mark: str, stack: list[_Frame], position: int) -> None:
    if mark in "{[":
        stack.append(_Frame(mark == "{", position))
    elif mark in "}]":
        if not stack or stack.pop().is_object != (mark == "}"):
            raise ScrubError("not JSON: brackets do not match")
    elif mark == "," and stack:
        stack[-1].key = None
        stack[-1].index += 1


def _scalar(
    token: str,
    kind: str,
    text: str,
    end: int,
    stack: list[_Frame],
    policy: Policy,
    siblings: Siblings,
    keys: list[str],
) -> str:
    frame = stack[-1] if stack else None
    value = token if kind == "bare" else _decoded(token)
    if frame is not None and frame.is_object and frame.key is None:
        frame.key = value
        return token
    path = [(item.key or "") if item.is_object else str(item.index) for item in stack]
    after, before = "", value
    if frame is not None and not frame.is_object:
        after, frame.before = frame.before, before
    where = frame.where if frame is not None else None
    if not siblings.secret(policy, where, path, value, after):
        if policy.shorn(token) != token:
            keys.append(".".join(path))
        return policy.shorn(token)
    keys.append(".".join(path))
    quote = "'" if kind == "single" else '"'
    return f"{quote}{MARKER}{quote}"
