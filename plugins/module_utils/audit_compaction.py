# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only irreversible step, on the storage host and behind four gates.

The box is locked out by this very run. The repository is at exactly the transaction that
the control side accepted, and an audit finds nothing. A fresh snapshot holds all of it.
And afterwards every accepted object is there, with the same size and checksum.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .audit import Mark, Report, audit_segments
from .audit_store import Store, audited
from .segments import Segments
from .snapshots import zfs_folder

SUBVOLUME_INODE = 256
KEPT_COPIES = 2

Run = Callable[[Sequence[str], "dict[str, str] | None"], "tuple[int, str, str]"]


class CompactionError(Exception):
    """Compaction was refused or failed; ``failure`` tells what is known."""

    def __init__(self, message: str, failure: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.failure = failure or {}


@dataclass(frozen=True)
class Request:
    """What to compact, and what has to hold."""

    repository: Path
    mark: Mark
    snapshots: Path
    account: str = ""
    borg: str = "/usr/local/bin/lifeboat-borg"
    snapshot_method: str = "auto"
    threshold: int = 10


@dataclass(frozen=True)
class Outcome:
    """A compaction that was carried out."""

    report: Report
    snapshot: str
    size_before: int
    size_after: int


def compact(
    request: Request, store: Store, run: Run, *, still_closed: Callable[[], None]
) -> Outcome:
    """Carry it out. ``still_closed`` raises when the box may be back in."""
    still_closed()
    report, state = audited(request.repository, store, request.mark)
    if not report.clean or state is None:
        raise CompactionError(f"refused: {report.summary()}", report.to_dict())
    if report.mark is None or report.mark.transaction != request.mark.transaction:
        found = report.mark.transaction if report.mark else None
        raise CompactionError(
            f"refused: the repository is at transaction {found}, accepted was"
            f" {request.mark.transaction}; audit and accept it first"
        )
    snapshot = take_snapshot(request, run)
    still_closed()
    store.save(request.mark, state)
    store.write_intent({"from": request.mark.state_sha256, "begun": int(time.time())})
    size_before = sum(Segments(request.repository).layout().values())
    _borg_compact(request, run)
    report, new_state = audit_segments(
        request.repository, mark=request.mark, state=state, compacting=True
    )
    if not report.clean or report.mark is None or new_state is None:
        raise CompactionError(
            f"compaction lost objects: {report.summary()}. The snapshot {snapshot} holds the"
            " repository as it was: run rollback.yml with it, and look at the host's disk.",
            report.to_dict(),
        )
    store.save(report.mark, new_state, previous=request.mark)
    # The intent stays until the control side has written the new mark into its ledger.
    return Outcome(report, snapshot, size_before, report.mark.size or 0)


def _borg_compact(request: Request, run: Run) -> None:
    base = tempfile.mkdtemp(prefix="lifeboat-compact-")
    argv = [request.borg, "compact", "--threshold", str(request.threshold), "--lock-wait", "60"]
    argv.append(str(request.repository))
    try:
        if request.account:
            shutil.chown(base, request.account)
            argv = ["runuser", "-u", request.account, "--", *argv]
        # As the account: what root would write, the box could not read.
        code, _output, error = run(argv, {"BORG_BASE_DIR": base, "BORG_EXIT_CODES": "modern"})
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if code != 0:
        raise CompactionError(
            f"borg compact ended with {code}: {error.strip()[-500:]}", {"rc": code, "cmd": argv}
        )


def take_snapshot(request: Request, run: Run) -> str:
    """A copy of the repository that its account cannot reach; refused when it is not whole."""
    method = request.snapshot_method
    if method == "none":
        return ""
    if method == "auto":
        method = _method(request)
    if method == "zfs":
        return _zfs_snapshot(request, run)
    # Named as btrbk names its own, so that its retention takes care of this one, too.
    stamp = time.strftime("%Y%m%dT%H%M%S+0000", time.gmtime())
    target = request.snapshots / f"{request.repository.name}.{stamp}"
    if method == "btrfs":
        argv = ["btrfs", "subvolume", "snapshot", "-r", str(request.repository), str(target)]
        code, _output, error = run(argv, None)
        if code != 0:
            raise CompactionError(f"no snapshot: {error.strip()}", {"rc": code, "cmd": argv})
    else:
        _link_copy(request.repository, target)
        _forget_old_copies(request)
    _require_copy(request, target)
    return str(target)


def _method(request: Request) -> str:
    """What the file system is able to do."""
    if zfs_folder(request.snapshots).is_dir():
        return "zfs"
    subvolume = request.repository.stat().st_ino == SUBVOLUME_INODE
    return "btrfs" if subvolume else "hardlink"


def _zfs_snapshot(request: Request, run: Run) -> str:
    """One of the whole dataset, under a name that sanoid's retention takes care of."""
    root = request.snapshots.parent
    argv = ["zfs", "list", "-H", "-o", "name", str(root)]
    code, output, error = run(argv, None)
    if code != 0:
        raise CompactionError(f"no snapshot: {error.strip()}", {"rc": code, "cmd": argv})
    name = time.strftime("autosnap_%Y-%m-%d_%H:%M:%S_weekly", time.gmtime())
    argv = ["zfs", "snapshot", f"{output.strip()}@{name}"]
    code, _output, error = run(argv, None)
    if code != 0:
        raise CompactionError(f"no snapshot: {error.strip()}", {"rc": code, "cmd": argv})
    target = zfs_folder(request.snapshots) / name / request.repository.relative_to(root)
    _require_copy(request, target)
    return str(target)


def _require_copy(request: Request, target: Path) -> None:
    if Segments(target).layout() != Segments(request.repository).layout():
        raise CompactionError(f"the snapshot {target} is not a copy of the repository")


def _link_copy(source: Path, target: Path) -> None:
    """Where the file system has no snapshots: segments are never changed, so links will do."""
    target.mkdir(mode=0o700, parents=True)
    for folder, _folders, files in os.walk(source):
        there = target / Path(folder).relative_to(source)
        there.mkdir(mode=0o700, exist_ok=True)
        for name in files:
            if name.startswith("lock."):
                continue
            if Path(folder) == source:
                shutil.copy2(Path(folder) / name, there / name)
            else:
                os.link(Path(folder) / name, there / name, follow_symlinks=False)


def _forget_old_copies(request: Request) -> None:
    copies = sorted(request.snapshots.glob(f"{request.repository.name}.*T*"))
    for path in copies[:-KEPT_COPIES]:
        shutil.rmtree(path)
