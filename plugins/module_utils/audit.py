# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has anybody rewritten the history of a repository? Answered without a passphrase.

An honest client adds objects and replaces the manifest; of everything else it deletes only
what it added itself within the same transaction or connection. So against an accepted
state (a *mark*: the ids of all objects in the order in which they lie on the disk) there
are two questions:

* :func:`audit_segments`, on the repository host or a snapshot: did a later transaction
  delete an object of the accepted state, or store it again? Reads only what is new.
* :func:`audit_scan`, over the serving protocol, for a provider without a shell: is the
  accepted list still the beginning of today's list? Reads all ids, every time.

Both make the same mark of the same repository, so one can take over from the other.

What is not guaranteed: neither sees who made a new object, nor whether it can be
decrypted. An archive that vanished from the manifest while its objects stayed is seen by
the ledger of the side that holds the key.
"""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import json
import os
import struct
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from .segments import COMMIT, DELETE, MANIFEST, PUT, Config, Entry, SegmentError, Segments

# keyfile and repokey with BLAKE2b; the collection makes repositories of the first kind only.
KEYFILE_BLAKE2 = 0x04
NONCE_END = 2**63
# How far the nonce may rise from one mark to the next: a million sessions that reserved 2**28 and
# stored nothing, or 4 PiB. At that pace its end is 32,000 marks away.
NONCE_REACH = 2**48

#: What a deletion by the trusted side explains, once all archives are verified.
OF_DELETIONS = frozenset({"deleted", "returned"})

SHOWN = 50  # findings listed one by one; all of them are counted

#: Kinds of findings and what each one says. Unknown kinds do not exist.
FINDINGS = {
    "deleted": "an object of the accepted state was deleted",
    "overwritten": "an object of the accepted state was stored again with other content",
    "returned": "an object of an archive that was being deleted was stored again later",
    "manifest-deleted": "the manifest, the list of archives, was deleted",
    "manifest-foreign": "the manifest is not encrypted as this repository is",
    "config-changed": "the config of the repository changed",
    "key-stored": "a key was stored in the repository, which uses a key file",
    "repository-replaced": "another repository stands at this path",
    "repository-missing": "there is no repository at this path",
    "history-lost": "the last transaction is older than the accepted one",
    "segment-missing": "a segment file of the accepted state is gone",
    "segment-changed": "a segment file of the accepted state has another size",
    "nonce-back": "the nonce went back: the same key stream could be used twice",
    "nonce-jumped": "the nonce rose by more than any number of backups uses up",
    "nonce-exhausted": "the nonce is out of range: no client can write any more",
    "damaged": "a segment file cannot be read as what borg writes",
    "state-differs": "the recorded list of accepted objects does not match the ledger's mark",
    "compaction-lost": "an interrupted compaction lost or altered an object",
}


class AuditError(Exception):
    """The audit could not be carried out; that is not a finding, and never a clean result."""


@dataclass(frozen=True)
class Mark:
    """An accepted state, small enough for a line of the ledger."""

    repository_id: str
    transaction: int | None  # None where only the serving protocol is in reach
    objects: int
    sha256: str  # over all ids but the manifest's, in their order on the disk
    manifest_type: int | None = None
    config_sha256: str | None = None
    nonce: int | None = None
    size: int | None = None
    state_sha256: str | None = None  # of the file that lists the objects
    format: int = 1

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Mark:
        if data.get("format") != 1:
            raise AuditError(f"a mark of format {data.get('format')!r} is not understood")
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        try:
            return cls(**known)
        except TypeError as error:
            raise AuditError(f"an incomplete mark: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Finding:
    """One thing that an honest client does not do."""

    kind: str
    detail: str
    object: str | None = None
    segment: int | None = None
    transaction: int | None = None
    archive: str | None = None  # the archive this object is the head of
    written_with: str | None = None  # the archive in whose transaction it was stored


@dataclass(frozen=True)
class Transaction:
    """What one transaction since the mark did."""

    transaction: int
    time: str | None
    puts: int
    deletes: int
    bytes: int


@dataclass(frozen=True)
class Report:
    """The outcome of an audit."""

    method: str
    findings: list[Finding]
    counts: dict[str, int]
    mark: Mark | None
    transactions: list[Transaction] = field(default_factory=list)
    archive_times: dict[str, str] = field(default_factory=dict)
    unfinished: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bytes_read: int = 0
    seconds: float = 0.0
    compacting: bool = False  # a compaction was interrupted, and all objects were compared

    @property
    def clean(self) -> bool:
        return not self.counts

    def summary(self) -> str:
        if self.clean and self.mark:
            return (
                f"no accepted object was deleted or replaced; {self.mark.objects} objects,"
                f" {len(self.transactions)} new transactions, {self.bytes_read} bytes read"
            )
        parts = [f"{number} x {FINDINGS[kind]}" for kind, number in sorted(self.counts.items())]
        return "TAMPERING: " + "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        result = asdict(self)
        result["clean"] = self.clean
        result["summary"] = self.summary()
        return result


@dataclass(frozen=True)
class Stored:
    """Where an object lies, how big its entry is, and its checksum."""

    segment: int
    size: int
    crc: int


# --------------------------------------------------------------------------------------
# The list of accepted objects
# --------------------------------------------------------------------------------------

_RECORD = struct.Struct("<32sIII")
UNKNOWN = Stored(0, 0, 0)


@dataclass
class State:
    """All objects of an accepted state in their order on the disk, and the files they lie in.

    Kept where the box cannot reach it: root's on the repository host, or the control side's.
    Its hash is in the mark, and the mark is in the ledger.
    """

    objects: dict[bytes, Stored] = field(default_factory=dict)
    layout: dict[int, int] = field(default_factory=dict)

    def ids_sha256(self) -> str:
        digest = hashlib.sha256()
        for key in self.objects:
            digest.update(key)
        return digest.hexdigest()

    def dump(self) -> bytes:
        layout = {str(segment): size for segment, size in self.layout.items()}
        header = json.dumps({"format": 1, "objects": len(self.objects), "layout": layout})
        records = [
            _RECORD.pack(key, stored.segment, stored.size, stored.crc)
            for key, stored in self.objects.items()
        ]
        return header.encode() + b"\n" + b"".join(records)

    @classmethod
    def parse(cls, data: bytes) -> State:
        header, _unused, body = data.partition(b"\n")
        try:
            head = json.loads(header)
            layout = {int(segment): int(size) for segment, size in head["layout"].items()}
            if head["format"] != 1 or len(body) != head["objects"] * _RECORD.size:
                raise AuditError("the list of accepted objects is cut off")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AuditError(f"the list of accepted objects cannot be read: {error}") from error
        objects = {
            key: Stored(segment, size, crc) for key, segment, size, crc in _RECORD.iter_unpack(body)
        }
        return cls(objects, layout)


def write_file(path: Path, data: bytes) -> None:
    """Replace a file that only its owner reads, all of it or nothing."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# --------------------------------------------------------------------------------------
