"""Promise 1: the archives of a real agent hold what is precious, and no secret at all."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import Agent

SEARCH = """
import json, os, sys
needles = [needle.encode() for needle in json.load(sys.stdin)]
found, files, longest = [], 0, max(map(len, needles))
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(folder, name)
        if os.path.islink(path) or not os.path.isfile(path):
            continue
        files += 1
        tail = b""
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                text = tail + block
                found += [[path, needle.decode()] for needle in needles if needle in text]
                tail = block[-longest:]
print(json.dumps({"files": files, "found": found}))
"""


def expected(beside_inventory: Path, agent: Agent) -> dict[str, Any]:
    """What the world planted and what it holds dear."""
    path = beside_inventory / "expected" / f"{agent.name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def search(agent: Agent, folder: str, needles: list[str]) -> dict[str, Any]:
    """Look for byte strings in every file below a folder of the box."""
    given = shlex.quote(json.dumps(needles))
    found = agent.box.check_output(
        f"printf '%s' {given} | python3 -c {shlex.quote(SEARCH)} {folder}"
    )
    return dict(json.loads(found))


@pytest.fixture(scope="module")
def extracted(agents: list[Agent]) -> Any:
    """Every archive of every agent, extracted side by side on its box, outside the home."""
    folder = "/var/tmp/lifeboat-extracted"
    for agent in agents:
        agent.box.check_output(f"rm -rf {folder} && mkdir -m 0700 {folder}")
        names = agent.borg("list --short").stdout.split()
        assert names, f"{agent.name} has no archive"
        for name in names:
            place = f"{folder}/{name}"
            agent.box.check_output(f"mkdir {place}")
            done = agent.borg(f"extract ::{name}", inside=place)
            assert done.rc == 0, done.stderr
    yield folder
    for agent in agents:
        agent.box.check_output(f"rm -rf {folder}")


def test_no_canary_in_any_archive(
    agents: list[Agent], extracted: str, beside_inventory: Path
) -> None:
    for agent in agents:
        canaries = list(expected(beside_inventory, agent)["canaries"].values())
        assert len(canaries) > 30
        result = search(agent, extracted, canaries)
        assert result["files"] > 20, "nothing was extracted: the search proves nothing"
        assert result["found"] == []


def test_the_search_would_find_a_canary(
    agents: list[Agent], extracted: str, beside_inventory: Path
) -> None:
    agent = agents[0]
    canary = next(iter(expected(beside_inventory, agent)["canaries"].values()))
    agent.box.check_output("mkdir -p %s/planted", extracted)
    agent.box.check_output("printf '%%s' xx%s > %s/planted/file", canary, extracted)
    found = search(agent, extracted, [canary])["found"]
    agent.box.check_output("rm -r %s/planted", extracted)
    assert found == [[f"{extracted}/planted/file", canary]]


def test_every_precious_file_is_in_the_newest_archive(
    agents: list[Agent], extracted: str, beside_inventory: Path
) -> None:
    for agent in agents:
        newest = agent.borg("list --short --last 1").stdout.strip()
        home = f"{extracted}/{newest}{agent.home}"
        for path, text in expected(beside_inventory, agent)["precious"].items():
            assert agent.box.file(f"{home}/{path}").contains(text), f"{agent.name}: {path}"
        assert agent.box.file(f"{home}/state.db").size > 0
        for dead in ("hermes-agent", "logs", "gateway.pid", ".env", "auth.json"):
            assert not agent.box.file(f"{home}/{dead}").exists, dead


def test_status_names_what_no_rule_knows(agents: list[Agent]) -> None:
    for agent in agents:
        told = json.loads(agent.box.check_output(f"lifeboat status {agent.name} --json"))
        text = json.dumps(told)
        assert "brand-new-feature" in text
