# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The restore of one agent, step by step: extracted, staged, switched, cleaned.

Each step may be killed at any moment and repeated. Until the switch nothing outside the
staging folder changes; at every moment the old home or the new one stands in its place.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .process import Runner
from .restore_manifest import SIZE_LIMIT, RestoreError, RestoreManifest, parse, show
from .restore_note import ENDING, holds_files, open_aside, put_away, read_note, write_note
from .restore_partial import PartialSwitch, archive_paths, choose, give_up, plan
from .restore_partial import report as report_moves
from .restore_partial import undo as undo_paths
from .restore_pending import Wish, refuse_to_abandon
from .restore_place import Place, opened_place, safe_place
from .restore_session import RUN_DIRECTORY, USER, EscrowedAccess, Session, session
from .restore_switch import (
    GIVING_UP,
    STATE,
    State,
    Switch,
    Switched,
    aside_to_put_back,
    clear_staging,
    open_staging,
    read_state,
    stage_undo,
    staging_name,
    stamp,
    write_state,
)
from .restore_target import account_of, examine, owners, standing, why_busy
from .restore_tree import Apply, descend, exists, opened, remove
from .restore_wal import fold_all


@dataclass(frozen=True)
class Request:
    """Which agent goes where. Paths are the target's."""

    agent: str
    home: str
    user: str
    replace: bool = False
    moved_aside: str = ""
    records: str = ""


@contextlib.contextmanager
def _staging(request: Request, create: bool = False) -> Iterator[tuple[Place, int]]:
    """The place of the home with its open folder, and the open staging folder beside the home."""
    with opened_place(request.home, request.user) as place:
        try:
            staging = open_staging(place.descriptor, request.agent, create)
        except FileNotFoundError as error:
            raise RestoreError(
                f"Nothing is staged for {request.agent!r} beside {place.named}.",
                "Run the restore from its beginning.",
            ) from error
        try:
            yield place, staging
        finally:
            os.close(staging)


def _staging_path(place: Place, agent: str) -> str:
    return f"{place.parent}/{staging_name(agent)}"


