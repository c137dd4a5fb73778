# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""borg's command class on recorded output of borg 1.4.5, without a borg."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import borg_codes
from ansible_collections.lifeboat.agents.plugins.module_utils.borg import (
    Access,
    Borg,
    BorgError,
    Progress,
    _interpreter,
    parse_messages,
    parse_progress,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.errors import (
    CouldNotRun,
    LifeboatError,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.process import (
    Completed,
    Process,
    Running,
)

LOCKED = (
    b'{"type": "log_message", "time": 1.0, "message": "Failed to create/acquire the lock '
    b'/srv/r/lock.exclusive (timeout).", "levelname": "ERROR", "name": "borg.archiver", '
    b'"msgid": "LockTimeout"}\n'
)
CREATED = json.dumps(
    {
        "archive": {
            "duration": 1.25,
            "id": "aa",
            "name": "acme-1",
            "stats": {
                "compressed_size": 1,
                "deduplicated_size": 2,
                "nfiles": 3,
                "original_size": 4,
            },
        },
        "cache": {"stats": {}},
        "encryption": {"mode": "keyfile-blake2"},
        "repository": {"id": "ab" * 32, "last_modified": "2026-11-22T00:00:00", "location": "/r"},
    }
).encode()


class Recorded:
    """A runner that answers what was recorded and remembers how it was asked."""

    def __init__(self, *answers: tuple[int, bytes, bytes]) -> None:
        self.answers = list(answers)
        self.argv: list[list[str]] = []
        self.env: list[Mapping[str, str]] = []
        self.passphrases: list[bytes] = []
        self.fed = b""

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        stdin: bytes = b"",
        on_line: Any = None,
        on_output: Any = None,
    ) -> Completed:
        self.argv.append(list(argv))
        self.env.append(env)
        for descriptor in pass_fds:
            self.passphrases.append(os.read(descriptor, 100))
        code, stdout, stderr = self.answers.pop(0)
        if on_output is not None:
            on_output(stdout[:7])
            on_output(stdout[7:])
            stdout = b""
        return Completed(tuple(argv), code, stdout, stderr)

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        on_line: Any = None,
        on_output: Any = None,
    ) -> Running:
        recorded = self

        class Session:
            def feed(self, data: bytes) -> None:
                recorded.fed += data

            def pump(self, seconds: float) -> bool:
                return False

            def close(self) -> None:
                return None

            def has_read_all(self) -> bool:
                return True

            def finish(self) -> Completed:
                return recorded.run(argv, env=env, pass_fds=pass_fds, on_output=on_output)

            def abort(self) -> None:
                recorded.fed = b"aborted"

        return Session()


def borg(runner: Recorded, tmp_path: Path, executable: str = "borg", **settings: Any) -> Borg:
    access = Access(
        url=settings.pop("url", "/srv/r"),
        base_dir=str(tmp_path / "base"),
        keys_dir=str(tmp_path / "keys"),
        **settings,
    )
    environ = {"PATH": "/bin", "BORG_PASSPHRASE": "inherited", "CREDENTIALS_DIRECTORY": "/run/c"}
    return Borg(access, executable=executable, runner=runner, environ=environ)


def test_list_archives(tmp_path: Path) -> None:
    output = {
        "archives": [
            {
                "archive": "a",
                "id": "11",
                "name": "a",
                "start": "x",
                "time": "2026-11-22T01:00:00.500000",
            }
        ],
        "encryption": {"mode": "keyfile-blake2"},
        "repository": {"id": "22", "last_modified": "l", "location": "/srv/r"},
    }
    runner = Recorded((0, json.dumps(output).encode(), b""))
    info = borg(runner, tmp_path).list_archives()
    assert (info.id, info.encryption, info.archives[0].name) == ("22", "keyfile-blake2", "a")
    assert info.archives[0].time.endswith("Z")
    assert runner.argv == [["borg", "list", "--log-json", "--lock-wait", "600", "--json", "/srv/r"]]


