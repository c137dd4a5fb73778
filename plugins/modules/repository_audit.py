#!/usr/bin/python
# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has anybody rewritten the history of a repository? Without its passphrase."""

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_audit
short_description: Find out, without a passphrase, whether the history of a repository was rewritten
version_added: 0.1.0
author: lifeboat.agents contributors (@lifeboat-agents)
description:
  - Compares a borg repository with an accepted state of it (O(mark)) and reports every object of
    that state that was deleted or stored again, with the archive it belongs to.
  - Run on the repository host, or on a snapshot, it reads the segment files, and only those that are
    new (O(path) alone). Where there is no shell it asks for the list of object ids over borg's
    serving protocol (O(command)). Both make the same mark.
  - Without O(mark) it takes stock and makes a first one.
  - Does not see who made a new object, nor whether it can be decrypted.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: posix
  idempotent:
    support: full
    description: A second audit of an unchanged repository changes nothing.
options:
  path:
    description: Directory of the repository; with O(command), its path for the serving process.
    type: path
    required: true
  command:
    description: Command that starts a serving process, usually C(ssh) with its options.
    type: list
    elements: str
  state_directory:
    description:
      - Folder that no box can reach, for the list of accepted objects.
      - Without it the list is made again from the segments, which takes a full walk.
    type: path
  mark:
    description: The accepted state to compare with, from an earlier RV(mark).
    type: dict
  archives:
    description: Names of archives by id, so that findings can name them and times be told.
    type: dict
    default: {}
  accept:
    description: Record the state as accepted when nothing was found.
    type: bool
    default: false
  accept_deletions:
    description:
      - Accept also when objects were deleted, or have returned after O(deleting), and nothing else was found.
      - For the trusted side, after its own deletions, when it has checked what is left.
    type: bool
    default: false
  compacted:
    description:
      - With O(command), say nothing about objects that moved or are gone since O(mark), because the provider compacted.
      - For the trusted side, which then has to prove with the key that every archive is there and whole.
    type: bool
    default: false
  deleting:
    description:
      - Ids of archives that the trusted side had begun to delete before its run ended.
      - What was deleted together with them and stored again by a later transaction is counted as C(returned),
        not as overwritten. A scan over the serving protocol cannot tell the two apart.
    type: list
    elements: str
    default: []
  checksums:
    description: Read the data of what is new, and check every checksum.
    type: bool
    default: false
  part:
    description:
      - Read all data of this part of the segments as well, and check every checksum.
      - Not when something but deletions was found, because then nothing is accepted.
    type: int
  parts:
    description: How many parts there are.
    type: int
    default: 28
  head:
    description: Head of the ledger, kept in O(state_directory) so that a shortened ledger is noticed.
    type: dict
  timeout:
    description: Seconds to wait for an answer of the serving process.
    type: int
    default: 600
  fail_on_findings:
    description: Fail when something was found.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Audit on the repository host, against the mark of the ledger
  lifeboat.agents.repository_audit:
    path: /srv/lifeboat/repositories/acme
    state_directory: /var/lib/lifeboat/custody/acme
    mark: "{{ ledger.mark }}"
    accept: true

- name: Audit at a provider without a shell
  lifeboat.agents.repository_audit:
    path: ./acme
    command: [ssh, -p, "23", -i, /root/.ssh/custody, u1-sub1@u1.example.net, borg, serve]
    state_directory: /var/lib/lifeboat/custody/acme
    mark: "{{ ledger.mark }}"
  delegate_to: localhost
"""

RETURN = r"""
clean:
  description: Whether nothing was found.
  returned: success
  type: bool
only_deletions:
  description: Whether nothing but deletions was found, and what has returned after O(deleting).
  returned: success
  type: bool
summary:
  description: One sentence.
  returned: always
  type: str
findings:
  description: The first fifty findings, those about archives first.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: What was found, as one word.
      type: str
    detail:
      description: The same in words, with numbers.
      type: str
    object:
      description: Id of the object.
      type: str
    segment:
      description: Segment file of the entry.
      type: int
    transaction:
      description: Transaction of the entry.
      type: int
    archive:
      description: Name of the archive that this object is the head of.
      type: str
    written_with:
      description: Name of the archive that this object was stored with.
      type: str
counts:
  description: Number of all findings by kind.
  returned: always
  type: dict
mark:
  description: The state found, small enough for a line of a ledger.
  returned: always
  type: dict
transactions:
  description: What each transaction since the mark did.
  returned: success
  type: list
  elements: dict
archive_times:
  description: When archives of O(archives) that are new arrived, by the clock of the repository host.
  returned: success
  type: dict
unfinished:
  description: Segments of a transaction that was never finished.
  returned: success
  type: list
  elements: int
