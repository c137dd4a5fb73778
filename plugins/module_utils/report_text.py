# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence for a terminal: a line per check, then the verdict; and a table for a fleet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from .verdict import COULD_NOT_RUN, FAILED, NOT_PROVEN, PASSED, PROVEN, SKIPPED, duration_text
from .visible import visible

MARKS: Final[Mapping[str, str]] = {PASSED: "ok    ", FAILED: "FAILED", SKIPPED: "-     "}
VERDICTS: Final[Mapping[str, str]] = {
    PROVEN: "PROVEN",
    NOT_PROVEN: "NOT PROVEN",
    COULD_NOT_RUN: "COULD NOT RUN",
}


def lines(record: Mapping[str, Any]) -> list[str]:
    """What the drill of one agent found."""
    return [visible(line) for line in _lines(record)]


def _lines(record: Mapping[str, Any]) -> Iterator[str]:
    checks: Sequence[Mapping[str, Any]] = record.get("checks", ())
    width = max((len(str(check["name"])) for check in checks), default=0)
    for check in checks:
        yield from _check(check, width)
    if checks:
        yield ""
    yield verdict_line(record)
    if record["drill"].get("rehearsal"):
        yield f"  a rehearsal: {record['drill']['rehearsal']} did harm on purpose"
    hint = record["verdict"].get("hint")
    if hint:
        yield f"  what to do: {hint}"
    yield from _objectives(record)
    not_tested = record.get("not_tested", ())
    if not_tested:
        yield "  not tested: " + "; ".join(f"{i['name']} ({i['reason']})" for i in not_tested)


def _check(check: Mapping[str, Any], width: int) -> Iterator[str]:
    status = str(check["status"])
    head = f"{MARKS.get(status, 'FAILED')} L{check['level']} {check['name']:<{width}}  "
    if status == FAILED:
        yield f"{head}expected {check['expected']}, found {check['found']}"
        indent = " " * len(head)
        for offender in check.get("offenders", ()):
            yield f"{indent}- {offender}"
        more = int(check.get("offenders_count", 0)) - len(check.get("offenders", ()))
        if more > 0:
            yield f"{indent}- and {more} more"
        if check.get("hint"):
            yield f"{indent}what to do: {check['hint']}"
        return
    took = f"  ({duration_text(check['duration'])})" if check.get("duration", 0) >= 1 else ""
    yield f"{head}{check['found']}{took}"


def verdict_line(record: Mapping[str, Any]) -> str:
    verdict = record["verdict"]
    name = VERDICTS.get(verdict["result"], "NOT PROVEN")
    level = "nothing reached" if verdict["level"] is None else f"L{verdict['level']} reached"
    agent = record["agent"].get("name", "?")
    if verdict["result"] == PROVEN:
        return f"{name}: {agent}, L{verdict['level']}: {verdict['level_name']}"
    return f"{name}: {agent}, {level}: {verdict['reason']}"


def _objectives(record: Mapping[str, Any]) -> Iterator[str]:
    for name, objective in record.get("objectives", {}).items():
        if objective.get("measured") is None:
            continue
        text = f"  {name.upper()} {duration_text(objective['measured'])}"
        if objective.get("target") is not None:
            met = {True: "met", False: "MISSED", None: "not judged"}[objective.get("met")]
            text += f", target {duration_text(objective['target'])}: {met}"
        yield text


def summary(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line per agent, and the count."""
    items = list(records)
    rows = [_row(record) for record in items]
    widths = [max(len(row[column]) for row in rows) for column in range(4)] if rows else []
    text = ["  ".join(cell.ljust(size) for cell, size in zip(row, widths)) for row in rows]
    reasons = [str(record["verdict"]["reason"]) for record in items]
    shown = [f"{line}  {reason}".rstrip() for line, reason in zip(text, reasons)]
    counts = {
        result: sum(record["verdict"]["result"] == result for record in items)
        for result in VERDICTS
    }
    total = f"{counts[PROVEN]} of {len(items)} proven"
    if counts[NOT_PROVEN]:
        total += f", {counts[NOT_PROVEN]} not proven"
    if counts[COULD_NOT_RUN]:
        total += f", {counts[COULD_NOT_RUN]} could not run"
    return [visible(line) for line in (*shown, total)]


def _row(record: Mapping[str, Any]) -> tuple[str, str, str, str]:
    verdict = record["verdict"]
    measured = record.get("objectives", {}).get("rto", {}).get("measured")
    return (
        VERDICTS.get(verdict["result"], "NOT PROVEN"),
        str(record["agent"].get("name", "?")),
        "-" if verdict["level"] is None else f"L{verdict['level']}",
        "" if measured is None else f"RTO {duration_text(measured)}",
    )
