"""Looks for canaries in every archive of an agent, the way a thief would: borg extract, then search.

    search_archives.py AGENT < expected.json

Runs as root on the agent's box. Everything is extracted into a place that is thrown away. Two
things make the search worth something: it must find what is precious, and the same search
must find the canaries in the living home. Prints one line of JSON, and ends with 1 when a
canary is in an archive or something precious is in none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def environment(config: Json, repository: Json) -> dict[str, str]:
    key = f"ssh -i {repository['ssh_key']} -o IdentitiesOnly=yes -o BatchMode=yes"
    hosts = f"-o UserKnownHostsFile={repository['known_hosts']} -o StrictHostKeyChecking=yes"
    return {
        **os.environ,
        "BORG_REPO": repository["url"],
        "BORG_RSH": f"{key} {hosts}",
        "BORG_BASE_DIR": repository["base_dir"],
        "BORG_KEYS_DIR": repository["keys_dir"],
        "BORG_PASSCOMMAND": f"cat {repository['passphrase_file']}",
    }


def files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path


def search(folder: Path, needles: dict[str, str]) -> tuple[dict[str, str], int]:
    """Which needles are in which file, and how many files were read."""
    found: dict[str, str] = {}
    count = 0
    for path in files(folder):
        content = path.read_bytes()
        count += 1
        for place, needle in needles.items():
            if needle.encode() in content:
                found[place] = str(path.relative_to(folder))
    return found, count


def missing(folder: Path, home: str, precious: dict[str, str]) -> list[str]:
    """What is precious and not where it belongs in an extracted archive."""
    inside = folder / home.lstrip("/")
    return [
        name
        for name, text in precious.items()
        if not (inside / name).is_file() or text not in (inside / name).read_text(encoding="utf-8")
    ]


def main() -> None:
    agent = sys.argv[1]
    expected = json.load(sys.stdin)
    config = json.loads(Path(f"/etc/lifeboat/agents/{agent}/config.json").read_text())
    borg = config["borg"]
    in_archives: dict[str, str] = {}
    lacking: list[str] = []
    archives = count = 0
    with tempfile.TemporaryDirectory(prefix="lifeboat-search-", dir="/var/tmp") as place:
        for repository in config["repositories"]:
            to_repository = environment(config, repository)
            listing = subprocess.run(
                [borg, "list", "--short", "--lock-wait", "60"],
                env=to_repository,
                check=True,
                capture_output=True,
                text=True,
            )
            for archive in listing.stdout.split():
                folder = Path(place) / repository["name"] / archive
                folder.mkdir(parents=True)
                command = [borg, "extract", "--lock-wait", "60", f"::{archive}"]
                subprocess.run(command, env=to_repository, check=True, cwd=folder)
                found, read = search(folder, expected["canaries"])
                in_archives.update(found)
                lacking += missing(folder, config["home"], expected["precious"])
                archives += 1
                count += read
    in_home, _unused = search(Path(config["home"]), expected["canaries"])
    result = {
        "planted": len(expected["canaries"]),
        "found_in_home": len(in_home),
        "archives": archives,
        "files": count,
        "found_in_archives": in_archives,
        "precious_missing": lacking,
    }
    print(json.dumps(result))
    sys.exit(1 if in_archives or lacking or not archives else 0)


if __name__ == "__main__":
    main()
