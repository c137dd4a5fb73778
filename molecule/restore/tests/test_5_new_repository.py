"""After a break-in: the old repository for reading, and a new one, step by step as docs/custody.md has it."""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml
from conftest import BORG, World

LOST = "cut0"
NEW = "cut0-2"
HOME = "/home/cut0/elsewhere/agent"  # where test_3 put it
REPOSITORIES = "/srv/lifeboat/repositories"
ACCESS = ("/etc/lifeboat/authorized_keys", "/etc/lifeboat/access")


def rewrite(world: World, **changes: object) -> None:
    """The inventory as its owner edits it: groups by their name, None for one that goes."""
    path = world.inventory
    inventory = yaml.safe_load(path.read_text(encoding="utf-8"))
    inventory.update(changes)
    kept = {group: content for group, content in inventory.items() if content is not None}
    world.moved_inventory.write_text(yaml.safe_dump(kept), encoding="utf-8")


def entry(name: str, home: str) -> dict[str, str]:
    return {"name": name, "profile": "generic", "user": "cut0", "home": home}


def keys(world: World, agent: str) -> str:
    """Every key that opens the repository of an agent."""
    return "".join(
        file.content_string
        for file in (world.host("vault-1").file(f"{folder}/lb-{agent}") for folder in ACCESS)
        if file.exists
    )


@pytest.fixture(scope="module")
def second(world: World) -> dict[str, object]:
    """The box of the agent is taken off the network; the connection of the next one."""
    inventory = yaml.safe_load(world.first_inventory.read_text(encoding="utf-8"))
    subprocess.run(["podman", "stop", "--time", "2", world.container("box")], check=True)
    connection: dict[str, object] = inventory["later"]["hosts"]["second"]
    return connection


def test_1_its_key_goes(world: World, second: dict[str, object]) -> None:
    world.play("retire", f"agent={LOST}", "box=gone", "keep_days=365").well()
    assert "ssh-" not in keys(world, LOST)


def test_3_the_agent_lives_on_a_new_box_that_has_no_key(
    world: World, second: dict[str, object]
) -> None:
    rewrite(world, ungrouped={"hosts": {"second": second}})
    world.restore(LOST, "new_box=true", "start=true", target="second").well()
    assert world.host("second").file(f"{HOME}/SOUL.md").content_string == "I am agent.\n"
    assert "ssh-" not in keys(world, LOST)


def test_4_and_5_a_new_name_gets_all_of_its_own(world: World, second: dict[str, object]) -> None:
    old = world.look("vault-1", f"{REPOSITORIES}/{LOST}")
    host = {**second, "backup_agents": [entry(NEW, HOME)]}
    rewrite(world, ungrouped=None, agents={"hosts": {"second": host}})
    world.play("site").well()
    world.play("backup", f"agent={NEW}").well()
    world.play("custody", f"agent={NEW}", BORG).well()
    world.play("drill", f"agent={NEW}").well()
    config = world.host("second").check_output(f"cat /etc/lifeboat/agents/{NEW}/config.json")
    assert json.loads(config)["repositories"][0]["url"].endswith(f"/{NEW}")
    assert "ssh-" in keys(world, NEW)
    # 6: what was kept is as it was, and so is what opens it.
    assert "ssh-" not in keys(world, LOST)
    assert world.look("vault-1", f"{REPOSITORIES}/{LOST}") == old
    assert (world.vault / f"{LOST}.yml").exists()


def test_later_the_old_one_can_be_looked_into(world: World, second: dict[str, object]) -> None:
    agents = [entry(NEW, HOME), entry(LOST, "/home/cut0/never")]
    rewrite(world, agents={"hosts": {"second": {**second, "backup_agents": agents}}})
    world.restore(LOST, target="second:/srv/look").well()
    assert world.host("second").file("/srv/look/SOUL.md").content_string == "I am agent.\n"
    assert "ssh-" not in keys(world, LOST)
    assert not world.host("second").file(f"/etc/lifeboat/agents/{LOST}").exists