# Findings
# --------------------------------------------------------------------------------------


class _Findings:
    """Collects findings: all are counted, the first of them are told."""

    def __init__(self, archives: Mapping[str, str]) -> None:
        self.archives = archives
        self.counts: dict[str, int] = {}
        self.shown: list[Finding] = []

    def add(self, kind: str, **more: Any) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if len(self.shown) < SHOWN:
            more.setdefault("detail", FINDINGS[kind])
            self.shown.append(Finding(kind=kind, **more))

    def add_objects(
        self,
        touched: Mapping[bytes, tuple[str, int | None]],
        state: State,
        walk: _Walk | None = None,
    ) -> None:
        """Findings about accepted objects, with the archives they belong to.

        Without a key nobody knows which archives refer to an object. But it was stored with
        the first archive that needed it, and that archive's head was stored with it.
        """
        place = {key: at for at, key in enumerate(state.objects)}
        heads = sorted(
            (place[bytes.fromhex(identity)], name)
            for identity, name in self.archives.items()
            if bytes.fromhex(identity) in place
        )
        # Damage to an archive's head says most, so it comes first.
        for key in sorted(touched, key=lambda key: key.hex() not in self.archives):
            kind, segment = touched[key]
            self.add(
                kind,
                object=key.hex(),
                segment=segment,
                transaction=walk.transaction_of(segment) if walk and segment is not None else None,
                archive=self.archives.get(key.hex()),
                written_with=_first_at_or_after(heads, place[key]),
            )


