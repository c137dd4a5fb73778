# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agreements between the parts, as functions from a tree to what is wrong with it.

Each takes the root of a tree and gives one line per problem, so that the same
function judges the project and, in the tests, a made-up tree that must be found bad.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MODULE_ATTRIBUTES = {"check_mode", "diff_mode", "idempotent"}
LONGEST_MODULE = 400
DEFAULT_PLAYBOOKS = {
    step: f"{step}.yml" for step in ("prepare", "converge", "side_effect", "cleanup", "verify")
}


class Loader(yaml.SafeLoader):
    """Plain YAML, and what Ansible adds to it."""


def _scalar(loader: Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


Loader.add_constructor("!vault", _scalar)
Loader.add_constructor("!unsafe", _scalar)


def load(path: Path) -> Any:
    """Read a YAML file; a missing or empty one is an empty mapping."""
    if not path.exists():
        return {}
    return yaml.load(path.read_text(encoding="utf-8"), Loader=Loader) or {}


def roles(root: Path) -> list[Path]:
    """List the folders of the roles."""
    return sorted(p for p in (root / "roles").glob("*") if p.is_dir())


def scenarios(root: Path) -> list[Path]:
    """List the folders of the molecule scenarios."""
    return sorted(p.parent for p in (root / "molecule").glob("*/molecule.yml"))


def modules(root: Path) -> list[Path]:
    """List the files of the modules."""
    return sorted((root / "plugins" / "modules").glob("[!_]*.py"))


def tasks_of(path: Path) -> Iterator[dict[str, Any]]:
    """Walk all tasks of a task file or playbook, those inside blocks included."""

    def walk(entries: Any) -> Iterator[dict[str, Any]]:
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict):
                yield entry
                for key in (
                    "block",
                    "rescue",
                    "always",
                    "tasks",
                    "pre_tasks",
                    "post_tasks",
                    "handlers",
                ):
                    yield from walk(entry.get(key))

    yield from walk(load(path))


def playbook_arguments(root: Path) -> list[str]:
    """Find playbooks that do not begin with the check of the command line, or do not tell it all.

    What a playbook takes from its command line is read with a default, or asked for by "is defined".
    """
    problems: list[str] = []
    own = tuple(f"{role.name}_" for role in roles(root))
    for path in sorted((root / "playbooks").glob("*.yml")):
        first, text = load(path)[0], path.read_text(encoding="utf-8")
        if first.get("ansible.builtin.import_playbook") != "shared/begin.yml":
            problems.append(f"{path.stem}: does not begin with shared/begin.yml")
            continue
        told = set(first["vars"]["custody_arguments"])
        read = set(re.findall(r"\b([a-z]\w*) (?:\| default\(|is defined)", text))
        read = {name for name in read if not name.startswith((*own, "ansible_", "lifeboat_"))}
        problems += [f"{path.stem}: reads {name}, which is not told" for name in read - told]
        problems += [f"{path.stem}: tells {name}, which nobody reads" for name in told - read]
    return sorted(problems)


def role_interface(role: Path) -> list[str]:
    """Compare meta/argument_specs.yml with defaults/main.yml."""
    specs = load(role / "meta" / "argument_specs.yml").get("argument_specs")
    if not specs:
        return [f"{role.name}: meta/argument_specs.yml describes nothing"]
    problems: list[str] = []
    options: dict[str, dict[str, Any]] = {}
    for entry, spec in specs.items():
        if not (role / "tasks" / f"{entry}.yml").exists():
            problems.append(f"{role.name}: entry point {entry} has no tasks/{entry}.yml")
        if not spec.get("short_description"):
            problems.append(f"{role.name}: entry point {entry} has no short_description")
        for name, option in (spec.get("options") or {}).items():
            options.setdefault(name, {}).update(option)
            if not option.get("description") or not option.get("type"):
                problems.append(f"{role.name}: {entry}: {name} lacks description or type")
    defaults = load(role / "defaults" / "main.yml")
    for name in sorted(defaults.keys() - options.keys()):
        problems.append(f"{role.name}: {name} is in defaults, not in argument_specs")
    for name, option in sorted(options.items()):
        if "default" in option and name not in defaults:
            problems.append(f"{role.name}: {name} has a default in argument_specs only")
        elif "default" in option and option["default"] != defaults[name]:
            both = f"{defaults[name]!r} in defaults, {option['default']!r} in argument_specs"
            problems.append(f"{role.name}: {name} is {both}")
        elif "default" not in option and name in defaults:
            problems.append(f"{role.name}: {name} has a default in defaults only")
        elif option.get("required") and "default" in option:
            problems.append(f"{role.name}: {name} is required and has a default")
    return problems


