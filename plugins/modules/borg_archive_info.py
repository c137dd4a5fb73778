#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which archives of an agent exist, and which one a request means."""

from __future__ import annotations

DOCUMENTATION = r"""
module: borg_archive_info
short_description: List the archives of an agent and choose one
version_added: 0.1.0
author:
  - lifeboat.agents contributors (@lifeboat-agents)
description:
  - Opens a borg repository with what the escrow holds, as the unprivileged system user
    C(lifeboat-restore), and lists its archives.
  - Chooses the archive that a name, or a date and time, means. Asking for what does not exist
    fails with a list of what does.
  - Reads the manifest inside the chosen archive where that is wanted, and checks it.
extends_documentation_fragment:
  - lifeboat.agents.repository_access
attributes:
  check_mode:
    description: Changes nothing, so check mode makes no difference.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
options:
  agent:
    description: Name of the agent. Only archives that carry it are chosen by time.
    type: str
    required: true
  archive:
    description: Name or id of an archive, or V(latest).
    type: str
    default: latest
  at:
    description:
      - The last archive at or before this date or time is chosen.
      - A date alone means the whole of that day. Without a zone it is UTC.
    type: str
    default: ""
  manifest:
    description: Read the manifest inside the chosen archive.
    type: bool
    default: false
  only:
    description: Paths below the home that are asked for. That they are in the archive is checked.
    type: list
    elements: str
    default: []
  compare_home:
    description: A home on the target. What a restore would change in it is told. Implies O(manifest).
    type: path
"""

EXAMPLES = r"""
- name: Find the archive of a day
  lifeboat.agents.borg_archive_info:
    agent: acme
    repository: "{{ access }}"
    identity: /run/lifeboat-restore/identity
    at: "2026-11-01"
    manifest: true
  register: found
  no_log: true
"""

RETURN = r"""
archives:
  description: The archives of this agent, oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name.
      type: str
    id:
      description: Id.
      type: str
    time:
      description: When it was made, by the clock of the box, UTC.
      type: str
others:
  description: Names of archives that do not look like this agent's.
  returned: success
  type: list
  elements: str
selected:
  description: The chosen archive, like an element of RV(archives).
  returned: success
  type: dict
manifest:
  description: The manifest without its long lists, with RV(needed) bytes beside it.
  returned: when O(manifest=true)
  type: dict
needed:
  description: Bytes of all files that the manifest lists.
  returned: when O(manifest=true)
  type: int
changes:
  description: What a restore would add, change, leave as it is, and leave out, with sizes.
  returned: when O(compare_home) is given
  type: dict
seconds:
  description: Time that the listing took.
  returned: success
  type: float
"""

import dataclasses
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils.restore_compare import compare
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_partial import choose
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_session import (
    access_of,
    access_options,
    of_agent,
    select,
    session,
)


def query(parameters: dict[str, Any]) -> dict[str, Any]:
    agent = parameters["agent"]
    with session(access_of(parameters, agent)) as repository:
        begin = time.monotonic()
        archives = repository.archives()
        seconds = round(time.monotonic() - begin, 3)
        chosen = select(archives, agent, parameters["archive"], parameters["at"])
        own = of_agent(archives, agent)
        result: dict[str, Any] = {
            "archives": [dataclasses.asdict(archive) for archive in own],
            "others": [archive.name for archive in archives if archive not in own],
            "selected": dataclasses.asdict(chosen),
            "seconds": seconds,
        }
        only = parameters["only"]
        if parameters["manifest"] or parameters["compare_home"] or only:
            manifest = repository.manifest(chosen.name)
            result["manifest"] = manifest.summary()
            manifest = choose(manifest, only) if only else manifest
            if parameters["compare_home"]:
                home = parameters["compare_home"]
                result["changes"] = compare(home, manifest, whole=not only).report()
            result["needed"] = sum(entry.size for entry in manifest.entries.values())
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "agent": {"type": "str", "required": True},
            "archive": {"type": "str", "default": "latest"},
            "at": {"type": "str", "default": ""},
            "manifest": {"type": "bool", "default": False},
            "only": {"type": "list", "elements": "str", "default": []},
            "compare_home": {"type": "path"},
            **access_options(),
        },
        supports_check_mode=True,
    )
    if not module.params["repository"]:
        module.fail_json(msg="missing required arguments: repository")
    try:
        module.exit_json(changed=False, **query(module.params))
    except RestoreError as error:
        module.fail_json(**error.payload())


if __name__ == "__main__":
    main()
