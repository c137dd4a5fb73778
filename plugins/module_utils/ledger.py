# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the trusted side has seen of one repository, and when: one file, only ever appended to.

Each line is a JSON object whose hash covers the line before it, so a changed, removed or
inserted line breaks the chain. A chain that was cut off at its end is still a chain; that
is seen by the head which the repository host was told (:func:`contains`). Lines that were
written together are read together or not at all: each but the last ends in a space, and what
a cut write left behind the last whole group counts as never written.

What is not guaranteed: whoever controls the control side and the repository host at once
can write another history. Nobody else can.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

KINDS = (
    "begin",  # first line: which repository; data.reason says whether a ledger was lost before
    "seen",  # an archive was seen for the first time
    "quarantined",  # an archive that does not count, and why
    "released",  # an operator says that a quarantined archive counts after all
    "mark",  # an accepted state; behind "removed" it ends what is pending since "deleting"
    "finding",  # what an audit or a comparison found: nothing is deleted until resolved
    "resolved",  # an operator or a rollback dealt with the findings so far
    "deleting",  # about to delete these archives
    "removed",  # these archives are deleted
    "compacted",
    "checked",
    "proved",  # a drill proved this archive
    "rollback",
)


MORE = b" "  # ends a row whose write has further rows


class LedgerError(Exception):
    """The ledger cannot be trusted, or cannot be written. Nothing may be deleted."""


@dataclass(frozen=True)
class Line:
    """One line of the ledger."""

    sequence: int
    time: str
    kind: str
    data: Mapping[str, Any]
    previous: str
    hash: str

    def dump(self) -> str:
        return json.dumps(
            {
                "sequence": self.sequence,
                "time": self.time,
                "kind": self.kind,
                "data": self.data,
                "previous": self.previous,
                "hash": self.hash,
            },
            sort_keys=True,
            ensure_ascii=True,
        )


def _digest(previous: str, sequence: int, time: str, kind: str, data: Mapping[str, Any]) -> str:
    canonical = json.dumps(
        [previous, sequence, time, kind, data], sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def moment(text: str) -> datetime:
    """A time with its zone; UTC where none is given."""
    parsed = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)


