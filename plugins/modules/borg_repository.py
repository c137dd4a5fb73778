#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bind a box to its repository."""

from __future__ import annotations

DOCUMENTATION = r"""
module: borg_repository
short_description: Initialise a borg repository once, and recognise it ever after
version_added: 0.1.0
author: lifeboat.agents contributors (@lifeboat-agents)
description:
  - Runs on the box. When no repository is known to the box or to the escrow and there is none at
    O(url), one is initialised.
  - When the escrow knows one (O(expected_id), O(expected_key)) a box that lost its key gets it back.
  - A repository that is gone, or is another one than the escrow knows, is refused. Nothing is ever
    initialised in the place of a repository that was there.
  - Opens the repository without taking its lock, so that a running backup is not in the way.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    description: A repository that is bound already is recognised and left as it is.
    support: full
  platform:
    platforms: posix
options:
  url:
    description: Where the repository is, for example V(ssh://lb-acme@vault1:22/srv/lifeboat/repositories/acme).
    type: str
    required: true
  borg:
    description: The borg to use.
    type: path
    default: /usr/local/bin/lifeboat-borg
  ssh_key:
    description: Private key of the box for this repository.
    type: path
    required: true
  known_hosts:
    description: File with the pinned host keys; no other is looked at.
    type: path
    required: true
  keys_dir:
    description: Directory of borg's key file.
    type: path
    required: true
  base_dir:
    description: Directory of borg's cache and security files.
    type: path
    required: true
  passphrase:
    description: Passphrase of the key; handed to borg over a file descriptor.
    type: str
    required: true
  encryption:
    description: Encryption of a new repository. Only a key that is not kept in the repository is safe here.
    type: str
    choices: [keyfile-blake2, keyfile]
    default: keyfile-blake2
  expected_id:
    description: Id of the repository by the escrow, empty when there is none yet.
    type: str
  expected_key:
    description: Text of the key by the escrow, empty when there is none yet.
    type: str
  lock_wait:
    description: Seconds to wait for the repository's lock when initialising.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Bind the box to its repository
  lifeboat.agents.borg_repository:
    url: ssh://lb-acme@vault1.example.net:22/srv/lifeboat/repositories/acme
    ssh_key: /etc/lifeboat/agents/acme/repositories/vault1.example.net/ssh_key
    known_hosts: /etc/lifeboat/agents/acme/repositories/vault1.example.net/known_hosts
    keys_dir: /etc/lifeboat/agents/acme/repositories/vault1.example.net/keys
    base_dir: /var/lib/lifeboat/acme/vault1.example.net/borg
    passphrase: "{{ kept.escrow.repositories['vault1.example.net'].passphrase }}"
"""

RETURN = r"""
repository_id:
  description: Id of the repository; null in check mode when it would be initialised.
  returned: success
  type: str
key_file:
  description: The key file on the box; its text is what has to be escrowed.
  returned: success
  type: str
reasons:
  description: What was done, and why.
  returned: success
  type: list
  elements: str
failure:
  description: Exit code, command, message id and hint when borg failed.
  returned: when borg failed
  type: dict
"""

import os
from collections.abc import Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils.repository_init import (
    Binding,
    RepositoryBinder,
    RepositoryError,
)


class Borg:
    """Runs borg; the passphrase goes through a pipe and is nowhere to be listed."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module

    def __call__(
        self, argv: list[str], *, environment: Mapping[str, str], passphrase: str
    ) -> tuple[int, str, str]:
        reader, writer = os.pipe()
        try:
            os.write(writer, passphrase.encode())
            os.close(writer)
            return_code, output, error = self._module.run_command(
                argv,
                environ_update={**environment, "BORG_PASSPHRASE_FD": str(reader)},
                pass_fds=[reader],
            )
        finally:
            os.close(reader)
        return int(return_code), str(output), str(error)


def main() -> None:
    """Turn parameters into a binding, and its errors into one failure."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "borg": {"type": "path", "default": "/usr/local/bin/lifeboat-borg"},
            "ssh_key": {"type": "path", "required": True, "no_log": False},
            "known_hosts": {"type": "path", "required": True},
            "keys_dir": {"type": "path", "required": True, "no_log": False},
            "base_dir": {"type": "path", "required": True},
            "passphrase": {"type": "str", "required": True, "no_log": True},
            "encryption": {"choices": ["keyfile-blake2", "keyfile"], "default": "keyfile-blake2"},
            "expected_id": {"type": "str"},
            "expected_key": {"type": "str", "no_log": True},
            "lock_wait": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params = dict(module.params)
    params["expected_id"] = params["expected_id"] or None
    params["expected_key"] = params["expected_key"] or None
    binder = RepositoryBinder(Binding(**params), run=Borg(module), check_mode=module.check_mode)
    try:
        module.exit_json(**binder.bind().as_return())
    except RepositoryError as error:
        module.fail_json(msg=str(error), failure=error.failure)


if __name__ == "__main__":
    main()
