# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One backup of one agent, from the walk to the verdict. See docs/architecture.md for the order.

borg is started first and fed while the home is read, so that its start-up and ours overlap; an
archive comes into being only when the last path, the manifest, was handed over.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from . import status as status_files
from .agent_version import find as find_version
from .assemble import Assembly, Problem
from .borg import Access, Borg, Created, CreateSession, Progress
from .classify import Classifier
from .config import BoxConfig, RepositoryConfig
from .databases import Databases, HeldDatabase
from .errors import CouldNotRun, LifeboatError
from .hold import MAIN, RAW
from .listing import Comparison, compare
from .look import Cache, Looker
from .manifest import NAME as MANIFEST
from .manifest import fixed_block, printable, render
from .outside import Outside
from .privilege import Call, Identity, lookup
from .process import Runner, Subprocesses, encode_paths
from .secrets import Scanner
from .survey import Database, Survey
from .walk import open_home

VERSION = "0.1.0"
_OWN_NAMES = ("scrubbed", "databases", "manifest.json", "environment.json")


@dataclasses.dataclass
class Target:
    """One repository during a run."""

    config: RepositoryConfig
    borg: Borg
    session: CreateSession | None = None
    created: Created | None = None
    comparison: Comparison | None = None
    error: LifeboatError | None = None
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The repository's part of the status."""
        good = self.error is None and self.comparison is not None and self.comparison.good
        data: dict[str, Any] = {"success": good, "url": self.config.url, "seconds": self.seconds}
        if self.created is not None:
            data.update(
                archive_id=self.created.archive_id,
                original_size=self.created.original_size,
                deduplicated_size=self.created.deduplicated_size,
                files=self.created.files,
                duration=round(self.created.duration, 3),
            )
        if self.comparison is not None:
            data["listing"] = self.comparison.describe()
        if self.error is not None:
            data.update(error=self.error.message, hint=self.error.hint, failure=self.error.failure)
        return data


