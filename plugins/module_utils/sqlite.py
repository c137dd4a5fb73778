# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking into a SQLite database: what it is by its bytes, and what it holds.

A database is untrusted input: the functions that open one belong into a process of the agent's
user (see hold.py). Recognising one needs the first hundred bytes and no SQLite.
"""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
import hashlib
import re
import sqlite3
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

MAGIC = b"SQLite format 3\x00"
HEADER_SIZE = 100
WAL, ROLLBACK = "wal", "rollback"
SUFFIXES = (".db", ".sqlite", ".sqlite3", ".db3")
SIDE_FILES = ("-wal", "-shm", "-journal")
# Raised when inspect() tells more, so that nobody goes by what an earlier version remembered.
FACTS = 2
_OUTSIDE_LIMIT = 1000
_FULL_TEXT = re.compile(r"CREATE VIRTUAL TABLE\b.*?\bUSING\s+[\"'`\[]?(fts[345])\b", re.I | re.S)
_FULL_TEXT_PARTS = (
    *("content", "data", "idx", "docsize", "config"),  # of FTS5
    *("segments", "segdir", "stat"),  # of FTS3 and FTS4, with content and docsize
)


@dataclasses.dataclass(frozen=True)
class Header:
    """What the first bytes of a database say."""

    journal_mode: str
    page_size: int


@dataclasses.dataclass(frozen=True)
class Questions:
    """What a profile wants to know of a database."""

    newest: tuple[Mapping[str, Any], ...] = ()
    outside: tuple[Mapping[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True)
class FullText:
    """A full-text table, and the tables in which its module keeps what is in it."""

    name: str
    module: str
    parts: tuple[str, ...]

    @property
    def own_content(self) -> str:
        """The table with the text itself; "" where the text lies elsewhere or was not kept."""
        content = f"{self.name}_content"
        return content if content in self.parts else ""


def parse_header(data: bytes) -> Header | None:
    """The header of a database, None where the bytes are not one."""
    if len(data) < HEADER_SIZE or not data.startswith(MAGIC):
        return None
    size = int.from_bytes(data[16:18], "big")
    return Header(WAL if data[18] == 2 or data[19] == 2 else ROLLBACK, 65536 if size == 1 else size)


def uri(path: str, **options: str) -> str:
    """A file: URI for a path with any bytes in it."""
    quoted = urllib.parse.quote(path.encode("utf-8", "surrogateescape"))
    return f"file:{quoted}?{urllib.parse.urlencode(options)}"


def connect(path: str, mode: str, *, timeout: float, immutable: bool = False) -> sqlite3.Connection:
    """A connection that starts no transaction by itself and trusts nothing in the schema."""
    options = {"mode": mode, **({"immutable": "1"} if immutable else {})}
    connection = sqlite3.connect(
        uri(path, **options), uri=True, timeout=timeout, isolation_level=None
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    return connection


def matching(
    path: str, rules: Sequence[Mapping[str, Any]], key: str
) -> tuple[Mapping[str, Any], ...]:
    """The rules of a profile that speak of this database, at the root or in a nested home."""
    return tuple(
        rule
        for rule in rules
        if key in rule
        and (
            fnmatch.fnmatchcase(path, str(rule[key])) or fnmatch.fnmatchcase(path, f"*/{rule[key]}")
        )
    )


def quote(name: str) -> str:
    """An identifier."""
    return '"' + name.replace('"', '""') + '"'


def inspect(connection: sqlite3.Connection, questions: Questions) -> dict[str, Any]:
    """The facts of the manifest, all seen in the transaction that the connection is in."""
    report: dict[str, Any] = {"quick_check": _quick_check(connection)}
    report["user_version"] = _pragma(connection, "user_version")
    report["application_id"] = _pragma(connection, "application_id")
    try:
        schema = read_schema(connection)
    except sqlite3.Error as error:
        return {**report, "quick_check": str(error), "schema_sha256": "", "tables": {}}
    report["schema_sha256"] = schema_hash(schema)
    report["tables"] = {name: _count(connection, name) for name in tables_with_data(schema)}
    report["full_text"] = {
        table.name: _count_all(connection, table.parts) for table in full_text_tables(schema)
    }
    report["newest"] = _newest(connection, questions.newest)
    report["outside"] = _outside(connection, questions.outside)
    return report


def read_schema(connection: sqlite3.Connection) -> list[Sequence[Any]]:
    """The rows (type, name, tbl_name, sql) of the schema, in the order in which it is hashed."""
    return connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    ).fetchall()


def schema_hash(schema: Sequence[Sequence[Any]]) -> str:
    """SHA-256 over the schema's rows (type, name, tbl_name, sql), in the order given."""
    digest = hashlib.sha256()
    for row in schema:
        for value in row:
            digest.update(str(value if value is not None else "").encode("utf-8", "replace"))
            digest.update(b"\x00")
    return digest.hexdigest()


