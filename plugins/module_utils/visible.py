# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines for people, in which a name is never more than a part of its line."""

from __future__ import annotations

from collections.abc import Iterable


def visible(text: str) -> str:
    """One line: what would end it, command a terminal or hide is escaped."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def joined(lines: Iterable[str]) -> str:
    """Lines as a text that has as many of them."""
    return "\n".join(map(visible, lines))
