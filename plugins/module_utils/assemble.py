# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From entries to what is archived: reads files, scrubs, decides about the unknown, and keeps what
the manifest and the archive's listing must say about each path."""

from __future__ import annotations

import array
import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .config import BoxConfig
from .copies import Copy, RunDirectory
from .listing import lossy
from .look import Look, Looker, blocks
from .manifest import (
    DATABASE_COPY,
    DATABASES,
    ENVIRONMENT_NAME,
    HOME,
    SCRUBBED,
    SCRUBBED_COPY,
    printable,
)
from .profile import ARCHIVED, KEEP, SCRUB, UNKNOWN
from .scrub import Policy, Scrubbed, ScrubError, export_environment, scrub
from .secrets import (
    Finding,
    Scanner,
    as_dicts,
    credential_file_name,
    is_private_key,
    is_text,
    secret_file_name,
)
from .sqlite import HEADER_SIZE
from .survey import Candidate, Database, Survey
from .walk import DIRECTORY, FIFO, FILE, SOCKET, SYMLINK

_SCRUB_LIMIT = 16 << 20
_ENVIRONMENT_LIMIT = 1 << 20
_BATCH = 400
_ATTEMPTS = 3
# What changed in the last minutes is read as late as can be, just before borg reads it.
_FRESH_SECONDS = 900
HARD_LINK = "hardlink"
KEPT, DROPPED, QUARANTINED = "kept", "dropped", "quarantined"
_LOGS = ("-wal", "-journal")
_WITH_LOGS = ("pair", "raw")
_GONE = (errno.ENOENT, errno.ESTALE, errno.ENOTDIR, errno.ELOOP)


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something a run has to say; an error makes it fail."""

    error: bool
    message: str
    hint: str = ""


class Assembly:
    """What goes into one archive. `feed` is called with paths and how many of them are files."""

    def __init__(
        self,
        *,
        config: BoxConfig,
        profile: Mapping[str, Any],
        home: str,
        survey: Survey,
        looker: Looker,
        scanner: Scanner,
        run_directory: RunDirectory,
        feed: Callable[[list[bytes], int], None],
    ) -> None:
        self._config = config
        self._exported = profile.get("secrets", {}).get("environment", [])
        self._home = home
        self._survey = survey
        self._looker = looker
        self._scanner = scanner
        self._run_directory = run_directory
        self._policy = Policy.of(profile, scanner)
        self._feed = feed
        self._batch: list[bytes] = []
        self._files = 0
        self._handed_on = 0
        self._sequence: list[Candidate] = []  # the records as they were handed on
        self._reached = array.array("L")  # how many files had been handed on with each
        self._settled = 0
        self._links: dict[tuple[int, int], str] = {}
        self._guarded: dict[tuple[int, int], str] | None = None
        self._unread = ""  # a folder of secrets of which not every file is known
        self._targets: dict[str, str] = {}
        self._followed = 0
        self._linked: list[Candidate] = []
        self._fresh: list[Candidate] = []
        self._scanned_logs: dict[str, tuple[os.stat_result, Copy]] = {}
        self._fresh_after = (time.time() - _FRESH_SECONDS) * 1e9
        self._reported: set[tuple[str, str]] = set()
        self.records: dict[str, Candidate] = {}
        self.copies: dict[bytes, Copy] = {}
        self.unknown: list[dict[str, str]] = []
        self._withheld: list[str] = []
        self.findings: list[dict[str, Any]] = []
        self.to_be_supplied: list[dict[str, str]] = []
        self.environment: dict[str, dict[str, Any]] = {}
        self.problems: list[Problem] = []

    # -- feeding --------------------------------------------------------------------------------

    def absolute(self, path: str) -> str:
        """Where an entry of the home lies."""
        return f"{self._home}/{path}" if path else self._home

    def archive(self, entry: Candidate) -> None:
        """An entry of the home goes into the archive under its own path."""
        data = os.fsencode(f"{self._home}/{entry.path}" if entry.path else self._home)
        if b"\r" in data:
            self.problems.append(
                Problem(
                    True,
                    f"{printable(entry.path)!r}: borg cannot be given a carriage return in a name",
                    "rename it, or drop it by a rule",
                )
            )
            return
        if entry.classification not in ARCHIVED and entry.classification != UNKNOWN:
            entry.classification = KEEP  # a folder that is there for what is in it
        self._push(data, entry.type == FILE or entry.type == HARD_LINK)
        self._record(entry)

    def archive_copy(self, copy: Copy) -> None:
        """A file of the run directory goes into the archive."""
        data = os.fsencode(copy.path)
        self.copies[lossy(data[1:])] = copy
        self._push(data, True)

    def copies_of(self, copies: Iterable[Copy]) -> int:
        """Files of the run directory that somebody else wrote; how many there are."""
        count = 0
        for copy in copies:
            self.archive_copy(copy)
            count += 1
        self.flush()
        return count

    def _record(self, entry: Candidate) -> None:
        self.records[entry.path] = entry
        self._sequence.append(entry)
        self._reached.append(self._handed_on + self._files)

    def _push(self, path: bytes, is_file: bool) -> None:
        self._batch.append(path)
        self._files += is_file
        if len(self._batch) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand the batch on."""
        if self._batch:
            self._feed(self._batch, self._files)
            self._handed_on += self._files
            self._batch, self._files = [], 0

    def archived_in_place(self) -> dict[str, Candidate]:
        """The records that the archive holds under the home."""
        return {
            path: record
            for path, record in self.records.items()
            if record.stored == HOME and record.type not in (FIFO, SOCKET)
        }

    # -- entries --------------------------------------------------------------------------------

    @property
    def lively(self) -> bool:
        """Whether somebody is at work in this home."""
        return bool(self._fresh)

    @property
    def withheld(self) -> list[str]:
        """What the rules or a look into it keep out of the archive."""
        return [*self._survey.withheld, *self._withheld]

    def take(self, entry: Candidate) -> None:
        """An entry that the walk has just found: archived at once, unless it has to wait for the
        end of the walk, or to be read as late as can be."""
        if entry.type != FILE:
            self._try(entry)
        elif entry.links > 1:
            self._linked.append(entry)  # its other name may be that of a secret
        elif entry.mtime_ns > self._fresh_after:
            self._fresh.append(entry)
        else:
            self._try(entry)

    def guard(self) -> None:
        """The walk has ended: all links with the names of secrets are known now."""
        self._follow_links()
        late: dict[str, list[str]] = {}
        for path, record in self.records.items() if self._targets else ():
            link = self._link_to(path)
            if link and record.type == FILE and record.classification in (KEEP, UNKNOWN):
                late.setdefault(link, []).append(path)
        for link, (first, *others) in late.items():
            more = f" and {len(others)} more files" if others else ""
            self.problems.append(
                Problem(
                    True,
                    f"{printable(first)}{more} was archived before {printable(link)} was seen, a "
                    "link to it that has the name of a secret",
                    "name it secret by a rule, and delete the archive of this run",
                )
            )

    def _follow_links(self) -> None:
        """What is below the home and links with the names of secrets lead to."""
        links = self._survey.secret_links
        while self._followed < len(links):
            link = links[self._followed]
            self._followed += 1
            path = self._led_below(link)
            if path is None or (
                link in self._survey.scrub_links and os.path.isdir(self.absolute(path))
            ):
                continue
            self._targets.setdefault(path, link)

    def _link_to(self, path: str) -> str | None:
        """The link with the name of a secret that leads to a file, or to a folder it is in."""
        place = path if self._targets else ""
        while place:
            if place in self._targets:
                return self._targets[place]
            place = place.rpartition("/")[0]
        return None

    def _other_name(self, entry: Candidate) -> str | None:
        """The name under which a file of several names is a secret, or archived without them."""
        if entry.links < 2:
            return None
        if self._guarded is None:
            self._guarded = self._names_of_secrets()
        return self._guarded.get((entry.device, entry.inode))

    def _names_of_secrets(self) -> dict[tuple[int, int], str]:
        """By device and inode. The walk does not enter folders of secrets: this does."""
        scrubbed = (e for e in self._survey.archived if e.classification == SCRUB)
        found = {
            (entry.device, entry.inode): entry.path
            for entry in [*self._survey.secrets, *scrubbed]
            if entry.type == FILE and entry.links > 1
        }
        kept = {e.path for e in self._survey.archived if e.classification != SCRUB}
        for folder in self._survey.secret_folders:
            try:
                for path, status in self._looker.files_below(folder):
                    if status.st_nlink > 1 and path not in kept:
                        found.setdefault((status.st_dev, status.st_ino), path)
            except OSError as error:
                self._unreadable(folder, error)
                self._unread = folder
        return found

    def _led_below(self, link: str) -> str | None:
        """Where a link leads, None where that is not below the home."""
        real = os.path.realpath(self.absolute(link))
        return real[len(self._home) + 1 :] if real.startswith(f"{self._home}/") else None

    def linked_entries(self) -> None:
        """Files of several names had to wait for the end of the walk."""
        for entry in self._linked:
            if entry.mtime_ns > self._fresh_after:
                self._fresh.append(entry)
            else:
                self._try(entry)
        self.flush()

    def fresh_entries(self) -> None:
        """What changed in the last minutes, in the state it has now."""
        for entry in self._fresh:
            self._as_it_is_now(entry)
        self.flush()

    def _as_it_is_now(self, entry: Candidate) -> None:
        """Programs replace files whole: one that was replaced between two looks is looked at again."""
        failure = OSError()
        for _attempt in range(_ATTEMPTS):
            try:
                status = self._looker.status(entry.path)
                if stat.S_ISREG(status.st_mode):
                    entry.update(status)
                self._entry(entry)
                return
            except OSError as error:
                failure = error
        self._unreadable(entry.path, failure)

    def _try(self, entry: Candidate) -> None:
        try:
            self._entry(entry)
        except OSError as error:
            if entry.type == FILE and error.errno in _GONE:
                self._fresh.append(entry)
            else:
                self._unreadable(entry.path, error)

    def _entry(self, entry: Candidate) -> None:
        if entry.type == FILE:
            if entry.classification == SCRUB:
                self._scrub(entry)
            elif entry.classification == UNKNOWN:
                self._unknown(entry)
            else:
                self._keep(entry)
        elif entry.type in (FIFO, SOCKET):
            self._record(entry)  # known to the manifest, never read
        elif entry.type == DIRECTORY or self._allow_link(entry):
            self.archive(entry)

    def _allow_link(self, entry: Candidate) -> bool:
        unknown = entry.type == SYMLINK and entry.classification == UNKNOWN
        return not unknown or self._allow_unknown(entry, "")

    def _keep(self, entry: Candidate) -> None:
        if self._hard_link(entry):
            self.archive(entry)
            return
        look = self._looker.look(entry, self._survey.classifier.hashed(entry.rule))
        accepted = self._scanner.accepts
        findings = [f for f in look.findings if not accepted(entry.path, f.rule)]
        reason, rule = self._secret_in_kept(entry, look, bool(findings))
        if reason:
            self._withhold(entry, reason, rule)
            return
        self.findings.extend(as_dicts(printable(entry.path), findings))
        self._archive_file(entry, look)

    def _secret_in_kept(self, entry: Candidate, look: Look, findings: bool) -> tuple[str, str]:
        """Why a file is a secret although its folder is kept, '' where it is not; and by which rule
        it can be accepted, '' where by none."""
        accepted = self._scanner.accepts
        if look.secret and not accepted(entry.path, "private-key"):
            return f"{look.secret}, in a folder that is kept", "private-key"
        if findings and credential_file_name(entry.path) and not accepted(entry.path, "name"):
            return "it has the name of a file of credentials, and holds some", "name"
        return self._guarded_link(entry), ""

    def _guarded_link(self, entry: Candidate) -> str:
        """A second name of a secret, or of a file that is archived without its secrets; or what a
        link of such a name leads to."""
        self._follow_links()
        link = self._link_to(entry.path)
        if link is not None:
            return f"{printable(link)}, a link to it, has the name of a secret"
        other = self._other_name(entry)
        if other is not None:
            return f"it is the same file as {printable(other)}"
        if entry.links > 1 and self._unread:
            return (
                f"it may be the same file as one in {printable(self._unread)}, not all of it read"
            )
        return ""

    def _unknown(self, entry: Candidate) -> None:
        look = self._looker.look(entry, None)
        if self._allow_unknown(entry, self._reason(entry, look)):
            if self._hard_link(entry):
                self.archive(entry)
            else:
                self._archive_file(entry, look)

    def _archive_file(self, entry: Candidate, look: Look) -> None:
        entry.sha256 = look.sha256
        self.archive(entry)
        if entry.links > 1:
            self._links[entry.device, entry.inode] = entry.path

    def _reason(self, entry: Candidate, look: Look) -> str:
        """Why an unknown file is a secret, '' where it is not."""
        guarded = self._guarded_link(entry)
        if guarded:
            return guarded
        accepted = self._scanner.accepts
        rules = sorted({f.rule for f in look.findings if not accepted(entry.path, f.rule)})
        if look.secret and not accepted(entry.path, "name"):
            return look.secret
        return f"the secret scan hit: {', '.join(rules)}" if rules else ""

    def _allow_unknown(self, entry: Candidate, reason: str) -> bool:
        """Decide about an unknown entry and report it: the whole by its topmost unknown path."""
        root = entry.unknown_root or entry.path
        if reason:
            self._withheld.append(entry.path)
            self._report(entry.path, QUARANTINED, reason)
            return False
        if self._config.unknown == "keep":
            self._report(root, KEPT, "no rule knows it; the secret scan passed")
            return True
        self._report(root, DROPPED, f"no rule knows it; the policy is {self._config.unknown}")
        return False

    def _report(self, path: str, decision: str, reason: str) -> None:
        if (path, decision) not in self._reported:
            self._reported.add((path, decision))
            item = {"path": printable(path), "decision": decision, "reason": reason}
            self.unknown.append(item)

    def _hard_link(self, entry: Candidate) -> bool:
        """Whether the same file was archived before under another path."""
        first = self._links.get((entry.device, entry.inode)) if entry.links > 1 else None
        if first is None:
            return False
        entry.type, entry.target, entry.any_size = HARD_LINK, first, True
        return True

    def _withhold(self, entry: Candidate, reason: str, rule: str) -> None:
        path = printable(entry.path)
        if rule:
            hint = (
                f"where it is none, accept it: {{path: {path}, rule: {rule}}} in accepted_findings"
            )
        else:
            hint = (
                "no setting lets it in: where it is no secret, make it a file of its own, that no "
                "link and no other name of a secret leads to"
            )
        self._withheld.append(entry.path)
        self.problems.append(
            Problem(
                False,
                f"{path} was withheld: {reason}",
                f"{hint}; where it is one, name it secret by a rule, and this is not said again",
            )
        )

    def _unreadable(self, path: str, error: OSError) -> None:
        if error.errno in _GONE and not os.path.lexists(self.absolute(path)):
            self.problems.append(Problem(False, f"{printable(path)} vanished while it was read"))
            return
        self.problems.append(
            Problem(
                True,
                f"{printable(path)} could not be read: {error.strerror}",
                "check its permissions and the disk",
            )
        )

    # -- scrubbed copies --------------------------------------------------------------------------

    def _scrub(self, entry: Candidate) -> None:
        try:
            text = self._looker.read(entry, _SCRUB_LIMIT).decode("utf-8")
            result = scrub(entry.path, text, self._policy)
        except (ScrubError, UnicodeDecodeError) as error:
            self._withheld.append(entry.path)
            self.problems.append(
                Problem(
                    True,
                    f"{printable(entry.path)} was withheld, it cannot be scrubbed safely: {error}",
                    "repair its syntax, or drop it by a rule",
                )
            )
            return
        self._place_scrubbed(entry, result)

    def _place_scrubbed(self, entry: Candidate, result: Scrubbed) -> None:
        data = result.text.encode("utf-8")
        copy = self._run_directory.write(f"{SCRUBBED}/{entry.path}", data)
        entry.stored, entry.size = SCRUBBED_COPY, len(data)
        entry.sha256 = hashlib.sha256(data).hexdigest()
        self._record(entry)
        self.archive_copy(copy)
        self.to_be_supplied += [
            {"path": printable(entry.path), "key": key} for key in dict.fromkeys(result.keys)
        ]

    def export_environments(self) -> None:
        """The names in every .env file, and the values that the profile calls harmless."""
        for entry in self._survey.secrets:
            if entry.path.rpartition("/")[2] != ".env" or entry.type not in (FILE, SYMLINK):
                continue
            try:
                data = self._environment(entry)
            except OSError as error:
                self._unreadable(entry.path, error)
                continue
            if data is None:
                continue
            text = data.decode("utf-8", "replace")
            exported = export_environment(text, self._policy, self._exported)
            self.environment[printable(entry.path)] = exported
        if self.environment:
            data = json.dumps({"format": 1, "files": self.environment}, indent=1).encode()
            copy = self._run_directory.write(ENVIRONMENT_NAME, data)
            self.archive_copy(copy)

    def _environment(self, entry: Candidate) -> bytes | None:
        if entry.type == FILE:
            return self._looker.read(entry, _ENVIRONMENT_LIMIT)
        path = self._led_below(entry.path)
        if path is not None and os.path.isfile(self.absolute(path)):
            with contextlib.suppress(OSError):
                data = self._looker.read_now(path, _ENVIRONMENT_LIMIT)
                if is_text(data) and not is_private_key(data):
                    return data
        self._not_followed(
            entry,
            ", which is no settings file of the home: its names and harmless values are not in the "
            "archive",
        )
        return None

    def links_to_settings(self) -> None:
        """A link in the place of a file that is archived without its secrets brings nothing of it."""
        for link in dict.fromkeys(self._survey.secret_links):
            record = self.records.get(link)
            if record is None or record.type != SYMLINK or record.classification != SCRUB:
                continue
            if self._led_below(link) not in self.records:
                self._not_followed(record, ": the link is archived, what it leads to is not")

    def _not_followed(self, entry: Candidate, lost: str) -> None:
        self.problems.append(
            Problem(
                False,
                f"{printable(entry.path)} is a link to {printable(entry.target or '')}{lost}",
                "where it is to come back, put the file itself in the place of the link",
            )
        )

    # -- databases --------------------------------------------------------------------------------

    def allow_database(self, database: Database) -> bool:
        """Whether a database is worth holding: one that no rule knows has to pass the scan like any
        unknown file, now by its name and main file, and once more when it is held."""
        entry = database.entry
        if entry.classification != UNKNOWN:
            reason = self._guarded_link(entry)
            if reason:
                self._withhold(entry, reason, "")
            return not reason
        try:
            reason = self._reason(entry, self._looker.look(entry, None))
        except OSError as error:
            self._unreadable(entry.path, error)
            return False
        if reason or self._config.unknown != "keep":
            return self._allow_unknown(entry, reason)
        return True

    def allow_held(self, database: Database, *, method: str, place: Path | None) -> bool:
        """Scan the very bytes of an unknown database that are to be archived: the main file that no
        checkpoint can change any more, or its copy, and a copy of what its logs hold by now."""
        entry = database.entry
        if entry.classification != UNKNOWN:
            return True
        try:
            findings = self._scan_held(entry, method, place)
        except OSError as error:
            self._unreadable(entry.path, error)
            return False
        name_was_accepted = secret_file_name(entry.path) is not None
        reason = "" if name_was_accepted else self._reason(entry, Look(None, tuple(findings)))
        allowed = self._allow_unknown(entry, reason)
        if not allowed:
            self._forget_logs(entry.path)
        return allowed

    def _forget_logs(self, path: str) -> None:
        for suffix in _LOGS:
            _status, copy = self._scanned_logs.pop(path + suffix, (None, None))
            if copy is not None:
                self._run_directory.remove(copy)

    def _scan_held(self, entry: Candidate, method: str, place: Path | None) -> list[Finding]:
        if place is not None:
            with place.open("rb", buffering=0) as file:
                return self._scanner.scan_blocks(blocks(file.fileno()))
        entry.update(self._looker.status(entry.path))
        findings = list(self._looker.look(entry, None).findings)
        for suffix in _LOGS if method in _WITH_LOGS else ():
            with contextlib.suppress(FileNotFoundError):
                findings += self._scan_log(entry.path + suffix)
        return findings

    def _scan_log(self, path: str) -> list[Finding]:
        """What is archived of a log that goes on growing is the copy that was scanned."""
        descriptor = self._looker.open(path)
        try:
            status = os.fstat(descriptor)
            copy = self._run_directory.begin(f"{DATABASES}/{path}")

            def copied() -> Iterator[bytes]:
                for block in blocks(descriptor):
                    copy.write(block)
                    yield block

            findings = self._scanner.scan_blocks(copied())
        finally:
            os.close(descriptor)
        self._scanned_logs[path] = status, copy.finish()
        return findings

    def not_sqlite(self) -> None:
        """Files named like a database that SQLite cannot read."""
        for entry in self._survey.not_sqlite:
            if entry.path in self.records and not self._scanner.accepts(entry.path, "database"):
                self.problems.append(
                    Problem(
                        True,
                        f"database {printable(entry.path)} is not readable: "
                        + _why_not_sqlite(entry),
                        "it was archived as it is: restore it from an earlier archive; where it "
                        "is right, accept it: "
                        "{path: ..., rule: database} in accepted_findings",
                    )
                )

    def database(self, database: Database, *, method: str, place: Path | None) -> None:
        """A held database: the main file, with its write-ahead log where both are the point."""
        entry = database.entry
        if place is not None:
            copy = self._run_directory.finished_database(place)
            entry.stored, entry.size = DATABASE_COPY, copy.size
            self._record(entry)
            self.archive_copy(copy)
            return
        entry.update(os.stat(self.absolute(entry.path), follow_symlinks=False))
        entry.any_size = method != "main"
        self.archive(entry)
        for suffix in _LOGS if method in _WITH_LOGS else ():
            if entry.classification == UNKNOWN:
                self._scanned_log(database, suffix)
            else:
                self._side(database, suffix)

    def _scanned_log(self, database: Database, suffix: str) -> None:
        status, copy = self._scanned_logs.get(database.path + suffix, (None, None))
        if status is None or copy is None or not copy.size:
            return
        side = database.side(suffix, status)
        side.stored, side.size = DATABASE_COPY, copy.size
        self._record(side)
        self.archive_copy(copy)

    def _side(self, database: Database, suffix: str) -> None:
        path = database.path + suffix
        try:
            status = os.stat(self.absolute(path), follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return
        side = database.side(suffix, status)
        side.any_size = True
        self.archive(side)

    # -- the end ----------------------------------------------------------------------------------

    def settled(self, files: int | None = None) -> Iterator[Candidate]:
        """The records, each once and in order: those that borg is done with when it has read so
        many files, or all. The hash of a file that changed since it was read says nothing any
        more and is taken back."""
        while self._settled < len(self._sequence):
            if files is not None and self._reached[self._settled] > files:
                return
            record = self._sequence[self._settled]
            self._settled += 1
            self._take_back(record)
            yield record

    def _take_back(self, record: Candidate) -> None:
        if record.sha256 is None or record.stored != HOME:
            return
        try:
            status = self._looker.status(record.path)
        except OSError:
            return
        if status.st_mtime_ns != record.mtime_ns or status.st_size != record.size:
            record.sha256, record.changed, record.any_size = None, True, True


def _why_not_sqlite(entry: Candidate) -> str:
    if entry.size < HEADER_SIZE:
        return f"emptied or cut off, it has {entry.size} bytes left"
    return "encrypted, or its header is damaged"
