# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes that a night of the reference change stores, beside borg's default chunker.

python3 bench/stored_bytes.py [--megabytes 236] [--files 2000] [--nights 3]
A state.db with a full-text index and session files; a night is 200 inserts and 20 updates, other
ones every night. Bar: ours at most 1/20 of what borg stores with its default chunker.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import sys
from collections.abc import Callable

from common import (
    FIXED,
    Lifeboat,
    Repository,
    a_night,
    arguments,
    finish_home,
    make_database,
    make_sessions,
    workplace,
)

DEFAULT, FIXED_CHUNKS, OURS = "raw borg, default chunker", "raw borg, fixed,32768", "lifeboat"


def main() -> int:
    """Each night, then the medians and the ratio."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=236)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--nights", type=int, default=3)
    options = parser.parse_args()
    with workplace(options) as work:
        home = work / "home"
        home.mkdir()
        make_sessions(home, options.files)
        make_database(home / "state.db", options.megabytes, grown=True)
        finish_home(home)
        sides = {
            name: Repository(work / f"side{number}", options.borg)
            for number, name in enumerate((DEFAULT, FIXED_CHUNKS, OURS))
        }
        lifeboat = Lifeboat(work / "lifeboat", home, sides[OURS])
        plain = ["--compression", "zstd,3"]
        run: dict[str, Callable[[str], object]] = {
            DEFAULT: lambda night: sides[DEFAULT].create(night, home, plain),
            FIXED_CHUNKS: lambda night: sides[FIXED_CHUNKS].create(night, home, FIXED),
            OURS: lambda _night: lifeboat.backup(),
        }
        connection = sqlite3.connect(home / "state.db")
        rows = connection.execute("SELECT count(*) FROM messages").fetchone()[0]
        connection.close()
        print(f"{(home / 'state.db').stat().st_size / 1e6:.0f} MB of database, {rows} messages")
        stored: dict[str, list[int]] = {name: [] for name in sides}
        for night in range(options.nights + 1):
            if night:
                a_night(home / "state.db", seed=night)
            os.sync()
            for name, repository in sides.items():
                before = repository.stored()
                run[name](f"night{night}")
                size = repository.stored() - before
                if night:
                    stored[name].append(size)
                title = f"night {night}" if night else "first"
                print(f"{title:<8} {name:<26} {size / 1e6:10.2f} MB", flush=True)
        medians = {name: statistics.median(sizes) for name, sizes in stored.items()}
        ratio = medians[DEFAULT] / medians[OURS]
        good = ratio >= 20
        mark = "ok" if good else "MISSED"
        print(f"a night, lifeboat / default chunker: 1/{ratio:.1f} (bar 1/20) {mark}")
        print(f"a night, lifeboat / fixed,32768: {medians[OURS] / medians[FIXED_CHUNKS]:.2f}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