def extract(
    request: Request,
    access: EscrowedAccess,
    archive: str,
    archive_id: str,
    *,
    only: Sequence[str] = (),
    runner: Runner | None = None,
    run_directory: str = RUN_DIRECTORY,
    user: str = USER,
) -> dict[str, Any]:
    """The archive lies extracted in the staging folder."""
    _end_giving_up(request)
    alone = session(access, runner=runner, run_directory=run_directory, user=user)
    with _staging(request, create=True) as (place, staging), alone as opened_one:
        path = _staging_path(place, request.agent)
        state = read_state(staging)
        wish = Wish(place.real, archive_id, tuple(only))
        if state is not None:
            refusal = wish.refusal(state)
            if refusal:
                raise refusal
            if wish.has_extracted(state, standing(place)):
                return {"changed": False, "staging": path, "borg_warnings": [], "ended": {}}
        begun = State(
            request.agent,
            place.real,
            archive,
            archive_id,
            "extracting",
            only=tuple(only),
            started=now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        write_state(staging, begun)
        for name in os.listdir(staging):
            if name != STATE:
                remove(name, staging)
        os.chmod(staging, 0o700)
        _make_tree(staging, user)
        tree = descend(staging, "tree")
        try:
            paths = _archive_paths(opened_one, archive, only)
            warnings = opened_one.extract(archive, tree, paths)
        finally:
            os.close(tree)
        write_state(staging, begun.at("extracted", flawed=bool(warnings)))
    return {"changed": True, "staging": path, "borg_warnings": warnings, "ended": _ended(state)}


def _ended(state: State | None) -> dict[str, str]:
    """The earlier restore that was over but for its clean-up, which the next extraction does."""
    if state is None or state.step != "switched":
        return {}
    return {"archive": state.archive, "home": state.home, "switched": state.switched}


def _archive_paths(source: Session, archive: str, only: Sequence[str]) -> list[str]:
    if not only:
        return []
    return archive_paths(choose(source.manifest(archive), only), only)


def _make_tree(staging: int, user: str) -> None:
    os.mkdir("tree", 0o700, dir_fd=staging)
    account = account_of(user)
    if os.geteuid() == 0 and account is not None:
        os.chown("tree", account.pw_uid, account.pw_gid, dir_fd=staging, follow_symlinks=False)


def read_manifest(staging: int, agent: str) -> RestoreManifest:
    """The manifest of the extracted tree; never read through a link."""
    try:
        descriptor = _open_record(staging, agent, "manifest.json")
    except OSError as error:
        raise RestoreError(
            f"The archive holds no manifest of {agent!r}: {error.strerror}.",
            "It was not made by lifeboat, or for another agent. Choose another archive.",
        ) from error
    with os.fdopen(descriptor, "rb") as stream:
        return parse(stream.read(SIZE_LIMIT + 1), agent)


def stage(request: Request) -> dict[str, Any]:
    """The extracted archive has the shape, owners, modes and times of the home it will be."""
    with _staging(request) as (place, staging):
        state = _required(staging, place, "extracted", "staged", "switching", "switched")
        if state.step != "extracted":
            return {"changed": False, **state.report, **_where(place, request.agent, state)}
        manifest = _chosen(staging, request.agent, state)
        _keep_records(request, staging, state)
        os.chmod(staging, 0o700)
        who = owners(request.user, manifest.agent.uid, manifest.agent.gid)
        applied = Apply(staging, manifest, who, change_owners=os.geteuid() == 0).run()
        # Only now may the agent's user look in: root has finished writing below.
        os.chmod(staging, 0o711)
        databases = [item.path for item in manifest.databases]
        folded = fold_all(
            f"{_staging_path(place, request.agent)}/home", databases, who.uid, who.gid
        )
        report = {
            **_staged_report(_staging_path(place, request.agent), request.agent, manifest),
            "rewritten": [show(path) for path in applied.rewritten],
            "applied": applied.report(),
            "folded": [vars(item) for item in folded],
        }
        write_state(staging, state.at("staged", report=report))
        return {"changed": True, **report, **_where(place, request.agent, state)}


def _where(place: Place, agent: str, state: State) -> dict[str, Any]:
    """Where the restored home is now, and since when it stands in its place."""
    stands = bool(state.new_inode) and standing(place) == state.new_inode
    return {
        "staged_home": place.real if stands else f"{_staging_path(place, agent)}/home",
        "stands": stands or state.step == "switched",
        "resumed": state.step in ("switching", "switched"),
        "begun": state.started,
    }


def _keep_records(request: Request, staging: int, state: State) -> None:
    """What outlives the staging folder. Of single paths nothing is kept: the records speak of the
    last whole restore, which may wait for its pairing."""
    if not request.records or state.only:
        return
    with opened(request.records) as records:
        for name in ("manifest.json", "environment.json"):
            remove(f"{name}.new", records)
            try:
                source = _open_record(staging, request.agent, name)
            except FileNotFoundError:
                remove(name, records)  # that of an earlier restore speaks of another archive
                continue
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            target = os.open(f"{name}.new", flags, 0o600, dir_fd=records)
            with os.fdopen(source, "rb") as reading, os.fdopen(target, "wb") as writing:
                shutil.copyfileobj(reading, writing, 1 << 20)
            os.rename(f"{name}.new", name, src_dir_fd=records, dst_dir_fd=records)


def _open_record(staging: int, agent: str, name: str) -> int:
    """A file beside the manifest of the extracted tree; never read through a link."""
    folder = descend(staging, f"tree/run/lifeboat/{agent}")
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _not_plain(name) from error
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_plain(name)
    return descriptor


def _not_plain(name: str) -> RestoreError:
    return RestoreError(
        f"The archive's {name} is not a plain file.", "Nothing was placed. Choose an earlier one."
    )


def _chosen(staging: int, agent: str, state: State) -> RestoreManifest:
    manifest = read_manifest(staging, agent)
    return choose(manifest, state.only) if state.only else manifest


def _staged_report(staging: str, agent: str, manifest: RestoreManifest) -> dict[str, Any]:
    return {
        "staging": staging,
        "manifest": f"{staging}/tree/run/lifeboat/{agent}/manifest.json",
        "summary": manifest.summary(),
        "to_be_supplied": [dict(item) for item in manifest.to_be_supplied],
        "environment": list(manifest.environment),
        "outside": [dict(item) for item in manifest.outside],
    }


def _required(staging: int, place: Place, *steps: str) -> State:
    state = read_state(staging)
    if state is None or state.step not in steps:
        raise RestoreError(
            f"The staging folder is at the step {state.step if state else 'none'!r}.",
            "Run the restore from its beginning.",
        )
    if state.home != place.real:
        raise RestoreError(
            f"What is staged beside {place.named} is {state.archive!r} for {state.home!r}.",
            "Complete that restore, or throw it away with -e abandon=true, with the target that "
            "it had; then run this one from its beginning.",
            pending=state.archive,
        )
    return state


def switch(request: Request) -> dict[str, Any]:
    """The restored home stands in its place; what stood there lies beside it, whole."""
    with _staging(request) as (place, staging):
        state = _required(staging, place, "staged", "switching", "switched")
        if state.step == "staged":
            busy = why_busy(examine(request.home, request.user, request.agent))
            if busy:
                raise busy
        if state.only:
            return _switch_paths(request, place, staging, state)
        done = Switch(place.descriptor, place.name, staging, state).run(request.replace)
        return _switched(place, done)


def _switched(place: Place, done: Switched) -> dict[str, Any]:
    return {
        "changed": done.changed,
        "moved_aside": f"{place.parent}/{done.moved_aside}" if done.moved_aside else "",
        "switch_method": done.method,
    }


def _switch_paths(request: Request, place: Place, staging: int, state: State) -> dict[str, Any]:
    """The chosen paths, one by one; the home itself stays."""
    if state.step == "switched":
        return _switched(place, Switched(False, state.moved_aside, "earlier run"))
    parent = place.descriptor
    whole = read_manifest(staging, request.agent)
    manifest = choose(whole, state.only)
    who = owners(request.user, manifest.agent.uid, manifest.agent.gid)
    with _home(place) as home, opened("home", staging) as staged:
        moves = plan(home, staged, manifest, state.only) if state.step == "staged" else []
        state = _announce_paths(place, staging, state)
        kept = open_aside(parent, state.moved_aside)
        try:
            moves = read_note(kept) or write_note(
                kept, moves or plan(home, staged, manifest, state.only)
            )
            PartialSwitch(home, staged, kept, whole.entries, (who.uid, who.gid)).run(moves)
        finally:
            os.close(kept)
    os.fsync(parent)
    write_state(staging, state.at("switched"))
    done = Switched(True, state.moved_aside, "paths")
    return {**_switched(place, done), "paths": report_moves(moves)}


@contextlib.contextmanager
def _home(place: Place) -> Iterator[int]:
    if exists(place.name, place.descriptor) is None:
        raise RestoreError(
            f"There is no home {place.named} that paths could go into.",
            "Restore it whole, without -e only.",
        )
    with opened(place.name, place.descriptor) as home:
        yield home


def _announce_paths(place: Place, staging: int, state: State) -> State:
    if state.step == "switching":
        return state
    aside = f"{place.name}.before-{stamp(now())}{ENDING}"
    if exists(aside, place.descriptor) is not None:  # twice within a second
        raise RestoreError(f"{aside!r} exists already.", "Run again in a second.")
    return write_state(staging, state.at("switching", moved_aside=aside))


def undo(request: Request) -> dict[str, Any]:
    """The home that a restore moved aside stands again; the restored one lies beside it."""
    busy = why_busy(examine(request.home, request.user, request.agent))
    if busy:
        raise busy
    with opened_place(request.home, request.user) as place:
        parent, name = place.descriptor, place.name
        wanted = _wanted_by_undo(request, place)
        if wanted.endswith(ENDING):
            return _undo_paths(request, place, wanted)
        state = stage_undo(parent, name, request.agent, place.real, request.moved_aside)
        staging = open_staging(parent, request.agent)
        try:
            done = Switch(parent, name, staging, state).run(True)
        finally:
            os.close(staging)
        clear_staging(parent, request.agent)
        return {**_switched(place, done), "changed": True, "restored_from": state.archive}


def foresee_undo(request: Request) -> None:
    """Refuses an undo that has nothing to put back; changes nothing."""
    with opened_place(request.home, request.user) as place:
        _wanted_by_undo(request, place)


def _wanted_by_undo(request: Request, place: Place) -> str:
    """The home to put back; nothing when an undo that was cut has it already."""
    pending = _pending(place.descriptor, request.agent)
    if pending is not None and pending.cut_among_paths:
        raise RestoreError(
            f"A restore of {show(', '.join(pending.only))} was interrupted in its last step.",
            "Run it again, which completes it, or put everything back with -e abandon=true.",
        )
    if pending is not None and pending.kind == "undo":
        return ""
    return aside_to_put_back(place.descriptor, place.name, request.moved_aside)


def _pending(parent: int, agent: str) -> State | None:
    if exists(staging_name(agent), parent) is None:
        return None
    staging = open_staging(parent, agent)
    try:
        return read_state(staging)
    finally:
        os.close(staging)


def _undo_paths(request: Request, place: Place, wanted: str) -> dict[str, Any]:
    """What a restore of paths replaced goes back; the folder keeps what it had brought."""
    parent, name = place.descriptor, place.name
    pending = _pending(parent, request.agent)
    if pending is not None and pending.moved_aside == wanted:  # cut when all was switched
        clear_staging(parent, request.agent)
    kept = open_aside(parent, wanted)
    try:
        with opened(name, parent) as home:
            paths = undo_paths(home, kept)
    finally:
        os.close(kept)
    after = put_away(parent, wanted, "undone")
    os.fsync(parent)
    done = Switched(True, after, "paths")
    return {**_switched(place, done), "restored_from": wanted, "paths": [show(p) for p in paths]}


def clear(request: Request) -> dict[str, Any]:
    """No staging folder is left. Of paths that were cut in mid-switch, all stand as before."""
    with safe_place(request.home, request.user) as place:
        if not place.parent_exists:
            return {"changed": False}
        pending = _pending(place.descriptor, request.agent)
        if pending is not None:
            refusal = refuse_to_abandon(pending, place.real)
            if refusal:
                raise refusal
        cut = pending is not None and pending.cut_among_paths
        given_up = _give_up(request) if cut else {}
        return {"changed": clear_staging(place.descriptor, request.agent), **given_up}


def _end_giving_up(request: Request) -> None:
    """A restore of paths that was being given up is given up whole before anything is begun."""
    with opened_place(request.home, request.user) as place:
        pending = _pending(place.descriptor, request.agent)
    if pending is not None and pending.kind == GIVING_UP:
        clear(request)


def _give_up(request: Request) -> dict[str, Any]:
    """The home as it was before the switch of some paths; what had come lies beside it."""
    with _staging(request) as (place, staging):
        state = _required(staging, place, "staged", "switching")
        busy = why_busy(examine(request.home, request.user, request.agent))
        if busy:
            raise busy
        state = write_state(staging, state.at("staged", kind=GIVING_UP))
        paths, after = _paths_put_back(place, staging, state.moved_aside)
        os.fsync(place.descriptor)
        write_state(staging, state.at("extracting", kind="restore", moved_aside=""))
        done = Switched(True, after, "paths")
        return {**_switched(place, done), "paths": [show(path) for path in paths]}


def _paths_put_back(place: Place, staging: int, aside: str) -> tuple[list[str], str]:
    """The paths that are back, and where lies what had come in their stead."""
    parent = place.descriptor
    if exists(aside, parent) is None:
        return [], ""
    kept = open_aside(parent, aside)
    try:
        with _home(place) as home, opened("home", staging) as staged:
            paths = give_up(home, staged, kept)
        empty = not holds_files(kept)
    finally:
        os.close(kept)
    if empty:
        remove(aside, parent)
        return paths, ""
    return paths, put_away(parent, aside, "abandoned")


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """What the operating system refused, in words, with what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise RestoreError(
            f"{os.strerror(error.errno or 0)}: {error.filename or 'a step of the restore'}.",
            f"{'Make room (bytes and inodes: df, df -i)' if full else 'Solve the reason'} and run "
            "the same command again: it goes on where it stopped. Nothing was lost."
            f"{' What it has taken so far is freed by -e abandon=true.' if full else ''}",
            errno=error.errno,
        ) from error


def timed(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of a step, the seconds that it took, and those of them on a processor."""
    begin, before = time.monotonic(), os.times()
    result = work()
    spent = sum(after - then for after, then in zip(os.times()[:4], before[:4]))
    return {
        **result,
        "seconds": round(time.monotonic() - begin, 3),
        "processor_seconds": round(spent, 2),
    }


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


__all__ = [
    "Request",
    "clear",
    "explained",
    "extract",
    "foresee_undo",
    "read_manifest",
    "show",
    "stage",
    "switch",
    "timed",
    "undo",
]
