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
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .errors import CouldNotRun

MARKER = "__LIFEBOAT_TO_BE_SUPPLIED__"
TEXT_LIMIT = 1 << 20
TEXT_HEAD = 8192
_OVERLAP = 4096
_PER_FILE = 50


@dataclasses.dataclass(frozen=True)
class Pattern:
    """One rule of the scan.

    `compact`: a hit is one long word, so only the long words of a text are searched for it.
    `lower`: written for lower-case text. `literals`: one of them is in every hit.
    """

    name: str
    regex: re.Pattern[bytes]
    literals: tuple[bytes, ...] = ()
    compact: bool = False
    lower: bool = False


@dataclasses.dataclass(frozen=True)
class Finding:
    """A hit: where and by which rule."""

    rule: str
    line: int


def _word(name: str, regex: str) -> Pattern:
    return Pattern(name, re.compile(regex.encode()), compact=True)


def _text(name: str, regex: str, *literals: str, lower: bool = False) -> Pattern:
    encoded = tuple(item.encode() for item in literals)
    return Pattern(name, re.compile(regex.encode()), encoded, lower=lower)


_LONG_WORD = 20
_KEEP = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.:/+=~\\"
# Where a word begins, also behind an escaped line break in JSON.
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"
_BOUND = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt]))"
_SHAPE = bytes(120 if byte in _KEEP else 32 for byte in range(256))
_RUN = b"x" * _LONG_WORD

_FIELD = (
    r"(?:api[_-]?key|client[_-]?secret|access[_-]?token|refresh[_-]?token|auth[_-]?token|"
    r"bot[_-]?token|password|secret[_-]?key|signing[_-]?secret|private[_-]?key)"
)
_FIELD_VALUE = (
    r"(?P<value>\\?\"[^\"\n\\]{8,}|\\?'[^'\n\\]{8,}|[a-z0-9_.+/=~:!@#$%^&*-]{8,}(?![\w.]*[(\[]))"
)

_PROVIDERS = (
    r"xai-|gsk_|r8_|nvapi-|tvly-|pplx-|fw_|fc-|exa_|dop_v1_|shpat_|lin_api_|ntn_|secret_|sntrys_"
    r"|hvs\.|tskey-auth-|key-"
)
_FIELD_HINTS = (
    *("passw", "_key", "-key", "ikey", "tkey", "ekey", "t_secret", "t-secret", "tsecret"),
    *("g_secret", "gsecret", "_token", "-token", "stoken", "htoken", "ttoken"),
)

