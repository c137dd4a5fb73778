"""Promise 7: the drill of the lost agent is evidence, and one that could not run is never green."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from testinfra.utils.ansible_runner import AnsibleRunner

ROOT = Path(__file__).resolve().parents[3]
LOST = "ada"


def records(beside_inventory: Path, agent: str) -> list[dict[str, Any]]:
    """The evidence of an agent's drills, oldest first."""
    found = sorted((beside_inventory / "evidence" / agent).glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in found]


def test_the_agent_itself_was_up_and_answered(beside_inventory: Path) -> None:
    proven = [
        record
        for record in records(beside_inventory, LOST)
        if record["verdict"]["result"] == "proven"
    ]
    assert proven, "no drill of the lost agent was proven"
    verdict = proven[-1]["verdict"]
    assert (verdict["level"], verdict["exit_code"]) == (5, 0), verdict
    assert verdict["level_name"] == "the agent itself is up and answers"
    assert proven[-1]["summary"]["failed"] == 0
    names = {check["name"] for check in proven[-1]["checks"]}
    assert {"entries_present", "content", "database_rows", "pairings", "secret_content"} <= names
    assert (beside_inventory / "evidence" / "index.html").is_file()


def test_no_drill_box_is_left(inventory: AnsibleRunner) -> None:
    """Only those in this world's network: another world on the machine may be drilling as well."""
    network = inventory.get_variables("vault-1")["drill_box_network"]
    listed = subprocess.run(
        ["podman", "ps", "--all", "--filter", f"network={network}", "--format", "{{.Names}}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert "vault-1" in " ".join(listed), "the world's own boxes stand in its network"
    assert not [name for name in listed if name.startswith("drill-")]


def test_wrong_vault_secret_could_not_run(beside_inventory: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not the secret\n", encoding="utf-8")
    ended = subprocess.run(
        [
            "ansible-playbook",
            f"--inventory={beside_inventory / 'inventory.yml'}",
            str(ROOT / "playbooks" / "drill.yml"),
            "--extra-vars",
            f"agent={LOST}",
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(wrong),
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 2, ended.stdout[-3000:] + ended.stderr[-1000:]
    newest = records(beside_inventory, LOST)[-1]
    assert newest["verdict"]["result"] != "proven"
    assert newest["verdict"]["exit_code"] == 2
