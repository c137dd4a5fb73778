# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which part of the data is to be read tonight, and whether all of it was read in time.

A segment belongs to the part that its number leaves when divided by the number of parts.
The part that waited longest comes next, so a night that was missed is made up for by the
next one and not a whole round later. Nights that are missed again and again are a problem
that the status names.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from math import gcd
from typing import Any

from .ledger import View, moment

SLACK = timedelta(days=7)


@dataclass(frozen=True)
class Reading:
    """How the reading of the data stands."""

    part: int  # the one to be read next
    parts: int
    read: str | None  # when that part was read last; None where the ledger knows of no reading
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def last_read(known: View, part: int, parts: int) -> str | None:
    """When a part was read last, by this number of parts or by another one that covers it."""
    found = []
    for former, times in known.readings.items():
        step = gcd(former, parts)
        covering = range(part % step, former, step)
        if all(one in times for one in covering):
            found.append(min(times[one] for one in covering))
    return max(found, default=None)


def reading(known: View, parts: int, *, now: datetime) -> Reading:
    """The part that waited longest, and a problem when it waited too long."""
    if parts < 1:
        raise ValueError(f"the data cannot be read in {parts} parts: one is the least")
    read, part = min((last_read(known, one, parts) or "", one) for one in range(parts))
    return Reading(part, parts, read or None, _problems(known, read, parts, now))


def _problems(known: View, read: str, parts: int, now: datetime) -> list[str]:
    since = read or known.began
    if since is None or now - moment(since) <= timedelta(days=parts) + SLACK:
        return []
    told = f"was last read {read}" if read else f"was not read since the ledger began {since}"
    return [f"a part of the data {told}: one of {parts} is read each night of custody"]
