# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wall time of `lifeboat backup` over that of raw `borg create` of the same bytes.

python3 bench/backup_time.py [--files 50000] [--database 1000] [--rounds 2]
First and unchanged, in turns; bars 1.15 and 1.25. On a small home (300 files, 5 MB): at most 2 s
more.
"""

from __future__ import annotations

import os
import shutil
import statistics
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

Runs = dict[str, list[Measured]]
SIDES = ["raw", "lifeboat"]


def make_home(home: Path, files: int, megabytes: float) -> None:
    """A home of a known size."""
    home.mkdir()
    make_sessions(home, files)
    make_database(home / "state.db", megabytes)
    finish_home(home)


def compare(work: Path, home: Path, borg: str, rounds: int) -> dict[str, Runs]:
    """Both sides on one home, in turns, a fresh repository for each round."""
    runs: dict[str, Runs] = {night: {side: [] for side in SIDES} for night in ("first", "later")}
    for number in range(rounds):
        place = work / f"round{number}"
        raw, own = Repository(place / "raw", borg), Repository(place / "own", borg)
        lifeboat = Lifeboat(place / "lifeboat", home, own)
        for again in range(4):
            for side in SIDES if (number + again) % 2 == 0 else reversed(SIDES):
                os.sync()
                name = f"archive{again}"
                one = raw.create(name, home, FIXED) if side == "raw" else lifeboat.backup()
                # The newest file of a set is cached from the second run on.
                night = {0: "first", 1: "second"}.get(again, "later")
                print(f"{night:<7} {side:<9} {one}", flush=True)
                if night in runs:
                    runs[night][side].append(one)
        shutil.rmtree(place)
    return runs


def summary(title: str, runs: Runs) -> float:
    """Everything beside the ratio; returns how many seconds more ours took."""
    walls = {side: statistics.median(run.wall for run in runs[side]) for side in SIDES}
    cpus = {side: statistics.median(run.cpu for run in runs[side]) for side in SIDES}
    tops = {side: max(run.memory for run in runs[side]) for side in SIDES}
    more = walls["lifeboat"] - walls["raw"]
    print(
        f"  {title}: {walls['lifeboat']:.2f} s, raw {walls['raw']:.2f} s ({more:+.2f} s); CPU "
        f"{cpus['lifeboat']:.2f} s, raw {cpus['raw']:.2f} s "
        f"(ratio {cpus['lifeboat'] / cpus['raw']:.2f}); largest process "
        f"{tops['lifeboat'] / 1000:.0f} MB, raw {tops['raw'] / 1000:.0f} MB"
    )
    return more


def main() -> int:
    """Print every measurement and the ratios."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=50000)
    parser.add_argument("--database", type=float, default=1000, help="MB")
    parser.add_argument("--home", type=Path, help="an existing home instead of the large one")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    good = []
    with workplace(options) as work:
        large, small = options.home or work / "large", work / "small"
        if options.home is None:
            make_home(large, options.files, options.database)
        make_home(small, 300, 5)
        runs = compare(work, large, options.borg, options.rounds)
        for title, night, limit in (("first", "first", 1.15), ("unchanged", "later", 1.25)):
            walls = {side: [run.wall for run in runs[night][side]] for side in SIDES}
            name = f"wall, large home, {title}"
            good.append(ratio(name, walls["lifeboat"], walls["raw"], limit))
            summary(title, runs[night])
        runs = compare(work, small, options.borg, options.rounds)
        for night in runs:
            more = summary(f"small home, {night}", runs[night])
            good.append(more <= 2)
            print(f"  (bar +2.00 s) {'ok' if good[-1] else 'MISSED'}")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
