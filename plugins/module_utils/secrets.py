# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding credentials: patterns over bytes, and names of keys and files that speak of secrets.

A finding says where and by which rule, never the value. Each rule names literal bytes that every
hit contains, so that the expression runs only where they occur: that makes the scan of a small
text file cost microseconds.

Not guaranteed: that a password without form or name (a word in a conversation) is found.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .errors import CouldNotRun

MARKER = "__LIFEBOAT_TO_BE_SUPPLIED__"
TEXT_LIMIT = 1 << 20
_OVERLAP = 4096
_PER_FILE = 50


@dataclasses.dataclass(frozen=True)
class Pattern:
    """One rule of the scan."""

    name: str
    regex: re.Pattern[bytes]
    literals: tuple[bytes, ...] = ()


@dataclasses.dataclass(frozen=True)
class Finding:
    """A hit: where and by which rule."""

    rule: str
    line: int


def _pattern(name: str, regex: str, *literals: str) -> Pattern:
    return Pattern(name, re.compile(regex.encode()), tuple(item.encode() for item in literals))


_VALUE = r"[A-Za-z0-9_.+/=~:!@#$%^&*-]"
_FIELDS = (
    "api_key",
    "apiKey",
    "api-key",
    "API_KEY",
    "client_secret",
    "clientSecret",
    "access_token",
    "accessToken",
    "refresh_token",
    "refreshToken",
    "REFRESH_TOKEN",
    "ACCESS_TOKEN",
    "CLIENT_SECRET",
    "AUTH_TOKEN",
    "auth_token",
    "bot_token",
    "BOT_TOKEN",
    "password",
    "PASSWORD",
    "secret_key",
    "SECRET_KEY",
    "signing_secret",
    "private_key",
)

