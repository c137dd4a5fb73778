# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases against the manifest.

An empty database passes every integrity check, so integrity alone says nothing: schema, version,
row counts and the newest data are compared with what was seen when the backup was made. Before
the first start a copy is opened, and written to, as the agent's user; the original is not even
opened. A live database is opened read-only, and the connection is never closed (see hold.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .health_account import HealthError, Tools, WorkFailed
from .health_files import Home
from .health_sheet import Sheet, count
from .privilege import Identity
from .restore_manifest import RestoreManifest, show
from .sqlite import (
    FullText,
    Questions,
    connect,
    full_text_tables,
    inspect,
    matching,
    parse_header,
    quote,
    read_schema,
)
from .verdict import DATA_PROVEN
from .walk import open_below

BUSY: Final = 0.2
ROOM_TO_SPARE: Final = 1.05
# Of a full-text index; one that is apart is whole, and not in step with the text that it indexes.
INTACT, DAMAGED, APART, UNKNOWN = "intact", "damaged", "apart", "unknown"


@dataclass(frozen=True)
class Database:
    """A database as the manifest describes it."""

    path: str
    facts: Mapping[str, Any]

    @property
    def tables(self) -> Mapping[str, int]:
        tables = self.facts.get("tables")
        return tables if isinstance(tables, Mapping) else {}

    @property
    def full_text(self) -> Mapping[str, int]:
        """Rows of each full-text index; manifests of earlier versions do not tell them."""
        indexes = self.facts.get("full_text")
        return indexes if isinstance(indexes, Mapping) else {}

    @property
    def rows(self) -> int:
        return sum(rows for rows in self.tables.values() if isinstance(rows, int))

    @property
    def newest(self) -> str:
        newest = self.facts.get("newest")
        return str(newest.get("time") or "") if isinstance(newest, Mapping) else ""


@dataclass(frozen=True)
class Found:
    """A database as it was found: its facts, or why there are none."""

    database: Database
    facts: Mapping[str, Any]
    error: str = ""

    @property
    def path(self) -> str:
        return show(self.database.path)

    @property
    def newest(self) -> str:
        return Database(self.database.path, self.facts).newest

    def differs(self, name: str) -> bool:
        return bool(self.facts) and self.facts.get(name) != self.database.facts.get(name)


def described(manifest: RestoreManifest) -> list[Database]:
    """The databases of a manifest, with the facts that were seen at backup time."""
    return [Database(item.path, item.facts) for item in manifest.databases]


def questions_for(path: str, profile: Mapping[str, Any]) -> Questions:
    """What the profile wants to know of a database."""
    rules = (profile.get("databases") or {}).get("newest") or ()
    return Questions(newest=matching(path, rules, "path"))


@contextlib.contextmanager
def work_folder(account: Identity, parent: str) -> Iterator[str]:
    """A private folder of the agent's user, outside its home."""
    folder = tempfile.mkdtemp(prefix="lifeboat-health-", dir=parent)
    try:
        if os.geteuid() == 0:
            os.chown(folder, account.uid, account.gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_out(home: Home, path: str, folder: str, account: Identity) -> str:
    """A copy of a database that belongs to the agent's user; blocks are shared where they can be."""
    source = open_below(home.descriptor, path)
    try:
        size = os.fstat(source).st_size
        room = os.statvfs(folder)
        if room.f_bavail * room.f_frsize < size * ROOM_TO_SPARE:
            raise HealthError(
                f"{folder} has no room for a copy of {count(size, 'byte')}",
                "Name another folder with work_directory.",
            )
        copy = os.path.join(folder, "copy.db")
        target = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _copy(source, target, size)
            if os.geteuid() == 0:
                os.fchown(target, account.uid, account.gid)
        finally:
            os.close(target)
    finally:
        os.close(source)
    return copy


def _copy(source: int, target: int, size: int) -> None:
    done = 0
    while done < size:
        try:
            step = os.copy_file_range(source, target, size - done)
        except OSError:
            step = 0
        if step == 0:
            break
        done += step
    os.lseek(source, done, os.SEEK_SET)
    os.lseek(target, done, os.SEEK_SET)
    with os.fdopen(os.dup(source), "rb") as reading, os.fdopen(os.dup(target), "wb") as writing:
        shutil.copyfileobj(reading, writing, 1 << 20)


def examine_copy(path: str, questions: Questions) -> dict[str, Any]:
    """Runs as the agent's user: everything that can be asked of a copy."""
    with open(path, "rb") as stream:
        if parse_header(stream.read(100)) is None:
            return {"error": "the file is no SQLite database"}
    try:
        with contextlib.closing(connect(path, "rw", timeout=BUSY)) as connection:
            facts = inspect(connection, questions)
            facts["full_text_state"] = full_text_state(connection)
            facts["write"] = write(connection)
            return facts
    except sqlite3.Error as error:
        return {"error": str(error)}


def examine_live(path: str, questions: Questions) -> dict[str, Any]:
    """Runs as the agent's user, and ends without closing: the database is in use."""
    try:
        with open(path, "rb") as stream:
            header = parse_header(stream.read(100))
        if header is None:
            return {"error": "the file is no SQLite database"}
        if header.journal_mode != "wal" and os.path.exists(f"{path}-journal"):
            return {"busy": "a transaction is being written"}
        connection = connect(path, "ro", timeout=BUSY)
        _KEPT_OPEN.append(connection)
        connection.execute("BEGIN")
        facts = inspect(connection, questions)
        connection.execute("ROLLBACK")
        return facts
    except sqlite3.Error as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": error.strerror}


_KEPT_OPEN: list[sqlite3.Connection] = []


def full_text_state(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """What each full-text index says of itself: one of the words above, and why."""
    return {
        table.name: list(_state_of(connection, table))
        for table in full_text_tables(read_schema(connection))
    }


def _state_of(connection: sqlite3.Connection, table: FullText) -> tuple[str, str]:
    """FTS5 compares an index with text that lies elsewhere only when asked with a rank, and FTS4
    always does. An index may leave out rows on purpose, so this alone is no damage."""
    name = quote(table.name)
    check = f"INSERT INTO {name}({name}) VALUES ('integrity-check')"
    compare = f"INSERT INTO {name}({name}, rank) VALUES ('integrity-check', 1)"
    problem = _rolled_back(connection, check)
    if any(text in problem for text in ("no such module", "no such tokenizer")):
        return UNKNOWN, problem
    if problem:
        return (DAMAGED if table.own_content or table.module == "fts5" else APART), problem
    if table.module == "fts5" and not table.own_content:
        problem = _rolled_back(connection, compare)
    return (APART if problem else INTACT), problem


def _rolled_back(connection: sqlite3.Connection, statement: str) -> str:
    """What a statement ends with that leaves nothing behind."""
    try:
        connection.execute("BEGIN")
        connection.execute(statement)
        return ""
    except sqlite3.Error as error:
        return str(error)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def write(connection: sqlite3.Connection) -> str:
    """Why a write transaction did not commit, or nothing."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE lifeboat_health_probe (value TEXT)")
        connection.execute("INSERT INTO lifeboat_health_probe VALUES ('written')")
        connection.execute("COMMIT")
        (rows,) = connection.execute("SELECT count(*) FROM lifeboat_health_probe").fetchone()
        connection.execute("DROP TABLE lifeboat_health_probe")
        return "" if rows == 1 else "what was written could not be read"
    except sqlite3.Error as error:
        return str(error)


def examine(
    databases: Sequence[Database],
    home: Home,
    account: Identity,
    profile: Mapping[str, Any],
    *,
    tools: Tools,
    parent: str,
    timeout: float,
    live: bool = False,
) -> list[Found]:
    """Every database of the manifest, each looked at in a process of its own."""
    found = []
    for database in databases:
        questions = questions_for(database.path, profile)
        try:
            if live:
                path = os.path.join(home.path, database.path)
                facts = tools.isolated(account, _live(path, questions), timeout)
            else:
                facts = _examine_one(database, home, account, questions, tools, parent, timeout)
        except WorkFailed as error:
            facts = {"error": str(error)}
        except HealthError as error:
            facts = {"error": f"{error.message}. {error.hint}"}
        except OSError as error:
            facts = {"error": "missing" if error.errno == 2 else str(error.strerror)}
        problem = str(facts.get("error") or facts.get("busy") or "")
        found.append(Found(database, {} if problem else facts, problem))
    return found


def _live(path: str, questions: Questions) -> Any:
    return lambda: examine_live(path, questions)


def _examine_one(
    database: Database,
    home: Home,
    account: Identity,
    questions: Questions,
    tools: Tools,
    parent: str,
    timeout: float,
) -> dict[str, Any]:
    with work_folder(account, parent) as folder:
        copy = copy_out(home, database.path, folder, account)
        return tools.isolated(account, lambda: examine_copy(copy, questions), timeout)


def check_restored(sheet: Sheet, found: Sequence[Found], tolerance: int = 0) -> None:
    """All checks of the databases before the first start."""
    total = len(found)
    earlier = "Restore again, or an earlier archive with at=DATE."
    compare = sheet.compare
    compare(
        *("database_opens", DATA_PROVEN, "database", total),
        (f"{item.path}: {item.error}" for item in found if item.error),
        f"The agent would begin afresh or stop here. {earlier}",
    )
    compare(
        *("database_integrity", DATA_PROVEN, "database", total),
        (_integrity(item) for item in found if item.facts.get("quick_check") != "ok"),
        f"The database is damaged. {earlier}",
    )
    _check_full_text(sheet, found, tolerance)
    compare(
        *("database_schema", DATA_PROVEN, "schema", total),
        (_schema(item) for item in found if not item.facts or item.differs("schema_sha256")),
        f"It is another database than the one that was archived. {earlier}",
    )
    compare(
        *("database_version", DATA_PROVEN, "version mark", total),
        (_version(item) for item in found if not item.facts or _version(item)),
        "The marks by which the agent tells the version of its data are not what they were.",
    )
    check_rows(sheet, "database_rows", DATA_PROVEN, found, tolerance, at_least=False)
    _check_newest(sheet, found)
    compare(
        *("database_write", DATA_PROVEN, "writable database", total),
        (
            f"{item.path}: {item.facts.get('write', item.error)}"
            for item in found
            if item.facts.get("write") != ""
        ),
        f"The agent could read its data but not go on from it. {earlier}",
    )


def _integrity(item: Found) -> str:
    text = str(item.facts.get("quick_check") or item.error)
    then = str(item.database.facts.get("quick_check") or "")
    return f"{item.path}: {text}" + (
        " (it was damaged already when it was archived)" if then and then != "ok" else ""
    )


def _schema(item: Found) -> str:
    if not item.facts:
        return f"{item.path}: {item.error}"
    found, expected = (
        str(facts.get("schema_sha256") or "none")[:12]
        for facts in (item.facts, item.database.facts)
    )
    return f"{item.path}: schema {found}, expected {expected}"


def _version(item: Found) -> str:
    if not item.facts:
        return f"{item.path}: {item.error}"
    wrong = [name for name in ("user_version", "application_id") if item.differs(name)]
    parts = [f"{n} {item.facts.get(n)}, expected {item.database.facts.get(n)}" for n in wrong]
    return f"{item.path}: {', '.join(parts)}" if parts else ""


def _check_full_text(sheet: Sheet, found: Sequence[Found], tolerance: int) -> None:
    indexes = [
        (f"{item.path}: {show(name)}", state, why)
        for item in found
        for name, (state, why) in dict(item.facts.get("full_text_state") or {}).items()
    ]
    with sheet.check(
        "database_full_text",
        DATA_PROVEN,
        f"{count(len(indexes), 'full-text index', 'full-text indexes')} intact, as archived",
        "Search would miss or fail. Restore again, or rebuild the index with the agent's own tools.",
    ) as draft:
        states = {
            wanted: [f"{name}: {why}" for name, state, why in indexes if state == wanted]
            for wanted in (DAMAGED, APART, UNKNOWN)
        }
        draft.offend(*states[DAMAGED])
        for item in found:
            draft.offend(*_index_offenders(item, tolerance))
        intact = len(indexes) - len(states[DAMAGED]) - len(states[UNKNOWN])
        draft.found = f"{intact} of {len(indexes)} intact"
        if states[APART]:
            draft.tolerance = "indexes that do not match the text they index, or could not be "
            draft.tolerance += f"compared with it: {', '.join(states[APART])}"
        if any(item.error for item in found):
            draft.fail("not all databases could be opened")
        elif states[UNKNOWN]:
            draft.skip(f"this host's SQLite cannot check them: {states[UNKNOWN][0]}")


def _index_offenders(item: Found, tolerance: int) -> Iterator[str]:
    """The full-text indexes that hold other than what they held when they were archived."""
    here = Database("", item.facts).full_text
    for name, rows in item.database.full_text.items():
        has = here.get(name)
        if not item.facts or not isinstance(rows, int):
            continue
        if not isinstance(has, int):
            yield f"{item.path}: {show(name)} is gone"
        elif abs(has - rows) > tolerance:
            yield f"{item.path}: {show(name)} has an index of {count(has, 'row')}, expected {rows:,}"


def check_rows(
    sheet: Sheet,
    name: str,
    level: int,
    found: Sequence[Found],
    tolerance: int,
    *,
    at_least: bool,
) -> None:
    tables = sum(len(item.database.tables) for item in found)
    rows = sum(item.database.rows for item in found)
    word = "at least " if at_least else ""
    with sheet.check(
        name,
        level,
        f"{word}{count(rows, 'row')} in {count(tables, 'table')}",
        "Data is missing, or it is another copy than the one that was archived. Restore again, or "
        "an earlier archive with at=DATE.",
    ) as draft:
        draft.tolerance = f"{tolerance} rows per table" if tolerance else "none"
        for item in found:
            draft.offend(*row_offenders(item, tolerance, at_least))
        there = sum(Database("", item.facts).rows for item in found)
        draft.found = count(there, "row")


def row_offenders(item: Found, tolerance: int, at_least: bool) -> Iterator[str]:
    """The tables that have other rows than the archived ones."""
    if not item.facts:
        yield f"{item.path}: {item.error}"
        return
    here = Database("", item.facts).tables
    for table, rows in item.database.tables.items():
        has = here.get(table)
        if not isinstance(rows, int):
            continue
        if not isinstance(has, int):
            yield f"{item.path}: table {table} is gone, expected {count(rows, 'row')}"
        elif has < rows - tolerance or (not at_least and has > rows + tolerance):
            yield f"{item.path}: {table} has {count(has, 'row')}, expected {rows:,}"


def _check_newest(sheet: Sheet, found: Sequence[Found]) -> None:
    dated = [item for item in found if item.database.newest]
    sheet.compare(
        *("database_newest", DATA_PROVEN, "newest time", len(dated)),
        (
            f"{item.path}: {item.newest or 'no data'}, expected {item.database.newest}"
            for item in dated
            if item.newest != item.database.newest
        ),
        "It is an older or a newer copy than the one that was archived.",
    )


def newest_of(found: Sequence[Found]) -> dict[str, str]:
    """The newest data of all databases, and where it was seen."""
    best: dict[str, str] = {}
    for item in found:
        newest = item.facts.get("newest")
        if isinstance(newest, Mapping) and str(newest.get("time", "")) > best.get("time", ""):
            source = f"{item.path} {newest.get('table')}.{newest.get('column')}"
            best = {"time": str(newest["time"]), "source": source}
    return best
