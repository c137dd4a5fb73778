# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from ansible_collections.lifeboat.agents.plugins.module_utils.scrub import (
    Policy,
    ScrubError,
    export_environment,
    scrub,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.secrets import MARKER, Scanner

POLICY = Policy(Scanner())


def scrubbed(name: str, text: str, policy: Policy = POLICY) -> tuple[str, tuple[str, ...]]:
    result = scrub(name, text, policy)
    return result.text, result.keys


YAML = """# A config, with its comments.
model:
  provider: custom   # kept
  api_key: "canary-1"  # the key
  base_url: http://127.0.0.1:1/v1
  max_tokens: 4096
allowed:
- one
- token: canary-2
  name: kept
servers:
  github:
    command: npx
    env:
      GITHUB_TOKEN: canary-3
      PLAIN: 'canary-4'
    args: ["--token", "canary-5", {password: canary-6, user: me}]
  flow: {
    secret: canary-7, other: [1, 2]
  }
private_key: |
  canary-8
    canary-8b

folded: >-
  kept text
  of two lines
password: canary-9
  canary-9b
empty_password: ""
from_env: ${FOO}
token: ${TOKEN}
url: https://user:canary10@host/x
passwords:
- canary-11
- canary-12
last: 'it''s'
hmac_secret: 123456
"quoted password": "canary-13
  canary-13b"
anchored_token: &anchor canary-14
again_token: *anchor
api_keys:
    deep:
        deeper: canary-15
# api_key: canary-16
enabled: true # after
"""


def test_yaml_keeps_everything_but_the_secrets() -> None:
    text, keys = scrubbed("config.yaml", YAML)
    assert "canary" not in text
    before, after = yaml.safe_load(YAML), yaml.safe_load(text)
    assert differences(before, after) == {
        "model.api_key", "allowed.1.token", "servers.github.env.GITHUB_TOKEN",
        "servers.github.env.PLAIN", "servers.github.args.1", "servers.github.args.2.password",
        "servers.flow.secret", "private_key", "password", "url", "passwords.0", "passwords.1",
        "hmac_secret", "quoted password", "anchored_token", "again_token", "api_keys.deep.deeper",
    }  # fmt: skip
    assert "model.api_key" in keys
    touched = ("canary", "123456", "private_key")
    untouched = [line for line in YAML.splitlines() if not any(word in line for word in touched)]
    assert [line for line in text.splitlines() if MARKER not in line] == untouched
    assert '  api_key: "' + MARKER + '"  # the key' in text.splitlines()
    assert f"# api_key: {MARKER}" in text.splitlines()


def differences(before: Any, after: Any, path: str = "") -> set[str]:
    """The paths whose values differ; every one must be the marker afterwards."""
    if isinstance(before, dict):
        assert list(before) == list(after), path
        pairs = [(str(key), before[key], after[key]) for key in before]
    elif isinstance(before, list):
        assert len(before) == len(after), path
        pairs = [(str(n), b, a) for n, (b, a) in enumerate(zip(before, after))]
    else:
        if before == after:
            return set()
        assert after == MARKER, path
        return {path}
    found: set[str] = set()
    for key, one, other in pairs:
        found |= differences(one, other, f"{path}.{key}" if path else key)
    return found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: 1\n",
        "a: 1",
        "---\na: b\n...\n",
        "# only a comment\n",
        "a:\n  - b\n  - c: d\n    e: f\n  -\n    g: h\n",
        "a: {b: c, d: [e, f]}\nlist: []\nmap: {}\n",
        "text: |\n  # not a comment: {\n  key: value\n\n  more\nnext: 1\n",
        "url: http://host:80/path # comment\ntime: 12:30:45\n",
        '\'quoted\': "a # b"\n"x: y": z\n',
        "key with spaces: value with: colon\n",
        "a: 1\r\nb: 2\r\n",
        "multi: one\n  two\n  three\nnext: x\n",
        "deep:\n    four: 1\n    five:\n        six: 2\n",
        "a:\n  on its own line\nb:\n  'quoted'\n",
        "- a\n- - b\n  - c\n- d: e\n",
        "tagged: !!str 5\nanchor: &x [1, 2]\nalias: *x\n",
    ],
)
def test_yaml_without_secrets_stays_byte_for_byte(text: str) -> None:
    assert scrubbed("a.yml", text) == (text, ())


@pytest.mark.parametrize(
    "text",
    [
        "a:\n\tb: 1\n",
        "? complex\n: value\n",
        "a: 'no end\n",
        "a: {b: c\n",
        "free text that is no mapping\n",
        "a: {b: c} trailing\n",
    ],
)
def test_yaml_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(ScrubError):
        scrubbed("a.yaml", text)