def _first_at_or_after(heads: list[tuple[int, str]], place: int) -> str | None:
    at = bisect_left(heads, (place, ""))
    return heads[at][1] if at < len(heads) else None


# --------------------------------------------------------------------------------------
# On the host: segment files
# --------------------------------------------------------------------------------------


@dataclass
class _Walk:
    """A part of the journal, replayed."""

    objects: dict[bytes, Stored] = field(default_factory=dict)
    touched: dict[bytes, tuple[str, int | None]] = field(default_factory=dict)
    # What the first transaction that touched an accepted object did to it in the end.
    first: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    manifest: Entry | None = None
    manifest_deleted: bool = False
    transactions: list[Transaction] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)

    def transaction_of(self, segment: int) -> int | None:
        at = bisect_left(self.commits, segment)
        return self.commits[at] if at < len(self.commits) else None

    def explain(self, deleting: Iterable[bytes]) -> None:
        """Tell what came back after the deletion of these archives from what was overwritten.

        Only what a transaction deleted that deleted such an archive as well, and that a later
        transaction stored: the box backed up the same content once more.
        """
        heads = {self.first.get(head, (-1, PUT)) for head in deleting}
        for key, (kind, segment) in self.touched.items():
            if kind == "overwritten" and self.first[key][1] == DELETE and self.first[key] in heads:
                self.touched[key] = ("returned", segment)


def _replay(
    files: Segments,
    segments: Iterable[int],
    config: Config,
    *,
    accepted: Mapping[bytes, Stored],
    times: Mapping[int, str],
    verify: bool = False,
) -> _Walk:
    """Apply entries in order. Nothing in ``accepted`` may be deleted or stored again."""
    walk = _Walk()
    puts = deletes = size = 0
    for segment in segments:
        for entry in files.entries(segment, config.segments_per_dir, verify=verify):
            if entry.tag == COMMIT:
                walk.commits.append(segment)
                walk.transactions.append(
                    Transaction(segment, times.get(segment), puts, deletes, size)
                )
                puts = deletes = size = 0
                continue
            puts += entry.tag == PUT
            deletes += entry.tag == DELETE
            size += entry.size
            if entry.key == MANIFEST:
                walk.manifest = entry if entry.tag == PUT else None
                walk.manifest_deleted = entry.tag == DELETE
            else:
                walk.objects.pop(entry.key, None)
                if entry.tag == PUT:
                    walk.objects[entry.key] = Stored(segment, entry.size, entry.crc)
                if entry.key in accepted:
                    # borg replaces by deleting and storing: the last entry tells.
                    kind = "overwritten" if entry.tag == PUT else "deleted"
                    walk.touched[entry.key] = (kind, segment)
                    at = len(walk.commits)
                    if walk.first.get(entry.key, (at, PUT))[0] == at:
                        walk.first[entry.key] = (at, entry.tag)
    return walk


def audit_segments(
    path: str | os.PathLike[str],
    *,
    mark: Mark | None = None,
    state: State | None = None,
    archives: Mapping[str, str] | None = None,
    checksums: bool = False,
    compacting: bool = False,
    deleting: Iterable[str] = (),
) -> tuple[Report, State | None]:
    """Audit the segment files against ``mark``; without one, take stock for a first mark.

    ``state`` is the list of objects that belongs to the mark; when it is lost it is made
    again from the segments and compared with the mark. ``archives`` maps ids to names.
    ``compacting`` says that a compaction by the host was interrupted since: then objects
    may have moved, and all of them are compared by size and checksum instead.
    ``deleting`` are ids of archives that the trusted side had begun to delete: what went with
    them and was stored again later has ``returned``, which is no overwriting.
    """
    started = time.monotonic()
    heads = [bytes.fromhex(identity) for identity in deleting]
    audit = _SegmentAudit(Segments(path), mark, state, archives or {}, checksums, compacting, heads)
    report, new = audit.run()
    return replace(report, seconds=round(time.monotonic() - started, 3)), new


