"""The network is cut while borg sends, and the power of the box goes off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import World

DROP = (
    "nft add table inet cut; for hook in input output; do"
    " nft add chain inet cut $hook '{ type filter hook '$hook' priority 0; policy drop; }'; done"
)


@contextmanager
def cut(world: World) -> Iterator[None]:
    """Nothing goes in or out, and nobody is told: the way a cable is pulled."""
    world.must("box", DROP)
    try:
        yield
    finally:
        world.must("box", "nft delete table inet cut")


def until_it_sends(world: World) -> None:
    """Wait until the agent's newest bytes are on their way."""
    script = (
        "for try in $(seq 2400); do"
        " sent=$(ss -tniH 'dport = :22' | grep -o 'bytes_sent:[0-9]*' | cut -d: -f2 | sort -n |"
        " tail -1); [ ${sent:-0} -gt 3000000 ] && exit 0; sleep 0.05; done; exit 1"
    )
    world.must("box", script)


def begin_something_long(world: World) -> None:
    world.must("box", "head -c 150M /dev/urandom > /home/kit/agent/workspace/film")
    world.begin()
    until_it_sends(world)


def test_a_short_cut_is_survived(world: World) -> None:
    begin_something_long(world)
    with cut(world):
        time.sleep(15)
    ended = world.end()
    world.must("box", "rm /home/kit/agent/workspace/film")
    assert ended.went_well, ended


def test_a_cut_ends_the_run_and_not_the_next(world: World) -> None:
    begin_something_long(world)
    began = time.monotonic()
    with cut(world):
        ended = world.end(seconds=400)
        took = time.monotonic() - began
        world.must("box", "rm /home/kit/agent/workspace/film")
    assert ended.failed_loudly, ended
    assert "connection" in ended.status["message"], ended.status
    assert took < 300, "a dead connection was waited for too long"
    again = world.backup()
    assert again.went_well, again


def test_the_power_goes_off(world: World) -> None:
    """First the network, so that the storage host hears nothing of the end, as it is in life.

    The box comes back with another network card, which is what borg tells hosts apart by.
    """
    timer = "lifeboat-backup@kit.timer"
    world.must("box", f"systemctl disable {timer}")  # it would catch up while we look
    begin_something_long(world)
    world.must("box", DROP)
    assert world.podman("kill", f"{world.prefix}-box").returncode == 0
    world.must("vault-1", "pgrep --full '[l]ifeboat-serve|[b]org.*serve'")
    assert world.podman("start", f"{world.prefix}-box").returncode == 0
    world.on("box", "systemctl is-system-running --wait")
    shown = world.on("box", "lifeboat status kit")
    assert shown.returncode == 1
    assert "the run was killed before it ended" in shown.stdout, shown.stdout
    before = world.told("kit", 1, {"ActiveState": "failed"})
    assert before.failed_loudly, before
    world.must("box", "rm /home/kit/agent/workspace/film")
    began = time.monotonic()
    again = world.backup()
    world.must("box", f"systemctl enable --now {timer}")
    assert again.went_well, again
    print(f"the run after the power went off took {time.monotonic() - began:.0f} s")
