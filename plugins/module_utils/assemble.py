# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From entries to what is archived: reads files, scrubs, decides about the unknown, and keeps the
list of paths for borg, the manifest's entries and what the archive must say about each path."""

from __future__ import annotations

import dataclasses
import errno
import grp
import hashlib
import json
import os
import pwd
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .config import BoxConfig
from .errors import LifeboatError
from .listing import Expected, lossy
from .look import Look, Looker
from .manifest import (
    DATABASE_COPY,
    ENVIRONMENT_NAME,
    HOME,
    SCRUBBED,
    SCRUBBED_COPY,
    printable,
)
from .manifest import (
    Entry as Record,
)
from .profile import ARCHIVED, KEEP, SCRUB, UNKNOWN
from .scrub import Policy, Scrubbed, ScrubError, export_environment, scrub
from .secrets import Scanner, as_dicts
from .survey import Database, Survey
from .walk import DIRECTORY, FIFO, FILE, SOCKET, SYMLINK, Entry

_SCRUB_LIMIT = 16 << 20
_BATCH = 400
KEPT, DROPPED, QUARANTINED = "kept", "dropped", "quarantined"


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something a run has to say; an error makes it fail."""

    error: bool
    message: str
    hint: str = ""


class Names:
    """User and group names, looked up once."""

    def __init__(self) -> None:
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}

    def user(self, uid: int) -> str:
        """The name of a user, the number where there is none."""
        if uid not in self._users:
            try:
                self._users[uid] = pwd.getpwuid(uid).pw_name
            except KeyError:
                self._users[uid] = str(uid)
        return self._users[uid]

    def group(self, gid: int) -> str:
        """The name of a group, the number where there is none."""
        if gid not in self._groups:
            try:
                self._groups[gid] = grp.getgrgid(gid).gr_name
            except KeyError:
                self._groups[gid] = str(gid)
        return self._groups[gid]


class Assembly:
    """What goes into one archive. `feed` is called with paths as they are settled."""

    def __init__(
        self,
        *,
        config: BoxConfig,
        profile: Mapping[str, Any],
        home: str,
        survey: Survey,
        looker: Looker,
        scanner: Scanner,
        feed: Callable[[list[bytes]], None],
    ) -> None:
        self._config = config
        self._profile = profile
        self._home = home
        self._run_dir = Path(config.run_dir)
        self._survey = survey
        self._looker = looker
        self._scanner = scanner
        self._policy = Policy.of(profile, scanner)
        self._feed = feed
        self._names = Names()
        self._batch: list[bytes] = []
        self._links: dict[tuple[int, int], str] = {}
        self._skipped_folders: set[str] = set()
        self.records: dict[str, Record] = {}
        self.expected: dict[bytes, Expected] = {}
        self.unknown: list[dict[str, str]] = []
        self.withheld = list(survey.withheld)
        self.findings: list[dict[str, Any]] = []
        self.to_be_supplied: list[dict[str, str]] = []
        self.environment: dict[str, dict[str, Any]] = {}
        self.problems: list[Problem] = []
        self.volatile: set[bytes] = set()

    # -- feeding ------------------------------------------------------------------------------

    def absolute(self, path: str) -> str:
        """Where an entry of the home lies."""
        return f"{self._home}/{path}" if path else self._home

    def archive(self, path: str, status: os.stat_result, *, any_size: bool = False) -> None:
        """One absolute path goes into the archive."""
        data = os.fsencode(path)
        if b"\r" in data:
            self.problems.append(
                Problem(
                    True,
                    f"{printable(path)!r}: borg cannot be given a name with a carriage return",
                    "rename it, or drop it by a rule",
                )
            )
            return
        sized = None if any_size or not stat.S_ISREG(status.st_mode) else status.st_size
        self.expected[lossy(data[1:])] = Expected(
            status.st_mode, status.st_uid, status.st_gid, sized
        )
        self._batch.append(data)
        if len(self._batch) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand the batch on."""
        if self._batch:
            self._feed(self._batch)
            self._batch = []

    def record(
        self,
        entry: Entry,
        *,
        kind: str | None = None,
        look: Look | None = None,
        stored: str = HOME,
        target: str | None = None,
        size: int | None = None,
        sha256: str | None = None,
    ) -> None:
        """The manifest's line about an entry."""
        status = entry.stat
        classification = entry.classification if entry.classification in ARCHIVED else KEEP
        self.records[entry.path] = Record(
            path=entry.path,
            type=kind or entry.type,
            classification=UNKNOWN if entry.classification == UNKNOWN else classification,
            size=size if size is not None else status.st_size if entry.type == FILE else 0,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            user=self._names.user(status.st_uid),
            group=self._names.group(status.st_gid),
            mtime_ns=status.st_mtime_ns,
            sha256=sha256 if sha256 is not None else look.sha256 if look else None,
            target=target if target is not None else entry.target,
            stored=stored,
        )

    # -- entries ------------------------------------------------------------------------------

    def entries(self) -> None:
        """Everything but the databases."""
        databases = {database.path for database in self._survey.databases}
        for entry in self._survey.archived:
            if entry.path in databases:
                continue
            try:
                self._entry(entry)
            except OSError as error:
                self._unreadable(entry, error)
        self.flush()

    def _entry(self, entry: Entry) -> None:
        if entry.type == DIRECTORY or entry.type == SYMLINK:
            self._plain(entry)
        elif entry.type in (FIFO, SOCKET):
            self.record(entry)  # known to the manifest, never read
        elif entry.classification == SCRUB:
            self._scrub(entry)
        elif entry.classification == UNKNOWN:
            self._unknown(entry)
        else:
            self._keep(entry)

    def _plain(self, entry: Entry) -> None:
        if (
            entry.type == SYMLINK
            and entry.classification == UNKNOWN
            and not self._allow_unknown(entry, "")
        ):
            return
        self.record(entry)
        self.archive(self.absolute(entry.path), entry.stat)

    def _keep(self, entry: Entry) -> None:
        first = self._hard_link(entry)
        if first is not None:
            self.record(entry, kind="hardlink", target=first)
            self.archive(self.absolute(entry.path), entry.stat, any_size=True)
            return
        look = self._looker.look(entry, self._survey.classifier.hashed(entry.rule))
        if look.secret and not self._scanner.accepts(entry.path, "private-key"):
            self._withhold(entry, f"{look.secret}, in a folder that is kept")
            return
        self._note_findings(entry, look)
        self.record(entry, look=look)
        self.archive(self.absolute(entry.path), entry.stat)

    def _unknown(self, entry: Entry) -> None:
        look = self._looker.look(entry, None)
        if self._allow_unknown(entry, self._reason(entry, look)):
            self._keep_unknown(entry, look)

    def _reason(self, entry: Entry, look: Look) -> str:
        """Why an unknown file is a secret, '' where it is not."""
        accepted = self._scanner.accepts
        rules = sorted({f.rule for f in look.findings if not accepted(entry.path, f.rule)})
        if look.secret and not accepted(entry.path, "name"):
            return look.secret
        return f"the secret scan hit: {', '.join(rules)}" if rules else ""

    def _keep_unknown(self, entry: Entry, look: Look) -> None:
        first = self._hard_link(entry)
        kind = "hardlink" if first is not None else None
        self.record(entry, kind=kind, look=look, target=first)
        self.archive(self.absolute(entry.path), entry.stat, any_size=first is not None)

    def _allow_unknown(self, entry: Entry, reason: str) -> bool:
        """Decide about an unknown entry and report it: the whole by its topmost unknown path."""
        root = entry.unknown_root or entry.path
        if reason:
            self.withheld.append(entry.path)
            self._report(entry.path, QUARANTINED, reason)
            return False
        if self._config.unknown == "keep":
            self._report(root, KEPT, "no rule knows it; the secret scan passed")
            return True
        self._report(root, DROPPED, f"no rule knows it; the policy is {self._config.unknown}")
        return False

    def _report(self, path: str, decision: str, reason: str) -> None:
        item = {"path": printable(path), "decision": decision, "reason": reason}
        if item not in self.unknown[-3:] and item not in self.unknown:
            self.unknown.append(item)

    def _note_findings(self, entry: Entry, look: Look) -> None:
        accepted = self._scanner.accepts
        findings = [f for f in look.findings if not accepted(entry.path, f.rule)]
        self.findings.extend(as_dicts(printable(entry.path), findings))

    def _hard_link(self, entry: Entry) -> str | None:
        """The path under which the same file was archived before."""
        if entry.stat.st_nlink < 2:
            return None
        key = (entry.stat.st_dev, entry.stat.st_ino)
        first = self._links.setdefault(key, entry.path)
        return None if first == entry.path else first

    def _withhold(self, entry: Entry, reason: str) -> None:
        self.withheld.append(entry.path)
        self.problems.append(
            Problem(
                False,
                f"{printable(entry.path)} was withheld: {reason}",
                "accept it by path in accepted_findings, or name it secret by a rule",
            )
        )

    def _unreadable(self, entry: Entry, error: OSError) -> None:
        path = printable(entry.path)
        if error.errno in (errno.ENOENT, errno.ESTALE, errno.ENOTDIR, errno.ELOOP):
            self.problems.append(Problem(False, f"{path} vanished while it was read"))
            return
        self.problems.append(
            Problem(
                True,
                f"{path} could not be read: {error.strerror}",
                "check its permissions and the disk",
            )
        )

    # -- scrubbed copies ------------------------------------------------------------------------

    def _scrub(self, entry: Entry) -> None:
        try:
            text = self._looker.read(entry, _SCRUB_LIMIT).decode("utf-8")
            result = scrub(entry.path, text, self._policy)
        except (ScrubError, UnicodeDecodeError) as error:
            self.withheld.append(entry.path)
            self.problems.append(
                Problem(
                    True,
                    f"{printable(entry.path)} was withheld: it cannot be scrubbed safely ({error})",
                    "repair its syntax, or drop it by a rule",
                )
            )
            return
        self._place_scrubbed(entry, result)

    def _place_scrubbed(self, entry: Entry, result: Scrubbed) -> None:
        data = result.text.encode("utf-8")
        status = self.place(f"{SCRUBBED}/{entry.path}", data)
        self.record(
            entry, stored=SCRUBBED_COPY, size=len(data), sha256=hashlib.sha256(data).hexdigest()
        )
        self.archive(str(self._run_dir / SCRUBBED / entry.path), status)
        self.to_be_supplied += [
            {"path": printable(entry.path), "key": key} for key in dict.fromkeys(result.keys)
        ]

    def place(self, name: str, data: bytes) -> os.stat_result:
        """Write a file below the private run directory."""
        path = self._run_dir / name
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            return os.lstat(path)
        except OSError as error:
            raise LifeboatError(
                f"{path}: {error.strerror}",
                hint="is there room for scrubbed copies in the run directory?",
            ) from error

    def export_environments(self) -> None:
        """The names in every .env file, and the values that the profile calls harmless."""
        exported = self._profile.get("secrets", {}).get("environment", [])
        for path in self._survey.withheld:
            if path.rpartition("/")[2] != ".env":
                continue
            try:
                entry = Entry(path, FILE, self._looker.status(path), "secret", -1)
                text = self._looker.read(entry, 1 << 20).decode("utf-8", "replace")
            except OSError:
                continue
            self.environment[printable(path)] = export_environment(text, self._policy, exported)
        if self.environment:
            data = json.dumps({"format": 1, "files": self.environment}, indent=1).encode()
            status = self.place(ENVIRONMENT_NAME, data)
            self.archive(str(self._run_dir / ENVIRONMENT_NAME), status)

    # -- databases ------------------------------------------------------------------------------

    def allow_database(self, database: Database) -> bool:
        """A database that no rule knows has to pass the scan like any unknown file."""
        entry = database.entry
        if entry.classification != UNKNOWN:
            return True
        try:
            look = self._looker.look(entry, None)
        except OSError as error:
            self._unreadable(entry, error)
            return False
        return self._allow_unknown(entry, self._reason(entry, look))

    def report_not_sqlite(self, entry: Entry) -> None:
        """Something named like a database that SQLite cannot read."""
        if entry.path in self.records and not self._scanner.accepts(entry.path, "database"):
            self.problems.append(
                Problem(
                    True,
                    f"database {printable(entry.path)} is not readable: encrypted, or its header is damaged",
                    "it was archived as it is; where that is right, accept it: "
                    "{path: ..., rule: database} in accepted_findings",
                )
            )

    def database(self, database: Database, *, method: str, copy: Path | None) -> None:
        """A held database: the main file, with its write-ahead log where both are the point."""
        entry = database.entry
        if copy is not None:
            status = os.lstat(copy)
            self.record(entry, stored=DATABASE_COPY, size=status.st_size)
            self.archive(str(copy), status)
            return
        held = os.stat(self.absolute(entry.path), follow_symlinks=False)
        entry = Entry(entry.path, FILE, held, entry.classification, entry.rule)
        self.record(entry)
        self.archive(self.absolute(entry.path), held, any_size=method != "main")
        if method in ("pair", "raw"):
            for suffix in ("-wal", "-journal"):
                self._side(database, suffix)

    def _side(self, database: Database, suffix: str) -> None:
        path = database.path + suffix
        try:
            status = os.stat(self.absolute(path), follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return
        entry = Entry(path, FILE, status, database.entry.classification, database.entry.rule)
        self.record(entry)
        self.volatile.add(os.fsencode(self.absolute(path)))
        self.archive(self.absolute(path), status, any_size=True)

    def settle(self) -> None:
        """Files that changed since they were read: their hashes say nothing any more."""
        for path, record in self.records.items():
            if record.type != FILE or record.stored != HOME or record.sha256 is None:
                continue
            try:
                status = self._looker.status(path)
            except OSError:
                continue
            if (status.st_size, status.st_mtime_ns) != (record.size, record.mtime_ns):
                self.records[path] = dataclasses.replace(record, sha256=None, changed=True)
                self.volatile.add(os.fsencode(self.absolute(path)))
