# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages in a real browser: they render, stay as wide as the screen, and print."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .test_report import pages

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"),
)

pytestmark = pytest.mark.skipif(not BROWSER, reason="there is no Chromium here")


def browse(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [BROWSER, *QUIET, f"--user-data-dir={folder}/profile", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("number", [1, 3])
def test_a_page_fits_a_phone_and_a_screen(
    tmp_path: Path, facts: dict[str, Any], number: int
) -> None:
    """Asked of the browser itself, in a frame of that width; the page itself allows no script."""
    text = pages(facts)[number]
    text = re.sub(r"<meta http-equiv=[^>]*>", "", text)
    (tmp_path / "page.html").write_text(text)
    for width in (390, 1280):
        (tmp_path / "frame.html").write_text(
            f'<iframe id="f" src="page.html" style="width:{width}px;height:900px;border:0">'
            "</iframe><p id=w></p><script>f.onload = () => { const d = f.contentDocument"
            ".documentElement; w.textContent = `${d.scrollWidth} of ${d.clientWidth}`; }</script>"
        )
        shown = browse(
            tmp_path,
            "--allow-file-access-from-files",
            "--virtual-time-budget=5000",
            "--dump-dom",
            f"file://{tmp_path}/frame.html",
        )
        found = re.search(r'<p id="w">(\d+) of (\d+)</p>', shown)
        assert found is not None, shown[-500:]
        assert int(found.group(1)) <= int(found.group(2)) == width


def test_a_page_prints(tmp_path: Path, facts: dict[str, Any]) -> None:
    (tmp_path / "page.html").write_text(pages(facts)[1])
    paper = tmp_path / "page.pdf"
    browse(tmp_path, f"--print-to-pdf={paper}", f"file://{tmp_path}/page.html")
    assert paper.read_bytes().startswith(b"%PDF")
    assert paper.stat().st_size > 10_000
