# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an earlier restore left beside a home, and what that means for the one that is asked for.

A restore that was cut before its switch is gone on with, or begun afresh. One that was cut in its
switch is completed. One that was cut after it, with only its staging folder left to remove, is
over: the same restore asked again soon after is its repetition, anything else is a new one.
"""

from __future__ import annotations

import datetime
import os
import shlex
from dataclasses import dataclass

from .restore_manifest import RestoreError, show
from .restore_switch import State

REPEATED_WITHIN = datetime.timedelta(hours=12)


@dataclass(frozen=True)
class Wish:
    """What is asked for, of the home that is really meant. No archive id: not chosen yet."""

    home: str
    archive_id: str = ""
    only: tuple[str, ...] = ()

    def fits(self, state: State) -> bool:
        chosen = self.archive_id in ("", state.archive_id)
        return state.kind == "restore" and self._same_place(state) and chosen

    def _same_place(self, state: State) -> bool:
        return state.home == self.home and state.only == self.only

    def goes_on_with(self, state: State, standing: int) -> bool:
        """Nothing is left to do but to end the earlier run's last step."""
        if not self.fits(state):
            return False
        return state.step == "switching" or (
            state.step == "switched" and _is_recent(state) and _stands(state, standing)
        )

    def has_extracted(self, state: State, standing: int) -> bool:
        """What is needed from the archive lies there already."""
        if self.goes_on_with(state, standing):
            return True
        ready = state.step in ("extracted", "staged") and not state.flawed
        return bool(self.archive_id) and self.fits(state) and ready

    def refusal(self, state: State) -> RestoreError | None:
        """Why this must wait until the earlier run is completed or abandoned."""
        if state.kind == "undo":
            return RestoreError(
                "An undo was interrupted and is not complete.", "Complete it first: -e undo=true."
            )
        if state.step == "switched" or (state.step != "switching" and state.home == self.home):
            return None
        if self.fits(state):
            return None
        if state.step == "switching":
            return RestoreError(
                f"A restore of {_described(state)} was interrupted in its last step.",
                f"Complete it first, with the target that it had: {_again(state)}.",
                pending=state.archive,
            )
        return RestoreError(
            f"An unfinished restore of {_described(state)} lies beside {self.home!r}.",
            f"Complete it first, with the target that it had: {_again(state)}. "
            f"Or throw away what it extracted: {_abandoned(state)}.",
            pending=state.archive,
        )


def refuse_to_abandon(state: State, home: str) -> RestoreError | None:
    """Why what lies there is not thrown away: it is another home's. Mere remains are nobody's, and
    a home whose folder is gone has none."""
    gone = not os.path.isdir(os.path.dirname(state.home))
    if state.step == "switched" or state.home == home or gone:
        return None
    return RestoreError(
        f"What lies unfinished beside {home!r} is a restore of {_described(state)}, not to this "
        "home. Nothing was thrown away.",
        f"Throw it away with the target that it had: {_abandoned(state)}.",
        pending=state.archive,
    )


def _abandoned(state: State) -> str:
    return f"-e {shlex.quote(f'target=HOST:{state.home}')} -e abandon=true"


def _is_recent(state: State) -> bool:
    try:
        switched = datetime.datetime.fromisoformat(state.switched)
    except ValueError:
        return False
    age = datetime.datetime.now(datetime.timezone.utc) - switched
    return datetime.timedelta(0) <= age < REPEATED_WITHIN


def _stands(state: State, standing: int) -> bool:
    return bool(state.only) or standing == state.new_inode


def _described(state: State) -> str:
    what = f"{state.archive!r} to {state.home!r}"
    return f"{', '.join(map(show, state.only))} out of {what}" if state.only else what


def _again(state: State) -> str:
    only = f" -e only={','.join(map(show, state.only))}" if state.only else ""
    return f"-e archive={state.archive}{only} -e replace=true"
