# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One drill as one page: the verdict first, then what failed, then everything else.

Whatever came from an archive or a box is untrusted text and is escaped here, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from .evidence import IDENTITY, NAMESPACE, SIGNERS, Record
from .report_style import icon, page
from .report_svg import Point, css_class, mark, phase_bar, time_plot
from .verdict import (
    COULD_NOT_RUN,
    FAILED,
    LEVELS,
    NOT_PROVEN,
    PASSED,
    PROVEN,
    SHORT_LEVELS,
    TITLES,
    duration_text,
    moment,
)
from .visible import joined

STATUS_CLASS: Final[Mapping[str, str]] = {PASSED: "good", FAILED: "bad"}
STATUS_TEXT: Final[Mapping[str, str]] = {PASSED: "Passed", FAILED: "Failed"}


def esc(value: object) -> str:
    return escape("" if value is None else joined(str(value).split("\n")))


def chip(name: str, text: str) -> str:
    return f'<span class="chip {name}">{icon(name)}{esc(text)}</span>'


def duration(value: object) -> str:
    return duration_text(float(value)) if isinstance(value, (int, float)) else "not measured"


def time_text(value: object) -> str:
    """A time with its zone, and for machines as well."""
    found = moment(str(value)) if value else None
    if found is None:
        return "unknown"
    return f'<time datetime="{found:%Y-%m-%dT%H:%M:%SZ}">{found:%Y-%m-%d %H:%M} UTC</time>'


def date_text(value: object) -> str:
    """A day, with the time for machines."""
    found = moment(str(value)) if value else None
    if found is None:
        return "unknown"
    return f'<time datetime="{found:%Y-%m-%dT%H:%M:%SZ}">{found:%Y-%m-%d}</time>'


