# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole fleet as one page: no recent proof stands out as much as a failed one."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .evidence import Record
from .report_html import (
    cell,
    chip,
    date_text,
    duration,
    esc,
    legend,
    plots,
    points,
    section,
    table,
    targets_of,
    time_text,
)
from .report_style import icon, page
from .report_svg import SPARK_POINTS, css_class, spark
from .verdict import COULD_NOT_RUN, NOT_PROVEN, PROVEN, TITLES, duration_text, moment

OVERDUE_DAYS: Final = 35
REASON_SHOWN: Final = 300


@dataclass(frozen=True)
class AgentState:
    """What is known about an agent by its drills."""

    name: str
    history: tuple[Record, ...]
    now: datetime.datetime
    overdue_days: int = OVERDUE_DAYS

    @property
    def last(self) -> Record | None:
        return self.history[-1] if self.history else None

    @property
    def last_proven(self) -> datetime.datetime | None:
        proven = [record for record in self.history if record.result == PROVEN]
        return moment(proven[-1].started) if proven else None

    @property
    def overdue(self) -> bool:
        if self.last_proven is None:
            return True
        return self.now - self.last_proven > datetime.timedelta(days=self.overdue_days)

    @property
    def state(self) -> str:
        """Proven only when the last drill proved it and that is not too long ago."""
        if self.last is None:
            return COULD_NOT_RUN
        if self.last.result == PROVEN and self.overdue:
            return COULD_NOT_RUN
        return self.last.result

    @property
    def state_text(self) -> str:
        if self.last is None:
            return "Never drilled"
        if self.last.result == PROVEN and self.overdue:
            return "Overdue"
        return TITLES.get(self.last.result, self.last.result)


def fleet_page(
    histories: Mapping[str, Sequence[Record]],
    now: datetime.datetime,
    overdue_days: int = OVERDUE_DAYS,
) -> str:
    """The page of all agents, those that need attention first."""
    states = [
        AgentState(name, tuple(item for item in history if item.data), now, overdue_days)
        for name, history in histories.items()
    ]
    order = {NOT_PROVEN: 0, COULD_NOT_RUN: 1, PROVEN: 2}
    states.sort(key=lambda state: (order.get(state.state, 1), state.name))
    body = [
        '<header class="brand"><span><strong>lifeboat.agents</strong> drills of the fleet</span>'
        f"<span>{time_text(now.isoformat())}</span></header>",
        '<main id="main">',
        _verdict(states, overdue_days),
        _agents(states),
        _plots(states),
        _recent(states),
        "</main>",
        "<footer>Each row leads to the page of its drill; the signed records lie beside the pages."
        "</footer>",
    ]
    return page(f"{_headline(states)[1]}: drills of the fleet", "\n".join(body))


def _headline(states: Sequence[AgentState]) -> tuple[str, str]:
    proven = sum(state.state == PROVEN for state in states)
    if states and proven == len(states):
        return PROVEN, "All agents proven" if len(states) > 1 else "Proven"
    result = NOT_PROVEN if any(state.state == NOT_PROVEN for state in states) else COULD_NOT_RUN
    return result, f"{proven} of {len(states)} agents proven"


def _verdict(states: Sequence[AgentState], overdue_days: int) -> str:
    result, title = _headline(states)
    css = css_class(result)
    return (
        f'<div class="verdict {css}"><div class="head"><div class="sign">{icon(css)}</div>'
        f'<h1><span class="result">{esc(title)}</span></h1></div>'
        f'<p class="lead">{esc(_lead(states, overdue_days))}</p>{_figures(states)}</div>'
    )


def _lead(states: Sequence[AgentState], overdue_days: int) -> str:
    if not states:
        return "No drill has been recorded yet. Run playbooks/drill.yml."
    bad = [state.name for state in states if state.state == NOT_PROVEN]
    silent = [state.name for state in states if state.state == COULD_NOT_RUN]
    parts = []
    if bad:
        parts.append(f"Not proven by the last drill: {', '.join(bad)}.")
    if silent:
        parts.append(f"Without a proof in the last {overdue_days} days, or unable to run: ")
        parts[-1] += f"{', '.join(silent)}."
    return " ".join(parts) or f"Every agent came back in a drill of the last {overdue_days} days."


