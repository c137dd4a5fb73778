# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks that a dead borg left on its own cache.

borg removes such a lock when it bears the name of this very host and its process is gone. After
the power went off that does not hold: the number may be that of another process by now, and the
name of a box may have changed with its network card. Then every later run would wait, and fail.

The base directory belongs to this box and this agent alone, so the lock's process either runs here
or nowhere. Not guaranteed: anything about a directory that two boxes share.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

_OWNER = re.compile(r".+\.(\d+)-[0-9a-f]+")


def forget_dead_locks(base_dir: str, processes: Path = Path("/proc")) -> list[str]:
    """Remove locks on caches below a base directory whose borg is dead; which ones."""
    gone = []
    for lock in sorted(Path(base_dir).glob(".cache/borg/*/lock.exclusive*")):
        with contextlib.suppress(FileNotFoundError):  # its borg is at work, and removed it just now
            owners = [_OWNER.fullmatch(name) for name in os.listdir(lock)]
            if any(owner is None or _is_borg(processes, owner[1]) for owner in owners):
                continue
            shutil.rmtree(lock)
            (lock.parent / "lock.roster").unlink(missing_ok=True)
            gone.append(str(lock))
    return gone


def _is_borg(processes: Path, pid: str) -> bool:
    try:
        return b"borg" in (processes / pid / "cmdline").read_bytes()
    except OSError:
        return False
