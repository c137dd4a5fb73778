"""The controls: what happens where nobody audits. Acts that go unnoticed or become final."""

from __future__ import annotations

import json

from conftest import REPOSITORY, World

COPY = "/srv/lifeboat/repositories/copy"


def on_a_copy(world: World, script: str) -> str:
    """On the storage host, as whoever runs borg there by the book; the repository is not touched."""
    done = world.hosts["journal"].run(
        f"set -e; rm -rf {COPY}; cp -a {REPOSITORY} {COPY}; cd {COPY};"
        f" export BORG_BASE_DIR=/root/.copy; {script}"
    )
    assert done.rc == 0, done.stdout + done.stderr
    return str(done.stdout)


def test_borg_check_does_not_see_an_overwritten_chunk(world: World) -> None:
    archives = world.contents("journal")
    assert not world.attack("journal", "garbage over a chunk")["refused"]
    on_a_copy(world, f"lifeboat-borg check --repository-only {COPY}")
    listed = world.box.run("python3 /root/attack.py journal list")
    assert not json.loads(listed.stdout)["refused"]
    broken = world.box.run("python3 /root/attack.py journal contents")
    assert broken.rc != 0, "an archive that is listed and does not extract"
    assert not world.audit("journal")["clean"]
    world.rollback("journal")
    assert world.contents("journal") == archives


def test_a_deletion_becomes_final_by_compaction(world: World) -> None:
    archives = world.contents("journal")
    assert not world.attack("journal", "delete every archive")["refused"]
    sizes = on_a_copy(
        world,
        f"du -sb data | cut -f1; lifeboat-borg compact --threshold 0 {COPY}; du -sb data | cut -f1",
    ).split()
    assert int(sizes[-1]) < int(sizes[0]) / 10, "what was deleted is gone for good"
    world.rollback("journal")
    assert world.contents("journal") == archives


def test_a_backup_after_the_attack_notices_nothing(world: World) -> None:
    archives = world.contents("journal")
    assert not world.attack("journal", "garbage over a chunk")["refused"]
    assert not world.attack("journal", "create")["refused"], "borg is content"
    assert not world.audit("journal")["clean"], "we are not"
    world.rollback("journal")
    assert world.contents("journal") == archives


def test_forged_dates_push_the_history_out_of_an_ordinary_prune(world: World) -> None:
    """7 daily, 4 weekly, 6 monthly by the archives' own dates, as everybody does it."""
    archives = world.contents("journal")
    assert not world.attack("journal", "forged archives", FORGED="60")["refused"]
    stopped = world.custody("journal")
    assert stopped.returncode != 0
    assert "more archives arrived than nights have passed" in stopped.stdout
    assert world.contents("journal", only=archives) == archives, "custody lets nothing be pushed"
    assert not world.attack("journal", "prune by the book")["refused"], "borg is content"
    assert world.contents("journal", only=archives) == {}, "nothing of before is listed"
    assert not world.audit("journal")["clean"], "we are not"
    world.go_back("journal")
    assert world.contents("journal") == archives
    assert world.box.run("lifeboat backup hal").rc == 0
    again = world.custody("journal")
    assert again.returncode == 0, again.stdout[-3000:]
