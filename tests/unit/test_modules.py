# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every module alike, whatever it is for."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.lifeboat.agents.tests.unit import contracts

ROOT = Path(__file__).resolve().parents[2]
ACTIONS = {path.stem for path in (ROOT / "plugins" / "action").glob("*.py")}
# The module beside an action is documentation, and has no main().
MODULES = [path.stem for path in contracts.modules(ROOT) if path.stem not in ACTIONS]

Run = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def module(request: pytest.FixtureRequest) -> ModuleType:
    """The module whose name is the parameter."""
    return importlib.import_module(
        f"ansible_collections.lifeboat.agents.plugins.modules.{request.param}"
    )


@pytest.fixture
def run(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the module with arguments and give what it returns."""

    def call(arguments: dict[str, Any]) -> dict[str, Any]:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return call


@pytest.mark.parametrize("module", MODULES, indirect=True)
def test_arguments_that_make_no_sense_are_refused_before_anything_is_done(run: Run) -> None:
    answer = run({"no_such_option": 1})
    assert answer["failed"]
    assert "no_such_option" in answer["msg"] or "missing required arguments" in answer["msg"]


@pytest.mark.parametrize("module", MODULES, indirect=True)
def test_check_mode_is_what_the_documentation_says(
    module: ModuleType, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    init = basic.AnsibleModule.__init__

    def remember(self: basic.AnsibleModule, *args: Any, **kwargs: Any) -> None:
        seen.append(bool(kwargs.get("supports_check_mode")))
        init(self, *args, **kwargs)

    monkeypatch.setattr(basic.AnsibleModule, "__init__", remember)
    run({"no_such_option": 1})
    claim = yaml.safe_load(module.DOCUMENTATION)["attributes"]["check_mode"]["support"]
    assert seen == [claim in ("full", "partial")]
