"""Drills on real boxes that have to end badly, and ten at once; docs/drill.md has the table."""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import ROOT, TEN
from endings import ASKED, HARM, LOST, NO_SNAPSHOT, STOPPED, UNREACHABLE, Ending

if TYPE_CHECKING:
    from conftest import Ended, World

RESULTS = {1: "not_proven", 2: "could_not_run"}
REPOSITORIES = "/srv/lifeboat/repositories"
TIMERS = ROOT / "molecule" / "drill" / "files" / "timers.yml"
# Three drills at once, with everything that they start on this machine.
MEMORY_LIMIT = 1500.0


def as_told(ended: Ended, agent: str, ending: Ending) -> None:
    verdict = ended.records[agent]["verdict"]
    assert (verdict["result"], verdict["exit_code"]) == (RESULTS[ending.code], ending.code), verdict
    assert ending.reason in verdict["reason"], verdict
    assert verdict["hint"] or ending.code == 2, verdict


def nothing_is_left(world: World) -> None:
    assert world.boxes() == []
    for agent in TEN.split(","):
        assert "lifeboat-grant" not in world.granted(agent), agent
    assert world.host("vault-1").run("mount").stdout.count("/run/lifeboat/drill") == 0
    left = [path.name for path in (world.folder / "boxes").glob("drill-*")]
    assert left == []


def test_a_snapshot_of_the_storage_brings_the_agent_back(world: World) -> None:
    ended = world.drill("-e", "agent=a0", "-e", "source=snapshot", "-e", "archive=random")
    assert ended.code == 0, ended.output[-3000:]
    assert ended.only["drill"]["source"] == "snapshot"
    assert ended.only["drill"]["selection"] == "random"
    assert ended.only["archive"]["name"] in world.archives("a0")[:-1]
    nothing_is_left(world)


@pytest.mark.parametrize("way", ["archive", "at"])
def test_an_older_archive_is_found_by_its_name_and_by_a_time(world: World, way: str) -> None:
    older, newest = world.archives("a0")[-2:]
    asked = older if way == "archive" else newest.removeprefix("a0-")
    if way == "at":  # a second before the newest was made
        moment = datetime.datetime.strptime(asked, "%Y-%m-%dT%H:%M:%SZ")
        asked = f"{moment - datetime.timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
    ended = world.drill("-e", "agent=a0", "-e", f"{way}={asked}")
    assert ended.code == 0, ended.output[-3000:]
    assert ended.only["archive"]["name"] == older
    assert ended.only["drill"]["selection"] == {"archive": "named", "at": "at"}[way]


def test_everything_stored_is_verified_and_compared_with_the_live_agent(world: World) -> None:
    """The live agent has something new, and the inventory says something else than was deployed."""
    box = world.host("box")
    box.check_output("runuser -u fleet -- touch /home/fleet/a0/newthing")
    try:
        ended = world.drill(
            *("-e", "agent=a0", "-e", "check=data"),
            drill_production=True,
            backup_compression="lz4",
        )
    finally:
        box.check_output("rm /home/fleet/a0/newthing")
    assert ended.code == 0, ended.output[-3000:]
    states = {state["level"]: state["status"] for state in ended.only["levels"]}
    assert [states[level] for level in range(5)] == ["reached"] * 5
    drift = {(item["direction"], item["where"]): item["todo"] for item in ended.only["drift"]}
    assert drift.keys() == {
        ("production", "newthing"),
        ("production", "compression: zstd,3, inventory lz4"),
        ("archive", "compression: zstd,3, inventory lz4"),
    }
    assert all(drift.values())


