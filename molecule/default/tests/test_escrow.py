"""Promise 5: the vault beside the inventory opens every repository, and is encrypted."""

from __future__ import annotations

from pathlib import Path

from conftest import Agent


def test_escrow_is_encrypted_and_private(agents: list[Agent], beside_inventory: Path) -> None:
    for agent in agents:
        path = beside_inventory / "vault" / f"{agent.name}.yml"
        content = path.read_text(encoding="utf-8")
        assert content.startswith("$ANSIBLE_VAULT;")
        assert path.stat().st_mode & 0o077 == 0
        passphrase = agent.box.check_output(f"cat {agent.repository['passphrase_file']}").strip()
        assert passphrase not in content
