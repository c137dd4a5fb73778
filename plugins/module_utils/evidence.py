# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence on disk: one signed JSON record per drill, chained, never overwritten.

    <directory>/allowed_signers                      public half of the signing key
    <directory>/<agent>/<time>-<drill id>.json       the record, by the time when it was written
    <directory>/<agent>/<time>-<drill id>.json.sig   its signature (ssh-keygen -Y)

Every record names the one before it and its SHA-256. So a record that was altered, exchanged or
taken out of the middle is found. Not guaranteed: that the newest records were not taken away;
keep a copy of the directory elsewhere for that.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .verdict import COULD_NOT_RUN, PROVEN

FORMAT: Final = 1
KIND: Final = "lifeboat.drill"
NAMESPACE: Final = "lifeboat-evidence"
IDENTITY: Final = "lifeboat-drill"
SIGNERS: Final = "allowed_signers"
LOCK: Final = ".lock"
STAMP: Final = "%Y%m%dT%H%M%SZ"
STEM: Final = re.compile(r"\d{8}T\d{6}Z-[a-z0-9][a-z0-9-]*")
AGENT: Final = re.compile(r"[a-z][a-z0-9-]{0,23}")

Runner = Callable[[Sequence[str], bytes], "Outcome"]


class EvidenceError(Exception):
    """Evidence could not be written, read or verified; the hint says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".strip())
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Outcome:
    rc: int
    stdout: str
    stderr: str


def run(argv: Sequence[str], stdin: bytes = b"") -> Outcome:
    """The real runner of SshKeygen."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Outcome(127, "", str(error))
    return Outcome(
        done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )


@dataclass(frozen=True)
class SshKeygen:
    """ssh-keygen, which every control host has, and with which anybody can verify."""

    runner: Runner = run

    def _call(self, argv: Sequence[str], what: str, stdin: bytes = b"") -> str:
        outcome = self.runner(["ssh-keygen", *argv], stdin)
        if outcome.rc != 0:
            reason = (outcome.stderr or outcome.stdout).strip() or f"exit code {outcome.rc}"
            raise EvidenceError(
                f"{what}: ssh-keygen says: {reason}", "Is openssh-client 8.1 or newer installed?"
            )
        return outcome.stdout

    def generate(self, path: str) -> None:
        argv = ["-q", "-t", "ed25519", "-N", "", "-C", "lifeboat drill evidence", "-f", path]
        self._call(argv, "No signing key could be made")

    def public_key(self, private_key: str) -> str:
        text = self._call(["-y", "-f", private_key], "The signing key cannot be read")
        return " ".join(text.split()[:2])

    def sign(self, private_key: str, document: bytes) -> str:
        argv = ["-q", "-Y", "sign", "-f", private_key, "-n", NAMESPACE]
        return self._call(argv, "The evidence could not be signed", document)

    def verify(self, signers: str, signature: str, document: bytes) -> str | None:
        """The reason why the signature does not hold, or None."""
        argv = ["-Y", "verify", "-f", signers, "-I", IDENTITY, "-n", NAMESPACE, "-s", signature]
        outcome = self.runner(["ssh-keygen", *argv], document)
        if outcome.rc == 0:
            return None
        return (outcome.stderr or outcome.stdout).strip() or f"ssh-keygen exit code {outcome.rc}"


@dataclass(frozen=True)
class Record:
    """A record as it was read, with what is wrong about it."""

    path: str
    agent: str
    data: Mapping[str, Any]
    sha256: str
    problems: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def started(self) -> str:
        return str(self.data.get("drill", {}).get("started", ""))

    @property
    def result(self) -> str:
        return str(self.data.get("verdict", {}).get("result", ""))


