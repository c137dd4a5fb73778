# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes stored per night for the reference change, and wall time, against the peers.

python3 bench/stored_bytes.py [--megabytes 236] [--files 2000] [--borgmatic PATH] [--restic PATH] [--hermes PATH]
A state.db with a full-text index and session files; a night is 200 inserts and 20 updates. All tools see
the same bytes: first backup, an unchanged night, the changed night. Bar: ours at most 1/20 of what borg
stores with its default chunker.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from common import (
    FIXED,
    PASSPHRASE,
    Lifeboat,
    Measured,
    Repository,
    a_night,
    arguments,
    finish_home,
    make_database,
    make_sessions,
    measure,
    workplace,
)

Run = Callable[[str], Measured]
Size = Callable[[], int]


def tree_size(path: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def borgmatic(work: Path, home: Path, executable: str, borg: str) -> tuple[Run, Size]:
    """borgmatic with its SQLite hook."""
    repository = Repository(work / "borgmatic", borg)
    config = work / "borgmatic.yaml"
    config.write_text(
        f"source_directories:\n  - {home}\n"
        f"exclude_patterns:\n  - {home}/state.db*\n"
        f"repositories:\n  - path: {repository.path}\n"
        f"local_path: {borg}\n"
        f"encryption_passphrase: {PASSPHRASE}\n"
        f"sqlite_databases:\n  - name: state\n    path: {home}/state.db\n",
        encoding="utf-8",
    )

    def run(_name: str) -> Measured:
        env = {key: value for key, value in repository.env.items() if key != "BORG_PASSPHRASE"}
        return measure([executable, "create", "--config", str(config)], env=env)

    return run, lambda: tree_size(repository.path / "data")


def restic(work: Path, home: Path, executable: str) -> tuple[Run, Size]:
    """restic, no hook."""
    repository = work / "restic"
    env = {
        "RESTIC_PASSWORD": PASSPHRASE,
        "RESTIC_REPOSITORY": str(repository),
        "RESTIC_CACHE_DIR": str(work / "restic-cache"),
    }
    measure([executable, "init"], env=env)
    return (
        lambda _name: measure([executable, "backup", "--quiet", str(home)], env=env),
        lambda: tree_size(repository / "data"),
    )


def hermes(work: Path, home: Path, executable: str) -> tuple[Run, Size]:
    """Hermes' own backup: one zip a night, with every secret in it."""
    folder = work / "hermes"
    folder.mkdir()

    def run(name: str) -> Measured:
        env = {"HERMES_HOME": str(home), "HOME": str(work)}
        return measure([executable, "backup", "--output", str(folder / f"{name}.zip")], env=env)

    return run, lambda: tree_size(folder)


def main() -> int:
    """A line per tool, then the ratios."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=236)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--borgmatic", default=shutil.which("borgmatic"))
    parser.add_argument("--restic", default=shutil.which("restic"))
    parser.add_argument("--hermes", default=shutil.which("hermes"))
    options = parser.parse_args()
    with workplace(options) as work:
        home = work / "home"
        home.mkdir()
        make_sessions(home, options.files)
        make_database(home / "state.db", options.megabytes)
        finish_home(home)
        default, fixed = (
            Repository(work / "default", options.borg),
            Repository(work / "fixed", options.borg),
        )
        own = Repository(work / "own", options.borg)
        lifeboat = Lifeboat(work / "lifeboat", home, own)
        tools: dict[str, tuple[Run, Size]] = {
            "raw borg, default chunker": (
                lambda name: default.create(name, home, ["--compression", "zstd,3"]),
                default.stored,
            ),
            "raw borg, fixed,32768": (lambda name: fixed.create(name, home, FIXED), fixed.stored),
            "lifeboat": (lambda _name: lifeboat.backup(), own.stored),
        }
        if options.borgmatic:
            tools["borgmatic, SQLite hook"] = borgmatic(work, home, options.borgmatic, options.borg)
        if options.restic:
            tools["restic"] = restic(work, home, options.restic)
        if options.hermes:
            tools["hermes backup"] = hermes(work, home, options.hermes)
        stored: dict[str, list[int]] = {name: [] for name in tools}
        walls: dict[str, list[float]] = {name: [] for name in tools}
        for night in ("first", "settle", "unchanged", "changed"):
            if night == "changed":
                before = sqlite3.connect(home / "state.db")
                rows = before.execute("SELECT count(*) FROM messages").fetchone()[0]
                before.close()
                a_night(home / "state.db")
                print(f"the reference change: 200 inserts and 20 updates, {rows} rows before")
            os.sync()
            for name, (run, size) in tools.items():
                before_bytes = size()
                walls[name].append(run(night).wall)
                stored[name].append(size() - before_bytes)
        print(f"{'':28} {'stored that night':>18}   wall: first, unchanged, changed")
        for name in tools:
            first, _settle, unchanged, changed = walls[name]
            print(
                f"{name:28} {stored[name][3] / 1e6:15.2f} MB   {first:.2f} {unchanged:.2f} {changed:.2f} s"
            )
        ratio = stored["raw borg, default chunker"][3] / stored["lifeboat"][3]
        good = ratio >= 20
        print(f"default chunker / lifeboat: {ratio:.1f} (bar 20) {'ok' if good else 'MISSED'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
