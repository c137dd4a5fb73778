# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit keeps between two nights, in a folder that no box can reach.

The list of accepted objects, one file per accepted state, named by its hash; the intent of
a compaction, so that one that was interrupted is told from tampering; and the head of the
control side's ledger, so that a ledger whose end was cut off is noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .audit import AuditError, Mark, Report, State, audit_segments, load_state, write_file
from .segments import Segments


class Store:
    """The folder of one repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _objects(self, digest: str | None) -> Path:
        return self.folder / f"objects-{(digest or 'none')[:16]}"

    def load(self, mark: Mark | None) -> State | None:
        """The list that belongs to a mark; None when it is lost."""
        return None if mark is None else load_state(self._objects(mark.state_sha256))

    def save(self, mark: Mark, state: State, *, previous: Mark | None = None) -> bool:
        """Keep the list of a new accepted state beside the previous one, and no others."""
        data = state.dump()
        if hashlib.sha256(data).hexdigest() != mark.state_sha256:
            raise AuditError("the list of objects does not belong to the mark")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = self._objects(mark.state_sha256)
        written = not target.exists() or load_state(target) != state
        if written:
            write_file(target, data)
        wanted = {target.name}
        if previous is not None:
            wanted.add(self._objects(previous.state_sha256).name)
        for path in self.folder.glob("objects-*"):
            if path.name not in wanted:
                path.unlink()
                written = True
        return written

    # The config of the repository, to put it back

    def save_config(self, repository: Path) -> None:
        """Remember the config of the accepted state."""
        text = (repository / "config").read_bytes()
        if not (self.folder / "config").exists() or (self.folder / "config").read_bytes() != text:
            write_file(self.folder / "config", text)

    def config(self) -> bytes | None:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "config").read_bytes()
        return None

    # The intent of a compaction

    def intent(self) -> dict[str, Any]:
        return self._read("compaction")

    def write_intent(self, intent: Mapping[str, Any]) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(self.folder / "compaction", json.dumps(intent, sort_keys=True).encode())

    def clear_intent(self) -> None:
        (self.folder / "compaction").unlink(missing_ok=True)

    def compacting(self, mark: Mark | None) -> bool:
        """Whether a compaction was begun on this very state."""
        intent = self.intent()
        return bool(intent) and mark is not None and intent.get("from") == mark.state_sha256

    # The head of the ledger

    def head(self) -> dict[str, Any]:
        return self._read("head")

    def write_head(self, head: Mapping[str, Any]) -> bool:
        if self.head() == dict(head):
            return False
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(self.folder / "head", json.dumps(head, sort_keys=True).encode())
        return True

    def _read(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.folder / name).read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise AuditError(f"{self.folder / name} cannot be read: {error}") from error
        return dict(found)


def audited(
    repository: Path,
    store: Store,
    mark: Mark | None,
    *,
    archives: Mapping[str, str] | None = None,
    checksums: bool = False,
    deleting: Iterable[str] = (),
) -> tuple[Report, State | None]:
    """An audit on the host, with what the folder knows."""
    return audit_segments(
        repository,
        mark=mark,
        state=store.load(mark),
        archives=archives,
        checksums=checksums,
        compacting=store.compacting(mark),
        deleting=deleting,
    )


def read_part(repository: Path, part: int, parts: int) -> dict[str, Any]:
    """Read every byte of one part of the segments and check its checksums.

    Night after night another part, so that all of it is read within ``parts`` nights, next
    to the storage and without a key.
    """
    files = Segments(repository)
    config = files.config()
    layout = files.layout()
    last = files.last_commit(layout, config.segments_per_dir)
    chosen = [n for n in layout if last is not None and n <= last and n % parts == part % parts]
    entries = 0
    for segment in chosen:
        for _entry in files.entries(segment, config.segments_per_dir, verify=True):
            entries += 1
    return {
        "part": part % parts,
        "parts": parts,
        "segments": len(chosen),
        "entries": entries,
        "bytes_read": files.bytes_read,
    }
