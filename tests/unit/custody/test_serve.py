# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard with a real borg: what is refused, call by call, and that honest work passes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import serve
from ansible_collections.lifeboat.agents.plugins.module_utils.serve_client import (
    MANIFEST,
    ServeConnection,
    ServeError,
    pack,
)
from ansible_collections.lifeboat.agents.tests.unit.custody.support import (
    GUARD,
    World,
    files_of,
    python_of,
    tree,
)

NEW = b"n" * 32


def standing(connection: ServeConnection) -> bytes:
    """The id of an object that was there before."""
    return next(key for key in connection.scan() if key != MANIFEST)


# Each attack is one call, or the few calls around it, with the box's own key.

ATTACKS: dict[str, tuple[str, Callable[[ServeConnection], Any]]] = {
    "delete an object": ("delete", lambda c: c.call("delete", id=standing(c))),
    "overwrite an object with garbage": (
        "overwrite",
        lambda c: c.call("put", id=standing(c), data=b"garbage"),
    ),
    "overwrite an object with another one": (
        "overwrite",
        lambda c: c.call("put", id=standing(c), data=c.call("get", id=list(c.scan())[1])),
    ),
    "overwrite an object with nothing": (
        "overwrite",
        lambda c: c.call("put", id=standing(c), data=b""),
    ),
    "delete the manifest": ("delete", lambda c: c.call("delete", id=MANIFEST)),
    "empty the manifest": ("manifest", lambda c: c.call("put", id=MANIFEST, data=b"")),
    "an unencrypted manifest": (
        "manifest",
        lambda c: c.call("put", id=MANIFEST, data=b"\x02" + bytes(100)),
    ),
    "replace the key": ("save_key", lambda c: c.call("save_key", keydata=b"BORG_KEY x")),
    "break the lock": ("break_lock", lambda c: c.call("break_lock")),
    "destroy": ("destroy", lambda c: c.call("destroy")),
    "check": ("check", lambda c: c.call("check", repair=False)),
    "repair": ("check", lambda c: c.call("check", repair=True, save_space=False)),
    "open a second time": ("open", lambda c: c.call("open", path=b"/tmp")),
    "create over it": ("create", lambda c: c.call("open", path=b"/tmp", create=True)),
    "raise an exception": (
        "inject_exception",
        lambda c: c.call("inject_exception", kind=b"divide"),
    ),
    "commit nothing": ("commit", lambda c: c.call("commit", compact=True, cleanup_commits=True)),
    "the highest nonce": (
        "nonce",
        lambda c: c.call(
            "commit_nonce_reservation",
            next_unreserved=2**64 - 1,
            start_nonce=c.call("get_free_nonce"),
        ),
    ),
    "the nonce back to zero": (
        "nonce",
        lambda c: c.call(
            "commit_nonce_reservation", next_unreserved=1, start_nonce=c.call("get_free_nonce")
        ),
    ),
    "the nonce from nowhere": (
        "nonce",
        lambda c: c.call("commit_nonce_reservation", next_unreserved=2**30, start_nonce=None),
    ),
    "an id that is none": ("overwrite", lambda c: c.call("put", id=b"short", data=b"x")),
    "an id that is a list": ("overwrite", lambda c: c.call("put", id=[1], data=b"x")),
    "data that are a number": ("overwrite", lambda c: c.call("put", id=NEW, data=5)),
    "delete an id that is none": ("delete", lambda c: c.call("delete", id=b"short")),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_refused_and_nothing_changed(lived_in: World, name: str) -> None:
    kind, attack = ATTACKS[name]
    before, nonce = files_of(lived_in.repository), lived_in.repository.joinpath("nonce").read_text()
    with lived_in.opened() as connection:
        with pytest.raises(ServeError, match=f"lifeboat refused {kind}: ") as refusal:
            attack(connection)
        assert refusal.value.kind == "Error", "borg shows its own errors without a traceback"
    assert files_of(lived_in.repository) == before
    assert lived_in.repository.joinpath("nonce").read_text() == nonce
    assert lived_in.counted()["refusals"] == {kind: 1}
    assert lived_in.counted()["last_refusal"]["identity"] == "box"
    lived_in.create("day-3")


@pytest.mark.parametrize(
    "method", ["compact_segments", "close", "__init__", "save_config", "cleanup", "_rollback"]
)
def test_methods_that_are_not_served(lived_in: World, method: str) -> None:
    with lived_in.opened() as connection, pytest.raises(ServeError) as refusal:
        connection.call(method)
    assert refusal.value.kind == "InvalidRPCMethod"


def test_after_a_refusal_nothing_more_is_written_in_that_session(lived_in: World) -> None:
    before = files_of(lived_in.repository)
    with lived_in.opened() as connection:
        connection.call("put", id=NEW, data=b"new")
        manifest = connection.call("get", id=MANIFEST)
        with pytest.raises(ServeError, match="refused delete"):
            connection.call("delete", id=standing(connection))
        for method, arguments in (
            ("put", {"id": NEW, "data": b"new"}),
            ("put", {"id": MANIFEST, "data": manifest}),
            ("commit", {}),
            ("delete", {"id": NEW}),
        ):
            with pytest.raises(ServeError, match="refused delete"):
                connection.call(method, **arguments)
        connection.call("rollback")
        assert connection.call("get", id=MANIFEST) == manifest
    assert files_of(lived_in.repository) == before
    assert lived_in.counted()["refusals"] == {"delete": 1}


def test_too_many_refused_calls_end_the_session(lived_in: World) -> None:
    with lived_in.opened() as connection:
        for _unused in range(serve.REFUSALS_BEFORE_HANGUP):
            with pytest.raises(ServeError, match="refused destroy"):
                connection.call("destroy")
        with pytest.raises(ServeError, match="ended the connection"):
            connection.call("destroy")
    assert lived_in.counted()["refusals"] == {"destroy": serve.REFUSALS_BEFORE_HANGUP}
    lived_in.create("day-3")


@pytest.mark.parametrize("exclusive", [False, None])
def test_writing_without_an_exclusive_lock(lived_in: World, exclusive: bool | None) -> None:
    """A session that could take the lock later would take what others wrote for its own."""
    with lived_in.connect() as connection:
        connection.open(str(lived_in.repository), exclusive=exclusive, lock_wait=1)
        with pytest.raises(ServeError, match="not opened for writing"):
            connection.call("put", id=NEW, data=b"x")


def test_what_another_session_wrote_meanwhile_stands(lived_in: World) -> None:
    with lived_in.connect() as early:
        early.negotiate()
        lived_in.create("day-3")
        day_3 = bytes.fromhex(lived_in.archives()["day-3"])
        early.call("open", path=str(lived_in.repository).encode(), exclusive=True, lock_wait=1)
        with pytest.raises(ServeError, match="refused delete"):
            early.call("delete", id=day_3)


def test_a_client_that_asks_for_no_lock_gets_a_shared_one_and_only_reads(lived_in: World) -> None:
    with lived_in.connect() as connection:
        connection.open(str(lived_in.repository), lock=False, exclusive=True)
        assert (lived_in.repository / "lock.roster").exists()
        assert len(connection.call("get", id=MANIFEST)) > 41
        with pytest.raises(ServeError, match="not opened for writing"):
            connection.call("put", id=NEW, data=b"x")
    with lived_in.connect("--read-only") as connection:
        connection.open(str(lived_in.repository), lock=False)
        assert len(connection.call("get", id=MANIFEST)) > 41
        assert not (lived_in.repository / "lock.roster").exists(), "a snapshot cannot be locked"


@pytest.mark.parametrize("where", ["other", "acme/data", "acme/../other", "link", "~/x", "/./acme"])
def test_another_path(lived_in: World, where: str) -> None:
    host = lived_in.repository.parent
    shutil.copytree(lived_in.repository, host / "other")
    (host / "link").symlink_to("other")
    path = where if where[0] in "~/" else str(host / where)
    with lived_in.connect() as connection, pytest.raises(ServeError, match="another one"):
        connection.open(path)


def test_a_path_that_is_no_path(lived_in: World) -> None:
    with lived_in.connect() as connection:
        connection.negotiate()
        with pytest.raises(ServeError, match="not a path"):
            connection.call("open", path=7)
        with pytest.raises(ServeError, match="no repository is open"):
            connection.call("get", id=MANIFEST)


def test_objects_of_this_session_are_its_own_even_after_a_commit(lived_in: World) -> None:
    with lived_in.opened() as connection:
        connection.call("put", id=NEW, data=b"one")
        connection.call("commit")
        connection.call("put", id=NEW, data=b"two")
        connection.call("delete", id=NEW)
        connection.call("commit")
        with pytest.raises(ServeError) as gone:
            connection.call("get", id=NEW)
        assert gone.value.kind == "ObjectNotFound"
    with lived_in.opened() as connection:
        connection.call("put", id=NEW, data=b"three")
        connection.call("commit")
    with lived_in.opened() as connection, pytest.raises(ServeError, match="refused overwrite"):
        connection.call("put", id=NEW, data=b"four")


def test_read_only(lived_in: World) -> None:
    before = files_of(lived_in.repository)
    with lived_in.opened("--read-only") as connection:
        some = standing(connection)
        assert connection.call("get", id=some)
        start = connection.call("get_free_nonce")
        connection.call("commit_nonce_reservation", next_unreserved=2**40, start_nonce=start)
        assert connection.call("get_free_nonce") == start
        for method, arguments in (
            ("put", {"id": NEW, "data": b"x"}),
            ("delete", {"id": some}),
            ("commit", {}),
            ("put", {"id": MANIFEST, "data": connection.call("get", id=MANIFEST)}),
        ):
            with pytest.raises(ServeError, match="only reads"):
                connection.call(method, **arguments)
    assert files_of(lived_in.repository) == before


def test_control_deletes_by_name_adds_nothing_and_does_not_compact(lived_in: World) -> None:
    control = lived_in.guard("--control")
    files = files_of(lived_in.repository)
    lived_in.borg("delete", f"{lived_in.url}::day-1", serving=control, client="control")
    lived_in.borg("compact", lived_in.url, serving=control, client="control")
    assert list(lived_in.archives()) == ["day-2"]
    after = files_of(lived_in.repository)
    for name, data in files.items():
        if name.startswith("data/"):
            assert after[name] == data, "deleting keeps every segment"
    failed = lived_in.create("day-3", serving=control, client="control", check=False)
    assert failed.returncode != 0
    assert "control identity adds no objects" in failed.stderr
    assert list(lived_in.archives()) == ["day-2"]
    for attack in ("destroy", "replace the key", "break the lock", "check", "delete the manifest"):
        with lived_in.opened("--control") as one, pytest.raises(ServeError, match="refused"):
            ATTACKS[attack][1](one)


COMMANDS = {
    "delete an archive": ("delete", "{url}::day-1"),
    "delete the repository": ("delete", "{url}"),
    "prune": ("prune", "--keep-last=1", "{url}"),
    "rename": ("rename", "{url}::day-1", "day-9"),
    "initialize again": ("init", "--encryption", "none", "{url}"),
    "check": ("check", "{url}"),
    "repair": ("check", "--repair", "{url}"),
    "break the lock": ("break-lock", "{url}"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_of_borg_that_are_refused(lived_in: World, name: str) -> None:
    before, archives = files_of(lived_in.repository), lived_in.archives()
    day_1 = lived_in.extract("day-1")
    environment = {
        "BORG_DELETE_I_KNOW_WHAT_I_AM_DOING": "YES",
        "BORG_CHECK_I_KNOW_WHAT_I_AM_DOING": "YES",
    }
    done = subprocess.run(
        [str(lived_in.borg_path), *(part.format(url=lived_in.url) for part in COMMANDS[name])],
        env={**lived_in.environment(lived_in.guard()), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "lifeboat refused" in done.stderr
    assert "Traceback" not in done.stderr
    assert files_of(lived_in.repository) == before
    assert lived_in.archives() == archives
    assert lived_in.extract("day-1") == day_1


def test_recreate_adds_a_copy_and_replaces_nothing(lived_in: World) -> None:
    before, archives = files_of(lived_in.repository), lived_in.archives()
    done = lived_in.borg("recreate", "--comment", "x", f"{lived_in.url}::day-1", check=False)
    assert "lifeboat refused delete" in done.stderr
    after = files_of(lived_in.repository)
    assert {n: d for n, d in before.items() if n.startswith("data/")}.items() <= after.items()
    assert archives.items() <= lived_in.archives().items()


def test_compacting_is_harmless(lived_in: World) -> None:
    lived_in.write("SOUL.md", 4_000)
    lived_in.create("day-3")
    before = files_of(lived_in.repository)
    lived_in.borg("compact", "--cleanup-commits", lived_in.url, check=False)
    after = files_of(lived_in.repository)
    assert {n: d for n, d in before.items() if n.startswith("data/")}.items() <= after.items()


def test_changing_the_passphrase_changes_nothing_on_the_host(lived_in: World) -> None:
    before = files_of(lived_in.repository)
    done = subprocess.run(
        [str(lived_in.borg_path), "key", "change-passphrase", lived_in.url],
        env={**lived_in.environment(lived_in.guard()), "BORG_NEW_PASSPHRASE": "x"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert files_of(lived_in.repository) == before


# The controls: the same calls against borg's own append-only serving have an effect.


@pytest.mark.parametrize(
    "name", ["delete an object", "overwrite an object with garbage", "delete the manifest"]
)
def test_without_the_guard_the_attack_works(lived_in: World, name: str) -> None:
    before = lived_in.archives()
    with lived_in.connect(serving=lived_in.plain()) as connection:
        connection.open(str(lived_in.repository), exclusive=True, lock_wait=1)
        ATTACKS[name][1](connection)
        connection.call("commit")
    if "manifest" in name:
        assert lived_in.borg("list", lived_in.url, check=False).returncode != 0
    else:
        assert lived_in.archives() == before, "nobody would notice"
        done = lived_in.borg(
            "check",
            "--archives-only",
            "--verify-data",
            lived_in.url,
            serving=lived_in.guard("--read-only"),
            check=False,
        )
        assert done.returncode != 0


def test_without_the_guard_the_nonce_can_be_used_up(lived_in: World) -> None:
    with lived_in.connect(serving=lived_in.plain()) as connection:
        connection.open(str(lived_in.repository), exclusive=True, lock_wait=1)
        ATTACKS["the highest nonce"][1](connection)
    lived_in.write("more")
    assert lived_in.create("day-3", check=False, serving=lived_in.plain()).returncode != 0


# Honest work


def test_honest_work_is_never_refused(lived_in: World) -> None:
    lived_in.write("memories/three", 50_000)
    lived_in.create("day-3", "--compression", "zstd,3", "--chunker-params", "fixed,32768")
    lived_in.create("day-4")
    url = lived_in.url
    lived_in.borg("list", f"{url}::day-3")
    lived_in.borg("info", f"{url}::day-3")
    lived_in.borg("info", url)
    lived_in.borg("diff", f"{url}::day-1", "day-2")
    lived_in.borg("check", "--archives-only", url)
    lived_in.borg(
        "check", "--archives-only", "--verify-data", url, serving=lived_in.guard("--read-only")
    )
    lived_in.borg("key", "export", url, str(lived_in.root / "key"))
    lived_in.borg("export-tar", f"{url}::day-4", str(lived_in.root / "tar"))
    assert lived_in.extract("day-4") == tree(lived_in.home)
    assert lived_in.extract("day-4", client="fresh-box") == tree(lived_in.home)
    assert lived_in.counted()["refusals"] == {}


def test_a_client_that_lost_its_cache(lived_in: World) -> None:
    shutil.rmtree(lived_in.root / "clients" / "box" / ".cache")
    lived_in.create("day-3")
    assert lived_in.extract("day-3") == tree(lived_in.home)
    assert lived_in.counted()["refusals"] == {}


def test_work_goes_on_after_the_control_side_deleted(lived_in: World) -> None:
    lived_in.borg(
        "delete", f"{lived_in.url}::day-2", serving=lived_in.guard("--control"), client="control"
    )
    # The chunks of day-2 are gone from the index and stored anew.
    lived_in.create("day-3")
    assert lived_in.extract("day-3") == tree(lived_in.home)
    assert lived_in.counted()["refusals"] == {}


def killed_after_a_checkpoint(world: World, name: str) -> None:
    """A create that commits checkpoints, killed hard once one of them stands."""
    committed = len(list(world.repository.glob("data/*/*")))
    fifo = world.root / "fifo"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [
            str(world.borg_path),
            "create",
            "--checkpoint-interval=1",
            "--chunker-params=buzhash,10,16,14,4095",
            "--read-special",
            f"{world.url}::{name}",
            ".",
            str(fifo),
        ],
        env=world.environment(world.guard()),
        cwd=world.home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with fifo.open("wb") as stream:
            deadline = time.monotonic() + 300
            while len(list(world.repository.glob("data/*/*"))) < committed + 9:
                stream.write(os.urandom(65536))
                stream.flush()
                time.sleep(0.1)
                assert time.monotonic() < deadline, "no checkpoint in five minutes"
            process.kill()
    finally:
        process.kill()
        process.wait()
        fifo.unlink()
        world.wait_for_sessions()


def test_killed_creates_and_checkpoints_of_earlier_connections(lived_in: World) -> None:
    """Honest borg deletes the checkpoint archives of its own session only.

    The checkpoint that a killed create leaves behind stays: the next create neither needs
    nor touches it. The control side removes it by name.
    """
    for attempt in (1, 2):
        lived_in.write(f"memories/attempt-{attempt}", 300_000)
        killed_after_a_checkpoint(lived_in, f"day-3-{attempt}")
    left = [name for name in lived_in.archives() if ".checkpoint" in name]
    assert left, "the test must leave a checkpoint of an earlier connection"
    lived_in.create("day-3", "--checkpoint-interval=1")
    assert lived_in.extract("day-3") == tree(lived_in.home)
    assert set(left) <= set(lived_in.archives())
    assert lived_in.counted()["refusals"] == {}
    for name in left:
        lived_in.borg(
            "delete", f"{lived_in.url}::{name}", serving=lived_in.guard("--control"), client="c"
        )
    lived_in.create("day-4")
    assert sorted(lived_in.archives()) == ["day-1", "day-2", "day-3", "day-4"]
    assert lived_in.extract("day-4") == tree(lived_in.home)
    assert lived_in.counted()["refusals"] == {}


def test_checkpoints_within_one_session(lived_in: World) -> None:
    for number in range(40):
        lived_in.write(f"many/{number}", 2_000_000)
    lived_in.create("day-3", "--checkpoint-interval=1", "--upload-ratelimit=40000")
    assert lived_in.counted()["last_session"]["commits"] > 1, "no checkpoint was made"
    assert sorted(lived_in.archives()) == ["day-1", "day-2", "day-3"]
    assert lived_in.counted()["refusals"] == {}


# Creating


def test_create_once(tmp_path: Path) -> None:
    from ansible_collections.lifeboat.agents.tests.unit.custody import support

    world = support.World(tmp_path, support.find_borg())
    without = world.borg(
        "init", "-e", "keyfile-blake2", world.url, serving=world.guard("--lock", str(world.lock)),
        check=False,
    )  # fmt: skip
    assert "creates no repository" in without.stderr
    assert not world.repository.exists()
    world.init()
    config = (world.repository / "config").read_text()
    assert "append_only = 0" in config, "the host must be able to compact"
    shutil.rmtree(world.repository)
    again = world.borg("init", "-e", "keyfile-blake2", world.url, check=False)
    assert "sealed" in again.stderr
    assert not world.repository.exists()


# Quota


def test_quota_overrun_leaves_a_working_repository(lived_in: World) -> None:
    before = files_of(lived_in.repository)
    used = sum(len(data) for name, data in before.items() if name.startswith("data/"))
    lived_in.quota = str(used + 200_000)
    lived_in.write("junk", 5_000_000)
    over = lived_in.create("day-3", check=False)
    assert over.returncode == 20, over.stderr
    assert "storage quota" in over.stderr
    after = files_of(lived_in.repository)
    on_disk = sum(len(data) for name, data in after.items() if name.startswith("data/"))
    assert on_disk <= used + 200_000
    assert {n: d for n, d in after.items() if n.startswith("data/")} == {
        n: d for n, d in before.items() if n.startswith("data/")
    }, "what did not fit is gone from the disk"
    (lived_in.home / "junk").unlink()
    lived_in.create("day-4")
    assert lived_in.extract("day-4") == tree(lived_in.home)
    assert lived_in.counted()["refusals"] == {"quota": 1}


def test_a_full_repository_can_be_thinned_out_by_control(lived_in: World) -> None:
    lived_in.quota = "1"
    assert lived_in.create("day-3", check=False).returncode == 20
    lived_in.quota = "1G"
    lived_in.borg(
        "delete", f"{lived_in.url}::day-1", serving=lived_in.guard("--control"), client="control"
    )
    assert list(lived_in.archives()) == ["day-2"]


def test_quota_by_many_small_commits(lived_in: World) -> None:
    """Bytes on the disk are what counts: deletions and empty commits cost, too."""
    used = sum(-(-p.stat().st_size // 4096) * 4096 for p in lived_in.repository.glob("data/*/*"))
    lived_in.quota = str(used + 300_000)
    with lived_in.opened() as connection:
        with pytest.raises(ServeError) as over:
            for _unused in range(1000):
                connection.call("put", id=NEW, data=b"x")
                connection.call("delete", id=NEW)
                connection.call("commit")
        assert over.value.kind == "StorageQuotaExceeded"
    with lived_in.opened() as connection, pytest.raises(ServeError):
        connection.call("put", id=NEW, data=b"x" * 200_000)
    on_disk = sum(-(-p.stat().st_size // 4096) * 4096 for p in lived_in.repository.glob("data/*/*"))
    assert on_disk <= used + 300_000


def test_plain_serving_lets_more_onto_the_disk_than_its_quota(lived_in: World) -> None:
    """The control: why the guard keeps the quota itself."""
    used = sum(path.stat().st_size for path in lived_in.repository.glob("data/*/*"))
    serving = [*lived_in.plain(), "--storage-quota", "10M"]
    with lived_in.connect(serving=serving) as connection:
        connection.open(str(lived_in.repository), exclusive=True, lock_wait=1)
        for number in range(1, 20):
            with contextlib.suppress(ServeError):
                connection.call("put", id=bytes([number]) * 32, data=os.urandom(1_000_000))
        on_disk = sum(path.stat().st_size for path in lived_in.repository.glob("data/*/*"))
    assert on_disk > used + 15_000_000


# Maintenance, time limits, signals


def test_maintenance_keeps_the_box_out(lived_in: World) -> None:
    with lived_in.lock.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        done = subprocess.run(
            lived_in.guard(), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        assert done.returncode == serve.EXIT_BUSY
        assert b"in maintenance" in done.stderr
        out = lived_in.create("day-3", check=False)
        assert "in maintenance" in out.stderr
    lived_in.create("day-3")


def test_a_closed_repository_opens_again_by_itself(lived_in: World) -> None:
    closed = Path(f"{lived_in.lock}.closed")
    closed.write_text(str(time.time() + 3600))
    assert lived_in.create("day-3", check=False).returncode != 0
    closed.write_text("not a time")
    assert lived_in.create("day-3", check=False).returncode != 0
    closed.write_text(str(time.time() - 1))
    lived_in.create("day-3")


def test_a_session_holds_the_lock_shared(lived_in: World) -> None:
    with lived_in.opened(), lived_in.lock.open() as stream, pytest.raises(BlockingIOError):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_waiting_for_maintenance_to_end(lived_in: World) -> None:
    lived_in.extra = ["--lock-wait", "20"]
    with lived_in.lock.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        box = lived_in.popen("create", f"{lived_in.url}::day-3", ".")
        time.sleep(1)
        fcntl.flock(stream, fcntl.LOCK_UN)
        assert box.wait(timeout=60) == 0
    assert box.stderr is not None
    box.stderr.close()


def test_a_missing_lock_file_stops(lived_in: World) -> None:
    lived_in.lock.unlink()
    done = lived_in.create("day-3", check=False)
    assert done.returncode != 0
    assert "systemd-tmpfiles" in done.stderr


def test_a_silent_client_is_hung_up_on(lived_in: World) -> None:
    lived_in.extra = ["--idle-timeout", "3"]
    with lived_in.opened() as connection:
        connection._process.wait(timeout=120)
        with pytest.raises(ServeError, match="said nothing for too long"):
            connection.call("get", id=MANIFEST)
    assert not list(lived_in.repository.glob("lock.*"))


def test_a_session_does_not_last_for_ever(lived_in: World) -> None:
    lived_in.extra = ["--session-timeout", "4"]
    with lived_in.opened() as connection, pytest.raises(ServeError, match="ended the connection"):
        for _unused in range(100):
            connection.call("get", id=MANIFEST)
            time.sleep(0.1)
    assert not list(lived_in.repository.glob("lock.*"))


def test_the_host_can_end_a_session(lived_in: World) -> None:
    with lived_in.opened() as connection:
        connection.call("put", id=NEW, data=b"x")
        connection._process.send_signal(signal.SIGTERM)
        with pytest.raises(ServeError, match="ended by the repository host"):
            connection.call("commit")
    assert not list(lived_in.repository.glob("lock.*")), "the lock is given back"
    lived_in.create("day-3")
    with lived_in.opened() as connection:
        assert NEW not in list(connection.scan())


# What is not borg's protocol


def test_old_clients_and_nonsense(lived_in: World) -> None:
    with lived_in.connect() as connection, pytest.raises(ServeError, match=r"older than borg 1\.1"):
        connection.call("negotiate", client_data=2)
    with lived_in.connect() as connection:
        connection.send(pack([1, 2, 3]))
        with pytest.raises(ServeError, match="ended the connection"):
            connection.call("negotiate", client_data={})
    with lived_in.connect() as connection, pytest.raises(ServeError, match="no repository is open"):
        connection.call("put", id=NEW, data=b"x")
    lived_in.create("day-3")


def test_nothing_of_the_client_reaches_the_server(lived_in: World) -> None:
    """The command a client asks for, and variables, change nothing."""
    environment = {
        **os.environ,
        "SSH_ORIGINAL_COMMAND": "borg serve --restrict-to-path / --umask 000",
        "BORG_LOGGING_CONF": "/nonexistent",
        "PYTHONPATH": "/nonexistent",
    }
    with ServeConnection(lived_in.guard(), env=environment, timeout=60) as connection:
        connection.open(str(lived_in.repository), exclusive=True)
        with pytest.raises(ServeError, match="refused destroy"):
            connection.call("destroy")


def test_new_files_are_private(lived_in: World) -> None:
    for path in lived_in.repository.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


# An unknown borg


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ("borg.__version__ = '1.2.4'", "borg 1.2.4 is not of the 1.4 series"),
        ("borg.__version__ = '2.0.0b14'", "is not of the 1.4 series"),
        ("borg.repository.Repository.put = lambda self, id, blob: None", "changed repository"),
        ("del borg.repository.Repository.prepare_txn", "has no repository.Repository.prepare_txn"),
        ("borg.repository.Manifest.MANIFEST_ID = b'x' * 32", "keeps its manifest elsewhere"),
        ("sys.modules['borg'] = None", "no borg can be imported"),
    ],
)
def test_an_unknown_borg_is_not_served_with(lived_in: World, patch: str, expected: str) -> None:
    program = (
        "import sys, runpy, borg, borg.remote, borg.repository\n"
        f"{patch}\n"
        f"sys.argv = ['serve.py', *sys.argv[1:]]\n"
        f"runpy.run_path({str(GUARD)!r}, run_name='__main__')\n"
    )
    command = lived_in.guard()
    command[1:3] = ["-I", "-c", program]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == serve.EXIT_UNSUPPORTED
    assert expected in done.stderr


def test_this_borg_is_known(world: World) -> None:
    # By its path: a borg.py stands beside the guard, and must not be taken for borg itself.
    program = f"import runpy; print(runpy.run_path({str(GUARD)!r})['api_reason']())"
    done = subprocess.run(
        [python_of(world.borg_path), "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "None"
