# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The repositories of one run: each gets the same archive, none waits for another's failure."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from .borg import Access, Borg, Created, CreateSession, Listing, Progress
from .borg_lock import forget_dead_locks
from .config import BoxConfig, RepositoryConfig
from .errors import CouldNotRun, LifeboatError, ToldToStop
from .listing import Comparer, Comparison
from .process import Runner, encode_paths

OnProgress = Callable[[str, Progress], None]

# How far borg may lag behind when the last entries are read, and how long it may stand still. It
# reports its progress every 0.2 s while it works, and not at all while it waits for more paths.
_LAG_FILES = 150
_LAG_SECONDS = 0.25  # it is further on than it has reported
_STILL_SECONDS = 8.0
_TURN_SECONDS = 0.05  # for each repository while several are waited for
_WAITS_FOR_PATHS_SECONDS = 0.3


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
    listing: Listing | None = None
    progress: Progress | None = None
    moved: float = 0.0

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
                borg=self.created.code.name,
            )
        if self.comparison is not None:
            data["listing"] = self.comparison.describe()
        if self.error is not None:
            data.update(error=self.error.message, hint=self.error.hint, failure=self.error.failure)
        return data


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


class Archiving:
    """One archive, made in all repositories at once."""

    def __init__(
        self,
        config: BoxConfig,
        all_targets: list[Target],
        archive: str,
        on_progress: OnProgress | None,
    ) -> None:
        self._config = config
        self._archive = archive
        self._on_progress = on_progress
        self._files = 0
        self._begun = time.monotonic()
        self.targets = all_targets

    def begin(self) -> None:
        """Start borg everywhere; it starts up while the home is read."""
        self._begun = time.monotonic()
        for target in self.targets:
            forget_dead_locks(target.config.base_dir)
            try:
                target.session = target.borg.create(
                    self._archive,
                    compression=self._config.compression,
                    chunker_params=self._config.chunker_params,
                    on_progress=self._listener(target),
                )
            except LifeboatError as error:
                target.error = error
            except OSError as error:
                raise CouldNotRun(
                    f"{self._config.borg}: {error.strerror}", hint="run the role borg on this box"
                ) from error
        if all(target.error is not None for target in self.targets):
            first = self.targets[0].error
            raise LifeboatError("no repository could be opened", hint=first.hint if first else "")

    def _listener(self, target: Target) -> Callable[[Progress], None]:
        def listen(progress: Progress) -> None:
            if progress != target.progress:
                target.progress, target.moved = progress, time.monotonic()
            if self._on_progress is not None:
                self._on_progress(target.config.name, progress)

        return listen

    def feed(self, paths: list[bytes], files: int) -> None:
        """Hand paths to every borg; `files` of them are regular files."""
        self._files += files
        data = encode_paths(paths)
        for target in self.targets:
            if target.session is not None:
                target.session.feed(data)

    def keep_feeding(self) -> None:
        """Let every borg have what it has room for."""
        for target in self.targets:
            if target.session is not None:
                target.session.feed(b"")

    def catch_up(self, meanwhile: Callable[[int], object] = lambda files: None) -> None:
        """Wait until borg has nearly read what it was given, but not for one that stands still.

        `meanwhile` is told time and again how many files every borg has read.
        """
        begun = time.monotonic()
        ended: set[str] = set()
        while True:
            waiting = [
                target
                for target in self.targets
                if target.config.name not in ended and self._lags(target, begun)
            ]
            if not waiting:
                return
            for target in waiting:
                if target.session is not None and not target.session.pump(0.05):
                    ended.add(target.config.name)
            meanwhile(min(_files_read(target) for target in waiting))

    def _lags(self, target: Target, begun: float) -> bool:
        if target.session is None:
            return False
        target.session.feed(b"")  # hear what it said meanwhile
        read = _files_read(target)
        speed = read / (target.moved - self._begun) if read else 0.0
        if read >= self._files - max(_LAG_FILES, speed * _LAG_SECONDS):
            return False
        if target.session.has_read_all():
            return time.monotonic() - (target.moved or begun) < _WAITS_FOR_PATHS_SECONDS
        return time.monotonic() - max(target.moved, begun) < _STILL_SECONDS

    def complete(self) -> None:
        """The end of the paths: one repository that fails or hangs does not keep back the others."""
        begun = time.monotonic()
        waiting = [target for target in self.targets if target.session is not None]
        try:
            for target in waiting:
                if target.session is not None:
                    target.session.close()
                    target.listing = target.borg.listing(self._archive)
                    target.listing.load()
            while waiting:
                for target in tuple(waiting):
                    if len(waiting) == 1 or _has_ended(target):
                        self._complete(target, begun)
                        waiting.remove(target)
        except (ToldToStop, KeyboardInterrupt):
            if all(target.created is None for target in self.targets):
                raise
            for target in waiting:
                if target.session is None:
                    continue
                target.error = LifeboatError(
                    f"{target.config.name}: the run was told to stop while it waited for this "
                    "repository; the others have the archive",
                    hint="look at the storage host and the way to it, then start a backup",
                )
            self.abort()

    def _complete(self, target: Target, begun: float) -> None:
        if target.session is None:
            return
        try:
            target.created = target.session.finish()
        except LifeboatError as error:
            target.session, target.error = None, error
            return
        finally:
            target.seconds["waited_for_borg"] = round(time.monotonic() - begun, 3)
        target.session = None
        if target.created.repository_id != target.config.id:
            target.error = LifeboatError(
                f"{target.config.name}: the archive went to repository "
                f"{target.created.repository_id[:12]}, not to the pinned one",
                hint="do not trust that repository; see playbooks/rollback.yml",
            )

    def abort(self) -> None:
        """No archive comes into being where none was completed."""
        for target in self.targets:
            if target.listing is not None:
                target.listing.abandon()
                target.listing = None
            if target.session is not None:
                target.session.abort()
                target.session = None

    def compare(self, comparer: Comparer, finish: Callable[[Comparer], Comparison]) -> None:
        """The archive's own listing against the manifest, in every repository."""
        for target in self.targets:
            if target.created is None or target.error is not None:
                continue
            begun = time.monotonic()
            comparer.begin()
            try:
                listing = target.listing or target.borg.listing(self._archive)
                listing.read(comparer.take_lines)
            except LifeboatError as error:
                target.error = error
                continue
            finally:
                target.seconds["listing"] = round(time.monotonic() - begun, 3)
            target.comparison = finish(comparer)
            if not target.comparison.good:
                target.error = LifeboatError(
                    f"{target.config.name}: the archive is not what was to be archived: "
                    f"{target.comparison.describe()}",
                    hint="the next run tries again; if it stays, somebody else writes there",
                )


def _files_read(target: Target) -> int:
    return target.progress.files if target.progress else 0


def _has_ended(target: Target) -> bool:
    return target.session is None or not target.session.pump(_TURN_SECONDS)
