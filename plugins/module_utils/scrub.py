# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scrubbing: a config file with its secret values replaced, everything else byte for byte.

A value goes when its key (or one above it) speaks of a secret, or when the value itself looks
like a credential. The result is scanned once more; a file that cannot be read safely is withheld,
never archived as it is.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from .secrets import CONTAINERS, MARKER, Scanner, key_name, suspicious


class ScrubError(ValueError):
    """The file cannot be scrubbed with certainty."""


@dataclasses.dataclass(frozen=True)
class Scrubbed:
    """The text without secrets and the keys whose values were taken out."""

    text: str
    keys: tuple[str, ...]


_REFERENCE = re.compile(
    r"\$\{[^}]*\}|\{\{[^}]*\}\}|%[A-Z_]+%|\$[A-Z][A-Z0-9]*_[A-Z0-9_]*"
    r"|\$(?:HOME|USER|LOGNAME|PATH|PWD|SHELL|HOSTNAME|TMPDIR|TOKEN|SECRET|PASSWORD|APIKEY)"
)
_DOLLAR_WORD = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_BEARER = re.compile(r"(?i)(?:bearer|basic)\s+[a-z0-9._~+/=-]{12,}")
_RANDOM = re.compile(r"(?!/)(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9+/=]{20,}")
_HEADER = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):\s*\S.*", re.DOTALL)
_HEADER_OPTIONS = frozenset({"-H", "--header"})
_QUERY = re.compile(r"(?P<start>[?&](?P<name>[A-Za-z][\w.-]*)=)(?P<value>[^&#\s\"'<>\\,\]]+)")
_QUERY_NAMES = frozenset({"key", "sig", "signature", "auth", "pass", "code"})
_OPTION = re.compile(r"--?([A-Za-z][A-Za-z0-9_-]*)(?:=(.+))?", re.DOTALL)
_EMPTY = frozenset({"", "null", "~", "none", "true", "false", "yes", "no", "on", "off", "{}", "[]"})


@dataclasses.dataclass(frozen=True)
class Policy:
    """Which values are secret."""

    scanner: Scanner
    keys: tuple[str, ...] = ()
    plain_keys: tuple[str, ...] = ()

    @classmethod
    def of(cls, profile: Mapping[str, Any], scanner: Scanner) -> Policy:
        """The policy of a profile."""
        secrets = profile.get("secrets", {})
        return cls(scanner, tuple(secrets.get("keys", ())), tuple(secrets.get("plain_keys", ())))

    def container(self, key: str) -> bool:
        """Whether everything below a key is secret."""
        if any(fnmatch.fnmatchcase(key, pattern) for pattern in self.plain_keys):
            return False
        return key.lower() in CONTAINERS or suspicious(key, self.keys, self.plain_keys)

    def secret(self, path: Sequence[str], value: str, after: str = "") -> bool:
        """Whether the value at a path of keys has to go; `after` is the list item before it."""
        plain = self.shorn(value).strip()
        if plain.lower() in _EMPTY or plain == MARKER or _REFERENCE.fullmatch(plain):
            return False
        if self.scanner.hits(plain) or _BEARER.fullmatch(plain) or self._option(plain, after):
            return True
        named = [key for key in path if key and not key.isdigit()]
        if any(fnmatch.fnmatchcase(named[-1], p) for p in self.plain_keys) if named else False:
            return False
        if named and suspicious(named[-1], self.keys, self.plain_keys):
            return True
        if named and key_name(named[-1]) and _RANDOM.fullmatch(plain):
            return True
        if _DOLLAR_WORD.fullmatch(plain):
            return False
        return any(self.container(key) for key in named[:-1]) or (
            bool(named) and named[-1].lower() in CONTAINERS
        )

    def shorn(self, value: str) -> str:
        """A value without the secrets in the queries of its URLs."""
        return _QUERY.sub(self._shear, value) if "://" in value else value

    def _shear(self, match: re.Match[str]) -> str:
        name, value = match.group("name"), match.group("value")
        named = name.lower() in _QUERY_NAMES or suspicious(name, self.keys, self.plain_keys)
        if not named or _REFERENCE.fullmatch(value):
            return match.group(0)
        return match.group("start") + MARKER

    def _option(self, value: str, after: str) -> bool:
        """An argument of a command: --token=VALUE, VALUE after --token, or a header after -H."""
        option, equals, rest = value.partition("=")
        if equals and option in _HEADER_OPTIONS:
            return self._option(rest, option)
        header = _HEADER.fullmatch(value) if after.strip() in _HEADER_OPTIONS else None
        if header:
            return suspicious(header.group(1), self.keys, self.plain_keys)
        match = _OPTION.fullmatch(value)
        if match:
            return bool(match.group(2)) and suspicious(match.group(1), self.keys, self.plain_keys)
        before = _OPTION.fullmatch(after.strip())
        return bool(before and not before.group(2)) and suspicious(
            before.group(1) if before else "", self.keys, self.plain_keys
        )


