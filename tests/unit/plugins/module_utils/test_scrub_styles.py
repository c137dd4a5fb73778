# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same settings in every style that YAML can be written in: no secret is left in any."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import yaml

from ansible_collections.lifeboat.agents.plugins.module_utils.scrub import (
    Policy,
    ScrubError,
    scrub,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.secrets import Scanner
from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils.test_scrub import (
    differences,
)

POLICY = Policy(Scanner())
SECRET_KEYS = ("password", "bot_token", "secret", "apiKey", "client-secret")
PLAIN_KEYS = ("model", "name", "max_tokens", "url", "items")
PLAIN_VALUES = (
    "x",
    "two words",
    "a: b",
    "it's",
    "",
    "# no comment",
    '"q"',
    12,
    1.5,
    True,
    None,
    "a,b",
    "[x]",
)
SHAPES = ("canary-{}", "canary {} with words", "canary, {}: x", "canary'{}", 'canary"{}', "#canary{}",
          "{{canary{}}}", "canary\n{}", "canary\\{}", "\u00fccanary{}", "canary " + "long " * 30 + "{}")  # fmt: skip


def structure(numbers: random.Random, depth: int = 0) -> Any:
    """A mapping with secrets somewhere in it."""
    result: dict[str, Any] = {}
    for _count in range(numbers.randint(1, 4)):
        kind = numbers.random()
        if kind < 0.35:
            shape = numbers.choice(SHAPES)
            result[numbers.choice(SECRET_KEYS)] = shape.format(numbers.randint(10, 99))
        elif kind < 0.6 or depth > 2:
            result[numbers.choice(PLAIN_KEYS)] = numbers.choice(PLAIN_VALUES)
        elif kind < 0.8:
            result[numbers.choice(PLAIN_KEYS)] = structure(numbers, depth + 1)
        else:
            result[numbers.choice(PLAIN_KEYS)] = [
                structure(numbers, depth + 1),
                numbers.choice(PLAIN_VALUES),
                structure(numbers, depth + 1),
            ]
    return result


STYLES = {
    "block": lambda data: yaml.safe_dump(data, default_flow_style=False),
    "flow": lambda data: yaml.safe_dump(data, default_flow_style=True),
    "mixed": lambda data: yaml.safe_dump(data, default_flow_style=None, allow_unicode=True),
    "wide": lambda data: yaml.safe_dump(data, default_flow_style=None, width=1000, sort_keys=False),
    "single quotes": lambda data: yaml.safe_dump(data, default_style="'"),
    "double quotes": lambda data: yaml.safe_dump(data, default_style='"', default_flow_style=True),
    "JSON": json.dumps,
    "compact JSON": lambda data: json.dumps(data, separators=(",", ":")),
    "wide JSON": lambda data: json.dumps(data, separators=(" , ", " : "), ensure_ascii=False),
    "indented JSON": lambda data: json.dumps(data, indent=2),
    "JSON in a key": lambda data: "top: " + json.dumps(data, separators=(",", ":")) + "  # c\nlast: 1\n",
    "JSON in a list": lambda data: "- " + json.dumps(data, separators=(",", ":")) + "\n- x\n",
    "JSON with comments": lambda data: json.dumps(data, indent=1, separators=(", # }c\"", ":")),
}  # fmt: skip


@pytest.mark.parametrize("style", sorted(STYLES))
def test_no_style_hides_a_secret(style: str) -> None:
    for seed in range(40):
        text = STYLES[style](structure(random.Random(seed)))
        result = scrub("config.yaml", text, POLICY).text
        assert "canary" not in result, (seed, text, result)
        differences(yaml.safe_load(text), yaml.safe_load(result))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('webhook: {"secret":"canary-0123456789"}\n', "canary"),
        ('x: {"a":1,"password":"hunter2"}\n', "hunter2"),
        ("x: {'password':hunter2}\n", "hunter2"),
        ('x: {"password" :"hunter2"}\n', "hunter2"),
        ('x: ["password":"hunter2"]\n', "hunter2"),
        ('x: {password: !!str "a, hunter2"}\n', "hunter2"),
        ('x: {"\\u0070assword":"hunter2"}\n', "hunter2"),
        ('x:\n  {"deep":{"y":[{"token":"hunter2"}]}}\n', "hunter2"),
    ],
)
def test_a_colon_after_a_quoted_key_needs_no_space(text: str, value: str) -> None:
    result = scrub("config.yaml", text, POLICY).text
    assert value not in result
    assert differences(yaml.safe_load(text), yaml.safe_load(result))


@pytest.mark.parametrize(
    "text",
    [
        'x: {["password"]:"hunter2"}\n',
        "x: {a: b\n 'c, d': e}\n",
        'x: {"a" "b": c}\n',
        "x: {a: b,#}\n password: hunter2}\n",
        'x: {"\\U00110000": b}\n',
    ],
)
def test_a_doubtful_flow_collection_withholds_the_file(text: str) -> None:
    with pytest.raises(ScrubError):
        scrub("config.yaml", text, POLICY)


@pytest.mark.parametrize(
    "text",
    [
        'a: {"b":1,"c":["d","e"],"f":{"g":null}}\n',
        "a: {url: http://x:80/y, \"t\":12:30, &x k: *x }\n",
        "a: [b c\n  d, !!str 5, 'it''s':x]\n",
    ],
)  # fmt: skip
def test_a_compact_flow_collection_without_secrets_stays(text: str) -> None:
    assert scrub("config.yaml", text, POLICY).text == text
