"""A Hermes home with everything in it, made without Hermes: full_home.py make USER HOME.

Every path of the table of the precious, a canary in every place where secrets have been seen, and in
ten places that no list knows. What was made is written to /root/full_home.json:
full_home.py compare HOME says what a restored home lacks of it, full_home.py search FOLDER which
canaries are below a folder. Both print JSON.
"""

from __future__ import annotations

import base64
import grp
import hashlib
import json
import os
import pwd
import random
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

RECORD = Path("/root/full_home.json")
OTHER = "profiles/helper/"

FILES = """
SOUL.md memories/MEMORY.md memories/USER.md memories/deep/er/note.md sessions/1.json sessions/1.jsonl
session-exports/2026.md platforms/pairing/irc-approved.json pairing/telegram-approved.json
profiles/helper/pairing/irc-approved.json shell-hooks-allowlist.json channel_directory.json
channel_aliases.json gateway_voice_mode.json sticker_cache.json discord_threads.json
gateway/dead_targets.json gateway/discord_commands.json feishu_comment_rules.json cron/jobs.json
cron/suggestions.json cron/output/1/out.md scripts/water.sh skills/water/SKILL.md
skills/.archive/old/SKILL.md skills/.usage.json skills/.curator_state skills/.bundled_manifest
skills/.hub/lock.json skills/.hub/taps.json skills/devops/hermes-agent/SKILL.md
skill-bundles/garden.yaml plugins/mine/plugin.py hooks/greet/HOOK.yaml skins/green.yaml pets/cat/pet.json
plans/spring.md workspace/notes.md workspace/backups/old.txt workspace/venv/mine.txt
workspace/checkpoints/model.bin workspace/node/of-a-graph.txt workspace/logs/of-the-garden.log
workspace/meetings/7/transcript.txt local/thing.txt todo.json byterover/context.md
hindsight/bank.json pending/memory/1.json pending/skills/1.json kanban/boards/main/board.json
kanban/attachments/1/plan.pdf profile.yaml distribution.yaml active_profile cache/images/1.png
cache/audio/1.ogg cache/videos/1.mp4 cache/documents/1.pdf cache/screenshots/1.png images/1.png
pastes/1.txt profiles/helper/SOUL.md profiles/helper/memories/MEMORY.md
profiles/helper/skills/x/SKILL.md profiles/helper/workspace/a.txt profiles/helper/cron/jobs.json
""".split()
DATABASES = """
state.db cron/executions.db memory_store.db retaindb_queue.db kanban.db
kanban/boards/main/kanban.db projects.db response_store.db verification_evidence.db
workspace/without-a-suffix profiles/helper/state.db
""".split()
EMPTY_FOLDERS = ["workspace/empty", "memories/later"]
NOT_ARCHIVED = """
hermes-agent/main.py node/bin/node node_modules/x/index.js bin/tool lsp/server mcp-installs/x/index.js
sandboxes/1/file .worktrees/1/file optional-skills/x checkpoints/1/file cache/other/x model_cache.json
logs/agent.log .hermes_history moa-traces/1 spawn-trees/1 hook_outputs/1 skills/.hub/index-cache/1
skills/.curator_backups/1 sessions/request_dump_1.json gateway.pid gateway.lock cron.pid
processes.json gateway_state.json runtime/1 state/1 cron/ticker_state memories/MEMORY.md.lock
bridge.pid platforms/pairing/irc-pending.json platforms/pairing/_rate_limits.json
.clean_shutdown .restart_notify.json .update_check .drain_request.json .gateway-1.json .managed
.install_method
""".split()
SCRUBBED = {
    "config.yaml": """# mine
model:
  api_key: {0}
  provider: custom  # stays
platforms:
  matrix: {{user: cat, password: '{0}-password'}}
  webhook:
    extra:
      secret: "{0}-hmac"
      routes:
        deploys: {{secret: {0}-route, prompt: A deploy}}
terminal:
  sudo_password: {0}-sudo
dashboard:
  basic_auth:
    username: cat
    password_hash: {0}-hash
    secret: {0}-session
""",
    "gateway.json": '{{"platforms": {{"matrix": {{"password": "{}", "room": "garden"}}}}}}\n',
    "honcho.json": '{{"apiKey": "{}", "workspace": "garden"}}\n',
    "mem0.json": '{{"api_key": "{}", "user_id": "alice"}}\n',
    "supermemory.json": '{{"api_key": "{}", "container": "garden"}}\n',
    "hindsight/config.json": '{{"api_key": "{}", "bank": "garden"}}\n',
    "webhook_subscriptions.json": '{{"deploys": {{"secret": "{}", "prompt": "A deploy"}}}}\n',
    "mcp.json": '{{"servers": {{"cal": {{"env": {{"CAL_KEY": "{}"}}, "command": "cal"}}}}}}\n',
    OTHER + "config.yaml": "model:\n  api_key: {}\n  provider: custom\n",
}
SECRET_FILES = """
.env.bak workspace/site/.env skills/mail/.env.local auth/google.json credentials
mcp-tokens/calendar.json google_token.json google_mail_oauth.json google_chat_user_1.json
slack_tokens.json weixin/accounts/1.json workspace/meetings/auth.json
workspace/meetings/node_token.json workspace/meetings/nodes.json
platforms/whatsapp/session/creds.json platforms/matrix/store/device.json cache/bws_cache.json
cache/op_cache.json chrome-debug/Default/Cookies browser_auth/state.json home/.netrc
profiles/helper/home/.npmrc profiles/helper/auth.json profiles/helper/.env
state-snapshots/1/.env state-snapshots/1/auth.json state-snapshots/1/config.yaml
backups/hermes-backup-1.zip config.yaml.corrupt.1.bak shared/nous_auth.json
profiles/helper/mcp-tokens/x.json
""".split()
SECRET = {
    **dict.fromkeys(SECRET_FILES, "{}\n"),
    ".env": "OPENROUTER_API_KEY={}\nTELEGRAM_ALLOWED_USERS=11,22\n",
    "auth.json": '{{"providers": {{"nous": {{"refresh_token": "{}"}}}}}}\n',
    ".anthropic_oauth.json": '{{"refresh_token": "{}"}}\n',
}
# Places that no list knows: new names at the root, and names of credentials inside of what is kept.
NEW = {
    "brand-new-login/github.json": '{{"refresh_token": "{}"}}\n',
    "deploy_key": "-----BEGIN " + "OPENSSH PRIVATE KEY-----\n{}\n",
    "relay.yaml": "relay:\n  password: {}\n",
    "linear.toml": 'api_key = "{}"\n',
    "newest_tokens.json": '["{}"]\n',
    "dump.sql": "-- postgres://gardener:{}@db.example.net/garden\n",
    OTHER + "new-provider/client.json": '{{"client_secret": "{}"}}\n',
    "workspace/site/keys/id_ed25519": "{}\n",
    "skills/mail/credentials.json": '{{"installed": {{"client_secret": "{}"}}}}\n',
    "plugins/mine/token.json": '{{"refresh_token": "{}", "type": "authorized_user"}}\n',
}
NEW_DATABASE = "vault-of-2027"
NEW_LOG = "garden-of-2027"  # its secret is in its write-ahead log alone