PATTERNS: tuple[Pattern, ...] = (
    _pattern("private-key", r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----", "PRIVATE KEY"),
    _pattern("putty-key", r"PuTTY-User-Key-File-[0-9]", "PuTTY-User-Key-File-"),
    _pattern("age-key", r"AGE-SECRET-KEY-1[0-9A-Z]{40,}", "AGE-SECRET-KEY-1"),
    _pattern("sk-key", r"(?<![A-Za-z0-9])sk-(?:[A-Za-z0-9]+-)*[A-Za-z0-9_-]{20,}", "sk-"),
    _pattern("aws-key", r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![A-Za-z0-9])", "AKIA", "ASIA"),
    _pattern("github-token", r"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    _pattern("gitlab-token", r"gl(?:pat|dt|rt|cbt|ptt)-[A-Za-z0-9_-]{20,}", "glpat-", "gldt-", "glrt-", "glcbt-", "glptt-"),
    _pattern("google-key", r"AIza[0-9A-Za-z_-]{35}", "AIza"),
    _pattern("google-oauth", r"ya29\.[0-9A-Za-z_-]{20,}|GOCSPX-[0-9A-Za-z_-]{20,}", "ya29.", "GOCSPX-"),
    _pattern("google-refresh-token", r"1//0[0-9A-Za-z_-]{30,}", "1//0"),
    _pattern("slack-token", r"xox[abeoprs]-[0-9A-Za-z-]{10,}|xapp-[0-9]-[0-9A-Za-z-]{10,}", "xox", "xapp-"),
    _pattern("slack-webhook", r"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_-]{20,}", "hooks.slack.com/"),
    _pattern("discord-webhook", r"/api/webhooks/[0-9]{10,}/[A-Za-z0-9_-]{30,}", "/api/webhooks/"),
    _pattern("telegram-token", r"(?<![0-9A-Za-z])[0-9]{8,10}:AA[A-Za-z0-9_-]{32,}", ":AA"),
    _pattern("discord-token", r"(?<![A-Za-z0-9_-])[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"),
    _pattern("jwt", r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}", "eyJ"),
    _pattern("stripe-key", r"(?:sk|rk)_(?:live|test)_[0-9A-Za-z]{16,}|whsec_[0-9A-Za-z+/=]{20,}", "_live_", "_test_", "whsec_"),
    _pattern("sendgrid-key", r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}", "SG."),
    _pattern("huggingface-token", r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,}", "hf_"),
    _pattern("npm-token", r"npm_[A-Za-z0-9]{36}", "npm_"),
    _pattern("pypi-token", r"pypi-AgE[A-Za-z0-9_-]{40,}", "pypi-AgE"),
    _pattern("provider-key", r"(?<![A-Za-z0-9])(?:xai-|gsk_|r8_|nvapi-|tvly-|pplx-|fw_|fc-|exa_"
        r"|dop_v1_|shpat_|lin_api_|ntn_|secret_|sntrys_|hvs\.|tskey-auth-|key-)[A-Za-z0-9_-]{24,}",
        "xai-", "gsk_", "r8_", "nvapi-", "tvly-", "pplx-", "fw_", "fc-", "exa_", "dop_v1_",
        "shpat_", "lin_api_", "ntn_", "secret_", "sntrys_", "hvs.", "tskey-auth-", "key-"),
    _pattern("authorization", r"(?i:authorization)[\"']?\s*[:=]\s*[\"']?(?i:bearer|basic|token)\s+[A-Za-z0-9._~+/-]{12,}", "uthorization", "UTHORIZATION"),
    _pattern("url-password", r"[A-Za-z][A-Za-z0-9+.-]{1,15}://[^/\s:@\"'<>{}$]{1,64}:[^/\s@\"'<>{}$]{3,256}@", "://"),
    _pattern("secret-field", rf"(?:{'|'.join(re.escape(field) for field in _FIELDS)})[\"']?\s*[:=]\s*"
        rf"(?P<value>\"[^\"\n]{{8,}}\"|'[^'\n]{{8,}}'|{_VALUE}{{8,}})",
        *_FIELDS),
)  # fmt: skip

_PLACEHOLDER = re.compile(
    rb"(?i)\$\{|\$[A-Z_]{3,}|\{\{|%\(|<[a-z]|your[_-]?|example|placeholder|changeme|redacted|"
    rb"xxxx|\*\*\*|\.\.\.|os\.environ|getenv|process\.env|" + MARKER.encode()
)


class Scanner:
    """The patterns of the project and the user's own, with findings that the user accepts."""

    def __init__(
        self,
        extra: Iterable[Mapping[str, str]] = (),
        accepted: Iterable[Mapping[str, str]] = (),
    ) -> None:
        self._patterns = (*PATTERNS, *(_user_pattern(item) for item in extra))
        self._accepted = [(str(a.get("path", "*")), str(a.get("rule", "*"))) for a in accepted]

    @property
    def version(self) -> str:
        """Changes whenever a scan could find something else; results are cached by it."""
        import hashlib

        text = b"\0".join(p.name.encode() + b"\0" + p.regex.pattern for p in self._patterns)
        return hashlib.sha256(text + _PLACEHOLDER.pattern).hexdigest()[:16]

    def scan(self, data: bytes) -> list[Finding]:
        """Every hit in some bytes, by line."""
        found = []
        for pattern in self._patterns:
            if pattern.literals and not any(literal in data for literal in pattern.literals):
                continue
            for match in pattern.regex.finditer(data):
                if _placeholder(pattern, match):
                    continue
                found.append(Finding(pattern.name, data.count(b"\n", 0, match.start()) + 1))
                if len(found) >= _PER_FILE:
                    return found
        return found

    def hits(self, text: str) -> bool:
        """Whether a value looks like a credential."""
        return bool(self.scan(text.encode("utf-8", "surrogateescape")))

    def redact(self, text: str, marker: str = MARKER) -> str:
        """The text with every hit replaced."""
        data = text.encode("utf-8", "surrogateescape")
        for pattern in self._patterns:
            data = pattern.regex.sub(
                lambda match, pattern=pattern: (  # type: ignore[misc]
                    match.group(0) if _placeholder(pattern, match) else marker.encode()
                ),
                data,
            )
        return data.decode("utf-8", "surrogateescape")

    def scan_blocks(self, blocks: Iterable[bytes]) -> list[Finding]:
        """The hits in something too large to hold; blocks overlap so that none is cut in two."""
        found: dict[str, Finding] = {}
        tail, lines = b"", 0
        for block in blocks:
            data = tail + block
            for finding in self.scan(data):
                found.setdefault(finding.rule, Finding(finding.rule, lines + finding.line))
            lines += data.count(b"\n", 0, max(0, len(data) - _OVERLAP))
            tail = data[-_OVERLAP:]
        return list(found.values())

    def accepts(self, path: str, rule: str) -> bool:
        """Whether the user accepted this finding."""
        import fnmatch

        return any(
            fnmatch.fnmatchcase(path, pattern) and name in ("*", rule)
            for pattern, name in self._accepted
        )


def _placeholder(pattern: Pattern, match: re.Match[bytes]) -> bool:
    """A hit that plainly is no secret: a reference to a variable, an example."""
    if pattern.name not in ("secret-field", "url-password", "authorization"):
        return MARKER.encode() in match.group(0)
    value = match.group("value") if "value" in match.re.groupindex else match.group(0)
    return bool(_PLACEHOLDER.search(value))


def _user_pattern(item: Mapping[str, str]) -> Pattern:
    try:
        return Pattern(str(item["name"]), re.compile(str(item["regex"]).encode()))
    except (KeyError, re.error) as error:
        raise CouldNotRun(
            f"secret_patterns: {dict(item)}: {error}", hint="each has a name and a regex"
        ) from error


def is_text(head: bytes) -> bool:
    """Whether the first bytes look like text."""
    return b"\0" not in head[:8192]


def is_private_key(data: bytes) -> bool:
    """Whether a file is a private key, not a text that mentions one."""
    return bool(
        re.match(
            rb"\s*(?:-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY|PuTTY-User-Key|AGE-SECRET-KEY-1)",
            data,
        )
    )


# -- names --------------------------------------------------------------------------------------

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORDS = frozenset(
    "password passwd passphrase pwd secret token tokens apikey credential bearer "
    "cookie hmac jwt dsn authorization oauth userpass mnemonic totp otp psk".split()
)
_SECRET_PAIRS = frozenset(
    ("api key|access key|secret key|private key|signing key|encryption key|auth key|master key|"
     "session key|service key|app key|bot key|license key|webhook key|shared key|host key|"
     "account key|client key|deploy key|recovery key|nsec key|basic auth|auth header").split("|")
)  # fmt: skip
_PLURALS = frozenset(
    "passwords passphrases secrets apikeys credentials cookies keys headers ids jwts psks".split()
)
_HARMLESS_LAST = frozenset(
    "env file path dir name command cmd type url uri endpoint mode enabled header headers prefix "
    "field limit budget count size ttl expiry expires timeout length usage max min at id ids "
    "provider model style format source scope scopes cache policy required window rotation "
    "strategy threshold ratio estimate counter counting".split()
)
_HARMLESS_FIRST = frozenset("max min num total input output prompt completion context".split())
CONTAINERS = frozenset({"env", "environment", "headers", "extra_headers", "http_headers", "auth"})


@functools.lru_cache(maxsize=4096)
def words(key: str) -> tuple[str, ...]:
    """The words of a key, whatever style it is written in."""
    return tuple(_singular(word.lower()) for word in _WORDS.findall(key))


def _singular(word: str) -> str:
    return word[:-1] if word in _PLURALS else word


@functools.lru_cache(maxsize=4096)
def secret_name(key: str) -> bool:
    """Whether the name of a setting says that its value is a secret."""
    parts = words(key)
    if not parts or parts[-1] in _HARMLESS_LAST or parts[0] in _HARMLESS_FIRST:
        return False
    if not _SECRET_WORDS.isdisjoint(parts):
        return True
    return any(f"{first} {second}" in _SECRET_PAIRS for first, second in zip(parts, parts[1:]))


_SECRET_FILES = re.compile(
    r"(?ix) \.env(\..*|rc)? | .*\.env | \.netrc | \.pgpass | \.git-credentials | \.npmrc | \.pypirc |"
    r" \.htpasswd | \.boto | \.s3cfg | \.my\.cnf | \.dockercfg |"
    r" id_(rsa|dsa|ecdsa|ed25519)(_sk)?(\..*)?(?<!\.pub) |"
    r" .*\.(pem|key|p12|pfx|kdbx|keystore|jks|ppk|asc|gpg|ovpn) |"
    r" (.*[._-])?(credentials?|secrets?|tokens?|oauth|auth|passwords?|cookies?|service[._-]?account)"
    r"([._-].*)?(\.(json|ya?ml|toml|txt|ini|db|sqlite|bak|jsonl?))? | cookies(-journal)? | login\ data"
)


def secret_file_name(path: str) -> str | None:
    """Why the name of an unknown entry says that it is a secret, None where it does not."""
    folders = {".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", "credentials", "secrets"}
    *parents, name = path.split("/")
    for parent in parents:
        if parent.lower() in folders:
            return f"lies in a folder of secrets ({parent})"
    if _SECRET_FILES.fullmatch(name):
        return "has the name of a secret file"
    return None


def suspicious(key: str, extra: Sequence[str], plain: Sequence[str]) -> bool:
    """`secret_name` with a profile's own lists of key patterns."""
    import fnmatch

    if any(fnmatch.fnmatchcase(key, pattern) for pattern in plain):
        return False
    return secret_name(key) or any(fnmatch.fnmatchcase(key, pattern) for pattern in extra)


def as_dicts(path: str, findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Findings as the manifest has them."""
    return [{"path": path, "rule": item.rule, "line": item.line} for item in findings]
