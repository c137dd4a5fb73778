"""Without the guard, at a host that serves append-only: found by the audit, undone by rollback."""

from __future__ import annotations

import pytest
from conftest import REPOSITORY, World

FOUND = {
    "delete an archive": "deleted",
    "delete every archive": "deleted",
    "prune": "deleted",
    "rename": "deleted",
    "recreate": "deleted",
    "delete chunks": "deleted",
    "delete everything": "deleted",
    "garbage over a chunk": "overwritten",
    "another chunk over a chunk": "overwritten",
    "empty manifest": "manifest-foreign",
    "unencrypted manifest": "manifest-foreign",
    "highest nonce": "nonce-exhausted",
    "nonce back": "nonce-back",
}


@pytest.fixture(scope="module")
def accepted(world: World) -> dict[str, str]:
    """The state that the trusted side accepts before the attacks, and what is in it."""
    assert world.mark("journal")
    done = world.play("custody.yml", "-e", "repository=journal")
    assert done.returncode == 0, done.stdout[-3000:]
    return world.contents("journal")


@pytest.mark.parametrize("act", FOUND)
def test_found_and_undone(world: World, accepted: dict[str, str], act: str) -> None:
    answer = world.attack("journal", act)
    assert not answer["refused"], answer
    found = world.audit("journal")
    assert FOUND[act] in found["counts"], found
    done = world.rollback("journal")
    assert done.get("evidence"), done
    assert world.audit("journal")["clean"]
    assert world.contents("journal") == accepted


def test_two_hundred_forged_archives_push_nothing_out(
    world: World, accepted: dict[str, str]
) -> None:
    assert world.after_a_flood("journal", accepted) == accepted


def test_keys_cannot_be_stored(world: World, accepted: dict[str, str]) -> None:
    """The config is root's: a layer that holds without the guard and without the audit."""
    assert world.attack("journal", "store a key")["refused"]
    assert world.audit("journal")["counts"] == {}
    assert world.contents("journal") == accepted


def test_the_whole_repository_by_borgs_own_command(world: World, accepted: dict[str, str]) -> None:
    assert world.attack("journal", "delete the repository")["refused"]
    assert world.contents("journal") == accepted


def test_the_account_itself_cannot_delete_the_repository(
    world: World, accepted: dict[str, str]
) -> None:
    """Ownership alone: beside the files, with borg's own command, which nobody told to append only."""
    host = world.hosts["journal"]
    base = host.run("runuser -u lb-hal -- mktemp -d").stdout.strip()
    given = f"BORG_BASE_DIR={base} BORG_DELETE_I_KNOW_WHAT_I_AM_DOING=YES"
    borg = f"env {given} /usr/local/bin/lifeboat-borg delete --force {REPOSITORY}"
    for command in (
        borg,
        f"rm -f {REPOSITORY}/config",
        f"mv {REPOSITORY}/data {REPOSITORY}/gone",
        f"mv {REPOSITORY} {REPOSITORY}.gone",
    ):
        done = host.run(f"cd / && runuser -u lb-hal -- {command}")
        assert done.rc != 0, command
        assert "not permitted" in done.stderr or "denied" in done.stderr, done.stderr
    assert world.audit("journal")["counts"] == {}
    assert world.contents("journal") == accepted


@pytest.mark.parametrize("act", ["destroy", "initialise again"])
def test_refused_by_borg_itself(world: World, accepted: dict[str, str], act: str) -> None:
    assert world.attack("journal", act)["refused"]
    assert world.audit("journal")["counts"] == {}
    assert world.contents("journal") == accepted


@pytest.mark.parametrize("act", ["repair", "compact", "break the lock", "initialise anew"])
def test_without_effect(world: World, accepted: dict[str, str], act: str) -> None:
    world.attack("journal", act)
    assert world.audit("journal")["counts"] == {}
    assert world.contents("journal") == accepted


def test_the_passphrase_changes_on_the_box_alone(world: World, accepted: dict[str, str]) -> None:
    keys = "/etc/lifeboat/agents/hal/repositories/journal/keys"
    assert world.box.run(f"cp -a {keys} {keys}.kept").rc == 0
    assert not world.attack("journal", "change the passphrase")["refused"]
    assert world.audit("journal")["counts"] == {}
    assert world.box.run(f"cp -a {keys}.kept/. {keys}/ && rm -r {keys}.kept").rc == 0
    assert world.contents("journal") == accepted


def test_the_quota_of_the_file_system(world: World, accepted: dict[str, str]) -> None:
    """borg's own quota is counted when it is too late; the file system's is not the box's to spend."""
    assert world.attack("journal", "fill the quota")["refused"]
    used = world.hosts["journal"].run(f"du -sb {REPOSITORY}/data").stdout.split()[0]
    assert 100_000_000 < int(used) < 350_000_000
    world.rollback("journal")
    assert world.audit("journal")["clean"]
    assert world.contents("journal") == accepted


def test_everything_gone_comes_back_from_a_snapshot(world: World, accepted: dict[str, str]) -> None:
    host = world.hosts["journal"]
    assert host.run("systemctl start lifeboat-snapshot.service").rc == 0
    snapshot = host.run("ls -d /srv/lifeboat/snapshots/hal.*").stdout.split()[-1]
    assert host.run(f"runuser -u lb-hal -- rm -rf {snapshot}/data").rc != 0, "out of reach"
    assert host.run(f"find {REPOSITORY} -mindepth 1 -delete").rc == 0
    assert world.audit("journal")["counts"] == {"repository-missing": 1}
    # Another repository in its place is none to anybody who pinned the id.
    planted = world.attack("journal", "initialise anew")
    backup = world.box.run("lifeboat backup hal --json")
    assert backup.rc != 0, backup.stdout
    counts = world.audit("journal")["counts"]
    assert set(counts) == {"repository-missing" if planted["refused"] else "repository-replaced"}
    done = world.rollback("journal", snapshot=snapshot)
    assert done.get("evidence"), done
    assert world.audit("journal")["clean"]
    assert world.contents("journal") == accepted


def test_custody_stops_and_rollback_goes_back(world: World, accepted: dict[str, str]) -> None:
    """The same by the playbooks, with the box's own caches, to the next honest backup."""
    assert not world.attack("journal", "garbage over a chunk")["refused"]
    stopped = world.play("custody.yml", "-e", "repository=journal")
    assert stopped.returncode != 0
    assert "NOTHING IS DELETED" in stopped.stdout
    assert "an object of the accepted state was stored again" in stopped.stdout
    dry = world.play("rollback.yml", "-e", "agent=hal", "-e", "repository=journal", "--check")
    assert dry.returncode == 0, dry.stdout[-3000:]
    assert not world.audit("journal")["clean"]
    back = world.play("rollback.yml", "-e", "agent=hal", "-e", "repository=journal")
    assert back.returncode == 0, back.stdout[-3000:]
    assert world.contents("journal") == accepted
    backup = world.box.run("lifeboat backup hal --json")
    assert backup.rc == 0, backup.stdout + backup.stderr
    again = world.play("custody.yml", "-e", "repository=journal")
    assert again.returncode == 0, again.stdout[-3000:]


def test_an_archive_that_leaves_the_list_is_missed_and_comes_back(world: World) -> None:
    standing = world.contents("journal")
    assert not world.attack("journal", "forget an archive")["refused"]
    stopped = world.custody("journal")
    assert stopped.returncode != 0
    assert "an archive is gone that nobody here deleted" in stopped.stdout
    world.go_back("journal")
    assert world.contents("journal") == standing
