# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One backup of one agent, from the walk to the verdict.

borg is started first and fed while the home is read, so that its start-up and ours overlap; an
archive comes into being only when the last path, the manifest, was handed over. In order: walk and
classify, hold the databases, read and feed what has been quiet, then what is changing, the
manifest; let borg finish; let go of the databases; compare the archive's own listing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import gc
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import status as status_files
from .agent_version import find as find_version
from .assemble import Assembly, Problem
from .borg import Borg
from .borg_codes import WARNING
from .classify import Classifier
from .config import BoxConfig
from .copies import RunDirectory
from .databases import Databases
from .errors import CouldNotRun, LifeboatError, ToldToStop
from .export import Export
from .listing import Comparer, Comparison
from .look import Cache, Looker
from .losses import known_databases, losses
from .manifest import NAME as MANIFEST
from .manifest import Writer, fixed_block, printable
from .outside import Outside
from .privilege import Call, Identity, lookup, private_group
from .process import Runner
from .report_run import Run, verdict
from .secrets import Scanner
from .settings import described
from .survey import Survey
from .targets import Archiving, OnProgress, Target, targets
from .walk import open_home

VERSION = "0.1.0"
_VERSION_TIMEOUT = 30
_FEW = 5
_MANIFEST_TURN = 2000  # entries in one go; borg must not wait for paths meanwhile
_LOCK_SECONDS = 0.3  # whoever asks for the status holds the lock for a moment


class _ManifestFile:
    """Written while borg works: an entry when borg has read it, so that it says what was archived;
    borg takes the whole as the last path."""

    def __init__(
        self, assembly: Assembly, run_directory: RunDirectory, chunker_params: str
    ) -> None:
        self._assembly = assembly
        self._file = run_directory.begin(MANIFEST)
        self._writer = Writer(self._file, block=fixed_block(chunker_params))
        self.close = self._file.close

    def go_on(self, files: int) -> None:
        """Some of the entries, now that borg has read so many files."""
        for record in itertools.islice(self._assembly.settled(files), _MANIFEST_TURN):
            self._writer.add(record)

    def finish(self, facts: Mapping[str, Any]) -> None:
        """The rest, and off to borg."""
        for record in self._assembly.settled():
            self._writer.add(record)
        self._writer.finish(facts)
        self._assembly.archive_copy(self._file.finish())
        self._assembly.flush()


def _decided(assembly: Assembly) -> dict[str, Any]:
    """What the manifest says about the entries that are not plainly kept."""
    return {
        "unknown": assembly.unknown,
        "withheld": [printable(path) for path in assembly.withheld],
        "findings": assembly.findings,
        "to_be_supplied": assembly.to_be_supplied,
    }


