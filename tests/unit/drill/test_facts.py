# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From registered results to a record: whatever is missing or failed is never taken for good."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.lifeboat.agents.plugins.action import drill_evidence as action
from ansible_collections.lifeboat.agents.plugins.filter import drill as filters
from ansible_collections.lifeboat.agents.plugins.module_utils import evidence, restore_manifest
from ansible_collections.lifeboat.agents.plugins.module_utils.evidence_facts import (
    failure,
    gather,
    required_level,
)
from ansible_collections.lifeboat.agents.plugins.module_utils.evidence_record import compose
from ansible_collections.lifeboat.agents.plugins.module_utils.report_text import lines
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_manifest import RestoreError
from ansible_collections.lifeboat.agents.plugins.module_utils.restore_session import select
from ansible_collections.lifeboat.agents.plugins.module_utils.settings import described
from ansible_collections.lifeboat.agents.plugins.module_utils.verdict import classify_failure
from ansible_collections.lifeboat.agents.plugins.modules import drill_evidence_info


def health(phase: str, level: int, **more: Any) -> dict[str, Any]:
    check = {"name": phase, "level": level, "status": "passed", "phase": phase}
    return {"healthy": True, "checks": [check], "installed_version": "0.19.0", **more}


RAW: dict[str, Any] = {
    "drill": {"id": "0a1b2c3d", "run": "r1", "started": "2026-11-22T21:00:00Z", "parallel": 1},
    "agent": {
        "agent": "acme",
        "host": "acme-agent",
        "profile": "hermes",
        "user": "hermes",
        "home": "/home/hermes/.hermes",
        "rto_target": "1h",
        "rpo_target": "26h",
    },
    "repository": {"name": "vault1", "id": "5f" * 32, "url": "ssh://lb-acme@vault1/srv"},
    "profile": {"health": {"commands": [{"name": "x"}]}, "install": {"runtime": "hermes"}},
    "required_level": "",
    "check": "none",
    "phase": "start",
    "phases": {"provision": 20, "install": 40, "extract": 30, "verify": 10, "start": 20},
    "failed": {},
    "found": {
        "archives": [{"name": "acme-1"}],
        "selected": {"name": "acme-1", "id": "9b", "time": "2026-11-22T20:00:00Z"},
        "seconds": 0.8,
    },
    "restored": {
        "archive": "acme-1",
        "archive_id": "9b",
        "archive_time": "2026-11-22T20:00:00Z",
        "borg_warnings": [],
        "phases": {"extract": 3.0},
        "summary": {
            "agent": {"version": "0.19.0", "user": "hermes", "home": "/home/hermes/.hermes"}
        },
    },
    "health": [
        health(
            "restored",
            4,
            newest={"time": "2026-11-22T19:59:00Z", "source": "state.db"},
            contents={"tops": ["SOUL.md", "state.db"], "databases": ["state.db"]},
        ),
        health("started", 5),
    ],
    "fence": {"allowed": [], "reached": [], "failed": {"tcp 1.1.1.1 443": "timed out"}},
    "production": {},
    "audit": {},
    "leftovers": [],
}


def answer(audit: object) -> dict[str, Any]:
    """What `lifeboat audit` said on the live box, as the task registered it."""
    return {"rc": 0, "stdout": json.dumps(audit), "stderr": ""}


@pytest.fixture
def raw() -> dict[str, Any]:
    return copy.deepcopy(RAW)


def verdict(raw: dict[str, Any]) -> dict[str, Any]:
    return dict(compose(gather(raw))["verdict"])


def test_a_whole_drill_is_proven(raw: dict[str, Any]) -> None:
    record = compose(gather(raw))
    assert record["verdict"]["result"] == "proven"
    assert record["agent"]["installed_version"] == record["agent"]["version"] == "0.19.0"
    assert [check["name"] for check in record["checks"]] == [
        "repository_reachable",
        "extraction",
        "restored",
        "started",
        "fence",
    ]


