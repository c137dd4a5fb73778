# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lends a standing host to one drill, and takes everything away again that came to it meanwhile.

existing.py claim  writes down what there is, and takes the host
existing.py wipe   removes what was not there at the claim: data first, the fence last

Nothing is known here of what a drill makes. What counts is the difference, so that a list cannot
rot: accounts, packages, files, and the few files that are edited rather than made.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import grp
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATE = "var/lib/lifeboat-drill-box"
UNIT = "lifeboat-drill-box-expiry"
FENCE = ("inet", "lifeboat_fence")
HALF_MADE = 600  # seconds after which a claim without a record was broken off
# Kept as they were: what a drill edits instead of making it.
EDITED = ("etc/hosts", "root/.ssh/authorized_keys")
# The system's own, which its packages and systemd look after.
APART = (
    "boot",
    "dev",
    "lost+found",
    "proc",
    "sys",
    "etc/ld.so.cache",
    "root/.ansible",
    STATE,
    "var/cache/apt",
    "var/cache/debconf",
    "var/cache/ldconfig",
    "var/cache/man",
    "var/lib/apt",
    "var/lib/dpkg",
    "var/lib/systemd",
    "var/log",
)
# Of these only what is named; the rest belongs to packages and to what runs.
NARROW = {"usr": ("local",), "run": ("lifeboat",)}
DISKS = {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"}
# A home of an agent, wherever it lies below somebody's home.
AGENTS = (".hermes", ".openclaw", ".nanobot", ".codex", ".claude")
# What makes a host one that an inventory looks after.
ROLLED_OUT = {
    "usr/local/sbin/lifeboat": "it backs up an agent",
    "usr/local/sbin/lifeboat-serve": "it stores repositories",
    "etc/lifeboat/authorized_keys": "it stores repositories",
}


class HostError(Exception):
    """The host cannot be lent or wiped."""


def run(*argv: str, check: bool = True) -> str:
    """What a command printed."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, check=False
    )
    if check and done.returncode:
        raise HostError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Host:
    """The host below a root, which is / but in tests."""

    root: Path = Path("/")

    @property
    def state(self) -> Path:
        return self.root / STATE

    def foreign_mounts(self) -> set[str]:
        """Mounts that are no disk of this host, by path."""
        mounts = set()
        for line in (self.root / "proc/self/mountinfo").read_text().splitlines():
            before, _dash, after = line.partition(" - ")
            if after.split()[0] not in DISKS:
                mounts.add(before.split()[4].replace("\\040", " "))
        return mounts

    def paths(self) -> Iterator[str]:
        """Every path that a drill may have made, from the root on, parents before children."""
        foreign = self.foreign_mounts()
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            narrow = NARROW.get(folder)
            try:
                entries = list(os.scandir(self.root / folder))
            except FileNotFoundError:
                continue
            for entry in entries:
                if narrow and not entry.name.startswith(narrow):
                    continue
                name = f"{folder}/{entry.name}" if folder else entry.name
                if name in APART or f"/{name}" in foreign or _of_others(name):
                    continue
                yield name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(name)

    def users(self) -> list[str]:
        return sorted(entry.pw_name for entry in pwd.getpwall())

    def groups(self) -> list[str]:
        return sorted(entry.gr_name for entry in grp.getgrall())

    def packages(self) -> list[str]:
        shown = run("dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ${binary:Package}\n")
        return sorted(line.split()[1] for line in shown.splitlines() if line.startswith("ii"))

    def edited(self) -> dict[str, str | None]:
        found = {}
        for name in EDITED:
            path = self.root / name
            found[name] = path.read_text() if path.is_file() else None
        return found

    def baseline(self) -> dict[str, Any]:
        return {
            "paths": sorted(self.paths()),
            "users": self.users(),
            "groups": self.groups(),
            "packages": self.packages(),
            "edited": self.edited(),
        }


def _of_others(name: str) -> bool:
    """Temporary folders of systemd's services and of Ansible, which come and go by themselves."""
    return "/systemd-private-" in f"/{name}" or "/.ansible/tmp" in f"/{name}"


def claim_of(host: Host) -> dict[str, Any] | None:
    """Who has the host; a claim that was broken off before anything happened is an expired one."""
    try:
        claim: dict[str, Any] = json.loads((host.state / "claim.json").read_text())
        return claim
    except FileNotFoundError:
        pass
    try:
        made = host.state.stat().st_mtime
    except FileNotFoundError:
        return None
    return {"name": "", "network": "", "created": made, "expires": made + HALF_MADE}


def expired(claim: dict[str, Any]) -> bool:
    return 0 < float(claim["expires"]) < time.time()


def reasons(host: Host, homes: Sequence[str]) -> list[str]:
    """Why this host must not be lent, however it is called in the inventory."""
    found = [
        f"/{name} is there, so {why}"
        for name, why in ROLLED_OUT.items()
        if (host.root / name).exists()
    ]
    places = {home for home in homes if (host.root / home.lstrip("/")).exists()}
    for entry in pwd.getpwall():
        for name in AGENTS:
            path = Path(entry.pw_dir) / name
            if (host.root / str(path).lstrip("/")).is_dir():
                places.add(str(path))
    found += [f"{place} is an agent's home" for place in sorted(places)]
    foreign = host.foreign_mounts()
    found += [
        f"{home} would lie on another machine's disk"
        for home in homes
        if any(str(parent) in foreign for parent in Path(home).parents)
    ]
    login = run("/usr/sbin/sshd", "-T", "-C", "user=root,host=client,addr=192.0.2.1", check=False)
    if "permitrootlogin no" in login.lower().splitlines():
        found.append("its sshd lets root in by no key (PermitRootLogin no)")
    return found


def described(host: Host) -> tuple[str, str]:
    """Distribution and machine id."""
    system = dict(
        line.split("=", 1)
        for line in (host.root / "etc/os-release").read_text().splitlines()
        if "=" in line
    )
    plain = {key: value.strip("'\"") for key, value in system.items()}
    machine = (host.root / "etc/machine-id").read_text().strip()
    return f"{plain.get('ID', '')}-{plain.get('VERSION_ID', '')}", machine


def claim(host: Host, wanted: argparse.Namespace) -> dict[str, Any]:
    """Take the host, or say why not: refused is forbidden, busy may go by."""
    distribution, machine = described(host)
    if machine == wanted.controller:
        return {"claimed": False, "refused": "it is the machine that runs Ansible"}
    standing = claim_of(host)
    if standing and expired(standing):
        if problems := wipe(host)["left"]:
            return {"claimed": False, "busy": f"an earlier drill left {', '.join(problems)}"}
        standing = None
    if standing and not (wanted.again and standing["name"] == wanted.name):
        until = time.strftime("%H:%M", time.gmtime(standing["expires"]))
        who = standing["name"] or "a drill that begins"
        return {"claimed": False, "busy": f"{who} has it, until {until} UTC at the latest"}
    if not standing:
        if found := reasons(host, wanted.home):
            return {"claimed": False, "refused": "; ".join(found)}
        if wanted.distribution and distribution != wanted.distribution:
            return {"claimed": False, "busy": f"it runs {distribution}"}
        try:
            standing = take(host, wanted)
        except FileExistsError:
            return {"claimed": False, "busy": "another drill takes it at this moment"}
    let_in(host, wanted.key)
    host_key = (host.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
    return {"claimed": True, "claim": standing, "host_key": " ".join(host_key[:2])}


def take(host: Host, wanted: argparse.Namespace) -> dict[str, Any]:
    """Write down what there is; only one can make the folder."""
    host.state.mkdir(mode=0o700)
    try:
        write(host.state / "baseline.json", json.dumps(host.baseline()), 0o600)
        now = int(time.time())
        made = {
            "name": wanted.name,
            "network": wanted.network,
            "created": now,
            "expires": now + wanted.minutes * 60 if wanted.minutes else 0,
        }
        if wanted.minutes:
            expire_later(host, wanted.name, wanted.minutes)
        write(host.state / "claim.json", json.dumps(made), 0o600)
    except (HostError, OSError):
        # Nothing was made yet, so nobody has to wait for it to be wiped.
        stop_expiry()
        shutil.rmtree(host.state)
        raise
    return made


def let_in(host: Host, key: str) -> None:
    folder = host.root / "root/.ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    keys = folder / "authorized_keys"
    before = keys.read_text() if keys.exists() else ""
    if key.strip() not in before:
        gap = "\n" if before and not before.endswith("\n") else ""
        write(keys, f"{before}{gap}restrict,pty {key.strip()}\n", 0o600)


def expire_later(host: Host, name: str, minutes: int) -> None:
    """The host wipes itself when nobody comes to do it."""
    kept = host.state / "existing.py"
    shutil.copyfile(__file__, kept)
    stop_expiry()
    run(
        "systemd-run",
        f"--unit={UNIT}",
        f"--on-active={minutes * 60}",
        *(sys.executable, "-I", str(kept), "wipe", "--name", name),
    )


def stop_expiry() -> None:
    run("systemctl", "stop", f"{UNIT}.timer", check=False)
    run("systemctl", "reset-failed", f"{UNIT}.timer", f"{UNIT}.service", check=False)


def write(path: Path, text: str, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.lifeboat")
    temporary.write_text(text)
    temporary.chmod(mode)
    temporary.replace(path)


def new_paths(host: Host, baseline: dict[str, Any]) -> list[str]:
    known = set(baseline["paths"])
    return [name for name in host.paths() if name not in known]


def stop_units(host: Host, paths: Sequence[str]) -> None:
    """Stop what was installed as a unit, before its files go."""
    places = ("etc/systemd/system/", "usr/local/lib/systemd/system/")
    suffixes = (".service", ".timer", ".socket", ".path")
    units = {Path(name).name for name in paths if name.startswith(places)}
    wanted = sorted(unit for unit in units if unit.endswith(suffixes) and "@." not in unit)
    if wanted:
        run("systemctl", "disable", "--now", *wanted, check=False)
    transient = [path.name for path in (host.root / "run/systemd/transient").glob("lifeboat*")]
    ours = sorted(unit for unit in transient if not unit.startswith(UNIT))
    if ours:
        run("systemctl", "stop", *ours, check=False)


def stop_user(name: str) -> None:
    """End a user's session and everything it runs, for good."""
    uid = pwd.getpwnam(name).pw_uid
    run("loginctl", "disable-linger", name, check=False)
    run("systemctl", "stop", f"user@{uid}.service", check=False)
    for _unused in range(20):
        left = processes_of(uid)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            return
        time.sleep(0.2)
    raise HostError(f"processes of {name} do not end: {processes_of(uid)}")


def processes_of(uid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                status = (entry / "status").read_text()
                uids = next(line for line in status.splitlines() if line.startswith("Uid:"))
                if str(uid) in uids.split()[1:] and "\nState:\tZ" not in status:
                    found.append(int(entry.name))
    return found


def remove_paths(host: Host, paths: Sequence[str]) -> None:
    for name in paths:
        path = host.root / name
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(path.lstat().st_mode):
                shutil.rmtree(path)
            else:
                path.unlink()


def purge(packages: Sequence[str]) -> None:
    """Remove packages that were not there, unless others would go with them."""
    if not packages:
        return
    planned = run("apt-get", "--simulate", "purge", *packages)
    going = {line.split()[1] for line in planned.splitlines() if line.startswith(("Remv", "Purg"))}
    names = {package.split(":")[0] for package in packages}
    others = {package.split(":")[0] for package in going} - names
    if others:
        raise HostError(f"packages that were there before would go as well: {sorted(others)}")
    run("apt-get", "--yes", "--quiet", "-o", "DPkg::Lock::Timeout=300", "purge", *packages)


def wipe(host: Host) -> dict[str, Any]:
    """Bring the host back to where it was at the claim; what is left over is named."""
    try:
        baseline = json.loads((host.state / "baseline.json").read_text())
    except FileNotFoundError:
        # Broken off before it had begun, so nothing was made.
        shutil.rmtree(host.state)
        return {"left": []}
    problems = []
    stop_units(host, new_paths(host, baseline))
    for name in sorted(set(host.users()) - set(baseline["users"])):
        stop_user(name)
        run("userdel", "--force", name)
    for name in sorted(set(host.groups()) - set(baseline["groups"])):
        run("groupdel", name)
    remove_paths(host, new_paths(host, baseline))
    try:
        purge(sorted(set(host.packages()) - set(baseline["packages"])))
    except HostError as error:
        problems.append(str(error))
    remove_paths(host, new_paths(host, baseline))
    for name, text in baseline["edited"].items():
        put_back(host.root / name, text)
    run("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", "lifeboat*", check=False)
    problems += left(host, baseline)
    if not problems:
        # The data are gone, so the box may reach out again.
        if shutil.which("nft"):
            run("nft", "delete", "table", *FENCE, check=False)
        stop_expiry()
        shutil.rmtree(host.state)
    return {"left": problems}


def put_back(path: Path, text: str | None) -> None:
    """Give an edited file its earlier content; in place, because a container mounts /etc/hosts."""
    if text is None:
        path.unlink(missing_ok=True)
    elif path.read_text() != text:
        path.write_text(text)


def left(host: Host, baseline: dict[str, Any]) -> list[str]:
    """What is still there that was not."""
    found = [f"/{name}" for name in new_paths(host, baseline)[:5]]
    found += [f"user {name}" for name in sorted(set(host.users()) - set(baseline["users"]))]
    found += [f"package {n}" for n in sorted(set(host.packages()) - set(baseline["packages"]))]
    return found


def wipe_claimed(host: Host, arguments: argparse.Namespace) -> dict[str, Any]:
    """Wipe if the host is claimed by whom it was asked for."""
    standing = claim_of(host)
    doomed = standing is not None and (
        (bool(arguments.name) and standing["name"] == arguments.name)
        or (arguments.expired and expired(standing))
        or (bool(arguments.network) and standing["network"] == arguments.network)
    )
    if not doomed:
        return {"wiped": None, "left": []}
    with (host.state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Somebody else may have wiped it while this one waited.
        if claim_of(host) != standing:
            return {"wiped": None, "left": []}
        return {"wiped": standing["name"], **wipe(host)}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["claim", "wipe"])
    parser.add_argument("--name", default="")
    parser.add_argument("--network", default="")
    parser.add_argument("--minutes", type=int, default=0)
    parser.add_argument("--distribution", default="")
    parser.add_argument("--controller", default="")
    parser.add_argument("--key", default="")
    parser.add_argument("--home", action="append", default=[])
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--expired", action="store_true")
    arguments = parser.parse_args(argv)
    act = {"claim": claim, "wipe": wipe_claimed}[arguments.action]
    try:
        print(json.dumps(act(Host(), arguments)))
    except (HostError, OSError) as error:
        print(json.dumps({"error": str(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
