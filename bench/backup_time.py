# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wall time of `lifeboat backup` over that of raw `borg create` of the same bytes.

python3 bench/backup_time.py [--files 50000] [--database 1000] [--rounds 3]
First and unchanged, each alternating; bars 1.15 and 1.25. On a small home: at most 2 s more.
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


def pair(work: Path, home: Path, borg: str, number: int) -> tuple[Repository, Lifeboat]:
    """A fresh repository for each side."""
    raw = Repository(work / f"raw{number}", borg)
    ours = Repository(work / f"ours{number}", borg)
    return raw, Lifeboat(work / f"lifeboat{number}", home, ours)


def main() -> int:
    """Print every measurement and the ratios."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=50000)
    parser.add_argument("--database", type=float, default=1000, help="MB")
    parser.add_argument("--home", type=Path, help="an existing home instead of a made one")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with workplace(options) as work:
        home = options.home or work / "home"
        if options.home is None:
            home.mkdir()
            make_sessions(home, options.files)
            make_database(home / "state.db", options.database)
            finish_home(home)
        first: dict[str, list[Measured]] = {"raw": [], "ours": []}
        later: dict[str, list[Measured]] = {"raw": [], "ours": []}
        for number in range(options.rounds):
            raw, lifeboat = pair(work, home, options.borg, number)
            os.sync()
            sides = ["raw", "ours"] if number % 2 == 0 else ["ours", "raw"]
            for side in sides:
                one = raw.create("first", home, FIXED) if side == "raw" else lifeboat.backup()
                first[side].append(one)
                print(f"first     {side:<5} {one}", flush=True)
                os.sync()
            for again in range(3):
                for side in sides:
                    name = f"unchanged{again}"
                    one = raw.create(name, home, FIXED) if side == "raw" else lifeboat.backup()
                    if again:  # the newest file of a set is cached from the second run on
                        later[side].append(one)
                        print(f"unchanged {side:<5} {one}", flush=True)
            for name in (f"raw{number}", f"ours{number}", f"lifeboat{number}"):
                shutil.rmtree(work / name)
        good = []
        for title, runs, limit in (("first", first, 1.15), ("unchanged", later, 1.25)):
            walls = {side: [run.wall for run in runs[side]] for side in runs}
            good.append(ratio(f"wall, {title}", walls["ours"], walls["raw"], limit))
            cpus = {side: statistics.median(run.cpu for run in runs[side]) for side in runs}
            tops = {side: max(run.memory for run in runs[side]) for side in runs}
            more = statistics.median(walls["ours"]) - statistics.median(walls["raw"])
            print(
                f"  {more:+.2f} s; CPU {cpus['ours']:.2f} against {cpus['raw']:.2f} s; largest "
                f"process {tops['ours'] / 1000:.0f} against {tops['raw'] / 1000:.0f} MB"
            )
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
