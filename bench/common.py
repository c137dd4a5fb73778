# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks share: a home of known content, repositories, measured commands.

Every benchmark compares in one run, alternating, on the same bytes, and prints the ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import pwd
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FIXED = ["--compression", "zstd,3", "--chunker-params", "fixed,32768"]
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
PASSPHRASE = "benchmark"
RUN = "/run/lifeboat"


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a command cost."""

    wall: float
    cpu: float
    memory: int  # the largest process, kB
    code: int
    output: str

    def __str__(self) -> str:
        return f"{self.wall:7.2f} s wall {self.cpu:7.2f} s CPU {self.memory / 1000:7.1f} MB"


def measure(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    ok: Sequence[int] = (0,),
    stdin: Path | None = None,
) -> Measured:
    """Run a command; its children count."""
    with tempfile.TemporaryFile() as output, contextlib.ExitStack() as stack:
        source = stack.enter_context(stdin.open("rb")) if stdin else subprocess.DEVNULL
        answer, said = os.pipe()
        subprocess.run(
            [PYTHON, "-I", "-S", "-c", LAUNCHER, str(said), *argv],
            env={**os.environ, **(env or {})},
            cwd=cwd,
            stdin=source,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[said],
            check=True,
        )
        os.close(said)
        with os.fdopen(answer) as stream:
            wall, cpu, memory, code = json.load(stream)
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    if code not in ok:
        raise SystemExit(f"{' '.join(argv[:4])} ... ended with {code}:\n{text[-2000:]}")
    return Measured(wall, cpu, memory, code, text)


# A process begins as large as the one that starts it, so a small one does that.
LAUNCHER = """
import os, sys, time
said, argv = int(sys.argv[1]), sys.argv[2:]
os.set_inheritable(said, False)
begun = time.perf_counter()
pid = os.posix_spawnp(argv[0], argv, os.environ)
_pid, status, usage = os.wait4(pid, 0)
wall, cpu = time.perf_counter() - begun, usage.ru_utime + usage.ru_stime
code = os.waitstatus_to_exitcode(status)
os.write(said, f"[{wall}, {cpu}, {usage.ru_maxrss}, {code}]".encode())
"""


def words(seed: int) -> list[str]:
    """A vocabulary that compresses like text."""
    rng = random.Random(seed)
    letters = "eeeeaaaiioutttnnssrrhhlldcmfpgwybvk"
    return [
        "".join(rng.choice(letters) for _unused in range(rng.randint(2, 9)))
        for _unused in range(8000)
    ]


def make_sessions(home: Path, count: int, *, seed: int = 1) -> None:
    """Session files as agents write them: JSON of a few kilobytes, 250 to a folder."""
    rng, vocabulary = random.Random(seed), words(seed)
    for number in range(count):
        folder = home / "sessions" / f"{number // 250:04d}"
        if number % 250 == 0:
            folder.mkdir(parents=True, exist_ok=True)
        messages = [
            {"role": role, "content": " ".join(rng.choices(vocabulary, k=rng.randint(20, 60)))}
            for role in ("user", "assistant") * rng.randint(2, 8)
        ]
        text = json.dumps({"id": number, "messages": messages}, indent=1)
        (folder / f"session-{number:06d}.json").write_text(text, encoding="utf-8")


SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE sessions (id TEXT PRIMARY KEY, started_at REAL, cwd TEXT);
CREATE TABLE messages (id INTEGER PRIMARY KEY, session_id TEXT, role TEXT, content TEXT, timestamp REAL);
CREATE INDEX messages_session ON messages (session_id, timestamp);
CREATE VIRTUAL TABLE messages_fts USING fts5(content, content=messages, content_rowid=id);
PRAGMA user_version = 22;
"""
TRIGGERS = """
CREATE TRIGGER messages_ai AFTER INSERT ON messages BEGIN
  INSERT INTO messages_fts(rowid, content) VALUES (new.id, new.content); END;
CREATE TRIGGER messages_au AFTER UPDATE ON messages BEGIN
  INSERT INTO messages_fts(messages_fts, rowid, content) VALUES ('delete', old.id, old.content);
  INSERT INTO messages_fts(rowid, content) VALUES (new.id, new.content); END;
"""
# How much larger a table of messages becomes with its full-text index.
INDEXED = 1.47


