# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a tampered repository back to its last accepted state.

A repository is a journal: as long as nothing was compacted, everything that was deleted or
overwritten is still in the segments up to the accepted transaction. What came later is
moved aside, whole transactions, and kept as evidence.

The nonce is never rolled back to one that may have been used: what is encrypted twice with the
same is given away. One that jumped out of reach is set to where no honest client has been.

Killed anywhere, the repository is at the end of some transaction, and the next call goes
on: first the index goes (borg makes it again), then segments from the last to the first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .audit import NONCE_END, NONCE_REACH, Mark, Report, State, audit_segments, write_file
from .segments import Segments

# A lead that no client can have used up since the mark was made.
NONCE_LEAD = 2**40
AUXILIARY = ("index.", "hints.", "integrity.", "lock.")


class RollbackError(Exception):
    """The accepted state is not there any more; nothing was changed."""


@dataclass(frozen=True)
class Steps:
    """What a rollback does; made first, carried out after."""

    transaction: int
    segments: list[int]
    auxiliary: list[str]
    config: bool
    nonce: int | None
    nonce_lowered: bool = False  # clients that wrote after it jumped have to forget theirs
    snapshot: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def needed(self) -> bool:
        # An index without later segments is that of the accepted state itself.
        return bool(self.segments or self.config or self.nonce is not None or self.snapshot)


