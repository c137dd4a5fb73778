# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors of the command on the box: each says what, where and how to fix it."""

from __future__ import annotations

from typing import Any


class LifeboatError(Exception):
    """Something failed; `hint` says what to do, `failure` carries the facts for machines."""

    exit_code = 1

    def __init__(
        self, message: str, *, hint: str = "", failure: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.failure = failure or {}

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class CouldNotRun(LifeboatError):
    """The run never began: usage, configuration, privilege."""

    exit_code = 2


class ToldToStop(BaseException):
    """SIGTERM. No error of a repository, and not to be taken for one on the way up."""
