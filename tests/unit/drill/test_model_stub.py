# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration out of an archive is looked at before it is read into the control host."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")


def point(home: Path) -> subprocess.CompletedProcess[str]:
    """Hermes of this home pointed at the stub; what it is told is written to `said`."""
    role = {"name": "lifeboat.agents.agent", "tasks_from": "runtimes/hermes/model_stub"}
    tell = ["sh", "-c", 'echo "$@" >>"$0"', str(home / "said")]
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "agent_home": str(home),
        },
        "tasks": [
            {
                "ansible.builtin.include_role": role,
                "vars": {"__agent_as_user": tell, "__agent_user_home": str(home)},
            }
        ],
    }
    path = home / "play.yml"
    path.write_text(yaml.safe_dump([play]))
    return subprocess.run(
        [str(PLAYBOOK), "-i", "localhost,", str(path)],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "0"},
        capture_output=True,
        text=True,
        check=False,  # refusals are what is looked at
        timeout=120,
    )


def _link(path: Path) -> None:
    path.symlink_to("/dev/null")


def _big(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1024 * 1024 + 1)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [_link, _big, _pipe])
def test_what_is_no_small_file_is_not_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "config.yaml")
    done = point(tmp_path)
    assert done.returncode == 2
    assert "configuration is refused" in done.stdout
    assert "Read Hermes" not in done.stdout
    assert not (tmp_path / "said").exists()


def test_a_key_that_is_there_stays_and_a_bomb_is_no_text(tmp_path: Path) -> None:
    bomb = "\n".join(
        f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9 if n else ['x'] * 9)}]" for n in range(12)
    )
    (tmp_path / "config.yaml").write_text(
        f"{bomb}\nmodel:\n  api_key: mine\n  provider: *b11\n  default: lifeboat-stub\n"
    )
    done = point(tmp_path)
    assert done.returncode == 0, done.stdout
    said = (tmp_path / "said").read_text()
    assert "model.provider custom" in said
    assert "model.api_key" not in said
    assert "model.default" not in said
