#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's side of the health checks; everything that decides is in module_utils/health.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_health
short_description: Prove that an agent is the one that was backed up, and that it lives
version_added: 0.1.0
author:
  - lifeboat.agents contributors (@lifeboat-agents)
description:
  - Checks the home of an AI agent against the manifest that was written when it was backed up,
    and asks the agent itself.
  - The exit codes of an agent prove nothing. With its database truncated or its character file
    gone, agents say that all is well and silently begin afresh. So what was there at backup time
    is compared entry by entry and table by table.
  - The module never changes anything in the home. Databases are opened, and commands run, as the agent's user.
options:
  home:
    description: Home of the agent on the target.
    type: path
    required: true
  user:
    description: The user that the agent runs as.
    type: str
    required: true
  profile:
    description:
      - Profile of the agent, as the filter P(lifeboat.agents.profile#filter) gives it.
    type: dict
    required: true
  manifest:
    description:
      - Path of the manifest on the target.
      - Required unless O(phase=production).
    type: path
  rewritten:
    description:
      - Files that the agent wrote to while they were archived, as RV(lifeboat.agents.agent_restore#module:rewritten)
        names them. The archive tells, not the home.
      - Their digest and size in the manifest do not speak of what was archived and are not compared.
        The checks name them.
    type: list
    elements: str
    default: []
  only:
    description:
      - Paths in the home, as O(lifeboat.agents.agent_restore#module:state=extracted) was given them. With
        O(phase=restored), they and what lies below them are compared, and nothing is asked of the rest.
    type: list
    elements: str
    default: []
  phase:
    description:
      - V(restored) is before the first start. It proves that every entry is there as it was
        archived, that every database opens, is intact, holds the archived rows and can be written
        to (a copy is), that the approved users are there, and that nothing is there that does
        harm, no secret, lock, process id or stray log.
      - V(started) is after the start. It asks the agent's own commands, its service and its HTTP interface.
      - V(production) is a live agent, read-only. With O(manifest) it also finds out whether data was lost since.
    type: str
    choices:
      - restored
      - started
      - production
    default: restored
  thresholds:
    description:
      - What may differ. C(rows_tolerance) is the number of rows by which a table may differ, C(scan_limit) the size in
        bytes of the largest file that is scanned for secrets, C(newest_age) the age of the newest data at which
        O(phase=production) fails, such as V(26h).
    type: dict
    default: {}
  service:
    description:
      - The unit that the agent runs as here. By default the profile's, which is only asked with O(phase=production).
    type: str
    default: ""
  service_scope:
    description: Whether O(service) is a unit of the system, or of the manager of O(user).
    type: str
    choices: [system, user]
    default: system
  model:
    description:
      - There is a model that may be asked, such as a stub on loopback. Otherwise commands that the profile marks with
        C(model=true) are not asked, since they would cost money or not be answered.
    type: bool
    default: false
  secret_patterns:
    description: Further patterns of secrets, each with C(name) and C(regex).
    type: list
    elements: dict
    default: []
  accepted_findings:
    description: Findings of the scan that are no secrets, each with C(path) and C(rule).
    type: list
    elements: dict
    default: []
  timeout:
    description: Seconds within which the agent must answer a question. A profile may give a time of its own.
    type: int
    default: 60
  work_directory:
    description: Where a private folder for copies of databases is made. Needs room for the largest of them.
    type: path
    default: /var/tmp
  fail_on_unhealthy:
    description: Fail the task when a check failed. Otherwise only RV(healthy) says so.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Runs in check mode as it does without, since it changes nothing.
  diff_mode:
    support: none
    description: There is nothing that could differ.
  idempotent:
    support: full
    description: Never changes the target.
  platform:
    platforms: linux
    support: full
    description: The systems it runs on.
notes:
  - A skipped check is named with its reason, and never counts as proof.
seealso:
  - module: lifeboat.agents.drill_evidence
"""

EXAMPLES = r"""
- name: Prove a restored home before the agent starts
  lifeboat.agents.agent_health:
    home: /home/hermes/.hermes
    user: hermes
    profile: "{{ lookup('ansible.builtin.file', 'profiles/hermes.yml') | lifeboat.agents.profile }}"
    manifest: /var/lib/lifeboat-restore/acme/manifest.json
    phase: restored

- name: Ask the started agent
  lifeboat.agents.agent_health:
    home: /home/hermes/.hermes
    user: hermes
    profile: "{{ profile }}"
    manifest: /var/lib/lifeboat-restore/acme/manifest.json
    phase: started
    model: true
    service: lifeboat-agent-hermes.service

- name: Look at a live agent, without failing
  lifeboat.agents.agent_health:
    home: /home/hermes/.hermes
    user: hermes
    profile: "{{ profile }}"
    phase: production
    thresholds:
      newest_age: 3d
    fail_on_unhealthy: false
  register: health
"""

RETURN = r"""
healthy:
  description: Whether no check failed.
  type: bool
  returned: always
level:
  description:
    - The level that this call reached by itself. 3 is extracted, 4 is data proven against the
      manifest, 5 is an agent that answers. 0 means that nothing was proven.
  type: int
  returned: always
  sample: 4
summary:
  description: The result in a line.
  type: str
  returned: always
  sample: 22 of 22 checks passed
checks:
  description: Every check, in the order in which they were made.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: Name of the check.
      type: str
    level:
      description: The level it belongs to.
      type: int
    status:
      description: V(passed), V(failed) or V(skipped).
      type: str
    expected:
      description: What had to be.
      type: str
    found:
      description: What was found, or why the check was skipped.
      type: str
    tolerance:
      description: By how much it might differ.
      type: str
    duration:
      description: Seconds it took.
      type: float
    offenders:
      description: The first five things that are wrong.
      type: list
      elements: str
    offenders_count:
      description: How many things are wrong.
      type: int
    hint:
      description: What to do when it failed.
      type: str
    phase:
      description: The phase of the call.
      type: str
newest:
  description: The C(time) of the newest data in the databases, and its C(source).
  type: dict
  returned: always
  sample:
    time: "2026-11-22T21:58:03Z"
    source: state.db messages.timestamp
drift:
  description: What the archive holds that this host could not use or should not have.
  type: list
  elements: dict
  returned: always
installed_version:
  description: Version of the agent that is installed here, when it could be asked.
  type: str
  returned: always
contents:
  description:
    - The home in outline, to compare a live home with an archived one. The number of C(entries),
      the names of the C(tops) and the C(databases), and of those the C(dated) ones, which tell a newest time.
  type: dict
  returned: always
seconds:
  description: How long everything took.
  type: float
  returned: always
failure:
  description: Why the checks could not be made at all, with a C(hint).
  type: dict
  returned: when they could not
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils.errors import LifeboatError
from ansible_collections.lifeboat.agents.plugins.module_utils.health import (
    HealthError,
    Request,
    Thresholds,
    examine_health,
)

ARGUMENTS: dict[str, Any] = {
    "home": {"type": "path", "required": True},
    "user": {"type": "str", "required": True},
    "profile": {"type": "dict", "required": True},
    "manifest": {"type": "path"},
    "rewritten": {"type": "list", "elements": "str", "default": []},
    "only": {"type": "list", "elements": "str", "default": []},
    "phase": {
        "type": "str",
        "choices": ["restored", "started", "production"],
        "default": "restored",
    },
    "thresholds": {"type": "dict", "default": {}},
    "service": {"type": "str", "default": ""},
    "service_scope": {"type": "str", "choices": ["system", "user"], "default": "system"},
    "model": {"type": "bool", "default": False},
    "secret_patterns": {"type": "list", "elements": "dict", "default": [], "no_log": False},
    "accepted_findings": {"type": "list", "elements": "dict", "default": []},
    "timeout": {"type": "int", "default": 60},
    "work_directory": {"type": "path", "default": "/var/tmp"},
    "fail_on_unhealthy": {"type": "bool", "default": True},
}


def ask(parameters: dict[str, Any]) -> dict[str, Any]:
    """The answer as a module returns it."""
    begin = time.monotonic()
    health = examine_health(
        Request(
            home=parameters["home"],
            user=parameters["user"],
            profile=parameters["profile"],
            phase=parameters["phase"],
            manifest=parameters["manifest"] or "",
            rewritten=frozenset(parameters["rewritten"]),
            only=tuple(parameters["only"]),
            thresholds=Thresholds.of(parameters["thresholds"]),
            timeout=float(parameters["timeout"]),
            work_directory=parameters["work_directory"],
            service=parameters["service"],
            service_scope=parameters["service_scope"],
            model=parameters["model"],
            secret_patterns=parameters["secret_patterns"],
            accepted_findings=parameters["accepted_findings"],
        )
    )
    return {**health.as_dict(), "seconds": round(time.monotonic() - begin, 3)}


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_if=[("phase", "restored", ["manifest"]), ("phase", "started", ["manifest"])],
    )
    try:
        answer = ask(module.params)
    except (HealthError, LifeboatError) as error:
        text = f"{error.message} {error.hint}".strip()
        module.fail_json(msg=text, failure={"hint": error.hint})
    if module.params["fail_on_unhealthy"] and not answer["healthy"]:
        failed: dict[str, Any] = next(
            (check for check in answer["checks"] if check["status"] == "failed"), {}
        )
        hint = failed.get("hint", "")
        module.fail_json(msg=f"The agent is not healthy: {answer['summary']}. {hint}", **answer)
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
