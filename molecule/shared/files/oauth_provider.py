"""A stand-in for a provider of models that people log in to, on loopback.

    oauth_provider.py PORT MODEL_URL

The login page lets everybody in at once (device code flow). The refresh token that it gives is
good for one use, and its models answer only to who shows a token that it gave: the answers are
those of the model stub at MODEL_URL. GET /heard tells what the user said in the conversation that
was answered last, so that a test can see whether an agent went on where it was.
"""

from __future__ import annotations

import base64
import json
import secrets
import sys
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LIFETIME = 86400
DEVICE = "/api/oauth/device/code"
TOKEN = "/api/oauth/token"
Json = dict[str, Any]


def web_token() -> str:
    """A token of the shape that the provider would give: unsigned, good for a day."""

    def part(content: Json) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    claims = {
        "scope": "inference:invoke",
        "exp": int(time.time()) + LIFETIME,
        "jti": secrets.token_hex(8),
    }
    return f"{part({'alg': 'none'})}.{part(claims)}.unsigned"


class Provider:
    """What was given to whom. refresh_token: give this one, for whoever wants to find it again."""

    def __init__(self, refresh_token: str = "") -> None:
        self.refresh_token = refresh_token
        self.access: set[str] = set()
        self.refresh: set[str] = set()
        self.heard: list[str] = []

    def device(self) -> Json:
        return {
            "device_code": "device",
            "user_code": "ABCD",
            "verification_uri": "http://127.0.0.1/",
            "verification_uri_complete": "http://127.0.0.1/ABCD",
            "expires_in": 60,
            "interval": 1,
        }

    def token(self, form: dict[str, list[str]]) -> tuple[int, Json]:
        """A login or a refresh; a refresh token that was used is refused, as providers do."""
        used = form.get("refresh_token", [""])[0]
        if used and used not in self.refresh:
            return 400, {"error": "invalid_grant", "error_description": "used before"}
        self.refresh.discard(used)
        access, refresh = web_token(), self.refresh_token or secrets.token_hex(16)
        self.access.add(access)
        self.refresh.add(refresh)
        return 200, {
            "access_token": access,
            "refresh_token": refresh,
            "token_type": "Bearer",
            "scope": "inference:invoke",
            "expires_in": LIFETIME,
        }

    def listen(self, request: Json) -> None:
        self.heard = [
            words if isinstance(words := message.get("content"), str) else json.dumps(words)
            for message in request.get("messages") or []
            if message.get("role") == "user"
        ]


def server(port: int, provider: Provider, model_url: str = "") -> ThreadingHTTPServer:
    """The provider's pages; with no model behind it, it is a login page alone."""

    class Page(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == DEVICE:
                self.answer(200, provider.device())
            elif self.path == TOKEN:
                self.answer(*provider.token(urllib.parse.parse_qs(body.decode())))
            elif self.path.endswith("/chat/completions") and model_url and self.known():
                provider.listen(json.loads(body))
                self.ask_model(body)

        def do_GET(self) -> None:
            if self.path == "/heard":
                self.answer(200, {"user": provider.heard, "logins": len(provider.access)})
            elif model_url and self.known():
                self.ask_model(None)

        def known(self) -> bool:
            shown = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            if shown in provider.access:
                return True
            self.answer(401, {"error": {"message": "no token of this provider"}})
            return False

        def ask_model(self, body: bytes | None) -> None:
            headers = {"Content-Type": "application/json"}
            asked = urllib.request.Request(model_url + self.path, data=body, headers=headers)
            with urllib.request.urlopen(asked, timeout=60) as given:
                self.send_response(given.status)
                self.send_header("Content-Type", given.headers["Content-Type"])
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(given.read())
            self.close_connection = True

        def answer(self, status: int, content: Json) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Page)


def main() -> None:
    server(int(sys.argv[1]), Provider(), sys.argv[2]).serve_forever()


if __name__ == "__main__":
    main()
