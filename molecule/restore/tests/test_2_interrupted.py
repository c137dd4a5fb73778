"""Cut off at twenty random moments: the old home or the new one is whole, and the next run completes.

Four agents of one box are restored side by side, five times each. Each restore is killed at a
moment of its own, drawn anew each time: SIGKILL to the playbook and to every process that it
runs on the box. Half of the moments lie anywhere in the run, half where the home is at stake.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, World

AGENTS = ("cut0", "cut1", "cut2", "cut3")
TIMES_EACH = int(os.environ.get("RESTORE_CUTS") or 5)
SEED = int(os.environ.get("RESTORE_SEED") or random.SystemRandom().randrange(10**6))
KILLER = Path(__file__).resolve().parents[1] / "files" / "kill_run.py"
STEPS = "python3 -I -c 'import json,sys; print(json.load(open(sys.argv[1]))[\"step\"])'"


def podman(*words: str) -> str:
    argv = ["podman", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class Cut:
    """One restore that was killed: when, how far it had come, what stood there, what came of it."""

    agent: str
    after: float
    killed: int
    step: str
    home: str
    completed: str

    def row(self) -> str:
        return (
            f"{self.after:5.1f} s  {self.step:10}  {self.killed:2} processes on the box  "
            f"home {self.home:4}  {self.completed:9}  {self.agent}"
        )


class Restores:
    """The restores of one agent, begun and cut."""

    def __init__(self, world: World, agent: str) -> None:
        self.world = world
        self.agent = agent
        self.home = Path(world.agent(agent)["home"])
        self.box = world.agent(agent)["box"]
        self.staging = f"{self.home.parent}/.lifeboat-restore-{agent}"
        self.log = world.inventory.parent / f"{agent}.log"

    def begin(self) -> subprocess.Popen[bytes]:
        """A connection of its own, and a mark in it by which its processes are found."""
        given = (f"agent={self.agent}", f"target={self.box}", "replace=true", "pair=later")
        argv = self.world.argv("restore", *given)
        argv += ["-e", f"ansible_control_path=%(directory)s/{self.agent}-%%C"]
        argv += ["-e", f'{{"ansible_ssh_extra_args": "-o SetEnv=LC_RUN={self.agent}"}}']
        with open(self.log, "wb") as log:
            return subprocess.Popen(
                argv,
                cwd=ROOT,
                env=self.world.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def complete(self) -> float:
        began = time.monotonic()
        code = self.begin().wait(timeout=900)
        assert code == 0, self.log.read_text(encoding="utf-8")[-6000:]
        return time.monotonic() - began

    def cut(self, dice: random.Random, whole_run: float, at_stake: bool) -> tuple[float, int]:
        """Begin, and kill it at a random moment; when, and how many processes of the box ended."""
        state = f"/proc/{self.pid_of_box()}/root{self.staging}/state.json"
        killer = self.killer()
        began = time.monotonic()
        running = self.begin()
        moment = began + whole_run * dice.uniform(0.05, 0.95)
        if at_stake:  # from outside the box, which takes no time
            while running.poll() is None and not os.path.exists(state):
                time.sleep(0.01)
            moment = time.monotonic() + dice.uniform(0.0, whole_run * 0.5)
        while running.poll() is None and time.monotonic() < moment:
            time.sleep(0.01)
        after = time.monotonic() - began
        killed, _unused = killer.communicate(b"now\n")
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
        running.wait(timeout=60)
        again, _unused = self.killer().communicate(b"now\n")  # what was begun in between
        return round(after, 1), int(killed) + int(again)

    def pid_of_box(self) -> str:
        return podman("inspect", "--format", "{{.State.Pid}}", self.world.container(self.box))

    def killer(self) -> subprocess.Popen[bytes]:
        """Waits on the box for a word, so that no time is lost when it comes."""
        argv = ["podman", "exec", "-i", self.world.container(self.box), "python3", "-I", "-c"]
        argv += [KILLER.read_text(encoding="utf-8"), f"LC_RUN={self.agent}"]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def step(self) -> str:
        """How far it had come."""
        if Path(self.staging).name not in self.world.beside(self.agent):
            return "none"
        told = self.world.box(self.agent).run(f"{STEPS} {self.staging}/state.json")
        return told.stdout.strip() or "no state"

    def which(self, old: Any, new: Any) -> str:
        found = self.world.home(self.agent)
        return "old" if found == old else "new" if found == new else "torn"

    def outcome(self, old: Any, new: Any) -> str:
        """After the run that was to complete it: nothing is lost, and nothing is left over."""
        if self.world.home(self.agent) != new:
            return "not the archived home"
        if any("lifeboat-restore" in name for name in self.world.beside(self.agent)):
            return "left something beside the home"
        kept = [self.world.home(self.agent, place) for place in self.world.aside(self.agent)]
        return "completed" if old in kept else "lost the old home"

    def tidy(self) -> None:
        for place in self.world.aside(self.agent):
            self.world.box(self.agent).check_output(f"rm -r {place}")


def one_agent(world: World, agent: str, dice: random.Random) -> list[Cut]:
    """Its life: restored once in peace, then cut and completed again and again."""
    restores = Restores(world, agent)
    whole_run = restores.complete()
    new = world.home(agent)
    restores.tidy()
    cuts = []
    for number in range(TIMES_EACH):
        world.write(agent, "SOUL.md", f"I am the old one, number {number}.\n")
        old = world.home(agent)
        after, killed = restores.cut(dice, whole_run, at_stake=bool(number % 2))
        step, home = restores.step(), restores.which(old, new)
        restores.complete()
        assert world.box(agent).service(f"lifeboat-backup@{agent}.timer").is_running
        cuts.append(Cut(agent, after, killed, step, home, restores.outcome(old, new)))
        restores.tidy()
    return cuts


@pytest.fixture(scope="module")
def cuts(world: World) -> list[Cut]:
    with ThreadPoolExecutor(len(AGENTS)) as together:
        dice = [random.Random(SEED + number) for number in range(len(AGENTS))]
        told = [cut for row in together.map(one_agent, [world] * 4, AGENTS, dice) for cut in row]
    text = table(told)
    world.inventory.with_name("interrupted.txt").write_text(text + "\n", encoding="utf-8")
    print(text)
    return told


def table(cuts: list[Cut]) -> str:
    return "\n".join([f"RESTORE_SEED={SEED}", *sorted(cut.row() for cut in cuts)])


def test_each_time_the_old_home_or_the_new_one_was_whole(cuts: list[Cut]) -> None:
    assert len(cuts) == len(AGENTS) * TIMES_EACH
    assert {cut.home for cut in cuts} <= {"old", "new"}, table(cuts)


def test_each_time_the_second_run_completed_it(cuts: list[Cut]) -> None:
    assert {cut.completed for cut in cuts} == {"completed"}, table(cuts)


def test_the_moments_were_different(cuts: list[Cut]) -> None:
    """Otherwise the twenty moments were one moment, or nothing was killed at all."""
    steps = collections.Counter(cut.step for cut in cuts)
    assert len(steps) >= 3, table(cuts)
    assert sum(cut.killed > 0 for cut in cuts) >= 5, table(cuts)


def test_a_torn_home_would_be_seen(world: World, cuts: list[Cut]) -> None:
    restores = Restores(world, AGENTS[0])
    whole = world.home(AGENTS[0])
    assert restores.which({}, whole) == "new"
    world.write(AGENTS[0], "memories/half.md", "half")
    assert restores.which({}, whole) == "torn"
    world.box(AGENTS[0]).check_output(f"rm {restores.home}/memories/half.md")
    assert restores.which({}, whole) == "new"


def test_a_disk_that_fills_up_costs_nothing_and_room_completes_it(world: World) -> None:
    """A file system without room for more files, which nobody sees who counts bytes."""
    agent, box = "cut1", world.box("cut1")
    box.check_output("rm -rf /root/cut1 && cp -a /home/cut1 /root/cut1")
    count = int(box.check_output("find /root/cut1 | wc -l"))
    mount = f"mount -t tmpfs -o mode=755,size=64m,nr_inodes={count + 12} none /home/cut1"
    box.check_output(f"{mount} && cp -a /root/cut1/. /home/cut1/")
    try:
        world.write(agent, "SOUL.md", "I am the old one, on a full disk.\n")
        old = world.home(agent)
        world.restore(agent, "replace=true").refused("No space left on device", "Make room")
        assert world.home(agent) == old
        box.check_output("mount -o remount,nr_inodes=10000 /home/cut1")
        world.restore(agent, "replace=true").well()
        assert world.box(agent).file("/home/cut1/agent/SOUL.md").content_string == "I am agent.\n"
        assert old in [world.home(agent, place) for place in world.aside(agent)]
        assert not any("lifeboat-restore" in name for name in world.beside(agent))
    finally:
        box.check_output("umount /home/cut1 && rm -r /root/cut1")


FILM = "/home/cut2/agent/workspace/film"
RECEIVES = (
    "for try in $(seq 2400); do"
    " got=$(ss -tniH state established 'dport = :22' | grep -o 'bytes_received:[0-9]*' | cut -d: -f2"
    " | sort -n | tail -1); [ ${got:-0} -gt 3000000 ] && exit 0; sleep 0.05; done; exit 1"
)
CARD = (
    "{{range $name, $card := .NetworkSettings.Networks}}"
    "{{$name}} --ip {{$card.IPAddress}} --mac-address {{$card.MacAddress}}{{end}}"
)
DROP = (
    "nft add table inet cut; for hook in input output; do"
    " nft add chain inet cut $hook '{ type filter hook '$hook' priority 0; policy drop; }'; done"
)


@dataclass(frozen=True)
class Film:
    """An agent whose archive takes a while to extract, and the homes before and after."""

    restores: Restores
    old: Any
    new: Any

    def half_way(self) -> subprocess.Popen[bytes]:
        """A restore that is under way, with part of the film on the box."""
        running = self.restores.begin()
        self.restores.world.box("cut2").check_output(RECEIVES)
        return running

    def completed(self) -> None:
        restores = self.restores
        assert restores.which(self.old, self.new) == "old"
        assert restores.step() in ("none", "extracting", "no state"), restores.step()
        restores.complete()
        assert restores.outcome(self.old, self.new) == "completed"


@pytest.fixture
def film(world: World) -> Iterator[Film]:
    box, restores = world.box("cut2"), Restores(world, "cut2")
    box.check_output(f"runuser -u cut2 -- mkdir -p {restores.home}/workspace")
    box.check_output(f"[ -e {FILM} ] || head -c 200M /dev/urandom > {FILM}; chown cut2: {FILM}")
    world.play("backup", "agent=cut2").well()
    new = world.home("cut2")
    world.write("cut2", "SOUL.md", "I am the old one, and the cable is pulled.\n")
    yield Film(restores, world.home("cut2"), new)
    restores.tidy()


@contextlib.contextmanager
def cable_pulled(world: World) -> Iterator[None]:
    """Nothing goes in or out of the box, and nobody is told."""
    name = world.container(world.agent("cut2")["box"])
    inside = ["podman", "exec", name, "sh", "-c"]
    subprocess.run([*inside, DROP], check=True)
    try:
        yield
    finally:
        subprocess.run([*inside, "nft delete table inet cut"], check=True)


def test_a_cable_that_is_pulled_costs_nothing(world: World, film: Film) -> None:
    running = film.half_way()
    with cable_pulled(world):
        began = time.monotonic()
        assert running.wait(timeout=400) != 0
        took = time.monotonic() - began
    print(f"the restore ended {took:.0f} s after the cable was pulled")
    film.completed()


def test_a_box_that_loses_its_power_restores_when_it_is_back(world: World, film: Film) -> None:
    name = world.container(world.agent("cut2")["box"])
    network, *card = podman("inspect", "--format", CARD, name).split()
    running = film.half_way()
    podman("kill", name)
    assert running.wait(timeout=400) != 0
    podman("start", name)
    # A container gets another card and address each time; a box keeps its own.
    podman("network", "disconnect", network, name)
    podman("network", "connect", *card, network, name)
    world.box("cut2").run("systemctl is-system-running --wait")
    film.completed()
