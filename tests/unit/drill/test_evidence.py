# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence: signed, chained, never overwritten, and every change to it is found."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils import evidence
from ansible_collections.lifeboat.agents.plugins.module_utils.evidence import (
    EvidenceError,
    Outcome,
    SshKeygen,
    Writer,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.evidence_record import (
    Facts,
    compose,
    could_not_run,
    since,
)
from ansible_collections.lifeboat.agents.plugins.modules import drill_evidence_info


@pytest.fixture(scope="module")
def key() -> str:
    return evidence.generate_key()


def record(facts: dict[str, Any], day: int = 1) -> dict[str, Any]:
    def moved(part: str, **times: str) -> dict[str, Any]:
        return {**facts[part], **times}

    newest = facts["newest"]["time"].replace("2026-11-22", f"2026-11-{day:02}")
    changed = {
        **facts,
        "drill": moved("drill", started=f"2026-11-{day:02}T21:00:00Z"),
        "archive": moved("archive", time=f"2026-11-{day:02}T20:00:00Z"),
        "newest": moved("newest", time=newest),
    }
    return compose(Facts.from_dict(changed), finished="2026-11-22T21:02:00Z")


def at(day: int, hour: int = 21, year: int = 2026) -> Callable[[], datetime.datetime]:
    return lambda: datetime.datetime(year, 11, day, hour, tzinfo=datetime.timezone.utc)


@pytest.fixture
def three(tmp_path: Path, key: str, facts: dict[str, Any]) -> Path:
    for day in (1, 2, 3):
        Writer(str(tmp_path), key, clock=at(day)).write(record(facts, day))
    return tmp_path


def problems(directory: Path) -> list[list[str]]:
    return [list(item.problems) for item in evidence.verify(str(directory), "acme")]


def test_what_was_written_verifies(three: Path) -> None:
    assert problems(three) == [[], [], []]
    names = sorted(os.listdir(three / "acme"))
    assert names[:2] == ["20261101T210000Z-0a1b2c3d.json", "20261101T210000Z-0a1b2c3d.json.sig"]
    assert oct((three / "acme" / names[0]).stat().st_mode & 0o777) == "0o644"


def _edit(folder: Path) -> None:
    path = sorted(folder.glob("*.json"))[1]
    path.write_text(path.read_text().replace('"proven"', '"not_proven"'))


def _remove_middle(folder: Path) -> None:
    path = sorted(folder.glob("*.json"))[1]
    path.unlink()


def _remove_first(folder: Path) -> None:
    sorted(folder.glob("*.json"))[0].unlink()


def _unsign(folder: Path) -> None:
    sorted(folder.glob("*.sig"))[2].unlink()


def _swap_signature(folder: Path) -> None:
    signatures = sorted(folder.glob("*.sig"))
    signatures[2].write_bytes(signatures[0].read_bytes())


def _exchange(folder: Path) -> None:
    """Another record, properly signed by the same key, in the place of the second one."""
    first, second, _third = sorted(folder.glob("*.json"))
    second.write_bytes(first.read_bytes())
    second.with_name(second.name + ".sig").write_bytes(
        first.with_name(first.name + ".sig").read_bytes()
    )


def _garble(folder: Path) -> None:
    sorted(folder.glob("*.json"))[2].write_text("{")


def _newer_format(folder: Path) -> None:
    path = sorted(folder.glob("*.json"))[2]
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_edit, "signature does not hold"),
        (_edit, "was altered"),
        (_remove_middle, "should be"),
        (_remove_first, "is gone"),
        (_unsign, "has no signature"),
        (_swap_signature, "signature does not hold"),
        (_exchange, "does not name the record before it"),
        (_garble, "is not JSON"),
        (_newer_format, "has the format 2"),
    ],
)
def test_every_change_is_found(three: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(three / "acme")
    assert message in "; ".join(text for item in problems(three) for text in item)


def test_a_stranger_cannot_sign(three: Path, facts: dict[str, Any]) -> None:
    signers = (three / "allowed_signers").read_text()
    Writer(str(three), evidence.generate_key()).write(record(facts, 4))
    (three / "allowed_signers").write_text(signers)  # the auditor's own copy
    assert "signature does not hold" in problems(three)[3][0]


def test_a_second_key_of_ours_is_trusted_beside_the_first(
    three: Path, facts: dict[str, Any]
) -> None:
    Writer(str(three), evidence.generate_key()).write(record(facts, 4))
    assert problems(three) == [[], [], [], []]


def test_nothing_is_overwritten(three: Path) -> None:
    with pytest.raises(EvidenceError, match="never overwritten"):
        evidence.store(str(three / "allowed_signers"), b"", replace=False)


def test_a_drill_that_began_before_the_newest_record_gets_its_own(
    three: Path, key: str, facts: dict[str, Any]
) -> None:
    """While one was at work, another one began later and ended earlier."""
    path, written = Writer(str(three), key, clock=at(4)).write(record(facts, 2))
    assert os.path.basename(path) == "20261104T210000Z-0a1b2c3d"
    assert written["drill"]["started"] == "2026-11-02T21:00:00Z"
    assert written["clock"] == ""
    assert problems(three) == [[], [], [], []]


def test_a_clock_that_ran_ahead_blocks_nobody(three: Path, key: str, facts: dict[str, Any]) -> None:
    Writer(str(three), key, clock=at(1, year=2030)).write(record(facts, 4))
    for _again in range(2):
        path, written = Writer(str(three), key, clock=at(5)).write(record(facts, 5))
    assert os.path.basename(path) == "20301101T210002Z-0a1b2c3d"
    assert "20261105T210000Z" in written["clock"]
    assert problems(three) == [[]] * 6


def test_two_runs_at_once_do_not_fork_the_chain(
    three: Path, key: str, facts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting = threading.Barrier(2)
    read = evidence.history

    def slow(directory: str, agent: str) -> list[evidence.Record]:
        found = read(directory, agent)
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(0.5)  # in vain, while the other one waits for the lock
        return found

    monkeypatch.setattr(evidence, "history", slow)
    writer = Writer(str(three), key)
    runs = [threading.Thread(target=writer.write, args=[record(facts, day)]) for day in (4, 5)]
    for item in runs:
        item.start()
    for item in runs:
        item.join()
    monkeypatch.undo()
    assert problems(three) == [[]] * 5


def test_who_waited_longest_is_not_asked_of_the_future(
    three: Path, key: str, facts: dict[str, Any]
) -> None:
    ahead = {**facts, "drill": {**facts["drill"], "started": "2999-01-01T00:00:00Z"}}
    Writer(str(three), key, clock=at(4)).write(compose(Facts.from_dict(ahead)))
    found = drill_evidence_info.read({"directory": str(three), "agents": [], "verify": True})
    assert found["last_drilled"] == {"acme": "2026-11-03T21:00:00Z"}


def test_a_failing_ssh_keygen_says_why(tmp_path: Path, facts: dict[str, Any]) -> None:
    keygen = SshKeygen(lambda argv, stdin: Outcome(255, "", "invalid format"))
    with pytest.raises(EvidenceError, match="invalid format"):
        Writer(str(tmp_path), "no key", keygen).write(record(facts))
    assert list((tmp_path / "acme").iterdir()) == []


def test_the_private_key_never_stays(tmp_path: Path, key: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with evidence.private_file(key) as path:
        assert os.stat(path).st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == []


def test_a_record_says_what_was_reached_and_what_was_not(facts: dict[str, Any]) -> None:
    found = record(facts, 22)
    assert found["verdict"]["result"] == "proven"
    assert found["verdict"]["level"] == 5
    assert found["objectives"]["rto"] == {
        "name": "rto",
        "target": 600.0,
        "measured": 120.0,
        "basis": "provision + install + extract + verify + start",
        "judged": True,
        "met": True,
    }
    assert found["objectives"]["rpo"]["measured"] == 3660.0
    assert [item["name"] for item in found["not_tested"]] == ["L1 check", "L2 verify data"]


def test_missed_objectives_fail_the_drill(facts: dict[str, Any]) -> None:
    facts["agent"]["rto_target"] = "1m"
    assert record(facts)["verdict"]["result"] == "not_proven"
    facts["agent"].update(rto_target="10m", rpo_target="1h")
    late = record(facts, 22)
    assert late["verdict"]["result"] == "not_proven"
    assert "RPO" in late["verdict"]["reason"]


def test_an_idle_agent_does_not_miss_its_rpo(facts: dict[str, Any]) -> None:
    facts["agent"]["rpo_target"] = "1h"
    facts["production"] = {"newest": "2026-11-22T19:59:00Z"}
    found = record(facts, 22)
    assert found["objectives"]["rpo"]["measured"] == 0.0
    assert found["verdict"]["result"] == "proven"


STARTED, RESTORED, ARCHIVED = (
    f"2026-11-22T{time}Z" for time in ("21:00:00", "19:59:00", "20:00:00")
)
HOUR = 3600.0

# What the live agent answers, what differs in the archive, the RPO, whether it is met, and why.
RPOS: dict[str, tuple[dict[str, Any], dict[str, str], float | None, bool, str]] = {
    "not asked": ({}, {}, 61 * 60, False, "the start of the drill"),
    "idle": ({"newest": RESTORED}, {}, 0.0, True, "against the live agent's"),
    "busy": ({"newest": "2026-11-22T20:29:00Z"}, {}, 30 * 60, True, "against the live agent's"),
    "busy during the drill": (
        *({"newest": "2026-11-22T21:01:00Z"}, {}),
        *(61 * 60, False, "the start of the drill"),
    ),
    "older than what was restored": (
        *({"newest": "2026-11-21T00:00:00Z"}, {}),
        *(61 * 60, False, "its newest data, 2026-11-21T00:00:00Z, is older than what was restored"),
    ),
    "an answer that is no time": (
        *({"newest": "yesterday"}, {}),
        *(61 * 60, False, "its answer is no time"),
    ),
    "a database in error": (
        *({"newest": RESTORED, "silent": ["state.db"]}, {}),
        *(61 * 60, False, "it tells no time of state.db"),
    ),
    "no database left that tells a time": (
        *({"silent": ["state.db"]}, {}),
        *(61 * 60, False, "it tells no time of state.db"),
    ),
    "claims to be idle while no backup came for three months": (
        {"newest": "2026-08-22T19:59:00Z"},
        {"newest": "2026-08-22T19:59:00Z", "time": "2026-08-22T20:00:00Z"},
        *(92 * 24 * HOUR + 61 * 60, False, "the archive is too old for that"),
    ),
    "idle, and the archive is of last night": (
        *({"newest": "2026-10-01T00:00:00Z"},),
        {"newest": "2026-10-01T00:00:00Z", "time": "2026-11-21T20:30:00Z"},
        *(0.0, True, "against the live agent's"),
    ),
    "a row of the future": (
        *({"newest": "2099-01-01T00:00:00Z"}, {"newest": "2099-01-01T00:00:00Z"}),
        *(HOUR, True, "2099-01-01T00:00:00Z, is later than that, and is not believed"),
    ),
    "a row of the future in an old archive": (
        *({"newest": "2026-11-22T20:59:59Z"},),
        {"newest": "2026-11-22T20:59:59Z", "time": "2026-08-22T20:00:00Z"},
        *(92 * 24 * HOUR + HOUR, False, "is later than that, and is not believed"),
    ),
    "a row of just after the archive": (
        *({}, {"newest": "2026-11-22T20:04:00Z"}),
        *(56 * 60, True, "the start of the drill"),
    ),
    "an archive of the future": (
        *({"newest": RESTORED}, {"time": "2026-11-22T22:00:00Z"}),
        *(None, False, "after the start of the drill"),
    ),
}


@pytest.mark.parametrize("name", RPOS)
def test_what_the_live_agent_says_cannot_hide_a_loss(facts: dict[str, Any], name: str) -> None:
    production, archive, measured, met, basis = RPOS[name]
    facts["agent"]["rpo_target"] = "1h"
    facts["drill"]["started"] = STARTED
    facts["production"] = {"asked": True, **production}
    facts["newest"]["time"] = archive.get("newest", RESTORED)
    facts["archive"]["time"] = archive.get("time", ARCHIVED)
    found = compose(Facts.from_dict(facts))
    rpo = found["objectives"]["rpo"]
    assert (rpo["measured"], rpo["met"]) == (measured, met)
    assert basis in rpo["basis"]
    assert (found["verdict"]["result"] == "proven") == met
    ahead = [
        item for item in found["drift"] if item["what"] == "data that is newer than its archive"
    ]
    assert [item["where"] for item in ahead] == (
        [f"state.db messages.timestamp: {archive['newest']}"] if "row of the future" in name else []
    )


def test_an_older_archive_is_not_judged_by_its_age(facts: dict[str, Any]) -> None:
    facts["drill"]["selection"] = "random"
    facts["newest"]["time"] = "2026-10-01T00:00:00Z"
    found = record(facts)
    assert found["objectives"]["rpo"]["met"] is None
    assert found["verdict"]["result"] == "proven"


def test_a_drill_that_never_began_leaves_evidence(tmp_path: Path, key: str) -> None:
    drill = {"id": "0a", "started": "2026-11-22T21:00:00Z"}
    made = could_not_run(drill, {"agent": "acme"}, "preflight", "no vault secret", "give one")
    assert made["verdict"]["exit_code"] == 2
    Writer(str(tmp_path), key).write(made)
    assert problems(tmp_path) == [[]]


def test_drift_knows_since_when(three: Path, key: str, facts: dict[str, Any]) -> None:
    old = {"direction": "production", "what": "unknown", "where": "new/", "todo": "add a rule"}
    writer = Writer(str(three), key)
    asked = {**facts, "production": {"asked": True}}
    for day in (5, 6):
        writer.write(record({**asked, "drift": [old]}, day))
    writer.write(
        could_not_run(
            {**facts["drill"], "started": "2026-11-07T00:00:00Z"}, facts["agent"], "x", "y"
        )
    )
    writer.write(record({**facts, "production": {"asked": False}}, 7))  # clears nothing either
    history = evidence.history(str(three), "acme")
    fresh = {**old, "where": "newer/"}
    assert since([old, fresh], history) == [
        {**old, "since": "2026-11-05T21:00:00Z", "drills": 3},
        {**fresh, "since": None, "drills": 1},
    ]
