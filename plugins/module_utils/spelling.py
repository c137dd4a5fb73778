# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that nobody reads, because they are misspelt: with them a run does something else.

Only resemblance is judged. A name that resembles none is somebody else's, and none of our business.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

_ALIKE = 0.8
_LONGER = 2  # repository_root is no misspelt repository
_SHORT = 4  # shorter names resemble too much


def misspelt(given: Iterable[str], known: Collection[str]) -> list[tuple[str, str]]:
    """Names that resemble a known one and are none, each with the one that must be meant."""
    found = []
    long = [name for name in known if len(name) >= _SHORT]
    for name in given:
        if name in known:
            continue
        plain = name.lower().replace("-", "_")
        near = difflib.get_close_matches(plain, long, n=1, cutoff=_ALIKE)
        if near and abs(len(near[0]) - len(name)) <= _LONGER:
            found.append((name, near[0]))
    return found
