# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils import engine


@pytest.fixture
def box(tmp_path: Path) -> engine.Box:
    """A box with one repository and a small home."""
    return engine.Box(tmp_path, engine.find_borg())