class _SegmentAudit:
    def __init__(
        self,
        files: Segments,
        mark: Mark | None,
        state: State | None,
        archives: Mapping[str, str],
        checksums: bool,
        compacting: bool,
        deleting: list[bytes],
    ) -> None:
        self.files = files
        self.mark = mark
        self.state = state
        self.checksums = checksums
        self.compacting = compacting
        self.deleting = deleting
        self.found = _Findings(archives)
        self.notes: list[str] = []
        self.times: dict[int, str] = {}

    def run(self) -> tuple[Report, State | None]:
        config = self._config()
        if config is None:
            return self._report(None), None
        layout = self.files.layout()
        last = self.files.last_commit(layout, config.segments_per_dir)
        committed = {n: size for n, size in layout.items() if last is not None and n <= last}
        _compare_nonce(self.files.nonce(), self.mark, self.found)
        if last is None and (self.mark is None or self.mark.transaction in (None, -1)):
            raise AuditError(f"{self.files.path} has no finished transaction yet: nothing to audit")
        accepted = self.mark.transaction if self.mark else None
        if accepted is not None and (last is None or last < accepted):
            self.found.add("history-lost", detail=f"transaction {last}, accepted was {accepted}")
            return self._report(None), None
        try:
            walk, state = self._walk(config, committed)
        except SegmentError as error:
            self.found.add("damaged", segment=error.segment, detail=str(error))
            return self._report(None), None
        self._compare_manifest(walk, config)
        new_mark = self._new_mark(config, state, last, walk)
        unfinished = [n for n in layout if last is not None and n > last]
        return self._report(new_mark, walk, unfinished), state

    def _config(self) -> Config | None:
        try:
            config = self.files.config()
        except FileNotFoundError:
            if self.mark is None:
                raise AuditError(f"there is no repository at {self.files.path}") from None
            self.found.add("repository-missing")
            return None
        except (KeyError, ValueError, configparser.Error) as error:
            self.found.add("config-changed", detail=f"the config cannot be read: {error}")
            return None
        if self.mark and config.repository_id != self.mark.repository_id:
            self.found.add(
                "repository-replaced",
                detail=f"id {config.repository_id}, accepted was {self.mark.repository_id}",
            )
            return None
        if config.has_key:
            self.found.add("key-stored")
        elif self.mark and self.mark.config_sha256 not in (None, config.sha256):
            self.found.add("config-changed")
        return config

    def _walk(self, config: Config, layout: dict[int, int]) -> tuple[_Walk, State]:
        self.times = {n: moment.isoformat() for n, moment in self.files.times().items()}
        transaction = -1 if self.mark is None else self.mark.transaction
        if self.mark is None or transaction is None or self.compacting:
            walk = self._replay(layout, config, {})
            state = State(walk.objects, layout)
            if self.compacting:
                self._compare_moved(state)
            elif self.mark is not None:
                self._compare_prefix(state)
            return walk, state
        accepted = self._accepted(config, layout, transaction)
        self._compare_layout(accepted, layout)
        new = {n: size for n, size in layout.items() if n > transaction}
        walk = self._replay(new, config, accepted.objects)
        walk.explain(self.deleting)
        self.found.add_objects(walk.touched, accepted, walk)
        untouched = {
            key: stored for key, stored in accepted.objects.items() if key not in walk.touched
        }
        return walk, State({**untouched, **walk.objects}, layout)

    def _replay(
        self, layout: Mapping[int, int], config: Config, accepted: Mapping[bytes, Stored]
    ) -> _Walk:
        return _replay(
            self.files, layout, config, accepted=accepted, times=self.times, verify=self.checksums
        )

    def _accepted(self, config: Config, layout: dict[int, int], transaction: int) -> State:
        """The list that belongs to the mark, as recorded or made again."""
        mark = self.mark
        if mark is None:
            raise AssertionError("only what a mark accepted is compared")
        if self.state is not None:
            recorded = hashlib.sha256(self.state.dump()).hexdigest()
            if mark.state_sha256 in (None, recorded) and self.state.ids_sha256() == mark.sha256:
                return self.state
            self.notes.append("the recorded list of objects does not belong to the mark")
        else:
            self.notes.append("the recorded list of objects is lost")
        old = {n: size for n, size in layout.items() if n <= transaction}
        rebuilt = State(_replay(self.files, old, config, accepted={}, times={}).objects, old)
        if rebuilt.ids_sha256() == mark.sha256:
            self.notes.append("it was made again from the segments and matches the mark")
            return rebuilt
        self.found.add(
            "state-differs",
            detail=f"{len(rebuilt.objects)} objects up to transaction {transaction},"
            f" accepted were {mark.objects}",
        )
        if self.state is not None and self.state.ids_sha256() == mark.sha256:
            return self.state
        return rebuilt

    def _compare_layout(self, accepted: State, layout: Mapping[int, int]) -> None:
        for segment, size in accepted.layout.items():
            if segment not in layout:
                self.found.add("segment-missing", segment=segment)
            elif layout[segment] != size:
                self.found.add(
                    "segment-changed",
                    segment=segment,
                    detail=f"{layout[segment]} bytes, accepted were {size}",
                )

    def _compare_moved(self, state: State) -> None:
        """After an interrupted compaction: everything accepted is there, byte for byte."""
        if self.state is None or self.mark is None:
            raise AuditError(
                "an interrupted compaction cannot be judged without the list of objects"
            )
        if self.state.ids_sha256() != self.mark.sha256:
            self.found.add("state-differs", detail="the list of objects is not the mark's")
            return
        for key, stored in self.state.objects.items():
            now = state.objects.get(key)
            if now is None or (now.size, now.crc) != (stored.size, stored.crc):
                self.found.add(
                    "compaction-lost",
                    object=key.hex(),
                    segment=None if now is None else now.segment,
                    archive=self.found.archives.get(key.hex()),
                )
        self.notes.append("an interrupted compaction: all objects compared by size and checksum")

    def _compare_prefix(self, state: State) -> None:
        """The mark was made by a scan, so it knows no transaction."""
        if self.mark is None:
            raise AssertionError("only what a mark accepted is compared")
        _compare_order(list(state.objects), self.mark, self.state, self.found)

    def _compare_manifest(self, walk: _Walk, config: Config) -> None:
        if walk.manifest is None:
            # No manifest in new segments means it was not touched, unless they deleted it.
            if self.mark is None or walk.manifest_deleted:
                self.found.add("manifest-deleted")
            return
        kind = self.files.first_byte(walk.manifest, config.segments_per_dir)
        wanted = self.mark.manifest_type if self.mark else None
        if kind is None or (wanted is not None and kind != wanted):
            self.found.add("manifest-foreign", detail=f"key type {kind}, accepted was {wanted}")

    def _new_mark(self, config: Config, state: State, last: int | None, walk: _Walk) -> Mark:
        kind = self.mark.manifest_type if self.mark else None
        if kind is None and walk.manifest is not None:
            kind = self.files.first_byte(walk.manifest, config.segments_per_dir)
            if kind != KEYFILE_BLAKE2:
                self.notes.append("the repository is not encrypted with keyfile-blake2")
        return Mark(
            repository_id=config.repository_id,
            transaction=last,
            objects=len(state.objects),
            sha256=state.ids_sha256(),
            manifest_type=kind,
            config_sha256=config.sha256,
            nonce=self.files.nonce(),
            size=sum(state.layout.values()),
            state_sha256=hashlib.sha256(state.dump()).hexdigest(),
        )

    def _report(
        self, mark: Mark | None, walk: _Walk | None = None, unfinished: list[int] | None = None
    ) -> Report:
        times: dict[str, str] = {}
        for identity in self.found.archives if walk else ():
            stored = walk.objects.get(bytes.fromhex(identity)) if walk else None
            transaction = walk.transaction_of(stored.segment) if walk and stored else None
            if transaction in self.times:
                times[identity] = self.times[transaction]
        return Report(
            method="segments",
            findings=self.found.shown,
            counts=self.found.counts,
            mark=mark,
            transactions=[one for one in walk.transactions if one.puts or one.deletes]
            if walk
            else [],
            archive_times=times,
            unfinished=unfinished or [],
            notes=self.notes,
            bytes_read=self.files.bytes_read,
            compacting=self.compacting,
        )


