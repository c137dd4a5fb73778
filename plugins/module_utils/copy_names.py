# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of copies: what editors, programs and people call a second edition of a file."""

from __future__ import annotations

import re
from collections.abc import Iterator

_WORD = r"(?:old|backup|bak|copy|orig|original|tmp|temp|save|saved|prev|previous|new|[0-9]+)"
_EDITION = rf"(?:[-_. ]+{_WORD}|[-_. ]*\({_WORD}\))+"
_COPIES = (
    re.compile(r"(?s)(.+)~"),
    re.compile(r"(?s)#(.+)#"),
    re.compile(r"(?s)\.#(.+)"),
    re.compile(r"(?s)\.(.+)\.[^.]+"),
    re.compile(rf"(?si)(?:copy of |{_WORD}[-_. ]+)(.+)"),
    re.compile(rf"(?si)(.+?){_EDITION}"),
)
_BEFORE_EXTENSION = re.compile(rf"(?si)(.+?){_EDITION}(\.[^.]+)")
_LONGEST = 255


def originals(name: str) -> Iterator[str]:
    """What a file may be a copy of, by its name; the name itself is not among them."""
    seen = {name}
    waiting = [name[:_LONGEST]]
    while waiting:
        for original in _one_step(waiting.pop()):
            if original not in seen:
                seen.add(original)
                waiting.append(original)
                yield original


def _one_step(name: str) -> Iterator[str]:
    for pattern in _COPIES:
        match = pattern.fullmatch(name)
        if match:
            yield match.group(1)
    match = _BEFORE_EXTENSION.fullmatch(name)
    if match:
        yield match.group(1) + match.group(2)
    stem, dot, _suffix = name.rpartition(".")
    if dot and stem:
        yield stem
