#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many files of root in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: root_files
short_description: Keep many small files and directories of root in one go
version_added: 0.1.0
author: lifeboat.agents contributors (@lifeboat-agents)
description:
  - Makes directories and writes text files that belong to root, each file in one step.
  - One round trip for what would be dozens of tasks, on every box, in every run.
  - Not for secrets. Contents are shown in diffs.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    description: A file that is as wanted is not written.
    support: full
  platform:
    platforms: posix
options:
  directories:
    description: Directories, parents before what is in them.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the directory.
        type: path
        required: true
      mode:
        description: Mode, in octal digits.
        type: str
        default: "0755"
  files:
    description: Text files; their directories have to exist or be in O(directories).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the file.
        type: path
        required: true
      content:
        description: The whole text.
        type: str
        required: true
      mode:
        description: Mode, in octal digits.
        type: str
        default: "0644"
  exact:
    description: Directories from which files are removed that O(files) does not name.
    type: list
    elements: dict
    default: []
    suboptions:
      directory:
        description: Path of the directory; what is deeper down is not looked at.
        type: path
        required: true
      suffix:
        description: Only files with this ending are removed.
        type: str
        required: true
"""

EXAMPLES = r"""
- name: Keep two files and the directory that they are in
  lifeboat.agents.root_files:
    directories:
      - {path: /etc/example, mode: "0750"}
    files:
      - {path: /etc/example/one.conf, content: "one\n"}
      - {path: /etc/example/two.conf, content: "two\n", mode: "0640"}
"""

RETURN = r"""
changed_paths:
  description: What was made, written, corrected or removed.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils.root_files import (
    Directory,
    Exact,
    File,
    FilesError,
    RootFiles,
)


def main() -> None:
    """Turn parameters into files, and errors into one failure."""
    directory = {
        "path": {"type": "path", "required": True},
        "mode": {"type": "str", "default": "0755"},
    }
    file = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str", "required": True},
        "mode": {"type": "str", "default": "0644"},
    }
    exact = {
        "directory": {"type": "path", "required": True},
        "suffix": {"type": "str", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": directory,
            },
            "files": {"type": "list", "elements": "dict", "default": [], "options": file},
            "exact": {"type": "list", "elements": "dict", "default": [], "options": exact},
        },
        supports_check_mode=True,
    )
    try:
        result = RootFiles(check_mode=module.check_mode).ensure(
            [Directory(**item) for item in module.params["directories"]],
            [File(**item) for item in module.params["files"]],
            [Exact(**item) for item in module.params["exact"]],
        )
    except FilesError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(**result.as_return())


if __name__ == "__main__":
    main()