def role_variables(role: Path) -> list[str]:
    """Find variables of a role that do not carry its name."""
    prefixes = (f"{role.name}_", f"__{role.name}_")
    wanted = " or ".join(f"{prefix}…" for prefix in prefixes)
    problems: list[str] = []
    for folder in ("defaults", "vars"):
        for path in sorted((role / folder).glob("**/*.yml")):
            problems += [
                f"{path.relative_to(role.parent)}: {name} is not called {wanted}"
                for name in load(path)
                if not name.startswith(prefixes)
            ]
    for name in load(role / "defaults" / "main.yml"):
        if name.startswith("__"):
            problems.append(f"{role.name}: {name} is internal and belongs into vars/")
    return problems


def role_tasks(role: Path) -> list[str]:
    """Find asserts that do not tell the fix, and a main.yml that is no table of contents."""
    problems: list[str] = []
    for path in sorted((role / "tasks").glob("**/*.yml")):
        where = path.relative_to(role.parent)
        for task in tasks_of(path):
            check = task.get("ansible.builtin.assert")
            if check is not None and not check.get("fail_msg"):
                problems.append(f"{where}: {task.get('name')}: an assert without fail_msg")
    contents = {"include_tasks", "import_tasks", "include_role", "import_role", "meta", "block"}
    for task in tasks_of(role / "tasks" / "main.yml"):
        if not contents & {key.rsplit(".", 1)[-1] for key in task}:
            problems.append(f"{role.name}: tasks/main.yml does work itself: {task.get('name')}")
    return problems


def scenario(folder: Path, root: Path) -> list[str]:
    """Find the ways in which a molecule scenario passes without having tested anything."""
    name = folder.name
    settings = merged(
        load(root / ".config" / "molecule" / "config.yml"), load(folder / "molecule.yml")
    )
    sequence = (settings.get("scenario") or {}).get("test_sequence")
    problems: list[str] = []
    if not sequence:
        problems.append(f"{name}: states no test_sequence")
        sequence = []
    if "verify" not in sequence:
        problems.append(f"{name}: its sequence never verifies")
    playbooks = (settings.get("ansible") or {}).get("playbooks") or {}
    playbooks = {
        step: path.replace("${MOLECULE_PROJECT_DIRECTORY}", str(root)).replace(
            "${MOLECULE_SCENARIO_DIRECTORY}", str(folder)
        )
        for step, path in {**DEFAULT_PLAYBOOKS, **playbooks}.items()
    }
    for step in DEFAULT_PLAYBOOKS:
        wanted = any(str(word).split()[0] == step for word in sequence)
        if wanted and step != "verify" and not (folder / playbooks[step]).exists():
            problems.append(f"{name}: {step} is in the sequence, its playbook is not there")
    verifier = settings.get("verifier") or {}
    if verifier.get("name") == "testinfra":
        tests = folder / verifier.get("directory", "tests")
        found = [f for path in tests.glob("**/test_*.py") for f in test_functions(path)]
        if not found:
            problems.append(f"{name}: testinfra finds no test in {tests.name}/")
    elif not list(tasks_of(folder / playbooks["verify"])):
        problems.append(f"{name}: verify.yml has no tasks")
    return problems


def merged(below: Any, above: Any) -> Any:
    """Lay one mapping over another, as molecule does with its base files."""
    if isinstance(below, dict) and isinstance(above, dict):
        return {
            key: merged(below.get(key), above[key]) if key in above else below[key]
            for key in {**below, **above}
        }
    return below if above is None else above


def test_functions(path: Path) -> list[str]:
    """Name the tests in a Python file that can fail by a check of their own or of a helper."""
    functions = {
        node.name: node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    checking = {name for name, node in functions.items() if checks(node)}
    while True:  # a helper that calls a checking helper checks too
        more = {name for name, node in functions.items() if called(node) & checking} - checking
        if not more:
            return [name for name in functions if name.startswith("test_") and name in checking]
        checking |= more


test_functions.__test__ = False  # type: ignore[attr-defined] # for pytest: a helper, no test


def called(function: ast.FunctionDef) -> set[str]:
    """Name what a function calls."""
    return {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
    }


def checks(function: ast.FunctionDef) -> bool:
    """Tell whether a function asserts, or calls pytest or a helper that says it does."""
    return any(isinstance(node, ast.Assert) for node in ast.walk(function)) or any(
        name in ("raises", "fail") or name.startswith(("assert_", "check_", "verify_"))
        for name in called(function)
    )


def tests_without_a_check(root: Path) -> list[str]:
    """Find tests that cannot fail."""
    problems: list[str] = []
    for path in sorted((root / "tests" / "unit").glob("**/test_*.py")) + sorted(
        (root / "molecule").glob("**/test_*.py")
    ):
        with_check = set(test_functions(path))
        problems += [
            f"{path.relative_to(root)}: {node.name} checks nothing"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef)
            and node.name.startswith("test_")
            and node.name not in with_check
        ]
    return problems