Json = dict[str, Any]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def contents(path: Path) -> str:
    """All of a database that is not layout."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        numbers = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("user_version", "application_id", "quick_check")
        ]
        text = "\n".join([*map(str, numbers), *connection.iterdump()])
    return hashlib.sha256(text.encode()).hexdigest()


def owner(path: Path, home: Path) -> list[Any]:
    """With the time of the last change, except where SQLite makes and removes files of its own."""
    info = path.lstat()
    user, group = pwd.getpwuid(info.st_uid).pw_name, grp.getgrgid(info.st_gid).gr_name
    with_databases = {home / Path(name).parent for name in (*DATABASES, NEW_DATABASE)}
    times = [] if path in with_databases else [info.st_mtime_ns]
    return [oct(info.st_mode), user, group, *times]


def database(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA user_version = 22; PRAGMA application_id = 77;"
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, content TEXT, timestamp REAL);"
            "CREATE VIRTUAL TABLE messages_fts USING fts5(content);"
        )
        rows = [(f"{text} {number}", 1.7e9 + number) for number in range(500)]
        connection.executemany("INSERT INTO messages (content, timestamp) VALUES (?, ?)", rows)
        connection.executemany("INSERT INTO messages_fts VALUES (?)", [row[:1] for row in rows])
        connection.commit()


def leave_in_log(path: Path, text: str) -> None:
    """As a program leaves it that is killed: a log that nobody has folded."""
    child = os.fork()
    if child == 0:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("INSERT INTO messages (content) VALUES (?)", [text])
        os._exit(0)
    if os.waitpid(child, 0)[1] or text.encode() in path.read_bytes():
        raise SystemExit(f"{path}: the log was not left")


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def make(user: str, home: Path) -> None:
    rng = random.Random(5)
    owned = pwd.getpwnam(user)
    canaries = {}
    for path in FILES:
        text = json.dumps({path: rng.randbytes(300).hex()})
        write(home / path, f"{text if '.json' in path else f'{path} {text}'}\n".encode())
    for path in NOT_ARCHIVED:
        write(home / path, b"dead weight, or harmful when it comes back\n")
    for path, template in {**SCRUBBED, **SECRET, **NEW}.items():
        canaries[path] = "LBCANARY" + rng.randbytes(12).hex()
        write(home / path, template.format(canaries[path]).encode())
    for path in DATABASES:
        database(home / path, f"message of {path}")
    canaries[NEW_DATABASE] = "LBCANARY" + rng.randbytes(12).hex()
    database(home / NEW_DATABASE, '{"client_secret": "' + canaries[NEW_DATABASE] + '"}')
    canaries[NEW_LOG] = "LBCANARY" + rng.randbytes(12).hex()
    database(home / NEW_LOG, "harmless")
    leave_in_log(home / NEW_LOG, '{"client_secret": "' + canaries[NEW_LOG] + '"}')
    for path in EMPTY_FOLDERS:
        (home / path).mkdir(parents=True)
    odd(home)
    for place in [home, *home.rglob("*")]:
        os.chown(place, owned.pw_uid, owned.pw_gid, follow_symlinks=False)
        if not place.is_symlink():
            place.chmod(
                rng.choice([0o700, 0o750, 0o755] if place.is_dir() else [0o600, 0o640, 0o664])
            )
    for place in sorted([home, *home.rglob("*")], reverse=True):
        moment = rng.randrange(1_500_000_000_000_000_000, 1_700_000_000_000_000_000)
        os.utime(place, ns=(moment, moment), follow_symlinks=False)
    RECORD.touch(mode=0o600)
    RECORD.write_text(json.dumps({"canaries": canaries, "precious": precious(home)}, indent=1))


def odd(home: Path) -> None:
    """Names and kinds of files that are rare, among what is kept."""
    workspace = home / "workspace"
    write(workspace / "line\nbreak", b"a newline in its name\n")
    write(
        Path(os.fsdecode(os.fsencode(workspace) + b"/not\xff\xfeUTF-8")), b"odd bytes in its name\n"
    )
    write(workspace / " leading and trailing ", b"blanks\n")
    write(workspace / "\u00fcmlaut \u732b", b"letters\n")
    write(workspace / "-rf", b"looks like an option\n")
    os.link(workspace / "notes.md", workspace / "same-notes.md")
    (workspace / "link").symlink_to("notes.md")
    (workspace / "dangling").symlink_to("nowhere")
    with (workspace / "sparse").open("wb") as file:
        file.truncate(30_000_000)
        file.seek(20_000_000)
        file.write(b"in the middle")


def precious(home: Path) -> Json:
    """Everything that has to come back, by path in base64, for names are bytes."""
    workspace = home / "workspace"
    places = [home / path for path in (*FILES, *DATABASES, *EMPTY_FOLDERS)]
    places += [p for p in workspace.iterdir() if str(p.relative_to(home)) not in {*SECRET, *NEW}]
    found: Json = {}
    for place in {*places, *(p.parent for p in places)}:
        name = os.fsencode(place.relative_to(home))
        value: Json = {"owner": owner(place, home)}
        if place.is_symlink():
            value["target"] = os.readlink(place)
        elif str(place.relative_to(home)) in DATABASES:
            value["contents"] = contents(place)
        elif place.is_file():
            value["sha256"] = digest(place)
        found[base64.b64encode(name).decode()] = value
    return found


def compare(home: Path) -> Json:
    record = json.loads(RECORD.read_bytes())
    different = {}
    for coded, expected in record["precious"].items():
        place = home / os.fsdecode(base64.b64decode(coded))
        name = repr(base64.b64decode(coded))[2:-1]
        if not os.path.lexists(place):
            different[name] = "is missing"
            continue
        seen: Json = {"owner": owner(place, home)}
        for key, look in (("target", os.readlink), ("contents", contents), ("sha256", digest)):
            if key in expected:
                seen[key] = look(place)
        if seen != expected:
            different[name] = f"{seen} instead of {expected}"
    workspace = home / "workspace"
    if not different and not os.path.samefile(workspace / "notes.md", workspace / "same-notes.md"):
        different["workspace/same-notes.md"] = "is no hard link any more"
    if not different and (workspace / "sparse").stat().st_blocks * 512 > 10_000_000:
        different["workspace/sparse"] = "is not sparse any more"
    back = [name for name in NOT_ARCHIVED if os.path.lexists(home / name)]
    return {"compared": len(record["precious"]), "different": different, "should_not_be": back}


def search(folder: Path) -> Json:
    canaries = json.loads(RECORD.read_bytes())["canaries"]
    found: dict[str, str] = {}
    files = 0
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        files += 1
        data = path.read_bytes()
        for place, canary in canaries.items():
            if canary.encode() in data:
                found[place] = str(path.relative_to(folder))
    return {"planted": len(canaries), "files": files, "found": found}


if __name__ == "__main__":
    task, *words = sys.argv[1:]
    if task == "make":
        make(words[0], Path(words[1]))
    else:
        print(json.dumps((compare if task == "compare" else search)(Path(words[0]))))