class Rollback:
    """One repository, an accepted state, and a place for what is moved aside."""

    def __init__(
        self,
        repository: Path,
        mark: Mark,
        *,
        evidence: Path,
        state: State | None = None,
        config: bytes | None = None,
        snapshot: Path | None = None,
    ) -> None:
        self.repository = repository
        self.mark = mark
        self.evidence = evidence
        self.state = state
        self.config = config
        self.snapshot = snapshot

    def plan(self) -> Steps:
        """Decide, and refuse what cannot end in the accepted state."""
        if self.mark.transaction is None:
            raise RollbackError(
                "this state was accepted by a scan, which knows no transactions: put a snapshot"
                " of the provider back, then audit it against the ledger"
            )
        source = self.snapshot or self.repository
        self._require_accepted(source)
        files = Segments(source)
        later = [n for n in files.layout() if n > self.mark.transaction]
        auxiliary = [name for name in sorted(os.listdir(source)) if name.startswith(AUXILIARY)]
        jumped = self._nonce_jumped()
        return Steps(
            transaction=self.mark.transaction,
            segments=later,
            auxiliary=auxiliary if later or self.snapshot else [],
            config=self._config_differs(source),
            nonce=self._nonce(source, jumped=jumped),
            nonce_lowered=jumped,
            snapshot=str(self.snapshot or ""),
            notes=self._notes(),
        )

    def carry_out(self, steps: Steps) -> Report:
        """Do it; the audit of the outcome is returned, and it is clean."""
        if steps.needed:
            self._keep_evidence()
            if self.snapshot is not None:
                self._put_back(self.snapshot)
            self._move(steps.auxiliary)
            self._move_segments(steps.segments)
            if steps.config and self.config is not None:
                self._keep(self.repository / "config")
                _overwrite(self.repository / "config", self.config)
            if steps.nonce is not None:
                self._keep(self.repository / "nonce")
                self._write_nonce(steps.nonce)
        report, _unused = audit_segments(self.repository, mark=self.mark, state=self.state)
        if not report.clean:
            raise RollbackError(f"after the rollback: {report.summary()}")
        return report

    # Deciding

    def _require_accepted(self, source: Path) -> None:
        """All segments up to the accepted transaction, as they were."""
        files = Segments(source)
        try:
            layout = files.layout()
            per_dir = files.config().segments_per_dir
        except (FileNotFoundError, KeyError, ValueError) as error:
            raise RollbackError(
                f"{source} is no repository any more ({error}): give a snapshot"
            ) from error
        transaction = self.mark.transaction
        if transaction is None:
            raise AssertionError("only a mark made on the host is rolled back to")
        if transaction not in layout or not files.is_committed(transaction, per_dir):
            raise RollbackError(
                f"{source} does not hold transaction {transaction} any more: it was compacted or"
                " replaced since. Give a snapshot from before."
            )
        report, _unused = audit_segments(
            source,
            mark=Mark.from_dict({**self.mark.to_dict(), "nonce": None, "config_sha256": None}),
            state=self.state,
        )
        lost = {"segment-missing", "segment-changed", "state-differs", "repository-replaced"}
        if lost & set(report.counts):
            raise RollbackError(
                f"{source} is not the accepted repository up to transaction {transaction}:"
                f" {report.summary()}. Give a snapshot from before."
            )

    def _config_differs(self, source: Path) -> bool:
        found = Segments(source).config()
        differs = self.mark.config_sha256 not in (None, found.sha256) or found.has_key
        if differs and self.config is None:
            raise RollbackError(
                "the config of the repository was changed and its copy is lost: compare it with"
                " a snapshot's by hand"
            )
        return differs

    def _nonce_jumped(self) -> bool:
        """Whether the nonce is where no honest client has brought it."""
        now = Segments(self.repository).nonce() or 0
        beyond = self.mark.nonce is not None and now > self.mark.nonce + NONCE_REACH
        return now >= NONCE_END or beyond

    def _nonce(self, source: Path, *, jumped: bool) -> int | None:
        """A new value for the nonce, only ever a higher one or one that clients can use."""
        now = Segments(self.repository).nonce()
        accepted = self.mark.nonce or 0
        if jumped:
            return self._ahead_of(accepted)
        if self.snapshot is not None or now is None or now < accepted:
            held = Segments(source).nonce() or 0
            return self._ahead_of(max(now or 0, held, accepted))
        return None

    def _ahead_of(self, nonce: int) -> int:
        if nonce + NONCE_LEAD >= NONCE_END:
            raise RollbackError(
                f"the nonce {nonce:#x} leaves no room above it, so no client could go on with this"
                " repository. Go back to an earlier accepted state with -e transaction=N, from"
                " before it rose, or begin a new repository, see docs/custody.md. Nothing was"
                " changed; the archives of this one can still be read."
            )
        return nonce + NONCE_LEAD

    def _notes(self) -> list[str]:
        notes = []
        if self.snapshot is not None:
            notes.append(
                "begun from a snapshot: when the box is rebuilt, begin a new repository for it"
            )
        return notes

    # Doing

    def _put_back(self, snapshot: Path) -> None:
        """Everything aside, then the snapshot's content in its place."""
        for path in sorted(self.repository.iterdir()):
            self._set_aside(path)
        for path in sorted(snapshot.iterdir()):
            if path.name.startswith("lock."):
                continue
            target = self.repository / path.name
            if path.is_dir():
                shutil.copytree(path, target, copy_function=_copy, symlinks=True)
                _copy_owners(path, target)
            else:
                _copy(str(path), str(target))

    def _move(self, names: Iterable[str]) -> None:
        for name in names:
            path = self.repository / name
            if path.exists():
                self._set_aside(path)

    def _move_segments(self, segments: list[int]) -> None:
        files = Segments(self.repository)
        per_dir = files.config().segments_per_dir
        for segment in sorted(segments, reverse=True):
            path = files.file(segment, per_dir)
            if path.exists():
                self._set_aside(path)

    def _set_aside(self, path: Path) -> None:
        target = self.evidence / path.relative_to(self.repository)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if target.exists():  # a rollback before this one was interrupted
            number = sum(1 for _unused in target.parent.glob(f"{target.name}.again*"))
            target = target.with_name(f"{target.name}.again{number}")
        shutil.move(str(path), str(target))

    def _write_nonce(self, nonce: int) -> None:
        """As the account wrote it: a box that cannot read its nonce cannot back up."""
        files = Segments(self.repository)
        last = files.file(self.mark.transaction or 0, files.config().segments_per_dir)
        path = self.repository / "nonce"
        write_file(path, f"{nonce:016x}".encode())
        status = last.stat()
        os.chown(path, status.st_uid, status.st_gid)

    def _keep_evidence(self) -> None:
        """The folder and the one above it: neither is anybody else's to look into."""
        for folder in (self.evidence.parent, self.evidence):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _keep(self, path: Path) -> None:
        if path.exists():
            self._keep_evidence()
            shutil.copy2(path, self.evidence / path.name)


def _overwrite(path: Path, data: bytes) -> None:
    """New content, the old owner and mode."""
    status = path.stat()
    write_file(path, data)
    os.chown(path, status.st_uid, status.st_gid)
    path.chmod(status.st_mode & 0o777)


def _copy(source: str, target: str) -> str:
    shutil.copy2(source, target)
    status = os.stat(source)
    os.chown(target, status.st_uid, status.st_gid)
    return target


def _copy_owners(source: Path, target: Path) -> None:
    for folder, _folders, _files in os.walk(source):
        status = os.stat(folder)
        there = target / Path(folder).relative_to(source)
        os.chown(there, status.st_uid, status.st_gid)
        there.chmod(status.st_mode & 0o7777)
