# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what the vault holds of a repository is complete and fits together, told without a network.

The key file that borg keeps is a small msgpack map, encrypted by a key that is stretched from the
passphrase, with a keyed hash that tells whether it was the right one. So whoever has both parts can
be sure, at once and anywhere, that they are a pair, and of which repository.

Not guaranteed: that the repository is there and stores what it should. playbooks/escrow.yml, a
drill and each night of custody open it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any

WRONG = (
    "the passphrase does not open the key: one of the two is from before a rotation, or was typed. "
    "Look for another copy of the vault file; as long as the box lives, it has what is right"
)
_MOST_ITERATIONS = 10_000_000


class _Unreadable(Exception):
    """It is not a key file."""


def all_problems(escrow: Mapping[str, Any]) -> dict[str, list[str]]:
    """For each repository of an escrow what keeps it from being opened."""
    repositories = escrow.get("repositories") or {}
    return {str(name): problems(held or {}) for name, held in repositories.items()}


def unfit(escrow: Mapping[str, Any]) -> list[str]:
    """Repositories whose key is not opened by the passphrase: a box must not be given that pair."""
    return [name for name, found in all_problems(escrow).items() if WRONG in found]


def problems(repository: Mapping[str, Any]) -> list[str]:
    """What keeps one repository's part of an escrow from opening it; empty when nothing does."""
    found = [
        f"the {name.replace('_', ' ')} is missing"
        for name in ("passphrase", "key", "repository_id", "url")
        if not repository.get(name)
    ]
    if str(repository.get("url") or "").startswith("ssh://") and not repository.get("host_keys"):
        found.append("the host keys are missing")
    pair = [repository.get(name) for name in ("key", "passphrase", "repository_id")]
    return found + (_key_problems(*map(str, pair)) if all(pair) else [])


def _key_problems(key: str, passphrase: str, repository_id: str) -> list[str]:
    match = re.match(r"BORG_KEY ([0-9a-f]{64})\n(.+)", key, re.DOTALL)
    if not match:
        return ["the key is not a key export of borg"]
    if match.group(1) != repository_id:
        return ["the key is not the one of the pinned repository id"]
    try:
        content = _decrypt(base64.b64decode("".join(match.group(2).split())), passphrase)
        if content is None:
            return [WRONG]
        belongs_to = _map_of(content).get("repository_id")
    except (_Unreadable, binascii.Error, IndexError):
        return ["the key is damaged: it cannot be read"]
    if belongs_to != bytes.fromhex(repository_id):
        return ["the key belongs to another repository than it says"]
    return []


def _decrypt(data: bytes, passphrase: str) -> bytes | None:
    """What the key file protects; None when the passphrase is not the one."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # the controller's

    fields = _map_of(data)
    if fields.get("algorithm") != b"sha256":
        raise _Unreadable
    salt, rounds, sealed, digest = (
        fields.get(key) for key in ("salt", "iterations", "data", "hash")
    )
    if not (isinstance(salt, bytes) and isinstance(sealed, bytes) and isinstance(digest, bytes)):
        raise _Unreadable
    if not isinstance(rounds, int) or not 0 < rounds <= _MOST_ITERATIONS:
        raise _Unreadable
    key = hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, rounds, 32)
    cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).decryptor()
    content: bytes = cipher.update(sealed) + cipher.finalize()
    right = hmac.compare_digest(hmac.new(key, content, hashlib.sha256).digest(), digest)
    return content if right else None


def _map_of(data: bytes) -> dict[str, Any]:
    found, _end = _unpack(data, 0)
    if not isinstance(found, dict):
        raise _Unreadable
    return found


def _unpack(data: bytes, at: int) -> tuple[Any, int]:
    """One value of msgpack and where it ends: as much of the format as key files use."""
    kind = data[at]
    at += 1
    if kind < 0x80:
        return kind, at
    if kind < 0x90:
        return _map(data, at, kind & 0x0F)
    if 0xA0 <= kind < 0xC0:
        return _take(data, at, kind & 0x1F)
    if kind in _LENGTHS:
        end = at + _LENGTHS[kind]
        return _take(data, end, int.from_bytes(data[at:end], "big"))
    if kind in _NUMBERS:
        width, signed = _NUMBERS[kind]
        return int.from_bytes(data[at : at + width], "big", signed=signed), at + width
    if kind in _WORDS:
        return _WORDS[kind], at
    if kind >= 0xE0:
        return kind - 0x100, at
    raise _Unreadable


_WORDS = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {
    **{0xCC + power: (1 << power, False) for power in range(4)},
    **{0xD0 + power: (1 << power, True) for power in range(4)},
}
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}


def _map(data: bytes, at: int, count: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    for _number in range(count):
        key, at = _unpack(data, at)
        value, at = _unpack(data, at)
        if not isinstance(key, bytes):
            raise _Unreadable
        found[key.decode("ascii", "replace")] = value
    return found, at


def _take(data: bytes, at: int, length: int) -> tuple[bytes, int]:
    """Text and bytes alike: borg's format is from before msgpack told them apart."""
    part = data[at : at + length]
    if len(part) != length:
        raise _Unreadable
    return part, at + length
