"""What the box's key opens at a storage host, guarded or not: one repository, when nobody works on it."""

from __future__ import annotations

import json

import pytest
from conftest import REPOSITORY, World

HOSTS = ["guarded", "journal"]
HELD = "/run/attack.held"

pytestmark = pytest.mark.parametrize("name", HOSTS)


@pytest.mark.parametrize(
    "asked",
    [("--", "id"), ("--", "sh -c id"), ("--", "borg --version"), ("--",), ("-s", "--", "sftp")],
    ids=" ".join,
)
def test_no_shell(world: World, name: str, asked: tuple[str, ...]) -> None:
    """Whatever is asked for, the forced command answers."""
    said = world.knock(name, *asked)
    assert "connection close before repository was opened" in said["stdout"], said
    assert "uid=" not in said["stdout"]


def test_no_terminal(world: World, name: str) -> None:
    said = world.knock(name, "-tt", "--", "id")
    assert "PTY allocation request failed" in said["stderr"], said
    assert "uid=" not in said["stdout"]


def test_no_forwarding(world: World, name: str) -> None:
    through = world.knock(name, "-W", "127.0.0.1:22", "--")
    assert "SSH-2.0" not in through["stdout"]
    assert "open failed" in through["stderr"] or "prohibited" in through["stderr"], through
    strict = ("-N", "-o", "ExitOnForwardFailure=yes")
    for forwarded in ("127.0.0.1:4022:127.0.0.1:22", "/run/lb.sock:127.0.0.1:22"):
        back = world.knock(name, *strict, "-R", forwarded, "--")
        assert back["rc"] == 255, back
        assert "forwarding failed" in back["stderr"], back


def test_no_other_repository(world: World, name: str) -> None:
    own = world.opens(name, REPOSITORY)
    assert own["opened"], own
    theirs = "/srv/lifeboat/repositories/ivy"
    assert world.hosts[name].file(f"{theirs}/config").exists
    snapshots = "/srv/lifeboat/snapshots"
    for path in (theirs, f"{REPOSITORY}/../ivy", "/srv/lifeboat", snapshots, "/", "/etc"):
        said = world.opens(name, path)
        assert not said["opened"], (path, said)
        assert not said["id"]
        assert "refused open" in said["message"] or "not allowed" in said["message"], (path, said)


def test_kept_out_by_maintenance(world: World, name: str) -> None:
    with world.closed(name):
        for act in ("list", "break the lock", "create"):
            answer = world.attack(name, act)
            assert answer["refused"]
            assert "maintenance" in answer["message"], answer
    assert not world.attack(name, "list")["refused"]


def test_a_lock_held_for_ever_is_ended_by_custody(world: World, name: str) -> None:
    began = world.box.run(
        f"rm -f /run/attack.holds {HELD}; SECONDS_HELD=900"
        f" nohup python3 /root/attack.py {name} 'hold the lock' > {HELD} 2>&1 &"
        " for second in $(seq 60); do [ -e /run/attack.holds ] && exit 0; sleep 1; done; exit 1"
    )
    assert began.rc == 0, world.box.run(f"cat {HELD}").stdout
    waiting = world.attack(name, "list")
    assert waiting["refused"], "the control: the lock is really held"
    assert "lock" in waiting["message"].lower(), waiting
    done = world.custody(name, "-e", "custody_lockout_wait=3")
    assert done.returncode == 0, done.stdout[-3000:]
    said = world.box.run(
        f"for s in $(seq 60); do [ -s {HELD} ] && break; sleep 1; done; cat {HELD}"
    )
    answer = json.loads(said.stdout)
    assert answer["refused"], answer
    assert not world.attack(name, "list")["refused"], "the lock is free again"
    assert world.audit(name)["clean"]
