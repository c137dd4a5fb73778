# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agreements between the parts hold, and each check of them can go red."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.tests.unit import contracts

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def _ids(path: Path) -> str:
    return path.parent.name if path.name == "molecule.yml" else path.stem


def assert_none(problems: list[str]) -> None:
    assert not problems, "\n".join(["", *problems])


@pytest.mark.parametrize("role", contracts.roles(ROOT), ids=_ids)
def test_role_interface_is_its_defaults(role: Path) -> None:
    assert_none(contracts.role_interface(role))


@pytest.mark.parametrize("role", contracts.roles(ROOT), ids=_ids)
def test_role_variables_carry_its_name(role: Path) -> None:
    assert_none(contracts.role_variables(role))


@pytest.mark.parametrize("role", contracts.roles(ROOT), ids=_ids)
def test_role_asserts_tell_the_fix_and_main_is_a_table_of_contents(role: Path) -> None:
    assert_none(contracts.role_tasks(role))


@pytest.mark.parametrize("folder", contracts.scenarios(ROOT), ids=_ids)
def test_scenario_really_tests(folder: Path) -> None:
    assert_none(contracts.scenario(folder, ROOT))


def test_no_test_is_without_a_check() -> None:
    assert_none(contracts.tests_without_a_check(ROOT))


@pytest.mark.parametrize("path", contracts.modules(ROOT), ids=_ids)
def test_module_says_what_it_does(path: Path) -> None:
    assert_none(contracts.module(path))


def test_every_plugin_is_imported_by_a_test() -> None:
    assert_none(contracts.untested_plugins(ROOT))


def test_the_command_on_a_box_needs_nothing_but_python() -> None:
    assert_none(contracts.imports_on_the_box(ROOT))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "plugins").glob("**/*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_code_for_boxes_is_python_39(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    first = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
    assert first or not tree.body, "from __future__ import annotations is missing"


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=_ids)
def test_requirements_are_pinned(path: Path) -> None:
    assert_none(contracts.unpinned(path))


@pytest.mark.parametrize("path", DOCUMENTS, ids=_ids)
def test_documents_name_only_what_is_there(path: Path) -> None:
    assert_none(contracts.dead_references(ROOT, path))


def test_there_is_something_to_judge() -> None:
    """A wrong path would make every test above pass over nothing."""
    assert contracts.roles(ROOT) and contracts.scenarios(ROOT) and contracts.modules(ROOT)


# Each check, on a tree that it must find bad.

GOOD_SPEC = """
argument_specs:
  main:
    short_description: Do it.
    options:
      good_size: {description: Size., type: int, default: 3}
      good_name: {description: Name., type: str, required: true}
"""


