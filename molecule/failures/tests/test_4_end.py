"""After all of it: every archive is whole, those of before and those between."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import World


def test_every_archive_is_whole(world: World) -> None:
    """Extracted and compared with the home of that moment; the database keeps its invariant."""
    result = world.nights("whole")
    assert result["recorded"] > 5
    assert result["wrong"] == {}


def test_the_last_archive_is_what_its_manifest_says(world: World) -> None:
    done = world.on("box", "lifeboat verify kit")
    assert done.returncode == 0, done.stdout
