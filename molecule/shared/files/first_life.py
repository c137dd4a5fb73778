"""Gives a new Hermes a life: what it knows, who it knows, and secrets in every place they get to.

    first_life.py connect NAME   tell the agent where its chat server is
    first_life.py live NAME      let it live its first days, while its gateway is up
    first_life.py supply NAME    after a restore: log in again, as its owner would

Runs as the agent's user. What Hermes can do is done by Hermes' own commands; the other
secrets are put where it or its friends would put them. Each secret is a canary,
LBCANARY-PLACE-RANDOM, unique, so that a test can look for all of them in an archive.

"live" prints as JSON the canaries by place and what is precious. When it is asked again it
prints the same and does nothing.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import oauth_provider

USER_HOME = Path.home()
HOME = USER_HOME / ".hermes"
RECORD = USER_HOME / "first-life.json"
PROJECT = USER_HOME / "projects" / "garden"
PORTAL_PORT = 11889
FRIEND = "alice"
HELPER = "helper"

# Written by hand, because the commands that would write them need a login somewhere.
PLANTED: dict[str, tuple[str, str]] = {
    "env-copy": (".env.bak", "TELEGRAM_BOT_TOKEN={}\n"),
    "env-workspace": ("workspace/site/.env", "DATABASE_URL=postgres://app:{}@localhost/app\n"),
    "anthropic": (".anthropic_oauth.json", '{{"refresh_token": "{}"}}\n'),
    "auth-folder": ("auth/google.json", '{{"token": "{}"}}\n'),
    "credentials": ("credentials", "[default]\nsecret_access_key = {}\n"),
    "mcp-token": ("mcp-tokens/calendar.json", '{{"access_token": "{}"}}\n'),
    "google-token": ("google_token.json", '{{"refresh_token": "{}"}}\n'),
    "google-oauth": ("google_mail_oauth.json", '{{"client_secret": "{}"}}\n'),
    "google-chat": ("google_chat_user_1.json", '{{"token": "{}"}}\n'),
    "slack": ("slack_tokens.json", '{{"bot": "{}"}}\n'),
    "weixin": ("weixin/accounts/1.json", '{{"session": "{}"}}\n'),
    "meetings-auth": ("workspace/meetings/auth.json", '{{"token": "{}"}}\n'),
    "meetings-node": ("workspace/meetings/node_token.json", '{{"token": "{}"}}\n'),
    "meetings-nodes": ("workspace/meetings/nodes.json", '{{"nodes": [{{"key": "{}"}}]}}\n'),
    "whatsapp": ("platforms/whatsapp/session/creds.json", '{{"noiseKey": "{}"}}\n'),
    "matrix": ("platforms/matrix/store/device.json", '{{"olm": "{}"}}\n'),
    "bitwarden-cache": ("cache/bws_cache.json", '{{"value": "{}"}}\n'),
    "onepassword-cache": ("cache/op_cache.json", '{{"value": "{}"}}\n'),
    "chrome": ("chrome-debug/Default/Cookies.txt", "session={}\n"),
    "browser": ("browser_auth/state.json", '{{"cookies": [{{"value": "{}"}}]}}\n'),
    "home-folder": ("home/.netrc", "machine example.net login ada password {}\n"),
    "profile-home": (f"profiles/{HELPER}/home/.npmrc", "//registry/:_authToken={}\n"),
    "profile-auth": (f"profiles/{HELPER}/auth.json", '{{"api_key": "{}"}}\n'),
    "zip": ("backups/hermes-backup-1.zip", "PK not really, but {} is in it\n"),
    "corrupt-config": ("config.yaml.corrupt.1.bak", "model:\n  api_key: {}\n"),
    "gateway-json": ("gateway.json", '{{"platforms": {{"matrix": {{"password": "{}"}}}}}}\n'),
    "honcho": ("honcho.json", '{{"apiKey": "{}", "workspace": "garden"}}\n'),
    "mem0": ("mem0.json", '{{"api_key": "{}", "user_id": "alice"}}\n'),
    "supermemory": ("supermemory.json", '{{"api_key": "{}", "container": "garden"}}\n'),
    "hindsight": ("hindsight/config.json", '{{"api_key": "{}", "bank": "garden"}}\n'),
    "unknown": ("brand-new-feature/session.json", '{{"refresh_token": "{}"}}\n'),
    "history": (".hermes_history", "export OPENAI_API_KEY={}\n"),
    "request-dump": ("sessions/request_dump_1.json", '{{"Authorization": "Bearer {}"}}\n'),
    "log": ("logs/old.log", "Authorization: Bearer {}\n"),
    "checkpoint": ("checkpoints/1/.env", "OPENAI_API_KEY={}\n"),
}
# What Hermes writes itself, see live().
BY_HERMES = (
    "env",
    "auth-json",
    "config-api-key",
    "config-password",
    "config-hmac",
    "nous-refresh",
    "webhook",
    "profile-env",
    "profile-config",
)
SOUL = """\
# {name}