# --------------------------------------------------------------------------------------
# Over the serving protocol: the list of ids
# --------------------------------------------------------------------------------------


class Connection(Protocol):
    """What :class:`serve_client.ServeConnection` offers the audit."""

    repository_id: bytes

    def scan(self) -> Iterator[bytes]: ...

    def call(self, method: str, **arguments: Any) -> Any: ...


def audit_scan(
    connection: Connection,
    *,
    mark: Mark | None = None,
    state: State | None = None,
    archives: Mapping[str, str] | None = None,
    compacted: bool = False,
) -> tuple[Report, State]:
    """Audit a repository, opened exclusively, by the order of its ids.

    borg tells the nonce to none but the one who could write. ``compacted`` says that the provider
    moved objects since: then the order says nothing, and the caller has to prove by the key that
    every archive is whole.
    """
    started = time.monotonic()
    found = _Findings(archives or {})
    today = [bytes(key) for key in connection.scan()]
    keys = [key for key in today if key != MANIFEST]
    repository_id = connection.repository_id.hex()
    new_state = State(dict.fromkeys(keys, UNKNOWN))
    manifest_type = None
    if len(keys) == len(today):
        found.add("manifest-deleted")
    else:
        manifest = bytes(connection.call("get", id=MANIFEST))
        manifest_type = manifest[0] if manifest else None
        if manifest_type is None or (mark and mark.manifest_type not in (None, manifest_type)):
            found.add("manifest-foreign", detail=f"key type {manifest_type}")
    if connection.call("load_key"):
        found.add("key-stored")
    nonce = connection.call("get_free_nonce")
    if mark and repository_id != mark.repository_id:
        found.add(
            "repository-replaced", detail=f"id {repository_id}, accepted was {mark.repository_id}"
        )
    else:
        _compare_nonce(nonce, mark, found)
        if mark and not compacted:
            _compare_order(keys, mark, state, found)
    new_mark = Mark(
        repository_id=repository_id,
        transaction=None,
        objects=len(keys),
        sha256=new_state.ids_sha256(),
        manifest_type=mark.manifest_type if mark else manifest_type,
        nonce=nonce,
        state_sha256=hashlib.sha256(new_state.dump()).hexdigest(),
    )
    report = Report(
        method="scan",
        findings=found.shown,
        counts=found.counts,
        mark=new_mark,
        bytes_read=len(today) * 34,
        seconds=round(time.monotonic() - started, 3),
    )
    return report, new_state


