# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command on the box: lifeboat backup | audit | status | verify."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from . import config as configuration
from . import report
from .backup import VERSION, Backup
from .errors import CouldNotRun, LifeboatError
from .home_audit import audit
from .profile import ProfileError
from .profile import load as load_profile
from .status import FAILED, at_work, unpaired
from .status import read as read_status
from .verify import verify
from .visible import visible

_DESCRIPTION = "Back up the AI agents of this box with borg, and show what is known about it."
_EPILOG = """\
commands:
  backup   classify the home, hold its databases at one point, archive exactly the classified
           paths, compare the archive's own listing with the manifest
  audit    what would be kept, scrubbed, dropped, withheld, what is unknown: a table with sizes;
           writes nothing and needs no repository
  status   the outcome of the last run
  verify   compare the last archive's listing in every repository with its own manifest

exit status:
  0   good (also with warnings, which are named)
  1   failed: the message says what and what to do
  2   could not run: usage, configuration, privilege, another run

files:
  /etc/lifeboat/agents/AGENT/config.json    what to back up, and where to
  /etc/lifeboat/agents/AGENT/profile.json   what each entry of the home is
  /var/lib/lifeboat/AGENT/status.json       the outcome of the last run
  /var/lib/lifeboat/AGENT/metrics.prom      the same for Prometheus' node_exporter
  /run/lifeboat/AGENT                       scrubbed copies and the manifest, during a run

environment:
  CREDENTIALS_DIRECTORY   where systemd puts the passphrases; without it the files that
                          config.json names are read (root only)

examples:
  lifeboat backup                 all agents of this box, with progress on a terminal
  lifeboat backup acme --json     one agent, the status as JSON
  lifeboat audit acme             before the first backup: is the profile right?
  systemctl start lifeboat-backup@acme
"""


_COMMANDS = {
    "backup": (
        "back up now",
        """\
Sorts every entry of the home by the agent's profile, holds its databases at one point while the
agent works on, archives into every repository, and compares what each of them lists afterwards
with what was to be archived. What no rule knows is kept when no secret is found in it, and named.

On a terminal a line shows the progress; else one is written every ten seconds. At night systemd
does the same by lifeboat-backup@AGENT.service, where less is allowed: prefer it by hand as well.
""",
        """\
exit status: 0 all archives are there and as they should be, also with warnings; 1 at least one
             agent's backup failed; 2 at least one could not begin
examples:    lifeboat backup acme
             lifeboat backup acme --json | jq .problems
             systemctl start lifeboat-backup@acme
""",
    ),
    "audit": (
        "show what would be archived, before any backup exists",
        """\
Reads the home as a backup would and shows by class what would be kept, scrubbed, withheld and left
out, with sizes; its databases; what no rule knows; which values would be scrubbed; and where the
secret scan hits. Nothing is written, no repository is needed, no database is opened.
""",
        """\
exit status: 0 shown, whatever was found; 2 it could not be read
examples:    lifeboat audit acme
             lifeboat audit acme --all | grep -i token
""",
    ),
    "status": (
        "show the outcome of the last run",
        """\
Shows when the last backup was tried, when one succeeded, what was archived where, what was
unknown, and what went wrong, with what to do about it. A run that is at work is told from one
that was killed.
""",
        """\
exit status: 0 the last run succeeded, or one is at work; 1 it failed or was killed, there was
             none, or the agent was restored and is not paired yet
examples:    lifeboat status
             lifeboat status acme --json | jq -r .last_success
""",
    ),
    "verify": (
        "compare the last archive with its manifest",
        """\
Reads the manifest out of the last archive in every repository and compares it with the archive's
own listing: nothing missing, nothing that should not be there. It does not read all the data back;
a drill does.
""",
        """\
exit status: 0 good in every repository; 1 not good, or not to be reached; 2 it could not run
examples:    lifeboat verify acme
""",
    ),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="lifeboat",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--version", action="version", version=f"lifeboat {VERSION}")
    commands = result.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (text, description, epilog) in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=text,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument(
            "agent", nargs="?", help="name of the agent (default: all of this box)"
        )
        command.add_argument("--json", action="store_true", help="print JSON for machines")
        command.add_argument(
            "--config-directory",
            type=Path,
            default=configuration.AGENTS_DIRECTORY,
            help="where the agents' configurations lie (default: %(default)s)",
        )
        if name == "backup":
            command.add_argument(
                "--no-progress", action="store_true", help="no progress bar, also on a terminal"
            )
        if name == "audit":
            command.add_argument(
                "--all", action="store_true", help="list every entry, not only the topmost"
            )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = parser().parse_args(arguments)
    code = 0
    answers: list[Any] = []
    try:
        names = [options.agent] if options.agent else configuration.agents(options.config_directory)
        if not names:
            raise CouldNotRun(
                f"{options.config_directory}: no agent is configured on this box",
                hint="roll out with playbooks/site.yml",
            )
    except LifeboatError as error:
        return _told(error)
    for name in names:
        try:
            one, answer = _one(options, name)
            answers.append(answer)
        except LifeboatError as error:  # the next agent has a right to its backup
            one = _told(error)
        except KeyboardInterrupt:
            _say("lifeboat: interrupted; nothing was committed", sys.stderr)
            return 1
        code = max(code, one)
    if options.json and answers:
        _say(json.dumps(answers[0] if options.agent else answers, indent=1))
    return code


def _told(error: LifeboatError) -> int:
    _say(visible(f"lifeboat: {error.message}"), sys.stderr)
    if error.hint:
        _say(visible(f"          {error.hint}"), sys.stderr)
    return error.exit_code


def _say(text: str, stream: TextIO | None = None) -> None:
    (stream or sys.stdout).write(f"{text}\n")


def _profile(config: configuration.BoxConfig) -> dict[str, Any]:
    try:
        return load_profile(configuration.read_json(Path(config.profile)))
    except ProfileError as error:
        raise CouldNotRun(f"{config.profile}: {error}", hint="correct the profile") from error


def _one(options: argparse.Namespace, name: str) -> tuple[int, Any]:
    config = configuration.load(name, options.config_directory)
    if options.command == "status":
        status = read_status(config.state_dir)
        mark = unpaired(name)
        working = at_work(config.state_dir)
        if not options.json:
            _say(report.status(name, status, working=working))
            if mark:
                message = mark.get("message", "restored and not started")
                _say(visible(f"  NOT PAIRED   {message}"))
        bad = not status or (status.get("result") == FAILED and not working) or bool(mark)
        told = {**status, "at_work": working} if status else status
        return (1 if bad else 0), ({**told, "unpaired": mark} if mark else told)
    if options.command == "verify":
        outcome = verify(config)
        if not options.json:
            _say(report.verification(name, outcome))
        return (0 if outcome["good"] else 1), outcome
    try:
        profile = _profile(config)
    except CouldNotRun as error:
        if options.command == "backup":
            Backup(config, {}).refuse(error)
        raise
    if options.command == "audit":
        result = audit(config, profile, everything=options.all)
        if not options.json:
            _say(report.audit(result, everything=options.all))
        return 0, result
    progress: report.ProgressBar | report.ProgressLines | None = None
    if not options.json and not options.no_progress:
        terminal = sys.stderr.isatty()
        progress = (report.ProgressBar if terminal else report.ProgressLines)(sys.stderr)
    try:
        status = Backup(config, profile, on_progress=progress.show if progress else None).run()
    finally:
        if progress:
            progress.end()
    if not options.json:
        _say(report.backup(status))
    return (1 if status["result"] == FAILED else 0), status
