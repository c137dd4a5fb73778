# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forms in which configuration files hold a secret, and harmless ones that look like them."""

from __future__ import annotations

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.scrub import Policy, scrub
from ansible_collections.lifeboat.agents.plugins.module_utils.secrets import MARKER, Scanner
from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils.engine import shipped

POLICY = Policy.of(shipped("hermes"), Scanner())
HEX = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "url: https://h.test/sse?token={}\n"),
        ("a.yaml", 'url: "https://h.test/sse?a=b&key={}&c=d#e"  # c\n'),
        ("a.yaml", "x: {{url: 'https://h.test/?access_token={}'}}\n"),
        ("a.yaml", "text: |\n  see https://h.test/?api_key={} there\n"),
        ("a.json", '{{"url": "https://h.test/x?sig={}&a=1"}}'),
        ("a.toml", 'url = "https://h.test/x?token={}"\n'),
        ("a.env", "URL=https://h.test/x?token={}\n"),
    ],
)
def test_the_secret_goes_from_the_query_of_a_url(name: str, text: str) -> None:
    assert scrub(name, text.format(HEX), POLICY).text == text.format(MARKER)
    assert scrub(name, text.format(HEX), POLICY).keys


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "smtp_pass: hunter2hunter2\n"),
        ("a.yaml", f'auth_header: "Bearer {HEX}"\n'),
        ("a.yaml", f"anything: Bearer {HEX}\n"),
        ("a.yaml", "password: $ummer2026\n"),
        ("a.yaml", f"elevenlabs_key: {HEX}\n"),
        ("a.yaml", f"list:\n  - name: API_KEY\n    value: {HEX}\n"),
        ("a.yaml", f"list: [{{name: API_KEY, value: {HEX}}}]\n"),
        ("a.json", f'{{"list": [{{"name": "API_KEY", "value": "{HEX}"}}]}}'),
        ("a.toml", f'[[list]]\nname = "API_KEY"\nvalue = "{HEX}"\n'),
        ("a.yaml", f"list:\n  - value: {HEX}\n    name: API_KEY\n"),
        ("a.yaml", f"- value: {HEX}\n  name: API_KEY\n- value: x\n  name: MODEL\n"),
        ("a.yaml", f'- value: "{HEX}"\n  name: API_KEY\n---\n- value: y\n  name: MODEL\n'),
        ("a.yaml", f"- name: API_KEY\n  of:\n    - name: x\n  value: {HEX}\n"),
        ("a.yaml", f"- value: {HEX}\n  of:\n  - name: x\n  name: API_KEY\n  key: x\n"),
        ("a.yaml", f"- value: |\n    {HEX}\n  name: API_KEY\n"),
        ("a.yaml", f"one:\n  value: {HEX}\n  name: API_KEY\n"),
        ("a.yaml", f"list: [{{value: {HEX}, name: API_KEY}}, {{value: x, name: MODEL}}]\n"),
        ("a.yaml", f"list: [{{name: API_KEY, of: [x, {{name: y}}],\n value: {HEX}}}]\n"),
        ("a.json", f'{{"list": [{{"value": "{HEX}", "of": [1], "name": "API_KEY"}}]}}'),
        ("a.toml", f'[[list]]\nvalue = "{HEX}"\nname = "API_KEY"\n[[list]]\nname = "MODEL"\n'),
        ("a.toml", f'a = [{{value = "{HEX}", name = "API_KEY"}}, {{value = "x", name = "M"}}]\n'),
        ("a.yaml", f'args:\n- -H\n- "X-Token: {HEX}"\n'),
        ("a.json", f'{{"args": ["--header", "X-Api-Key: {HEX}"]}}'),
        ("a.toml", f'args = ["--header=X-Token: {HEX}"]\n'),
    ],
)
def test_a_secret_goes_by_its_name_and_form(name: str, text: str) -> None:
    result = scrub(name, text, POLICY)
    assert MARKER in result.text and len(result.keys) == 1
    assert not any(word in result.text for word in (HEX, "hunter2", "ummer"))


@pytest.mark.parametrize(
    "text",
    [
        "url: https://h.test/?q=token&max_tokens=5&token=${TOKEN}&key=\n",
        "first_pass: one\nlow_pass: 440\npass: true\n",
        "auth_header_name: X-Thing\nheader: X-Thing\n",
        "password: ${PASSWORD}\ntoken: $MY_TOKEN\nsecret: $SECRET\npath: $work\n",
        f"public_key: {HEX}\ncache_key: {HEX}\n",
        f"model_key: claude-3-5-sonnet-20241022\nsort_key: created_at_of_2026_entries\nkey: {HEX}\n",
        f"list:\n  - name: MODEL\n    value: {HEX}\n  - value: {HEX}\nvalue: {HEX}\n",
        "list:\n  - name: API_KEY\n    description: x\n  - value: y\n",
        f"a:\n- value: {HEX}\n  of:\n    name: API_KEY\n- name: API_KEY\n- value: {HEX}\n",
        f"- value: {HEX}\n---\n- name: API_KEY\n",
        f"list: [{{value: {HEX}, of: {{name: API_KEY}}}}, {{name: API_KEY}}, {{value: {HEX}}}]\n",
        'args:\n- -H\n- "Accept: text/plain"\n- "a: b"\n',
    ],
)
def test_what_is_harmless_stays_byte_for_byte(text: str) -> None:
    assert scrub("a.yaml", text, POLICY).text == text
