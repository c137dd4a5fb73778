"""Promises 2 and 4 on an agent's box: the timer, the unit, and who can read what."""

from __future__ import annotations

import pytest
from conftest import Agent
from packaging.version import Version

BORG_FLOOR = Version("1.4.5")


def test_borg_is_of_a_safe_version(agents: list[Agent], repository_host) -> None:
    for host in [*(agent.box for agent in agents), repository_host]:
        said = host.check_output("/usr/local/bin/lifeboat-borg --version")
        assert Version(said.split()[1]) >= BORG_FLOOR, said


@pytest.mark.parametrize("secret", ["ssh_key", "passphrase_file"])
def test_agent_user_cannot_read_the_secret(agents: list[Agent], secret: str) -> None:
    for agent in agents:
        path = agent.repository[secret]
        assert agent.box.run(f"test -s {path}").rc == 0, (
            f"{path} is missing: the test proves nothing"
        )
        tried = agent.box.run(f"su -s /bin/sh -c 'cat {path}' {agent.user}")
        assert tried.rc != 0
        assert "Permission denied" in tried.stderr
        assert tried.stdout == ""


def test_agent_user_cannot_read_the_borg_key(agents: list[Agent]) -> None:
    for agent in agents:
        keys = agent.repository["keys_dir"]
        found = agent.box.check_output(f"find {keys} -type f").splitlines()
        assert len(found) == 1, found
        assert "BORG_KEY" in agent.box.check_output(f"head -c 8 {found[0]}")
        tried = agent.box.run(f"su -s /bin/sh -c 'cat {found[0]}' {agent.user}")
        assert tried.rc != 0
        assert "Permission denied" in tried.stderr


def test_no_secret_in_units_or_arguments(agents: list[Agent]) -> None:
    for agent in agents:
        passphrase = agent.box.check_output(f"cat {agent.repository['passphrase_file']}").strip()
        assert len(passphrase) >= 20
        unit = f"lifeboat-backup@{agent.name}.service"
        for text in (
            agent.box.check_output(f"systemctl cat {unit}"),
            agent.box.check_output(f"systemctl show {unit}"),
            agent.box.check_output(f"journalctl --no-pager -u {unit}"),
            agent.box.check_output(f"cat /etc/lifeboat/agents/{agent.name}/config.json"),
        ):
            assert passphrase not in text


def test_timer_is_nightly_persistent_and_stable(agents: list[Agent]) -> None:
    for agent in agents:
        unit = f"lifeboat-backup@{agent.name}.timer"
        assert agent.box.service(unit).is_enabled
        assert agent.box.service(unit).is_running
        shown = dict(
            line.split("=", 1)
            for line in agent.box.check_output(
                f"systemctl show {unit} -p Persistent -p FixedRandomDelay -p RandomizedDelayUSec"
            ).splitlines()
        )
        assert shown["Persistent"] == "yes"
        assert shown["FixedRandomDelay"] == "yes"
        assert shown["RandomizedDelayUSec"] != "0"


def test_unit_is_hardened(agents: list[Agent]) -> None:
    allowed = {"cap_dac_read_search", "cap_kill", "cap_setgid", "cap_setuid"}
    for agent in agents:
        unit = f"lifeboat-backup@{agent.name}.service"
        shown = dict(
            line.split("=", 1)
            for line in agent.box.check_output(
                f"systemctl show {unit} -p CapabilityBoundingSet -p NoNewPrivileges -p ProtectSystem "
                "-p PrivateTmp -p LoadCredential"
            ).splitlines()
        )
        assert set(shown["CapabilityBoundingSet"].split()) <= allowed, shown
        assert shown["NoNewPrivileges"] == "yes"
        assert shown["ProtectSystem"] == "strict"
        assert shown["PrivateTmp"] == "yes"


def test_backup_runs_in_its_unit(agents: list[Agent]) -> None:
    """The night's own way: the service, with its credential and its few capabilities."""
    agent = agents[0]
    started = agent.box.run(f"systemctl start lifeboat-backup@{agent.name}.service")
    journal = agent.box.run(
        f"journalctl --no-pager -n 60 -u lifeboat-backup@{agent.name}.service"
    ).stdout
    assert started.rc == 0, journal