notes:
  description: What else is worth knowing.
  returned: success
  type: list
  elements: str
head:
  description: Head of the ledger that was kept before this run.
  returned: success
  type: dict
part:
  description: What was read of the part asked for.
  returned: with O(part), when nothing but deletions was found
  type: dict
compacting:
  description: Whether a compaction was interrupted, so that all objects were compared.
  returned: always
  type: bool
bytes_read:
  description: Bytes read.
  returned: success
  type: int
seconds:
  description: Time that the audit took.
  returned: success
  type: float
"""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.lifeboat.agents.plugins.module_utils.audit import (
    OF_DELETIONS,
    AuditError,
    Mark,
    Report,
    State,
    audit_scan,
    audit_segments,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.audit_store import (
    Store,
    audited,
    read_part,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.segments import SegmentError
from ansible_collections.lifeboat.agents.plugins.module_utils.serve_client import (
    ServeConnection,
    ServeError,
)


class Audit:
    """One call of the module."""

    def __init__(self, params: dict[str, Any], *, check_mode: bool) -> None:
        self.params = params
        self.check_mode = check_mode
        self.path = Path(params["path"])
        self.mark = Mark.from_dict(params["mark"]) if params["mark"] else None
        directory = params["state_directory"]
        self.store = Store(Path(directory)) if directory else None
        self.changed = False

    def run(self) -> dict[str, Any]:
        head = self.store.head() if self.store else {}
        report, state = self._scan() if self.params["command"] else self._segments()
        result = {**report.to_dict(), "head": head}
        result["only_deletions"] = set(report.counts) <= OF_DELETIONS
        if self._acceptable(report) and report.mark is not None and state is not None:
            self._accept(report.mark, state)
        if self.params["part"] is not None and result["only_deletions"]:
            result["part"] = read_part(self.path, self.params["part"], self.params["parts"])
        result["changed"] = self.changed
        before = self.params["mark"] or {}
        result["diff"] = {"before": _pretty(before), "after": _pretty(result["mark"] or {})}
        return result

    def _segments(self) -> tuple[Report, State | None]:
        options = {name: self.params[name] for name in ("archives", "checksums", "deleting")}
        if self.store is None:
            return audit_segments(self.path, mark=self.mark, **options)
        return audited(self.path, self.store, self.mark, **options)

    def _scan(self) -> tuple[Report, State]:
        state = self.store.load(self.mark) if self.store else None
        with ServeConnection(self.params["command"], timeout=self.params["timeout"]) as connection:
            connection.open(str(self.params["path"]), exclusive=True, lock_wait=60)
            return audit_scan(
                connection,
                mark=self.mark,
                state=state,
                archives=self.params["archives"],
                compacted=self.params["compacted"],
            )

    def _acceptable(self, report: Report) -> bool:
        allowed = OF_DELETIONS if self.params["accept_deletions"] else set()
        return bool(self.params["accept"]) and set(report.counts) <= allowed

    def _accept(self, mark: Mark, state: State) -> None:
        if self.store is None:
            raise AuditError("accept needs a state_directory")
        if self.check_mode:
            self.changed = self.store.load(mark) != state
            return
        self.changed = self.store.save(mark, state, previous=self.mark)
        if not self.params["command"]:
            self.store.save_config(self.path)
        if self.store.intent() and not self.store.compacting(self.mark):
            self.store.clear_intent()  # the ledger has gone on, so that compaction is history
        if self.params["head"]:
            self.changed = self.store.write_head(self.params["head"]) or self.changed


def _pretty(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "command": {"type": "list", "elements": "str"},
            "state_directory": {"type": "path"},
            "mark": {"type": "dict"},
            "archives": {"type": "dict", "default": {}},
            "accept": {"type": "bool", "default": False},
            "accept_deletions": {"type": "bool", "default": False},
            "compacted": {"type": "bool", "default": False},
            "deleting": {"type": "list", "elements": "str", "default": []},
            "checksums": {"type": "bool", "default": False},
            "part": {"type": "int"},
            "parts": {"type": "int", "default": 28},
            "head": {"type": "dict"},
            "timeout": {"type": "int", "default": 600},
            "fail_on_findings": {"type": "bool", "default": True},
        },
        mutually_exclusive=[("command", "part"), ("command", "checksums")],
        supports_check_mode=True,
    )
    try:
        result = Audit(module.params, check_mode=module.check_mode).run()
    except (AuditError, ServeError, SegmentError, OSError) as error:
        module.fail_json(
            msg=f"The audit could not be carried out: {error}", failure={"hint": str(error)}
        )
    if module.params["fail_on_findings"] and not result["clean"]:
        module.fail_json(msg=result["summary"], **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
