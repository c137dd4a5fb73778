# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new passphrase for a repository's key, and the key on paper.

In keyfile mode the repository does not know the passphrase: it protects the key file alone. So
a new pair of key file and passphrase is made in the private folder of a session, proven to open
the repository, and handed to the vault before any box hears of it; the former pair goes on to
open the repository as well. Rotation therefore protects a passphrase that was seen, not a key
that was copied together with it: against that only a new repository helps.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import borg
from .restore_manifest import RestoreError
from .restore_session import EscrowedAccess, Session, session


@dataclass(frozen=True)
class Pair:
    """A key file's text and the passphrase that opens it."""

    passphrase: str = field(repr=False)
    key: str = field(repr=False)


@dataclass(frozen=True)
class Paper:
    """The key as borg prints it: lines with checksums to type, and a page with a QR code."""

    text: str = field(repr=False)
    page: str = field(repr=False)


class KeyBorg(borg.Borg):
    """The two subcommands that only this module needs."""

    def change_passphrase(self) -> None:
        """The new one comes by BORG_NEW_PASSPHRASE."""
        self._call("key", ["change-passphrase", self._access.url])

    def export_paper(self, path: str) -> None:
        self._call("key", ["export", "--paper", self._access.url, path])

    def export_page(self, path: str) -> None:
        self._call("key", ["export", "--qr-html", self._access.url, path])


def rotate(access: EscrowedAccess, **options: Any) -> Pair:
    """A new pair that has been proven to open the repository. Nothing else has changed."""
    passphrase = secrets.token_urlsafe(32)
    with session(access, **options) as opened:
        _same_repository(opened, access)
        with _borg(opened, {"BORG_NEW_PASSPHRASE": passphrase}) as changing:
            changing.change_passphrase()
        key = Path(opened.folder, "keys/key").read_text(encoding="utf-8")
    pair = Pair(passphrase, key)
    if key == access.key:
        raise RestoreError("borg left the key as it was.", "Nothing was changed; see its version.")
    with session(replace(access, passphrase=pair.passphrase, key=pair.key), **options) as opened:
        _same_repository(opened, access)
    return pair


def paper(access: EscrowedAccess, **options: Any) -> Paper:
    """The escrowed key in the two forms that survive without a computer."""
    with session(access, **options) as opened:
        _same_repository(opened, access)
        text, page = f"{opened.folder}/base/key.txt", f"{opened.folder}/base/key.html"
        with _borg(opened, {}) as exporting:
            exporting.export_paper(text)
            exporting.export_page(page)
        return Paper(Path(text).read_text("utf-8"), Path(page).read_text("utf-8"))


def _same_repository(opened: Session, access: EscrowedAccess) -> None:
    opened.archives()  # refuses another repository at the same address


@contextlib.contextmanager
def _borg(opened: Session, extra: dict[str, str]) -> Iterator[KeyBorg]:
    with opened.errors():
        yield opened.client(KeyBorg, extra=extra)