class Backup:
    """One run."""

    def __init__(
        self,
        config: BoxConfig,
        profile: Mapping[str, Any],
        *,
        runner: Runner | None = None,
        on_progress: Callable[[str, Progress], None] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._config = config
        self._profile = profile
        self._runner = runner or Subprocesses()
        self._on_progress = on_progress
        self._environ = dict(os.environ if environ is None else environ)
        self._begun = datetime.datetime.now(datetime.timezone.utc)
        self._started = time.monotonic()
        self.archive = f"{config.agent}-{status_files.utc(self._begun)}"
        self.problems: list[Problem] = []
        self._assembly: Assembly | None = None
        self._databases: Databases | None = None
        self._targets: list[Target] = []
        self._survey: Survey | None = None

    # -- the run --------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Back up; returns the status, which is also written. Raises only when it cannot run."""
        identity = lookup(self._config.user)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._lock())
            try:
                self._work(identity, stack)
            except CouldNotRun:
                raise
            except LifeboatError as error:
                self.problems.append(Problem(True, error.message, error.hint))
            stack.close()
        return self._finish()

    def _work(self, identity: Identity, stack: contextlib.ExitStack) -> None:
        config = self._config
        home, descriptor = open_home(config.home, identity.uid)
        stack.callback(os.close, descriptor)
        run_dir = self._prepare_run_dir()
        stack.callback(self._clean_run_dir)
        self._targets = self.targets(config, self._runner, self._environ)
        stack.callback(self._abort)
        version = Call(identity, lambda: find_version(self._profile, home, identity.home))
        stack.callback(version.end)
        self._begin()

        self._survey = survey = Survey(Classifier(self._profile))
        survey.run(descriptor)
        scanner = Scanner(config.secret_patterns, config.accepted_findings)
        state = Path(config.state_dir)
        state.mkdir(mode=0o750, parents=True, exist_ok=True)
        cache = Cache(state / "files.cache", scanner.version)
        looker = Looker(descriptor, scanner, cache)
        stack.callback(looker.close)
        assembly = self._assembly = Assembly(
            config=config,
            profile=self._profile,
            home=home,
            survey=survey,
            looker=looker,
            scanner=scanner,
            feed=self._feed,
        )
        databases = self._databases = Databases(
            home=home,
            home_descriptor=descriptor,
            identity=identity,
            profile=self._profile,
            mode=config.database_mode,
            run_dir=run_dir,
        )
        stack.callback(databases.release)
        self._refuse_unknown(survey)
        self._hold(databases, assembly, cache, survey.databases)
        assembly.entries()
        assembly.export_environments()
        self._reports(databases, cache)
        outside = Outside(home, descriptor, self._profile).collect(assembly.records, databases.all)
        assembly.settle()
        block = fixed_block(config.chunker_params)
        rest = self._manifest_rest(identity, home, version.result(30), outside)
        status = assembly.place(MANIFEST, render(assembly.records.values(), rest, block=block))
        assembly.archive(str(run_dir / MANIFEST), status)
        assembly.flush()
        self._complete()
        self._judge_holds(databases)
        databases.release()
        self._compare()
        cache.save()

    # -- borg -------------------------------------------------------------------------------------

    @staticmethod
    def targets(
        config: BoxConfig,
        runner: Runner | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> list[Target]:
        """borg on every repository of a configuration."""
        environ = os.environ if environ is None else environ
        found = []
        for repository in config.repositories:
            access = Access(
                url=repository.url,
                base_dir=repository.base_dir,
                keys_dir=repository.keys_dir,
                repository_id=repository.id,
                passphrase_file=repository.passphrase_path(environ),
                ssh_key=repository.ssh_key,
                known_hosts=repository.known_hosts,
                lock_wait=config.lock_wait,
            )
            borg = Borg(access, executable=config.borg, runner=runner, environ=environ)
            found.append(Target(repository, borg))
        return found

    def _begin(self) -> None:
        for target in self._targets:
            try:
                target.session = target.borg.create(
                    self.archive,
                    compression=self._config.compression,
                    chunker_params=self._config.chunker_params,
                    on_progress=self._progress(target.config.name),
                )
            except LifeboatError as error:
                target.error = error
            except OSError as error:
                raise CouldNotRun(
                    f"{self._config.borg}: {error.strerror}", hint="run the role borg on this box"
                ) from error
        if all(target.error is not None for target in self._targets):
            raise LifeboatError("no repository could be opened")

    def _progress(self, name: str) -> Callable[[Progress], None] | None:
        report = self._on_progress
        return None if report is None else lambda progress: report(name, progress)

    def _feed(self, paths: list[bytes]) -> None:
        data = encode_paths(paths)
        for target in self._targets:
            if target.session is not None:
                target.session.feed(data)

    def _complete(self) -> None:
        """The end of the paths: one repository that fails does not stop the others."""
        for target in self._targets:
            session, target.session = target.session, None
            if session is None:
                continue
            try:
                target.created = session.finish()
            except LifeboatError as error:
                target.error = error
            else:
                if target.created.repository_id != target.config.id:
                    target.error = LifeboatError(
                        f"{target.config.name}: the archive went to repository "
                        f"{target.created.repository_id[:12]}, not to the pinned one",
                        hint="do not trust that repository; see playbooks/rollback.yml",
                    )

    def _abort(self) -> None:
        for target in self._targets:
            if target.session is not None:
                target.session.abort()
                target.session = None

    def _compare(self) -> None:
        """The archive's own listing against the manifest: only this makes a success."""
        if self._assembly is None:
            raise AssertionError("nothing is assembled yet")
        for target in self._targets:
            if target.created is None or target.error is not None:
                continue
            begun = time.monotonic()
            try:
                items = target.borg.list_archive(self.archive)
                comparison = target.comparison = compare(self._assembly.expected, items)
            except LifeboatError as error:
                target.error = error
                continue
            finally:
                target.seconds["listing"] = round(time.monotonic() - begun, 3)
            self._judge(target, comparison)

    def _judge(self, target: Target, comparison: Comparison) -> None:
        """What differs because the home lives on is told from what must not differ."""
        if self._assembly is None:
            raise AssertionError("nothing is assembled yet")
        present = [path for path in comparison.missing if os.path.lexists(b"/" + path)]
        vanished = len(comparison.missing) - len(present)
        if vanished:
            self.problems.append(Problem(False, f"{vanished} files vanished before borg read them"))
        comparison = dataclasses.replace(comparison, missing=tuple(present))
        replaced = [path for path in comparison.replaced if not self._changed_since(path)]
        if len(replaced) < len(comparison.replaced):
            count = len(comparison.replaced) - len(replaced)
            self.problems.append(Problem(False, f"{count} entries changed mode or owner meanwhile"))
        comparison = dataclasses.replace(comparison, replaced=tuple(replaced))
        target.comparison = comparison
        if not comparison.good:
            target.error = LifeboatError(
                f"{target.config.name}: the archive is not what was to be archived: "
                f"{comparison.describe()}",
                hint="see the journal; the next run tries again, and an alarm that stays is one",
            )
        if comparison.resized:
            self.problems.append(
                Problem(False, f"{len(comparison.resized)} files changed while they were archived")
            )

    def _changed_since(self, path: bytes) -> bool:
        """Whether mode or owner of an entry were changed by its own user during the run."""
        if self._assembly is None:
            raise AssertionError("nothing is assembled yet")
        want = self._assembly.expected[path]
        try:
            now = os.lstat(b"/" + path)
        except OSError:
            return False
        return (now.st_mode, now.st_uid, now.st_gid) != (want.mode, want.uid, want.gid) and (
            now.st_uid == want.uid
        )

    # -- databases ---------------------------------------------------------------------------------

    def _hold(
        self, databases: Databases, assembly: Assembly, cache: Cache, found: list[Database]
    ) -> None:
        allowed = [database for database in found if assembly.allow_database(database)]
        databases.hold(allowed)
        for item in databases.all:
            if item.held.error and item.method == RAW:
                self.problems.append(
                    Problem(
                        True,
                        f"database {printable(item.path)} could not be opened: {item.held.error}",
                        "it was archived as it is; is it encrypted, locked by another program, damaged?",
                    )
                )
            assembly.database(item.database, method=item.method, copy=item.copy)
            status = self._database_status(item)
            known = cache.get("db:" + item.path, status) if status and item.method == MAIN else None
            if known:
                item.report = known[0]
            else:
                item.holder.ask_report()
        assembly.flush()

    def _database_status(self, item: HeldDatabase) -> os.stat_result | None:
        if self._assembly is None:
            raise AssertionError("nothing is assembled yet")
        try:
            return os.stat(self._assembly.absolute(item.path), follow_symlinks=False)
        except OSError:
            return None

    def _reports(self, databases: Databases, cache: Cache) -> None:
        for item in databases.all:
            if not item.report and not item.held.error:
                item.report = item.holder.report()
                status = self._database_status(item)
                if status and item.method == MAIN and item.report.get("quick_check") == "ok":
                    cache.put("db:" + item.path, status, [item.report])
            check = item.report.get("quick_check") or item.report.get("error", "")
            if check != "ok" and not item.held.error:
                self.problems.append(
                    Problem(
                        True,
                        f"database {printable(item.path)} fails its check: {check}",
                        "it was archived as it is; restore it from an earlier archive",
                    )
                )
        if self._survey is None or self._assembly is None:
            raise AssertionError("nothing is assembled yet")
        for entry in self._survey.not_sqlite:
            self._assembly.report_not_sqlite(entry)

    def _judge_holds(self, databases: Databases) -> None:
        for item in databases.broken_holds():
            self.problems.append(
                Problem(
                    True,
                    f"database {printable(item.path)} changed while it was held: this copy may be torn",
                    "does a program replace the file, or write to it without SQLite's locks?",
                )
            )

    # -- the rest -----------------------------------------------------------------------------------

    def _refuse_unknown(self, survey: Survey) -> None:
        roots = sorted(survey.unknown_roots())
        if self._config.unknown == "refuse" and roots:
            first = ", ".join(printable(root) for root in roots[:5])
            raise LifeboatError(
                f"{len(roots)} entries are known to no rule, and the policy is refuse: {first}",
                hint="add rules for them to the profile, or set unknown: keep",
            )

    def _manifest_rest(
        self,
        identity: Identity,
        home: str,
        version: Mapping[str, Any],
        outside: list[dict[str, str]],
    ) -> dict[str, Any]:
        if not (self._assembly and self._survey and self._databases):
            raise AssertionError("nothing is assembled yet")
        assembly, survey = self._assembly, self._survey
        sizes = {path: record.size for path, record in assembly.records.items()}
        return {
            "lifeboat_version": VERSION,
            "borg_version": self._borg_version(),
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
            "databases": [
                self._databases.describe(item, sizes.get(item.path, 0))
                for item in self._databases.all
            ],
            "counts": dict(survey.counts),
            "bytes": dict(survey.bytes),
            "unknown": assembly.unknown,
            "withheld": [printable(path) for path in assembly.withheld],
            "findings": assembly.findings,
            "to_be_supplied": assembly.to_be_supplied,
            "environment": sorted({n for e in assembly.environment.values() for n in e["names"]}),
            "outside": outside,
        }

    def _borg_version(self) -> str:
        """Asked once per binary: a start of borg costs a third of a second."""
        real = os.path.realpath(self._config.borg)
        try:
            status = os.stat(real)
        except OSError:
            return ""
        mark = f"{real} {status.st_size} {status.st_mtime_ns}"
        path = Path(self._config.state_dir) / "borg.version"
        try:
            known, _tab, version = path.read_text(encoding="utf-8").partition("\t")
            if known == mark:
                return version
        except OSError:
            pass
        version = self._targets[0].borg.version()
        status_files.write(path, f"{mark}\t{version}")
        return version

    def _prepare_run_dir(self) -> Path:
        path = Path(self._config.run_dir)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chown(path, -1, os.getegid())
            os.chmod(path, 0o700)
        except OSError as error:
            raise CouldNotRun(f"{path}: {error.strerror}", hint="run as root") from error
        self._clean_run_dir()
        return path

    def _clean_run_dir(self) -> None:
        """Scrubbed copies and exports do not outlive the run."""
        for name in _OWN_NAMES:
            path = Path(self._config.run_dir) / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        directory = Path(self._config.state_dir)
        try:
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CouldNotRun(f"{directory}: {error.strerror}", hint="run as root") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise CouldNotRun(
                f"another backup of {self._config.agent} is running", hint="wait for it to end"
            ) from error
        try:
            yield
        finally:
            os.close(descriptor)

    # -- the verdict -----------------------------------------------------------------------------------

    def _finish(self) -> dict[str, Any]:
        assembly = self._assembly
        problems = [*self.problems, *(assembly.problems if assembly else [])]
        problems += self._walk_problems()
        problems += [Problem(True, t.error.message, t.error.hint) for t in self._targets if t.error]
        made = [target for target in self._targets if target.created is not None]
        if not made and not any(problem.error for problem in problems):
            problems.append(Problem(True, "no archive was made"))
        errors = [problem for problem in problems if problem.error]
        quarantined = [u for u in (assembly.unknown if assembly else []) if u["decision"] != "kept"]
        result = status_files.SUCCESS
        if errors:
            result = status_files.FAILED
        elif problems or quarantined:
            result = status_files.WARNING
        before = status_files.read(self._config.state_dir)
        attempt = status_files.utc(self._begun)
        first = (errors or problems or [Problem(False, "")])[0]
        status = {
            "format": status_files.FORMAT,
            "agent": self._config.agent,
            "last_attempt": attempt,
            "last_success": before.get("last_success") if errors else attempt,
            "result": result,
            "archive": self.archive if made else None,
            "archive_id": made[0].created.archive_id if made and made[0].created else None,
            "duration": round(time.monotonic() - self._started, 3),
            "repositories": {target.config.name: target.as_dict() for target in self._targets},
            "counts": dict(self._survey.counts) if self._survey else {},
            "bytes": dict(self._survey.bytes) if self._survey else {},
            "databases": [
                {
                    "path": printable(item.path),
                    "method": item.method,
                    "checkpoint": item.held.checkpoint,
                }
                for item in (self._databases.all if self._databases else [])
            ],
            "unknown": assembly.unknown if assembly else [],
            "findings_count": len(assembly.findings) if assembly else 0,
            "problems": [dataclasses.asdict(problem) for problem in problems],
            "message": first.message,
            "hint": first.hint,
        }
        failure = status_files.ping(self._config.ping_url, result)
        if failure:
            status["ping"] = failure
        status_files.save(self._config.state_dir, status, self._config.metrics_file)
        return status

    def _walk_problems(self) -> list[Problem]:
        problems = []
        for trouble in self._survey.troubles if self._survey else []:
            precious = trouble.classification in ("keep", "scrub", "unknown")
            if precious:
                problems.append(
                    Problem(
                        not trouble.vanished,
                        f"{printable(trouble.path)}: {trouble.reason}",
                        "" if trouble.vanished else "check its permissions and the disk",
                    )
                )
        return problems