def tables_with_data(schema: Sequence[Sequence[Any]]) -> list[str]:
    """The tables that hold data of their own: no virtual table and none that shadows one, but for
    the text of a full-text table that keeps it itself."""
    tables = _tables(schema)
    virtual = {
        name for name, sql in tables.items() if sql[:40].upper().startswith("CREATE VIRTUAL")
    }
    full_text = {table.name: table for table in full_text_tables(schema)}
    parts = {part for table in full_text.values() for part in table.parts}
    others = tuple(f"{name}_" for name in virtual if name not in full_text)
    return sorted(
        name
        for name in tables
        if name in {table.own_content for table in full_text.values()}
        or not (name in virtual or name in parts or name.startswith(("sqlite_", *others)))
    )


def full_text_tables(schema: Sequence[Sequence[Any]]) -> list[FullText]:
    """The full-text tables of a schema, with those of their parts that are there."""
    tables = _tables(schema)
    found = []
    for name, sql in tables.items():
        made = _FULL_TEXT.match(sql)
        if made:
            parts = (f"{name}_{part}" for part in _FULL_TEXT_PARTS)
            there = tuple(part for part in parts if part in tables)
            found.append(FullText(name, made.group(1).lower(), there))
    return found


def _tables(schema: Sequence[Sequence[Any]]) -> dict[str, str]:
    return {str(row[1]): str(row[3] or "") for row in schema if row[0] == "table"}


def _pragma(connection: sqlite3.Connection, name: str) -> int | None:
    try:
        return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
    except (sqlite3.Error, TypeError):
        return None


def _quick_check(connection: sqlite3.Connection) -> str:
    try:
        rows = connection.execute("PRAGMA quick_check(3)").fetchall()
    except sqlite3.Error as error:
        return str(error) or type(error).__name__
    return "; ".join(str(row[0]) for row in rows)[:500]


def _count(connection: sqlite3.Connection, table: str) -> int | None:
    try:
        return int(connection.execute(f"SELECT count(*) FROM {quote(table)}").fetchone()[0])
    except sqlite3.Error:
        return None


def _count_all(connection: sqlite3.Connection, tables: Sequence[str]) -> int | None:
    counts = [_count(connection, table) for table in tables]
    known = [rows for rows in counts if rows is not None]
    return sum(known) if len(known) == len(counts) else None


def _newest(
    connection: sqlite3.Connection, rules: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The newest data time over all columns that the profile names."""
    best: tuple[float, dict[str, Any]] | None = None
    for rule in rules:
        table, column = str(rule["table"]), str(rule["column"])
        try:
            value = connection.execute(
                f"SELECT max({quote(column)}) FROM {quote(table)}"
            ).fetchone()[0]
        except sqlite3.Error:
            continue
        moment = to_time(value, str(rule.get("unit", "s")))
        if moment is not None and (best is None or moment.timestamp() > best[0]):
            text = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
            best = (moment.timestamp(), {"table": table, "column": column, "time": text})
    return best[1] if best else None


def to_time(value: Any, unit: str) -> datetime.datetime | None:
    """A column's value as a moment in UTC."""
    if value is None:
        return None
    try:
        if unit == "iso":
            moment = datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=datetime.timezone.utc)
            return moment.astimezone(datetime.timezone.utc)
        seconds = float(value) / (1000 if unit == "ms" else 1)
        return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None


def _outside(connection: sqlite3.Connection, rules: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Folders that the database names: [path, source]."""
    found = []
    for rule in rules:
        table, column = str(rule["table"]), str(rule["column"])
        try:
            rows = connection.execute(
                f"SELECT DISTINCT {quote(column)} FROM {quote(table)} "
                f"WHERE {quote(column)} LIKE '/%' LIMIT {_OUTSIDE_LIMIT}"
            ).fetchall()
        except sqlite3.Error:
            continue
        found += [[str(row[0]), f"{rule['database']}:{table}.{column}"] for row in rows]
    return found
