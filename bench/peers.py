# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup and restore of one home by lifeboat, raw borg, borgmatic, `hermes backup` and restic.

python3 bench/peers.py [--megabytes 236] [--files 5000] [--rounds 3] [--without NAME ...]
Nights: the first, unchanged ones, and the reference change (200 inserts, 20 updates); then each
restores its last night, and what came back is compared with the home. borgmatic and Hermes are
installed by pip into environments of their own; restic is the distribution's package. Bars: half
the wall time of borgmatic and `hermes backup` on unchanged and changed nights, fewer bytes stored
per changed night than any other.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from common import (
    PASSPHRASE,
    PYTHON,
    ROOT,
    Lifeboat,
    Measured,
    Repository,
    a_night,
    arguments,
    finish_home,
    make_database,
    make_sessions,
    measure,
    tree_size,
    workplace,
)

BORGMATIC = "borgmatic==2.1.10"
# What every tool has to bring back as it was. config.yaml is not among it: ours is scrubbed.
PRECIOUS = ("SOUL.md", "memories", "sessions")
LIFEBOAT, RAW, HERMES, RESTIC = "lifeboat", "raw borg", "hermes backup", "restic"
BORGMATIC_NAME = "borgmatic"
FIRST, UNCHANGED, CHANGED = "first", "unchanged", "changed"


@dataclasses.dataclass(frozen=True)
class Tool:
    """One way to back up a home. `restore` returns the home that it brought back."""

    backup: Callable[[str], Measured]
    stored: Callable[[], int]
    restore: Callable[[Path], tuple[Measured, Path]]


def together(parts: Iterable[Measured]) -> Measured:
    """Commands that are one after the other."""
    runs = list(parts)
    return Measured(
        sum(run.wall for run in runs),
        sum(run.cpu for run in runs),
        max(run.memory for run in runs),
        0,
        "",
    )


def below(target: Path, home: Path) -> Path:
    """Where a tool that keeps whole paths puts a home."""
    return target / home.relative_to("/")


def lifeboat(work: Path, home: Path, borg: str) -> Tool:
    repository = Repository(work, borg)
    box = Lifeboat(work / "box", home, repository)

    def restore(target: Path) -> tuple[Measured, Path]:
        return box.restore(target / "home"), target / "home"

    return Tool(lambda _night: box.backup(), repository.stored, restore)


def raw(work: Path, home: Path, borg: str) -> Tool:
    """borg as it comes, with a compression that costs the same as ours."""
    repository = Repository(work, borg)

    def restore(target: Path) -> tuple[Measured, Path]:
        newest = repository.archives()[-1]["name"]
        return repository.extract(newest, target), below(target, home)

    return Tool(
        lambda night: repository.create(night, home, ["--compression", "zstd,3"]),
        repository.stored,
        restore,
    )


def borgmatic(work: Path, home: Path, borg: str, executable: str) -> Tool:
    """With its SQLite hook, which stores the database as a dump."""
    repository = Repository(work, borg)
    config = work / "borgmatic.yaml"
    config.write_text(
        f"source_directories:\n  - {home}\n"
        f"exclude_patterns:\n  - {home}/state.db*\n"
        f"repositories:\n  - path: {repository.path}\n"
        f"local_path: {borg}\n"
        f"encryption_passphrase: {PASSPHRASE}\n"
        "compression: zstd,3\n"
        f"sqlite_databases:\n  - name: state\n    path: {home}/state.db\n",
        encoding="utf-8",
    )
    env = {**repository.env, "HOME": str(work)}
    env.pop("BORG_PASSPHRASE")

    def run(*command: str) -> Measured:
        return measure([executable, "--config", str(config), *command], env=env)

    def restore(target: Path) -> tuple[Measured, Path]:
        target.mkdir(parents=True)
        place = below(target, home)
        extract = run(
            "extract", "--archive", "latest", "--destination", str(target), "--path", str(home)
        )
        path = str(place / "state.db")
        dump = run("restore", "--archive", "latest", "--restore-path", path)
        return together([extract, dump]), place

    return Tool(lambda _night: run("create"), repository.stored, restore)


