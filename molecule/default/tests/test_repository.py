"""Promise 3 on the storage host: what a box's own key can do there, and what it cannot."""

from __future__ import annotations

from conftest import REFUSED, Agent
from testinfra.host import Host

SNAPSHOTS = "/srv/lifeboat/snapshots"


def test_authorized_keys_are_roots_and_restricted(
    agents: list[Agent], repository_host: Host
) -> None:
    for agent in agents:
        file = repository_host.file(f"/etc/lifeboat/authorized_keys/{agent.account}")
        assert (file.user, file.group, file.mode) == ("root", "root", 0o644)
        lines = [line for line in file.content_string.splitlines() if line and line[0] != "#"]
        assert len(lines) == 1, lines
        assert lines[0].startswith("restrict,command=") or ",restrict" in lines[0], lines[0]
        assert "ssh-ed25519" in lines[0]
        tried = repository_host.run(f"su -s /bin/sh -c 'echo >> {file.path}' {agent.account}")
        assert tried.rc != 0


def test_key_opens_no_shell(agents: list[Agent]) -> None:
    for agent in agents:
        for words in (("id",), ("sh", "-c", "id"), ()):
            tried = agent.knock(agent.ssh(*words))
            assert "uid=" not in tried.stdout, tried.stdout
        with_terminal = agent.knock(agent.ssh("id", options="-tt"))
        assert "uid=" not in with_terminal.stdout
        assert agent.borg("list").rc == 0, "the key opens nothing at all"


def test_key_forwards_no_port(agents: list[Agent]) -> None:
    agent = agents[0]
    forwarding = agent.ssh(options="-N -o ExitOnForwardFailure=yes -R 127.0.0.1:4022:127.0.0.1:22")
    tried = agent.knock(forwarding)
    assert tried.rc == REFUSED, (tried.rc, tried.stderr)
    assert "forwarding failed" in tried.stderr
    through = agent.knock(
        agent.ssh(options="-W 127.0.0.1:22").rsplit(" ", 1)[0]
        + f" {agent.account}@"
        + agent.repository["url"].split("@")[1].split(":")[0]
    )
    assert "SSH-2.0" not in through.stdout
    assert "prohibited" in through.stderr or "open failed" in through.stderr, through.stderr


def test_key_reaches_no_other_repository(agents: list[Agent]) -> None:
    first, second = agents[:2]
    assert first.borg("list").rc == 0, "the box does not even reach its own repository"
    other = first.repository["url"].replace(f"/{first.name}", f"/{second.name}")
    assert other != first.repository["url"]
    tried = first.borg("list", url=other)
    assert tried.rc not in (0, 1), tried.stdout
    assert second.repository["id"] not in tried.stdout


def test_account_cannot_read_another_agents_repository(
    agents: list[Agent], repository_host: Host
) -> None:
    first, second = agents[:2]
    path = f"/srv/lifeboat/repositories/{second.name}"
    assert repository_host.file(f"{path}/config").exists
    tried = repository_host.run(f"su -s /bin/sh -c 'ls {path}/data' {first.account}")
    assert tried.rc != 0
    assert "Permission denied" in tried.stderr


def test_box_cannot_take_a_stored_archive_away(agents: list[Agent], repository_host: Host) -> None:
    """The whole repository, and then the account's own hands on its files."""
    agent = agents[0]
    before = agent.borg("list --short").stdout.split()
    assert before
    tried = agent.borg("delete --force")
    assert tried.rc not in (0, 1), (tried.rc, tried.stderr)
    assert agent.borg("list --short").stdout.split() == before
    path = f"/srv/lifeboat/repositories/{agent.name}"
    for command in (f"rm -f {path}/config", f"mv {path} {path}.gone", f"rmdir {path}/data"):
        assert repository_host.run(f"su -s /bin/sh -c '{command}' {agent.account}").rc != 0
    assert repository_host.file(f"{path}/config").user == "root"


def test_snapshot_is_read_only_and_out_of_reach(agents: list[Agent], repository_host: Host) -> None:
    timers = repository_host.check_output("systemctl list-timers --all --no-legend --plain")
    assert "lifeboat-snapshot" in timers or "btrbk" in timers, timers
    repository_host.check_output("systemctl start lifeboat-snapshot.service")
    taken = repository_host.check_output(f"ls {SNAPSHOTS}").split()
    assert taken, "no snapshot was taken"
    newest = f"{SNAPSHOTS}/{taken[-1]}"
    shown = repository_host.check_output(f"btrfs property get -ts {newest} ro")
    assert shown == "ro=true"
    assert repository_host.run(f"touch {newest}/written").rc != 0
    account = agents[0].account
    assert repository_host.run(f"su -s /bin/sh -c 'ls {newest}' {account}").rc != 0
    tried = repository_host.run(
        f"su -s /bin/sh -c '/usr/bin/btrfs subvolume delete {newest}' {account}"
    )
    assert tried.rc != 0
    assert repository_host.file(newest).is_directory


def test_host_keys_are_pinned(agents: list[Agent], repository_host: Host) -> None:
    own = repository_host.check_output("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    for agent in agents:
        pinned = agent.box.file(agent.repository["known_hosts"]).content_string
        assert own in pinned
        other = agent.repository["known_hosts"] + ".test"
        changed = pinned.replace(own, "AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43)
        agent.box.check_output("printf '%%s' %s > %s", changed, other)
        tried = agent.knock(agent.ssh("true").replace(agent.repository["known_hosts"], other))
        agent.box.check_output("rm %s", other)
        assert tried.rc == REFUSED
        assert "verification failed" in tried.stderr
