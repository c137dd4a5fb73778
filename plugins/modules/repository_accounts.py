#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All accounts of a storage host in one go, however many agents it serves."""

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_accounts
short_description: Manage all accounts, keys and repository directories of a storage host
version_added: 0.1.0
author: lifeboat.agents contributors (@lifeboat-agents)
description:
  - Makes one locked account per agent, its root-owned authorized_keys file with a forced command,
    and the directory of its repository, on btrfs as a subvolume with a limit of its own.
  - Once a repository has been initialised its directory is sealed. The directory and C(data) belong
    to root and are sticky, C(config) and C(README) belong to root, so that the account can add to
    the repository but can neither remove it nor replace its key.
  - One task for a whole host, so that a run does not grow with the number of agents.
  - Nothing is made in the place of a sealed repository that is gone; that is reported.
  - Nothing is ever removed. Accounts of the group that O(accounts) does not name are reported.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    description: Only what differs from the inventory is changed.
    support: full
  platform:
    platforms: linux
options:
  accounts:
    description: The accounts of this host.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the account.
        type: str
        required: true
      agent:
        description: Name of the agent.
        type: str
        required: true
      path:
        description: Directory of the repository.
        type: path
        required: true
      quota:
        description: Room for the repository, for example V(20G).
        type: str
        required: true
      public_key:
        description: Public key of the box; without it the key that is already there stays.
        type: str
  command:
    description:
      - Forced command of a box. Replaced are C({agent}), C({account}), C({path}), C({quota}), C({lock}) (file by
        which maintenance keeps sessions out), C({counters}) (file in which the session may count refusals) and
        C({marker}) (file that stands from the time on when there was a repository).
    type: str
    required: true
  options:
    description: Options of the key besides the forced command.
    type: list
    elements: str
    default: [restrict]
  group:
    description: Group that all accounts belong to.
    type: str
    default: lifeboat
  keys_directory:
    description: Directory of the root-owned authorized_keys files.
    type: path
    default: /etc/lifeboat/authorized_keys
  homes_directory:
    description: Directory of the empty, root-owned home directories.
    type: path
    default: /var/lib/lifeboat/accounts
  lock_directory:
    description: Directory of the lock files by which maintenance keeps a box out.
    type: path
    default: /run/lifeboat/lock
  subvolumes:
    description: Make each repository directory a btrfs subvolume.
    type: bool
    default: false
  quota_groups:
    description: Limit each subvolume by its quota group; needs O(subvolumes).
    type: bool
    default: false
  headroom_percent:
    description: How much more than the quota the file system allows, for borg's own bookkeeping.
    type: int
    default: 10
"""

EXAMPLES = r"""
- name: Serve two agents
  lifeboat.agents.repository_accounts:
    command: borg serve --append-only --restrict-to-repository {path} --storage-quota {quota}
    accounts:
      - name: lb-acme
        agent: acme
        path: /srv/lifeboat/repositories/acme
        quota: 20G
        public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIexample
      - name: lb-widget
        agent: widget
        path: /srv/lifeboat/repositories/widget
        quota: 20G
"""

RETURN = r"""
accounts:
  description: What is true of each account after the run.
  returned: always
  type: list
  elements: dict
  contains:
    agent:
      description: Name of the agent.
      type: str
    initialised:
      description: Whether the directory holds a repository.
      type: bool
    sealed:
      description: Whether the repository is sealed.
      type: bool
    lost:
      description: Whether there was a sealed repository that is not there any more.
      type: bool
    subvolume:
      description: Whether the directory is a btrfs subvolume.
      type: bool
    limit:
      description: Limit of its quota group in bytes, null without one.
      type: int
    keys:
      description: Number of keys in its authorized_keys file.
      type: int
reasons:
  description: What had to be changed, and why.
  returned: always
  type: list
  elements: str
unmanaged:
  description: Accounts of the group that O(accounts) does not name.
  returned: always
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils.storage_accounts import (
    Account,
    Layout,
    StorageError,
    StorageHost,
)


def main() -> None:
    """Turn parameters into a storage host, and its errors into one failure."""
    module = AnsibleModule(argument_spec=_argument_spec(), supports_check_mode=True)
    layout = Layout(
        **{
            key: value for key, value in module.params.items() if key not in ("accounts", "options")
        },
        key_options=tuple(module.params["options"]),
    )
    accounts = tuple(Account(**account) for account in module.params["accounts"])
    host = StorageHost(layout, run=module.run_command, check_mode=module.check_mode)
    try:
        result = host.ensure(accounts)
    except StorageError as error:
        module.fail_json(msg=str(error), failure=error.failure)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    for warning in result.warnings:
        module.warn(warning)
    module.exit_json(**result.as_return())


def _argument_spec() -> dict[str, Any]:
    account = {
        "name": {"type": "str", "required": True},
        "agent": {"type": "str", "required": True},
        "path": {"type": "path", "required": True},
        "quota": {"type": "str", "required": True},
        "public_key": {"type": "str", "no_log": False},
    }
    return {
        "accounts": {"type": "list", "elements": "dict", "required": True, "options": account},
        "command": {"type": "str", "required": True},
        "options": {"type": "list", "elements": "str", "default": ["restrict"]},
        "group": {"type": "str", "default": "lifeboat"},
        "keys_directory": {
            "type": "path",
            "default": "/etc/lifeboat/authorized_keys",
            "no_log": False,
        },
        "homes_directory": {"type": "path", "default": "/var/lib/lifeboat/accounts"},
        "lock_directory": {"type": "path", "default": "/run/lifeboat/lock"},
        "subvolumes": {"type": "bool", "default": False},
        "quota_groups": {"type": "bool", "default": False},
        "headroom_percent": {"type": "int", "default": 10},
    }


if __name__ == "__main__":
    main()
