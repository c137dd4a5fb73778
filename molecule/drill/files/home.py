"""Makes the home of a small agent: home.py USER HOME."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path


def main(user: str, home: Path) -> None:
    for folder in ("memories", "sessions", "pairing"):
        (home / folder).mkdir(parents=True)
    (home / "SOUL.md").write_text(f"I am {home.name}.\n")
    (home / "memories" / "USER.md").write_text("Likes tea.\n")
    (home / "pairing" / "irc-approved.json").write_text('{"alice": {}}\n')
    (home / "sessions" / "1.json").write_text('{"messages": ["hello"]}\n')
    with closing(sqlite3.connect(home / "state.db")) as connection:
        connection.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA user_version = 3;"
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, content TEXT, timestamp REAL);"
            "CREATE TABLE sessions (id INTEGER PRIMARY KEY, started_at REAL, cwd TEXT);"
            "CREATE VIRTUAL TABLE found USING fts5(content);"
        )
        for number in range(200):
            text = f"message {number} " + "lorem ipsum " * 40
            connection.execute(
                "INSERT INTO messages (content, timestamp) VALUES (?, ?)", (text, time.time())
            )
            connection.execute("INSERT INTO found VALUES (?)", (text,))
        connection.commit()
    for place in [home, *home.rglob("*")]:
        place.chmod(0o700 if place.is_dir() else 0o600)
        shutil.chown(place, user, user)
    os.sync()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
