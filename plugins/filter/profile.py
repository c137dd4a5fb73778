# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: profile
short_description: Check a profile and merge overrides into it
version_added: 0.1.0
author: lifeboat.agents contributors
description:
  - Turns the YAML of a profile (what each entry of an agent's home is) into the checked form that a box gets as JSON.
  - An error names the rule and the key.
options:
  _input:
    description: The profile, decoded or as text.
    type: raw
    required: true
  overrides:
    description:
      - The same keys as a profile, from the inventory.
      - Rules, nested homes and outside folders come in front of the profile's own, mappings are
        merged, the rest replaces.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: What a box gets
  ansible.builtin.copy:
    content: >-
      {{ lookup('ansible.builtin.file', 'profiles/hermes.yml') | lifeboat.agents.profile(overrides={
         'rules': [{'match': 'my-notes/', 'class': 'keep'}]}) | to_json }}
    dest: /etc/lifeboat/agents/acme/profile.json
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The checked profile, one pattern per rule.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.lifeboat.agents.plugins.module_utils.profile import ProfileError, load


def profile(data: Any, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The filter."""
    try:
        return load(data, overrides)
    except ProfileError as error:
        raise AnsibleFilterError(f"profile: {error}") from error


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"profile": profile}