def _write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / re.sub(r"_(yml|py|md)$", r".\1", name.replace("__", "/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def _role(
    root: Path, spec: str = GOOD_SPEC, defaults: str = "good_size: 3\n", tasks: str = "[]"
) -> Path:
    return _write(
        root / "good",
        meta__argument_specs_yml=spec,
        defaults__main_yml=defaults,
        tasks__main_yml=tasks,
    )


def test_a_good_role_has_no_problems(tmp_path: Path) -> None:
    role = _role(tmp_path)
    assert contracts.role_interface(role) == []
    assert contracts.role_variables(role) == []
    assert contracts.role_tasks(role) == []


@pytest.mark.parametrize(
    ("spec", "defaults", "found"),
    [
        (GOOD_SPEC, "good_size: 4", "is 4 in defaults, 3 in argument_specs"),
        (GOOD_SPEC, "{}", "has a default in argument_specs only"),
        (GOOD_SPEC, "{good_size: 3, good_more: 1}", "not in argument_specs"),
        (GOOD_SPEC, "{good_size: 3, good_name: x}", "has a default in defaults only"),
        (GOOD_SPEC.replace("main:", "other:"), "good_size: 3", "has no tasks/other.yml"),
        (GOOD_SPEC.replace("description: Size., ", ""), "good_size: 3", "lacks description"),
        ("{}", "good_size: 3", "describes nothing"),
    ],
)
def test_an_interface_that_disagrees_is_found(
    tmp_path: Path, spec: str, defaults: str, found: str
) -> None:
    problems = contracts.role_interface(_role(tmp_path, spec, defaults))
    assert any(found in problem for problem in problems), problems


def test_a_variable_without_the_name_of_its_role_is_found(tmp_path: Path) -> None:
    role = _role(tmp_path, defaults="{size: 3, __good_inner: 1}")
    problems = contracts.role_variables(role)
    assert any("size is not called" in p for p in problems)
    assert any("__good_inner is internal" in p for p in problems)


def test_an_assert_without_advice_and_work_in_main_are_found(tmp_path: Path) -> None:
    tasks = "[{name: A, block: [{name: B, ansible.builtin.assert: {that: true}}]}]"
    problems = contracts.role_tasks(_role(tmp_path, tasks=tasks))
    assert any("B: an assert without fail_msg" in p for p in problems)
    assert any("main.yml does work itself: B" in p for p in problems)


SEQUENCE = "scenario: {test_sequence: [create, converge, verify]}\n"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"molecule_yml": "{}"}, "states no test_sequence"),
        ({"molecule_yml": SEQUENCE.replace(", verify", "")}, "never verifies"),
        ({"molecule_yml": SEQUENCE}, "converge is in the sequence"),
        ({"molecule_yml": SEQUENCE, "verify_yml": "[]"}, "verify.yml has no tasks"),
        (
            {"molecule_yml": SEQUENCE + "verifier: {name: testinfra}"},
            "testinfra finds no test in tests/",
        ),
        (
            {
                "molecule_yml": SEQUENCE + "verifier: {name: testinfra}",
                "tests__test_x_py": "def test_nothing():\n    print()\n",
            },
            "testinfra finds no test in tests/",
        ),
        (
            {"molecule_yml": SEQUENCE.replace("converge", "side_effect undo.yml")},
            "side_effect is in the sequence",
        ),
    ],
)
def test_a_scenario_that_tests_nothing_is_found(
    tmp_path: Path, files: dict[str, str], found: str
) -> None:
    folder = _write(tmp_path / "molecule" / "bad", **files)
    problems = contracts.scenario(folder, tmp_path)
    assert any(found in problem for problem in problems), problems


def test_a_scenario_that_tests_has_no_problems(tmp_path: Path) -> None:
    folder = _write(
        tmp_path / "molecule" / "good",
        molecule_yml="{}",
        converge_yml="[]",
        tests__test_x_py="def test_it(host):\n    assert host.file('/x').exists\n",
    )
    _write(tmp_path / ".config" / "molecule", config_yml=SEQUENCE + "verifier: {name: testinfra}\n")
    assert contracts.scenario(folder, tmp_path) == []


def test_a_test_without_a_check_is_found(tmp_path: Path) -> None:
    _write(
        tmp_path,
        tests__unit__test_x_py="def test_a():\n    pass\n\n\ndef test_b():\n    assert 1\n",
    )
    assert contracts.tests_without_a_check(tmp_path) == [
        "tests/unit/test_x.py: test_a checks nothing"
    ]


def test_a_check_in_a_helper_counts(tmp_path: Path) -> None:
    text = "def deep(x):\n    assert x\n\n\ndef by(x):\n    deep(x)\n\n\ndef test_a():\n    by(1)\n"
    _write(tmp_path, tests__unit__test_x_py=text)
    assert contracts.tests_without_a_check(tmp_path) == []