def table(caption: str, columns: Sequence[str], rows: Iterable[str], *, css: str = "stack") -> str:
    head = "".join(
        f'<th scope="col"{" class=number" if name.startswith("#") else ""}>'
        f"{esc(name.lstrip('#'))}</th>"
        for name in columns
    )
    return (
        f'<div class="scroll"><table class="{css}"><caption>{esc(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def cell(label: str, html: str, *, number: bool = False, short: bool = False) -> str:
    css = ' class="number"' if number else ' class="short"' if short else ""
    return f'<td{css} data-label="{esc(label)}">{html}</td>' if html else f"<td{css}></td>"


def section(title: str, body: str, intro: str = "") -> str:
    name = "".join(char if char.isalnum() else "-" for char in title.lower())
    text = f"<p>{esc(intro)}</p>" if intro else ""
    return (
        f'<section aria-labelledby="{name}"><h2 id="{name}">{esc(title)}</h2>{text}{body}</section>'
    )


def run_page(record: Mapping[str, Any], history: Sequence[Record] = (), stem: str = "") -> str:
    """The page of one drill. The history is what was recorded up to and with this drill."""
    parts = [
        _brand(record),
        '<main id="main">',
        _verdict(record),
        _ladder(record),
        _problems(record),
        _not_tested(record),
        _phases(record),
        _history(record, history),
        _checks(record),
        _drift(record),
        _supply(record),
        _provenance(record, stem),
        "</main>",
        "<footer>This page is a view of the signed record beside it; the record is the evidence."
        "</footer>",
    ]
    agent = record["agent"].get("name", "?")
    title = f"{TITLES[record['verdict']['result']]}: drill of {agent}"
    return page(title, "\n".join(part for part in parts if part))


def _brand(record: Mapping[str, Any]) -> str:
    return (
        '<header class="brand"><span><strong>lifeboat.agents</strong> drill report</span>'
        f"<span>{time_text(record['drill'].get('started'))}</span></header>"
    )


def _lead(record: Mapping[str, Any]) -> str:
    verdict = record["verdict"]
    archive = record.get("archive", {}).get("name")
    if verdict["result"] == PROVEN:
        came = f"came back from the archive {archive}" if archive else "came back"
        who = record["agent"].get("name")
        return f"{who} {came} on a box that had nothing but the inventory and the vault."
    if verdict["result"] == COULD_NOT_RUN:
        return f"This drill says nothing about the backup. {_sentence(verdict['reason'])}"
    return _sentence(verdict["reason"])


def _sentence(text: object) -> str:
    words = str(text).strip()
    words = words[:1].upper() + words[1:] if " " in words.split(":", 1)[0] else words
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _verdict(record: Mapping[str, Any]) -> str:
    verdict = record["verdict"]
    css = css_class(verdict["result"])
    todo = ""
    if verdict.get("hint"):
        todo = f'<p class="todo"><strong>What to do:</strong> {esc(verdict["hint"])}</p>'
    return (
        f'<div class="verdict {css}"><div class="head"><div class="sign">{icon(css)}</div>'
        f'<h1><span class="result">{esc(TITLES[verdict["result"]])}</span> '
        f'<span class="who">{esc(record["agent"].get("name", "?"))}</span></h1></div>'
        f'<p class="lead">{esc(_lead(record))}</p>{todo}{_figures(record)}</div>'
    )


def _figures(record: Mapping[str, Any]) -> str:
    level = record["verdict"]["level"]
    summary = record.get("summary", {})
    reached = "none" if level is None else f"L{level} of L5"
    name = "nothing was reached" if level is None else LEVELS[level]
    items = [("Level reached", reached, name)]
    items += [_objective_figure(record, "rto", "Recovery time (RTO)")]
    items += [_objective_figure(record, "rpo", "Data at risk (RPO)")]
    failed, untested = summary.get(FAILED, 0), len(record.get("not_tested", ()))
    passed = summary.get(PASSED, 0)
    asked = f"{passed} of {passed + failed} passed"
    items.append(("Checks", asked, f"{failed} failed, {untested} not tested"))
    body = "".join(
        f'<div class="figure"><dt>{esc(term)}</dt><dd>{esc(value)}<small>{esc(note)}</small></dd>'
        "</div>"
        for term, value, note in items
    )
    return f'<dl class="figures">{body}</dl>'


def _objective_figure(record: Mapping[str, Any], name: str, title: str) -> tuple[str, str, str]:
    item = record.get("objectives", {}).get(name, {})
    if item.get("measured") is None:
        return title, "not measured", _target_text(item)
    return title, duration(item["measured"]), _target_text(item)


def _target_text(item: Mapping[str, Any]) -> str:
    if item.get("target") is None:
        return "no target set"
    met = {True: "met", False: "missed", None: "not judged"}[item.get("met")]
    return f"target {duration(item['target'])}, {met}"


def _ladder(record: Mapping[str, Any]) -> str:
    top = record["verdict"]["level"]
    steps = "".join(_step(state, -1 if top is None else top) for state in record.get("levels", ()))
    intro = "Each level is worth what was tested below it; what was not tested is not counted."
    return section("How far the proof goes", f'<ol class="ladder">{steps}</ol>', intro)


def _step(state: Mapping[str, Any], top: int) -> str:
    words = {"reached": "Reached", "failed": "Failed", "not_tested": "Not tested"}
    css, text = str(state["status"]), words[state["status"]]
    if css == "reached" and state["level"] > top:
        css, text = "not_tested", "Passed, not counted"
    name = f"L{state['level']} {esc(SHORT_LEVELS[state['level']])}"
    return f'<li class="{css}"><b>{name}</b><span class="state">{text}</span></li>'


def _problems(record: Mapping[str, Any]) -> str:
    rows = [_check_row(check) for check in record.get("checks", ()) if check["status"] == FAILED]
    parts = []
    failure = record.get("failure")
    if failure:
        todo = f'<p class="hint">What to do: {esc(failure["hint"])}</p>' if failure["hint"] else ""
        parts.append(
            f"<p>The drill stopped in the phase <strong>{esc(failure['phase'])}</strong>:</p>"
            f"<pre>{esc(failure['message'])}</pre>{todo}"
        )
    if rows:
        caption = "Every check that failed, with what to do about it"
        parts.append(table(caption, CHECK_COLUMNS, rows))
    for left in record.get("leftovers", ()):
        parts.append(f"<p>{chip('none', 'Left over')} {esc(left)}</p>")
    return section("What went wrong", "".join(parts)) if parts else ""


CHECK_COLUMNS: Final = ("Check", "Result", "Expected", "Found", "#Time")


def _check_row(check: Mapping[str, Any]) -> str:
    status = str(check["status"])
    shown = chip(STATUS_CLASS.get(status, "quiet"), STATUS_TEXT.get(status, "Not tested"))
    found = esc(check.get("found"))
    offenders = check.get("offenders", ())
    if offenders:
        more = int(check.get("offenders_count", 0)) - len(offenders)
        items = "".join(f"<li><code>{esc(item)}</code></li>" for item in offenders)
        items += f"<li>and {more} more</li>" if more > 0 else ""
        found += f"<ul>{items}</ul>"
    if status == FAILED and check.get("hint"):
        found += f'<div class="hint">What to do: {esc(check["hint"])}</div>'
    tolerance = check.get("tolerance")
    expected = esc(check.get("expected"))
    if tolerance and tolerance != "none":
        expected += f'<div class="hint">tolerance: {esc(tolerance)}</div>'
    css = ' class="failed"' if status == FAILED else ""
    return (
        f'<tr{css}><th scope="row"><code>{esc(check["name"])}</code></th>'
        + cell("", shown)
        + cell("Expected", expected)
        + cell("Found", found)
        + cell("Time", duration(check.get("duration")), number=True)
        + "</tr>"
    )


def _checks(record: Mapping[str, Any]) -> str:
    rows = []
    checks = record.get("checks", ())
    for level, name in LEVELS.items():
        own = [check for check in checks if check["level"] == level]
        if own:
            head = f'<th colspan="5" scope="rowgroup">L{level}: {esc(name)}</th>'
            rows.append(f'<tr class="group">{head}</tr>')
            rows += [_check_row(check) for check in own]
    if not rows:
        return ""
    caption = "Every question that was asked, by level"
    return section("Checks", table(caption, CHECK_COLUMNS, rows))


def _not_tested(record: Mapping[str, Any]) -> str:
    items = record.get("not_tested", ())
    if not items:
        return section("What was not tested", "", "Nothing was left out.")
    rows = [
        f'<tr><th scope="row">{esc(item["name"])}</th>{cell("Why", esc(item["reason"]))}</tr>'
        for item in items
    ]
    return section("What was not tested", table("Not counted as proof", ("What", "Why"), rows))


def _phases(record: Mapping[str, Any]) -> str:
    phases = record.get("phases", ())
    if not phases:
        return ""
    recovery = [(str(item["name"]), float(item["seconds"])) for item in phases if item["rto"]]
    colours = {name: f"p{number % 6}" for number, (name, _value) in enumerate(recovery)}
    rows = [
        f'<tr><th scope="row"><span class="swatch {colours.get(str(item["name"]), "off")}"></span>'
        f"{esc(item['name'])}</th>{cell('Time', duration(item['seconds']), number=True)}"
        f"{cell('', 'part of the recovery time' if item['rto'] else 'part of the drill only')}</tr>"
        for item in phases
    ]
    objective = record.get("objectives", {}).get("rto", {})
    chart = phase_bar("phases", recovery, objective.get("target")) if recovery else ""
    body = chart + table("Time by phase", ("Phase", "#Time", "Counts as"), rows, css="fit")
    return section("Recovery time by phase", body, _sentence(objective.get("basis", "")))


def points(history: Sequence[Record], name: str) -> list[Point]:
    """The measures of one objective over all drills."""
    found = []
    for record in history:
        when = moment(record.started)
        if when is None:
            continue
        value = record.data.get("objectives", {}).get(name, {}).get("measured")
        value = float(value) if isinstance(value, (int, float)) else None
        measured = "not measured" if value is None else duration_text(value)
        text = f"{when:%Y-%m-%d %H:%M}: {TITLES.get(record.result, record.result)}, {measured}"
        found.append(Point(when, value, record.result, text))
    return sorted(found, key=lambda point: point.time)


def plots(history: Sequence[Record], prefix: str, targets: Mapping[str, float | None]) -> str:
    """RTO and RPO side by side."""
    names = (("rto", "Recovery time", "RTO"), ("rpo", "Data at risk", "RPO"))
    figures = []
    for name, title, short in names:
        identifier, measures = f"{prefix}-{name}", points(history, name)
        plot = time_plot(identifier, f"{title} by drill", measures, targets.get(name))
        text = f"{title} <span>({short}) over all drills</span>"
        figures.append(f"<figure><figcaption>{text}</figcaption>{plot}</figure>")
    return f'<div class="plots">{"".join(figures)}</div>'


def legend() -> str:
    shapes = ((PROVEN, "proven"), (NOT_PROVEN, "not proven"), (COULD_NOT_RUN, "could not run"))
    items = "".join(
        f'<li><svg viewBox="0 0 14 14" aria-hidden="true">{mark(7, 7, result, text, 6)}</svg>'
        f"{text}</li>"
        for result, text in shapes
    )
    return f'<ul class="legend" aria-label="Signs in the plots">{items}</ul>'


def targets_of(record: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        name: record.get("objectives", {}).get(name, {}).get("target") for name in ("rto", "rpo")
    }


def _history(record: Mapping[str, Any], history: Sequence[Record]) -> str:
    shown = [item for item in history if item.data]
    if not shown:
        return ""
    body = plots(shown, "history", targets_of(record)) + legend()
    rows = [history_row(item) for item in reversed(shown[-12:])]
    caption = f"The last {len(rows)} of {len(shown)} drills, newest first"
    columns = ("Drill", "Verdict", "Level", "#RTO", "#RPO", "Archive")
    return section("History", body + table(caption, columns, rows))


def history_row(record: Record) -> str:
    data = record.data
    verdict = data.get("verdict", {})
    measured = data.get("objectives", {})
    level = verdict.get("level")
    result = str(verdict.get("result"))
    archive = data.get("archive", {}).get("name")
    page_name = f"{record.name[: -len('.json')]}.html"
    return (
        f'<tr><th scope="row"><a href="{esc(page_name)}">{time_text(record.started)}</a></th>'
        + cell("", chip(css_class(result), TITLES.get(result, result)))
        + cell("Level", "none" if level is None else f"L{level}", short=True)
        + cell("RTO", duration(measured.get("rto", {}).get("measured")), number=True)
        + cell("RPO", duration(measured.get("rpo", {}).get("measured")), number=True)
        + cell("Archive", f"<code>{esc(archive)}</code>" if archive else "")
        + "</tr>"
    )


DRIFT_TITLES: Final[Mapping[str, str]] = {
    "production": "What the live agent has and the archive lacks",
    "archive": "What the archive holds and a restore cannot use or should not have",
}


def _drift(record: Mapping[str, Any]) -> str:
    drift = record.get("drift", ())
    intro = "Differences between the live agent, the archive and what the inventory would deploy."
    if not drift:
        return section("Drift", "", "No drift was found in what was compared.")
    parts = []
    for direction, title in DRIFT_TITLES.items():
        rows = [_drift_row(item) for item in drift if item.get("direction") == direction]
        if rows:
            columns = ("What", "Where", "Since", "What to do")
            parts.append(f"<h3>{esc(title)}</h3>{table(f'{len(rows)} findings', columns, rows)}")
    return section("Drift", "".join(parts), intro)


def _drift_row(item: Mapping[str, Any]) -> str:
    drills = int(item.get("drills", 1))
    seen = "new in this drill"
    if item.get("since"):
        seen = f"{time_text(item['since'])}, {drills} drills"
    return (
        f'<tr><th scope="row">{esc(item.get("what"))}</th>'
        + cell("Where", f"<code>{esc(item.get('where'))}</code>")
        + cell("Since", seen)
        + cell("What to do", esc(item.get("todo")))
        + "</tr>"
    )


def _supply(record: Mapping[str, Any]) -> str:
    items = record.get("to_be_supplied", ())
    if not items:
        return ""
    rows = [
        f'<tr><th scope="row"><code>{esc(item.get("path"))}</code></th>'
        + cell("Key", "<code>" + esc(item.get("key")) + "</code>")
        + "</tr>"
        for item in items
    ]
    intro = "Secrets are never in an archive. After a real restore these are asked for again."
    return section("To be supplied after a restore", table("By file", ("File", "Key"), rows), intro)


def _provenance(record: Mapping[str, Any], stem: str) -> str:
    archive, repository = record.get("archive", {}), record.get("repository", {})
    agent, drill = record["agent"], record["drill"]
    facts = (
        ("Agent", f"{esc(agent.get('name'))} on {esc(agent.get('host'))}"),
        ("Profile", esc(agent.get("profile"))),
        ("Version in the archive", esc(agent.get("version") or "unknown")),
        ("Version on the box", esc(agent.get("installed_version") or "unknown")),
        ("Archive", f"<code>{esc(archive.get('name') or 'none')}</code>"),
        ("Archive id", f"<code>{esc(archive.get('id') or 'none')}</code>"),
        ("Archive made", time_text(archive.get("time"))),
        ("Newest data in it", time_text(archive.get("newest_data"))),
        ("Repository", f"<code>{esc(repository.get('url') or 'none')}</code>"),
        ("Repository id", f"<code>{esc(repository.get('id') or 'none')}</code>"),
        ("Source", esc(drill.get("source") or "repository")),
        ("Box", esc(f"{drill.get('provider', '?')}, {drill.get('distribution', '?')}")),
        ("Drill", f"<code>{esc(drill.get('id'))}</code>"),
        ("Harm done on purpose by", esc(drill.get("rehearsal") or "")),
        ("Made with", esc(_versions(drill))),
        ("Record before this one", _previous(record)),
    )
    rows = "".join(f"<dt>{term}</dt><dd>{value}</dd>" for term, value in facts if value)
    return section("Where this comes from", f'<dl class="facts">{rows}</dl>{_verify(stem)}')


def _versions(drill: Mapping[str, Any]) -> str:
    versions = drill.get("versions") or {}
    return ", ".join(f"{name} {value}" for name, value in versions.items())


def _previous(record: Mapping[str, Any]) -> str:
    previous = record.get("previous")
    if not previous:
        return "none, this is the first"
    return f"<code>{esc(previous['file'])}</code>, SHA-256 <code>{esc(previous['sha256'])}</code>"


def _verify(stem: str) -> str:
    if not stem:
        return ""
    command = (
        f"ssh-keygen -Y verify -f ../{SIGNERS} -I {IDENTITY} -n {NAMESPACE} "
        f"-s {stem}.json.sig < {stem}.json"
    )
    return f"<h3>Verify the record</h3><pre>{esc(command)}</pre>"
