# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How wall time, CPU and memory of a backup grow with the home.

python3 bench/growth.py [--files 1000,10000,50000,200000] [--databases 100,1000,5000]
First and unchanged, lifeboat and raw borg on the same bytes; a line per size. The bar: on the home
with the most files, and on that with the largest database, an unchanged night takes at most 1.5
times as long as raw borg's. It means something for large homes only.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from common import (
    FIXED,
    Lifeboat,
    Measured,
    Repository,
    arguments,
    finish_home,
    make_database,
    make_sessions,
    ratio,
    workplace,
)

UNCHANGED = 1.5


def numbers(text: str) -> list[int]:
    """A list as 1,2,3."""
    return [int(part) for part in text.split(",") if part]


def line(title: str, side: str, first: Measured, later: Measured) -> None:
    """One measurement."""
    print(
        f"{title:>24} {side:<9} first {first.wall:7.2f} s, {first.cpu:7.2f} s CPU, {first.memory / 1000:5.0f} MB; "
        f"unchanged {later.wall:7.2f} s, {later.cpu:7.2f} s CPU, {later.memory / 1000:5.0f} MB",
        flush=True,
    )


def one(work: Path, title: str, borg: str, files: int, megabytes: int) -> dict[str, list[Measured]]:
    """Both sides on one home; the runs of each."""
    home = work / "home"
    home.mkdir()
    make_sessions(home, files)
    if megabytes:
        make_database(home / "state.db", megabytes)
    finish_home(home)
    os.sync()
    raw, own = Repository(work / "raw", borg), Repository(work / "own", borg)
    lifeboat = Lifeboat(work / "lifeboat", home, own)
    runs: dict[str, list[Measured]] = {"raw": [], "lifeboat": []}
    for number in range(3):
        for side in sorted(runs, reverse=bool(number % 2)):
            os.sync()
            runs[side].append(
                raw.create(str(number), home, FIXED) if side == "raw" else lifeboat.backup()
            )
    for side, found in runs.items():
        line(title, side, found[0], found[2])
    ours, theirs = runs["lifeboat"], runs["raw"]
    print(
        f"{title:>24} ratio     first {ours[0].wall / theirs[0].wall:.2f}, "
        f"unchanged {ours[2].wall / theirs[2].wall:.2f}",
        flush=True,
    )
    for name in ("home", "raw", "own", "lifeboat"):
        shutil.rmtree(work / name)
    return runs


def holds(title: str, runs: dict[str, list[Measured]]) -> bool:
    """The bar, on the later of two unchanged nights."""
    ours, theirs = ([runs[side][2].wall] for side in ("lifeboat", "raw"))
    return ratio(f"wall, {title}, unchanged", ours, theirs, UNCHANGED)


def main() -> int:
    """Grow the one, then the other."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--files", type=numbers, default=[1000, 10000, 50000, 200000])
    parser.add_argument("--databases", type=numbers, default=[100, 1000, 5000], help="MB")
    options = parser.parse_args()
    with workplace(options) as work:
        good = []
        for count in options.files:
            title = f"{count} files"
            runs = one(work, title, options.borg, count, 0)
            if count == max(options.files):
                good.append(holds(title, runs))
        for megabytes in options.databases:
            title = f"{megabytes} MB of database"
            runs = one(work, title, options.borg, 100, megabytes)
            if megabytes == max(options.databases):
                good.append(holds(title, runs))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
