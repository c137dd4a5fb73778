# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator typed behind ansible-playbook, before anything is touched.

Ansible takes a misspelt argument for a variable that nobody reads, a limit or a tag for a wish to
leave out plays, and a missing inventory for an empty one: the run does something else or nothing,
and ends well. Not judged: variables of roles, and whatever resembles no argument.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .spelling import misspelt


@dataclass(frozen=True)
class CommandLine:
    """What was typed."""

    variables: Sequence[str]
    limit: str = ""
    tags: Sequence[str] = ()
    hosts: int = 0
    check: bool = False


def refusals(
    typed: CommandLine,
    arguments: Collection[str],
    *,
    limit: bool = False,
    narrow: str = "",
    check: bool = True,
    look: str = "",
) -> list[str]:
    """All that is wrong with a command line, each with what to type instead."""
    problems = []
    if not typed.hosts:
        problems.append("There is no inventory, or none with a host in it. Give yours: -i FILE.")
    if typed.limit and not limit:
        problems.append(
            f"--limit {typed.limit} would leave out hosts that this playbook needs, and the run "
            f"would do nothing or a part. {narrow}".rstrip()
        )
    if typed.check and not check:
        problems.append(f"--check cannot show what this playbook would do. {look}".rstrip())
    if typed.tags:
        problems.append(
            f"Nothing here has tags: with {' '.join(typed.tags)} the run would do nothing. Leave "
            "them away."
        )
    problems += [
        f"-e {name}=... is no argument of this playbook. {meant} must be meant."
        for name, meant in misspelt(typed.variables, arguments)
    ]
    return problems
