"""The friend of the demo's agent: talks to it over the chat server and waits for its answers.

friend.py pair AGENT          say hello, print the pairing code that the agent asks for
friend.py say AGENT TEXT      say one thing and wait until it is answered
friend.py talk AGENT [TIMES]  keep talking, TIMES times or for ever, one message after the other
"""

from __future__ import annotations

import re
import socket
import sys
import time
from collections.abc import Iterator

PORT = 6667
FRIEND = "alice"
PATIENCE = 300.0  # A busy machine may take a minute for the first answer of an agent.


class Chat:
    """One connection to the chat server."""

    def __init__(self, nick: str) -> None:
        self.connection = socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE)
        self.lines = self.connection.makefile("r", encoding="utf-8", newline="\r\n")
        self.send(f"NICK {nick}")
        self.send(f"USER {nick} 0 * :{nick}")

    def send(self, line: str) -> None:
        self.connection.sendall(line.encode() + b"\r\n")

    def replies(self) -> Iterator[str]:
        """What comes in: private messages as their text, "" when the agent is not there."""
        for line in self.lines:
            if re.match(r":\S+ 401 ", line):
                yield ""
            message = re.match(r":\S+ PRIVMSG \S+ :?(.*)", line.rstrip())
            if message:
                yield message[1]

    def ask(self, agent: str, text: str, expected: str) -> str:
        """Say something until an answer has what is expected in it."""
        deadline = time.monotonic() + PATIENCE
        self.send(f"PRIVMSG {agent} :{text}")
        for reply in self.replies():
            found = re.search(expected, reply)
            if found:
                return found[0]
            if time.monotonic() > deadline:
                break
            if not reply:
                time.sleep(0.2)
                self.send(f"PRIVMSG {agent} :{text}")
        raise TimeoutError(f"{agent} gave no answer with {expected!r} within {PATIENCE:.0f} s")


def main() -> None:
    task, agent = sys.argv[1:3]
    chat = Chat(FRIEND)
    if task == "pair":
        print(chat.ask(agent, "Hello, it is me", r"\b[A-Z0-9]{8}\b"))
        return
    if task == "say":
        print(chat.ask(agent, sys.argv[3], ".*" + re.escape(sys.argv[3][-20:])))
        return
    times = int(sys.argv[3]) if len(sys.argv) > 3 else sys.maxsize
    for number in range(times):
        word = f"number-{time.time_ns()}"
        chat.ask(agent, f"What do you think of {word}?", word)
        if times < 100:
            print(f"answered {number + 1} of {times}")


if __name__ == "__main__":
    main()