def _figures(states: Sequence[AgentState]) -> str:
    drills = sum(len(state.history) for state in states)
    signed = sum(bool(item.data.get("signed")) for state in states for item in state.history)
    slow = [
        float(value)
        for state in states
        if state.last and isinstance(value := _measured(state.last, "rto"), (int, float))
    ]
    stale = [
        float(value)
        for state in states
        if state.last and isinstance(value := _measured(state.last, "rpo"), (int, float))
    ]
    items = (
        ("Proven", f"{sum(state.state == PROVEN for state in states)} of {len(states)}", "agents"),
        ("Slowest recovery", duration_text(max(slow)) if slow else "not measured", "last drills"),
        (
            "Most data at risk",
            duration_text(max(stale)) if stale else "not measured",
            "last drills",
        ),
        ("Drills on record", str(drills), f"{signed} of them signed"),
    )
    body = "".join(
        f'<div class="figure"><dt>{esc(term)}</dt><dd>{esc(value)}<small>{esc(note)}</small></dd>'
        "</div>"
        for term, value, note in items
    )
    return f'<dl class="figures">{body}</dl>'


def _measured(record: Record, name: str) -> object:
    return record.data.get("objectives", {}).get(name, {}).get("measured")


def _link(record: Record, html: str) -> str:
    return f'<a href="{esc(record.agent)}/{esc(record.name[: -len(".json")])}.html">{html}</a>'


def _agents(states: Sequence[AgentState]) -> str:
    columns = ("Agent", "State", "Level", "Last drill", "Last proven", "#RTO", "#RPO", "Drills")
    rows = [_agent_row(state) for state in states]
    return section("Agents", table("Those that need attention first", columns, rows))


def _agent_row(state: AgentState) -> str:
    last = state.last
    level = last.data["verdict"].get("level") if last else None
    proven = state.last_proven
    label = f"{state.name}: the last {min(len(state.history), SPARK_POINTS)} drills"
    note = ""
    if last and last.result != PROVEN:
        reason = str(last.data["verdict"].get("reason"))
        shown = reason if len(reason) <= REASON_SHOWN else f"{reason[:REASON_SHOWN]}..."
        note = f'<tr class="note"><td colspan="8">{esc(shown)}</td></tr>'
    return (
        f'<tr{" class=noted" if note else ""}><th scope="row">{esc(state.name)}</th>'
        + cell("", chip(css_class(state.state), state.state_text))
        + cell("Level", "none" if level is None else f"L{level}", short=True)
        + cell("Last drill", _link(last, date_text(last.started)) if last else "never")
        + cell("Last proven", date_text(proven.isoformat()) if proven else "never")
        + cell("RTO", duration(_measured(last, "rto")) if last else "", number=True)
        + cell("RPO", duration(_measured(last, "rpo")) if last else "", number=True)
        + cell("Drills", spark(points(state.history, "rto"), label))
        + f"</tr>{note}"
    )


def _plots(states: Sequence[AgentState]) -> str:
    body = "".join(
        f"<h3>{esc(state.name)}</h3>"
        + plots(state.history, f"plot-{number}", targets_of(state.last.data))
        for number, state in enumerate(states)
        if state.last and any(isinstance(_measured(item, "rto"), float) for item in state.history)
    )
    if not body:
        return ""
    return section("RTO and RPO over time", body + legend())


def _recent(states: Sequence[AgentState]) -> str:
    records = sorted(
        (record for state in states for record in state.history),
        key=lambda record: record.started,
        reverse=True,
    )
    rows = [
        f'<tr><th scope="row">{_link(record, time_text(record.started))}</th>'
        + cell("Agent", esc(record.agent), short=True)
        + cell("", chip(css_class(record.result), TITLES.get(record.result, record.result)))
        + cell("Why", esc(record.data["verdict"].get("reason")))
        + "</tr>"
        for record in records[:30]
    ]
    if not rows:
        return ""
    caption = f"The last {len(rows)} of {len(records)} drills, newest first"
    return section("Recent drills", table(caption, ("Drill", "Agent", "Verdict", "Why"), rows))
