#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the trusted side knows of a repository, and what it decides tonight."""

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_ledger
short_description: Keep the ledger of a repository and decide what to delete
version_added: 0.1.0
author: lifeboat.agents contributors (@lifeboat-agents)
description:
  - The ledger is one file per agent and repository that is only ever appended to, each line chained to
    the one before it. A line that was changed, removed or added is noticed, and then nothing is done.
  - O(state=watched) compares tonight's list of archives and the audit with it, writes down what is
    new, and decides which archives retention keeps and which may be deleted, each with its reason.
    The time that counts is the repository host's, never the client's.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    description: Decides, and writes nothing.
  diff_mode:
    support: full
  platform:
    platforms: posix
  idempotent:
    support: partial
    description: O(state=recorded) adds its lines every time; O(state=watched) adds what is new.
options:
  directory:
    description: Folder of all ledgers.
    type: path
    required: true
  agent:
    description: Name of the agent.
    type: str
    required: true
  repository:
    description: Name of the repository host.
    type: str
    required: true
  state:
    description:
      - V(read) tells what the ledger says.
      - V(watched) takes in what was seen tonight, and decides.
      - V(recorded) adds O(entries). Findings are resolved only in a ledger that exists; C(gone) of such an
        entry names archives that an operator deleted by hand, and whose vanishing is an open finding.
    type: str
    choices: [read, watched, recorded]
    default: read
  entries:
    description: Lines to add, each with C(kind) and C(data).
    type: list
    elements: dict
    default: []
  repository_id:
    description: Id of the repository that answered.
    type: str
    default: ""
  archives:
    description: The archives as listed tonight.
    type: list
    elements: dict
    default: []
  unreadable:
    description: Why they could not be listed.
    type: str
    default: ""
  audit:
    description: What M(lifeboat.agents.repository_audit) returned.
    type: dict
    default: {}
  head:
    description: Head of the ledger as the repository host kept it.
    type: dict
    default: {}
  adopt:
    description: Begin a new ledger although the repository host knows of an older one.
    type: bool
    default: false
  evidence_directory:
    description: Folder of the drills' evidence; the newest standing archive that a drill proved is never deleted.
    type: path
  daily:
    description: How many daily archives stay.
    type: int
    default: 7
  weekly:
    description: How many weekly archives stay.
    type: int
    default: 4
  monthly:
    description: How many monthly archives stay.
    type: int
    default: 6
  floor:
    description: This many archives stay at least; where the rules keep fewer, the oldest of the others.
    type: int
    default: 7
  remove_at_most:
    description: A plan that would delete more archives than this at once is stopped.
    type: int
    default: 10
  clock_hours:
    description: How far an archive's own time may be from its arrival.
    type: float
    default: 30.0
  new_per_night:
    description: How many new archives a night may bring.
    type: int
    default: 3
  silence_hours:
    description: After so long without a new archive the silence is a finding.
    type: float
    default: 30.0
  compact_every_days:
    description: Days between two compactions.
    type: float
    default: 14.0
  compact_delay_hours:
    description: Hours that a deletion can be undone before it is made final.
    type: float
    default: 72.0
  read_parts:
    description: In how many parts the data are read, one in each night.
    type: int
    default: 28
  now:
    description: The time to decide by, for tests and reports; by default the clock of the trusted side.
    type: str
"""

EXAMPLES = r"""
- name: What is the accepted state?
  lifeboat.agents.repository_ledger:
    directory: /etc/ansible/ledger
    agent: acme
    repository: vault1.example.net
  register: ledger

- name: Say that the findings so far were looked into
  lifeboat.agents.repository_ledger:
    directory: /etc/ansible/ledger
    agent: acme
    repository: vault1.example.net
    state: recorded
    entries:
      - kind: resolved
        data: {by: "{{ lookup('env', 'USER') }}", why: the clock of the box was wrong}
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
exists:
  description: Whether there was a ledger before this run.
  returned: success
  type: bool
mark:
  description: The accepted state; null when there is none.
  returned: success
  type: dict
marks:
  description: Time and transaction of all accepted states, newest first.
  returned: success
  type: list
  elements: dict
names:
  description: Names of the archives that stand, by id.
  returned: success
  type: dict
standing:
  description: The archives that stand, with the times that count.
  returned: success
  type: list
  elements: dict
findings:
  description: What is not as it should be; unresolved findings of earlier nights for O(state=read).
  returned: success
  type: list
  elements: dict
deleting:
  description: Ids of archives whose deletion was begun and not finished.
  returned: success
  type: list
  elements: str
last:
  description: When the state was accepted last, deletions, compaction and checks were done.
  returned: success
  type: dict
retention:
  description:
    - Why retention deletes nothing until a person lets its plan through, and how; null when it goes on by itself.
  returned: success
  type: str
reading:
  description: The part of the data that waited longest to be read, when it was read, and problems.
  returned: success
  type: dict
head:
  description: Number and hash of the last line.
  returned: success
  type: dict
night:
  description: The decision, with a plan whose entries have a reason each.
  returned: with O(state=watched)
  type: dict
summary:
  description: One sentence.
  returned: success
  type: str
