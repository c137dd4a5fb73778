# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that no rule knows: what passes the scan, and what cannot."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zipfile
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.classify import Classifier
from ansible_collections.lifeboat.agents.plugins.module_utils.look import Cache, Look, Looker
from ansible_collections.lifeboat.agents.plugins.module_utils.profile import load
from ansible_collections.lifeboat.agents.plugins.module_utils.secrets import MARKER, Scanner
from ansible_collections.lifeboat.agents.plugins.module_utils.survey import Survey
from ansible_collections.lifeboat.agents.plugins.module_utils.walk import open_home
from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils.engine import (
    SMALL_PROFILE,
    write,
)

HEX = "9f86d081884c7d659a2feaa0c55ad015"
LARGE = b"some words\n" * 200_000


def look(root: Path, data: bytes | str, name: str = "stranger") -> Look:
    """What is found in a file of this content that no rule knows."""
    home = root / "home"
    write(home / name, data)
    _real, descriptor = open_home(str(home), os.geteuid())
    survey = Survey(Classifier(load(SMALL_PROFILE)))
    try:
        survey.run(descriptor)
        [entry] = [entry for entry in survey.archived if entry.path == name]
        return Looker(descriptor, Scanner(), Cache(root / "cache", "1")).look(entry, None)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    "text",
    [
        '{"gh": {"events": [], "secret": "' + HEX + '", "prompt": "x"}}',
        '{"appSecret":"' + HEX + '"}',
        '{\\"token\\": \\"' + HEX + '\\"}',
        f"gateway:\n  webhook:\n    secret: {HEX}\n",
        f"  - token: {HEX}  # the bot\r\n",
        f"# app_secret = {HEX}\n",
        f"export ENCRYPT_KEY={HEX}\n",
        f'verification_token = "{HEX}"\n',
        f"experimental_bearer_token = '{HEX}'\n",
        f"x: {{secret: {HEX}, a: b}}\n",
        'password: "two words"\n',
        'password: "$ummer2026"\n',
        "password: 123456\n",
    ],
)
def test_a_setting_is_judged_by_its_name(tmp_path: Path, text: str) -> None:
    assert "secret-name" in {finding.rule for finding in look(tmp_path, text).findings}


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens: 4096\ntoken_count: 12345\nmodel: gpt\n",
        'token: ${TOKEN}\nsecret: $MY_SECRET\nbearer: {{ vault }}\n"token": "%TOKEN%"\n',
        'token: true\npassword: null\nsecret: ""\ntokens: 999\npassword:\nnext: 1\n',
        f"secret: {MARKER}\npassword: <your password>\ntoken: your_token_here\n",
        "The secret: of a good garden is water.\nA token: this is one.\n",
        "Password: the usual words of the house\n",
        "token: str = ''\nsecret: string;\nclass A:\n    token: str\n    password: Optional[str]\n",
        "token = get_token()\nsecret = self.secret\nsecret = new_secret\ntoken = tokens[0]\n",
        "password: |\n",
    ],
)
def test_what_is_no_value_of_a_secret_passes(tmp_path: Path, text: str) -> None:
    assert look(tmp_path, text) == look(tmp_path, text)._replace(findings=(), secret="")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("before", [b"", LARGE])
def test_text_in_utf_16_is_read_as_text(tmp_path: Path, encoding: str, before: bytes) -> None:
    text = before.decode() + f"secret: {HEX}\nsk-ant-" + "api03-abcdefghij0123456789\n"
    found = look(tmp_path, text.encode(encoding), "notes").findings
    assert {finding.rule for finding in found} == {"sk-key", "secret-name"}
    assert look(tmp_path, before + "plain words".encode(encoding), "plain").findings == ()


def zipped() -> bytes:
    """A zip that holds a .env."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(".env", f"TOKEN={HEX}\n" * 9)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (zipped(), "zip"),
        (gzip.compress(b"x"), "gzip"),
        (lzma.compress(b"x"), "xz"),
        (bz2.compress(b"x"), "bzip2"),
        (b"7z\xbc\xaf\x27\x1c" + b"\0" * 99, "7z"),
        (b"\x28\xb5\x2f\xfd" + b"\0" * 99, "zstd"),
        (gzip.compress(os.urandom(1 << 21)), "gzip"),
    ],
    ids=["zip", "gzip", "xz", "bzip2", "7z", "zstd", "large"],
)
def test_what_is_compressed_does_not_pass(tmp_path: Path, data: bytes, kind: str) -> None:
    assert (
        look(tmp_path, data).secret == f"is compressed ({kind}), so that no scan can look into it"
    )
    assert look(tmp_path, data, "SOUL.md").secret == ""