@pytest.mark.parametrize(
    ("live", "basis"), [(["state.db"], "live agent's, 2026"), ([], "no time of")]
)
def test_a_live_agent_whose_database_tells_no_time_explains_no_gap(
    raw: dict[str, Any], live: list[str], basis: str
) -> None:
    raw["health"][0]["contents"]["dated"] = ["state.db"]
    raw["production"] = health(
        "production", 4, newest={"time": "2026-11-22T19:59:00Z"}, contents={"dated": live}
    )
    assert basis in compose(gather(raw))["objectives"]["rpo"]["basis"]


def test_a_rehearsal_is_never_proven(raw: dict[str, Any]) -> None:
    raw["drill"]["rehearsal"] = "harm.yml"
    record = compose(gather(raw))
    assert record["verdict"]["result"] == "not_proven"
    assert "harm.yml" in record["verdict"]["reason"]
    assert any("harm.yml did harm on purpose" in line for line in lines(record))


def test_a_rehearsal_that_was_found_names_what_found_it(raw: dict[str, Any]) -> None:
    raw["drill"]["rehearsal"] = "harm.yml"
    raw["health"][0]["checks"][0]["status"] = "failed"
    record = compose(gather(raw))
    assert [c["name"] for c in record["checks"] if c["status"] == "failed"] == ["restored"]
    assert record["verdict"]["result"] == "not_proven"


def test_a_rehearsal_that_ended_the_drill_says_nothing_about_the_backup(
    raw: dict[str, Any],
) -> None:
    raw["drill"]["rehearsal"] = "harm.yml"
    raw["failed"] = {"task": "x", "gone": True, "result": {"unreachable": True, "msg": "gone"}}
    assert verdict(raw)["result"] == "could_not_run"


@pytest.mark.parametrize("missing", ["found", "restored", "health", "fence", "phases"])
def test_what_is_missing_is_never_green(raw: dict[str, Any], missing: str) -> None:
    raw[missing] = {}
    assert verdict(raw)["result"] != "proven"


