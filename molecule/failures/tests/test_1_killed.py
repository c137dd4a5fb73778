"""SIGKILL at random moments: reported each time, and the next run succeeds without help.

That every archive is whole is looked at in test_4_end.py.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import World

KILLS = int(os.environ.get("LIFEBOAT_KILLS", "50"))
AT_LEAST = min(KILLS, 10)  # where the machine is slow
SECONDS = 1500


@pytest.fixture(scope="module")
def seen(world: World) -> dict[str, Any]:
    """Every kill with what was told of it; the untouched runs between them went well."""
    seed = int(os.environ.get("LIFEBOAT_SEED", time.time()))
    print(f"LIFEBOAT_SEED={seed}")
    return world.nights("kill", str(KILLS), str(seed), str(SECONDS))


def test_killed_often_and_at_many_moments(seen: dict[str, Any]) -> None:
    targets = Counter(kill["target"] for kill in seen["kills"])
    count = sum(targets.values())
    assert count == KILLS or (count >= AT_LEAST and seen["seconds"] >= SECONDS), seen
    assert len(targets) == 5, targets
    moments = sorted(kill["after"] for kill in seen["kills"])
    print(f"{count} kills in {seen['seconds']} s, at {moments}, runs of {seen['run_seconds']} s")
    assert sum(kill["began"] for kill in seen["kills"]) >= count / 2, "most were too early to count"


def test_each_was_reported(seen: dict[str, Any]) -> None:
    for kill in seen["kills"]:
        if kill["target"] == "by hand":
            assert kill["code"] == -9, kill
        else:
            assert kill["unit"] == "failed", kill
        if kill["began"]:
            assert kill["attempt_metric_is_new"], kill
            done = kill["status"] in ("success", "warning")  # killed when all was told already
            assert done or kill["status"] == "failed", kill
            assert kill["success_metric"] == int(done), kill
            assert done or kill["message"], kill
    late = [kill for kill in seen["kills"] if kill["began"] and kill["status"] != "failed"]
    assert len(late) <= len(seen["kills"]) / 5, late


def test_nothing_works_on_after_its_parent(seen: dict[str, Any]) -> None:
    assert {kill["left"] for kill in seen["kills"]} == {0}


def test_the_comparison_would_see_a_difference(world: World, seen: dict[str, Any]) -> None:
    record = world.must("box", "ls /var/tmp/seen/kit-*.json | tail -1").strip()
    archive = record.rpartition("/")[2].removesuffix(".json")
    edit = f'sed -i.good \'s/"SOUL.md": \\["[0-9a-f]/"SOUL.md": ["x/\' {record}'
    world.must("box", edit)
    result = world.nights("whole", archive)
    world.must("box", f"mv {record}.good {record}")
    assert "SOUL.md" in result["wrong"].get(archive, ""), result


def test_the_repository_is_sound(world: World, seen: dict[str, Any]) -> None:
    script = (
        "set -e; cp -a /srv/lifeboat/repositories/kit /srv/lifeboat/copy;"
        " BORG_BASE_DIR=/root/copy lifeboat-borg check --repository-only /srv/lifeboat/copy;"
        " rm -rf /srv/lifeboat/copy"
    )
    done = world.on("vault-1", script)
    assert done.returncode == 0, done.stdout + done.stderr