JSON = """{
  // a comment
  "model": {"api_key": "canary-1", "max_tokens": 5, "nested": {"x": ["a", {"bot_token": "canary-2"}]}},
  "password": 123456, "enabled": true, "none_token": null, "empty_secret": "",
  "env": {"HOME_DIR": "canary-3"},
  "args": ["--api-key=canary-4", "--password", "canary-5", "plain"],
  "escaped \\"token\\"": "canary-6",
  "url": "https://user:canary77@host/"  /* after */
}
"""


def test_json_keeps_order_spacing_and_comments() -> None:
    text, keys = scrubbed("gateway.json", JSON)
    assert "canary" not in text
    assert text.count(MARKER) == len(keys) + 0 == 8
    assert "// a comment" in text and "/* after */" in text
    assert '"max_tokens": 5, "nested": {"x": ["a", {"bot_token": "' + MARKER + '"}]}' in text
    assert '"enabled": true, "none_token": null, "empty_secret": ""' in text


def test_json_stays_json_and_without_secrets_the_same() -> None:
    plain = '{"a": [1, 2.5, -3e4, "x"], "b": {"c": null}}\n'
    assert scrubbed("x.json", plain) == (plain, ())
    text, _keys = scrubbed("x.json", '{"a_token": "b", "c": [{"secret": 5}]}')
    assert json.loads(text) == {"a_token": MARKER, "c": [{"secret": MARKER}]}


@pytest.mark.parametrize("text", ['{"a": ', '{"a": "b"]', '{"a": "unterminated}', "[1, 2"])
def test_json_that_is_broken_is_refused(text: str) -> None:
    with pytest.raises(ScrubError):
        scrubbed("x.json", text)


TOML = """# c
model = "x" # comment
api_key = "canary-1"
[mcp_servers.git]
env = { TOKEN = "canary-2", B = 'canary-3' }
args = ["a", "--token", "canary-4"] # d
date = 1979-05-27T07:32:00Z
f = 1.5
[[x.auth]]
user = "canary-5"
secret = \"\"\"
canary-6\"\"\"
a.b.password = 'canary-7'
[y]
list = [
  1, # one
  { token = "canary-8" },
]
"""


def test_toml() -> None:
    text, keys = scrubbed("config.toml", TOML)
    assert "canary" not in text
    assert len(keys) == 8
    for kept in ('model = "x" # comment', "date = 1979-05-27T07:32:00Z", "f = 1.5", "  1, # one"):
        assert kept in text.splitlines()
    plain = 'a = 1\n[b]\nc = ["d", {e = 1.0}]\n'
    assert scrubbed("x.toml", plain) == (plain, ())
    with pytest.raises(ScrubError):
        scrubbed("x.toml", "a = \n")


def test_values_that_look_like_credentials_go_whatever_their_name() -> None:
    text, keys = scrubbed("c.yaml", "hint: use " + "gh" + "p_" + "a" * 36 + " here\n")
    assert text == f"hint: {MARKER}\n"
    assert keys == ("hint",)


def test_a_profile_says_what_is_plain_and_what_is_secret_besides() -> None:
    policy = Policy(Scanner(), keys=("pin_code",), plain_keys=("secrets", "basic_auth"))
    text, _keys = scrubbed(
        "c.yaml",
        "secrets:\n  vault:\n    server: https://v\n    token_value: x\npin_code: 1234\nbasic_auth:\n  username: u\n",
        policy,
    )
    assert "server: https://v" in text
    assert "username: u" in text
    assert f"pin_code: {MARKER}" in text


def test_a_file_of_another_kind_is_refused() -> None:
    with pytest.raises(ScrubError, match="no scrubber"):
        scrubbed("config.ini", "a = b")


def test_allowlists_leave_env_without_the_secrets_beside_them() -> None:
    text = (
        "# c\nexport TELEGRAM_BOT_TOKEN='canary-1'\nTELEGRAM_ALLOWED_USERS=\"1,2\"\n"
        "OPENAI_API_KEY=canary-2\nODD_ALLOWED_USERS=" + "gh" + "p_" + "a" * 36 + "\n"
    )
    result = export_environment(text, POLICY, ["*_ALLOWED_USERS"])
    assert result["names"] == [
        "ODD_ALLOWED_USERS",
        "OPENAI_API_KEY",
        "TELEGRAM_ALLOWED_USERS",
        "TELEGRAM_BOT_TOKEN",
    ]
    assert result["values"] == {"TELEGRAM_ALLOWED_USERS": "1,2"}
