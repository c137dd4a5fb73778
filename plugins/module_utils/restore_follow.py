# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far an extraction is that goes on by itself on another host: what its answers mean."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass

from .report import size

_JOB = re.compile(r"j([0-9]+)\.([0-9]+)\Z")
_MARK = "-- lifeboat --"


class FollowError(Exception):
    """The job cannot be followed, or it ended without an outcome."""


@dataclass(frozen=True)
class Seen:
    """One look at the job. alive is None where the host cannot tell."""

    finished: bool
    extracted: int
    alive: bool | None


def command(job: str, results: str, folder: str) -> str:
    """The shell command that tells whether the job is over, and how much lies in its folder."""
    found = _JOB.match(job)
    directory, _slash, name = results.rpartition("/")
    if not found or name != job:
        raise FollowError(f"{job!r} in {results!r} is not a job that can be followed.")
    # Its wrapper carries j and the first number; this command must not be taken for it.
    first, second = found.groups()
    tree = shlex.quote(folder)
    return (
        f"job={first}; cat {shlex.quote(directory)}/j$job.{second}; echo; echo '{_MARK}';"
        f" if [ -d {tree} ]; then du -sb {tree} | cut -f1; else echo 0; fi;"
        f" if command -v pgrep >/dev/null; then pgrep -cf '[j]{first}'; else echo unknown; fi; :"
    )


def read(output: str) -> Seen:
    """Take in an answer. As with Ansible's own jobs, an outcome is what does not say "started"."""
    head, found, tail = output.replace("\r\n", "\n").rpartition(f"{_MARK}\n")
    words = tail.split()
    if not found or not words or not words[0].isdigit():
        raise FollowError(f"The host answers in a way that cannot be read: {output[-200:]!r}")
    try:
        outcome = json.loads(head) if head.strip() else None
    except ValueError:  # it is being written
        outcome = None
    alive = int(words[1]) > 0 if len(words) > 1 and words[1].isdigit() else None
    finished = isinstance(outcome, dict) and "started" not in outcome
    return Seen(finished, int(words[0]), alive)


def line(extracted: int, total: int, seconds: float) -> str:
    """One line for whoever waits. A sparse file may count for more than is written."""
    share = min(extracted / total, 1.0) if total > 0 else 0.0
    told = f"extracted {size(extracted)} of {size(total)} in {seconds:.0f} s"
    if share >= 0.02 and seconds >= 2:
        left = seconds * (1 - share) / share
        return f"{told}, {share:.0%}, about {left:.0f} s to go"
    return told
