#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill the environment files of a restored agent."""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_supply
short_description: Fill the environment files of a restored agent from the vault
version_added: 0.1.0
author:
  - lifeboat.agents contributors (@lifeboat-agents)
description:
  - Secrets are never in an archive. The names in the C(.env) files are, with the values that the
    profile calls harmless, such as lists of allowed users.
  - Writes those values and what the vault holds, as the agent's user. A file that stands already
    is left as it is. Names what is still missing.
attributes:
  check_mode:
    description: Reports what would be written, and writes nothing.
    support: full
  diff_mode:
    description: What it writes is secret.
    support: none
  idempotent:
    description: A file that stands is left as it is.
    support: full
options:
  home:
    description: Home of the agent.
    type: path
    required: true
  user:
    description: User of the agent.
    type: str
    required: true
  source:
    description: The file C(environment.json) of the restored archive.
    type: path
    required: true
  values:
    description: Names and values out of the vault.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Fill what the vault holds
  lifeboat.agents.agent_supply:
    home: /home/hermes/.hermes
    user: hermes
    source: /var/lib/lifeboat-restore/acme/environment.json
    values: "{{ escrow.environment }}"
"""

RETURN = r"""
files:
  description: Each environment file, whether it was written, why not, and the names still missing.
  returned: success
  type: list
  elements: dict
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_supply import parse, write
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_target import account_of


def supply(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    source, home = Path(parameters["source"]), parameters["home"]
    account = account_of(parameters["user"])
    if account is None:
        raise RestoreError(f"The user {parameters['user']!r} does not exist.", "Make it first.")
    files = parse(source.read_bytes()) if source.exists() else []
    vault = {str(name): str(value) for name, value in parameters["values"].items()}
    if check_mode:
        files = [item for item in files if not os.path.lexists(os.path.join(home, item.path))]
        listed = [{"path": item.path, "missing": item.missing(vault)} for item in files]
        return {"changed": bool(files), "files": listed}
    written = write(home, files, vault, (account.pw_uid, account.pw_gid))
    return {"changed": any(item["written"] for item in written), "files": written}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "source": {"type": "path", "required": True},
            "values": {"type": "dict", "default": {}, "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**supply(module.params, module.check_mode))
    except RestoreError as error:
        module.fail_json(**error.payload())


if __name__ == "__main__":
    main()
