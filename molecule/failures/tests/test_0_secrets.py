"""A home with everything in it: no canary in the archive, and all that is precious comes back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import World

HOME = "/home/cat/.hermes"
FULL_HOME = "python3 -I /root/full_home.py"


def search(world: World, folder: str) -> dict[str, Any]:
    return dict(json.loads(world.must("box", f"{FULL_HOME} search {folder}")))


@pytest.fixture(scope="module")
def extracted(world: World) -> str:
    """Every archive of the agent, side by side."""
    script = "cd /root && python3 -I nights.py extract cat /var/tmp/all-of-cat"
    world.must("box", script)
    return "/var/tmp/all-of-cat"


def test_no_canary_in_any_archive(world: World, extracted: str) -> None:
    in_home, in_archives = search(world, HOME), search(world, extracted)
    assert in_home["planted"] > 50
    assert len(in_home["found"]) == in_home["planted"], "a canary that is nowhere proves nothing"
    assert in_archives["files"] > 80
    assert in_archives["found"] == {}


def test_the_search_would_find_one(world: World, extracted: str) -> None:
    world.must("box", f"cp {HOME}/.env {extracted}/planted")
    found = search(world, extracted)["found"]
    world.must("box", f"rm {extracted}/planted")
    assert found == {".env": "planted"}


def test_what_was_left_out_is_told(world: World) -> None:
    told = world.must("box", "lifeboat status cat")
    for place in (
        "brand-new-login",
        "deploy_key",
        "relay.yaml",
        "linear.toml",
        "vault-of-2027",
        "garden-of-2027",
    ):
        assert place in told, told
    for canary in search(world, HOME)["found"]:
        assert canary  # names may be told, values may not
    assert "LBCANARY" not in told + world.must("box", "lifeboat status cat --json")
    assert "LBCANARY" not in world.must("box", "journalctl --no-pager")


def test_all_that_is_precious_comes_back(world: World) -> None:
    world.must("box", f"mv {HOME} /home/cat/lost")
    done = world.play("restore", "-e", "agent=cat", "-e", "target=box", "-e", "start=false")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    result = json.loads(world.must("box", f"{FULL_HOME} compare {HOME}"))
    assert result["compared"] > 80
    assert result["different"] == {}
    assert result["should_not_be"] == []


def test_the_comparison_would_see_a_difference(world: World) -> None:
    world.must("box", f"chmod 0444 {HOME}/SOUL.md && rm {HOME}/memories/USER.md")
    result = json.loads(world.must("box", f"{FULL_HOME} compare {HOME}"))
    assert set(result["different"]) >= {"SOUL.md", "memories/USER.md"}
