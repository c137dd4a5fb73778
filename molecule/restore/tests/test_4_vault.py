"""What keeps the vault fit for the bad night: the proof, new secrets, and an agent that leaves."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import BORG, ROOT, World, vault
from testinfra.host import Host

AGENT = "sam"
SECRETS = "/etc/lifeboat/agents/sam/repositories/vault-1"
KILLER = Path(__file__).resolve().parents[1] / "files" / "kill_run.py"
ROTATIONS = int(os.environ.get("RESTORE_ROTATIONS") or 2)
REPOSITORY = "/srv/lifeboat/repositories/sam"
OPENED = "escrow: the passphrase opens the key, and both the repository"


def escrow(world: World, agent: str = AGENT) -> dict[str, Any]:
    """The one repository of the agent, as the vault has it."""
    content = yaml.safe_load(vault("view", str(world.vault / f"{agent}.yml")))
    found: dict[str, Any] = content["lifeboat_escrow"]["repositories"]["vault-1"]
    return found


def works(world: World) -> None:
    """A backup reaches the repository, and a restore comes out of it."""
    count = len(world.archives(AGENT))
    world.play("backup", f"agent={AGENT}").well()
    assert len(world.archives(AGENT)) == count + 1
    world.write(AGENT, "memories/USER.md", "Wrecked.\n")
    world.restore(AGENT, "only=memories/USER.md").well()
    found = world.box(AGENT).file("/home/sam/agent/memories/USER.md").content_string
    assert found == "Likes coffee.\n"


def learn_host_key(world: World) -> None:
    """What the runbook says is to be done by hand: the control side learns the new key."""
    name = world.container("vault-1")
    told = subprocess.run(
        ["podman", "exec", name, "ssh-keygen", "-y", "-f", "/etc/ssh/ssh_host_ed25519_key"],
        check=True,
        capture_output=True,
        text=True,
    )
    known = world.first_inventory.parent / "boxes" / name / "known_hosts"
    known.write_text(f"{name} {' '.join(told.stdout.split()[:2])}\n", encoding="utf-8")


def test_the_vault_alone_opens_every_repository(world: World) -> None:
    done = world.runbook("ansible-playbook playbooks/escrow.yml").well()
    said = " ".join(done.output.split())
    for agent in ("ada", "sam"):
        assert f"{agent} in vault-1: the escrow opens it" in said


def test_a_paper_copy_is_made_for_the_printer(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "paper"
    world.play("escrow", f"agent={AGENT}", f"paper={folder}").well()
    assert folder.stat().st_mode & 0o077 == 0
    text = (folder / "sam-vault-1.txt").read_text(encoding="utf-8")
    assert escrow(world)["passphrase"] in text
    assert escrow(world)["repository_id"] in text
    assert "BORG PAPER KEY" in text
    assert "<svg" in (folder / "sam-vault-1.html").read_text(encoding="utf-8")


def test_an_escrow_that_does_not_open_is_found_and_spoils_no_box(world: World) -> None:
    """A vault file that is complete, encrypted, and worth nothing: one letter is wrong."""
    on_the_box = world.look("box", f"{SECRETS}/passphrase", f"{SECRETS}/keys")
    entry = world.vault / f"{AGENT}.yml"
    right, passphrase = entry.read_bytes(), escrow(world)["passphrase"]
    plain = vault("view", str(entry))
    assert plain.count(passphrase) == 1
    entry.write_text(plain.replace(passphrase, f"x{passphrase[1:]}"), encoding="utf-8")
    vault("encrypt", str(entry))
    try:
        done = world.play("escrow", f"agent={AGENT}")
        stands = world.play("status", f"agent={AGENT}", BORG)
        rollout = world.play("site")
        rotation = world.play("rotate", "what=passphrase", f"agent={AGENT}")
    finally:
        entry.write_bytes(right)
    done.refused("passphrase")
    assert "the escrow opens it" not in done.output
    stands.refused("escrow: the passphrase does not open the key")
    rollout.refused("the passphrase does not open the key", "Nothing was changed.")
    rotation.refused("passphrase")
    assert world.look("box", f"{SECRETS}/passphrase", f"{SECRETS}/keys") == on_the_box
    assert OPENED in world.play("status", f"agent={AGENT}", BORG).output


def test_a_repository_that_the_escrow_does_not_open_is_a_problem(world: World) -> None:
    """Passphrase and key fit together, and there is nothing left that they could open."""
    storage = world.host("vault-1")
    storage.check_output(f"mv {REPOSITORY} {REPOSITORY}.elsewhere")
    try:
        done = world.play("status", f"agent={AGENT}", BORG)
    finally:
        storage.check_output(f"mv {REPOSITORY}.elsewhere {REPOSITORY}")
    done.refused("escrow: it does not open the repository")
    assert OPENED not in done.output
    assert "lifeboat-grant" not in storage.run(f"cat /etc/lifeboat/access/lb-{AGENT}").stdout


def test_a_new_passphrase(world: World) -> None:
    before, key = escrow(world), world.box(AGENT).check_output(f"cat {SECRETS}/keys/*")
    world.runbook("ansible-playbook playbooks/rotate.yml -e what=passphrase -e agent=acme").well()
    after = escrow(world)
    assert after["passphrase"] != before["passphrase"]
    assert world.box(AGENT).check_output(f"cat {SECRETS}/passphrase") == after["passphrase"]
    assert world.box(AGENT).check_output(f"cat {SECRETS}/keys/*") != key
    assert after["repository_id"] == before["repository_id"]
    works(world)


def test_a_new_ssh_key(world: World) -> None:
    box = world.box(AGENT)
    box.check_output(f"cp -p {SECRETS}/ssh_key /root/former_key")
    before = world.host("vault-1").check_output(f"cat /etc/lifeboat/authorized_keys/lb-{AGENT}")
    world.runbook("ansible-playbook playbooks/rotate.yml -e what=ssh_key -e agent=acme").well()
    after = world.host("vault-1").check_output(f"cat /etc/lifeboat/authorized_keys/lb-{AGENT}")
    assert after != before
    assert len([word for word in after.split() if word.startswith("AAAA")]) == 1
    config = json.loads(box.check_output(f"cat /etc/lifeboat/agents/{AGENT}/config.json"))
    to = config["repositories"][0]
    user_and_host = to["url"].removeprefix("ssh://").partition(":")[0]
    tried = box.run(
        f"ssh -i /root/former_key -o IdentitiesOnly=yes -o BatchMode=yes"
        f" -o UserKnownHostsFile={to['known_hosts']} {user_and_host} borg serve < /dev/null"
    )
    assert tried.rc == 255 and "Permission denied" in tried.stderr
    works(world)


def test_new_host_keys(world: World) -> None:
    before = escrow(world)["host_keys"]
    world.runbook(
        "ansible-playbook playbooks/rotate.yml -e what=host_keys -e repository=vault1.example.net"
    ).well()
    after = escrow(world)["host_keys"]
    public = world.host("vault-1").check_output("cat /etc/ssh/ssh_host_ed25519_key.pub")
    assert after != before
    assert [" ".join(public.split()[:2])] == after
    assert escrow(world, "ada")["host_keys"] == after
    learn_host_key(world)
    works(world)


def cut(world: World, after: float, *given: str) -> bool:
    """A rotation that is killed with all that it began; whether it was still at work."""
    mark = f"lifeboat-rotation-{secrets.token_hex(4)}"
    running = subprocess.Popen(
        world.argv("rotate", *given),
        cwd=ROOT,
        env={**world.environment, "LIFEBOAT_TEST_RUN": mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.wait(timeout=after)
    at_work = running.poll() is None
    kill = [sys.executable, "-I", str(KILLER), f"LIFEBOAT_TEST_RUN={mark}"]
    subprocess.run(kill, input=b"now\n", check=True, capture_output=True)
    running.wait(timeout=60)
    return at_work


@pytest.mark.parametrize(
    "given",
    [
        ("what=passphrase", "agent=sam"),
        ("what=ssh_key", "agent=sam"),
        ("what=host_keys", "repository=vault-1"),
    ],
    ids=lambda given: given[0],
)
def test_a_rotation_that_is_cut_locks_nobody_out_and_is_completed(
    world: World, given: tuple[str, str]
) -> None:
    seed = int(os.environ.get("RESTORE_SEED") or random.SystemRandom().randrange(10**6))
    dice = random.Random(seed)
    whole = max(seconds for command, seconds in world.seconds.items() if given[0] in command)
    for _cut in range(ROTATIONS):
        after = whole * dice.uniform(0.2, 0.9)
        at_work = cut(world, after, *given)
        print(f"RESTORE_SEED={seed}: cut after {after:.1f} s of {whole:.1f} s: {at_work}")
        learn_host_key(world)
        said = world.play("escrow", f"agent={AGENT}").well().output
        assert "the escrow opens it" in said  # the vault alone always suffices
        world.play("rotate", *given).well()
        learn_host_key(world)
    works(world)


def test_what_cannot_be_rotated_is_refused(world: World) -> None:
    before = escrow(world)
    world.play("rotate", "what=everything", "agent=sam").refused(
        "Nothing was changed.", "host_keys"
    )
    world.play("rotate", "what=passphrase", "agent=nobody").refused("Nothing was changed.", "sam")
    assert escrow(world) == before


def noted(storage: Host) -> dict[str, str]:
    """What the storage host notes of the agent that left."""
    note: dict[str, str] = json.loads(
        storage.file(f"/etc/lifeboat/retired/{AGENT}.json").content_string
    )
    return note


def days_kept(note: dict[str, str]) -> int:
    kept, retired = (date.fromisoformat(note[key][:10]) for key in ("keep_until", "retired"))
    return (kept - retired).days


def test_an_agent_leaves_and_its_history_stays(world: World) -> None:
    box, storage = world.box(AGENT), world.host("vault-1")
    kept = world.look("vault-1", REPOSITORY)
    world.runbook("ansible-playbook playbooks/retire.yml -e agent=acme -e keep_days=365").well()
    assert not storage.file(f"/etc/lifeboat/authorized_keys/lb-{AGENT}").exists
    assert not storage.file(f"/etc/lifeboat/access/lb-{AGENT}").exists
    assert not box.service(f"lifeboat-backup@{AGENT}.timer").is_running
    assert box.run(f"systemctl cat lifeboat-backup@{AGENT}.timer").rc != 0
    for place in (f"/etc/lifeboat/agents/{AGENT}", f"/var/lib/lifeboat/{AGENT}"):
        assert not box.file(place).exists, place
    assert box.service("lifeboat-backup@ada.timer").is_running
    note = noted(storage)
    assert note["agent"] == AGENT and days_kept(note) == 365
    assert (world.vault / f"{AGENT}.yml").exists()
    assert world.look("vault-1", REPOSITORY) == kept


def test_only_a_number_of_days_moves_the_date_until_which_a_history_is_kept(world: World) -> None:
    storage = world.host("vault-1")
    first = noted(storage)
    world.play("retire", f"agent={AGENT}", "box=gone").well()
    assert noted(storage) == first
    world.play("retire", f"agent={AGENT}", "box=gone", "keep_days=30").well()
    assert noted(storage)["retired"] == first["retired"]
    assert days_kept(noted(storage)) == 30


def test_a_retired_agent_can_still_be_restored(world: World) -> None:
    world.restore(AGENT, target="box:/srv/look").well()
    found = world.box(AGENT).file("/srv/look/memories/USER.md").content_string
    assert found == "Likes coffee.\n"


@pytest.mark.parametrize("typed", ["sa", "ada", "true"])
def test_nothing_is_deleted_by_half_a_name(world: World, typed: str) -> None:
    done = world.play("retire", f"agent={AGENT}", f"delete_repository={typed}")
    done.refused("Nothing was changed.")
    assert world.host("vault-1").file(REPOSITORY).exists


def test_its_history_is_deleted_by_its_full_name(world: World) -> None:
    world.play("retire", f"agent={AGENT}", "box=gone", f"delete_repository={AGENT}").well()
    storage = world.host("vault-1")
    assert not storage.file(REPOSITORY).exists
    assert not storage.file(f"/etc/lifeboat/retired/{AGENT}.json").exists
    assert (world.vault / f"{AGENT}.yml").exists()
    assert storage.file("/srv/lifeboat/repositories/ada/config").exists
