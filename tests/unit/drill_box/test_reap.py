# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill begins by removing leftovers, before any box has a name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]


def test_leftovers_on_existing_hosts_are_looked_for_without_the_name_of_a_box(
    tmp_path: Path,
) -> None:
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {
            "drill_box_provider": "existing",
            "drill_box_existing_hosts": [],
            "drill_box_directory": str(tmp_path),
        },
        "tasks": [
            {
                "ansible.builtin.include_role": {
                    "name": "lifeboat.agents.drill_box",
                    "tasks_from": "reap",
                }
            }
        ],
    }
    path = tmp_path / "play.yml"
    path.write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "--connection=local", str(path)],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
