"""Settings of snapshots that do not last are refused, and what a provider shows is read over SFTP."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from conftest import World

FOLDER = "/root/.zfs/snapshot"


def play(world: World, name: str, *arguments: str) -> tuple[int, str]:
    done = world.run(
        *("ansible-playbook", "--inventory", str(world.inventory), f"playbooks/{name}.yml"),
        *("-e", f"custody_borg={Path(sys.executable).parent / 'borg'}", *arguments),
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "setting",
    [
        "custody_compact_delay_hours=400",
        "custody_compact_every_days=30",
        "repository_snapshot_preserve=14d",
    ],
)
def test_snapshots_that_end_too_early_are_refused(world: World, setting: str) -> None:
    code, output = play(world, "site", "-e", setting)
    assert code == 2
    assert "to become final and be seen" in " ".join(output.split())
    code, output = play(world, "status", "-e", setting)
    assert code == 2
    assert "to become final and be seen" in " ".join(output.split())


def test_settings_that_last_are_not_complained_about(world: World) -> None:
    _code, output = play(world, "status")
    assert "to become final and be seen" not in " ".join(output.split())


def listed(world: World, tmp_path: Path, **said: Any) -> dict[str, list[Any]]:
    """What status sees of the snapshots of a provider that shows them over SFTP."""
    container = "molecule-providers-vault-1"
    address = yaml.safe_load(world.inventory.read_text())["repositories"]["hosts"]["vault-1"]
    host_key = world.host("vault-1").run("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub").stdout
    found = tmp_path / "found.json"
    inventory = {
        "all": {
            "hosts": {
                "provider": {
                    "custody_snapshot_source": "sftp",
                    "custody_snapshot_preserve": "7d 4w",
                    "custody_snapshot_identity": str(
                        world.folder / "boxes" / container / "id_ed25519"
                    ),
                    **said,
                },
                "control": {
                    "ansible_connection": "local",
                    "ansible_python_interpreter": sys.executable,
                },
            }
        }
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    tasks = [
        {
            "ansible.builtin.include_role": {
                "name": "lifeboat.agents.custody",
                "tasks_from": "provided",
            }
        },
        {
            "ansible.builtin.copy": {
                "dest": str(found),
                "content": "{{ __custody_provided | to_json }}",
                "mode": "0600",
            }
        },
    ]
    variables = {
        "custody_repository": {
            "name": "provider",
            "address": address["ansible_host"],
            "port": 22,
            "account": "root",
        },
        "__custody_escrow": {
            "escrow": {"repositories": {"provider": {"host_keys": [host_key.strip()]}}}
        },
        "__custody_base": str(tmp_path / "base"),
    }
    book = [{"hosts": "control", "gather_facts": False, "vars": variables, "tasks": tasks}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(book))
    done = world.run(
        "ansible-playbook", "--inventory", str(tmp_path / "hosts.yml"), str(tmp_path / "play.yml")
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    answer: dict[str, list[Any]] = json.loads(found.read_text())
    return answer


def test_what_a_provider_shows_over_sftp(world: World, tmp_path: Path) -> None:
    vault = world.host("vault-1")
    now = datetime.now(timezone.utc)
    names = [f"daily_{now - timedelta(days=day):%Y-%m-%d}" for day in range(8)]
    assert vault.run(f"mkdir -p {FOLDER} && cd {FOLDER} && mkdir {' '.join(names)}").rc == 0
    try:
        found = listed(world, tmp_path)
        assert found["problems"] == []
        assert len(found["snapshots"]) == 8
        assert vault.run(f"cd {FOLDER} && rmdir {' '.join(names[2:6])}").rc == 0
        assert any("no snapshot between" in one for one in listed(world, tmp_path)["problems"])
    finally:
        vault.run("rm -r /root/.zfs")
    [problem] = listed(world, tmp_path)["problems"]
    assert "could not be listed" in problem
    [problem] = listed(world, tmp_path, custody_snapshot_identity="/nowhere")["problems"]
    assert "could not be listed" in problem
