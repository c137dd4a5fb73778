# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Doing things as the agent's user: opening a database nobody vouches for, running its commands.

Root never parses what the agent wrote. A child gives up every privilege for good, works with a
time limit, and answers with one JSON value; a child that crashes or hangs is an answer too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .agent_version import find
from .errors import CouldNotRun
from .privilege import Call, Identity, lookup

OUTPUT_LIMIT: Final = 1 << 20
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class HealthError(Exception):
    """The question could not be asked at all; the hint says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class WorkFailed(Exception):
    """What ran as the agent's user ended without an answer."""


@dataclass(frozen=True)
class Outcome:
    """How a command of the agent ended."""

    rc: int
    output: str
    timed_out: bool = False


@dataclass(frozen=True)
class Answer:
    """What an HTTP request got."""

    status: int
    body: str


def account_of(user: str) -> Identity:
    """The account, which this process must be able to become."""
    try:
        return lookup(user)
    except CouldNotRun as error:
        raise HealthError(f"{error.message}.", error.hint) from error


def isolated(
    account: Identity, work: Callable[[], dict[str, Any]], timeout: float
) -> dict[str, Any]:
    """The answer of work(), given by a child that is the agent's user and nothing more."""
    answer = Call(account, work).result(timeout)
    if "error" in answer:
        raise WorkFailed(str(answer["error"]))
    return answer


def run_command(
    account: Identity, argv: Sequence[str], env: Mapping[str, str], timeout: float
) -> Outcome:
    """A command of the agent, as its user, in its user's home, ended with all its children."""
    root = os.geteuid() == 0
    try:
        process = subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=account.home if os.path.isdir(account.home) else "/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=account.uid if root else None,
            group=account.gid if root else None,
            extra_groups=list(account.groups) if root else None,
            umask=0o077,
        )
    except OSError as error:
        return Outcome(127, f"{argv[0]}: {error.strerror}")
    try:
        output, _none = process.communicate(timeout=timeout)
        timed_out = False
    except subprocess.TimeoutExpired:
        timed_out = True
        _end(process.pid)
        output = _rest(process)
    _end(process.pid)
    text = output[:OUTPUT_LIMIT].decode("utf-8", "replace")
    return Outcome(124 if timed_out else process.returncode, text, timed_out)


def _rest(process: subprocess.Popen[bytes]) -> bytes:
    """What was said until the end; a child that left the group may keep the pipe open."""
    try:
        output, _none = process.communicate(timeout=2)
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
    return bytes(output)


def _end(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def fetch(url: str, timeout: float) -> Answer:
    """A GET on loopback, with no proxy and no redirect to elsewhere."""
    host = urllib.parse.urlsplit(url).hostname or ""
    if host not in LOOPBACK:
        raise HealthError(f"{url} is not on loopback.", "A health check asks this host only.")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    try:
        with opener.open(url, timeout=timeout) as response:
            return Answer(response.status, response.read(OUTPUT_LIMIT).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read(OUTPUT_LIMIT).decode("utf-8", "replace"))
    except (OSError, ValueError) as error:
        return Answer(0, str(getattr(error, "reason", error)))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def version(account: Identity, profile: Mapping[str, Any], home: str, timeout: float) -> str:
    """The version of the installed agent, "" where it cannot be told."""
    found = isolated(account, lambda: find(profile, home, account.home), timeout)
    return str(found.get("version") or "")


@dataclass(frozen=True)
class Tools:
    """Every way out of this process, injected so that tests can stand in for it."""

    isolated: Callable[[Identity, Callable[[], dict[str, Any]], float], dict[str, Any]] = field(
        default=isolated
    )
    run_command: Callable[[Identity, Sequence[str], Mapping[str, str], float], Outcome] = field(
        default=run_command
    )
    fetch: Callable[[str, float], Answer] = field(default=fetch)
    version: Callable[[Identity, Mapping[str, Any], str, float], str] = field(default=version)


def environment(account: Identity, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a login of the agent's user would have, and nothing of root's."""
    return {
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "LANG": "C.UTF-8",
        "PATH": f"/usr/local/bin:/usr/bin:/bin:{account.home}/.local/bin:{account.home}/bin",
        "TERM": "dumb",
        "NO_COLOR": "1",
        **(extra or {}),
    }
