# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
import time

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import secrets
from ansible_collections.lifeboat.agents.plugins.module_utils.errors import CouldNotRun
from ansible_collections.lifeboat.agents.plugins.module_utils.secrets import MARKER, Scanner

# Put together here, so that no scanner takes this file for a leak.
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOP"
SAMPLES = {
    "private-key": "-----BEGIN " + "OPENSSH PRIVATE KEY-----",
    "putty-key": "PuTTY-User-Key-" + "File-3: ssh-ed25519",
    "age-key": "AGE-SECRET-" + "KEY-1" + "Q" * 58,
    "sk-key": "sk" + "-ant-api03-" + LETTERS[:40],
    "aws-key": "AKIA" + "ABCDEFGHIJKLMNOP",
    "github-token": "ghp" + "_" + LETTERS[:36],
    "gitlab-token": "glpat" + "-" + LETTERS[:20],
    "google-key": "AIza" + LETTERS[:35],
    "google-oauth": "GOCSPX" + "-" + LETTERS[:28],
    "google-refresh-token": "1//0" + LETTERS[:40],
    "slack-token": "xoxb" + "-123456789012-" + LETTERS[:20],
    "slack-webhook": "https://hooks.slack.com" + "/services/T00000000/B00000000/" + LETTERS[:24],
    "discord-webhook": "https://discord.com" + "/api/webhooks/123456789012/" + LETTERS[:40],
    "telegram-token": "123456789" + ":AA" + LETTERS[:33],
    "discord-token": "MTIzNDU2Nzg5MDEyMzQ1Njc4" + ".Gabcde." + LETTERS[:30],
    "jwt": "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0In0." + LETTERS[:20],
    "stripe-key": "sk" + "_live_" + LETTERS[:24],
    "sendgrid-key": "SG" + "." + LETTERS[:22] + "." + LETTERS[:43],
    "huggingface-token": "hf" + "_" + LETTERS[:34],
    "npm-token": "npm" + "_" + LETTERS[:36],
    "pypi-token": "pypi" + "-AgE" + LETTERS[:48],
    "provider-key": "gsk" + "_" + LETTERS[:40],
    "authorization": "Authorization" + ": Bearer " + LETTERS[:20],
    "url-password": "postgres://user" + ":hunter22@db.example/x",
    "secret-field": '"refresh_token"' + ': "canary-refresh-1"',
}


def rules(text: str) -> set[str]:
    return {finding.rule for finding in Scanner().scan(text.encode())}


def test_every_pattern_has_a_sample() -> None:
    assert set(SAMPLES) == {pattern.name for pattern in secrets.PATTERNS}


@pytest.mark.parametrize("name", sorted(SAMPLES))
@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "some text {} and more",
        '{{"key": "{}"}}',
        "in JSON: \\n{} \\n",
        "first\nsecond\n  {}\nlast",
    ],
)
def test_found_wherever_it_stands(name: str, around: str) -> None:
    text = around.format(SAMPLES[name])
    assert name in rules(text)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_redacted_to_nothing(name: str) -> None:
    redacted = Scanner().redact(f"# old: {SAMPLES[name]} #")
    assert MARKER in redacted
    assert not rules(redacted)


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens: 4096 and 12 tokens",
        "password = get_password()",
        "password = self.passwords[name]",
        "api_key: ${OPENAI_API_KEY}",
        'api_key = "$OPENAI_API_KEY"',
        'api_key: "YOUR_API_KEY_HERE"',
        "token: <your token>",
        f'"api_key": "{MARKER}"',
        "https://example.net/a:b/c and 3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "https://user:${PASSWORD}@host/",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "a PRIVATE KEY is a secret; a public one is not",
        "mask-sk-learn-and-other-words",
        "",
    ],
)
def test_what_is_no_secret(text: str) -> None:
    assert rules(text) == set()


def test_lines_and_no_values() -> None:
    text = "one\ntwo\n" + SAMPLES["sk-key"] + "\n"
    [finding] = Scanner().scan(text.encode())
    assert (finding.rule, finding.line) == ("sk-key", 3)
    assert SAMPLES["sk-key"] not in repr(finding)


def test_a_hit_across_blocks_is_found() -> None:
    data = b"x" * 5000 + b"\n" + SAMPLES["github-token"].encode() + b"\n" + b"y" * 9000
    for size in (5010, 5020, 1000):
        blocks = [data[start : start + size] for start in range(0, len(data), size)]
        assert [f.rule for f in Scanner().scan_blocks(blocks)] == ["github-token"]


def test_users_add_patterns_and_accept_findings() -> None:
    scanner = Scanner(
        [{"name": "badge", "regex": r"BADGE-\d{4}"}], [{"path": "skills/*", "rule": "badge"}]
    )
    assert [f.rule for f in scanner.scan(b"BADGE-1234")] == ["badge"]
    assert scanner.accepts("skills/a/b.md", "badge")
    assert not scanner.accepts("skills/a/b.md", "jwt")
    assert not scanner.accepts("memories/a", "badge")
    assert scanner.version != Scanner().version


def test_a_wrong_pattern_is_an_error_that_names_it() -> None:
    with pytest.raises(CouldNotRun, match="secret_patterns"):
        Scanner([{"name": "x", "regex": "("}])


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("api_key", True), ("apiKey", True), ("OPENAI_API_KEY", True), ("password", True),
        ("passwords", True), ("client_secret", True), ("webhook_hmac_secret", True), ("token", True),
        ("botToken", True), ("access_token", True), ("private_key", True), ("password_hash", True),
        ("x-api-key", True), ("tokens", True), ("jwt", True), ("cookie", True),
        ("max_tokens", False), ("token_file", False), ("api_key_env", False), ("secret_name", False),
        ("token_url", False), ("keyboard", False), ("monkey", False), ("auth_type", False),
        ("min_secret_chars", False), ("key", False), ("primary_key_column_name", False),
        ("name", False), ("", False), ("token_count", False),
    ],
)  # fmt: skip
def test_names_of_settings(key: str, secret: bool) -> None:
    assert secrets.secret_name(key) is secret


@pytest.mark.parametrize(
    ("path", "secret"),
    [
        (".env", True), ("a/.env.local", True), (".envrc", True), ("deploy.env", True), ("id_ed25519", True),
        ("id_ed25519.pub", False), ("x/.ssh/config", True), ("server.pem", True), ("credentials.json", True),
        ("my_token.json", True), ("auth.db", True), ("cookies.sqlite", True), ("secrets.yaml", True),
        ("service-account.json", True), ("notes.md", False), ("author.json", False), ("tokenizer.json", False),
        ("keyboard.md", False), ("environment.md", False), (".netrc", True), ("google_oauth_pending.json", True),
    ],
)  # fmt: skip
def test_names_of_files(path: str, secret: bool) -> None:
    assert bool(secrets.secret_file_name(path)) is secret


def test_a_private_key_is_told_from_a_text_about_one() -> None:
    key = SAMPLES["private-key"].encode()
    assert secrets.is_private_key(b"\n" + key)
    assert not secrets.is_private_key(b"How to read a " + key)


def test_patterns_do_not_look_twice() -> None:
    """A pattern that can match its own repetitions takes forever on hostile text."""

    text = (b"a-" * 40000) + b"\n" + b"sk-" + b"a-" * 40000 + b"://" + b"a:" * 20000
    begun = time.process_time()  # not of the clock: the machine may have other work
    Scanner().scan(text)
    assert time.process_time() - begun < 5
    assert all(isinstance(pattern.regex, re.Pattern) for pattern in secrets.PATTERNS)
