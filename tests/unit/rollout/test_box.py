# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and directories of root, and what of them lies on a box."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.box import (
    BoxError,
    directories,
    engine,
    pins,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.root_files import (
    Directory,
    Exact,
    File,
    FilesError,
    Result,
    RootFiles,
)

MODULE_UTILS = Path(__file__).resolve().parents[3] / "plugins" / "module_utils"
ENTRY = {
    "agent": "acme",
    "repositories": [{"name": "vault1", "address": "vault1", "port": 22}],
}


def ensure(
    root: Path, files: dict[str, str], *, check_mode: bool = False, file_mode: str = "0640"
) -> Result:
    """Keep one directory with these files, and no other of theirs."""
    tool = RootFiles(check_mode=check_mode, uid=os.getuid(), gid=os.getgid())
    return tool.ensure(
        [Directory(str(root / "d"), "0750")],
        [File(str(root / "d" / name), text, file_mode) for name, text in files.items()],
        [Exact(str(root / "d"), ".py")],
    )


def test_files_are_written_once_and_strangers_removed(tmp_path: Path) -> None:
    assert ensure(tmp_path, {"a.py": "1\n", "b.py": "2\n"}).changed_paths
    assert not ensure(tmp_path, {"a.py": "1\n", "b.py": "2\n"}).changed_paths
    (tmp_path / "d" / "notes.txt").touch()
    result = ensure(tmp_path, {"a.py": "3\n"})
    assert result.changed_paths == [str(tmp_path / "d" / "a.py"), str(tmp_path / "d" / "b.py")]
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["a.py", "notes.txt"]
    assert (tmp_path / "d" / "a.py").read_text() == "3\n"
    assert result.diff[0]["before"] == "1\n"
    assert result.diff[0]["after"] == "3\n"


def test_modes_are_corrected(tmp_path: Path) -> None:
    ensure(tmp_path, {"a.py": ""})
    (tmp_path / "d" / "a.py").chmod(0o666)
    (tmp_path / "d").chmod(0o777)
    assert len(ensure(tmp_path, {"a.py": ""}).changed_paths) == 2
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "d" / "a.py").stat().st_mode & 0o777 == 0o640


def test_check_mode_tells_the_same_and_does_nothing(tmp_path: Path) -> None:
    told = ensure(tmp_path, {"a.py": "1\n"}, check_mode=True)
    assert list(tmp_path.iterdir()) == []
    assert told.changed_paths == ensure(tmp_path, {"a.py": "1\n"}).changed_paths
    (tmp_path / "d" / "old.py").touch()
    assert ensure(tmp_path, {"a.py": "1\n"}, check_mode=True).changed_paths
    assert (tmp_path / "d" / "old.py").exists()


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    ensure(tmp_path, {})
    (tmp_path / "elsewhere").write_text("1\n")
    (tmp_path / "d" / "a.py").symlink_to(tmp_path / "elsewhere")
    ensure(tmp_path, {"a.py": "1\n"})
    assert not (tmp_path / "d" / "a.py").is_symlink()
    assert (tmp_path / "elsewhere").exists()


def test_what_is_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "d").touch()
    with pytest.raises(FilesError, match="not a directory"):
        ensure(tmp_path, {})
    (tmp_path / "d").unlink()
    (tmp_path / "d" / "a.py").mkdir(parents=True)
    with pytest.raises(FilesError, match="is a directory"):
        ensure(tmp_path, {"a.py": ""})


def test_parents_come_first_and_secrets_are_in_private_places() -> None:
    modes = {entry["path"]: entry["mode"] for entry in directories([ENTRY])}
    paths = list(modes)
    assert all(
        paths.index(str(Path(p).parent)) < i
        for i, p in enumerate(paths)
        if i and p != "/var/lib/lifeboat"
    )
    assert modes["/etc/lifeboat/agents/acme/repositories/vault1/keys"] == "0700"
    assert modes["/var/lib/lifeboat/acme"] == "0750"


def test_only_escrowed_host_keys_are_pinned() -> None:
    escrow = {"repositories": {"vault1": {"host_keys": ["ssh-ed25519 AAAA"]}}}
    assert pins(ENTRY, escrow) == [
        {
            "path": "/etc/lifeboat/agents/acme/repositories/vault1/known_hosts",
            "content": "vault1 ssh-ed25519 AAAA\n",
        }
    ]


def test_a_box_gets_what_its_command_imports_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "cli.py").write_text("from .one import x\nfrom . import two\nimport json\n")
    (tmp_path / "one.py").write_text("def f():\n    from .three import y\n")
    for name in ("two", "three", "stranger"):
        (tmp_path / f"{name}.py").write_text("")
    names = [Path(entry["path"]).name for entry in engine(str(tmp_path))]
    assert names == ["__init__.py", "cli.py", "one.py", "three.py", "two.py"]
    (tmp_path / "two.py").unlink()
    with pytest.raises(BoxError, match="two.py is missing"):
        engine(str(tmp_path))


def test_the_command_of_this_collection_is_complete_and_needs_nothing_of_ansible() -> None:
    files = engine(str(MODULE_UTILS))
    assert "/usr/local/lib/lifeboat/lifeboat/cli.py" in [entry["path"] for entry in files]
    for entry in files:
        assert "ansible" not in [
            word
            for line in entry["content"].splitlines()
            if line.startswith(("import ", "from "))
            for word in line.replace(".", " ").split()
        ], entry["path"]