def test_a_killed_drill_leaves_what_ends_by_itself_and_the_next_removes_it(world: World) -> None:
    process = subprocess.Popen(
        world.command("-e", "agent=a0", drill_box_time_to_live=1),
        cwd=ROOT,
        env=world.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 600
    while not world.boxes():
        assert process.poll() is None, "the drill ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (left,) = world.boxes()
    assert (world.folder / "boxes" / left).is_dir()
    while world.run("podman", "inspect", "--format", "{{.State.Running}}", left).stdout == "true\n":
        assert time.monotonic() < deadline
        time.sleep(1)
    over = 'restrict,expiry-time="202001010000Z",command="false" ssh-ed25519 AAAA lifeboat-grant'
    world.host("vault-1").run("echo %s >> /etc/lifeboat/access/lb-a0", over)
    ended = world.drill("-e", "agent=a0")
    assert ended.code == 0, ended.output[-3000:]
    assert world.boxes() == []
    assert not (world.folder / "boxes" / left).exists()
    assert "202001010000Z" not in world.granted("a0")


def test_the_key_of_a_drill_reads_one_repository_for_a_while(world: World) -> None:
    granted: list[str] = []
    with subprocess.Popen(
        world.command("-e", "agent=a0"),
        cwd=ROOT,
        env=world.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while not granted:
            assert process.poll() is None, "the drill ended and was never let in"
            time.sleep(0.3)
            granted = [line for line in world.granted("a0").splitlines() if "grant" in line]
        assert process.wait(600) == 0
    (line,) = granted
    key = r'restrict,expiry-time="(\d{12})Z",command="([^"]+)" ssh-ed25519 [A-Za-z0-9+/=]+ lifeboat-grant'
    told = re.fullmatch(key, line)
    assert told, line
    ends = datetime.datetime.strptime(told[1] + "+0000", "%Y%m%d%H%M%z")
    left = ends - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(0) < left <= datetime.timedelta(hours=2), left
    assert re.findall(rf"{REPOSITORIES}/\S+", told[2]) == [f"{REPOSITORIES}/a0"], told[2]
    assert told[2].endswith("--read-only"), told[2]
    nothing_is_left(world)


def installed(folder: Path) -> Path:
    """The collection, built and installed into a folder, as a user without a checkout has it."""
    for argv in (
        ("build", str(ROOT), "--output-path", str(folder)),
        ("install", "--offline", "--no-deps", "--force", "--collections-path", str(folder), "{}"),
    ):
        made = [str(path) for path in folder.glob("lifeboat-agents-*.tar.gz")]
        words = [made[0] if word == "{}" else word for word in argv]
        done = subprocess.run(
            ["ansible-galaxy", "collection", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "ansible_collections" / "lifeboat" / "agents" / "MANIFEST.json").is_file()
    return folder


@pytest.mark.parametrize("origin", ["checkout", "installed"])
def test_the_timer_of_the_monthly_drill(world: World, tmp_path: Path, origin: str) -> None:
    """Its units lie on the box of the agents, which stands for a control host here."""
    environment = dict(world.environment)
    if origin == "installed":
        del environment["ANSIBLE_CONFIG"]
        environment["ANSIBLE_COLLECTIONS_PATH"] = str(installed(tmp_path))
    done = subprocess.run(
        ["ansible-playbook", "--inventory", str(world.inventory), str(TIMERS)],
        cwd=ROOT if origin == "checkout" else tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    box = world.host("box")
    shown = box.check_output(
        "systemctl show lifeboat-drill.timer -p Persistent,TimersCalendar,ActiveState"
    )
    assert "Persistent=yes" in shown
    assert "OnCalendar=*-*-01 07:00:00" in shown
    assert "ActiveState=active" in shown
    unit = world.unit("box", "lifeboat-drill.service")
    (command,) = unit["ExecStart"]
    program = command.split('"')[1]
    box.check_output("mkdir -p %s && ln -sf /usr/bin/true %s", str(Path(program).parent), program)
    analyzed = box.run("systemd-analyze verify lifeboat-drill.service lifeboat-drill.timer")
    assert analyzed.rc == 0, analyzed.stderr
    # What the unit says is done here, where Ansible is, in its folder and with nothing but its environment.
    ended = world.obey(unit, "--extra-vars", '{"agent": "a0", "drill_production": false}')
    assert ended.code == 0, ended.output[-3000:]
    assert ended.only["verdict"]["result"] == "proven"
    assert (str(tmp_path) in " ".join(unit["Environment"])) == (origin == "installed")


def test_ten_at_once_with_one_of_them_broken(world: World) -> None:
    with world.escrow_changed("a7", passphrase="not the passphrase"), world.watched() as load:
        ended = world.drill("-e", f"agent={TEN}", "-e", "parallel=3")
    assert ended.code == 1, ended.output[-3000:]
    results = ended.results
    assert results.pop("a7") == "not_proven"
    assert list(results.values()) == ["proven"] * 9, ended.output[-5000:]
    assert "9 of 10 proven, 1 not proven" in ended.output
    print(f"at most {load.boxes} boxes and {load.megabytes:.0f} MB at once")
    assert load.boxes == 3
    assert load.megabytes < MEMORY_LIMIT
    nothing_is_left(world)
    record = ended.records["a0"]
    assert record["verdict"]["level"] == 4
    assert {"fence", "content", "database_rows", "pairings"} <= {
        check["name"] for check in record["checks"] if check["status"] == "passed"
    }


def test_harm_to_what_was_restored_is_named(world: World) -> None:
    spoil = {agent: harm.command for agent, harm in HARM.items()}
    ended = world.drill("-e", f"agent={TEN}", spoil=spoil)
    assert ended.code == 1, ended.output[-3000:]
    assert set(ended.records) == set(HARM)
    for agent, harm in HARM.items():
        record = ended.records[agent]
        assert record["verdict"]["result"] == "not_proven", agent
        assert record["drill"]["rehearsal"] == "spoil.yml"
        failed = ended.failed(agent)
        for check, offender in harm.found.items():
            assert offender in failed.get(check, ""), (agent, check, failed)
    assert "NOT PROVEN" in ended.output
    nothing_is_left(world)


def test_a_rehearsal_without_harm_is_no_proof(world: World) -> None:
    ended = world.drill("-e", "agent=a0", spoil={"a0": "true"})
    assert ended.code == 1
    assert ended.failed("a0").keys() == {"rehearsal"}


@contextmanager
def moved(host: Any, path: str, aside: str) -> Iterator[None]:
    assert host.run("mv %s %s", path, aside).rc == 0
    try:
        yield
    finally:
        assert host.run("rm -rf %s && mv %s %s", path, aside, path).rc == 0


@contextmanager
def exchanged(host: Any, agent: str, other: str) -> Iterator[None]:
    """Another agent's repository in the place of this one, as the account's own."""
    path = f"{REPOSITORIES}/{agent}"
    with moved(host, path, f"{path}.kept"):
        done = host.run(
            f"cp -a {REPOSITORIES}/{other} {path} && chown -R --from=lb-{other} lb-{agent} {path}"
            f" && chown -R --from=:lb-{other} :lb-{agent} {path}"
        )
        assert done.rc == 0, done.stderr
        yield


DAMAGE = """
import pathlib
for segment in pathlib.Path({path!r}).glob("data/*/*"):
    if segment.stat().st_size > 2000:
        with segment.open("r+b") as stream:
            stream.seek(segment.stat().st_size // 2)
            stream.write(bytes(256))
"""


@contextmanager
def damaged(host: Any, path: str) -> Iterator[None]:
    """A copy in the repository's place, with wrong bytes in every larger segment."""
    with moved(host, path, f"{path}.kept"):
        assert host.run("cp -a %s %s", f"{path}.kept", path).rc == 0
        done = host.run("python3 -I -c %s", DAMAGE.format(path=path))
        assert done.rc == 0, done.stderr
        yield


def test_what_is_lost_with_escrow_or_repository_is_told(world: World) -> None:
    host = world.host("vault-1")
    key = world.read_escrow("a9")["lifeboat_escrow"]["repositories"]["vault-1"]["key"]
    hasty = [
        {**agent, "rto_target": "1s"} if agent["name"] == "a7" else agent for agent in world.agents
    ]
    with ExitStack() as stack:
        stack.enter_context(world.escrow_changed("a0", passphrase="not the passphrase"))
        stack.enter_context(world.escrow_changed("a1"))
        stack.enter_context(world.escrow_changed("a2", key=""))
        stack.enter_context(world.escrow_changed("a3", key=key))
        stack.enter_context(moved(host, f"{REPOSITORIES}/a4", f"{REPOSITORIES}/a4.kept"))
        stack.enter_context(exchanged(host, "a5", "a9"))
        stack.enter_context(damaged(host, f"{REPOSITORIES}/a6"))
        ended = world.drill("-e", f"agent={','.join(LOST)}", backup_agents=hasty)
    assert ended.code == 1, ended.output[-3000:]
    assert set(ended.records) == set(LOST)
    for agent, ending in LOST.items():
        as_told(ended, agent, ending)
    assert world.boxes() == []


def test_a_box_that_is_lost_or_out_of_time_ends_with_2(world: World) -> None:
    ended = world.drill(
        *("-e", f"agent={','.join(STOPPED)}"),
        spoil={"a1": "sleep 600"},
        spoil_box={"a0": ["podman", "kill", "{{ inventory_hostname }}"]},
        drill_box_time_to_live=3,
    )
    assert ended.code == 2, ended.output[-3000:]
    for agent, ending in STOPPED.items():
        as_told(ended, agent, ending)
    nothing_is_left(world)


def test_a_storage_host_that_does_not_answer_ends_with_2(world: World) -> None:
    container = world.container("vault-1")
    world.run("podman", "pause", container)
    try:
        ended = world.drill("-e", "agent=a0")
    finally:
        world.run("podman", "unpause", container)
    assert ended.code == 2, ended.output[-3000:]
    as_told(ended, "a0", UNREACHABLE)


@pytest.mark.parametrize("arguments", ASKED, ids=lambda arguments: ASKED[arguments].what)
def test_what_cannot_be_had(world: World, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ending = ASKED[arguments]
    wrong = tmp_path / "wrong"
    wrong.write_text("another secret than the vault's\n")
    arguments = tuple(str(wrong) if word == "WRONG" else word for word in arguments)
    agent = () if "agent=nobody" in arguments else ("-e", "agent=a0")
    if "--vault-password-file" in arguments:  # beside it Ansible would take the environment's
        kept = {k: v for k, v in world.environment.items() if k != "ANSIBLE_VAULT_PASSWORD_FILE"}
        world = dataclasses.replace(world, environment=kept)
    ended = world.drill(*agent, *arguments)
    assert ended.code == ending.code, ended.output[-3000:]
    assert ending.reason in ended.output
    if "--limit" not in arguments:  # refused before there is a run to be recorded
        assert set(ended.records) == {word.removeprefix("agent=") for word in agent[1:]}
    assert all(record["verdict"]["exit_code"] == ending.code for record in ended.records.values())


def test_a_snapshot_that_is_gone_ends_with_1(world: World) -> None:
    host = world.host("vault-1")
    with moved(host, "/srv/lifeboat/snapshots", "/srv/lifeboat/snapshots.kept"):
        ended = world.drill("-e", "agent=a0", "-e", "source=snapshot")
    assert ended.code == 1
    as_told(ended, "a0", NO_SNAPSHOT)


def test_a_sample_takes_who_waited_longest(world: World) -> None:
    started: dict[str, str] = {agent["name"]: "" for agent in world.agents}
    for record in world.records().values():
        if (name := record["agent"]["name"]) in started:
            started[name] = max(started[name], record["drill"]["started"])
    longest = sorted((moment, name) for name, moment in started.items())[:2]
    ended = world.drill("-e", "sample=2")
    assert set(ended.records) == {name for _moment, name in longest}
    assert "empty" in ended.records or ended.code == 0, ended.output[-3000:]


def test_all_of_it_is_evidence(world: World) -> None:
    done = world.run(
        "ansible",
        *("localhost", "-m", "lifeboat.agents.drill_evidence_info"),
        *("-a", f"directory={world.folder}/evidence"),
    )
    assert done.returncode == 0, done.stdout
    assert '"problems": []' in done.stdout
    page = Path(world.folder, "evidence", "index.html").read_text()
    assert "agents proven" in page
