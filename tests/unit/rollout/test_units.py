# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of a box, as the role writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest

TEMPLATES = Path(__file__).resolve().parents[3] / "roles" / "backup" / "templates"
AGENT = {"agent": "acme", "home": "/home/acme/my agent", "repositories": [{"name": "vault1"}]}


def rendered(name: str, agent: dict[str, Any] | None = None, **variables: Any) -> str:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["comment"] = lambda text: f"# {text}"
    common = {
        "ansible_managed": "",
        "__backup_etc": "/etc/lifeboat",
        "backup_metrics_directory": "",
    }
    return environment.get_template(name).render(
        **common, __backup_agent=agent or AGENT, **variables
    )


@pytest.mark.parametrize("profile", [{}, {"export": {"commands": [["node"]]}}])
def test_memory_is_executable_only_for_an_agent_that_exports(profile: dict[str, Any]) -> None:
    """Node cannot start without; where no program of an agent is run nothing needs it."""
    text = rendered("agent.conf.j2", __backup_profile=profile)
    assert ("MemoryDenyWriteExecute=no" in text) is bool(profile)


@pytest.mark.parametrize(
    ("home", "word"),
    [
        ("/home/acme/.hermes", '"-/home/acme/.hermes"'),
        ("/home/acme/my agent", '"-/home/acme/my agent"'),
        ("/home/100%", '"-/home/100%%"'),
        ('/home/a"b\\c', r'"-/home/a\"b\\c"'),
    ],
)
def test_a_home_is_one_word_of_the_unit(home: str, word: str) -> None:
    r"""Outside of quotes systemd reads \x20 as x20: a home with a space was not writable."""
    text = rendered("agent.conf.j2", {**AGENT, "home": home}, __backup_profile={})
    assert f"\nReadWritePaths={word}\n" in text
    assert text.splitlines()[:2] == ["# ", "[Service]"]
