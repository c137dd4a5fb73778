"""What the tests do on the box, as its root: nights.py kill ROUNDS SEED SECONDS, or whole [ARCHIVE].

"kill" starts backups of agent kit and kills them with SIGKILL at random moments, in turn the
whole unit, the command alone, borg alone, ssh alone, and the command when it was started by hand.
After each kill it looks at what was reported, and lets the next run go through untouched.
"whole" extracts every archive and compares it with the home as it was when that archive began.
Both print JSON. "learn" gives the agent something new and records its home, "remember" names that
record after the archive that was begun last.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

AGENT = "kit"
UNIT = f"lifeboat-backup@{AGENT}.service"
HOME = Path("/home/kit/agent")
STATUS = Path(f"/var/lib/lifeboat/{AGENT}/status.json")
METRICS = Path(f"/var/lib/metrics/lifeboat-{AGENT}.prom")
SEEN = Path("/var/tmp/seen")
BLOB = HOME / "workspace" / "photo"
BLOB_SIZE = 8_000_000
WITHHELD = {".env", "config.yaml"}

Json = dict[str, Any]


def run(*argv: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False, **more)


def shown() -> dict[str, str]:
    names = "ActiveState,Result,MainPID,ExecMainStatus"
    lines = run("systemctl", "show", "--property", names, UNIT).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines)


def status() -> Json:
    return dict(json.loads(STATUS.read_bytes()))


def metric(name: str) -> float:
    for line in METRICS.read_text().splitlines():
        if line.startswith(f"lifeboat_backup_{name}{{"):
            return float(line.rpartition(" ")[2])
    raise KeyError(name)


def hashed(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(home: Path) -> dict[str, list[Any]]:
    """All but the database, which lives, and what does not go into archives as it is."""
    found: dict[str, list[Any]] = {}
    for path in sorted(home.rglob("*")):
        name = str(path.relative_to(home))
        if name.startswith("state.db") or name in WITHHELD:
            continue
        info = path.lstat()
        digest = hashed(path) if path.is_file() else ""
        times = [] if path.is_dir() else [info.st_mtime_ns]
        found[name] = [digest, oct(info.st_mode), info.st_uid, info.st_gid, *times]
    return found


def learn() -> None:
    """Something new of a size that takes a moment to send, and a record of all there is."""
    BLOB.write_bytes(os.urandom(BLOB_SIZE))
    shutil.chown(BLOB, "kit", "kit")
    SEEN.mkdir(exist_ok=True)
    (SEEN / "next.json").write_text(json.dumps(fingerprint(HOME)))


def remember() -> None:
    """Name the record after the archive that was begun since, if one was."""
    record = SEEN / "next.json"
    begun = status()["last_attempt"]
    moment = datetime.datetime.fromisoformat(begun.replace("Z", "+00:00")).timestamp()
    if record.exists() and moment >= int(record.stat().st_mtime):
        record.rename(SEEN / f"{AGENT}-{begun}.json")


def members() -> dict[int, str]:
    """The processes of the unit and their names."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and UNIT in (entry / "cgroup").read_text():
                found[int(entry.name)] = (entry / "comm").read_text().strip()
        except OSError:
            continue
    return found


def left_over() -> int:
    """Processes of borg, a moment after their parent is gone."""
    for _try in range(100):
        count = int(run("pgrep", "--count", "--full", "borg create|borg list").stdout)
        if not count:
            break
        time.sleep(0.05)
    return count


def kill(target: str, process: subprocess.Popen[bytes] | None) -> bool:
    """Whether there was something to kill."""
    if process is not None:
        process.kill()
        return True
    if target == "unit":
        return run("systemctl", "kill", "--signal=SIGKILL", UNIT).returncode == 0
    if target == "command":
        victims = [int(shown()["MainPID"])]
    else:
        victims = [pid for pid, name in members().items() if target in name]
    for pid in victims:
        if pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return False
    return any(victims)


def untouched_run() -> float:
    """A night as it should be; ends this program when it is not."""
    time.sleep(1.05)  # archives are named by the second
    learn()
    begun = time.time()
    done = run("systemctl", "start", UNIT)
    remember()
    told = status()
    if done.returncode or told["result"] == "failed" or metric("success") != 1:
        journal = run("journalctl", "--no-pager", "--lines=40", "--unit", UNIT).stdout
        raise SystemExit(f"the next run failed: {json.dumps(told, indent=1)}\n{journal}")
    return time.time() - begun


def ended(process: subprocess.Popen[bytes] | None) -> Json:
    """How a run ended, once everything that belongs to it is gone."""
    code = process.wait() if process is not None else None
    while process is None and shown()["ActiveState"] in ("activating", "deactivating"):
        time.sleep(0.02)
    unit = shown()
    return {"code": code, "unit": unit["ActiveState"], "result": unit["Result"]}


def one_kill(target: str, after: float) -> Json | None:
    """What was seen, or None where the run had ended before."""
    time.sleep(1.05)
    learn()
    run("systemctl", "reset-failed", UNIT)
    before = status()["last_attempt"]
    begun = time.time()
    process = None
    if target == "by hand":
        words = ["lifeboat", "backup", AGENT, "--no-progress"]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    else:
        run("systemctl", "start", "--no-block", UNIT)
    time.sleep(max(0.0, begun + after - time.time()))
    hit = kill(target, process)
    end = ended(process)
    remember()
    told = status()
    if not hit or end["code"] == 0 or (process is None and end["unit"] != "failed"):
        return None
    return {
        "target": target,
        "after": round(time.time() - begun, 2),
        **end,
        "began": told["last_attempt"] != before,
        "status": told["result"],
        "message": told["message"],
        "success_metric": metric("success"),
        "attempt_metric_is_new": metric("last_attempt_timestamp_seconds") >= int(begun),
        "left": left_over(),
    }