class Siblings:
    """The names that a mapping gives to its value, {name: API_KEY, value: ...}, in any order.

    A text is read twice: whatever comes after a value is known the second time.
    """

    def __init__(self) -> None:
        self._names: dict[Hashable, dict[str, str]] = {}

    def secret(
        self, policy: Policy, where: Hashable, path: Sequence[str], value: str, after: str = ""
    ) -> bool:
        """As `Policy.secret`, by these names; `where` tells one mapping from another."""
        last = path[-1].lower() if path else ""
        if last in ("name", "key", "variable"):
            self._names.setdefault(where, {})[last] = value
        names = self._names.get(where, {}).values() if last == "value" else ()
        paths = [[*path[:-1], name] for name in names] or [list(path)]
        return any(policy.secret(judged, value, after) for judged in paths)


def scrub(path: str, text: str, policy: Policy) -> Scrubbed:
    """The text of a file without its secrets; the format is told from the name."""
    from .scrub_json import scrub_json
    from .scrub_toml import scrub_toml
    from .scrub_yaml import scrub_yaml

    name = path.rpartition("/")[2].lower()
    if name.endswith((".json", ".jsonc", ".json5")):
        result = scrub_json(text, policy)
    elif name.endswith((".yaml", ".yml")):
        result = scrub_yaml(text, policy)
    elif name.endswith(".toml"):
        result = scrub_toml(text, policy)
    elif ".env" in name:
        result = scrub_environment(text, policy)
    else:
        raise ScrubError("no scrubber for files of this kind")
    left = policy.scanner.scan(result.text.encode("utf-8", "surrogateescape"))
    if left:
        raise ScrubError(f"line {left[0].line} still looks like a secret ({left[0].rule})")
    return result


_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*=\s*(.*)")


def parse_environment(text: str) -> list[tuple[str, str]]:
    """Names and values of a .env file, quotes taken off."""
    pairs = []
    for line in text.splitlines():
        match = _ASSIGNMENT.fullmatch(line)
        if match:
            value = match.group(2).strip()
            if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
                value = value[1:-1]
            pairs.append((match.group(1), value))
    return pairs


def export_environment(text: str, policy: Policy, exported: Sequence[str]) -> dict[str, Any]:
    """All names of a .env file, and the values of those that the profile calls harmless."""
    names: list[str] = []
    values: dict[str, str] = {}
    for name, value in parse_environment(text):
        names.append(name)
        if any(
            fnmatch.fnmatchcase(name, pattern) for pattern in exported
        ) and not policy.scanner.hits(value):
            values[name] = value
    return {"names": sorted(set(names)), "values": values}


def scrub_environment(text: str, policy: Policy) -> Scrubbed:
    """KEY=VALUE lines."""
    lines, keys = [], []
    for line in text.splitlines(keepends=True):
        match = _ASSIGNMENT.match(line.rstrip("\r\n"))
        if match and policy.secret([match.group(1)], match.group(2).strip("\"'")):
            ending = line[len(line.rstrip("\r\n")) :]
            line = line[: match.start(2)] + MARKER + ending
            keys.append(match.group(1))
        elif match and policy.shorn(line) != line:
            line = policy.shorn(line)
            keys.append(match.group(1))
        elif line.lstrip().startswith("#"):
            line = policy.scanner.redact(line)
        lines.append(line)
    return Scrubbed("".join(lines), tuple(keys))
