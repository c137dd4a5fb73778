"""A standing host is lent to a drill and comes back as it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Ended, World

CLAIM = "/var/lib/lifeboat-drill-box/claim.json"


def could_not_run(ended: Ended, text: str) -> None:
    assert ended.code == 2, ended.output[-3000:]
    assert text in ended.output
    assert all(r["verdict"]["result"] == "could_not_run" for r in ended.records.values())


def test_a_drill_is_proven_and_the_host_is_as_it_was(world: World) -> None:
    before = world.state("spare")
    ended = world.drill("existing", "-e", "agent=p0")
    assert ended.code == 0, ended.output[-3000:]
    assert ended.only["verdict"]["result"] == "proven"
    assert "fence" in {check["name"] for check in ended.only["checks"]}
    assert world.state("spare") == before
    assert world.boxes() == []


def test_a_drill_that_is_not_proven_leaves_nothing_either(world: World) -> None:
    before = world.state("spare")
    ended = world.drill("existing", "-e", "agent=p0", "-e", "archive=p0-2020-01-01T00:00:00Z")
    assert ended.code == 1, ended.output[-3000:]
    assert world.state("spare") == before


@pytest.mark.parametrize("name", ["box", "vault-1", "localhost"])
def test_a_host_that_something_lives_on_is_refused_by_its_group(world: World, name: str) -> None:
    ended = world.drill("existing", "-e", "agent=p0", drill_box_existing_hosts=[name])
    could_not_run(ended, f"in the way is {name}")


def test_an_agents_home_is_found_under_whatever_name(world: World) -> None:
    spare = world.host("spare")
    assert spare.run("mkdir -p /home/fleet/p1").rc == 0
    try:
        ended = world.drill("existing", "-e", "agent=p0")
        could_not_run(ended, "/home/fleet/p1 is an agent's home")
        assert spare.file("/home/fleet/p1").is_directory
        assert not spare.file(CLAIM).exists
    finally:
        spare.run("rm -r /home/fleet")


def test_no_host_at_all(world: World) -> None:
    could_not_run(
        world.drill("existing", "-e", "agent=p0", drill_box_existing_hosts=[]), "drill_existing"
    )


def test_one_host_serves_one_drill_at_a_time(world: World) -> None:
    before = world.state("spare")
    ended = world.drill("existing", "-e", "agent=p0,p1")
    assert ended.code == 2, ended.output[-3000:]
    assert "No host is free" in ended.output
    results = sorted(record["verdict"]["result"] for record in ended.records.values())
    assert results == ["could_not_run", "proven"]
    assert world.state("spare") == before


def test_what_a_killed_drill_left_is_wiped_by_the_next(world: World) -> None:
    spare = world.host("spare")
    before = world.state("spare")
    # As if the controller had died: the host is lent, and full of an agent.
    left = claim(world, minutes=60)
    assert left["claimed"]
    assert spare.run("useradd --create-home fleet && install -d -o fleet /home/fleet/p0").rc == 0
    # Within its time nobody else takes it.
    could_not_run(world.drill("existing", "-e", "agent=p0"), "No host is free")
    assert spare.file("/home/fleet/p0").is_directory
    assert spare.run(f'sed -i \'s/"expires": [0-9]*/"expires": 1000/\' {CLAIM}').rc == 0
    ended = world.drill("existing", "-e", "agent=p0")
    assert ended.code == 0, ended.output[-3000:]
    assert world.state("spare") == before


def test_a_host_wipes_itself_when_its_time_is_over(world: World) -> None:
    spare = world.host("spare")
    before = world.state("spare")
    assert claim(world, minutes=1)["claimed"]
    assert spare.run("useradd --create-home fleet && runuser -u fleet -- sleep 600 &").rc == 0
    assert (
        spare.run(
            "for i in $(seq 90); do [ -e /var/lib/lifeboat-drill-box ] || exit 0; sleep 1; done; exit 1"
        ).rc
        == 0
    )
    assert world.state("spare") == before


def claim(world: World, minutes: int) -> dict[str, object]:
    """Lend the host to a drill that nobody will end."""
    script = "roles/drill_box/files/existing.py"
    command = f"{script} claim --name lost --minutes {minutes} --key 'ssh-ed25519 AAAA'"
    done = world.run(
        *("ansible", "--inventory", str(world.inventory), "spare", "-m", "ansible.builtin.script"),
        *("-a", json.dumps({"executable": "python3 -I", "cmd": command})),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown = json.loads(done.stdout[done.stdout.index("{") :])
    answer: dict[str, object] = json.loads(shown["stdout"])
    return answer
