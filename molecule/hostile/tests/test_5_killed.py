"""The control host dies in the middle of custody, at random moments; every time the next night makes it good."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

from conftest import World

KILLS = int(os.environ.get("CUSTODY_KILLS", "4"))
LOCKOUT = 120  # seconds; a lockout that nobody lifts ends by itself
CLOSED = "/run/lifeboat/lock/ivy.closed"
COPY = "/srv/lifeboat/repositories/copy"

# Every night has something to delete and something to compact.
NIGHT = {
    "custody_lockout_seconds": LOCKOUT,
    "custody_lockout_wait": 5,
    "custody_retention_daily": 1,
    "custody_retention_weekly": 0,
    "custody_retention_monthly": 0,
    "custody_retention_floor": 1,
    "custody_new_per_night": 100,
    "custody_compact_every_days": 0,
    "custody_compact_delay_hours": 0,
}


def night(world: World) -> list[str]:
    settings = [word for name, value in NIGHT.items() for word in ("-e", f"{name}={value}")]
    return world.playing("custody.yml", "-e", "agent=ivy", "-e", "repository=guarded", *settings)


def live_and_back_up(world: World) -> None:
    done = world.box.run(
        "head -c 100000 /dev/urandom > /home/hal/ivy/memories/1 && lifeboat backup ivy"
    )
    assert done.rc == 0, done.stdout + done.stderr


def killed(world: World, after: float) -> bool:
    """A night with a process group of its own; whether it was killed before it ended."""
    process = subprocess.Popen(
        night(world),
        cwd=world.checkout,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    assert process.returncode == 0, "the night failed by itself"
    return False


def kept_out_no_longer(world: World, *, by_itself: bool) -> None:
    """Wait for the end of a lockout; the end is brought forward when it has been waited for once."""
    host = world.hosts["guarded"]
    if not by_itself:
        assert host.run(f"[ ! -e {CLOSED} ] || echo 1 > {CLOSED}").rc == 0
    until = float(host.run(f"cat {CLOSED} 2>/dev/null || echo 0").stdout)
    assert until < time.time() + LOCKOUT
    time.sleep(max(0.0, until - time.time()))


def whole(world: World) -> bool:
    """What borg says of a copy: its check would leave files of root in the repository."""
    done = world.hosts["guarded"].run(
        f"rm -rf {COPY} && cp -a /srv/lifeboat/repositories/ivy {COPY} &&"
        f" rm -rf {COPY}/lock.* && BORG_BASE_DIR=/root/.copy lifeboat-borg check"
        f" --repository-only {COPY}; code=$?; rm -rf {COPY}; exit $code"
    )
    return bool(done.rc == 0)


def test_custody_killed_at_random_moments(world: World) -> None:
    live_and_back_up(world)
    began = time.monotonic()
    first = subprocess.run(
        night(world),
        capture_output=True,
        text=True,
        cwd=world.checkout,
        check=False,  # asserted with its output
    )
    assert first.returncode == 0, first.stdout[-3000:]
    usual = time.monotonic() - began
    dice = random.Random(int(os.environ.get("CUSTODY_DICE", "4")))
    done = 0
    while done < KILLS:
        live_and_back_up(world)
        if not killed(world, usual * dice.uniform(0.1, 1.3)):
            continue
        done += 1
        kept_out_no_longer(world, by_itself=done == 1)
        assert whole(world), done
        live_and_back_up(world)
        again = subprocess.run(
            night(world),
            capture_output=True,
            text=True,
            cwd=world.checkout,
            check=False,  # asserted with its output
        )
        assert again.returncode == 0, (done, again.stdout[-3000:])
    assert len(world.contents("guarded", agent="ivy")) <= 2