def stamp(when: datetime) -> str:
    return when.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Ledger:
    """The ledger of one repository of one agent."""

    def __init__(self, path: Path, agent: str, repository: str) -> None:
        self.path = path
        self.agent = agent
        self.repository = repository
        self.torn = 0  # bytes at the end that the last read left out

    @property
    def root(self) -> str:
        """What the first line is chained to, so that ledgers cannot be swapped."""
        return hashlib.sha256(f"lifeboat {self.agent} {self.repository}".encode()).hexdigest()

    def read(self) -> list[Line]:
        """All lines; LedgerError when one of them is not what was written."""
        self.torn = 0
        try:
            with self.path.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_SH)
                content = stream.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LedgerError(f"{self.path}: {error.strerror}") from error
        return self._parsed(content)

    def _parsed(self, content: bytes) -> list[Line]:
        rows = content.split(b"\n")[:-1]
        while rows and rows[-1].endswith(MORE):
            rows.pop()
        self.torn = len(content) - sum(len(row) + 1 for row in rows)
        lines: list[Line] = []
        for number, row in enumerate(rows, 1):
            lines.append(self._line(number, row, lines[-1].hash if lines else self.root))
        return lines

    def unfinished(self) -> list[str]:
        """What to tell of a write that was cut."""
        if not self.torn:
            return []
        return [
            f"{self.path}: the last {self.torn} bytes were never finished: the run that wrote them"
            " was killed, or its machine lost power. They are left out, and this write or the"
            " next removes them; every line before them is whole"
        ]

    def _line(self, number: int, row: bytes, previous: str) -> Line:
        try:
            line = Line(**json.loads(row))
            expected = _digest(previous, number, line.time, line.kind, line.data)
        except (ValueError, TypeError) as error:
            raise LedgerError(f"{self.path}:{number} is not a line of a ledger: {error}") from error
        if (line.sequence, line.previous, line.hash) != (number, previous, expected):
            raise LedgerError(
                f"{self.path}:{number} was changed, or lines before it were removed or added."
                " Compare with a copy (the ledger belongs under version control or in a backup);"
                " nothing is deleted while it cannot be trusted."
            )
        return line

    def append(self, when: datetime, *entries: tuple[str, Mapping[str, Any]]) -> list[Line]:
        """Add lines, all of them on the disk when this returns."""
        with self._locked() as stream:
            content = stream.read()
            added = self.preview(self._parsed(content), when, *entries)
            if added:
                rows = (MORE + b"\n").join(line.dump().encode("ascii") for line in added)
                self._write(stream, len(content) - self.torn, rows + b"\n")
            return added

    def _write(self, stream: io.FileIO, end: int, content: bytes) -> None:
        try:
            stream.truncate(end)
            stream.seek(end)
            left = memoryview(content)
            while left:
                left = left[stream.write(left) :]
            os.fsync(stream.fileno())
            if not end:
                _flush_folder(self.path.parent)
                _flush_folder(self.path.parent.parent)
        except OSError as error:
            stream.truncate(end)
            raise LedgerError(
                f"{self.path} could not be written: {error.strerror}. It holds what it held before,"
                " and nothing more is done. Make room (df, df -i) or solve what is named, and run"
                " the same again"
            ) from error

    def preview(
        self, lines: list[Line], when: datetime, *entries: tuple[str, Mapping[str, Any]]
    ) -> list[Line]:
        """The lines that would be added behind these."""
        added: list[Line] = []
        for kind, data in entries:
            if kind not in KINDS:
                raise LedgerError(f"a ledger has no lines of kind {kind!r}")
            last = added[-1] if added else (lines[-1] if lines else None)
            added.append(self._next(last, stamp(when), kind, data))
        return added

    def _next(self, last: Line | None, time: str, kind: str, data: Mapping[str, Any]) -> Line:
        sequence = last.sequence + 1 if last else 1
        previous = last.hash if last else self.root
        plain = json.loads(json.dumps(data))
        digest = _digest(previous, sequence, time, kind, plain)
        return Line(sequence, time, kind, plain, previous, digest)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[io.FileIO]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with io.FileIO(descriptor, "r+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield stream


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --------------------------------------------------------------------------------------
# What the lines add up to
# --------------------------------------------------------------------------------------

PRESENT, QUARANTINED, REMOVED = "present", "quarantined", "removed"


@dataclass(frozen=True)
class Archive:
    """An archive as the trusted side knows it."""

    id: str
    name: str
    client_time: str
    server_time: str
    source: str  # of the server's time: transaction, first-seen, adopted
    state: str = PRESENT
    reason: str = ""  # why it is quarantined or removed
    proved: bool = False

    @property
    def when(self) -> datetime:
        return moment(self.server_time)

    @property
    def is_checkpoint(self) -> bool:
        return is_checkpoint(self.name)


def is_checkpoint(name: str) -> bool:
    """The name borg gives to what an interrupted create leaves behind."""
    head, dot, tail = name.rpartition(".")
    if tail.isdigit():
        head, dot, tail = head.rpartition(".")
    return bool(head and dot) and tail == "checkpoint"


@dataclass
class View:
    """Everything the ledger says, replayed."""

    repository_id: str | None = None
    began: str | None = None
    reason: str = ""
    archives: dict[str, Archive] = field(default_factory=dict)
    mark: dict[str, Any] | None = None
    marked: str | None = None
    findings: list[dict[str, Any]] = field(default_factory=list)
    deleting: list[str] = field(default_factory=list)  # ids: begun, not accepted yet
    settled: bool = False  # "removed" was written: the next mark accepts the deletions
    by_hand: list[str] = field(default_factory=list)  # those of them that an operator deleted
    last_deletion: str | None = None
    last_compaction: str | None = None
    last_check: dict[str, str] = field(default_factory=dict)
    # When which part of the data was read, for each number of parts that was ever in use.
    readings: dict[int, dict[int, str]] = field(default_factory=dict)
    looked: str | None = None  # when the list of archives was last compared
    head: dict[str, Any] = field(default_factory=lambda: {"sequence": 0, "hash": ""})

    @property
    def standing(self) -> list[Archive]:
        return [archive for archive in self.archives.values() if archive.state != REMOVED]

    def names(self) -> dict[str, str]:
        return {archive.id: archive.name for archive in self.standing}


def view(lines: list[Line]) -> View:
    """Replay the lines."""
    result = View()
    for line in lines:
        _APPLY[line.kind](result, line)
        if line.kind in ("begin", "seen", "mark"):
            result.looked = line.time
        result.head = {"sequence": line.sequence, "hash": line.hash}
    return result


def _begin(result: View, line: Line) -> None:
    result.repository_id = line.data.get("repository_id")
    result.began = line.time
    result.reason = str(line.data.get("reason", ""))


def _seen(result: View, line: Line) -> None:
    data = line.data
    result.archives[data["id"]] = Archive(
        id=data["id"],
        name=data["name"],
        client_time=data["client_time"],
        server_time=data["server_time"],
        source=data["source"],
    )


def _change(result: View, identity: str, **changes: Any) -> None:
    known = result.archives.get(identity)
    if known is not None:
        result.archives[identity] = Archive(**{**vars(known), **changes})


def _quarantined(result: View, line: Line) -> None:
    _change(result, line.data["id"], state=QUARANTINED, reason=line.data["reason"])


def _released(result: View, line: Line) -> None:
    _change(result, line.data["id"], state=PRESENT, reason="")


def _mark(result: View, line: Line) -> None:
    result.mark, result.marked = dict(line.data), line.time
    if result.settled:
        result.deleting, result.by_hand, result.settled = [], [], False


def _finding(result: View, line: Line) -> None:
    result.findings.append({"time": line.time, **line.data})


def refuse_unfounded(path: Path, lines: list[Line], entries: Sequence[tuple[str, Any]]) -> None:
    """What an operator says has to be about something that this ledger knows."""
    said = [data for kind, data in entries if kind == "resolved"]
    if said and not lines:
        raise LedgerError(
            f"there is no {path}, so there are no findings to resolve. Bring the copy"
            " back; if there is none, run custody.yml with -e adopt=true and without resolve."
            " Nothing was written"
        )
    known = set(vanished(view(lines)).values())
    unknown = sorted({name for data in said for name in data.get("gone", [])} - known)
    if unknown:
        raise LedgerError(
            f"that {', '.join(unknown)} vanished is no open finding; open are"
            f" {', '.join(sorted(known)) or 'none'}. Correct gone, or run custody.yml without"
            " resolve first: it finds what is gone. Nothing was written"
        )


def vanished(known: View) -> dict[str, str]:
    """Names by id of the archives whose vanishing is an open finding."""
    return {one["id"]: one["name"] for one in known.findings if one["kind"] == "archive-vanished"}


def _resolved(result: View, line: Line) -> None:
    gone = line.data.get("gone", [])
    result.by_hand += [one for one, name in vanished(result).items() if name in gone]
    result.deleting = list(dict.fromkeys([*result.deleting, *result.by_hand]))
    result.settled = result.settled and not gone
    result.findings = []
    names = line.data.get("release", [])
    for archive in list(result.archives.values()):
        if archive.state == QUARANTINED and archive.name in names:
            _change(result, archive.id, state=PRESENT, reason="")


def _deleting(result: View, line: Line) -> None:
    result.deleting = [entry["id"] for entry in line.data["archives"]]
    result.settled = False


def _removed(result: View, line: Line) -> None:
    for entry in line.data["archives"]:
        _change(result, entry["id"], state=REMOVED, reason=entry.get("reason", ""))
    result.settled = True
    if line.data["archives"]:
        result.last_deletion = line.time


def _compacted(result: View, line: Line) -> None:
    result.last_compaction = line.time


def _checked(result: View, line: Line) -> None:
    for what in line.data.get("what", []):
        result.last_check[what] = line.time
    if "part" in line.data:
        parts = result.readings.setdefault(int(line.data["parts"]), {})
        parts[int(line.data["part"])] = line.time


def _proved(result: View, line: Line) -> None:
    _change(result, line.data["id"], proved=True)


def _rollback(result: View, line: Line) -> None:
    for identity in line.data.get("undone", []):
        _change(result, identity, state=REMOVED, reason="undone by a rollback")
    for identity in line.data.get("restored", []):
        _change(result, identity, state=PRESENT, reason="")
    result.findings, result.deleting, result.by_hand = [], [], []


_APPLY = {
    "begin": _begin,
    "seen": _seen,
    "quarantined": _quarantined,
    "released": _released,
    "mark": _mark,
    "finding": _finding,
    "resolved": _resolved,
    "deleting": _deleting,
    "removed": _removed,
    "compacted": _compacted,
    "checked": _checked,
    "proved": _proved,
    "rollback": _rollback,
}


def marks(lines: list[Line]) -> list[dict[str, Any]]:
    """The accepted states, newest first."""
    return [
        {"time": line.time, "transaction": line.data.get("transaction"), "mark": dict(line.data)}
        for line in reversed(lines)
        if line.kind == "mark"
    ]


def contains(lines: list[Line], head: Mapping[str, Any]) -> bool:
    """Whether a head that somebody else kept is part of this chain."""
    sequence = head.get("sequence", 0)
    if not isinstance(sequence, int) or sequence < 0 or sequence > len(lines):
        return False
    return sequence == 0 or lines[sequence - 1].hash == head.get("hash")
