# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command prints for people: tables, a verdict, a progress bar."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from .borg import Progress
from .visible import joined, visible

_FEW = 10
_CLASSES = ("keep", "scrub", "unknown", "secret", "runtime", "drop")
_MEANING = {
    "keep": "archived",
    "scrub": "archived without its secrets",
    "unknown": "no rule knows it",
    "secret": "withheld",
    "runtime": "not archived: does harm when restored",
    "drop": "not archived: dead weight",
}


def size(number: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return ""


def backup(status: Mapping[str, Any]) -> str:
    """The verdict of a run."""
    duration = status["duration"]
    spent = f" in {duration:.1f} s" if duration is not None else f": {status['message']}"
    lines = [f"{status['agent']}: {status['result']}{spent}"]
    if status.get("archive"):
        lines.append(f"  archive      {status['archive']}")
    for name, values in status["repositories"].items():
        if values["success"]:
            lines.append(
                f"  {name:<12} {values['files']} files, {size(values['original_size'])}, "
                f"{size(values['deduplicated_size'])} new; listing: {values['listing']}"
            )
        else:
            lines.append(f"  {name:<12} FAILED: {values.get('error', 'no archive')}")
    for item in status.get("databases", []):
        check = "" if item["quick_check"] == "ok" else f", {item['quick_check']}"
        lines.append(f"  database     {item['path']} ({item['method']}{check})")
    lines += _unknown(status)
    if status.get("findings_count"):
        lines.append(
            f"  findings     {status['findings_count']} hits of the secret scan in kept text"
        )
    outside = status.get("outside", [])
    lines += [
        f"  outside      {item['path']} ({item['source']}): not covered by this backup"
        for item in outside[:_FEW]
    ]
    if len(outside) > _FEW:
        lines.append(f"  outside      and {len(outside) - _FEW} more folders, see the manifest")
    for problem in status.get("problems", []):
        lines.append(f"  {'ERROR' if problem['error'] else 'warning':<12} {problem['message']}")
        if problem["hint"]:
            lines.append(f"               {problem['hint']}")
    return joined(lines)


def _unknown(status: Mapping[str, Any]) -> list[str]:
    return [
        f"  unknown      {item['path']}: {item['decision']}, {item['reason']}"
        for item in status.get("unknown", [])
    ]


def status(name: str, values: Mapping[str, Any], *, working: bool = False) -> str:
    """The last run."""
    if not values:
        return f"{name}: no backup was attempted yet"
    first = backup(values).split("\n", maxsplit=1)[0]
    if working:
        first = f"{name}: a backup is at work"
    elif values["duration"] is None:
        first = f"{name}: {values['result']}: the run was killed before it ended"
    lines = [
        first,
        f"  last attempt {values['last_attempt']}",
        f"  last success {values.get('last_success') or 'never'}",
    ]
    return joined([*lines, *backup(values).split("\n")[1:]])


def verification(name: str, outcome: Mapping[str, Any]) -> str:
    """One line per repository."""
    lines = [f"{name}: {'good' if outcome['good'] else 'NOT GOOD'}"]
    for repository, item in outcome["repositories"].items():
        if item.get("error"):
            lines.append(f"  {repository}: {item['error']}")
            lines.append(f"    {item.get('hint', '')}")
            continue
        lines.append(f"  {repository}: {item['archive']}, {item['entries']} entries")
        for key in ("missing", "unexpected"):
            lines += [f"    {key}: {path}" for path in item[key]]
    return joined(lines)


def audit(result: Mapping[str, Any], *, everything: bool = False) -> str:
    """A table: class, path, files, size."""
    versions = ", ".join(result["profile_checked_versions"]) or "none"
    lines = [
        f"{result['agent']}: {result['home']}",
        f"profile {result['profile']}, checked against {versions}",
        "",
        f"{'class':<8} {'files':>8} {'size':>10}  path",
    ]
    for kind in _CLASSES:
        rows = [row for row in result["entries"] if row["class"] == kind]
        if not rows:
            continue
        total = sum(row["bytes"] for row in rows)
        count = sum(row["files"] for row in rows)
        lines.append(f"{kind:<8} {count:>8} {size(total):>10}  {_MEANING[kind]}")
        lines += [
            f"{'':<8} {row['files']:>8} {size(row['bytes']):>10}    {row['path']}" for row in rows
        ]
    for item in result["databases"]:
        lines.append(f"database  {item['path']} ({item['journal_mode']}, {size(item['size'])})")
    lines += [line.strip() for line in _unknown(result)]
    for item in result["to_be_supplied"]:
        lines.append(f"scrubbed  {item['path']}: {item['key']}")
    findings = result["findings"] if everything else result["findings"][:10]
    lines += [f"finding   {item['path']}:{item['line']} {item['rule']}" for item in findings]
    if len(findings) < len(result["findings"]):
        lines.append(f"finding   ... and {len(result['findings']) - len(findings)} more (--all)")
    for problem in result["problems"]:
        lines.append(f"{'ERROR' if problem['error'] else 'warning'}: {problem['message']}")
        if problem["hint"]:
            lines.append(f"  {problem['hint']}")
    return joined(lines)


class ProgressLines:
    """A line now and then, for the journal and for whoever follows it."""

    def __init__(
        self, stream: TextIO, clock: Callable[[], float] = time.monotonic, every: float = 10.0
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._every = every
        self._begun = self._last = clock()

    def show(self, repository: str, progress: Progress) -> None:
        """Say how far a repository's archive is, unless that was said a moment ago."""
        now = self._clock()
        if progress.finished or now - self._last < self._every:
            return
        self._last = now
        self._stream.write(
            f"{repository}: {progress.files} files, {size(progress.original_size)} read, "
            f"{size(progress.deduplicated_size)} new after {now - self._begun:.0f} s\n"
        )
        self._stream.flush()

    def end(self) -> None:
        """Nothing is left to clear."""


class ProgressBar:
    """One line on a terminal, redrawn a few times a second."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = time.monotonic()
        self._drawn = False

    def show(self, repository: str, progress: Progress) -> None:
        """Draw how far a repository's archive is."""
        if progress.finished:
            return
        width = shutil.get_terminal_size().columns
        seconds = time.monotonic() - self._begun
        text = (
            f"{repository}: {progress.files} files, {size(progress.original_size)} read, "
            f"{size(progress.deduplicated_size)} new, {seconds:.0f} s  {progress.path}"
        )
        self._stream.write("\r" + visible(text)[: width - 1].ljust(width - 1))
        self._stream.flush()
        self._drawn = True

    def end(self) -> None:
        """Leave the line empty."""
        if self._drawn:
            width = shutil.get_terminal_size().columns
            self._stream.write("\r" + " " * (width - 1) + "\r")
            self._stream.flush()
