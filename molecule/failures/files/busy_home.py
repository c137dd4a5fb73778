"""The home of an agent that never rests: busy_home.py make USER HOME, or busy_home.py live HOME.

"live" goes on until it is killed. What it writes has an invariant: the balances in state.db add
up to zero, and every transfer has its message. A torn copy breaks it.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

SESSIONS = 4000
ACCOUNTS = 1000
ROWS = 20_000


def make(user: str, home: Path) -> None:
    rng = random.Random(1)
    for folder in ("memories", "sessions", "workspace"):
        (home / folder).mkdir(parents=True)
    (home / "SOUL.md").write_text("I keep going.\n")
    (home / "memories" / "MEMORY.md").write_text("The tomatoes are in the south bed.\n")
    (home / "config.yaml").write_text("# mine\nmodel:\n  api_key: not-for-the-archive\n")
    (home / ".env").write_text("API_KEY=not-for-the-archive\n")
    for number in range(SESSIONS):
        text = rng.randbytes(1500).hex()
        (home / "sessions" / f"{number}.json").write_text(f'{{"messages": ["{text}"]}}\n')
    with closing(sqlite3.connect(home / "state.db")) as connection:
        connection.executescript(
            "PRAGMA journal_mode = WAL;"
            "CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER);"
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, content TEXT, timestamp REAL);"
            "CREATE TABLE sessions (id INTEGER PRIMARY KEY, started_at REAL, cwd TEXT);"
            "CREATE TABLE transfers (number INTEGER);"
            "INSERT INTO transfers VALUES (0);"
        )
        connection.executemany(
            "INSERT INTO accounts VALUES (?, 0)", [(n,) for n in range(ACCOUNTS)]
        )
        connection.executemany(
            "INSERT INTO messages (content, timestamp) VALUES (?, ?)",
            [(rng.randbytes(1000).hex(), time.time()) for _unused in range(ROWS)],
        )
        connection.commit()
    for place in [home, *home.rglob("*")]:
        place.chmod(0o700 if place.is_dir() else 0o600)
        shutil.chown(place, user, user)
    os.sync()


def live(home: Path) -> None:
    connection = sqlite3.connect(home / "state.db", timeout=10, isolation_level=None)
    connection.execute("PRAGMA synchronous = NORMAL")
    while True:
        source, target = random.sample(range(ACCOUNTS), 2)
        amount = random.randint(1, 1000)
        connection.execute("BEGIN IMMEDIATE")
        change = "UPDATE accounts SET balance = balance + ? WHERE id = ?"
        connection.execute(change, (-amount, source))
        connection.execute(change, (amount, target))
        connection.execute("UPDATE transfers SET number = number + 1")
        connection.execute(
            "INSERT INTO messages (content, timestamp) VALUES (?, ?)", ("paid", time.time())
        )
        connection.execute("COMMIT")
        time.sleep(0.01)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2], Path(sys.argv[3]))
    else:
        live(Path(sys.argv[2]))