def digest(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()


def encode(record: Mapping[str, Any]) -> bytes:
    """The bytes that are stored and signed."""
    return (json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def stem(written: datetime.datetime, drill_id: str) -> str:
    name = f"{written.strftime(STAMP)}-{drill_id}"
    if not STEM.fullmatch(name):
        raise EvidenceError(f"{name!r} cannot name an evidence file.")
    return name


def _written(name: str) -> datetime.datetime:
    """When a record was written, by its file name."""
    try:
        found = datetime.datetime.strptime(name.split("-", 1)[0], STAMP)
        return found.replace(tzinfo=datetime.timezone.utc)
    except ValueError as error:
        raise EvidenceError(
            f"{name} is the newest record, and its name holds no time.",
            "Move it away, and compare the folder with a copy.",
        ) from error


@contextlib.contextmanager
def locked(directory: str) -> Iterator[None]:
    """Nobody else adds evidence for as long as the block lasts."""
    descriptor = os.open(os.path.join(directory, LOCK), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def record_names(directory: str, agent: str) -> list[str]:
    """File names of an agent's records, oldest first."""
    folder = Path(directory, agent)
    if not folder.is_dir():
        return []
    return sorted(
        item.name for item in folder.iterdir() if item.suffix == ".json" and STEM.match(item.name)
    )


def agents(directory: str) -> list[str]:
    """Agents that have evidence."""
    folder = Path(directory)
    if not folder.is_dir():
        return []
    return sorted(
        item.name for item in folder.iterdir() if item.is_dir() and AGENT.fullmatch(item.name)
    )


def read_record(path: str, agent: str) -> Record:
    """A record and what is wrong with it; an unreadable one is a record without data."""
    try:
        document = Path(path).read_bytes()
    except OSError as error:
        return Record(path, agent, {}, "", (f"cannot be read: {error.strerror}",))
    try:
        data = json.loads(document)
    except ValueError as error:
        return Record(path, agent, {}, digest(document), (f"is not JSON: {error}",))
    problem = _format_problem(data)
    if problem:
        return Record(path, agent, {}, digest(document), (problem,))
    return Record(path, agent, data, digest(document))


def _format_problem(data: object) -> str:
    if not isinstance(data, dict) or data.get("kind") != KIND:
        return "is not a record of a drill"
    if data.get("format") != FORMAT:
        return f"has the format {data.get('format')!r}; this version reads {FORMAT}"
    return ""


def history(directory: str, agent: str) -> list[Record]:
    """All records of an agent, oldest first, unverified."""
    return [
        read_record(os.path.join(directory, agent, name), agent)
        for name in record_names(directory, agent)
    ]


def verify(directory: str, agent: str, keygen: SshKeygen | None = None) -> list[Record]:
    """All records of an agent, each with what is wrong about its signature or its chain."""
    tool = keygen or SshKeygen()
    signers = os.path.join(directory, SIGNERS)
    checked: list[Record] = []
    for record in history(directory, agent):
        problems = list(record.problems)
        if record.data:
            problems += _signature_problems(record, signers, tool)
            problems += _chain_problems(record, checked[-1] if checked else None)
        checked.append(
            Record(record.path, agent, record.data, record.sha256, tuple(problems)),
        )
    return checked


def _signature_problems(record: Record, signers: str, keygen: SshKeygen) -> Iterator[str]:
    signature = f"{record.path}.sig"
    if not os.path.isfile(signature):
        # A run without the vault secret can sign nothing, and can prove nothing either.
        if record.data.get("signed") is not False or record.result != COULD_NOT_RUN:
            yield "has no signature"
        return
    if not os.path.isfile(signers):
        yield f"cannot be verified: there is no {SIGNERS}"
        return
    reason = keygen.verify(signers, signature, Path(record.path).read_bytes())
    if reason:
        yield f"the signature does not hold: {reason}"


def _chain_problems(record: Record, previous: Record | None) -> Iterator[str]:
    named = record.data.get("previous")
    if record.data.get("agent", {}).get("name") != record.agent:
        yield f"belongs to the agent {record.data.get('agent', {}).get('name')!r}"
    if previous is None:
        if named:
            yield f"the record before it, {named.get('file')}, is gone"
        return
    if not named:
        yield f"does not name the record before it, {previous.name}"
    elif named.get("file") != previous.name:
        yield f"the record before it should be {named.get('file')}, and is {previous.name}"
    elif named.get("sha256") != previous.sha256:
        yield f"the record before it, {previous.name}, was altered"


@contextlib.contextmanager
def private_file(content: str) -> Iterator[str]:
    """The content in a file of this user alone, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="lifeboat-") as folder:
        path = os.path.join(folder, "key")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(content if content.endswith("\n") else f"{content}\n")
        yield path


def generate_key(keygen: SshKeygen | None = None) -> str:
    """A new private signing key; it lies in a private file only while it is made."""
    with tempfile.TemporaryDirectory(prefix="lifeboat-") as folder:
        path = os.path.join(folder, "key")
        (keygen or SshKeygen()).generate(path)
        return Path(path).read_text()


@dataclass(frozen=True)
class Writer:
    """Adds to the evidence, and never changes what is there."""

    directory: str
    private_key: str | None  # None when the run cannot sign: then it can prove nothing either
    keygen: SshKeygen = field(default_factory=SshKeygen)
    clock: Callable[[], datetime.datetime] = utc_now

    def write(self, record: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Chain, sign and store a record. Returns the path without its ending, and the record."""
        agent = str(record["agent"]["name"])
        if self.private_key is None and record["verdict"]["result"] == PROVEN:
            raise EvidenceError(
                f"The drill of {agent} is proven, and its record cannot be signed: not written.",
                "Look at drill_signing_key, and drill again.",
            )
        os.makedirs(os.path.join(self.directory, agent), mode=0o755, exist_ok=True)
        with locked(self.directory):
            return self._append(agent, record)

    def _append(self, agent: str, record: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Add a record behind the newest one, whatever the clock says."""
        before = history(self.directory, agent)
        now = place = self.clock()
        chained = {**record, "format": FORMAT, "kind": KIND, "previous": None, "clock": ""}
        chained["signed"] = self.private_key is not None
        if before:
            newest = before[-1].name
            chained["previous"] = {"file": newest, "sha256": before[-1].sha256}
            place = max(now, _written(newest) + datetime.timedelta(seconds=1))
            if _written(newest) > now:
                chained["clock"] = (
                    f"written at {now.strftime(STAMP)} by the clock of the control host, and "
                    f"named after {newest}, which lies in the future"
                )
        name = stem(place, str(record["drill"]["id"]))
        document = encode(chained)
        path = os.path.join(self.directory, agent, name)
        if self.private_key is not None:
            with private_file(self.private_key) as key:
                self.trust(self.keygen.public_key(key))
                signature = self.keygen.sign(key, document)
            store(f"{path}.json.sig", signature.encode(), replace=False)
        store(f"{path}.json", document, replace=False)
        return path, chained

    def trust(self, public_key: str) -> None:
        """List the public key for the verifier; earlier keys stay listed."""
        path = os.path.join(self.directory, SIGNERS)
        line = f'{IDENTITY} namespaces="{NAMESPACE}" {public_key}'
        known = Path(path).read_text().splitlines() if os.path.isfile(path) else []
        if line not in known:
            store(path, "".join(f"{item}\n" for item in [*known, line]).encode(), replace=True)


def store(path: str, content: bytes, *, replace: bool) -> None:
    """Write a file whole or not at all."""
    if not replace and os.path.exists(path):
        raise EvidenceError(f"{path} exists already; evidence is never overwritten.")
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".writing-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
            os.unlink(temporary)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise EvidenceError(f"{path} cannot be written: {error.strerror}.") from error