def make_database(path: Path, megabytes: float, *, grown: bool = False, seed: int = 2) -> None:
    """A state.db with a full-text index.

    `grown` indexes row by row as an agent does; otherwise all at once, which is much faster and
    leaves an index in one piece: good enough where only size counts.
    """
    rng, vocabulary = random.Random(seed), words(seed)
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA + (TRIGGERS if grown else ""))
    for pragma in ("synchronous = OFF", "cache_size = -200000", "wal_autocheckpoint = 0"):
        connection.execute(f"PRAGMA {pragma}")
    number = 0
    goal = megabytes * 1e6 if grown else megabytes * 1e6 / INDEXED
    while path.stat().st_size < goal:
        rows = []
        for _row in range(2000):
            number += 1
            text = " ".join(rng.choices(vocabulary, k=rng.randint(30, 120)))
            rows.append((number, f"s{number // 40}", "user", text, 1.7e9 + number))
        connection.executemany("INSERT INTO messages VALUES (?,?,?,?,?)", rows)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if not grown:
        connection.execute("INSERT INTO messages_fts(messages_fts) VALUES ('rebuild')")
        connection.commit()
        connection.executescript(TRIGGERS)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def a_night(path: Path, *, inserts: int = 200, updates: int = 20, seed: int = 3) -> None:
    """The reference change: an agent's day in its database."""
    rng, vocabulary = random.Random(seed), words(seed)
    connection = sqlite3.connect(path, isolation_level=None)
    last = connection.execute("SELECT max(id) FROM messages").fetchone()[0]
    for number in range(last + 1, last + 1 + inserts):
        text = " ".join(rng.choices(vocabulary, k=rng.randint(30, 120)))
        row = (number, f"s{number // 40}", "user", text, 1.7e9 + number)
        connection.execute("INSERT INTO messages VALUES (?,?,?,?,?)", row)
    for _update in range(updates):
        text = " ".join(rng.choices(vocabulary, k=rng.randint(30, 120)))
        connection.execute(
            "UPDATE messages SET content = ? WHERE id = ?", (text, rng.randint(1, last))
        )
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def finish_home(home: Path, *, fresh: int = 5) -> None:
    """The small precious files, and ages as in a home that is in use: a few sessions of today."""
    (home / "SOUL.md").write_text("A soul.\n", encoding="utf-8")
    (home / "memories").mkdir(exist_ok=True)
    (home / "memories" / "MEMORY.md").write_text("A memory.\n", encoding="utf-8")
    (home / "config.yaml").write_text("model:\n  api_key: not-a-secret\n", encoding="utf-8")
    files = sorted(path for path in home.rglob("*") if path.is_file())
    sessions = [path for path in files if "sessions" in path.parts]
    today = set(sessions[len(sessions) - fresh :])
    for number, path in enumerate(reversed(files)):
        if path not in today and not path.name.startswith("state.db"):
            when = time.time() - 86400 - number * 600
            os.utime(path, (when, when))


class Repository:
    """A fresh borg repository with its own cache and key."""

    def __init__(self, directory: Path, borg: str) -> None:
        self.directory = directory
        self.borg = borg
        self.path = directory / "repository"
        (directory / "keys").mkdir(parents=True)
        self.env = {
            "BORG_BASE_DIR": str(directory / "borg"),
            "BORG_KEYS_DIR": str(directory / "keys"),
            "BORG_PASSPHRASE": PASSPHRASE,
        }
        measure([borg, "init", "--encryption", "keyfile-blake2", str(self.path)], env=self.env)
        answer = measure([borg, "info", "--json", str(self.path)], env=self.env).output
        self.id = json.loads(answer[answer.index("{") :])["repository"]["id"]

    def create(self, name: str, home: Path, options: Sequence[str]) -> Measured:
        """Raw borg create of a home."""
        argv = [self.borg, "create", *options, f"{self.path}::{name}", str(home)]
        return measure(argv, env=self.env)

    def stored(self) -> int:
        """Bytes of the segments on disk."""
        return tree_size(self.path / "data")

    def extract(self, name: str, target: Path) -> Measured:
        """Raw borg extract of an archive."""
        target.mkdir(parents=True)
        return measure([self.borg, "extract", f"{self.path}::{name}"], env=self.env, cwd=target)

    def archives(self) -> list[dict[str, str]]:
        """All archives, oldest first."""
        answer = measure([self.borg, "list", "--json", str(self.path)], env=self.env).output
        return list(json.loads(answer[answer.index("{") :])["archives"])


