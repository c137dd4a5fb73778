"""Kills every process that carries a mark in its environment, and all that came from it; prints how many.

    kill_run.py NAME=VALUE

Begins when it reads a line. As SIGKILL has it: nothing is told, nothing can clean up. Looks again
until nobody is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path


def processes() -> dict[int, int]:
    """Every process and its parent."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
                found[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    return found


def marked(pid: int, mark: bytes) -> bool:
    with contextlib.suppress(OSError):
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


def descendants(parents: dict[int, int], of: set[int]) -> set[int]:
    found = set(of)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def main() -> None:
    mark, killed = sys.argv[1].encode(), set[int]()
    sys.stdin.readline()
    while True:
        parents = processes()
        roots = {pid for pid in parents if marked(pid, mark)}
        left = descendants(parents, roots) - {os.getpid()}
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= left
    print(len(killed))


if __name__ == "__main__":
    main()
