# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent's home, its archive tree and, where borg is at hand, a real repository."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import World, find_borg


@pytest.fixture
def world() -> Iterator[World]:
    """Below /tmp and open to look into: the extracting user must reach it."""
    root = Path(tempfile.mkdtemp(prefix="lifeboat-restore-test-"))
    root.chmod(0o755)
    try:
        yield World(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def borg_world(world: World) -> World:
    borg = find_borg()
    if borg is None:
        pytest.skip("no borg 1.4.5 on PATH (or in LIFEBOAT_BORG)")
    os.environ.pop("BORG_PASSPHRASE", None)
    world.borg = borg
    return world