def test_list_archive_item_by_item(tmp_path: Path) -> None:
    runner = Recorded((0, b"- -rw-r--r-- 1 2 3 a b\0d drwxr-xr-x 1 2 0 c\0", b""))
    assert [item.path for item in borg(runner, tmp_path).list_archive("x")] == [b"a b", b"c"]


def test_create_is_fed_and_answers(tmp_path: Path) -> None:
    runner = Recorded((0, CREATED, b""))
    session = borg(runner, tmp_path).create(
        "acme-1", compression="zstd,3", chunker_params="fixed,32768"
    )
    session.feed(b"/a\0/b\0")
    created = session.finish()
    assert runner.fed == b"/a\0/b\0"
    assert (
        created.archive_id,
        created.files,
        created.original_size,
        created.deduplicated_size,
    ) == ("aa", 3, 4, 2)
    assert created.code.severity == borg_codes.SUCCESS
    [argv] = runner.argv
    assert argv[-1] == "/srv/r::acme-1"
    assert {"--paths-from-stdin", "--json", "--log-json"} <= set(argv)
    assert argv[argv.index("--paths-delimiter") + 1] == r"\0"


@pytest.mark.parametrize("code", [100, 107])
def test_a_warning_is_a_warning_only_with_an_archive(tmp_path: Path, code: int) -> None:
    warning = (
        b'{"type": "log_message", "levelname": "WARNING", "message": "x: file changed", '
        b'"msgid": "FileChangedWarning"}\n'
    )
    session = borg(Recorded((code, CREATED, warning)), tmp_path).create(
        "a", compression="lz4", chunker_params="default"
    )
    created = session.finish()
    assert created.code.severity == borg_codes.WARNING
    assert [message.text for message in created.warnings] == ["x: file changed"]
    session = borg(Recorded((code, b"", warning)), tmp_path).create(
        "a", compression="lz4", chunker_params="default"
    )
    with pytest.raises(LifeboatError, match="no usable answer"):
        session.finish()


def test_an_error_carries_code_message_id_and_hint(tmp_path: Path) -> None:
    with pytest.raises(BorgError) as raised:
        borg(Recorded((73, b"", LOCKED)), tmp_path).info()
    error = raised.value
    assert error.failure["rc"] == 73
    assert error.failure["msgid"] == "LockTimeout"
    assert "stayed locked" in error.message and "lock.exclusive" in error.message
    assert error.hint


def test_a_full_disk_is_said_in_a_line(tmp_path: Path) -> None:
    """Recorded: borg 1.4.5 on a repository host without room, cut down to two frames."""
    traceback = (
        "OSError: [Errno 28] No space left on device\n\nDuring handling of the above exception, "
        "another exception occurred:\n\nTraceback (most recent call last):\n\n  File "
        '"borg/locking.py", line 297, in save\n    with open(self.path, "w") as f:\n\n'
        "OSError: [Errno 28] No space left on device\n"
    )
    lines = [
        {"type": "log_message", "levelname": "ERROR", "message": traceback, "msgid": "OSError"},
        {"type": "log_message", "levelname": "ERROR", "message": "\nPlatform: Linux\nPID: 1\n"},
    ]
    stderr = "\n".join(map(json.dumps, lines)).encode()
    with pytest.raises(BorgError) as raised:
        borg(Recorded((2, b"", stderr)), tmp_path).info()
    assert (
        raised.value.message
        == "borg info: borg failed: OSError: [Errno 28] No space left on device"
    )
    assert "disk" in raised.value.hint and "free space" in raised.value.hint
    assert raised.value.failure["msgid"] == "OSError"


def test_a_warning_of_list_or_info_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BorgError):
        borg(Recorded((101, b"{}", b"")), tmp_path).info()


