# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Profiles: what each entry of an agent's home is. Data, checked here once; see docs/profiles.md.

YAML is read on the controller, where PyYAML exists; a box gets the checked result as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

FORMAT = 1
KEEP, SCRUB, DROP, RUNTIME, SECRET, UNKNOWN = (
    "keep",
    "scrub",
    "drop",
    "runtime",
    "secret",
    "unknown",
)
CLASSES = (KEEP, SCRUB, DROP, RUNTIME, SECRET)
ARCHIVED = frozenset({KEEP, SCRUB})

_MAPPING, _SEQUENCE, _TEXT = "a mapping", "a list", "text"
_KEYS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "format": (int, "1"),
    "name": (str, _TEXT),
    "description": (str, _TEXT),
    "checked_versions": (list, _SEQUENCE),
    "sources": (list, _SEQUENCE),
    "home_default": (str, _TEXT),
    "rules": (list, _SEQUENCE),
    "nested_homes": (list, _SEQUENCE),
    "version": (dict, _MAPPING),
    "secrets": (dict, _MAPPING),
    "databases": (dict, _MAPPING),
    "outside": (list, _SEQUENCE),
    "export": (dict, _MAPPING),
    "health": (dict, _MAPPING),
    "pairing": (dict, _MAPPING),
    "install": (dict, _MAPPING),
}
_EXPORT_KEYS = frozenset(
    {
        "required",
        "reason",
        "hint",
        "executable",
        "environment",
        "commands",
        "expect",
        "expect_each",
        "skip",
        "timeout",
    }
)
_RULE_KEYS = frozenset({"match", "at", "class", "hash", "note"})
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")


class ProfileError(ValueError):
    """A profile that cannot be used; says which key of which rule."""


def load(
    data: str | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A checked profile with one pattern per rule, the overrides' rules in front of its own.

    `data` is the decoded YAML, or its text (needs PyYAML). `overrides` has the same keys:
    lists come in front (rules, nested_homes, outside) or replace, mappings are merged.
    """
    if isinstance(data, str):
        import yaml  # on the controller only

        data = yaml.safe_load(data)
    if not isinstance(data, Mapping):
        raise ProfileError("a profile is a mapping with the keys name and rules")
    profile = _check(dict(data), "profile")
    if overrides:
        if not isinstance(overrides, Mapping):
            raise ProfileError("overrides of a profile are a mapping, such as {rules: [...]}")
        profile = _merge(profile, _check(dict(overrides), "overrides", partial=True))
    profile["rules"] = list(_single(profile["rules"]))
    return profile


def _check(data: dict[str, Any], where: str, *, partial: bool = False) -> dict[str, Any]:
    for key, value in data.items():
        if key not in _KEYS:
            raise ProfileError(f"{where}: unknown key {key!r}; known: {', '.join(sorted(_KEYS))}")
        kind, text = _KEYS[key]
        if not isinstance(value, kind):
            raise ProfileError(f"{where}: {key} must be {text}")
    if not partial:
        if data.get("format") != FORMAT:
            raise ProfileError(f"{where}: format must be {FORMAT}")
        if not _NAME.match(str(data.get("name", ""))):
            raise ProfileError(f"{where}: name must be lower case letters, digits and dashes")
        if not data.get("rules"):
            raise ProfileError(f"{where}: no rules")
    for number, rule in enumerate(data.get("rules", [])):
        _check_rule(rule, f"{where}: rules[{number}]")
    for pattern in data.get("nested_homes", []):
        _check_pattern(pattern, f"{where}: nested_homes")
    _check_secrets(data.get("secrets", {}), f"{where}: secrets")
    _check_export(data.get("export", {}), f"{where}: export")
    return data


def _check_rule(rule: Any, where: str) -> None:
    if not isinstance(rule, Mapping):
        raise ProfileError(f"{where}: a rule is a mapping with match and class")
    unknown = sorted(set(rule) - _RULE_KEYS)
    if unknown:
        raise ProfileError(f"{where}: unknown key {unknown[0]!r}; known: {sorted(_RULE_KEYS)}")
    patterns = rule.get("match")
    for pattern in patterns if isinstance(patterns, Sequence) and patterns else [None]:
        if not isinstance(patterns, str):
            _check_pattern(pattern, where)
    if isinstance(patterns, str):
        _check_pattern(patterns, where)
    if rule.get("class") not in CLASSES:
        raise ProfileError(f"{where}: class is {rule.get('class')!r}, one of {', '.join(CLASSES)}")
    if rule.get("at", "root") not in ("root", "any"):
        raise ProfileError(f"{where}: at is {rule['at']!r}, one of root, any")
    if not isinstance(rule.get("hash", True), bool):
        raise ProfileError(f"{where}: hash must be true or false")


def _check_pattern(pattern: Any, where: str) -> None:
    if not isinstance(pattern, str) or not pattern.strip("/"):
        raise ProfileError(f"{where}: match must be a pattern or a list of patterns")
    if pattern.startswith("/") or any(
        part in ("", ".", "..") for part in pattern.rstrip("/").split("/")
    ):
        raise ProfileError(f"{where}: {pattern!r} is not a path relative to the home")


def _check_secrets(secrets: Mapping[str, Any], where: str) -> None:
    known = {"keys", "plain_keys", "environment", "files"}
    for key, value in secrets.items():
        if key not in known:
            raise ProfileError(f"{where}: unknown key {key!r}; known: {', '.join(sorted(known))}")
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ProfileError(f"{where}: {key} must be a list of patterns")


def _check_export(export: Mapping[str, Any], where: str) -> None:
    if not export:
        return
    unknown = sorted(set(export) - _EXPORT_KEYS)
    if unknown:
        raise ProfileError(f"{where}: unknown key {unknown[0]!r}; known: {sorted(_EXPORT_KEYS)}")
    commands = export.get("commands")
    if not isinstance(commands, list) or not all(isinstance(c, list) and c for c in commands):
        raise ProfileError(f"{where}: commands must be a list of commands, each a list of words")
    for key in ("environment", "expect_each"):
        pairs = export.get(key, {})
        if not isinstance(pairs, dict) or not all(isinstance(v, str) for v in pairs.values()):
            raise ProfileError(f"{where}: {key} must be a mapping of texts")
    for found, wanted in export.get("expect_each", {}).items():
        if found.count("*") != 1 or wanted.count("*") != 1:
            raise ProfileError(f"{where}: expect_each: one * in {found!r} and one in {wanted!r}")
    if not export.get("reason"):
        raise ProfileError(f"{where}: reason must say why rules are not enough")


def _single(rules: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One rule per pattern, order kept: what a box gets."""
    result = []
    for rule in rules:
        match = rule["match"]
        for pattern in [match] if isinstance(match, str) else match:
            result.append({**rule, "match": pattern, "at": rule.get("at", "root")})
    return result


def _merge(profile: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    merged = dict(profile)
    for key, value in overrides.items():
        if key in ("rules", "nested_homes", "outside"):
            merged[key] = [*value, *profile.get(key, [])]
        elif isinstance(value, dict):
            merged[key] = _merge_mapping(profile.get(key, {}), value)
        else:
            merged[key] = value
    return merged


def _merge_mapping(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in extra.items():
        if isinstance(value, list) and isinstance(merged.get(key), list):
            merged[key] = [*value, *merged[key]]
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge_mapping(merged[key], value)
        else:
            merged[key] = value
    return merged