"""

from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils import evidence
from ansible_collections.lifeboat.agents.plugins.module_utils.ledger import (
    Ledger,
    LedgerError,
    Line,
    marks,
    moment,
    refuse_unfounded,
    view,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.ledger_night import (
    Seen,
    Settings,
    decide,
    retention_refused,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.ledger_reading import reading
from ansible_collections.lifeboat.agents.plugins.module_utils.ledger_watch import Limits, Listed
from ansible_collections.lifeboat.agents.plugins.module_utils.retention import Policy
from ansible_collections.lifeboat.agents.plugins.module_utils.verdict import PROVEN


class Keeper:
    """One call of the module."""

    def __init__(self, params: dict[str, Any], *, check_mode: bool) -> None:
        self.params = params
        self.check_mode = check_mode
        path = Path(params["directory"], params["agent"], f"{params['repository']}.jsonl")
        self.book = Ledger(path, params["agent"], params["repository"])
        self.now = moment(params["now"]) if params["now"] else datetime.now(timezone.utc)

    def run(self) -> dict[str, Any]:
        lines = self.book.read()
        if self.params["state"] == "watched":
            return self._watched(lines)
        added: list[Line] = []
        if self.params["state"] == "recorded":
            entries = [(one["kind"], one.get("data") or {}) for one in self.params["entries"]]
            refuse_unfounded(self.book.path, lines, entries)
            added = self._add(lines, entries)
        return self._result(lines, added)

    def _add(self, lines: list[Line], entries: list[tuple[str, Any]]) -> list[Line]:
        if not entries:
            return []
        if self.check_mode:
            return self.book.preview(lines, self.now, *entries)
        return self.book.append(self.now, *entries)

    def _watched(self, lines: list[Line]) -> dict[str, Any]:
        night, added = decide(
            self.book,
            lines,
            self._seen(),
            self._settings(),
            now=self.now,
            adopt=self.params["adopt"],
        )
        if added and not self.check_mode:
            added = self.book.append(self.now, *[(line.kind, line.data) for line in added])
        result = self._result(lines, added)
        result.update(night=night.to_dict(), findings=night.findings, summary=night.summary)
        return result

    def _result(self, lines: list[Line], added: list[Line]) -> dict[str, Any]:
        every = [*lines, *added]
        known = view(every)
        return {
            "changed": bool(added),
            "warnings": self.book.unfinished(),
            "path": str(self.book.path),
            "exists": bool(lines),
            "mark": known.mark,
            "marks": marks(every)[:60],
            "names": known.names(),
            "standing": [asdict(archive) for archive in known.standing],
            "findings": known.findings,
            "deleting": known.deleting,
            "last": {
                "accepted": known.marked,
                "deletion": known.last_deletion,
                "compaction": known.last_compaction,
                "checks": known.last_check,
            },
            "retention": retention_refused(known, self._settings(), self.now),
            "reading": reading(known, self.params["read_parts"], now=self.now).to_dict(),
            "head": known.head,
            "summary": f"{len(known.standing)} archives, {len(known.findings)} open findings",
            "diff": {"before": "", "after": "".join(f"{line.dump()}\n" for line in added)},
        }

    def _seen(self) -> Seen:
        audit = self.params["audit"]
        return Seen(
            repository_id=self.params["repository_id"],
            listed=tuple(
                Listed(one["id"], one["name"], one["time"]) for one in self.params["archives"]
            ),
            times=audit.get("archive_times") or {},
            counts=audit.get("counts") or {},
            audit=str(audit.get("summary", "")),
            audit_findings=tuple(audit.get("findings") or ()),
            compacting=bool(audit.get("compacting")),
            unreadable=self.params["unreadable"],
            head=self.params["head"],
            proved=self._proved(),
        )

    def _proved(self) -> tuple[str, ...]:
        directory = self.params["evidence_directory"]
        if not directory:
            return ()
        proofs = [
            str(record.data.get("archive", {}).get("id", ""))
            for record in evidence.history(directory, self.params["agent"])
            if record.result == PROVEN
            and record.data.get("repository", {}).get("name") == self.params["repository"]
        ]
        return tuple(dict.fromkeys(proofs))

    def _settings(self) -> Settings:
        wanted = self.params
        return Settings(
            policy=Policy(**{one: wanted[one] for one in Policy.__dataclass_fields__}),
            limits=Limits(
                clock_hours=wanted["clock_hours"],
                new_per_night=wanted["new_per_night"],
                silence_hours=wanted["silence_hours"],
                prefix=f"{wanted['agent']}-",
            ),
            compact_every=timedelta(days=wanted["compact_every_days"]),
            compact_delay=timedelta(hours=wanted["compact_delay_hours"]),
        )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "agent": {"type": "str", "required": True},
            "repository": {"type": "str", "required": True},
            "state": {"choices": ["read", "watched", "recorded"], "default": "read"},
            "entries": {"type": "list", "elements": "dict", "default": []},
            "repository_id": {"type": "str", "default": ""},
            "archives": {"type": "list", "elements": "dict", "default": []},
            "unreadable": {"type": "str", "default": ""},
            "audit": {"type": "dict", "default": {}},
            "head": {"type": "dict", "default": {}},
            "adopt": {"type": "bool", "default": False},
            "evidence_directory": {"type": "path"},
            "daily": {"type": "int", "default": 7},
            "weekly": {"type": "int", "default": 4},
            "monthly": {"type": "int", "default": 6},
            "floor": {"type": "int", "default": 7},
            "remove_at_most": {"type": "int", "default": 10},
            "clock_hours": {"type": "float", "default": 30.0},
            "new_per_night": {"type": "int", "default": 3},
            "silence_hours": {"type": "float", "default": 30.0},
            "compact_every_days": {"type": "float", "default": 14.0},
            "compact_delay_hours": {"type": "float", "default": 72.0},
            "read_parts": {"type": "int", "default": 28},
            "now": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**Keeper(module.params, check_mode=module.check_mode).run())
    except (LedgerError, OSError, ValueError) as error:
        module.fail_json(msg=f"The ledger: {error}", failure={"hint": str(error)})


if __name__ == "__main__":
    main()
