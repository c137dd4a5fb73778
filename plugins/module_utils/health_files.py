# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The entries of a home against the manifest, and what must not be there.

One walk looks at every entry once, reads what has a digest to compare or may hold a secret, and
changes nothing. Links are never followed, so a hostile home cannot lead root elsewhere.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from .classify import Classifier
from .health_account import HealthError
from .health_sheet import Sheet, count
from .privilege import Identity
from .restore_manifest import Entry, RestoreManifest, show
from .secrets import TEXT_HEAD, Scanner, is_text
from .sqlite import SIDE_FILES
from .verdict import DATA_PROVEN, EXTRACTED
from .walk import Entry as Walked
from .walk import Trouble, Walk, open_file

CHUNK: Final = 1 << 20
# Neither of these can be restored as what it was, and no agent needs one to begin.
NOT_RESTORED: Final = frozenset({"fifo", "socket"})


@dataclass
class Seen:
    """An entry as it stands on the disk."""

    type: str
    size: int
    mode: int
    uid: int
    gid: int
    inode: tuple[int, int]
    classification: str
    target: str | None = None
    sha256: str | None = None
    error: str = ""


@dataclass
class Home:
    """A home as one walk saw it."""

    path: str
    descriptor: int
    entries: dict[str, Seen] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    findings: list[tuple[str, str, int]] = field(default_factory=list)
    scanned: int = 0
    too_large: list[str] = field(default_factory=list)  # text that was not scanned

    def close(self) -> None:
        os.close(self.descriptor)


@dataclass(frozen=True)
class Look:
    """What the walk shall read."""

    classifier: Classifier
    digests: frozenset[str] = frozenset()
    scanner: Scanner | None = None
    scan_limit: int = 0
    not_scanned: frozenset[str] = frozenset()


