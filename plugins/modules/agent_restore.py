#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore the home of an agent in steps that may each be interrupted and repeated."""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_restore
short_description: Extract, stage and switch the home of an agent
version_added: 0.1.0
author:
  - lifeboat.agents contributors (@lifeboat-agents)
description:
  - Brings an archive back in steps. Until the switch, nothing changes outside a staging folder
    beside the home. The switch is one rename; what stood there is moved aside whole.
  - Any step may be interrupted and run again. The steps look at what is there, not at what an
    earlier run remembered.
  - The archive is treated as untrusted. It is extracted by an unprivileged user, its manifest is
    checked, and nothing in it is followed out of the staging folder.
extends_documentation_fragment:
  - lifeboat.agents.repository_access
attributes:
  check_mode:
    description: Reports whether the step would change something, and does nothing.
    support: full
  diff_mode:
    description: Shows the step before and after.
    support: full
  idempotent:
    description: A step that is done is not done again.
    support: full
options:
  agent:
    description: Name of the agent.
    type: str
    required: true
  state:
    description:
      - V(extracted) is the archive in the staging folder, as borg gives it.
      - V(staged) is the home as it will be, beside the place where it belongs.
      - V(switched) is the home in its place, the former one moved aside.
      - V(undone) is the home that was moved aside in its place again.
      - V(absent) is no staging folder. It never removes a home that was in use. Paths of a switch with O(only) that
        was cut stand again as before; what had come in their stead is kept beside the home.
    type: str
    choices: [extracted, staged, switched, undone, absent]
    required: true
  home:
    description: Where the home belongs on the target.
    type: path
    required: true
  user:
    description: The agent's user on the target.
    type: str
    required: true
  archive:
    description: Name of the archive. Needed for V(extracted).
    type: str
  archive_id:
    description: Id of the archive. Needed for V(extracted).
    type: str
  only:
    description:
      - Paths below the home. Only they are restored, into the home that is there; what they
        replace is kept beside the home. A path below another of them adds nothing.
    type: list
    elements: str
    default: []
  replace:
    description: A home that is not empty is moved aside by V(switched).
    type: bool
    default: false
  moved_aside:
    description: Name of the moved-aside home that V(undone) puts back. The newest by default.
    type: str
    default: ""
  records:
    description:
      - A folder of root's that outlives the staging folder. V(staged) puts the manifest there, and the names in the
        environment files; without O(only) alone.
    type: path
"""

EXAMPLES = r"""
- name: Put the restored home in its place
  lifeboat.agents.agent_restore:
    agent: acme
    state: switched
    home: /home/hermes/.hermes
    user: hermes
    replace: true
"""

RETURN = r"""
staging:
  description: The staging folder.
  returned: when something is staged
  type: str
ended:
  description:
    - The archive, home and time of an earlier restore that was over but for the removal of its staging folder; empty
      when there was none.
  returned: when O(state=extracted)
  type: dict
staged_home:
  description: The restored home, in the staging folder or in its place.
  returned: when O(state=staged)
  type: str
stands:
  description: An earlier run has put what was staged into its place.
  returned: when O(state=staged)
  type: bool
resumed:
  description: An earlier run was cut in its last step, and this one only completes it.
  returned: when O(state=staged)
  type: bool
begun:
  description: When the extraction of what is staged began.
  returned: when O(state=staged)
  type: str
rewritten:
  description:
    - Files that the agent wrote to between their digest and their archiving, as the times in the archive tell. Their
      C(sha256) and C(size) in the manifest do not speak of what was archived.
  returned: when something is staged
  type: list
  elements: str
manifest:
  description: Path of the manifest on the target.
  returned: when O(state=staged)
  type: str
moved_aside:
  description: Where the former home lies now; empty when there was none.
  returned: when O(state=switched) or O(state=undone), or when O(state=absent) put paths back
  type: str
paths:
  description:
    - With O(state=switched) and O(only), dictionaries with C(path), and in C(replaced) whether something stood
      there. With O(state=undone) and O(state=absent), the names of the paths that were put back.
  returned: when single paths were restored or put back
  type: list
  elements: raw
to_be_supplied:
  description: Values that were scrubbed and must be supplied.
  returned: when O(state=staged)
  type: list
  elements: dict
applied:
  description: Counts and first offenders of what was placed, unlisted, missing or different.
  returned: when O(state=staged) did something
  type: dict
seconds:
  description: Time that the step took.
  returned: success
  type: float
processor_seconds:
  description: Processor time of the step, that of borg included.
  returned: success
  type: float
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils import restore
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_session import (
    access_of,
    access_options,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_target import pending_step

ORDER = ("none", "unknown", "extracting", "extracted", "staged", "switching", "switched")


def act(parameters: dict[str, Any]) -> dict[str, Any]:
    request = _request(parameters)
    state = parameters["state"]
    if state == "extracted":
        access = access_of(parameters, request.agent)
        names = (parameters["archive"], parameters["archive_id"])
        return restore.extract(request, access, *names, only=parameters["only"])
    if state == "staged":
        return restore.stage(request)
    if state == "switched":
        return restore.switch(request)
    if state == "undone":
        return restore.undo(request)
    return restore.clear(request)


def foresee(parameters: dict[str, Any]) -> dict[str, Any]:
    """What check mode answers: would this step change something?"""
    wanted = parameters["state"]
    reached = pending_step(
        parameters["home"],
        parameters["user"],
        parameters["agent"],
        parameters["archive_id"] or "" if wanted == "extracted" else "",
        parameters["only"],
    )
    if wanted == "absent":
        changed = reached != "none"
    elif wanted == "undone":
        restore.foresee_undo(_request(parameters))
        changed = True
    else:
        changed = ORDER.index(reached) < ORDER.index(wanted)
    after = wanted if changed else reached
    return {"changed": changed, "diff": {"before": f"{reached}\n", "after": f"{after}\n"}}


def _request(parameters: dict[str, Any]) -> restore.Request:
    return restore.Request(
        agent=parameters["agent"],
        home=parameters["home"],
        user=parameters["user"],
        replace=parameters["replace"],
        moved_aside=parameters["moved_aside"],
        records=parameters["records"] or "",
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "agent": {"type": "str", "required": True},
            "state": {
                "type": "str",
                "required": True,
                "choices": ["extracted", "staged", "switched", "undone", "absent"],
            },
            "home": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "archive": {"type": "str"},
            "archive_id": {"type": "str"},
            "only": {"type": "list", "elements": "str", "default": []},
            "replace": {"type": "bool", "default": False},
            "moved_aside": {"type": "str", "default": ""},
            "records": {"type": "path"},
            **access_options(),
        },
        required_if=[("state", "extracted", ("archive", "archive_id", "repository"))],
        supports_check_mode=True,
    )
    if not os.path.isabs(module.params["home"]):
        module.fail_json(msg=f"home must be an absolute path, not {module.params['home']!r}")
    try:
        before = foresee(module.params)
        if module.check_mode:
            module.exit_json(**before)
        with restore.explained():
            result = restore.timed(lambda: act(module.params))
        module.exit_json(diff=before["diff"], **result)
    except RestoreError as error:
        module.fail_json(**error.payload())


if __name__ == "__main__":
    main()
