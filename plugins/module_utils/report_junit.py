# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence for a CI server: JUnit XML, one suite per agent, one case per check.

A drill that could not run is an error and never an empty suite, which most servers show green.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree import ElementTree

from .verdict import COULD_NOT_RUN, FAILED, PROVEN, SHORT_LEVELS, SKIPPED
from .visible import joined

# What XML 1.0 cannot hold, even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _clean(value: object) -> str:
    return _FORBIDDEN.sub("\ufffd", str(value))


def junit(records: Iterable[Mapping[str, Any]], reason: str = "") -> bytes:
    """The XML of one drill or of a whole run; of a run without a record why it has none."""
    root = ElementTree.Element("testsuites", name="lifeboat.agents drill")
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    suites = [_suite(record) for record in records] or [_nobody(reason)]
    for suite in suites:
        root.append(suite)
        for name in totals:
            totals[name] += int(suite.get(name, "0"))
    for name, value in totals.items():
        root.set(name, str(value))
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _suite(record: Mapping[str, Any]) -> ElementTree.Element:
    agent = _clean(record["agent"].get("name", "unknown"))
    suite = ElementTree.Element("testsuite", name=f"drill.{agent}")
    suite.set("timestamp", _clean(record["drill"].get("started", "")).rstrip("Z"))
    suite.set("hostname", _clean(record["agent"].get("host", "")))
    cases = [_check_case(check, agent) for check in record.get("checks", ())]
    cases += [_objective_case(item, agent) for item in record.get("objectives", {}).values()]
    cases.append(_verdict_case(record, agent))
    suite.append(_properties(record))
    suite.extend(cases)
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(tag) is not None for case in cases)))
    suite.set("tests", str(len(cases)))
    suite.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")
    return suite


def _nobody(reason: str) -> ElementTree.Element:
    suite = ElementTree.Element(
        "testsuite", name="drill", tests="1", failures="0", errors="1", skipped="0", time="0.000"
    )
    case = _case("verdict", "drill")
    message = _clean(reason or "no agent was drilled")
    ElementTree.SubElement(case, "error", message=message, type=COULD_NOT_RUN)
    suite.append(case)
    return suite


def _properties(record: Mapping[str, Any]) -> ElementTree.Element:
    properties = ElementTree.Element("properties")
    verdict = record["verdict"]
    level = "none" if verdict["level"] is None else verdict["level"]
    pairs = {
        "verdict": verdict["result"],
        "level": level,
        "archive": record.get("archive", {}).get("name", ""),
        "archive_id": record.get("archive", {}).get("id", ""),
        "drill": record["drill"].get("id", ""),
    }
    for name, value in pairs.items():
        ElementTree.SubElement(properties, "property", name=name, value=_clean(value))
    return properties


def _case(name: str, group: str, duration: float = 0.0) -> ElementTree.Element:
    return ElementTree.Element(
        "testcase", name=_clean(name), classname=_clean(group), time=f"{duration:.3f}"
    )


def _check_case(check: Mapping[str, Any], agent: str) -> ElementTree.Element:
    level = int(check["level"])
    group = f"{agent}.L{level} {SHORT_LEVELS.get(level, '')}".strip()
    case = _case(str(check["name"]), group, float(check.get("duration", 0)))
    if check["status"] == SKIPPED:
        ElementTree.SubElement(case, "skipped", message=_clean(check.get("found", "")))
    elif check["status"] == FAILED:
        message = f"expected {check.get('expected')}, found {check.get('found')}"
        failure = ElementTree.SubElement(case, "failure", message=_clean(message), type="check")
        details = [f"- {offender}" for offender in check.get("offenders", ())]
        if check.get("hint"):
            details.append(f"what to do: {check['hint']}")
        failure.text = joined(details)
    return case


def _objective_case(objective: Mapping[str, Any], agent: str) -> ElementTree.Element:
    case = _case(f"{objective['name']}_target", f"{agent}.objectives")
    met = objective.get("met")
    numbers = f"measured {objective.get('measured')} s, target {objective.get('target')} s"
    if met is None:
        reason = objective.get("basis") or "no target"
        ElementTree.SubElement(case, "skipped", message=_clean(f"{numbers}; {reason}"))
    elif not met:
        ElementTree.SubElement(case, "failure", message=_clean(numbers), type="objective")
    return case


def _verdict_case(record: Mapping[str, Any], agent: str) -> ElementTree.Element:
    case = _case("verdict", agent)
    verdict = record["verdict"]
    if verdict["result"] == PROVEN:
        return case
    tag = "error" if verdict["result"] == COULD_NOT_RUN else "failure"
    problem = ElementTree.SubElement(
        case, tag, message=_clean(verdict["reason"]), type=_clean(verdict["result"])
    )
    problem.text = _clean(verdict.get("hint", ""))
    return case
