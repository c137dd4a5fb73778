"""The box is gone with everything on it: a host with nothing but SSH becomes the agent again."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import yaml
from conftest import World, vault

AS_OWNER = "python3 -I /usr/local/lib/lifeboat-world/as_owner.py"
HOME = "/home/hermes/.hermes"
SESSION = (
    "import sqlite3; print(sqlite3.connect('file:/home/hermes/.hermes/state.db?mode=ro', uri=True)"
    ".execute(\"select session_id from messages where role = 'user' and content like"
    " 'The beans are for the north bed%' order by id desc\").fetchone()[0])"
)
FIRST = "The beans are for the north bed. Keep that in mind."
SECOND = "Which bed did I name?"


def public_keys(world: World, agent: str) -> str:
    path = f"/etc/lifeboat/authorized_keys/lb-{agent}"
    return str(world.host("vault-1").check_output(f"cat {path}"))


@pytest.fixture(scope="module")
def lost(world: World) -> dict[str, str]:
    """The box ends, and its name in the inventory is given the address of the fresh host."""
    if world.moved_inventory.exists():  # by hand, a second time
        return dict(json.loads(world.moved_inventory.with_suffix(".json").read_text()))
    keys = {agent: public_keys(world, agent) for agent in ("ada", "sam")}
    subprocess.run(["podman", "stop", "--time", "2", world.container("box")], check=True)
    inventory = yaml.safe_load(world.first_inventory.read_text(encoding="utf-8"))
    agents = inventory["agents"]["hosts"]["box"]["backup_agents"]
    fresh = inventory.pop("spare")["hosts"]["fresh"]
    kept = [agent for agent in agents if agent["name"] in keys]
    elsewhere = next(agent for agent in agents if agent["name"] == "cut0")
    kept.append({**elsewhere, "home": "/home/cut0/elsewhere/agent"})
    inventory["agents"]["hosts"]["box"] = {**fresh, "backup_agents": kept}
    world.moved_inventory.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    world.moved_inventory.with_suffix(".json").write_text(json.dumps(keys))
    return keys


@pytest.fixture(scope="module")
def archived_before(world: World, lost: dict[str, str]) -> str:
    return str(world.host("vault-1").check_output("ls -A /srv/lifeboat/repositories/ada/data/0"))


def test_the_fresh_host_has_nothing(world: World, lost: dict[str, str]) -> None:
    box = world.host("box")
    assert "fresh" in world.container("box")
    for path in ("/usr/local/bin/lifeboat-borg", "/usr/local/bin/hermes", "/etc/lifeboat", HOME):
        assert not box.file(path).exists, path


def test_what_the_owner_puts_into_the_vault(world: World, lost: dict[str, str]) -> None:
    """As the runbook says: with an editor, on the control side, before the restore."""
    editor = "sed -i 's/^  environment: {}$/  environment: {OPENROUTER_API_KEY: key of the vault}/'"
    world.runbook("ansible-vault edit vault/acme.yml", acme="ada", editor=editor)
    assert "key of the vault" in vault("view", str(world.vault / "ada.yml"))


def test_one_command_makes_it_the_box(world: World, archived_before: str) -> None:
    done = world.runbook(
        "ansible-playbook playbooks/restore.yml -e agent=acme -e target=acme-agent -e new_box=true",
        acme="ada",
    ).well()
    assert "The runtime was installed at the version of the archive, 0.19.0" in done.output
    box = world.host("box")
    expected = json.loads((world.vault.parent / "expected" / "ada.json").read_text())
    for path, words in expected["precious"].items():
        assert words in box.file(f"{HOME}/{path}").content_string, path
    for secret in expected["canaries"].values():
        found = box.run(f"grep -rl --fixed-strings {secret} {HOME}").stdout
        assert found == "", f"{secret} came out of the archive: {found}"
    filled = box.file(f"{HOME}/.env")
    assert filled.contains("^OPENROUTER_API_KEY='key of the vault'$")
    assert filled.contains("^TELEGRAM_ALLOWED_USERS=11,22$")
    assert (filled.user, filled.mode) == ("hermes", 0o600)


def test_the_user_has_another_number_here_and_the_home_is_still_its_own(world: World) -> None:
    box = world.host("box")
    manifest = json.loads(box.file("/var/lib/lifeboat-restore/ada/manifest.json").content_string)
    uid, gid = (int(word) for word in box.check_output("id -u hermes; id -g hermes").split())
    assert uid != manifest["agent"]["uid"]
    owners = {entry["owner"] for entry in world.home("ada").values()}
    assert owners == {f"{uid}:{gid}"}


def test_another_place_for_the_home_is_taken_and_said(world: World, lost: dict[str, str]) -> None:
    done = world.restore("cut0", "new_box=true", "pair=later").well()
    home = "/home/cut0/elsewhere/agent"
    assert f"It was archived at /home/cut0/agent and lives at {home} now" in done.output
    assert world.host("box").file(f"{home}/SOUL.md").content_string == "I am agent.\n"
    assert not world.host("box").file("/home/cut0/agent").exists


def test_the_key_of_the_lost_box_opens_nothing(world: World, lost: dict[str, str]) -> None:
    old = [word for word in lost["ada"].split() if word.startswith("AAAA")]
    now = public_keys(world, "ada")
    assert old and not any(key in now for key in old)
    assert "AAAA" in now
    assert world.host("vault-1").file("/etc/lifeboat/access/lb-ada").content_string == ""


def test_the_second_agent_of_the_lost_box_follows(world: World, lost: dict[str, str]) -> None:
    world.restore("sam", "new_box=true", "start=true").well()
    assert world.host("box").file("/home/sam/agent/memories/USER.md").content_string == (
        "Likes coffee.\n"
    )


def test_it_backs_itself_up(world: World, lost: dict[str, str]) -> None:
    box = world.host("box")
    before = len(world.archives("ada"))
    for agent in ("ada", "sam"):
        assert box.service(f"lifeboat-backup@{agent}.timer").is_running
        assert box.service(f"lifeboat-backup@{agent}.timer").is_enabled
    world.play("backup").well()
    assert len(world.archives("ada")) == before + 1
    assert box.run("lifeboat status sam").rc == 0


def test_without_a_login_it_cannot_go_on(world: World, lost: dict[str, str]) -> None:
    """So that the next test shows that it is the pairing that lets it."""
    box = world.host("box")
    session = box.check_output("python3 -I -c %s", SESSION).strip()
    assert not box.file(f"{HOME}/auth.json").exists or not box.file(f"{HOME}/auth.json").contains(
        "refresh_token"
    )
    tried = box.run(f"{AS_OWNER} continue {session}")
    assert tried.rc != 0, tried.stdout + tried.stderr
    assert heard(world)["user"] == []
    refused = world.restore("ada", "paired=true")
    refused.refused("it is not paired yet", "hermes auth add nous", "says: nous: logged out")
    assert box.run("systemctl is-active hermes-gateway.service").stdout.strip() != "active"


def heard(world: World) -> dict[str, list[str]]:
    """What the provider was asked last."""
    ask = (
        "import urllib.request;"
        "print(urllib.request.urlopen('http://127.0.0.1:11890/heard').read().decode())"
    )
    told: dict[str, list[str]] = json.loads(world.host("box").check_output("python3 -I -c %s", ask))
    return told


def test_paired_again_it_goes_on_where_it_was(world: World, lost: dict[str, str]) -> None:
    """By Hermes' own commands, against a provider that lets in who logged in, and nobody else."""
    box = world.host("box")
    session = box.check_output("python3 -I -c %s", SESSION).strip()
    assert session in box.check_output(f"{AS_OWNER} sessions")
    paired = box.run(f"{AS_OWNER} pair")
    assert paired.rc == 0, paired.stdout + paired.stderr
    answered = box.run(f"{AS_OWNER} continue {session}")
    assert answered.rc == 0, answered.stdout + answered.stderr
    assert SECOND in answered.stdout
    assert [words for words in heard(world)["user"] if words in (FIRST, SECOND)] == [FIRST, SECOND]
    continued = box.check_output("python3 -I -c %s", SESSION.replace(FIRST[:31], SECOND)).strip()
    assert continued == session


def test_it_is_started_and_status_is_content(world: World, lost: dict[str, str]) -> None:
    box = world.host("box")
    assert "not started" in box.run("lifeboat status ada").stdout
    world.restore("ada", "paired=true").well()
    told = box.run("lifeboat status ada")
    assert told.rc == 0, told.stdout + told.stderr


def test_rolling_out_again_changes_nothing(world: World, lost: dict[str, str]) -> None:
    done = world.play("site").well()
    changed = dict(re.findall(r"^(box|localhost) .*changed=(\d+)", done.output, re.MULTILINE))
    assert changed["box"] == "0", done.output[-6000:]
