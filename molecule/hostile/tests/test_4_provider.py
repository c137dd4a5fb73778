"""The same storage host as if it were a provider's: no shell, an append-only key, borg's own list of ids."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import World

ACCESS = "/etc/lifeboat/access/lb-ivy"
PATH = "/srv/lifeboat/repositories/ivy"
FORCED = f"/usr/local/bin/lifeboat-borg serve --append-only --restrict-to-repository {PATH}"


@pytest.fixture(scope="module")
def settings(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What the inventory would say of a provider, with a key of the trusted side's own."""
    folder = tmp_path_factory.mktemp("provider")
    key = folder / "identity"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = Path(f"{key}.pub").read_text().strip()
    host = world.hosts["journal"]
    assert host.run(f"cp -a {ACCESS} {ACCESS}.kept 2>/dev/null || touch {ACCESS}.kept").rc == 0
    line = f'restrict,command="{FORCED}" {public}'
    assert host.run(f"printf '%s\\n' '{line}' >> {ACCESS} && chmod 644 {ACCESS}").rc == 0
    given = {
        "agent": "ivy",
        "repository": "journal",
        "custody_method": "scan",
        "custody_identity": key,
        "custody_snapshot_source": "none",
        "custody_ledger_dir": folder / "ledger",
        "custody_state_dir": folder / "state",
    }
    yield [word for name, value in given.items() for word in ("-e", f"{name}={value}")]
    assert host.run(f"mv {ACCESS}.kept {ACCESS}").rc == 0


def test_honest_nights(world: World, settings: list[str]) -> None:
    for _night in range(2):
        done = world.play("custody.yml", *settings)
        assert done.returncode == 0, done.stdout[-3000:]
        assert world.box.run("lifeboat backup ivy").rc == 0


def test_retention_over_its_own_append_only_key(world: World, settings: list[str]) -> None:
    before = world.contents("journal", agent="ivy")
    rule = ["daily=1", "weekly=0", "monthly=0", "floor=1"]
    few = [word for one in rule for word in ("-e", f"custody_retention_{one}")]
    plan = world.play("custody.yml", *settings, *few, "--check")
    assert plan.returncode == 0, plan.stdout[-3000:]
    assert all(name in plan.stdout for name in before), plan.stdout[-3000:]
    assert world.contents("journal", agent="ivy") == before, "a plan changes nothing"
    done = world.play("custody.yml", *settings, *few)
    assert done.returncode == 0, done.stdout[-3000:]
    after = world.contents("journal", agent="ivy")
    assert after == dict([max(before.items())])
    again = world.play("custody.yml", *settings, *few)
    assert again.returncode == 0, "its own deletions are no finding"


def test_what_was_rewritten_is_found(world: World, settings: list[str]) -> None:
    assert not world.attack("journal", "garbage over a chunk", AGENT="ivy")["refused"]
    stopped = world.play("custody.yml", *settings)
    assert stopped.returncode != 0
    assert "NOTHING IS DELETED" in stopped.stdout
    assert "an object of the accepted state was stored again" in stopped.stdout
    back = world.play("rollback.yml", *settings)
    assert back.returncode != 0
    assert "put one of its snapshots back" in " ".join(back.stdout.split())
    # The host is ours after all, and has a ledger of its own.
    known = world.play("rollback.yml", *settings[:4])
    assert known.returncode == 0, known.stdout[-3000:]