def test_the_passphrase_goes_through_a_descriptor_only(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_text("secret words\n", encoding="ascii")
    for settings in ({"passphrase_file": str(file)}, {"passphrase": "secret words"}):
        runner = Recorded((0, b"", b""))
        borg(runner, tmp_path, **settings).delete(["one"])
        assert runner.passphrases[0].strip() == b"secret words"
        assert "secret words" not in str(runner.argv) + str(runner.env)
        assert runner.env[0]["BORG_PASSPHRASE_FD"].isdigit()
    assert "secret words" not in repr(Access("u", "b", "k", passphrase="secret words"))


def test_the_environment_is_ours(tmp_path: Path) -> None:
    runner = Recorded((0, b"", b""))
    borg(runner, tmp_path).check(verify_data=True)
    env = runner.env[0]
    assert env["BORG_EXIT_CODES"] == "modern"
    assert env["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] == "no"
    assert env["BORG_RELOCATED_REPO_ACCESS_IS_OK"] == "no"
    assert (
        "BORG_PASSPHRASE" not in env
        and "CREDENTIALS_DIRECTORY" not in env
        and "BORG_RSH" not in env
    )
    assert env["PATH"] == "/bin"


def test_ssh_is_pinned(tmp_path: Path) -> None:
    runner = Recorded((0, b"", b""))
    settings = {"url": "ssh://u@h/r", "ssh_key": "/k e y", "known_hosts": "/known"}
    borg(runner, tmp_path, **settings).check()
    rsh = runner.env[0]["BORG_RSH"]
    for part in (
        "StrictHostKeyChecking=yes",
        "UserKnownHostsFile=/known",
        "'/k e y'",
        "BatchMode=yes",
        "IdentitiesOnly=yes",
    ):
        assert part in rsh


def test_the_pinned_repository_is_told_to_borg_by_its_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    for name, identifier in (("one", "ab" * 32), ("two", "cd" * 32)):
        (keys / name).write_text(f"BORG_KEY {identifier}\nrest\n", encoding="ascii")
    (keys / "junk").write_bytes(b"\xff\0")
    runner = Recorded((0, b"", b""))
    borg(runner, tmp_path, repository_id="cd" * 32).check()
    assert runner.env[0]["BORG_KEY_FILE"] == str(keys / "two")
    with pytest.raises(CouldNotRun, match="no key of repository efef"):
        borg(runner, tmp_path, repository_id="ef" * 32).check()


def test_subcommands_are_expressions(tmp_path: Path) -> None:
    runner = Recorded(*[(0, b"", b"")] * 4)
    tool = borg(runner, tmp_path, bypass_lock=True, lock_wait=1)
    tool._call("key", ["export", "/srv/r", "/x"])
    tool.extract("a", ["p"], to_stdout=True, numeric_ids=True, sparse=True, strip_components=2)
    tool.check(repository_only=True)
    tool.delete(["a", "b"])
    common = ["--log-json", "--lock-wait", "1", "--bypass-lock"]
    assert runner.argv == [
        ["borg", "key", "export", *common, "/srv/r", "/x"],
        [
            "borg",
            "extract",
            *common,
            "--stdout",
            "--numeric-ids",
            "--sparse",
            "--strip-components",
            "2",
            "/srv/r::a",
            "p",
        ],
        ["borg", "check", *common, "--repository-only", "/srv/r"],
        ["borg", "delete", *common, "/srv/r", "a", "b"],
    ]
    with pytest.raises(LifeboatError, match="no archive named"):
        tool.delete([])


def test_version(tmp_path: Path) -> None:
    assert borg(Recorded((0, b"borg 1.4.5\n", b"")), tmp_path).version() == "1.4.5"


def test_recorded_progress() -> None:
    line = (
        b'{"original_size": 10, "compressed_size": 5, "deduplicated_size": 2, "nfiles": 1, '
        b'"path": "a", "time": 1.0, "type": "archive_progress"}'
    )
    assert parse_progress(line) == Progress(1, 10, 2, "a", False)
    assert parse_progress(
        b'{"finished": true, "time": 1.0, "type": "archive_progress"}'
    ) == Progress(0, 0, 0, "", True)
    assert parse_progress(b"plain text") is None
    assert parse_progress(b'{"type": "progress_percent"}') is None
    assert parse_messages(b'junk\n{"bad\n' + LOCKED)[0].msgid == "LockTimeout"


@pytest.mark.parametrize("code", sorted(borg_codes.TABLE))
def test_every_code_has_a_meaning_and_a_severity(code: int) -> None:
    entry = borg_codes.explain(code)
    assert entry.code == code
    assert entry.meaning
    assert entry.severity == (
        "success" if code == 0 else "warning" if code == 1 or code >= 100 else "error"
    )


@pytest.mark.parametrize(
    ("code", "text"),
    [(254, "unknown code 254"), (7, "unknown code 7"), (-9, "signal 9"), (137, "signal 9")],
)
def test_an_unknown_code_is_an_error(code: int, text: str) -> None:
    entry = borg_codes.explain(code)
    assert entry.severity == "error"
    assert text in entry.meaning


def test_the_table_is_borgs_own() -> None:
    """Names as borg 1.4.5 lists them (docs/internals/frontends: message ids)."""
    names = {code: entry.name for code, entry in borg_codes.TABLE.items()}
    for code, name in (
        (13, "DoesNotExist"),
        (31, "ArchiveDoesNotExist"),
        (52, "PassphraseWrong"),
        (73, "LockTimeout"),
        (100, "FileChangedWarning"),
        (107, "BackupFileNotFoundError"),
    ):
        assert names[code] == name


@pytest.mark.parametrize(
    ("first_line", "found"),
    [
        (b"#!/opt/lifeboat/borg/bin/python3\n", "/opt/lifeboat/borg/bin/python3"),
        (b"#!/usr/bin/python3 -s\n", None),
        (b"#!/usr/bin/env python3\n", None),
        (b"#!/bin/sh\n", None),
        (b"\x7fELF\x02\n", None),
        (b"", None),
    ],
)
def test_the_interpreter_of_a_script(tmp_path: Path, first_line: bytes, found: str | None) -> None:
    script = tmp_path / "borg"
    script.write_bytes(first_line)
    assert _interpreter(str(script)) == found
    assert _interpreter(str(tmp_path / "none")) is None


def test_a_listing_is_loaded_ahead_and_read_when_it_is_wanted(tmp_path: Path) -> None:
    script = tmp_path / "borg"
    script.write_text("#!/opt/borg/bin/python3\n", encoding="ascii")
    runner = Recorded((0, b"- -rw-r--r-- 1 2 3 a b\0", b""))
    listing = borg(runner, tmp_path, executable=str(script)).listing("x")
    listing.load()
    assert (runner.fed, runner.argv) == (b"", [])
    lines: list[bytes] = []
    listing.read(lines.extend)
    assert lines == [b"- -rw-r--r-- 1 2 3 a b"]
    assert runner.fed == b"\n"
    [argv] = runner.argv
    assert argv[:2] == ["/opt/borg/bin/python3", "-I"] and argv[2].endswith("quick_list.py")
    assert argv[3:5] == [str(script), "list"]


def test_a_listing_that_is_not_wanted_is_ended(tmp_path: Path) -> None:
    script = tmp_path / "borg"
    script.write_text("#!/opt/borg/bin/python3\n", encoding="ascii")
    runner = Recorded()
    listing = borg(runner, tmp_path, executable=str(script)).listing("x")
    listing.abandon()
    listing.load()
    listing.abandon()
    assert runner.fed == b"aborted"


def test_a_quick_listing_that_fails_is_judged_as_borgs_own(tmp_path: Path) -> None:
    script = tmp_path / "borg"
    script.write_text("#!/opt/borg/bin/python3\n", encoding="ascii")
    for code in (13, 2, 1):
        runner = Recorded((code, b"", b""))
        with pytest.raises(BorgError):
            borg(runner, tmp_path, executable=str(script)).list_archive("x")


def test_no_wait_is_so_long_that_a_signal_before_it_is_not_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python hears a signal between two waits: one that came just before would be slept over."""
    process = Process(["sleep", "0.2"], env={"PATH": os.defpath}, pass_fds=())
    waits: list[Any] = []
    select = process._selector.select

    def noted(timeout: float | None = None) -> list[Any]:
        waits.append(timeout)
        return select(timeout)

    monkeypatch.setattr(process._selector, "select", noted)
    assert process.finish().returncode == 0
    assert waits and None not in waits and max(waits) <= 1