PATTERNS: tuple[Pattern, ...] = (
    _text("private-key", r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----", "PRIVATE KEY"),
    _text("putty-key", r"PuTTY-User-Key-File-[0-9]", "PuTTY-User-Key-File-"),
    _word("age-key", r"AGE-SECRET-KEY-1[0-9A-Z]{40,}"),
    _word("sk-key", rf"{_BOUND}sk-(?:(?:[A-Za-z0-9]+-)*[A-Za-z0-9_]{{16,}}|(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{{20,}})"),
    _word("aws-key", rf"{_START}(?:AKIA|ASIA)[0-9A-Z]{{16}}(?![A-Za-z0-9])"),
    _word("github-token", r"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}"),
    _word("gitlab-token", r"gl(?:pat|dt|rt|cbt|ptt)-[A-Za-z0-9_-]{20,}"),
    _word("google-key", r"AIza[0-9A-Za-z_-]{35}"),
    _word("google-oauth", r"ya29\.[0-9A-Za-z_-]{20,}|GOCSPX-[0-9A-Za-z_-]{20,}"),
    _word("google-refresh-token", r"1//0[0-9A-Za-z_-]{30,}"),
    _word("slack-token", r"xox[abeoprs]-[0-9A-Za-z-]{15,}|xapp-[0-9]-[0-9A-Za-z-]{15,}"),
    _word("slack-webhook", r"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_-]{20,}"),
    _word("discord-webhook", r"/api/webhooks/[0-9]{10,}/[A-Za-z0-9_-]{30,}"),
    _word("telegram-token", rf"{_START}[0-9]{{8,10}}:AA[A-Za-z0-9_-]{{32,}}"),
    _word("discord-token", rf"{_BOUND}[MNO][A-Za-z0-9_-]{{23,27}}\.[A-Za-z0-9_-]{{6}}\.[A-Za-z0-9_-]{{27,}}"),
    _word("jwt", r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    _word("stripe-key", r"(?:sk|rk)_(?:live|test)_[0-9A-Za-z]{16,}|whsec_[0-9A-Za-z+/=]{20,}"),
    _word("sendgrid-key", r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    _word("huggingface-token", rf"{_START}hf_[A-Za-z0-9]{{30,}}"),
    _word("npm-token", r"npm_[A-Za-z0-9]{36}"),
    _word("pypi-token", r"pypi-AgE[A-Za-z0-9_-]{40,}"),
    _word("provider-key", rf"{_START}(?:{_PROVIDERS})[A-Za-z0-9_-]{{24,}}"),
    _text("authorization", r"authorization\\?[\"']?\s*[:=]\s*\\?[\"']?(?:bearer|basic|token)\s+[a-z0-9._~+/-]{12,}", "authorization", lower=True),
    _text("url-password", r"[A-Za-z][A-Za-z0-9+.-]{1,15}://[^/\s:@\"'<>{}$]{1,64}:[^/\s@\"'<>{}$]{3,256}@", "://"),
    _text("secret-field", rf"{_FIELD}\\?[\"']?\s*[:=]\s*{_FIELD_VALUE}", *_FIELD_HINTS, lower=True),
)  # fmt: skip

_EXAMPLE = re.compile(
    rb"(?i)<[a-z]|your[_-]?|example|placeholder|changeme|redacted|xxxx|\*\*\*|\.\.\.|"
    rb"os\.environ|getenv|process\.env|" + MARKER.encode().lower()
)
_PLACEHOLDER = re.compile(rb"(?i)\$\{|\$[A-Z_]{3,}|\{\{|%\(|" + _EXAMPLE.pattern[4:])


def _long_words(data: bytes) -> bytes:
    """The words that are long enough for a token, one to a line.

    A search for a run of equal bytes skips what is short; splitting a text costs ten times as much.
    """
    shape = data.translate(_SHAPE)
    found = []
    position = shape.find(_RUN)
    while position >= 0:
        start = shape.rfind(b" ", 0, position) + 1
        end = shape.find(b" ", position)
        if end < 0:
            end = len(data)
        found.append(data[start:end])
        position = shape.find(_RUN, end)
    return b"\n".join(found)


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
        long_words = _long_words(data)
        low = b""
        found: list[Finding] = []
        for pattern in self._patterns:
            if pattern.compact:
                if not long_words or pattern.regex.search(long_words) is None:
                    continue
                text = data
            elif pattern.lower:
                low = text = low or data.lower()
            else:
                text = data
            if pattern.literals:
                for literal in pattern.literals:  # a loop costs half of what any() costs
                    if literal in text:
                        break
                else:
                    continue
            for match in pattern.regex.finditer(text):
                if not _placeholder(pattern, match):
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
            looked_at = data.lower() if pattern.lower else data
            parts, position = [], 0
            for match in pattern.regex.finditer(looked_at):
                if not _placeholder(pattern, match):
                    parts += [data[position : match.start()], marker.encode()]
                    position = match.end()
            data = b"".join([*parts, data[position:]])
        return data.decode("utf-8", "surrogateescape")

    def scan_blocks(
        self, blocks: Iterable[bytes], scan: Callable[[bytes], list[Finding]] | None = None
    ) -> list[Finding]:
        """The hits in something too large to hold; blocks overlap so that none is cut in two."""
        scan = scan or self.scan
        found: dict[str, Finding] = {}
        tail, lines = b"", 0
        for block in blocks:
            data = tail + block
            for finding in scan(data):
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


def is_example(value: str) -> bool:
    """Whether a value plainly stands for one that is to be filled in."""
    return bool(_EXAMPLE.search(value.encode("utf-8", "surrogateescape")))


def _user_pattern(item: Mapping[str, str]) -> Pattern:
    try:
        return Pattern(str(item["name"]), re.compile(str(item["regex"]).encode()))
    except (KeyError, re.error) as error:
        raise CouldNotRun(
            f"secret_patterns: {dict(item)}: {error}", hint="each has a name and a regex"
        ) from error


def is_text(head: bytes) -> bool:
    """Whether the first bytes look like text."""
    return b"\0" not in head[:TEXT_HEAD]


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
     "encrypt key|account key|client key|deploy key|recovery key|nsec key|basic auth|auth header|authorization header").split("|")
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
_PASSES = frozenset("first second third last single multi one two by low high band all".split())
_HARMLESS_KEYS = frozenset(
    "public primary foreign cache sort partition index group idempotency".split()
)
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
    if not parts or parts[0] in _HARMLESS_FIRST:
        return False
    if " ".join(parts[-2:]) in _SECRET_PAIRS:
        return True
    if parts[-1] in _HARMLESS_LAST:
        return False
    if parts[-1] == "pass" and len(parts) > 1:
        return parts[-2] not in _PASSES
    if not _SECRET_WORDS.isdisjoint(parts):
        return True
    return any(f"{first} {second}" in _SECRET_PAIRS for first, second in zip(parts, parts[1:]))


def key_name(key: str) -> bool:
    """Whether a setting is the key of something, which is a secret where its value looks like one."""
    parts = words(key)
    return len(parts) > 1 and parts[-1] == "key" and parts[-2] not in _HARMLESS_KEYS


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


_CREDENTIAL_FILES = re.compile(
    r"(?ix) ([a-z]+[0-9]?[._-])? (credentials? | secrets? | tokens? | (o?auth2? | service[._-]?account)s? |"
    r" cookies | passwords? | client[._-]secrets?) (\.(json|ya?ml|toml|ini|cfg|conf|txt))? |"
    r" client[._-]secret[._-].*\.json | .*[._-]authorized[._-]user\.json"
)
_CREDENTIAL_FOLDERS = frozenset({".aws", ".azure", ".kube", ".docker", ".gnupg", ".ssh"})


def credential_file_name(path: str) -> bool:
    """Whether programs keep credentials under this very name.

    Narrower than `secret_file_name`: with a hit of the scan it condemns a file in a kept folder,
    where names are also given by people and by what a conversation is about.
    """
    *parents, name = path.split("/")
    return bool(_CREDENTIAL_FILES.fullmatch(name)) or not _CREDENTIAL_FOLDERS.isdisjoint(parents)


def suspicious(key: str, extra: Sequence[str], plain: Sequence[str]) -> bool:
    """`secret_name` with a profile's own lists of key patterns."""
    import fnmatch

    if any(fnmatch.fnmatchcase(key, pattern) for pattern in plain):
        return False
    return secret_name(key) or any(fnmatch.fnmatchcase(key, pattern) for pattern in extra)


def as_dicts(path: str, findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Findings as the manifest has them."""
    return [{"path": path, "rule": item.rule, "line": item.line} for item in findings]
