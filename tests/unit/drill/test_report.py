# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same verdict on the terminal, in JUnit and on the pages; nothing is green that is not."""

from __future__ import annotations

import datetime
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import (
    report_fleet,
    report_html,
    report_junit,
    report_svg,
    report_text,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.evidence import Record
from ansible_collections.lifeboat.agents.plugins.module_utils.evidence_record import (
    Facts,
    compose,
)

VOID = {"meta", "link", "br"}
NOW = datetime.datetime(2026, 11, 23, tzinfo=datetime.timezone.utc)
EVIL = "<script>alert(1)</script>\x1b[31m\x00\u202e"


class Page(HTMLParser):
    """Reads a page, asserts that every element is closed, and keeps what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def made(facts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return compose(Facts.from_dict({**facts, **changes}), finished="2026-11-22T21:02:00Z")


def as_history(*records: dict[str, Any]) -> list[Record]:
    return [
        Record(f"/e/acme/2026112{number}T210000Z-aa.json", "acme", record, "0" * 64)
        for number, record in enumerate(records)
    ]


FAILED_CHECK = {
    "name": "content",
    "level": 4,
    "status": "failed",
    "expected": "3 files as archived",
    "found": "2 of 3",
    "offenders": ["SOUL.md: empty"],
    "hint": "restore an earlier archive",
}
FAILURE = {"phase": "provision", "message": "no space left on device"}


def test_terminal_lines(facts: dict[str, Any]) -> None:
    lines = report_text.lines(made(facts))
    assert lines[0].startswith("ok     L0 repository_reachable")
    assert "PROVEN: acme, L5: the agent itself is up and answers" in lines
    assert "  RTO 2 min, target 10 min: met" in lines
    assert any("not tested: L1 check" in line for line in lines)


def test_terminal_lines_of_a_failure(facts: dict[str, Any]) -> None:
    text = "\n".join(report_text.lines(made(facts, checks=[*facts["checks"], FAILED_CHECK])))
    assert "FAILED L4 content" in text
    assert "- SOUL.md: empty" in text
    assert "what to do: restore an earlier archive" in text
    assert "NOT PROVEN: acme, L3 reached" in text


def test_summary_counts(facts: dict[str, Any]) -> None:
    records = [made(facts), made(facts, checks=[FAILED_CHECK]), made(facts, failure=FAILURE)]
    lines = report_text.summary(records)
    assert len(lines) == 4
    assert lines[-1] == "1 of 3 proven, 1 not proven, 1 could not run"
    assert report_text.summary([]) == ["0 of 0 proven"]


def test_a_name_is_never_more_than_a_part_of_its_line(facts: dict[str, Any]) -> None:
    check = {**FAILED_CHECK, "found": "x\nPROVEN: acme", "offenders": ["y\n- z", "\x1b[2J"]}
    record = made(facts, checks=[check])
    record["verdict"]["reason"] = "x\n2 of 2 proven"
    assert all(line.isprintable() for line in report_text.lines(record))
    assert all(line.isprintable() for line in report_text.summary([record]))
    root = ElementTree.fromstring(report_junit.junit([record]))
    found = root.find(".//failure[@type='check']")
    assert found is not None and found.text is not None
    assert found.text.splitlines()[:2] == [r"- y\n- z", r"- \x1b[2J"]


def test_junit_counts(facts: dict[str, Any]) -> None:
    records = [
        made(facts),
        made(facts, checks=[*facts["checks"], FAILED_CHECK]),
        made(facts, checks=[], failure=FAILURE),
    ]
    root = ElementTree.fromstring(report_junit.junit(records))
    good, bad, none = root
    assert good.attrib["failures"] == good.attrib["errors"] == "0"
    assert bad.attrib["failures"] == "2"  # the check and the verdict
    assert none.attrib["errors"] == "1"
    assert root.attrib["tests"] == str(sum(len(suite.findall("testcase")) for suite in root))


def test_junit_holds_what_xml_cannot(facts: dict[str, Any]) -> None:
    check = {**FAILED_CHECK, "found": EVIL, "offenders": [EVIL]}
    suites = ElementTree.fromstring(report_junit.junit([made(facts, checks=[check])]))
    assert [case.get("name") for case in suites.iter("testcase")]


def pages(facts: dict[str, Any]) -> list[str]:
    evil = {**FAILED_CHECK, "name": EVIL, "found": EVIL, "offenders": [EVIL], "hint": EVIL}
    drift = [{"direction": "production", "what": EVIL, "where": EVIL, "todo": EVIL}]
    records = [
        made(facts),
        made(facts, checks=[*facts["checks"], evil], drift=drift),
        made(facts, checks=[], failure={**FAILURE, "message": EVIL}, phases={}),
    ]
    history = as_history(*records)
    runs = [report_html.run_page(record, history, "20261120T210000Z-aa") for record in records]
    return [
        *runs,
        report_fleet.fleet_page({"acme": history, "globex": []}, NOW),
        report_fleet.fleet_page({}, NOW),
    ]


@pytest.mark.parametrize("number", range(5))
def test_pages_are_whole_safe_and_need_no_network(facts: dict[str, Any], number: int) -> None:
    text = pages(facts)[number]
    page = Page(text)
    assert "<script" not in text.replace("&lt;script", "")
    assert all(line.isprintable() for line in text.split("\n"))
    assert not re.search(r"""(src|href)=["'](?!data:,|#|[\w./-]*\.html["'])""", text)
    assert "@import" not in text
    assert "url(" not in text
    assert "default-src 'none'" in text
    assert page.attributes("html")[0]["lang"] == "en"
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


@pytest.mark.parametrize("number", range(5))
def test_pages_can_be_heard(facts: dict[str, Any], number: int) -> None:
    page = Page(pages(facts)[number])
    levels = [int(tag[1]) for tag, _attrs in page.tags if tag in ("h1", "h2", "h3")]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))
    assert len(page.attributes("caption")) == len(page.attributes("table"))
    assert all("scope" in attrs for attrs in page.attributes("th"))
    for attrs in page.attributes("svg"):
        named = attrs.get("aria-labelledby") or attrs.get("aria-label")
        assert named or attrs.get("aria-hidden") == "true"
    identifiers = [str(attrs["id"]) for _tag, attrs in page.tags if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    for _tag, attrs in page.tags:
        for name in (attrs.get("aria-labelledby") or "").split():
            assert name in identifiers


def test_the_verdict_comes_first(facts: dict[str, Any]) -> None:
    for text in pages(facts):
        assert text.index('class="verdict') < text.index("<section")
    titles = [re.search("<title>(.*?)</title>", text) for text in pages(facts)]
    assert [title.group(1) for title in titles if title] == [
        "Proven: drill of acme",
        "Not proven: drill of acme",
        "Could not run: drill of acme",
        "0 of 2 agents proven: drills of the fleet",
        "0 of 0 agents proven: drills of the fleet",
    ]


def test_only_a_proven_drill_is_green(facts: dict[str, Any]) -> None:
    shown = [re.search(r'class="verdict (\w+)"', text) for text in pages(facts)]
    assert [css.group(1) for css in shown if css] == ["good", "bad", "none", "none", "none"]


def test_silence_is_not_green(facts: dict[str, Any]) -> None:
    history = as_history(made(facts))
    recent = report_fleet.fleet_page({"acme": history}, NOW)
    late = report_fleet.fleet_page({"acme": history}, NOW + datetime.timedelta(days=36))
    assert 'class="verdict good"' in recent
    assert 'class="verdict none"' in late
    assert "Overdue" in late


def test_plots_say_what_they_show() -> None:
    points = [
        report_svg.Point(NOW + datetime.timedelta(days=day), value, "proven", "x")
        for day, value in enumerate((100.0, None, 700.0))
    ]
    text = report_svg.describe(points, 600)
    assert text == (
        "2 measured drills from 2026-11-23 to 2026-11-25: lowest 1 min 40 s, "
        "highest 11 min 40 s, latest 11 min 40 s. Target 10 min, missed 1 times."
    )
    assert report_svg.describe([], None) == "No drill has measured this yet."


@pytest.mark.parametrize("top", [0.5, 7, 95, 3600, 90000, 9e6, 9e9])
def test_axes_have_few_lines(top: float) -> None:
    assert 0 < top / report_svg.nice_step(top) <= 5
