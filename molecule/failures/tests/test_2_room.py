"""No room: on the box, on the storage host, in the quota. Told, and over when there is room again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import World


def test_no_room_on_the_box(world: World) -> None:
    with world.full("box", "/var/lib/lifeboat"):
        ended = world.backup()
        shown = world.on("box", "lifeboat status kit")
    assert ended.code != 0, ended
    assert ended.unit["ActiveState"] == "failed"
    assert "No space left" in ended.journal
    assert ended.metrics["success"] == 0, "the metrics are on another disk"
    assert shown.returncode != 0, shown.stdout
    again = world.backup()
    assert again.went_well, again


def test_no_room_on_the_storage_host(world: World) -> None:
    with world.full("vault-1", "/srv/lifeboat"):
        ended = world.backup()
    assert ended.failed_loudly, ended
    assert "disk" in ended.status["message"] + ended.status["hint"], ended.status
    again = world.backup()
    assert again.went_well, again


def test_no_room_in_the_quota(world: World) -> None:
    """More than is left of it; the quota counts what was committed, so what failed costs nothing."""
    world.must("box", "head -c 900M /dev/urandom > /home/kit/agent/workspace/film")
    ended = world.backup()
    world.must("box", "rm /home/kit/agent/workspace/film")
    assert ended.failed_loudly, ended
    assert "quota" in ended.status["message"] + ended.status["hint"], ended.status
    again = world.backup()
    assert again.went_well, again