def hermes(work: Path, home: Path, executable: str) -> Tool:
    """Hermes' own backup: a zip a night, with every secret in it."""
    zips = work / "zips"
    zips.mkdir(parents=True)

    def backup(night: str) -> Measured:
        env = {"HERMES_HOME": str(home), "HOME": str(work)}
        return measure([executable, "backup", "--output", str(zips / f"{night}.zip")], env=env)

    def restore(target: Path) -> tuple[Measured, Path]:
        newest = max(zips.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        env = {"HERMES_HOME": str(target / "home"), "HOME": str(target)}
        target.mkdir(parents=True)
        return measure([executable, "import", "--force", str(newest)], env=env), target / "home"

    return Tool(backup, lambda: tree_size(zips), restore)


def restic(work: Path, home: Path, executable: str) -> Tool:
    """As it comes; it has no hook for databases."""
    env = {
        "RESTIC_PASSWORD": PASSPHRASE,
        "RESTIC_REPOSITORY": str(work / "repository"),
        "RESTIC_CACHE_DIR": str(work / "cache"),
    }
    measure([executable, "init"], env=env)

    def restore(target: Path) -> tuple[Measured, Path]:
        return (
            measure([executable, "restore", "latest", "--target", str(target)], env=env),
            below(target, home),
        )

    return Tool(
        lambda _night: measure([executable, "backup", "--quiet", str(home)], env=env),
        lambda: tree_size(work / "repository"),
        restore,
    )


def environment(folder: Path, requirement: str, command: str) -> str:
    """A command of a package, from a virtual environment that is made where it is missing."""
    place = folder / requirement.replace("==", "-")
    executable = place / "bin" / command
    if not executable.exists():
        print(f"installing {requirement}", flush=True)
        subprocess.run([PYTHON, "-m", "venv", "--clear", str(place)], check=True)
        subprocess.run([str(place / "bin/pip"), "install", "--quiet", requirement], check=True)
    return str(executable)


def pinned_hermes() -> str:
    """The version of Hermes that the collection is tested with."""
    import yaml

    text = (ROOT / "roles/agent/defaults/main.yml").read_text(encoding="utf-8")
    return f"hermes-agent=={yaml.safe_load(text)['agent_version']}"


def content(home: Path) -> dict[str, str]:
    """What a restore has to bring back: every file by its hash, the database by its rows."""
    found = {}
    for path in (path for name in PRECIOUS for path in (home / name, *(home / name).rglob("*"))):
        if path.is_file():
            name = str(path.relative_to(home))
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    connection = sqlite3.connect(home / "state.db")
    digest = hashlib.sha256()
    for row in connection.execute("SELECT * FROM messages ORDER BY id"):
        digest.update(repr(row).encode())
    [(check,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
    connection.close()
    found["state.db"] = f"{check} {digest.hexdigest()}"
    return found


def compared(home: dict[str, str], restored: Path) -> str:
    """In words, how a restored home differs."""
    back = content(restored)
    missing = len(home.keys() - back.keys())
    other = sorted(name for name in home if name in back and back[name] != home[name])
    if not missing and not other:
        return "all there"
    return f"{missing} missing, {len(other)} differ: {', '.join(other[:3])}"


@dataclasses.dataclass
class Results:
    """All measurements of one tool."""

    runs: dict[str, list[Measured]] = dataclasses.field(
        default_factory=lambda: {FIRST: [], UNCHANGED: [], CHANGED: []}
    )
    stored: dict[str, list[int]] = dataclasses.field(
        default_factory=lambda: {FIRST: [], UNCHANGED: [], CHANGED: []}
    )
    restore: Measured | None = None
    verdict: str = ""

    def wall(self, night: str) -> float:
        return statistics.median(run.wall for run in self.runs[night])

    def cpu(self, night: str) -> float:
        return statistics.median(run.cpu for run in self.runs[night])

    def bytes(self, night: str) -> float:
        return statistics.median(self.stored[night])

    def memory(self) -> int:
        return max(run.memory for runs in self.runs.values() for run in runs)


def nights(tools: dict[str, Tool], home: Path, rounds: int) -> dict[str, Results]:
    """All tools on the same bytes, in another order every night."""
    results = {name: Results() for name in tools}
    names = list(tools)
    # The newest file of a set is cached from the second run on, so the second night is no measure.
    plan = [FIRST, "", *[UNCHANGED] * rounds, *[CHANGED] * rounds]
    for number, night in enumerate(plan):
        if night == CHANGED:
            a_night(home / "state.db", seed=100 + number)
        os.sync()
        names.append(names.pop(0))
        for name in names:
            before = tools[name].stored()
            run = tools[name].backup(f"night{number}")
            if night:
                results[name].runs[night].append(run)
                results[name].stored[night].append(tools[name].stored() - before)
                print(f"{night:<9} {name:<14} {run}", flush=True)
    return results


def restores(tools: dict[str, Tool], home: Path, work: Path, results: dict[str, Results]) -> None:
    """The last night of each, compared with the home."""
    want = content(home)
    for name, tool in tools.items():
        os.sync()
        target = work / "restored"
        results[name].restore, place = tool.restore(target)
        results[name].verdict = compared(want, place)
        shutil.rmtree(target)
        print(f"restore   {name:<14} {results[name].restore} {results[name].verdict}", flush=True)


def table(results: dict[str, Results]) -> None:
    """As it goes into the documents."""
    print("\n| | first | unchanged | changed | stored that night | peak memory | restore |")
    print("|---|---|---|---|---|---|---|")
    for name, one in results.items():
        times = " | ".join(
            f"{one.wall(night):.2f} s ({one.cpu(night):.2f})"
            for night in (FIRST, UNCHANGED, CHANGED)
        )
        back = one.restore
        last = f"{back.wall:.2f} s ({back.cpu:.2f}), {one.verdict}" if back else ""
        print(
            f"| {name} | {times} | {one.bytes(CHANGED) / 1e6:.2f} MB "
            f"| {one.memory() / 1000:.0f} MB | {last} |"
        )
    print("wall time (CPU), medians; stored: on a changed night\n")


def bars(results: dict[str, Results]) -> bool:
    """Print each and say whether it holds."""
    ours, good = results[LIFEBOAT], [results[LIFEBOAT].verdict == "all there"]
    for name, one in results.items():
        if name in (BORGMATIC_NAME, HERMES):
            for night in (UNCHANGED, CHANGED):
                value = ours.wall(night) / one.wall(night)
                good.append(value <= 0.5)
                mark = "ok" if good[-1] else "MISSED"
                print(f"wall, {night}, lifeboat / {name}: {value:.2f} (bar 0.50) {mark}")
        if name != LIFEBOAT:
            value = ours.bytes(CHANGED) / one.bytes(CHANGED)
            good.append(value < 1)
            mark = "ok" if good[-1] else "MISSED"
            print(f"stored, changed, lifeboat / {name}: 1/{1 / value:.1f} (bar below 1) {mark}")
    return all(good)


def main() -> int:
    """Every measurement, a table, the bars."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=236)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--environments", type=Path, default=ROOT / ".cache" / "bench")
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        metavar="NAME",
        choices=[BORGMATIC_NAME, HERMES, RESTIC],
    )
    options = parser.parse_args()
    makers: dict[str, Callable[[Path, Path], Tool]] = {
        LIFEBOAT: lambda work, home: lifeboat(work, home, options.borg),
        RAW: lambda work, home: raw(work, home, options.borg),
    }
    if BORGMATIC_NAME not in options.without:
        command = environment(options.environments, BORGMATIC, "borgmatic")
        makers[BORGMATIC_NAME] = lambda work, home: borgmatic(work, home, options.borg, command)
    if HERMES not in options.without:
        agent = environment(options.environments, pinned_hermes(), "hermes")
        makers[HERMES] = lambda work, home: hermes(work, home, agent)
    if RESTIC not in options.without:
        executable = shutil.which("restic")
        if executable is None:
            raise SystemExit("restic is missing: apt-get install restic, or --without restic")
        makers[RESTIC] = lambda work, home: restic(work, home, executable)
    with workplace(options) as work:
        home = work / "home"
        home.mkdir()
        make_sessions(home, options.files)
        make_database(home / "state.db", options.megabytes, grown=True)
        finish_home(home)
        tools = {}
        for number, (name, make) in enumerate(makers.items()):
            place = work / f"tool{number}"
            place.mkdir()
            tools[name] = make(place, home)
        results = nights(tools, home, options.rounds)
        restores(tools, home, work, results)
        table(results)
        good = bars(results)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