def open_home(path: str) -> Home:
    """The home, opened; a home that is a link is followed once, as the agent does."""
    real = os.path.realpath(path)
    try:
        descriptor = os.open(real, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise HealthError(
            f"{path}: {error.strerror}", "Is the agent restored, and is its home there?"
        ) from error
    return Home(real, descriptor)


def look_at(home: Home, what: Look) -> None:
    """Walk over the home once."""
    walk = Walk(what.classifier, measure=True)

    def visit(entry: Walked, folder: int, name: str) -> None:
        status = entry.stat
        seen = Seen(
            type=entry.type,
            size=status.st_size,
            mode=status.st_mode & 0o7777,
            uid=status.st_uid,
            gid=status.st_gid,
            inode=(status.st_dev, status.st_ino),
            classification=entry.classification,
            target=entry.target,
        )
        home.entries[entry.path] = seen
        if entry.type == "file":
            _read(home, entry, seen, folder, name, what)

    walk.run(home.descriptor, visit)
    home.troubles = walk.troubles


def _read(home: Home, entry: Walked, seen: Seen, folder: int, name: str, what: Look) -> None:
    digest = entry.path in what.digests
    scanner = None if entry.path in what.not_scanned else what.scanner
    if not (digest or scanner):
        return
    try:
        descriptor = open_file(name, folder, entry.stat)
    except OSError as error:
        seen.error = error.strerror or str(error)
        return
    with os.fdopen(descriptor, "rb") as stream:
        if scanner is not None:
            large = seen.size > what.scan_limit
            content = stream.read(TEXT_HEAD if large else what.scan_limit + 1)
            _scan(home, entry.path, content, None if large else scanner)
            stream.seek(0)
        if digest:
            sha256 = hashlib.sha256()
            for chunk in iter(lambda: stream.read(CHUNK), b""):
                sha256.update(chunk)
            seen.sha256 = sha256.hexdigest()


def _scan(home: Home, path: str, content: bytes, scanner: Scanner | None) -> None:
    """Text is scanned, or noted where it is too large to be."""
    if not is_text(content):
        return
    if scanner is None:
        home.too_large.append(path)
        return
    home.scanned += 1
    home.findings += [(path, found.rule, found.line) for found in scanner.scan(content)]


@dataclass(frozen=True)
class Expected:
    """The manifest, cut for comparison."""

    manifest: RestoreManifest
    account: Identity
    rewritten: frozenset[str] = frozenset()  # paths as shown

    @property
    def databases(self) -> frozenset[str]:
        return frozenset(database.path for database in self.manifest.databases)

    @property
    def companions(self) -> frozenset[str]:
        """Logs that came with a database and were folded into it."""
        return frozenset(path + side for path in self.databases for side in SIDE_FILES)

    def entries(self) -> Iterator[Entry]:
        """Every entry that has to be there."""
        for entry in self.manifest.entries.values():
            if entry.type not in NOT_RESTORED and entry.path not in self.companions:
                yield entry

    def fixed(self) -> Iterator[Entry]:
        """Files that stand byte for byte as the manifest says."""
        for entry in self.entries():
            if entry.type in ("file", "hardlink") and entry.path not in self.databases:
                yield entry

    def digests(self) -> frozenset[str]:
        return frozenset(entry.path for entry in self.fixed() if self.has_digest(entry))

    def has_digest(self, entry: Entry) -> bool:
        """Whether the manifest's digest speaks of what was archived."""
        return entry.sha256 is not None and show(entry.path) not in self.rewritten

    def not_compared(self, entries: Iterable[Entry]) -> str:
        """Which of these entries nothing can be said about."""
        written = [show(entry.path) for entry in entries if show(entry.path) in self.rewritten]
        return f"written to while archived, not compared: {', '.join(written)}" if written else ""

    def owner(self, entry: Entry) -> tuple[int, int]:
        """Ids differ between hosts: what was the agent's is the agent's again, the rest is kept."""
        agent = self.manifest.agent
        uid = self.account.uid if entry.uid in (agent.uid, None) else entry.uid
        gid = self.account.gid if entry.gid in (agent.gid, None) else entry.gid
        return int(uid or 0), int(gid or 0)


def check_entries(sheet: Sheet, expected: Expected, home: Home) -> None:
    """Presence, type, size, mode, owner, target and content of every entry."""
    entries = list(expected.entries())
    here = [(entry, home.entries[entry.path]) for entry in entries if entry.path in home.entries]
    fixed = [
        (entry, home.entries[entry.path])
        for entry in expected.fixed()
        if entry.path in home.entries
    ]
    _check_presence(sheet, entries, home)
    sheet.compare(
        *("entries_type", EXTRACTED, "type", len(here)),
        (f"{e.path}: {s.type}, expected {_kind(e)}" for e, s in here if s.type != _kind(e)),
        "Something was put into the place of an archived entry. Restore again into an empty place.",
    )
    _check_sizes(sheet, expected, fixed)
    _check_content(sheet, expected, fixed)
    _check_modes(sheet, expected, here)
    _check_links(sheet, here, home)


def _kind(entry: Entry) -> str:
    return "file" if entry.type == "hardlink" else entry.type


def _size(value: int) -> str:
    return "empty" if value == 0 else count(value, "byte")


def _check_presence(sheet: Sheet, entries: Sequence[Entry], home: Home) -> None:
    hint = (
        "The restore is incomplete, or somebody removed these since. Restore again; if they are "
        "missing again, drill an earlier archive with at=DATE."
    )
    with sheet.check(
        "entries_present", EXTRACTED, f"{count(len(entries), 'entry', 'entries')}", hint
    ) as draft:
        draft.offend(*(e.path or "." for e in entries if e.path not in home.entries))
        draft.offend(*(f"{item.path}: {item.reason}" for item in home.troubles))
        draft.found = f"{len(entries) - len(draft.offenders):,} of {len(entries):,}"
        if not entries:
            draft.fail("the manifest lists nothing")


def _check_sizes(sheet: Sheet, expected: Expected, fixed: Sequence[tuple[Entry, Seen]]) -> None:
    """A file without a digest may have grown between the look at it and its archiving."""
    fixed = [(e, s) for e, s in fixed if show(e.path) not in expected.rewritten]
    grown = [1 for e, s in fixed if e.sha256 is None and s.size > e.size]
    with sheet.check(
        "entries_size",
        EXTRACTED,
        f"{count(len(fixed), 'size')} as archived",
        "These files are not what was archived. Restore again, or an earlier archive (at=DATE).",
    ) as draft:
        draft.tolerance = "files without a digest may have grown while they were archived"
        draft.offend(
            *(
                f"{e.path}: {_size(s.size)}, expected {_size(e.size)}"
                for e, s in fixed
                if s.size < e.size or (s.size > e.size and e.sha256 is not None)
            )
        )
        draft.found = f"{len(fixed) - len(draft.offenders):,} of {len(fixed):,} agree"
        draft.found += f", {len(grown)} of them grew" if grown else ""


def _check_content(sheet: Sheet, expected: Expected, fixed: Sequence[tuple[Entry, Seen]]) -> None:
    hashed = [(entry, seen) for entry, seen in fixed if expected.has_digest(entry)]
    wrong = [(entry, seen) for entry, seen in hashed if seen.sha256 != entry.sha256]
    sheet.compare(
        *("content", DATA_PROVEN, "irreplaceable file", len(hashed)),
        (
            f"{entry.path}: "
            + (seen.error or ("empty" if seen.size == 0 else "altered"))
            + f", expected SHA-256 {str(entry.sha256)[:12]}..."
            for entry, seen in wrong
        ),
        "What makes the agent itself is not what was archived. Restore again, or an earlier "
        "archive with at=DATE, and find out who wrote to these files.",
        expected.not_compared(entry for entry, _seen in fixed if entry.sha256),
    )


def _check_modes(sheet: Sheet, expected: Expected, here: Sequence[tuple[Entry, Seen]]) -> None:
    moded = [(e, s) for e, s in here if e.mode is not None and e.type != "symlink"]
    sheet.compare(
        *("entries_mode", DATA_PROVEN, "mode", len(moded)),
        (
            f"{e.path or '.'}: {s.mode:04o}, expected {e.mode:04o}"
            for e, s in moded
            if s.mode != e.mode
        ),
        "Restore with the role restore, which sets modes by the manifest.",
    )
    name = expected.account.name
    owners = [(e, s, expected.owner(e)) for e, s in here]
    sheet.compare(
        *("entries_owner", DATA_PROVEN, "owner", len(owners)),
        (
            f"{e.path or '.'}: {s.uid}:{s.gid}, expected {uid}:{gid}"
            for e, s, (uid, gid) in owners
            if (s.uid, s.gid) != (uid, gid)
        ),
        f"The agent runs as {name} and may not be able to read these. Restore with the role "
        "restore, and never run the agent's commands as root.",
    )


def _check_links(sheet: Sheet, here: Sequence[tuple[Entry, Seen]], home: Home) -> None:
    links = [(e, s) for e, s in here if e.type == "symlink"]
    twins = [(e, s) for e, s in here if e.type == "hardlink" and e.target in home.entries]
    wrong = [f"{e.path}: leads to {s.target}, expected {e.target}" for e, s in links]
    wrong = [text for text, (e, s) in zip(wrong, links) if s.target != e.target]
    wrong += [
        f"{e.path}: is no longer the same file as {e.target}"
        for e, s in twins
        if s.inode != home.entries[str(e.target)].inode
    ]
    sheet.compare(
        *("links", DATA_PROVEN, "link", len(links) + len(twins)),
        wrong,
        "Restore again: a link that leads elsewhere may hide or leak data.",
    )


def rule_of(path: str, classifier: Classifier) -> int:
    """The number of the rule that speaks of a file at this path."""
    state = classifier.root
    *folders, name = path.split("/")
    for folder in folders:
        state = classifier.enter(state, folder)
    return state.file(name)