You are {name}. You keep the garden of your people, you are brief, and you never
promise what you cannot keep.
"""


def hermes(*arguments: str, profile: str = "", cwd: Path = USER_HOME) -> str:
    """Run one of Hermes' own commands; on failure say which, and what it said."""
    environment = dict(os.environ)
    if profile:
        environment["HERMES_HOME"] = str(HOME / "profiles" / profile)
    began = time.monotonic()
    done = subprocess.run(
        ["hermes", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        timeout=900,
        check=False,
    )
    shown = " ".join(arguments[:3])
    print(f"{time.monotonic() - began:5.1f} s  hermes {shown}", file=sys.stderr, flush=True)
    if done.returncode:
        raise SystemExit(
            f"hermes {shown} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout


@contextmanager
def portal(refresh_token: str) -> Iterator[str]:
    """The login page of a provider, which gives this refresh token."""
    page = oauth_provider.server(PORTAL_PORT, oauth_provider.Provider(refresh_token))
    threading.Thread(target=page.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{PORTAL_PORT}"
    finally:
        page.shutdown()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def friend(*arguments: str) -> str:
    """Let the friend talk to the agent over the chat server."""
    program = Path(__file__).with_name("friend.py")
    done = subprocess.run(
        [sys.executable, str(program), *arguments],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"the friend got no answer ({' '.join(arguments)}):\n{done.stderr}")
    return done.stdout.strip()


def meet(name: str) -> None:
    """Pair the friend, and let her tell the agent what to remember."""
    approved = HOME / "platforms" / "pairing" / "irc-approved.json"
    if not approved.exists() or FRIEND not in approved.read_text(encoding="utf-8"):
        hermes("pairing", "approve", "irc", friend("pair", name.lower()))
    friend("say", name.lower(), "Remember: The tomatoes are in the south bed.")
    friend("say", name.lower(), f"Remember about me: {FRIEND} likes short answers.")
    friend("talk", name.lower(), "3")


def work(name: str) -> None:
    """A session of its own, a skill, a job, a board, a project and a second self."""
    PROJECT.mkdir(parents=True, exist_ok=True)
    write(PROJECT / "plan.txt", "Sow in March, harvest in August.\n")
    hermes(
        "chat",
        "-Q",
        "-q",
        "Learn the skill water-plants: Water the south bed every Monday.\nThank you.",
        cwd=PROJECT,
    )
    hermes(
        "cron", "create", "every 2h", "Look at the garden", "--name", "garden", "--deliver", "local"
    )
    hermes("kanban", "init")
    created = hermes("kanban", "create", "Sow beans", "--initial-status", "blocked", "--json")
    hermes("kanban", "attach", str(json.loads(created)["id"]), str(PROJECT / "plan.txt"))
    hermes("project", "create", "garden", str(PROJECT))
    write(HOME / "workspace" / "notes.md", f"# Notes of {name}\n\nBeans like warm soil.\n")
    write(HOME / "brand-new-feature" / "readme.txt", "No rule knows me, and I hold no secret.\n")


def log_in(canaries: dict[str, str]) -> None:
    """Secrets, the way Hermes writes them."""
    hermes("config", "set", "OPENROUTER_API_KEY", canaries["env"])
    hermes("config", "set", "model.api_key", canaries["config-api-key"])
    hermes("config", "set", "platforms.email.extra.password", canaries["config-password"])
    hermes("config", "set", "platforms.webhook.enabled", "true")
    hermes("config", "set", "platforms.webhook.extra.secret", canaries["config-hmac"])
    subscribe = ("webhook", "subscribe", "deploys", "--prompt", "A deploy happened: {version}")
    hermes(*subscribe, "--secret", canaries["webhook"])
    key = ("--type", "api-key", "--api-key", canaries["auth-json"], "--label", "personal")
    hermes("auth", "add", "openrouter", *key)
    with portal(canaries["nous-refresh"]) as url:
        where = ("--portal-url", url, "--inference-url", f"{url}/v1")
        hermes("auth", "add", "nous", "--type", "oauth", *where, "--no-browser")
    if not (HOME / "profiles" / HELPER).exists():
        hermes("profile", "create", HELPER, "--clone", "--no-alias")
    hermes("config", "set", "ANTHROPIC_API_KEY", canaries["profile-env"], profile=HELPER)
    hermes("config", "set", "model.api_key", canaries["profile-config"], profile=HELPER)
    hermes("backup", "--quick", "--label", "before-update")


def plant(canaries: dict[str, str]) -> None:
    for place, (path, template) in PLANTED.items():
        write(HOME / path, template.format(canaries[place]))


def set_environment(values: dict[str, str]) -> None:
    """Add to .env what it lacks."""
    path = HOME / ".env"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = {line.partition("=")[0] for line in lines}
    lines += [f"{name}={value}" for name, value in values.items() if name not in names]
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def connect(name: str) -> None:
    set_environment(
        {
            "IRC_SERVER": "127.0.0.1",
            "IRC_PORT": "6667",
            "IRC_USE_TLS": "false",
            "IRC_NICKNAME": name.lower(),
            "IRC_CHANNEL": "#lifeboat",
        }
    )


def supply(name: str, canaries: dict[str, str]) -> None:
    connect(name)
    set_environment({"TELEGRAM_ALLOWED_USERS": "11,22", "IRC_HOME_CHANNEL": FRIEND})
    log_in(canaries)
    plant(canaries)


def live(name: str) -> dict[str, object]:
    canaries = {
        place: f"LBCANARY-{place}-{secrets.token_hex(8)}" for place in (*BY_HERMES, *PLANTED)
    }
    write(HOME / "SOUL.md", SOUL.format(name=name))
    meet(name)
    work(name)
    supply(name, canaries)
    return {
        "canaries": canaries,
        "precious": {
            "SOUL.md": f"You are {name}.",
            "memories/MEMORY.md": "The tomatoes are in the south bed.",
            "memories/USER.md": f"{FRIEND} likes short answers.",
            "skills/water-plants/SKILL.md": "Water the south bed every Monday.",
            "workspace/notes.md": "Beans like warm soil.",
            "cron/jobs.json": "Look at the garden",
            "platforms/pairing/irc-approved.json": FRIEND,
            "brand-new-feature/readme.txt": "No rule knows me",
        },
    }


def main() -> None:
    task, name = sys.argv[1:]
    if task == "connect":
        connect(name)
    elif task == "supply":
        supply(name, json.loads(RECORD.read_text(encoding="utf-8"))["canaries"])
    else:
        if not RECORD.exists():
            record = live(name)
            RECORD.touch(mode=0o600)
            RECORD.write_text(json.dumps(record, indent=1), encoding="utf-8")
        print(RECORD.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