def test_a_module_that_is_silent_about_itself_is_found(tmp_path: Path) -> None:
    text = 'DOCUMENTATION = """\nmodule: other\nattributes:\n  check_mode: {}\n"""\n' + "#\n" * 400
    _write(tmp_path, plugins__modules__silent_py=text)
    problems = "\n".join(contracts.module(tmp_path / "plugins" / "modules" / "silent.py"))
    for found in ("no EXAMPLES", "no RETURN", "do not say diff_mode", "check_mode claims nothing"):
        assert found in problems
    assert "documented as other" in problems and "at most 400" in problems


def test_a_plugin_that_no_test_imports_is_found(tmp_path: Path) -> None:
    _write(
        tmp_path,
        plugins__action__one_py="",
        plugins__filter__two_py="",
        tests__unit__test_two_py="from x.plugins.filter import two\n",
    )
    assert contracts.untested_plugins(tmp_path) == [
        "plugins/action/one.py: no unit test imports it"
    ]


@pytest.mark.parametrize("line", ["import yaml", "from ..x import y", "from . import missing"])
def test_an_import_that_a_box_lacks_is_found(tmp_path: Path, line: str) -> None:
    _write(
        tmp_path,
        plugins__module_utils__cli_py="import json\nfrom .deep import x\n",
        plugins__module_utils__deep_py=line + "\n",
    )
    assert len(contracts.imports_on_the_box(tmp_path)) == 1


def test_an_import_inside_a_function_is_not_needed_on_a_box(tmp_path: Path) -> None:
    text = "def on_the_controller():\n    import yaml\n"
    _write(tmp_path, plugins__module_utils__cli_py=text)
    assert contracts.imports_on_the_box(tmp_path) == []


def test_a_requirement_without_a_version_is_found(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("# comment\nansible==12.3.0  # why\nborg>=1.4\nruff\n")
    assert contracts.unpinned(path) == ["requirements.txt: borg>=1.4", "requirements.txt: ruff"]


def test_a_document_that_names_what_is_not_there_is_found(tmp_path: Path) -> None:
    _write(tmp_path, playbooks__site_yml="")
    path = tmp_path / "README.md"
    path.write_text(
        "Run `playbooks/site.yml`, then playbooks/gone.yml; see [more](docs/gone.md#x)."
    )
    assert contracts.dead_references(tmp_path, path) == [
        "README.md: names docs/gone.md, which is not there",
        "README.md: names playbooks/gone.yml, which is not there",
    ]


def test_names_are_found_in_blocks_too(tmp_path: Path) -> None:
    text = "[{hosts: all, tasks: [{name: a, block: [{name: b}], rescue: [{name: c}]}]}]"
    path = _write(tmp_path, play_yml=text) / "play.yml"
    names = [task.get("name", "") for task in contracts.tasks_of(path)]
    assert names == ["", "a", "b", "c"]


def test_the_source_map_places_every_file(tmp_path: Path) -> None:
    assert contracts.not_in_the_source_map(ROOT) == []
    _write(
        tmp_path,
        docs__architecture_md="| proof | `health` and what begins with it, `verdict` |",
        **{f"plugins__module_utils__{name}_py": "" for name in ("health", "health_x", "stray")},
    )
    assert contracts.not_in_the_source_map(tmp_path) == [
        "docs/architecture.md: says nothing of module_utils/stray.py"
    ]


def test_a_playbook_whose_arguments_are_not_told_is_found(tmp_path: Path) -> None:
    begin = "[{ansible.builtin.import_playbook: shared/begin.yml, vars: {custody_arguments: [agent, old]}}"
    _write(
        tmp_path,
        playbooks__good_yml=begin.replace(", old", "")
        + ", {vars: {x: '{{ agent | default(1) }}'}}]",
        playbooks__bad_yml=begin + ", {when: agent is defined and target is defined}]",
        playbooks__bare_yml="[{hosts: all}]",
    )
    assert contracts.playbook_arguments(tmp_path) == [
        "bad: reads target, which is not told",
        "bad: tells old, which nobody reads",
        "bare: does not begin with shared/begin.yml",
    ]
