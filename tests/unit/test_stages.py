# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner behind script/test: whatever goes wrong in a step must end up red."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "script" / "lib" / "stages.py"


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The runner, writing its logs to a folder of the test."""
    spec = importlib.util.spec_from_file_location("lifeboat_stages", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "lifeboat_stages", module)
    spec.loader.exec_module(module)
    for name in ("ROOT", "LOGS", "BUILD"):
        monkeypatch.setattr(module, name, tmp_path)
    return module


@pytest.fixture
def run(
    stages: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, list[str]]]:
    """Run made-up stages of Python one-liners; give the exit code and what was printed."""

    def call(**programs: list[str]) -> tuple[int, list[str]]:
        def steps(stage: str) -> list[object]:
            return [
                stages.Step(f"step {n}", [sys.executable, "-c", program], cwd=stages.ROOT)
                for n, program in enumerate(programs[stage], start=1)
            ]

        monkeypatch.setattr(stages, "steps_of", steps)
        code = stages.run(list(programs))
        return code, capfd.readouterr().out.splitlines()

    return call


def test_all_is_well(run: Callable[..., tuple[int, list[str]]]) -> None:
    code, lines = run(one=["print('3 passed in 0.10s')"], two=["print('fine')"])
    assert code == 0
    assert lines[-2:] == ["tests: 3 passed, 0 failed, 0 skipped", "stages: 2 passed, 0 failed"]


def test_a_failing_step_fails_its_stage_and_hides_no_other(
    run: Callable[..., tuple[int, list[str]]],
) -> None:
    code, lines = run(one=["raise SystemExit(3)", "print('after')"], two=["print('later')"])
    assert code == 1
    assert "after" in lines and "later" in lines
    assert any("FAILED" in line and "exit code 3" in line for line in lines)
    assert lines[-1] == "stages: 1 passed, 1 failed"


def test_the_summary_names_what_failed(run: Callable[..., tuple[int, list[str]]]) -> None:
    """Whoever reads the end of a log, such as a CI server's page, need not ask for the whole."""
    told = "print('FAILED tests/a.py::test_b - assert 1 == 2'); print('words'); raise SystemExit(1)"
    silent = "print('first'); print('the last words'); raise SystemExit(1)"
    lines = run(one=[told], two=[silent])[1]
    end = lines[lines.index("==> Summary") :]
    assert "            | FAILED tests/a.py::test_b - assert 1 == 2" in end
    assert "            | words" not in end
    assert "            | the last words" in end


def test_a_failed_test_of_a_scenario_is_named_without_molecules_gutter(
    run: Callable[..., tuple[int, list[str]]],
) -> None:
    told = "print('  \x1b[2m\u2502\x1b[0m FAILED tests/a.py::test_b - words'); raise SystemExit(1)"
    lines = run(one=[told])[1]
    assert "            | FAILED tests/a.py::test_b - words" in lines


def test_a_command_that_is_missing_fails(stages: ModuleType) -> None:
    result = stages.run_step("one", stages.Step("gone", ["/no/such/command"]))
    assert "No such file" in result.problem


def test_a_preparation_that_fails_fails_the_step(stages: ModuleType) -> None:
    def prepare() -> None:
        raise stages.CouldNotRun("no pip")

    step = stages.Step("prepared", [sys.executable, "-c", ""], cwd=stages.ROOT, prepare=prepare)
    assert "no pip" in stages.run_step("one", step).problem


@pytest.mark.parametrize("inherited", [signal.default_int_handler, signal.SIG_IGN])
def test_a_step_that_hangs_is_ended_with_all_it_started(stages: ModuleType, inherited: Any) -> None:
    """Also when started as a background job, which inherits that interrupts are ignored."""
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    step = stages.Step("hangs", [sys.executable, "-c", program], cwd=stages.ROOT, timeout=6)
    started = time.monotonic()
    before = signal.signal(signal.SIGINT, inherited)
    try:
        result = stages.run_step("one", step)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < 50
    assert "not done after 6 s" in result.problem
    child = int(result.output.splitlines()[0])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _runs(child):
        time.sleep(0.05)
    assert not _runs(child)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_counts_of_all_runners_are_added_up(run: Callable[..., tuple[int, list[str]]]) -> None:
    code, lines = run(
        one=["print('==== 2 failed, 5 passed, 1 skipped in 1.20s ====')"],
        two=["print('\\x1b[32m4 passed\\x1b[0m, 1 error in 2s'); print('12 passed, says a log')"],
    )
    assert code == 0
    assert lines[-2] == "tests: 9 passed, 3 failed, 1 skipped"


@pytest.mark.parametrize("name", ["lnit", "lint:default"])
def test_an_unknown_stage_is_an_error_of_its_own(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "there is no stage" in done.stderr and "molecule" in done.stderr


def test_a_sanity_copy_holds_what_git_tracks_and_nothing_else(
    stages: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "any folder name"
    (checkout / "plugins").mkdir(parents=True)
    (checkout / "plugins" / "kept.py").write_text("")
    (checkout / "plugins" / "scratch.py").write_text("")
    (checkout / "plugins" / "deleted.py").write_text("")
    (checkout / ".collections").symlink_to(".")
    git = ["git", "-C", str(checkout)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run(
        [*git, "add", ".collections", "plugins/kept.py", "plugins/deleted.py"], check=True
    )
    os.unlink(checkout / "plugins" / "deleted.py")
    monkeypatch.setattr(stages, "ROOT", checkout)
    monkeypatch.setattr(stages, "TREE", tmp_path / "tree")
    stages.copy_tree()
    found = {p.relative_to(tmp_path / "tree") for p in (tmp_path / "tree").rglob("*.py")}
    assert found == {Path("plugins/kept.py")}


def test_a_second_demo_does_not_take_the_boxes_of_the_first(tmp_path: Path) -> None:
    with (tmp_path / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = subprocess.run(
            [str(REPOSITORY / "script" / "demo")],
            env={**os.environ, "WORLD_DIRECTORY": str(tmp_path / "demo")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 2
    assert "another script/demo is at work" in ended.stderr