@pytest.mark.parametrize(
    "gone",
    [
        {"unreachable": True, "msg": "Failed to connect"},
        {"failed": True, "msg": "boom"},
        {"skipped": True},
        {},
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_health_check_that_did_not_happen_is_never_green(
    raw: dict[str, Any], gone: dict[str, Any], place: int
) -> None:
    raw["health"][place] = gone
    assert verdict(raw)["result"] != "proven"


def test_a_hole_in_the_fence_is_not_proven(raw: dict[str, Any]) -> None:
    raw["fence"]["reached"] = ["tcp 1.1.1.1 443"]
    assert verdict(raw)["reason"].startswith("fence: ")
    raw["fence"] = {"allowed": [], "reached": [], "failed": {}}
    assert verdict(raw)["result"] == "not_proven"


def test_the_open_fence_proves_nothing(raw: dict[str, Any]) -> None:
    raw["fence"]["allowed"] = ["tcp vault1 22"]
    assert verdict(raw)["reason"].endswith("fence: nobody tried to get out of the box")


def test_warnings_of_borg_are_not_proven(raw: dict[str, Any]) -> None:
    raw["restored"]["borg_warnings"] = ["state.db: short read"]
    assert verdict(raw)["reason"].startswith("extraction: ")


def test_a_box_that_died_could_not_run(raw: dict[str, Any]) -> None:
    raw["failed"] = {"task": "Look", "result": {"msg": "timed out"}, "gone": True}
    found = verdict(raw)
    assert found["result"] == "could_not_run"
    assert "did not answer any more" in found["reason"]


def test_a_failed_loop_tells_its_item() -> None:
    result = {
        "msg": "One or more items failed",
        "results": [{}, {"failed": True, "msg": "no room"}],
    }
    found = failure({"phase": "provision", "failed": {"task": "Make", "result": result}})
    assert found is not None
    assert found["message"] == "no room (task: Make)"


def test_messages_lose_the_layers_of_ansible() -> None:
    deep = "Task failed: Finalization of task args for 'x' failed: Error while resolving value for 'y': "
    for message in (
        "Task failed: Action failed: no room",
        f"{deep}The filter plugin 'lifeboat.agents.drill_plan' failed: no room",
        "no room",
    ):
        found = failure({"failed": {"result": {"msg": message}}})
        assert found is not None
        assert found["message"] == "no room"


def test_an_exit_code_of_something_else_is_not_borgs(raw: dict[str, Any]) -> None:
    raw.update(phase="identity", failed={"result": {"msg": "ssh-keygen failed", "rc": 52}})
    raw.update(found={}, restored={}, health=[], fence={})
    assert verdict(raw)["result"] == "could_not_run"
    raw["failed"]["result"]["failure"] = {"rc": 52, "hint": ""}
    assert verdict(raw)["result"] == "not_proven"


def test_a_configuration_that_was_refused_is_not_proven(raw: dict[str, Any]) -> None:
    said = "The agent's configuration is refused: config.yaml has to be a regular file."
    raw.update(phase="start", failed={"task": "Refuse", "result": {"msg": said}})
    assert verdict(raw)["result"] == "not_proven"
    raw["failed"]["result"]["msg"] = "IntegrityError: the agent's own"
    assert verdict(raw)["result"] == "could_not_run"


def loss(error: RestoreError) -> bool:
    payload = error.payload()
    return classify_failure("identity", payload["msg"], payload["failure"]).proves_loss


def test_what_restore_says_of_a_loss_is_understood() -> None:
    for archive, at in (("latest", ""), ("acme-x", ""), ("latest", "2020-01-01")):
        with pytest.raises(RestoreError) as caught:
            select([], "acme", archive, at)
        assert loss(caught.value)
    with pytest.raises(RestoreError) as caught:
        restore_manifest.parse(b'{"format": 1, "agent": {"name": "x", "home": "/x/y"}}', "acme")
    assert loss(caught.value)


@pytest.mark.parametrize(
    ("file", "phrase"),
    [
        ("plugins/module_utils/restore_session.py", "This is not the repository that the vault"),
        ("plugins/module_utils/restore_session.py", "holds no manifest"),
        ("plugins/module_utils/restore_session.py", "is not complete"),
        ("plugins/action/escrow.py", "There is no escrow of agent"),
        ("roles/drill/tasks/prepare.yml", "holds no key for"),
        (
            "roles/agent/tasks/runtimes/hermes/model_stub.yml",
            "The agent's configuration is refused",
        ),
        ("roles/drill/tasks/snapshot.yml", "There is no snapshot"),
        ("plugins/module_utils/ledger_control.py", "borg check {outcome}"),
        ("plugins/module_utils/ledger_control.py", "found errors"),
    ],
)
def test_phrases_of_a_loss_stand_in_their_source(file: str, phrase: str) -> None:
    assert phrase in (Path(__file__).parents[3] / file).read_text()


def test_the_required_level_follows_the_profile() -> None:
    asks = {"health": {"http": {"url": "x"}}}
    assert required_level({"profile": {**asks, "install": {"runtime": "hermes"}}}) == 5
    assert required_level({"profile": asks}) == 4, "nobody can start it in a drill"
    assert required_level({"profile": {}}) == 4
    assert required_level({"profile": {}, "required_level": "3"}) == 3


def test_every_shipped_profile_can_be_proven() -> None:
    """What is required is what a drill does: it starts an agent only where it can install one."""
    profiles = sorted((Path(__file__).parents[3] / "profiles").glob("*.yml"))
    assert profiles
    for path in profiles:
        profile = yaml.safe_load(path.read_text())
        started = (profile.get("install") or {}).get("runtime", "generic") != "generic"
        assert (required_level({"profile": profile}) == 5) <= started, path.name


def test_what_is_new_is_seen_behind_many_that_are_dropped(raw: dict[str, Any]) -> None:
    dropped = [{"path": f"cache{number}/", "class": "drop", "files": 1} for number in range(99)]
    new = {"path": "plans/", "class": "keep", "files": 3}
    raw["audit"] = answer({"entries": [*dropped, new]})
    assert [item["where"] for item in gather(raw).drift] == ["plans/"]


def test_of_many_findings_some_are_listed_and_the_rest_is_counted(raw: dict[str, Any]) -> None:
    raw["audit"] = answer({"unknown": [{"path": f"new{number}/"} for number in range(70)]})
    drift = gather(raw).drift
    assert len(drift) == 51
    assert "20 more" in drift[-1]["todo"]


def test_a_live_agent_that_was_not_asked_is_said_and_clears_nothing(raw: dict[str, Any]) -> None:
    raw["audit"] = {}
    record = compose(gather(raw))
    assert record["production_asked"] is False
    assert "drift of the live agent" in {item["name"] for item in record["not_tested"]}
    raw["audit"] = answer({"unknown": [{"path": "new/"}]})
    record = compose(gather(raw))
    assert record["production_asked"] is True
    assert "drift of the live agent" not in {item["name"] for item in record["not_tested"]}


@pytest.mark.parametrize(
    ("audit", "why"),
    [
        ({"stdout": "warning: slow\n{}"}, "answered no JSON object: 'warning: slow"),
        ({"stdout": "[" * 200_000}, "answered no JSON object: '[[[["),
        ({"stdout": '["x"]'}, "answered no JSON object: '[\"x\"]'"),
        ({"stdout": "", "stderr": "lifeboat: no such agent"}, "lifeboat: no such agent"),
        ({"stdout": "", "stderr": "lifeboat: gone\n         is it there?\n"}, "gone; is it there?"),
        ({"msg": "Task failed: Timed out after 600 second(s)."}, "Timed out after 600"),
    ],
)
def test_a_live_box_that_talks_nonsense_was_not_asked(
    raw: dict[str, Any], audit: dict[str, Any], why: str
) -> None:
    raw["audit"] = audit
    record = compose(gather(raw))
    assert record["verdict"]["result"] == "proven"
    assert record["production_asked"] is False
    reasons = {item["name"]: item["reason"] for item in record["not_tested"]}
    assert why in reasons["drift of the live agent"]


def test_a_live_box_that_answers_in_other_shapes_costs_no_record(raw: dict[str, Any]) -> None:
    raw["audit"] = answer(
        {"unknown": 3, "databases": [{"path": ["x"]}, 4], "entries": [{"path": {}, "class": []}]}
    )
    raw["production"] = health("production", 4, newest=7)
    raw["production"]["checks"][0].update(status="failed", offenders=5)
    assert verdict(raw)["result"] == "proven"


def test_drift_in_both_directions(raw: dict[str, Any]) -> None:
    raw["audit"] = answer(
        {
            "unknown": [{"path": "newthing/", "decision": "kept", "reason": "clean"}],
            "problems": [{"message": "broken.yaml: withheld", "hint": "repair it", "error": False}],
            "entries": [
                {"path": "SOUL.md", "class": "keep", "files": 1},
                {"path": "plans/", "class": "keep", "files": 3},
                {"path": "logs/", "class": "drop", "files": 9},
            ],
            "databases": [{"path": "state.db"}, {"path": "kanban.db"}],
            "troubles": [],
        }
    )
    raw["production"] = health(
        "production", 4, newest={"time": "2026-11-22T20:30:00Z"}, healthy=False
    )
    raw["production"]["checks"][0].update(status="failed", found="2 files", name="entries_owner")
    raw["agent"]["user"] = "other"
    record = compose(gather(raw))
    assert [(item["direction"], item["where"]) for item in record["drift"]] == [
        ("production", "broken.yaml: withheld"),
        ("production", "kanban.db"),
        ("production", "newthing/"),
        ("production", "plans/"),
        ("production", "2 files"),
        ("archive", "hermes, inventory other"),
    ]
    assert record["objectives"]["rpo"]["measured"] == 31 * 60


SETTINGS = {
    "unknown": "keep",
    "secret_patterns": [],
    "repositories": [{"name": "v1", "url": "ssh://lb-a@v1:22/srv/a"}],
}
PROFILE = {"name": "generic", "rules": [{"match": "a/", "class": "keep"}]}


def test_settings_are_short_and_tell_what_differs() -> None:
    told = described(SETTINGS, PROFILE)
    assert told["unknown"] == "keep"
    assert told["secret_patterns"] == told["compression"] == "none"
    assert told["repository v1"] == "ssh://lb-a@v1:22/srv/a"
    rules = {"name": "generic", "rules": [{"class": "keep", "match": "a/"}]}
    assert told == described(SETTINGS, rules)  # the order of keys is nothing
    other = described(SETTINGS, {**PROFILE, "rules": [{"match": "b/", "class": "keep"}]})
    assert {name for name in told if told[name] != other[name]} == {"profile: rules"}
    assert told["profile: rules"].startswith("1 entries, sha256 ")


@pytest.mark.parametrize("direction", ["archive", "production"])
def test_drift_of_what_a_backup_was_told(raw: dict[str, Any], direction: str) -> None:
    told = described(SETTINGS, PROFILE)
    raw["settings"] = described({**SETTINGS, "unknown": "drop"}, {**PROFILE, "health": {"x": 1}})

    def tell(told: dict[str, Any]) -> None:
        raw["restored"]["summary"]["configuration"] = told if direction == "archive" else None
        raw["audit"] = answer({"configuration": told}) if direction == "production" else {}

    tell(told)
    found = [item for item in compose(gather(raw))["drift"] if "configured" in item["what"]]
    assert {item["direction"] for item in found} == {direction}
    assert [item["where"].split(":")[0:2] for item in found] == [
        ["profile", " health"],
        ["unknown", " keep, inventory drop"],
    ]
    assert all("site.yml" in item["todo"] for item in found)
    tell(raw["settings"])
    assert not [item for item in compose(gather(raw))["drift"] if "configured" in item["what"]]


def test_settings_that_nobody_knows_are_no_drift(raw: dict[str, Any]) -> None:
    raw["restored"]["summary"]["configuration"] = described(SETTINGS, PROFILE)
    raw["settings"] = {}
    assert not [item for item in compose(gather(raw))["drift"] if "configured" in item["what"]]


# -- the plan -----------------------------------------------------------------------------------

FLEET = [{"agent": name, "repositories": [{"name": "v1"}, {"name": "v2"}]} for name in "abcd"]


def names(**arguments: Any) -> str:
    return "".join(entry["agent"] for entry in filters.drill_plan(FLEET, **arguments))


def test_who_is_drilled() -> None:
    drilled = {"a": "2026-11-03", "b": "2026-11-01", "d": "2026-11-02"}
    assert names() == "abcd"
    assert names(agent="b") == "b"
    assert names(agent="d,a") == "da"
    assert names(last_drilled=drilled) == "cbda"
    assert names(sample=2, last_drilled=drilled) == "cb"
    assert names(agent="a,d", sample=1, last_drilled=drilled) == "d"


@pytest.mark.parametrize(
    ("fleet", "arguments", "message"),
    [
        ([], {}, "names no agent"),
        (FLEET, {"agent": "x"}, "There are: a, b, c, d"),
        (FLEET, {"sample": -1}, "negative"),
    ],
)
def test_a_plan_that_cannot_be(fleet: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        filters.drill_plan(fleet, **arguments)


def test_which_repository_is_read() -> None:
    assert filters.drill_repository(FLEET[0]) == {"name": "v1"}
    assert filters.drill_repository(FLEET[0], "v2") == {"name": "v2"}
    with pytest.raises(AnsibleFilterError, match="v1, v2"):
        filters.drill_repository(FLEET[0], "v3")


def test_only_a_proven_run_ends_well() -> None:
    assert filters.drill_ended("proven") is False
    for result in ("not_proven", "could_not_run", ""):
        with pytest.raises(AnsibleFilterError, match=r"NOT PROVEN|COULD NOT RUN"):
            filters.drill_ended(result, "1 of 2 proven")


# -- the action plugin --------------------------------------------------------------------------


def vault(text: bytes = b"secret") -> VaultLib:
    return VaultLib([("default", VaultSecret(text))])


def plugin(secrets: VaultLib, check_mode: bool = False) -> Any:
    made = action.ActionModule.__new__(action.ActionModule)
    made._loader = SimpleNamespace(_vault=secrets)
    made._task = SimpleNamespace(check_mode=check_mode)
    return made


def arguments(folder: Path, state: str, **more: Any) -> dict[str, Any]:
    base = {"state": state, "directory": str(folder / "e"), "signing_key": str(folder / "v/key")}
    defaults = {"facts": {}, "run": {}, "agents": [], "failed": {}, "overdue_days": 35}
    return {**base, **defaults, **more}


def test_a_run_from_beginning_to_end(tmp_path: Path, raw: dict[str, Any]) -> None:
    acts = plugin(vault())._act
    assert acts(arguments(tmp_path, "prepared")) == {"changed": True, "signed": True}
    assert acts(arguments(tmp_path, "prepared")) == {"changed": False, "signed": True}
    assert (tmp_path / "v/key").read_bytes().startswith(b"$ANSIBLE_VAULT")
    recorded = acts(arguments(tmp_path, "recorded", facts=raw))
    assert recorded["result"] == "proven"
    assert Path(recorded["path"]).is_file()
    fleet = [{"agent": "acme"}, {"agent": "globex"}]
    run = {"id": "r1", "provider": "podman"}
    published = acts(arguments(tmp_path, "published", run=run, agents=fleet))
    assert published["result"] == "could_not_run"  # nobody drilled globex
    assert published["summary"][-1] == "1 of 2 proven, 1 could not run"
    assert {item.name for item in (tmp_path / "e").iterdir()} == {
        *("acme", "globex", "allowed_signers", "index.html", "junit.xml", ".lock"),
    }
    found = drill_evidence_info.read(
        {"directory": str(tmp_path / "e"), "agents": [], "verify": True}
    )
    assert found["problems"] == []
    assert found["verified"] == 2
    assert found["agents"]["acme"]["last_result"] == "proven"
    assert found["last_drilled"]["acme"] == "2026-11-22T21:00:00Z"


def test_without_the_vault_secret_evidence_is_unsigned_and_not_green(
    tmp_path: Path, raw: dict[str, Any]
) -> None:
    plugin(vault())._act(arguments(tmp_path, "prepared"))
    for secrets in (VaultLib([]), vault(b"wrong")):
        acts = plugin(secrets)._act
        failed = {"task": "Try", "result": {"msg": "no vault secret"}}
        published = acts(
            arguments(
                tmp_path, "published", run={"id": "x"}, agents=[{"agent": "a"}], failed=failed
            )
        )
        assert published["result"] == "could_not_run"
        assert not published["signed"]
        assert "no vault secret" in published["summary"][0]
        for path in (tmp_path / "e" / "a").glob("*"):
            path.unlink()
    plugin(VaultLib([]))._act(arguments(tmp_path, "recorded", facts=raw))
    records = evidence.verify(str(tmp_path / "e"), "acme")
    assert records[0].result == "could_not_run"
    assert records[0].problems == ()


def test_a_signing_key_that_was_not_rekeyed_stops_the_run(
    tmp_path: Path, raw: dict[str, Any]
) -> None:
    plugin(vault(b"old"))._act(arguments(tmp_path, "prepared"))
    acts = plugin(vault(b"new"))._act
    with pytest.raises(evidence.EvidenceError, match="ansible-vault rekey"):
        acts(arguments(tmp_path, "prepared"))
    recorded = acts(arguments(tmp_path, "recorded", facts=raw))
    assert (recorded["exit_code"], recorded["signed"]) == (2, False)
    assert "cannot be decrypted" in recorded["record"]["verdict"]["reason"]
    published = acts(arguments(tmp_path, "published", run={"id": "r1"}, agents=[{"agent": "acme"}]))
    assert published["exit_code"] == 2


def test_a_proof_is_never_written_unsigned(tmp_path: Path, raw: dict[str, Any]) -> None:
    with pytest.raises(evidence.EvidenceError, match="cannot be signed"):
        evidence.Writer(str(tmp_path), None).write(compose(gather(raw)))
    assert list(tmp_path.iterdir()) == []


def test_who_cannot_sign_is_told_before_a_box_is_made() -> None:
    path = Path(__file__).parents[3] / "roles/drill/tasks/plan.yml"
    (run,) = yaml.safe_load(path.read_text())
    names = [task["name"] for task in run["block"]]
    assert names.index("Make ready to keep signed evidence") < names.index(
        "Give every drill a place in this run"
    )


def test_an_unencrypted_key_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v/key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    acts = plugin(vault())._act
    with pytest.raises(evidence.EvidenceError, match="not encrypted"):
        acts(arguments(tmp_path, "prepared"))
    published = acts(arguments(tmp_path, "published", run={"id": "x"}, agents=[{"agent": "a"}]))
    assert (published["exit_code"], published["signed"]) == (2, False)


def test_check_mode_writes_nothing(tmp_path: Path, raw: dict[str, Any]) -> None:
    acts = plugin(vault(), check_mode=True)._act
    assert acts(arguments(tmp_path, "prepared"))["changed"]
    assert acts(arguments(tmp_path, "recorded", facts=raw))["result"] == "proven"
    acts(arguments(tmp_path, "published", run={"id": "r1"}, agents=[{"agent": "acme"}]))
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_nobody_could_not_run_and_no_server_shows_it_green(tmp_path: Path) -> None:
    acts = plugin(vault())._act
    acts(arguments(tmp_path, "prepared"))
    assert acts(arguments(tmp_path, "published"))["exit_code"] == 2
    suites = ElementTree.parse(tmp_path / "e" / "junit.xml").getroot()
    assert (suites.get("tests"), suites.get("errors")) == ("1", "1")
    assert suites.find("testsuite/testcase/error") is not None


@pytest.mark.parametrize(
    "hostile",
    [
        {"counts": 5},
        {"counts": ["a"]},
        {"bytes": 3},
        {"bytes": {"keep": "x"}},
        {"to_be_supplied": 7},
        {"to_be_supplied": ["x"]},
        {"to_be_supplied": {"a": 1}},
        {"environment": 3},
        {"environment": [["x"]]},
        {"agent": 4},
        {"agent": {"version": {"a": 1}}},
        {"configuration": {"a": {"b": 1}}},
    ],
)
@pytest.mark.parametrize("loss", [False, True])
def test_a_hostile_manifest_costs_no_record(
    tmp_path: Path, raw: dict[str, Any], hostile: dict[str, Any], loss: bool
) -> None:
    acts = plugin(vault())._act
    acts(arguments(tmp_path, "prepared"))
    raw["restored"]["summary"] = hostile
    raw["restored"]["borg_warnings"] = ["x"] if loss else []
    recorded = acts(arguments(tmp_path, "recorded", facts=raw))
    assert recorded["exit_code"] == int(loss)
    fleet = [{"agent": "acme"}]
    published = acts(arguments(tmp_path, "published", run={"id": "r1"}, agents=fleet))
    assert published["exit_code"] == int(loss)


def test_what_nobody_can_judge_is_recorded_as_could_not_run(
    tmp_path: Path, raw: dict[str, Any]
) -> None:
    acts = plugin(vault())._act
    acts(arguments(tmp_path, "prepared"))
    raw["agent"]["rto_target"] = "soon"
    recorded = acts(arguments(tmp_path, "recorded", facts=raw))
    assert recorded["exit_code"] == 2
    assert "'soon' is not a duration" in recorded["record"]["verdict"]["reason"]
    entry = {**raw["agent"], "agent": "globex"}
    published = acts(arguments(tmp_path, "published", run={"id": "r1"}, agents=[entry]))
    assert published["summary"][-1] == "0 of 2 proven, 2 could not run"


def test_tampering_fails_the_module(tmp_path: Path, raw: dict[str, Any]) -> None:
    acts = plugin(vault())._act
    acts(arguments(tmp_path, "prepared"))
    path = Path(acts(arguments(tmp_path, "recorded", facts=raw))["path"])
    path.write_text(path.read_text().replace("proven", "not_proven"))
    found = drill_evidence_info.read(
        {"directory": str(tmp_path / "e"), "agents": ["acme"], "verify": True}
    )
    assert "the signature does not hold" in found["problems"][0]
    assert json.dumps(found)


def test_a_box_that_dies_in_extraction_is_not_waited_for() -> None:
    """A detached task polls a host that is gone until its time limit is over: hours, in a drill."""
    root = Path(__file__).resolve().parents[3] / "roles"
    (drill,) = yaml.safe_load((root / "drill" / "tasks" / "restore.yml").read_text())
    assert drill["vars"]["restore_detached"] is False
    extract = yaml.safe_load((root / "restore" / "tasks" / "extract.yml").read_text())[0]
    assert extract["async"] == "{{ restore_time_limit if restore_detached else 0 }}"
    assert extract["timeout"] == "{{ restore_time_limit }}"