def module_documents(path: Path) -> dict[str, str]:
    """Read the DOCUMENTATION, EXAMPLES and RETURN of a module without running it."""
    found: dict[str, str] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = str(node.value.value)
    return found


def module(path: Path) -> list[str]:
    """Find what a module does not say about itself, and whether it grew too large."""
    documents = module_documents(path)
    name = path.stem
    problems = [
        f"{name}: no {wanted}"
        for wanted in ("DOCUMENTATION", "EXAMPLES", "RETURN")
        if not documents.get(wanted, "").strip()
    ]
    documentation = yaml.safe_load(documents.get("DOCUMENTATION", "")) or {}
    attributes = documentation.get("attributes") or {}
    for attribute in sorted(MODULE_ATTRIBUTES - attributes.keys()):
        problems.append(f"{name}: attributes do not say {attribute}")
    for attribute, claim in attributes.items():
        if not (claim.get("support") or claim.get("platforms")):
            problems.append(f"{name}: attribute {attribute} claims nothing")
    if documentation.get("module") != name:
        problems.append(f"{name}: documented as {documentation.get('module')}")
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if lines > LONGEST_MODULE:
        problems.append(
            f"{name}: {lines} lines, at most {LONGEST_MODULE}: move logic to module_utils"
        )
    return problems


def untested_plugins(root: Path) -> list[str]:
    """Find actions, filters and lookups that no unit test imports.

    Modules are not asked for: tests/unit/test_modules.py runs them all.
    """
    tests = "\n".join(
        path.read_text(encoding="utf-8") for path in (root / "tests" / "unit").glob("**/*.py")
    )
    return [
        f"plugins/{kind}/{path.name}: no unit test imports it"
        for kind in ("action", "filter", "lookup")
        for path in sorted((root / "plugins" / kind).glob("[!_]*.py"))
        if not re.search(
            rf"plugins\.{kind}\.{path.stem}\b|plugins\.{kind} import [^\n]*\b{path.stem}\b", tests
        )
    ]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Walk the imports of a file as (level, dotted name); level counts the leading dots.

    Those inside a function are left out: they are asked for only where it is called.
    """
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name
        elif isinstance(node, ast.ImportFrom):
            for name in [node.module] if node.module else [alias.name for alias in node.names]:
                yield node.level, name
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting += ast.iter_child_nodes(node)


def imports_on_the_box(root: Path, entry: str = "cli", allowed: tuple[str, ...] = ()) -> list[str]:
    """Find what the command on a box imports that a box does not have.

    Followed from module_utils/<entry>.py: the standard library and the files beside it.
    """
    folder = root / "plugins" / "module_utils"
    problems: list[str] = []
    seen: set[str] = set()
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        path = folder / f"{name}.py"
        if name in seen or not path.exists():
            continue
        seen.add(name)
        for level, imported in imports(path):
            top = imported.split(".")[0]
            if level == 1:
                waiting.append(top)
                if not (folder / f"{top}.py").exists():
                    problems.append(f"module_utils/{name}.py: imports {top}, which is not there")
            elif level > 1 or (top not in sys.stdlib_module_names and top not in allowed):
                problems.append(f"module_utils/{name}.py: imports {imported}, which a box lacks")
    return problems


def unpinned(path: Path) -> list[str]:
    """Find requirements without an exact version."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [
        f"{path.name}: {line}" for line in lines if line and not re.fullmatch(r"\S+==\S+", line)
    ]


def not_in_the_source_map(root: Path) -> list[str]:
    """Find files of module_utils that docs/architecture.md does not place, by name or by beginning."""
    text = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", text))
    beginnings = re.findall(r"`(\w+)` and what begins with it|what begins with `(\w+)`", text)
    placed = tuple(f"{one or other}_" for one, other in beginnings)
    return [
        f"docs/architecture.md: says nothing of module_utils/{path.name}"
        for path in sorted((root / "plugins" / "module_utils").glob("[!_]*.py"))
        if path.stem not in named and not path.stem.startswith(placed)
    ]


def dead_references(root: Path, path: Path) -> list[str]:
    """Find files of the project that a document names and that are not there."""
    text = path.read_text(encoding="utf-8")
    named = set(
        re.findall(
            r"(?<![\w./-])((?:roles|playbooks|plugins|molecule|docs|script|bench|tests|meta)/[\w./-]*\w)",
            text,
        )
    )
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            named.add(str((path.parent / target).resolve().relative_to(root.resolve())))
    return [
        f"{path.relative_to(root)}: names {name}, which is not there"
        for name in sorted(named)
        if not (root / name).exists()
    ]
