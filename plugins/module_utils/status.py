# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run leaves behind for people and for monitoring: status.json, metrics.prom, a ping."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .visible import visible

FORMAT = 1
NAME, METRICS = "status.json", "metrics.prom"
SUCCESS, WARNING, FAILED = "success", "warning", "failed"
LOCK = "lock"
CONTENTS = "last_contents"  # of the last good run: what a later one may miss
RESTORE_RECORDS = "/var/lib/lifeboat-restore"
_PING_TIMEOUT = 10
_MOST_NAMED = 50
_RESERVE, _RESERVE_SIZE = ".reserve", 1 << 18
_FULL = (errno.ENOSPC, errno.EDQUOT)


def now() -> str:
    """The time in UTC, to the second."""
    return utc(datetime.datetime.now(datetime.timezone.utc))


def utc(moment: datetime.datetime) -> str:
    """A moment as every file of lifeboat writes it."""
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(path: Path, text: str, mode: int = 0o640) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(temporary, mode)
    os.replace(temporary, path)


def read(state_dir: str) -> dict[str, Any]:
    """The status of the last run, {} where there was none."""
    try:
        value = json.loads((Path(state_dir) / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def unpaired(agent: str, records: str = RESTORE_RECORDS) -> dict[str, Any]:
    """What a restore left to be done by hand, {} where nothing is: the agent is stopped till then."""
    try:
        value = json.loads((Path(records) / agent / "unpaired.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def at_work(state_dir: str) -> bool:
    """Whether a run is under way: it holds the lock as long as it lives."""
    try:
        descriptor = os.open(Path(state_dir) / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def save(state_dir: str, status: Mapping[str, Any], metrics_file: str | None) -> None:
    """status.json and the metrics, beside each other and where a collector looks.

    A place that cannot be written keeps none of the others from being told; the first error is
    raised at the end.
    """
    directory = Path(state_dir)
    text = metrics(status)
    places = [
        (directory / NAME, json.dumps(status, indent=1) + "\n", 0o640),
        (directory / METRICS, text, 0o640),
    ]
    places += [(Path(metrics_file), text, 0o644)] if metrics_file else []
    failure: OSError | None = None
    for path, content, mode in places:
        try:
            _write_in_need(directory / _RESERVE, path, content, mode)
        except OSError as error:
            failure = failure or error
    with contextlib.suppress(OSError):  # no room now: a better night makes it again
        _keep_reserve(directory / _RESERVE)
    if failure is not None:
        raise failure


def _write_in_need(reserve: Path, path: Path, content: str, mode: int) -> None:
    """A full disk is what most needs to be told: room for that is kept in reserve."""
    try:
        write(path, content, mode)
    except OSError as error:
        if error.errno not in _FULL or not reserve.exists():
            raise
        reserve.unlink()
        os.sync()  # some file systems free what was deleted only then
        write(path, content, mode)


def _keep_reserve(path: Path) -> None:
    """Blocks that no compression takes back."""
    if path.exists():
        return
    try:
        with path.open("xb") as file:
            file.write(os.urandom(_RESERVE_SIZE))
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def begin(state_dir: str, agent: str, attempt: str, metrics_file: str | None = None) -> None:
    """What stays behind when a run is killed: that it began and never ended."""
    before = read(state_dir)
    status: dict[str, Any] = {
        "format": FORMAT,
        "agent": agent,
        "last_attempt": attempt,
        "last_success": before.get("last_success"),
        CONTENTS: before.get(CONTENTS),
        "result": FAILED,
        "archive": None,
        "archive_id": None,
        "duration": None,
        "repositories": {},
        "unknown": [],
        "findings_count": 0,
        "outside": [],
        "problems": [],
        "message": "the run began and has not ended: it is at work, or it was killed",
        "hint": "see systemctl status lifeboat-backup@" + agent,
    }
    with contextlib.suppress(OSError):  # the end of the run tells of a place that cannot be written
        save(state_dir, status, metrics_file)


def _timestamp(text: str | None) -> float:
    if not text:
        return 0.0
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment.timestamp()


def metrics(status: Mapping[str, Any]) -> str:
    """The status in the text format of Prometheus' node_exporter."""
    agent = f'agent="{_label(str(status["agent"]))}"'
    lines: list[str] = []

    def gauge(name: str, text: str, values: list[tuple[str, float]]) -> None:
        if not values:
            return
        lines.append(f"# HELP lifeboat_backup_{name} {text}")
        lines.append(f"# TYPE lifeboat_backup_{name} gauge")
        lines.extend(f"lifeboat_backup_{name}{{{labels}}} {value:.15g}" for labels, value in values)

    gauge(
        "last_attempt_timestamp_seconds",
        "When a backup was last begun.",
        [(agent, _timestamp(status.get("last_attempt")))],
    )
    gauge(
        "last_success_timestamp_seconds",
        "When a backup last succeeded.",
        [(agent, _timestamp(status.get("last_success")))],
    )
    gauge(
        "success",
        "Whether the last backup succeeded (a warning counts); 0 from the beginning of a run.",
        [(agent, float(status.get("result") in (SUCCESS, WARNING)))],
    )
    gauge(
        "duration_seconds",
        "How long the last backup took.",
        [(agent, float(status.get("duration") or 0))],
    )
    gauge(
        "unknown_entries",
        "Entries that no rule of the profile knows.",
        [(agent, float(len(status.get("unknown", []))))],
    )
    gauge(
        "unknown_entry",
        "What no rule of the profile knows, by name and by what was done with it.",
        [
            (f'{agent},path="{_label(item["path"])}",decision="{_label(item["decision"])}"', 1.0)
            for item in status.get("unknown", [])[:_MOST_NAMED]
        ],
    )
    gauge(
        "findings",
        "Hits of the secret scan in archived text.",
        [(agent, float(status.get("findings_count") or 0))],
    )
    repositories = status.get("repositories", {})
    for key, name, text in (
        ("success", "repository_success", "Whether the last backup reached this repository."),
        ("original_size", "original_bytes", "Size of what was archived."),
        ("deduplicated_size", "stored_bytes", "Bytes that the last backup added."),
    ):
        gauge(
            name,
            text,
            [
                (f'{agent},repository="{_label(repository)}"', float(values.get(key) or 0))
                for repository, values in sorted(repositories.items())
            ],
        )
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    return visible(text).replace("\\", r"\\").replace('"', r"\"")


def ping(url: str | None, result: str) -> str:
    """Tell a dead man's switch; a failed run is told at /fail. Returns what went wrong, or ''."""
    if not url:
        return ""
    import urllib.error  # here, because it costs more than all other imports
    import urllib.request

    target = url if result != FAILED else url.rstrip("/") + "/fail"
    try:
        with urllib.request.build_opener().open(target, timeout=_PING_TIMEOUT):
            return ""
    except (urllib.error.URLError, OSError, ValueError) as error:
        return f"the ping did not arrive: {error}"
