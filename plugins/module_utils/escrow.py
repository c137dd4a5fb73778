# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must outlive a box: the decisions about the escrow file of one agent.

Encryption and files are the business of the action plugin; here is only what may change and
what must not. A passphrase, a key or a repository id that differs from the escrowed one is
refused: it is either a mistake or an attack, and overwriting it would lose the history.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

FORMAT = 1
IDENTITY = ("passphrase", "key", "repository_id")


class EscrowError(Exception):
    """The escrow cannot be read, or must not be changed like that."""


def new_passphrase() -> str:
    """256 bits, in characters that survive every shell, form and telephone."""
    return secrets.token_urlsafe(32)


def empty(agent: str) -> dict[str, Any]:
    """Begin the escrow of an agent."""
    return {"format": FORMAT, "agent": agent, "repositories": {}, "environment": {}}


def check(escrow: Any, agent: str, where: str) -> dict[str, Any]:
    """Take the content of an escrow file only when it is one, and this agent's."""
    if not isinstance(escrow, Mapping):
        raise EscrowError(
            f"{where} holds no lifeboat_escrow. Restore the file from its own backup."
        )
    if escrow.get("format") != FORMAT:
        raise EscrowError(
            f"{where} has format {escrow.get('format')!r}, this version reads format {FORMAT}."
        )
    if escrow.get("agent") != agent:
        raise EscrowError(
            f"{where} belongs to agent {escrow.get('agent')!r}, not to {agent!r}. "
            "Was the file renamed or copied?"
        )
    return copy.deepcopy(dict(escrow))


def merge(
    current: Mapping[str, Any],
    data: Mapping[str, Any],
    *,
    generate: Iterable[str] = (),
    replace: bool = False,
    passphrase: Callable[[], str] = new_passphrase,
) -> dict[str, Any]:
    """Return the escrow as it has to be; what the given data does not name stays."""
    if not replace:
        _refuse_other_identity(current, data)
    merged: dict[str, Any] = plain(_deep(current, data))
    repositories = merged.setdefault("repositories", {})
    for name in generate:
        repository = repositories.setdefault(str(name), {})
        if not repository.get("passphrase"):
            if repository.get("key"):
                raise EscrowError(
                    f"The escrow has a key of repository {name} but no passphrase: a new one "
                    "could not open it. Put the old passphrase back into the escrow file."
                )
            repository["passphrase"] = passphrase()
    return merged


def changed_fields(before: Mapping[str, Any], after: Mapping[str, Any], at: str = "") -> list[str]:
    """Name what differs, without any value: names may be shown, values may not."""
    fields: list[str] = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        place = f"{at}.{key}" if at else str(key)
        if isinstance(old, Mapping) or isinstance(new, Mapping):
            fields += changed_fields(_mapping(old), _mapping(new), place)
        elif old != new:
            fields.append(place)
    return fields


def _refuse_other_identity(current: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    escrowed = _mapping(current.get("repositories"))
    for name, given in _mapping(data.get("repositories")).items():
        known = _mapping(escrowed.get(name))
        for field in IDENTITY:
            new, old = given.get(field), known.get(field)
            if new and old and str(new).strip() != str(old).strip():
                raise EscrowError(
                    f"The {field} of repository {name} differs from the escrowed one. Nothing was "
                    "changed. If the repository was really begun anew, say so with replace=true: "
                    "the old history can then not be opened with this file any more."
                )


def plain(value: Any) -> Any:
    """Strip what Ansible hangs on to values: only plain JSON types go into the file."""
    if isinstance(value, Mapping):
        return {str.__str__(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return str.__str__(value)
    if value is None or isinstance(value, bool):
        return value
    return int(value) if isinstance(value, int) else float(value)


def _deep(current: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(current))
    for key, value in data.items():
        if isinstance(value, Mapping):
            merged[key] = _deep(_mapping(merged.get(key)), value)
        elif value is not None:
            merged[key] = copy.deepcopy(value)
    return merged


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
