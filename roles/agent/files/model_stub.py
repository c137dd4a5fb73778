# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for a language model, for agents that must run without one.

It speaks the OpenAI chat completions protocol on loopback, streaming and tool calls
included, keeps nothing, and answers the same to the same request. A restored agent can
so be started and asked something on a box that has no route out and no credentials.

It answers a message by repeating it. A line of the message that begins with one of these
becomes a call of the agent's own tool, when the agent offers that tool:

    Remember: TEXT                    memory (its own notes)
    Remember about me: TEXT           memory (the user's profile)
    Learn the skill NAME: TEXT        skill_manage
    Write the file PATH: TEXT         write_file

GET /stats tells how many completions it gave, as a proof that it was asked.
What it does not do: judge, count tokens truly, or check an API key.
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "lifeboat-stub"
Json = dict[str, Any]


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool that the agent offered."""

    name: str
    arguments: Json

    def as_json(self, number: int, index: int) -> Json:
        return {
            "index": index,
            "id": f"call_{number}_{index}",
            "type": "function",
            "function": {"name": self.name, "arguments": json.dumps(self.arguments)},
        }


@dataclass(frozen=True)
class Reply:
    """What the stub says to one request: words, or calls of tools."""

    text: str
    calls: tuple[ToolCall, ...] = ()

    @property
    def finish_reason(self) -> str:
        return "tool_calls" if self.calls else "stop"

    def message(self, number: int) -> Json:
        message: Json = {"role": "assistant", "content": None if self.calls else self.text}
        if self.calls:
            message["tool_calls"] = [call.as_json(number, i) for i, call in enumerate(self.calls)]
        return message


def text_of(content: object) -> str:
    """The words of a message, which come as one string or as a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text", "") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""


def skill_call(match: re.Match[str]) -> ToolCall:
    name, text = match["name"], match["text"]
    content = f"---\nname: {name}\ndescription: {text}\n---\n\n# {name}\n\n1. {text}\n"
    return ToolCall("skill_manage", {"action": "create", "name": name, "content": content})


def memory_call(target: str, match: re.Match[str]) -> ToolCall:
    return ToolCall("memory", {"action": "add", "target": target, "content": match["text"]})


RULES = (
    (r"Remember: (?P<text>.+)", lambda match: memory_call("memory", match)),
    (r"Remember about me: (?P<text>.+)", lambda match: memory_call("user", match)),
    (r"Learn the skill (?P<name>[a-z0-9-]+): (?P<text>.+)", skill_call),
    (
        r"Write the file (?P<path>\S+): (?P<text>.+)",
        lambda match: ToolCall(
            "write_file", {"path": match["path"], "content": match["text"] + "\n"}
        ),
    ),
)


def tool_calls(message: str, offered: frozenset[str]) -> tuple[ToolCall, ...]:
    calls = []
    for line in message.splitlines():
        for pattern, make in RULES:
            match = re.fullmatch(pattern, line.strip())
            if match:
                call = make(match)
                if call.name in offered:
                    calls.append(call)
    return tuple(calls)


def calls_made(messages: list[Json]) -> frozenset[tuple[str, str]]:
    """What the agent was told to call already, so that nothing is told twice."""
    made = set()
    for message in messages:
        for call in message.get("tool_calls") or []:
            function = call.get("function") or {}
            made.add((str(function.get("name")), canonical(function.get("arguments"))))
    return frozenset(made)


def canonical(arguments: object) -> str:
    """Arguments in one form, as agents write them anew."""
    try:
        parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        parsed = arguments
    return json.dumps(parsed, sort_keys=True)


def reply(request: Json) -> Reply:
    """Decide what to say. Depends on the request alone."""
    messages = [message for message in request.get("messages") or [] if isinstance(message, dict)]
    asked = next(
        (text_of(item.get("content")) for item in reversed(messages) if item.get("role") == "user"),
        "",
    )
    tools = request.get("tools") or []
    offered = frozenset(str((tool.get("function") or {}).get("name")) for tool in tools)
    made = calls_made(messages)
    calls = tool_calls(asked, offered)
    left = tuple(call for call in calls if (call.name, canonical(call.arguments)) not in made)
    done = "Done. " if calls and not left else ""
    return Reply(text=f"{done}You said: {asked[:2000]}", calls=left)


def usage(answer: Reply) -> Json:
    spoken = 1 + len(answer.text) // 4
    return {"prompt_tokens": 1, "completion_tokens": spoken, "total_tokens": spoken + 1}


def completion(request: Json, number: int) -> Json:
    answer = reply(request)
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.get("model") or MODEL,
        "choices": [
            {"index": 0, "message": answer.message(number), "finish_reason": answer.finish_reason}
        ],
        "usage": usage(answer),
    }


def chunks(request: Json, number: int) -> Iterator[Json]:
    """The same completion as a stream: the words, the reason to stop, the usage."""
    answer = reply(request)
    base = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": request.get("model") or MODEL,
    }
    yield {
        **base,
        "choices": [{"index": 0, "delta": answer.message(number), "finish_reason": None}],
    }
    finish = {"index": 0, "delta": {}, "finish_reason": answer.finish_reason}
    yield {**base, "choices": [finish]}
    yield {**base, "choices": [], "usage": usage(answer)}


class Counter:
    """How many completions were given, over all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0

    def next(self) -> int:
        with self._lock:
            self.value += 1
            return self.value


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    counter = Counter()

    def do_GET(self) -> None:
        path = self.path.split("?")[0].rstrip("/")
        if path == "/stats":
            self._send(200, {"completions": self.counter.value})
        elif path.endswith("/models"):
            model = {"id": MODEL, "object": "model", "owned_by": "lifeboat"}
            self._send(200, {"object": "list", "data": [{**model, "context_length": 200000}]})
        else:
            self._send(404, {"error": {"message": f"no such page: {path}"}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.path.rstrip("/").endswith("/chat/completions"):
            self._send(404, {"error": {"message": f"only chat/completions, not {self.path}"}})
            return
        try:
            request = json.loads(body)
        except ValueError as error:
            self._send(400, {"error": {"message": f"the request is not JSON: {error}"}})
            return
        if not isinstance(request, dict):
            self._send(400, {"error": {"message": "the request is not a JSON object"}})
        elif request.get("stream"):
            self._stream(request)
        else:
            self._send(200, completion(request, self.counter.next()))

    def _send(self, status: int, answer: Json) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, request: Json) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for chunk in chunks(request, self.counter.next()):
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what the agent asks is nobody's business."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=11888)
    options = parser.parse_args()
    ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