def _compare_nonce(nonce: int | None, mark: Mark | None, found: _Findings) -> None:
    if nonce is not None and nonce >= NONCE_END:
        found.add("nonce-exhausted", detail=f"the nonce is {nonce:#x}")
        return
    if mark and mark.nonce is None:
        return
    accepted = (mark.nonce if mark else None) or 0
    if (nonce or 0) < accepted:
        found.add("nonce-back", detail=f"{nonce}, accepted was {accepted}")
    elif (nonce or 0) > accepted + NONCE_REACH:
        found.add("nonce-jumped", detail=f"{nonce:#x}, accepted was {accepted:#x}")


def _compare_order(keys: list[bytes], mark: Mark, state: State | None, found: _Findings) -> None:
    """The accepted list must be the beginning of today's."""
    digest = hashlib.sha256()
    for key in keys[: mark.objects]:
        digest.update(key)
    if len(keys) >= mark.objects and digest.hexdigest() == mark.sha256:
        return
    if state is None or state.ids_sha256() != mark.sha256:
        found.add(
            "state-differs",
            detail="the ids do not begin with the accepted ones; which ones cannot be told"
            " because the recorded list of objects is lost",
        )
        return
    place = {key: at for at, key in enumerate(keys)}
    touched: dict[bytes, tuple[str, int | None]] = {}
    expected = 0
    for key in state.objects:
        at = place.get(key)
        if at is None:
            touched[key] = ("deleted", None)
        elif at != expected:
            touched[key] = ("overwritten", None)
        else:
            expected += 1
    found.add_objects(touched, state)


def objects_digest(keys: Iterable[bytes]) -> str:
    """A hash of a set of objects that does not depend on their order."""
    digest = hashlib.sha256()
    for key in sorted(keys):
        digest.update(key)
    return digest.hexdigest()


def load_state(path: Path) -> State | None:
    """The recorded list of objects; None when it is lost or damaged, which the audit tells."""
    with contextlib.suppress(FileNotFoundError, AuditError):
        return State.parse(path.read_bytes())
    return None
