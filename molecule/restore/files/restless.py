"""A small agent at work: writes into its database all the time and keeps it open. restless.py HOME"""

from __future__ import annotations

import sqlite3
import sys
import time


def main(home: str) -> None:
    with sqlite3.connect(f"{home}/state.db", timeout=30, isolation_level=None) as connection:
        while True:
            connection.execute(
                "INSERT INTO messages (content, timestamp) VALUES ('at work', ?)", (time.time(),)
            )
            time.sleep(0.2)


if __name__ == "__main__":
    main(sys.argv[1])
