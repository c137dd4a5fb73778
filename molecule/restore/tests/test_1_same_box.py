"""The box is there: look first, refuse, replace, go back, take one file, take a date."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest
from conftest import BORG, World

AGENT = "sam"
UNITS = ("restless.service", "restless.timer")
USER = "./memories/USER.md"
DATABASE = "./state.db"


@pytest.fixture(scope="module")
def nights(world: World) -> list[str]:
    names = [archive["name"] for archive in world.archives(AGENT)]
    assert len(names) >= 2, names
    return names


def pid(world: World) -> str:
    return world.box(AGENT).check_output("systemctl show -P MainPID restless.service").strip()


def states(world: World) -> set[str]:
    return set(world.box(AGENT).run(f"systemctl is-active {' '.join(UNITS)}").stdout.split())


def start(world: World) -> None:
    world.box(AGENT).check_output(f"systemctl start {' '.join(UNITS)}")


def stop(world: World) -> None:
    world.box(AGENT).check_output(f"systemctl stop {' '.join(reversed(UNITS))}")


def text(world: World, path: str) -> str:
    return world.box(AGENT).file(f"{world.agent(AGENT)['home']}/{path}").content_string


def surroundings(world: World) -> dict[str, object]:
    """Everything that a look could leave behind, on the box and on the storage host."""
    places = ("/etc/passwd", "/var/lib/lifeboat-restore", "/run/lifeboat-restore-identity-sam")
    seen = world.look("box", *places)
    for entry in seen.values():
        entry.pop("modified", None)  # an account came and went again
    let_in = f"cat /etc/lifeboat/authorized_keys/lb-{AGENT} /etc/lifeboat/access/lb-{AGENT}"
    return {**seen, "keys": world.host("vault-1").run(let_in).stdout}


def test_a_dry_run_changes_nothing_and_shows_sizes(world: World) -> None:
    start(world)
    world.write(AGENT, "memories/USER.md", "Likes nothing any more.\n")
    running = pid(world)
    home, beside, around = world.home(AGENT), world.beside(AGENT), surroundings(world)
    done = world.runbook(
        "ansible-playbook playbooks/restore.yml -e agent=acme -e target=acme-agent -e dry_run=true"
    ).well()
    after = world.home(AGENT)
    assert home.pop(DATABASE) and after.pop(DATABASE)  # the agent went on working
    assert after == home
    assert (world.beside(AGENT), surroundings(world), pid(world)) == (beside, around, running)
    said = " ".join(re.sub(r'[",]', "", done.output).split())  # JSON or YAML
    assert "nothing_was_changed: true" in said
    assert "bytes: 14 bytes_now: 24 path: memories/USER.md" in said, done.output


def test_a_home_that_is_not_empty_is_refused(world: World) -> None:
    running, home = pid(world), world.home(AGENT)
    done = world.runbook(
        "ansible-playbook playbooks/restore.yml -e agent=acme -e target=acme-agent"
    )
    done.refused("is not empty", "replace=true", "The home stands as it stood before")
    after = world.home(AGENT)
    del home[DATABASE], after[DATABASE]
    assert after == home
    assert pid(world) == running
    assert world.aside(AGENT) == []


def test_an_earlier_state_replaces_the_home_and_the_agent_stays_stopped(world: World) -> None:
    world.write(AGENT, "sessions/wrecked.json", "nonsense")
    restarts = "systemctl show -P NRestarts restless.service"
    world.box(AGENT).check_output("systemctl kill --signal=KILL restless.service; sleep 1")
    assert int(world.box(AGENT).check_output(restarts)) > 0, "it does not come back by itself"
    world.runbook(
        "ansible-playbook playbooks/restore.yml -e agent=acme -e target=acme-agent"
        " -e at=2026-11-01 -e replace=true",
        at=world.between(AGENT),
    ).well()
    time.sleep(5)
    assert states(world) == {"inactive"}
    assert text(world, "memories/USER.md") == "Likes tea.\n"
    home = world.home(AGENT)
    assert "./sessions/2.json" not in home
    assert "./sessions/wrecked.json" not in home
    (aside,) = world.aside(AGENT)
    kept = world.home(AGENT, aside)
    assert "./sessions/wrecked.json" in kept
    assert world.box(AGENT).file(f"{aside}/memories/USER.md").content_string.startswith("Likes no")
    owners = {entry["owner"] for entry in home.values()}
    user = world.box(AGENT).check_output("id -u sam; id -g sam").split()
    assert owners == {":".join(user)}
    assert home["."]["mode"] == "drwx------"


def test_status_says_loudly_that_it_is_not_started(world: World) -> None:
    told = world.box(AGENT).run("lifeboat status sam")
    assert told.rc != 0
    assert "not started" in told.stdout + told.stderr
    world.play("status", f"agent={AGENT}", BORG).refused(
        "the agent is not paired: Restored from", "box: last backup success"
    )


def test_one_file_more_does_not_start_what_is_not_paired(world: World) -> None:
    done = world.restore(AGENT, "only=sessions").well()
    assert states(world) == {"inactive"}
    assert "it waits for its pairing since an earlier restore" in done.output
    assert "not started" in world.box(AGENT).run("lifeboat status sam").stdout


def test_what_was_paired_is_started(world: World) -> None:
    world.runbook(
        "ansible-playbook playbooks/restore.yml -e agent=acme -e target=acme-agent -e paired=true"
    ).well()
    assert states(world) == {"active"}
    told = world.box(AGENT).run("lifeboat status sam")
    assert "not started" not in told.stdout + told.stderr
    assert "not paired" not in world.play("status", f"agent={AGENT}", BORG).output


def test_undo_puts_the_former_home_back_whole(world: World) -> None:
    (aside,) = (place for place in world.aside(AGENT) if not place.endswith(".only"))
    former = world.home(AGENT, aside)
    world.box(AGENT).check_output("rm -r /home/sam/agent.before-*.only")
    done = world.runbook(
        "ansible-playbook playbooks/restore.yml -e agent=acme -e target=acme-agent -e undo=true"
    ).well()
    for unit in UNITS:
        assert f"systemctl start {unit}" in done.output
    assert world.home(AGENT) == former
    assert states(world) == {"inactive"}
    assert world.aside(AGENT) == []
    (undone,) = world.aside(AGENT, "undone")
    assert world.box(AGENT).file(f"{undone}/memories/USER.md").content_string == "Likes tea.\n"
    assert world.box(AGENT).service(f"lifeboat-backup@{AGENT}.timer").is_running
    world.restore(AGENT, "undo=true").refused("undone already")
    assert world.home(AGENT) == former


def test_a_home_is_put_back_by_name_and_started(world: World) -> None:
    former = world.home(AGENT)
    world.restore(AGENT, "replace=true", "start=true", "repository=vault-1").well()
    assert states(world) == {"active"}
    (aside,) = (Path(place).name for place in world.aside(AGENT))
    wrong = world.restore(AGENT, "undo=true", "archive=.agent.before-20200101T000000Z")
    wrong.refused("There is no home moved aside", aside)
    world.restore(AGENT, "undo=true", f"archive={aside}", "start=true").well()
    assert states(world) == {"active"}
    assert "not started" not in world.box(AGENT).run("lifeboat status sam").stdout
    home = world.home(AGENT)
    assert home.pop(DATABASE) != former.pop(DATABASE)  # it is at work again
    assert home == former


def test_one_file_comes_back_and_the_agent_goes_on(world: World) -> None:
    world.write(AGENT, "memories/USER.md", "Wrecked.\n")
    before = world.home(AGENT)
    world.runbook(
        "ansible-playbook playbooks/restore.yml -e agent=acme -e target=acme-agent"
        " -e only=memories/USER.md"
    ).well()
    after = world.home(AGENT)
    assert text(world, "memories/USER.md") == "Likes coffee.\n"
    assert states(world) == {"active"}
    for changes in (USER, DATABASE):
        assert before.pop(changes) != after.pop(changes)
    assert after == before
    kept = next(place for place in world.aside(AGENT) if place.endswith(".only"))
    assert world.box(AGENT).file(f"{kept}/home/memories/USER.md").content_string == "Wrecked.\n"


def test_one_database_comes_back_without_the_log_of_the_other(
    world: World, nights: list[str]
) -> None:
    rows = "sqlite3.connect('/home/sam/agent/state.db').execute('select count(*) from messages')"
    count = f'python3 -c "import sqlite3; print({rows}.fetchone()[0])"'
    now = int(world.box(AGENT).check_output(count))
    world.restore(AGENT, "only=state.db,sessions", f"archive={nights[0]}").well()
    assert states(world) == {"active"}
    assert 200 <= int(world.box(AGENT).check_output(count)) < now
    assert "./sessions/2.json" not in world.home(AGENT), "a folder comes with all that is in it"


def test_a_folder_to_look_into_touches_no_agent(world: World) -> None:
    running = pid(world)
    world.runbook(
        "ansible-playbook playbooks/restore.yml -e agent=acme -e target=acme-agent:/srv/look"
        " -e at=2026-11-01",
        at=world.between(AGENT),
    ).well()
    found = world.box(AGENT).file("/srv/look/memories/USER.md").content_string
    assert found == "Likes tea.\n"
    assert pid(world) == running
    world.box(AGENT).check_output("rm -r /srv/look")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["agent=nobody"], ["agent='nobody' is not in the inventory", "ada", "sam"]),
        (["agent=sam", "target=nowhere"], ["target='nowhere'", "box", "fresh"]),
        (["agent=sam"], ["target is missing", "own box is box"]),
        (["agent=sam", "target=box", "repository=vault2.example.net"], ["There are: vault-1"]),
        (["agent=sam", "target=box", "at=yesterday"], ["is not a date or time"]),
        (["agent=sam", "target=box", "replace=perhaps"], ["neither true nor false"]),
        (["agent=sam", "target=box", "pair=never"], ["wait, later"]),
        (["agent=sam", "target=box", "undo=true", "dry_run=true"], ["do not go together"]),
    ],
    ids=lambda item: "-".join(item) if isinstance(item, list) else "",
)
def test_a_wrong_argument_is_answered_by_what_is_right(
    world: World, given: list[str], said: list[str]
) -> None:
    done = world.play("restore", *given)
    done.refused("Nothing was changed.", *said)
    assert "PLAY [Restore]" not in done.output


def test_a_box_that_is_not_new_is_refused_before_anything_is_installed(world: World) -> None:
    running = pid(world)
    done = world.restore(AGENT, "new_box=true").refused("is not empty", "replace=true")
    assert "Install" not in done.output
    assert pid(world) == running


def test_what_is_not_archived_is_answered_by_what_is(world: World, nights: list[str]) -> None:
    running = pid(world)
    for given in ("archive=sam-2020-01-01T00:00:00Z", "at=2020-01-01"):
        world.restore(AGENT, given, "replace=true").refused(*nights)
    world.restore(AGENT, "only=memories/NOBODY.md").refused("memories/NOBODY.md")
    assert pid(world) == running


def test_without_the_vault_nothing_is_touched(world: World, tmp_path: Path) -> None:
    entry = world.vault / f"{AGENT}.yml"
    running, around = pid(world), surroundings(world)
    hidden = tmp_path / entry.name
    shutil.move(entry, hidden)
    try:
        done = world.restore(AGENT, "replace=true")
    finally:
        shutil.move(hidden, entry)
    done.refused("no escrow of")
    assert "PLAY [Restore]" not in done.output
    assert (pid(world), surroundings(world)) == (running, around)


def test_what_is_not_as_archived_is_not_switched_to(world: World) -> None:
    """No tolerance that a table can meet stands for an archive that went bad."""
    bad = json.dumps({"restore_thresholds": {"rows_tolerance": -1}})
    assert states(world) == {"active"}
    done = world.restore(AGENT, "replace=true", bad)
    done.refused("is not what was archived", "unhealthy=true", "The agent was stopped")
    assert states(world) == {"inactive"}
    before, staging = world.home(AGENT), f".lifeboat-restore-{AGENT}"
    assert staging in world.beside(AGENT)
    world.restore(AGENT, "abandon=true").well()
    assert staging not in world.beside(AGENT)
    assert world.home(AGENT) == before
    world.restore(AGENT, "replace=true", "pair=later", "unhealthy=true", bad).well()
    assert text(world, "memories/USER.md") == "Likes coffee.\n"
    assert before in [world.home(AGENT, place) for place in world.aside(AGENT)]
    world.restore(AGENT, "paired=true").well()
    assert states(world) == {"active"}


def test_single_paths_that_are_not_as_archived_are_not_switched_to(world: World) -> None:
    bad = json.dumps({"restore_thresholds": {"rows_tolerance": -1}})
    before = world.home(AGENT)
    world.restore(AGENT, "only=state.db", bad).refused("is not what was archived", "unhealthy=true")
    assert world.home(AGENT).keys() == before.keys()
    assert world.home(AGENT)["./SOUL.md"] == before["./SOUL.md"]
    world.restore(AGENT, "abandon=true").well()
    world.restore(AGENT, "only=memories/USER.md").well()
    assert states(world) == {"active"}


def test_who_types_paired_at_the_terminal_gets_the_agent_started(world: World) -> None:
    seen = []

    def paired() -> str:
        seen.append(states(world))
        return "paired"

    given = (f"agent={AGENT}", "target=box", "replace=true")
    done = world.typed('Then type "paired" and press Enter', paired, "restore", *given).well()
    assert seen == [{"inactive"}]
    assert "Started: restless.service" in done.output
    assert states(world) == {"active"}


def test_who_types_anything_else_starts_nothing(world: World) -> None:
    given = (f"agent={AGENT}", "target=box", "replace=true")
    world.typed('Then type "paired"', lambda: "later", "restore", *given).well()
    assert states(world) == {"inactive"}
    assert "not started" in world.box(AGENT).run("lifeboat status sam").stdout
    world.restore(AGENT, "paired=true").well()


def test_a_home_that_is_gone_comes_back(world: World) -> None:
    """The Hermes, with everything of it that runs: its own unit comes back whenever it ends."""
    box = world.box("ada")
    unit = box.check_output("systemctl show -P Restart hermes-gateway.service").strip()
    assert unit == "always"
    box.check_output(
        "systemctl kill --signal=KILL hermes-gateway.service; rm -rf /home/hermes/.hermes"
    )
    done = world.runbook(
        "ansible-playbook playbooks/restore.yml -e agent=acme -e target=acme-agent", acme="ada"
    ).well()
    time.sleep(3)
    assert box.run("systemctl is-active hermes-gateway.service").stdout.strip() == "inactive"
    expected = json.loads(
        (world.inventory.parent / "expected" / "ada.json").read_text(encoding="utf-8")
    )
    for path, words in expected["precious"].items():
        assert words in box.file(f"/home/hermes/.hermes/{path}").content_string, path
    said = " ".join(done.output.split())
    for needed in ("hermes auth add nous", "To be supplied by hand", "config.yaml: model.api_key"):
        assert needed in said, done.output
    harmless = box.file("/home/hermes/.hermes/.env")
    assert harmless.contains("TELEGRAM_ALLOWED_USERS=11,22")
    assert harmless.user == "hermes" and harmless.mode == 0o600