def tree_size(path: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


class Lifeboat:
    """The command on the box, with a configuration of its own."""

    def __init__(
        self, directory: Path, home: Path, repository: Repository, **settings: Any
    ) -> None:
        self.directory = directory
        self.home = home
        self.repository = repository
        self.agent = f"bench-{os.getpid()}"
        # A restore looks for copies and manifest where a box has them; that takes root.
        run = Path(RUN, self.agent) if os.geteuid() == 0 else directory / "run"
        agent = directory / "agents" / self.agent
        agent.mkdir(parents=True)
        passphrase = directory / "passphrase"
        passphrase.write_text(PASSPHRASE + "\n", encoding="utf-8")
        profile = json.dumps(load_profile("generic"))
        (agent / "profile.json").write_text(profile, encoding="utf-8")
        config = {
            "format": 1,
            "agent": self.agent,
            "host": platform.node(),
            "user": pwd.getpwuid(home.stat().st_uid).pw_name,
            "home": str(home),
            "profile": str(agent / "profile.json"),
            "repositories": [
                {
                    "name": "r",
                    "url": str(repository.path),
                    "id": repository.id,
                    "keys_dir": str(repository.directory / "keys"),
                    "base_dir": str(repository.directory / "borg"),
                    "passphrase_file": str(passphrase),
                }
            ],
            "state_dir": str(directory / "state"),
            "run_dir": str(run),
            "borg": repository.borg,
            **settings,
        }
        (agent / "config.json").write_text(json.dumps(config), encoding="utf-8")
        # As the role installs it: a package of its own, byte code compiled.
        package = directory / "lib" / "lifeboat"
        shutil.copytree(ROOT / "plugins" / "module_utils", package, ignore=_no_cache)
        command = directory / "lifeboat"
        command.write_text(
            f"import sys\nsys.path.insert(0, {str(package.parent)!r})\n"
            "from lifeboat.cli import main\nsys.exit(main())\n",
            encoding="utf-8",
        )
        subprocess.run([PYTHON, "-I", "-m", "compileall", "-q", str(package)], check=True)

    def backup(self, ok: Sequence[int] = (0,)) -> Measured:
        """One run."""
        return measure([*self.argv("backup"), "--json"], ok=ok)

    def restore(self, target: Path) -> Measured:
        """The newest archive extracted, staged and switched into place, as the role restore does."""
        newest = self.repository.archives()[-1]
        target.parent.mkdir(parents=True, exist_ok=True)
        [key] = (self.repository.directory / "keys").iterdir()
        order = {
            "library": str(self.directory / "lib"),
            "agent": self.agent,
            "home": str(target),
            "user": pwd.getpwuid(self.home.stat().st_uid).pw_name,
            "archive": newest["name"],
            "archive_id": newest["id"],
            "run_directory": str(self.directory / "restore-run"),
            "access": {
                "agent": self.agent,
                "url": str(self.repository.path),
                "repository_id": self.repository.id,
                "passphrase": PASSPHRASE,
                "key": key.read_text(encoding="ascii"),
                "borg": self.repository.borg,
            },
        }
        return measure([PYTHON, "-I", "-c", RESTORE, json.dumps(order)])

    def argv(self, command: str) -> list[str]:
        """A command line."""
        directory = str(self.directory / "agents")
        script = str(self.directory / "lifeboat")
        return [PYTHON, "-I", script, command, self.agent, "--config-directory", directory]


RESTORE = """
import json, sys
order = json.loads(sys.argv[1])
sys.path.insert(0, order["library"])
from lifeboat import restore
from lifeboat.restore_session import EscrowedAccess
request = restore.Request(order["agent"], order["home"], order["user"])
restore.extract(
    request,
    EscrowedAccess(**order["access"]),
    order["archive"],
    order["archive_id"],
    run_directory=order["run_directory"],
    user=order["user"],
)
restore.stage(request)
restore.switch(request)
"""


def _no_cache(_directory: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__"]


def load_profile(name: str) -> dict[str, Any]:
    """A profile of the collection, checked."""
    import yaml

    sys.path.insert(0, str(ROOT / "plugins"))
    from module_utils.profile import load  # type: ignore[import-not-found]

    data = yaml.safe_load((ROOT / "profiles" / f"{name}.yml").read_text(encoding="utf-8"))
    return dict(load(data))


def ratio(name: str, ours: Sequence[float], theirs: Sequence[float], limit: float) -> bool:
    """Print a ratio of medians and say whether it is within the limit."""
    value = statistics.median(ours) / statistics.median(theirs)
    good = value <= limit
    print(f"{name}: {value:.2f} (bar {limit:.2f}) {'ok' if good else 'MISSED'}")
    return good


def machine() -> str:
    """The machine, for the record."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return (
        f"{os.cpu_count()} cores {model}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--borg", default="/usr/local/bin/lifeboat-borg", help="default: %(default)s"
    )
    parser.add_argument("--directory", type=Path, help="where to work (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="leave the working directory")
    return parser


@contextlib.contextmanager
def workplace(options: argparse.Namespace) -> Iterator[Path]:
    """A directory for one run."""
    base = options.directory
    if base is not None:
        base.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="lifeboat-bench-", dir=base))
    path.chmod(0o755)
    try:
        print(machine(), flush=True)
        yield path
    finally:
        shutil.rmtree(Path(RUN, f"bench-{os.getpid()}"), ignore_errors=True)
        if not options.keep:
            shutil.rmtree(path, ignore_errors=True)
