# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of a runbook, and whether tests execute them.

A test executes a command of the runbook by handing it, word for word, to a method named runbook,
which puts the names of the test's own world into it and runs it. An option that the text mentions
by itself has to be among what the tests give to a playbook.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

# Playbooks that the runbook points to and that have a scenario of their own.
ELSEWHERE = {
    "custody": "molecule/hostile/side_effect.yml",
    "rollback": "molecule/hostile/tests/test_2_journal.py",
}
FREE = re.compile(r"[A-Z]|\d|\.|/|acme")  # a value that is a name, a date or a place of one's own


def unfenced(text: str) -> str:
    """Without what stands between fences: examples of files, nothing to type."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def blocks(text: str) -> list[str]:
    """Commands that stand by themselves, indented."""
    lines = (
        line.removeprefix("    ") for line in unfenced(text).splitlines() if line.startswith("    ")
    )
    return [" ".join(line.split()) for line in lines if re.match(r"(sudo )?[a-z][\w-]* ", line)]


def spans(text: str) -> list[str]:
    """What is written as code inside of a sentence."""
    prose = "\n".join(line for line in unfenced(text).splitlines() if not line.startswith("    "))
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def options(text: str) -> list[str]:
    """name=value of every -e in a sentence; name= alone where the value is the reader's own."""
    found = []
    for span in spans(text):
        for name, value in re.findall(r"(?:^|-e )([a-z_]+)=(\S+)", span):
            found.append(f"{name}=" if FREE.search(value) else f"{name}={value}")
    return sorted(set(found))


def playbooks(text: str) -> list[str]:
    """Playbooks that a sentence points to."""
    return sorted(
        {m for span in spans(text) for m in re.findall(r"^(?:playbooks/)?(\w+)\.yml", span)}
    )


class Tests:
    """What the tests of a scenario execute, read from their source."""

    def __init__(self, folder: Path) -> None:
        self.commands: set[str] = set()
        self.words: set[str] = set()
        self.played: set[str] = set()
        for path in sorted(folder.glob("test_*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    self._read(node)
                    self.words |= constants(node)

    def _read(self, test: ast.FunctionDef) -> None:
        for node in ast.walk(test):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    if node.func.attr == "runbook":
                        self.commands.add(first.value)
                    elif node.func.attr == "play":
                        self.played.add(first.value)

    def give(self, option: str) -> bool:
        wanted = re.compile(
            rf"(?:^|\s){re.escape(option)}" + ("" if option.endswith("=") else r"(?:\s|$)")
        )
        return any(wanted.search(word) for word in self.words | self.commands)

    def play(self, playbook: str) -> bool:
        named = any(f"playbooks/{playbook}.yml" in command for command in self.commands)
        return playbook in self.played or named


def constants(node: ast.AST) -> set[str]:
    return {
        item.value
        for item in ast.walk(node)
        if isinstance(item, ast.Constant) and isinstance(item.value, str)
    }


def problems(root: Path, document: str, folder: str) -> list[str]:
    """Everything that the document tells to type and no test executes, and the other way round."""
    text = (root / document).read_text(encoding="utf-8")
    tests, commands = Tests(root / folder), blocks(text)
    found = [f"{document}: no test runs: {line}" for line in commands if line not in tests.commands]
    found += [
        f"{folder}: runs what {document} does not say: {line}"
        for line in sorted(tests.commands - set(commands))
    ]
    found += [
        f"{document}: no test gives {option}" for option in options(text) if not tests.give(option)
    ]
    for playbook in playbooks(text):
        elsewhere = root / ELSEWHERE.get(playbook, "nowhere")
        there = elsewhere.is_file() and f"{playbook}.yml" in elsewhere.read_text(encoding="utf-8")
        if not tests.play(playbook) and not there:
            found.append(f"{document}: no test runs playbooks/{playbook}.yml")
    found += [
        f"{document}: no test runs: {span}"
        for span in sorted(set(spans(text)))
        if span.startswith("lifeboat ") and not any(span in word for word in tests.words)
    ]
    return found
