"""What the unit may do, by systemd's own judgement, and what the command says to a person."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import World

UNIT = "lifeboat-backup@kit.service"


def test_the_exposure_is_what_the_documentation_says(world: World) -> None:
    """2.4 is in docs/operations.md; the threshold is in tenths."""
    done = world.on("box", f"systemd-analyze security --no-pager --threshold=24 {UNIT}")
    assert done.returncode == 0, done.stdout[-300:]
    assert "exposure level" in done.stdout


def test_the_unit_cannot_write_the_home(world: World) -> None:
    """Root in the unit's sandbox, with its capabilities, on what the agent alone may write."""
    names = "CapabilityBoundingSet NoNewPrivileges ProtectSystem ReadWritePaths"
    shown = world.must("box", f"systemctl show {UNIT} -p {' -p '.join(names.split())}")
    options = " ".join(f"-p '{line}'" for line in shown.splitlines())
    home = "/home/kit/agent"
    tried = world.on("box", f"systemd-run --wait --pipe -q {options} touch {home}/by-root")
    assert tried.returncode != 0
    assert "Permission denied" in tried.stderr
    read = world.on("box", f"systemd-run --wait --pipe -q {options} cat {home}/SOUL.md")
    assert read.stdout == "I keep going.\n"


@pytest.mark.parametrize("command", ["backup", "audit", "status", "verify"])
def test_every_command_tells_people_and_machines(world: World, command: str) -> None:
    for_people = world.on("box", f"lifeboat {command} kit")
    assert for_people.returncode == 0, for_people.stdout + for_people.stderr
    assert "kit" in for_people.stdout
    for_machines = world.on("box", f"lifeboat {command} kit --json")
    assert json.loads(for_machines.stdout)["agent"] == "kit"
    assert "usage" in world.must("box", f"lifeboat {command} --help")


def test_progress_on_a_terminal(world: World) -> None:
    """script gives it one; the bar is drawn in place and gone at the end."""
    world.must("box", "sleep 1.1; head -c 60M /dev/urandom > /home/kit/agent/workspace/film")
    terminal = "script -qec 'stty cols 100; lifeboat backup kit' /dev/null | cat -A"
    done = world.on("box", f"set -o pipefail; {terminal}")
    world.must("box", "rm /home/kit/agent/workspace/film")
    assert done.returncode == 0, done.stdout
    assert "^Mvault-1: " in done.stdout
    assert "^M" + " " * 99 + "^M" in done.stdout
    assert "kit: success in" in done.stdout.rpartition("^M" + " " * 99)[2]
