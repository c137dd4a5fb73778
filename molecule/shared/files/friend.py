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

PORT = 6667
FRIEND = "alice"
PATIENCE = 300.0  # A busy machine may take a minute for the first answer of an agent.
AGAIN = 90.0  # Who gets no answer for so long asks again, as people do.


class Chat:
    """One connection to the chat server."""

    def __init__(self, nick: str) -> None:
        self.connection = socket.create_connection(("127.0.0.1", PORT), timeout=10)
        self.unread = b""
        self.send(f"NICK {nick}")
        self.send(f"USER {nick} 0 * :{nick}")

    def send(self, line: str) -> None:
        self.connection.sendall(line.encode() + b"\r\n")

    def reply(self, until: float) -> str | None:
        """The next private message, "" when the agent is not there, None when it got too late."""
        while True:
            line, end, rest = self.unread.partition(b"\r\n")
            if end:
                self.unread = rest
                text = line.decode(errors="replace")
                if re.match(r":\S+ 401 ", text):
                    return ""
                if message := re.match(r":\S+ PRIVMSG \S+ :?(.*)", text):
                    return message[1]
                continue
            left = until - time.monotonic()
            if left <= 0:
                return None
            self.connection.settimeout(left)
            try:
                received = self.connection.recv(65536)
            except TimeoutError:
                return None
            if not received:
                raise ConnectionError("the chat server hung up")
            self.unread += received

    def ask(self, agent: str, text: str, expected: str) -> str:
        """Say something until an answer has what is expected in it."""
        heard: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while (now := time.monotonic()) < deadline:
            self.send(f"PRIVMSG {agent} :{text}")
            while (reply := self.reply(min(now + AGAIN, deadline))) is not None:
                if found := re.search(expected, reply):
                    return found[0]
                if not reply:
                    time.sleep(0.2)
                    break
                heard.append(reply)
        raise TimeoutError(
            f"{agent} gave no answer with {expected!r} within {PATIENCE:.0f} s, it said: {heard}"
        )


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
