"""Restores as an operator types them, and what is to be seen on the boxes before and after."""

from __future__ import annotations

import datetime
import json
import os
import pty
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import testinfra.host
import yaml
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[3]
LOOK = Path(__file__).resolve().parents[1] / "files" / "look.py"
TIMES = "times.json"
PLAIN = {"ANSIBLE_FORCE_COLOR": "false", "ANSIBLE_NOCOLOR": "true"}  # molecule asks for colours
BORG = f"custody_borg={shutil.which('borg')}"  # the control side's own is not installed here
Json = dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """How a playbook ended."""

    command: str
    code: int
    output: str
    seconds: float

    def well(self) -> Ended:
        assert self.code == 0, f"{self.command} ended with {self.code}:\n{self.output[-6000:]}"
        return self

    def refused(self, *words: str) -> Ended:
        """It failed, and said all of this."""
        assert self.code != 0, f"{self.command} was not refused:\n{self.output[-6000:]}"
        said = " ".join(self.output.split())
        missing = [word for word in words if word not in said]
        assert not missing, f"{self.command} did not say {missing}:\n{self.output[-6000:]}"
        return self


@dataclass
class World:
    """The inventory of the scenario, and everything beside it."""

    first_inventory: Path
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def moved_inventory(self) -> Path:
        """The inventory after the box was lost: its agents live on the fresh host."""
        return self.first_inventory.with_name("moved.yml")

    @property
    def inventory(self) -> Path:
        moved = self.moved_inventory
        return moved if moved.exists() else self.first_inventory

    @property
    def vault(self) -> Path:
        return self.inventory.parent / "vault"

    def hosts(self, group: str) -> Json:
        found: Json = yaml.safe_load(self.inventory.read_text(encoding="utf-8"))[group]["hosts"]
        return found

    def agent(self, name: str) -> Json:
        declared = [
            {**agent, "box": box}
            for box, variables in self.hosts("agents").items()
            for agent in variables["backup_agents"]
        ]
        found: Json = next(agent for agent in declared if agent["name"] == name)
        return found

    def container(self, name: str) -> str:
        """The container that a host is now; "fresh" is still its name after it became the box."""
        for path in (self.inventory, self.first_inventory):
            inventory = yaml.safe_load(path.read_text(encoding="utf-8"))
            for group in ("agents", "ungrouped", "spare", "later", "repositories"):
                hosts = inventory.get(group, {}).get("hosts", {})
                if name in hosts:
                    return str(hosts[name]["world_box_name"])
        raise KeyError(name)

    def host(self, name: str) -> Host:
        return testinfra.host.get_host(f"podman://{self.container(name)}")

    def box(self, agent: str) -> Host:
        return self.host(self.agent(agent)["box"])

    # -- playbooks ---------------------------------------------------------------------------

    def argv(self, playbook: str, *given: str) -> list[str]:
        extra = [word for value in given for word in ("-e", value)]
        return ["ansible-playbook", f"playbooks/{playbook}.yml", *extra]

    @property
    def environment(self) -> dict[str, str]:
        """What the runbook has its reader export; the vault secret is molecule's to give."""
        return {**os.environ, **PLAIN, "ANSIBLE_INVENTORY": str(self.inventory)}

    def play(self, playbook: str, *given: str, **environment: str) -> Ended:
        """A playbook with its arguments, from the controller, without a terminal."""
        began = time.monotonic()
        done = subprocess.run(
            self.argv(playbook, *given),
            cwd=ROOT,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds = round(time.monotonic() - began, 1)
        command = " ".join([playbook, *given])
        print(f"{seconds:6.1f} s  rc {done.returncode}  {command}")
        self.note(command, seconds)
        return Ended(command, done.returncode, done.stdout, seconds)

    def typed(self, question: str, answer: Callable[[], str], playbook: str, *given: str) -> Ended:
        """A playbook at a terminal, with somebody who answers one question of it."""
        began, said, answered = time.monotonic(), bytearray(), False
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            os.execvpe("ansible-playbook", self.argv(playbook, *given), self.environment)
        while chunk := read_terminal(terminal):
            said += chunk
            if not answered and question.encode() in b" ".join(said.split()):
                answered = True
                words = answer()
                time.sleep(2)  # a prompt throws away what was typed before it began to listen
                os.write(terminal, words.encode() + b"\r")
        os.close(terminal)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        seconds = round(time.monotonic() - began, 1)
        text = said.decode("utf-8", "replace").replace("\r", "")
        command = " ".join([playbook, *given])
        assert answered, f"{command} never asked {question!r}:\n{text[-6000:]}"
        self.note(f"{command} (answered)", seconds)
        return Ended(command, code, text, seconds)

    def restore(self, agent: str, *given: str, target: str = "", **environment: str) -> Ended:
        target = target or self.agent(agent)["box"]
        return self.play("restore", f"agent={agent}", f"target={target}", *given, **environment)

    def runbook(self, command: str, **instead: str) -> Ended:
        """A command as docs/restore.md has it, with this scenario's names in place of its own."""
        words = shlex.split(command)
        if words[0] == "ansible-vault":
            return self.edit_vault(words, **instead)
        assert words[0] == "ansible-playbook", command
        given = [word for word in words[2:] if word != "-e"]
        names = {"acme": "sam", "acme-agent": "", **{key: str(instead[key]) for key in instead}}
        names["acme-agent"] = names["acme-agent"] or self.agent(names["acme"])["box"]
        names.setdefault("vault1.example.net", "vault-1")
        return self.play(Path(words[1]).stem, *(substitute(word, names) for word in given))

    def edit_vault(self, words: list[str], *, acme: str, editor: str) -> Ended:
        """With an editor that types what a person would."""
        began = time.monotonic()
        place = str(self.inventory.parent / words[2].replace("acme", acme))
        told = vault(words[1], place, EDITOR=editor)
        return Ended(" ".join(words), 0, told, time.monotonic() - began)

    def note(self, command: str, seconds: float) -> None:
        self.seconds[command] = seconds
        path = self.first_inventory.with_name(TIMES)
        path.write_text(json.dumps(self.seconds, indent=1) + "\n", encoding="utf-8")

    # -- what is there -----------------------------------------------------------------------

    def look(self, host: str, *places: str) -> Json:
        """Every entry below these places: type, mode, owner, size, time, content."""
        done = subprocess.run(
            ["podman", "exec", "-i", self.container(host), "python3", "-I", "-", *places],
            input=LOOK.read_text(encoding="utf-8"),
            capture_output=True,
            text=True,
            check=True,
        )
        found: Json = json.loads(done.stdout)
        return found

    def home(self, agent: str, place: str = "") -> Json:
        """The home of an agent, or another folder of the same shape, beginning with ./"""
        declared = self.agent(agent)
        folder = place or declared["home"]
        found = self.look(declared["box"], folder)
        return {f".{path.removeprefix(folder)}": what for path, what in found.items()}

    def beside(self, agent: str) -> list[str]:
        """What lies in the folder of the home."""
        parent = Path(self.agent(agent)["home"]).parent
        return sorted(self.box(agent).check_output(f"ls -A {parent}").split())

    def aside(self, agent: str, word: str = "before") -> list[str]:
        """Full paths of the homes that were moved aside, the newest first."""
        home = Path(self.agent(agent)["home"])
        found = [name for name in self.beside(agent) if name.startswith(f"{home.name}.{word}-")]
        return [str(home.parent / name) for name in sorted(found, reverse=True)]

    def write(self, agent: str, path: str, text: str) -> None:
        declared = self.agent(agent)
        place = shlex.quote(f"{declared['home']}/{path}")
        command = f"printf %s {shlex.quote(text)} > {place}; chown {declared['user']}: {place}"
        self.box(agent).check_output(command)

    def archives(self, agent: str) -> list[Json]:
        """Archives of an agent, as its box sees them, oldest first."""
        config = json.loads(
            self.box(agent).check_output(f"cat /etc/lifeboat/agents/{agent}/config.json")
        )
        to = config["repositories"][0]
        rsh = (
            f"ssh -i {to['ssh_key']} -o IdentitiesOnly=yes -o BatchMode=yes"
            f" -o UserKnownHostsFile={to['known_hosts']} -o StrictHostKeyChecking=yes"
        )
        told = self.box(agent).check_output(
            f"BORG_REPO={to['url']} BORG_RSH='{rsh}' BORG_BASE_DIR={to['base_dir']}"
            f" BORG_KEYS_DIR={to['keys_dir']} BORG_PASSCOMMAND='cat {to['passphrase_file']}'"
            f" {config['borg']} --lock-wait 60 list --json"
        )
        found: list[Json] = json.loads(told)["archives"]
        return found

    def between(self, agent: str) -> str:
        """A moment after the first archive and before the second, in UTC."""
        first = self.archives(agent)[0]["time"]
        moment = datetime.datetime.fromisoformat(first) + datetime.timedelta(seconds=1)
        return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_terminal(terminal: int) -> bytes:
    """What is said next; nothing when the other side is gone."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def vault(*argv: str, **environment: str) -> str:
    """ansible-vault with the scenario's secret."""
    done = subprocess.run(
        ["ansible-vault", *argv],
        cwd=ROOT,
        env={**os.environ, "PAGER": "cat", **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def substitute(word: str, names: dict[str, str]) -> str:
    """name=value with a value of this scenario; acme also inside a value, such as acme-agent:/x."""
    name, equals, value = word.partition("=")
    if name in names and equals:
        return f"{name}={names[name]}"
    for old in sorted(names, key=len, reverse=True):
        if value == old or value.startswith(f"{old}:"):
            return f"{name}={names[old]}{value.removeprefix(old)}"
    return word


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> World:
    path = Path(str(request.config.option.ansible_inventory))
    return World(path / "inventory.yml" if path.is_dir() else path)