class Backup:
    """One run."""

    def __init__(
        self,
        config: BoxConfig,
        profile: Mapping[str, Any],
        *,
        runner: Runner | None = None,
        on_progress: OnProgress | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._config = config
        self._profile = profile
        self._begun = datetime.datetime.now(datetime.timezone.utc)
        self._started = time.monotonic()
        self.archive = f"{config.agent}-{status_files.utc(self._begun)}"
        self._archiving = Archiving(
            config, targets(config, runner, environ), self.archive, on_progress
        )
        self._run_directory = RunDirectory(config.run_dir)
        self._state = Path(config.state_dir)
        self._problems: list[Problem] = []
        self._assembly: Assembly | None = None
        self._databases: Databases | None = None
        self._survey: Survey | None = None
        self._outside: list[dict[str, str]] = []

    def run(self) -> dict[str, Any]:
        """Back up; returns the status, which is also written. Raises only when it cannot run."""
        refused: CouldNotRun | None = None
        gc.disable()  # one run, then the process ends: cycles are not worth a search
        try:
            with self._lock(), _told_to_stop(), contextlib.ExitStack() as stack:
                try:
                    self._begin()
                    self._work(stack)
                except LifeboatError as error:
                    refused = error if isinstance(error, CouldNotRun) else None
                    self._problems.append(Problem(True, error.message, error.hint))
                except OSError as error:
                    where = f"{error.filename}: " if error.filename else ""
                    message = f"{where}{error.strerror or error}"
                    self._problems.append(Problem(True, message, "is the disk of this box full?"))
                except (ToldToStop, KeyboardInterrupt):
                    self._problems.append(
                        Problem(True, "the run was told to stop", "start it again")
                    )
        finally:
            gc.enable()
        status = self._finish()
        if refused is not None:
            raise refused
        return status

    def refuse(self, error: CouldNotRun) -> None:
        """A run that cannot begin is told in status, metrics and ping like any that failed."""
        with self._lock():
            self._problems.append(Problem(True, error.message, error.hint))
            self._finish()

    def _begin(self) -> None:
        status_files.begin(
            self._config.state_dir,
            self._config.agent,
            status_files.utc(self._begun),
            self._config.metrics_file,
        )

    def _work(self, stack: contextlib.ExitStack) -> None:
        config = self._config
        identity = lookup(config.user)
        home, descriptor = open_home(config.home, identity.uid)
        stack.callback(os.close, descriptor)
        self._run_directory.prepare()
        stack.callback(self._run_directory.clean)
        group = private_group()
        export = self._export(identity, home, group, stack)
        stack.callback(self._archiving.abort)
        version = Call(identity, lambda: find_version(self._profile, home, identity.home))
        stack.callback(version.end)
        self._archiving.begin()

        before = status_files.read(config.state_dir)
        survey = self._survey = Survey(
            Classifier(self._profile), known_databases=known_databases(before)
        )
        scanner = Scanner(config.secret_patterns, config.accepted_findings)
        cache = Cache(self._state / "files.cache", scanner.version)
        looker = Looker(descriptor, scanner, cache)
        stack.callback(looker.close)
        assembly = self._assembly = Assembly(
            config=config,
            profile=self._profile,
            home=home,
            survey=survey,
            looker=looker,
            scanner=scanner,
            run_directory=self._run_directory,
            feed=self._archiving.feed,
        )
        survey.run(descriptor, assembly.take)
        self._refuse_unknown(survey)
        databases = self._databases = Databases(
            home=home,
            home_descriptor=descriptor,
            identity=identity,
            profile=self._profile,
            mode=config.database_mode,
            run_directory=self._run_directory,
            cache=cache,
            group=group,
            meanwhile=self._archiving.keep_feeding,
        )
        stack.callback(databases.release)
        assembly.guard()
        databases.hold([item for item in survey.databases if assembly.allow_database(item)])
        databases.archive(assembly)
        assembly.linked_entries()
        assembly.export_environments()
        databases.reports()
        facts = self._facts(identity, home, version.result(_VERSION_TIMEOUT))
        manifest = _ManifestFile(assembly, self._run_directory, config.chunker_params)
        stack.callback(manifest.close)
        if assembly.lively:
            self._archiving.catch_up(manifest.go_on)
            assembly.fresh_entries()
        assembly.links_to_settings()
        assembly.not_sqlite()
        self._problems += losses(before, survey)
        if export is not None:
            facts["export"] = export.describe(assembly.copies_of(export.files()))
        facts["outside"] = self._outside = Outside(home, descriptor, self._profile).collect(
            assembly.records, databases.all
        )
        manifest.finish({**facts, **_decided(assembly)})
        in_place = assembly.archived_in_place()
        comparer = Comparer(home, in_place, assembly.copies)
        self._archiving.complete()
        held = databases.files()
        for target in self._archiving.targets:
            self._problems += _from_borg(target, home, held)
        self._problems += databases.judge_holds()
        databases.release()
        self._save(cache)
        self._archiving.compare(comparer, self._judge)

    # -- refusing --------------------------------------------------------------------------------

    def _export(
        self, identity: Identity, home: str, group: int | None, stack: contextlib.ExitStack
    ) -> Export | None:
        """What only the agent itself can separate from its secrets; first of all, and refused
        with the profile's reason where it is not to be had."""
        rule = self._profile.get("export")
        if not rule:
            return None
        export = Export(
            rule,
            profile=str(self._profile["name"]),
            home=home,
            identity=identity,
            run_directory=self._run_directory,
            group=group,
        )
        stack.callback(export.clean)
        export.make()
        return export

    def _refuse_unknown(self, survey: Survey) -> None:
        roots = sorted(survey.unknown_roots())
        if self._config.unknown == "refuse" and roots:
            first = ", ".join(printable(root) for root in roots[:5])
            raise LifeboatError(
                f"{len(roots)} entries are known to no rule, and the policy is refuse: {first}",
                hint="add rules for them to the profile, or set unknown: keep",
            )

    # -- the manifest ----------------------------------------------------------------------------

    def _facts(self, identity: Identity, home: str, version: Mapping[str, Any]) -> dict[str, Any]:
        if not (self._assembly and self._survey and self._databases):
            raise AssertionError("nothing is assembled yet")
        records = self._assembly.records
        names = {name for e in self._assembly.environment.values() for name in e["names"]}
        return {
            "lifeboat_version": VERSION,
            "borg_version": self._borg_version(self._archiving.targets[0].borg),
            "archive": self.archive,
            "created": status_files.utc(self._begun),
            "agent": {
                "name": self._config.agent,
                "host": self._config.host,
                "profile": self._profile["name"],
                "profile_checked_versions": self._profile.get("checked_versions", []),
                "version": version.get("version"),
                "revision": version.get("revision"),
                "user": identity.name,
                "group": identity.group,
                "uid": identity.uid,
                "gid": identity.gid,
                "home": self._config.home,
                "home_real": home,
            },
            "configuration": described(dataclasses.asdict(self._config), self._profile),
            "databases": self._databases.describe(records),
            "counts": dict(self._survey.counts),
            "bytes": dict(self._survey.bytes),
            "environment": sorted(names),
        }

    def _borg_version(self, borg: Borg) -> str:
        """Asked once per binary: a start of borg costs a third of a second."""
        real = os.path.realpath(self._config.borg)
        status = os.stat(real)
        mark = f"{real} {status.st_size} {status.st_mtime_ns}"
        path = self._state / "borg.version"
        if path.exists():
            known, _tab, version = path.read_text(encoding="utf-8").partition("\t")
            if known == mark:
                return version
        version = borg.version()
        status_files.write(path, f"{mark}\t{version}")
        return version

    # -- after borg --------------------------------------------------------------------------------

    def _judge(self, comparer: Comparer) -> Comparison:
        """What differs because the home lives on is told from what must not differ."""
        found = comparer.result()
        missing = tuple(path for path in found.missing if os.path.lexists(b"/" + path))
        replaced = [path for path in found.replaced if not _changed_since(comparer, path)]
        lively: list[bytes] = []
        for path in found.resized:
            (lively if _changed_since(comparer, path) else replaced).append(path)
        for count, text in (
            (len(found.missing) - len(missing), "vanished before borg read them"),
            (len(found.replaced) + len(found.resized) - len(replaced), "changed meanwhile"),
        ):
            if count:
                self._problems.append(Problem(False, f"{count} entries {text}"))
        return dataclasses.replace(
            found, missing=missing, replaced=tuple(replaced), resized=tuple(lively)
        )

    def _save(self, cache: Cache) -> None:
        """Without its cache the next run is slower and no worse."""
        try:
            cache.save()
        except OSError as error:
            self._problems.append(
                Problem(False, f"{self._state}: {error.strerror}: the next run reads all again")
            )

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self._state.mkdir(mode=0o750, parents=True, exist_ok=True)
            path = self._state / status_files.LOCK
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CouldNotRun(f"{self._state}: {error.strerror}", hint="run as root") from error
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise CouldNotRun(
                    f"another backup of {self._config.agent} is running", hint="wait for it to end"
                )
            time.sleep(0.02)
        try:
            yield
        finally:
            os.close(descriptor)

    def _finish(self) -> dict[str, Any]:
        assembly = self._assembly
        problems = list(self._problems)
        if assembly is not None:
            problems += assembly.problems
        if self._databases is not None:
            problems += self._databases.problems
        run = Run(
            agent=self._config.agent,
            archive=self.archive,
            begun=self._begun,
            seconds=time.monotonic() - self._started,
            targets=self._archiving.targets,
            survey=self._survey,
            databases=self._databases.all if self._databases else [],
            unknown=assembly.unknown if assembly else [],
            findings=len(assembly.findings) if assembly else 0,
            outside=self._outside,
            problems=problems,
        )
        status = verdict(run, status_files.read(self._config.state_dir))
        failure = status_files.ping(self._config.ping_url, status["result"])
        if failure:
            status["ping"] = failure
        try:
            status_files.save(self._config.state_dir, status, self._config.metrics_file)
        except OSError as error:
            raise LifeboatError(
                f"{error.filename or self._state}: {error.strerror}: the outcome of this run "
                f"({status['result']}) could not be written",
                hint="is the disk of this box full, may the unit write there?",
            ) from error
        return status


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _told_to_stop() -> Iterator[None]:
    """SIGTERM ends a run as an error does: borg aborted, databases let go, the status written."""

    def stop(_number: int, _frame: object) -> None:
        raise ToldToStop

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _from_borg(target: Target, home: str, held: frozenset[str]) -> list[Problem]:
    """borg's own warnings: a file that changes while it is read is expected of a held database."""
    changed, others = [], []
    created = target.created
    if created is None or created.code.severity != WARNING:
        return []  # what it says besides, such as that it removed a stale lock, is no warning
    for warning in created.warnings:
        if warning.msgid == "FileChangedWarning":
            path = warning.text.rpartition(": ")[0]
            if path.removeprefix(f"{home}/") not in held:
                changed.append(printable(path.removeprefix(f"{home}/")))
        elif warning.msgid not in ("", "BackupFileNotFoundError"):  # the listing shows the missing
            others.append(warning.text)
    problems = [Problem(False, f"borg on {target.config.name}: {text}") for text in others[:_FEW]]
    if changed:
        problems.append(
            Problem(
                False,
                f"{len(changed)} files changed while borg read them, their copies may be half old "
                f"and half new: {', '.join(changed[:_FEW])}",
                "the next archive has them whole if they rest then",
            )
        )
    return problems


def _changed_since(comparer: Comparer, path: bytes) -> bool:
    """Whether an entry was changed by its own user since it was looked at."""
    want = comparer.find(path)
    if want is None:
        return False
    try:
        now = os.lstat(b"/" + path)
    except OSError:
        return True
    changed = (now.st_mode, now.st_gid, now.st_size, now.st_mtime_ns) != (
        want.mode,
        want.gid,
        want.size,
        want.mtime_ns,
    )
    return changed and now.st_uid == want.uid
