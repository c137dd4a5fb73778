"""Behind the guard: refused, act by act, and nothing of the old history moves."""

from __future__ import annotations

import json

import pytest
from conftest import REPOSITORY, World

REFUSED = {
    "delete an archive": "refused delete",
    "delete every archive": "refused delete",
    "prune": "refused delete",
    "rename": "refused delete",
    "delete chunks": "refused delete",
    "delete everything": "refused delete",
    "garbage over a chunk": "refused overwrite",
    "another chunk over a chunk": "refused overwrite",
    "empty manifest": "refused manifest",
    "unencrypted manifest": "refused manifest",
    "store a key": "refused save_key",
    "highest nonce": "refused nonce",
    "nonce back": "refused nonce",
    "break the lock": "refused break_lock",
    "destroy": "refused destroy",
    "repair": "refused check",
    "initialise again": "refused create",
    "initialise anew": "refused create",
    "delete the repository": "refused destroy",
    "compact": "refused commit",
}


def segments(world: World) -> str:
    done = world.hosts["guarded"].run(
        f"cd {REPOSITORY} && find data config -type f | sort | xargs sha256sum"
    )
    assert done.rc == 0
    return str(done.stdout)


@pytest.mark.parametrize("act", REFUSED)
def test_refused(world: World, before: dict[str, dict[str, str]], act: str) -> None:
    untouched = segments(world)
    answer = world.attack("guarded", act)
    assert answer["refused"], answer
    assert REFUSED[act] in answer["message"], answer
    assert segments(world) == untouched


def test_recreate_replaces_nothing(world: World, before: dict[str, dict[str, str]]) -> None:
    untouched = set(segments(world).splitlines())
    assert "refused delete" in world.attack("guarded", "recreate")["message"]
    assert untouched <= set(segments(world).splitlines())


def test_the_quota_is_kept_and_the_repository_stays_usable(world: World) -> None:
    answer = world.attack("guarded", "fill the quota")
    assert answer["refused"], answer
    used = world.hosts["guarded"].run(f"du -sb {REPOSITORY}/data").stdout.split()[0]
    assert int(used) < 300_000_000
    assert not world.attack("guarded", "list")["refused"]


def test_the_passphrase_changes_on_the_box_alone(world: World) -> None:
    key = world.box.run("cat /etc/lifeboat/agents/hal/repositories/guarded/keys/*").stdout
    untouched = segments(world)
    assert not world.attack("guarded", "change the passphrase")["refused"]
    assert segments(world) == untouched
    # The escrow is as it was, so the box gets its key back with the next rollout.
    path = world.box.run("ls /etc/lifeboat/agents/hal/repositories/guarded/keys/*").stdout.strip()
    world.box.run(f"cat > {path} <<'KEY'\n{key}\nKEY")
    assert not world.attack("guarded", "list")["refused"]


def test_every_refusal_is_counted_and_logged(world: World) -> None:
    counters = "/var/lib/lifeboat/accounts/lb-hal/counters.json"
    file = world.hosts["guarded"].file(counters)
    assert (file.user, file.mode) == ("lb-hal", 0o600)
    counted = json.loads(file.content_string)["refusals"]
    for kind in ("delete", "overwrite", "manifest", "save_key", "nonce", "break_lock", "destroy"):
        assert counted[kind] >= 1, counted
    journal = world.hosts["guarded"].run("journalctl --no-pager -t lifeboat-serve").stdout
    assert "REFUSED overwrite" in journal


def test_history_is_what_it_was(world: World, before: dict[str, dict[str, str]]) -> None:
    after = world.contents("guarded")
    assert before["guarded"].items() <= after.items()


def test_custody_finds_no_tampering_and_status_tells_of_the_refusals(world: World) -> None:
    """The copy that recreate left is a foreign archive; what stood is untouched."""
    audit = world.audit("guarded")
    assert audit["clean"], audit["summary"]
    done = world.play("status.yml", "-e", "repository=guarded")
    assert done.returncode != 0
    assert "was refused" in done.stdout


def test_two_hundred_forged_archives_push_nothing_out(
    world: World, before: dict[str, dict[str, str]]
) -> None:
    """What the guard lets through, because it only adds: the ledger sees it, and it is undone."""
    assert world.after_a_flood("guarded", before["guarded"]) == before["guarded"]


def test_an_archive_that_leaves_the_list_is_missed_and_comes_back(
    world: World, before: dict[str, dict[str, str]]
) -> None:
    """The list of archives is the one object that a box replaces every night."""
    assert not world.attack("guarded", "forget an archive")["refused"]
    assert len(world.contents("guarded")) == len(before["guarded"]) - 1
    assert world.audit("guarded")["clean"], "no object is touched, so only the ledger can tell"
    stopped = world.custody("guarded")
    assert stopped.returncode != 0
    assert "an archive is gone that nobody here deleted" in stopped.stdout
    world.go_back("guarded")
    assert world.contents("guarded") == before["guarded"]


def test_honest_work_goes_on(world: World) -> None:
    done = world.box.run("lifeboat backup hal --json")
    assert done.rc == 0, done.stdout + done.stderr
    night = world.custody("guarded")
    assert night.returncode == 0, night.stdout[-3000:]
