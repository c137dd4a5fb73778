# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time and bytes of the keyless audits over the size of a repository, beside borg check.

python3 bench/audit_cost.py [--sizes 0.5 1 2 5 10] [--verify-data]
The repository's files are put out of the page cache before each measurement. The bar: what an
audit of a night reads grows with the night and not with the repository.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import ROOT, Repository, arguments, measure, workplace

sys.path.insert(0, str(ROOT / "plugins"))
from module_utils.audit import (  # type: ignore[import-not-found]
    Mark,
    State,
    audit_scan,
    audit_segments,
)
from module_utils.serve_client import ServeConnection  # type: ignore[import-not-found]

RAW = ["--compression", "none", "--chunker-params", "fixed,32768"]
NIGHT = 2_000_000
GIGA = 10**9


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one look at the repository took."""

    seconds: float
    read: int  # bytes that the program asked for, or that borg must have read

    def __str__(self) -> str:
        return f"{self.seconds:8.2f} s {self.read / 1e6:9.2f} MB"


def cold(folder: Path) -> None:
    """Nothing of the repository's files in memory; what other programs use stays there."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def timed(folder: Path, action: Callable[[], int]) -> Cost:
    """Wall time from a cold start, and what was read."""
    cold(folder)
    begin = time.perf_counter()
    read = action()
    return Cost(time.perf_counter() - begin, read)


class Subject:
    """A repository that grows."""

    def __init__(self, work: Path, borg: str) -> None:
        self.work = work
        self.borg = borg
        self.repository = Repository(work, borg)
        self.home = work / "home"
        self.home.mkdir()
        self.written = 0
        self.archives = 0
        self.mark: Mark | None = None
        self.state: State | None = None

    def grow(self, size: int) -> None:
        """New data of so many bytes, and one archive of them; data of before are not kept."""
        for path in self.home.iterdir():
            path.unlink()
        left = size
        while left > 0:
            with (self.home / f"data-{left}").open("wb") as stream:
                for _block in range(min(left, 256_000_000) // 1_000_000 or 1):
                    stream.write(os.urandom(1_000_000))
            left -= 256_000_000
        self.archives += 1
        self.repository.create(f"bench-{self.archives}", self.home, RAW)
        self.written += size

    def accept(self) -> int:
        report, self.state = audit_segments(self.repository.path)
        self.mark = report.mark
        assert report.clean
        return int(report.bytes_read)

    def incremental(self) -> int:
        report, _state = audit_segments(self.repository.path, mark=self.mark, state=self.state)
        assert report.clean
        return int(report.bytes_read)

    def full(self) -> int:
        report, _state = audit_segments(self.repository.path)
        return int(report.bytes_read)

    def scan(self) -> int:
        serving = [self.borg, "serve", "--restrict-to-repository", str(self.repository.path)]
        with ServeConnection(serving) as connection:
            connection.open(str(self.repository.path), exclusive=True)
            report, _state = audit_scan(connection, mark=self.mark, state=self.state)
        assert report.clean
        return int(report.bytes_read)

    def check(self, *options: str) -> int:
        argv = [self.borg, "check", *options, str(self.repository.path)]
        measure(argv, env=self.repository.env)
        return 0 if "--archives-only" in options else self.repository.stored()


def rows(subject: Subject, verify_data: bool) -> Iterator[tuple[str, Cost]]:
    """Every way to look at the repository."""
    looks: dict[str, Callable[[], int]] = {
        "audit of a night, segments": subject.incremental,
        "audit of everything, segments": subject.full,
        "audit by scan (bytes: over the wire)": subject.scan,
        "borg check --repository-only": lambda: subject.check("--repository-only"),
        "borg check --archives-only": lambda: subject.check("--archives-only"),
    }
    if verify_data:
        looks["borg check --verify-data"] = lambda: subject.check("--verify-data")
    for name, look in looks.items():
        yield name, timed(subject.repository.path, look)


def main() -> int:
    """Print every measurement and the ratio of the largest to the smallest repository."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.5, 1, 2], help="GB")
    parser.add_argument("--verify-data", action="store_true", help="measure that as well")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    with workplace(options) as work:
        subject = Subject(work / "subject", shlex.split(options.borg)[0])
        for size in sorted(options.sizes):
            subject.grow(int(size * GIGA) - subject.written)
            subject.accept()
            subject.grow(NIGHT)
            objects = subject.mark.objects if subject.mark else 0
            print(f"\n{subject.repository.stored() / GIGA:.2f} GB, {objects} objects", flush=True)
            result: dict[str, Any] = {"size": size}
            for name, cost in rows(subject, options.verify_data):
                print(f"  {name:<38} {cost}", flush=True)
                result[name] = cost
            results.append(result)
    night = "audit of a night, segments"
    read = results[-1][night].read / results[0][night].read
    grown = results[-1]["size"] / results[0]["size"]
    good = read < 1.5
    print(
        f"\nbytes read for the same night, {grown:.0f} times the repository: {read:.2f}"
        f" (bar 1.50) {'ok' if good else 'MISSED'}"
    )
    check = results[-1]["borg check --repository-only"].seconds
    print(f"time against borg check --repository-only: 1/{check / results[-1][night].seconds:.0f}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
