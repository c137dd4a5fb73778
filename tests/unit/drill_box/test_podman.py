# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bare host needs before podman makes boxes on it; Debian only recommends half of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles" / "drill_box"
TOOLS = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["__drill_box_podman_tools"]


def test_every_tool_that_is_looked_for_has_a_package() -> None:
    probe = (ROLE / "templates" / "podman" / "probe.sh.j2").read_text()
    wanted = re.findall(r'need=[\'"](?:\$need )?([^\'"]+)[\'"]', probe)
    assert len(wanted) == 3
    assert {tool for words in wanted for tool in words.split()} == set(TOOLS)


@pytest.mark.parametrize("script", ["demo", "test"])
def test_both_commands_install_what_every_host_needs(script: str) -> None:
    text = (ROOT / "script" / script).read_text()
    (line,) = re.findall(r"bootstrap_packages (.*podman.*)", text)
    assert {name for tool, name in TOOLS.items() if tool != "runc"} <= set(line.split())