def kill_rounds(rounds: int, seed: int, seconds: int) -> Json:
    """So many kills, or fewer on a machine that is so slow that the time is over before."""
    rng = random.Random(seed)
    lasts = untouched_run()
    seen: list[Json] = []
    missed = 0
    begun = time.time()
    while len(seen) < rounds and time.time() < begun + seconds:
        target = ("unit", "command", "borg", "ssh", "by hand")[len(seen) % 5]
        found = one_kill(target, rng.uniform(0.05, lasts))
        if found is None:
            missed += 1
            continue
        found["next_run_seconds"] = round(untouched_run(), 2)
        seen.append(found)
    return {
        "kills": seen,
        "missed": missed,
        "run_seconds": round(lasts, 2),
        "seconds": round(time.time() - begun),
    }


def borg(
    *words: str, cwd: Path | None = None, agent: str = AGENT
) -> subprocess.CompletedProcess[str]:
    config = json.loads(Path(f"/etc/lifeboat/agents/{agent}/config.json").read_bytes())
    repository = config["repositories"][0]
    key = f"ssh -i {repository['ssh_key']} -o IdentitiesOnly=yes -o BatchMode=yes"
    environment = {
        **os.environ,
        "BORG_REPO": repository["url"],
        "BORG_RSH": f"{key} -o UserKnownHostsFile={repository['known_hosts']}",
        "BORG_BASE_DIR": repository["base_dir"],
        "BORG_KEYS_DIR": repository["keys_dir"],
        "BORG_PASSCOMMAND": f"cat {repository['passphrase_file']}",
    }
    done = run(config["borg"], "--lock-wait", "600", *words, env=environment, cwd=cwd)
    if done.returncode:
        raise SystemExit(f"borg {words[0]} ended with {done.returncode}:\n{done.stderr}")
    return done


def database_is_whole(path: Path) -> str:
    """'' or what is wrong. The extracted files are opened as a restore would."""
    with closing(sqlite3.connect(path)) as connection:
        check = connection.execute("PRAGMA quick_check").fetchone()[0]
        total = connection.execute("SELECT sum(balance) FROM accounts").fetchone()[0]
        paid, counted = connection.execute(
            "SELECT (SELECT count(*) FROM messages WHERE content = 'paid'),"
            " (SELECT number FROM transfers)"
        ).fetchone()
    if check != "ok" or total != 0 or paid != counted:
        return f"quick_check {check}, sum {total}, {paid} messages of {counted} transfers"
    return ""


def against_manifest(archive: str, folder: Path) -> str:
    """'' or what is wrong with an archive of which nobody has a record but its own."""
    place = folder / f"run/lifeboat/{AGENT}/manifest.json"
    if not place.exists():
        return "has no manifest"
    manifest = json.loads(place.read_bytes())
    if manifest["archive"] != archive:
        return f"has the manifest of {manifest['archive']}"
    home = folder / "home/kit/agent"
    wrong = [
        entry["path"]
        for entry in manifest["entries"]
        if entry["stored"] == "home"
        and (
            not os.path.lexists(home / entry["path"])
            or (entry["sha256"] and hashed(home / entry["path"]) != entry["sha256"])
        )
    ]
    return f"{len(wrong)} entries differ, such as {wrong[:3]}" if wrong else ""


def judge(archive: str, folder: Path) -> str:
    """'' or what is wrong with an extracted archive."""
    wrong = against_manifest(archive, folder)
    record = SEEN / f"{archive}.json"
    if not wrong and record.exists():
        expected, found = json.loads(record.read_bytes()), fingerprint(folder / "home/kit/agent")
        different = [n for n in {*found, *expected} if found.get(n) != expected.get(n)]
        if different:
            wrong = f"{len(different)} entries differ, such as {sorted(different)[:3]}"
    return wrong or database_is_whole(folder / "home/kit/agent/state.db")


def whole(*wanted: str) -> Json:
    archives = list(wanted) or borg("list", "--short").stdout.split()
    wrong = {}
    for archive in archives:
        folder = Path("/var/tmp/extracted")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        borg("extract", f"::{archive}", cwd=folder)
        problem = judge(archive, folder)
        if problem:
            wrong[archive] = problem
    borg("check", "--archives-only")
    recorded = [archive for archive in archives if (SEEN / f"{archive}.json").exists()]
    return {"archives": len(archives), "recorded": len(recorded), "wrong": wrong}


def extract(agent: str, place: Path) -> None:
    """Every archive of an agent, side by side."""
    for archive in borg("list", "--short", agent=agent).stdout.split():
        folder = place / archive
        folder.mkdir(parents=True)
        borg("extract", f"::{archive}", cwd=folder, agent=agent)


if __name__ == "__main__":
    if sys.argv[1] == "kill":
        print(json.dumps(kill_rounds(*map(int, sys.argv[2:]))))
    elif sys.argv[1] == "whole":
        print(json.dumps(whole(*sys.argv[2:])))
    elif sys.argv[1] == "extract":
        extract(sys.argv[2], Path(sys.argv[3]))
    elif sys.argv[1] == "learn":
        learn()
    else:
        remember()
