"""A very small chat server on loopback, for an agent in the demo to be talked to.

It relays private messages between those who are connected, and knows no channels.
"""

from __future__ import annotations

import asyncio
import sys

NAME = "lifeboat.invalid"
online: dict[str, asyncio.StreamWriter] = {}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    nick = ""

    def say(line: str, to: asyncio.StreamWriter = writer) -> None:
        to.write(line.encode() + b"\r\n")

    while line := (await reader.readline()).decode(errors="replace").rstrip("\r\n"):
        command, _unused, rest = line.partition(" ")
        if command == "NICK":
            # Who comes back quickly takes over from the connection that is about to end.
            online.pop(nick, None)
            nick = rest
            online[nick] = writer
            say(f":{NAME} 001 {nick} :Welcome")
        elif command == "PING":
            say(f":{NAME} PONG {NAME} {rest}")
        elif command == "PRIVMSG":
            target, _unused, text = rest.partition(" ")
            if target in online:
                say(f":{nick}!{nick}@{NAME} PRIVMSG {target} {text}", to=online[target])
            else:
                say(f":{NAME} 401 {nick} {target} :No such nick")
        elif command == "QUIT":
            break
    if online.get(nick) is writer:
        del online[nick]
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
