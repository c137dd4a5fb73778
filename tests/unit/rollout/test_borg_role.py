# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose wheel a host installs: what one host built runs as root on the other."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
import yaml

VARIABLES = yaml.safe_load(
    (Path(__file__).resolve().parents[3] / "roles" / "borg" / "vars" / "main.yml").read_text()
)
GROUPS = {"agents": ["box", "other"], "repositories": ["vault1"], "control": ["tower"]}


def wheels(host: str, groups: dict[str, list[str]]) -> str:
    """The file that a host builds or installs, all hosts being of one platform."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    facts = {"inventory_hostname": host, "groups": groups}
    side = environment.from_string(VARIABLES["__borg_side"]).render(facts)
    wheel = environment.from_string(VARIABLES["__borg_wheels"])
    return wheel.render(
        borg_wheel_cache="cache", borg_version="1.4.5", __borg_platform="debian", __borg_side=side
    )


def test_boxes_and_drill_boxes_share_one_wheel() -> None:
    assert {wheels(host, GROUPS) for host in ("box", "other", "drill-acme-1")} == {
        "cache/borg-1.4.5-debian.tar"
    }


@pytest.mark.parametrize("host", ["vault1", "tower", "localhost"])
def test_nobody_else_runs_what_a_box_built(host: str) -> None:
    assert wheels(host, GROUPS) != wheels("box", GROUPS)


def test_storage_and_the_trusted_side_share_nothing() -> None:
    assert wheels("vault1", GROUPS) != wheels("localhost", GROUPS)
    assert wheels("localhost", {"agents": ["box"]}) == "cache/borg-1.4.5-debian-control.tar"
