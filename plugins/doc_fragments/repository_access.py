# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that tell the restore modules how to open a repository."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  repository:
    description:
      - The repository and what opens it, from the inventory and the escrow.
      - Everything in it is written to a private folder on a tmpfs for as long as the module runs.
    type: dict
    suboptions:
      url:
        description: Address, as borg takes it.
        type: str
        required: true
      repository_id:
        description: The pinned id. Another repository at the same address is refused.
        type: str
      passphrase:
        description: Passphrase of the key. Reaches borg through a file descriptor.
        type: str
      key:
        description: Text of C(borg key export).
        type: str
      host_keys:
        description: Pinned SSH host keys of the repository host.
        type: list
        elements: str
  identity:
    description:
      - Private SSH key on the target, of an identity that was granted for this purpose.
      - Needed for an address that begins with V(ssh://).
    type: path
  borg:
    description: The borg to call.
    type: path
    default: /usr/local/bin/lifeboat-borg
  lock_wait:
    description: Seconds to wait for the lock of the repository.
    type: int
    default: 60
  bypass_lock:
    description: Read without a lock, as from a read-only snapshot.
    type: bool
    default: false
"""
