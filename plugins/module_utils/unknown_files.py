# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scan of files that no rule knows: stricter than of what is precious.

Besides the patterns, settings are judged by their names as the scrubber does, text in UTF-16 is
read as text, and an archive, into which no scan can look, does not pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .secrets import Finding, Scanner, is_example, is_text, secret_name

_COMPRESSED = (
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"Rar!\x1a\x07", "rar"),
)
_LOOKED_AT = 512
_SETTING = re.compile(
    rb"(?:\\?[\"'](?P<quoted>[A-Za-z_][\w.-]{1,63})\\?[\"']|(?:^|[{,])[ \t]*(?:[-#][ \t]+|export[ \t]+)?"
    rb"(?P<bare>[A-Za-z_][\w.-]{1,63}))[ \t]*(?P<mark>[:=])[ \t]*"
    rb"(?P<value>\\?\"[^\"\n\\]*|'[^'\n]*|[^\s,;{}\"']+(?=[ \t]*(?:\r?$|[,;}#])))",
    re.MULTILINE,
)
_REFERENCE = re.compile(r"\$\{.*|\$[A-Z][A-Z0-9_]*|\{\{.*|%[A-Z_]+%")
_SYNTAX = re.compile(r"[|>*&].*|.*[()\[\]].*")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_NO_VALUE = frozenset(
    "null none nil undefined true false yes no on off enabled disabled str string bytes int integer "
    "float bool boolean any object optional required secret password token auto default".split()
)
_SMALL = 1000
_SHORTEST = 4


def compressed(head: bytes) -> str:
    """Why a file cannot pass a scan of its bytes, empty where it can."""
    for magic, name in _COMPRESSED:
        if head.startswith(magic):
            return f"is compressed ({name}), so that no scan can look into it"
    return ""


def as_text(data: bytes) -> bytes:
    """Text in UTF-16 as the scan reads text: what is ASCII in it has a NUL beside each byte."""
    if is_text(data):
        return data
    head = data[: min(_LOOKED_AT, len(data) // 2 * 2)]
    marked = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    half = len(head) // 2
    wide = any(
        head[start::2].count(0) >= half * 0.9 and head[1 - start :: 2].count(0) <= half * 0.1
        for start in (0, 1)
    )
    return data[2 * marked :].replace(b"\0", b"") if marked or wide else data


def scan_unknown(scanner: Scanner, data: bytes) -> list[Finding]:
    """Every hit of a pattern, and the first setting whose name says that it is a secret."""
    text = as_text(data)
    found = scanner.scan(text)
    return [*found, *_settings(text)] if is_text(text) else found


def _settings(text: bytes) -> Iterator[Finding]:
    for match in _SETTING.finditer(text):
        key = (match.group("quoted") or match.group("bare")).decode("ascii")
        if secret_name(key) and _is_value(match.group("value").decode("utf-8", "replace")):
            yield Finding("secret-name", text.count(b"\n", 0, match.start()) + 1)
            return


def _is_value(written: str) -> bool:
    """Whether what stands behind the name of a secret is one."""
    value = written.lstrip("\\").strip("\"' \t")
    if len(value) < _SHORTEST or value.lower() in _NO_VALUE or is_example(value):
        return False
    if value.isdigit() and int(value) < _SMALL:
        return False
    if written[0] in "\"'\\":
        return not _REFERENCE.fullmatch(value)
    code = _IDENTIFIER.fullmatch(value) and ("." in value or secret_name(value))
    return not (code or _REFERENCE.fullmatch(value) or _SYNTAX.fullmatch(value))
