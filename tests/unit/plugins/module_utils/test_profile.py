# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.lifeboat.agents.plugins.module_utils.classify import Classifier
from ansible_collections.lifeboat.agents.plugins.module_utils.profile import ProfileError, load
from ansible_collections.lifeboat.agents.tests.unit.plugins.module_utils.engine import ROOT, shipped

PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yml"))


def classify(profile: dict[str, Any], path: str) -> str:
    """The class of a path; a trailing slash means a folder, a trailing @ a symbolic link."""
    classifier = Classifier(profile)
    state = classifier.root
    *folders, name = path.rstrip("/@").split("/")
    for folder in folders:
        state = classifier.enter(state, folder)
    if path.endswith("/"):
        return classifier.classification(classifier.enter(state, name).cover)
    number = state.link(name) if path.endswith("@") else state.file(name)
    return classifier.classification(number)


def rules(*given: tuple[str, str]) -> dict[str, Any]:
    return {
        "format": 1,
        "name": "t",
        "rules": [
            {"match": match.lstrip("!"), "class": kind, "at": "any" if match[0] == "!" else "root"}
            for match, kind in given
        ],
    }


@pytest.mark.parametrize("name", PROFILES)
def test_shipped_profile_loads(name: str) -> None:
    profile = shipped(name)
    assert profile["name"] == name
    assert all(isinstance(rule["match"], str) for rule in profile["rules"])
    Classifier(profile)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("path", [".env", "workspace/app/.env", "a/b/c/.env.local", "x/id_ed25519"])
def test_credentials_by_name_are_secret_at_any_depth(name: str, path: str) -> None:
    assert classify(shipped(name), path) == "secret"


HERMES = {
    "keep": """SOUL.md memories/ state.db sessions/ session-exports/ platforms/pairing/irc-approved.json
        pairing/ profiles/a/pairing/ shell-hooks-allowlist.json channel_directory.json
        channel_aliases.json gateway_voice_mode.json sticker_cache.json x_threads.json
        gateway/dead_targets.json gateway/discord_x.json feishu_x.json cron/jobs.json
        cron/suggestions.json cron/executions.db cron/output/ scripts/ skills/ skills/.archive/
        skills/.usage.json skills/.curator_state skills/.bundled_manifest skills/.hub/lock.json
        skills/.hub/taps.json skill-bundles/ plugins/ hooks/ skins/ pets/ plans/ workspace/ local/
        todo.json memory_store.db byterover/ hindsight/ retaindb_queue.db pending/memory/
        pending/skills/ kanban.db kanban/boards/b/kanban.db kanban/boards/b/board.json
        kanban/attachments/ projects.db response_store.db verification_evidence.db profile.yaml
        distribution.yaml active_profile cache/images/ cache/audio/ cache/videos/ cache/documents/
        cache/screenshots/ images/ pastes/ workspace/meetings/m1/ skills/x/hermes-agent/SKILL.md
        workspace/backups/x workspace/venv/x workspace/checkpoints/x workspace/yarn.lock
        profiles/p/SOUL.md profiles/p/state.db state.db-wal""",
    "scrub": """config.yaml gateway.json honcho.json mem0.json supermemory.json hindsight/config.json
        webhook_subscriptions.json mcp.json profiles/p/config.yaml""",
    "secret": """.env .env.bak auth.json auth/ .anthropic_oauth.json credentials shared/nous_auth.json
        mcp-tokens/ google_token.json google_x_oauth_y.json google_chat_user_x slack_tokens.json
        weixin/accounts/ workspace/meetings/auth.json workspace/meetings/node_token.json
        workspace/meetings/nodes.json platforms/whatsapp/session/ platforms/matrix/store/
        cache/bws_cache.json cache/op_cache.json chrome-debug/ browser_auth/ home/ profiles/p/home/
        state-snapshots/ backups/b.zip config.yaml.corrupt.1.bak profiles/p/.env
        profiles/p/auth.json skills/x/.env""",
    "drop": """hermes-agent/ node/ node_modules/ bin/ lsp/ mcp-installs/ sandboxes/ .worktrees/
        optional-skills/ checkpoints/ cache/x models_dev_cache.json logs/ .hermes_history moa-traces/
        spawn-trees/ hook_outputs/ skills/.hub/index-cache/ skills/.curator_backups/
        sessions/request_dump_1.json""",
    "runtime": """gateway.pid gateway.lock cron.pid processes.json gateway_state.json runtime/ state/
        cron/ticker_x auth.lock bridge.pid platforms/pairing/irc-pending.json
        platforms/pairing/_rate_limits.json .clean_shutdown .restart_x .update_x .drain_request.json
        .gateway-x.json .managed .install_method""",
    "unknown": "something.txt something/else profiles/p/something",
}


@pytest.mark.parametrize(
    ("path", "kind"), [(path, kind) for kind, paths in HERMES.items() for path in paths.split()]
)
def test_hermes(path: str, kind: str) -> None:
    assert classify(shipped("hermes"), path) == kind


def test_first_match_wins_also_against_a_covering_folder() -> None:
    profile = load(rules(("cache/images/", "keep"), ("cache/", "drop")))
    assert classify(profile, "cache/images/a/b") == "keep"
    assert classify(profile, "cache/other") == "drop"
    turned = load(rules(("cache/", "drop"), ("cache/images/", "keep")))
    assert classify(turned, "cache/images/a") == "drop"


def test_at_any_matches_at_the_root_and_below_and_covers() -> None:
    profile = load(rules(("!secret-*/", "secret"), ("work/", "keep")))
    assert classify(profile, "secret-a/x") == "secret"
    assert classify(profile, "work/deep/secret-b/x/y") == "secret"
    assert classify(profile, "work/deep/secret-b") == "keep"  # a file, the rule wants a folder


def test_root_rules_do_not_match_below() -> None:
    profile = load(rules(("hermes-agent/", "drop"), ("skills/", "keep")))
    assert classify(profile, "hermes-agent/x") == "drop"
    assert classify(profile, "skills/a/hermes-agent/x") == "keep"


def test_a_link_stands_in_for_a_folder() -> None:
    profile = load(rules(("memories/", "keep")))
    assert classify(profile, "memories@") == "keep"
    assert classify(profile, "memories") == "unknown"


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("a*", "abc", True),
        ("a*", "a/b/c", True),  # the folder a is covered
        ("*.json", "x/y.json", False),
        ("x/**", "x/a/b", True),
        ("x/**", "x", False),
        ("x/**/z", "x/z", True),
        ("x/**/z", "x/a/b/z", True),
        ("a?c", "abc", True),
        ("[ab]c", "bc", True),
        ("[!ab]c", "bc", False),
        ("a.b", "axb", False),
        ("odd*", "odd\nname", True),
        ("odd*", "odd\udcff", True),
    ],
)
def test_patterns(pattern: str, path: str, matches: bool) -> None:
    assert (classify(load(rules((pattern, "keep"))), path) == "keep") is matches


def test_nested_homes_repeat_the_rules_once() -> None:
    profile = load({**rules(("SOUL.md", "keep")), "nested_homes": ["profiles/*"]})
    assert classify(profile, "profiles/a/SOUL.md") == "keep"
    assert classify(profile, "profiles/a/profiles/b/SOUL.md") == "unknown"
    assert classify(profile, "other/a/SOUL.md") == "unknown"


def test_side_files_are_what_their_database_is() -> None:
    profile = load(rules(("lock.db", "runtime"), ("state.db", "keep")))
    assert classify(profile, "state.db-wal") == "keep"
    assert classify(profile, "lock.db-shm") == "runtime"
    assert classify(profile, "other.db-wal") == "unknown"


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_the_side_files_of_a_secret_database_are_secret_in_a_kept_folder(suffix: str) -> None:
    profile = rules(
        ("workspace/vault.db", "secret"), ("!*.cache.db", "drop"), ("workspace/", "keep")
    )
    assert classify(profile, f"workspace/vault.db{suffix}") == "secret"
    assert classify(profile, f"workspace/a/b.cache.db{suffix}") == "drop"
    assert classify(profile, f"workspace/other.db{suffix}") == "keep"


def test_overrides_come_first_and_merge() -> None:
    base = load({**rules(("a", "keep")), "secrets": {"keys": ["x"]}, "outside": []})
    merged = load(
        base,
        {
            "rules": [{"match": ["a", "b"], "class": "drop"}],
            "secrets": {"keys": ["y"], "plain_keys": ["z"]},
        },
    )
    assert classify(merged, "a") == classify(merged, "b") == "drop"
    assert merged["secrets"] == {"keys": ["y", "x"], "plain_keys": ["z"]}


def exporting(**settings: Any) -> dict[str, Any]:
    export = {"commands": [["true"]], "reason": "why", **settings}
    return {**rules(("a", "keep")), "export": export}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"format": 2, "name": "x", "rules": [{"match": "a", "class": "keep"}]},
            "format must be 1",
        ),
        ({"format": 1, "name": "X", "rules": [{"match": "a", "class": "keep"}]}, "name must be"),
        ({"format": 1, "name": "x", "rules": []}, "no rules"),
        (
            {"format": 1, "name": "x", "rules": [{"match": "a", "class": "kept"}]},
            r"rules\[0\].*'kept'",
        ),
        (
            {"format": 1, "name": "x", "rules": [{"match": "/a", "class": "keep"}]},
            "not a path relative",
        ),
        (
            {"format": 1, "name": "x", "rules": [{"match": "../a", "class": "keep"}]},
            "not a path relative",
        ),
        (
            {"format": 1, "name": "x", "rules": [{"match": "a", "class": "keep", "at": "top"}]},
            "at is 'top'",
        ),
        ({"format": 1, "name": "x", "rules": [{"match": [], "class": "keep"}]}, "match must be"),
        (
            {"format": 1, "name": "x", "rules": [{"matches": "a", "class": "keep"}]},
            "unknown key 'matches'",
        ),
        ({"format": 1, "name": "x", "rule": []}, "unknown key 'rule'"),
        ({"format": 1, "name": "x", "rules": "a"}, "rules must be a list"),
        (
            exporting(expect_each={"agents/*/state.db": "agents/manifest.json"}),
            r"expect_each: one \* in 'agents/\*/state.db'",
        ),
        (exporting(environment={"A": 1}), "environment must be a mapping of texts"),
        ([], "a profile is a mapping"),
    ],
)
def test_a_wrong_profile_says_what_is_wrong(data: Any, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        load(data)


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        (
            "hermes",
            "webhook_subscriptions.json~ webhook_subscriptions.json.bak webhook_subscriptions.json.orig "
            "webhook_subscriptions.json.tmp .webhook_subscriptions.json.swp config.yaml~ .config.yaml.swp "
            "#config.yaml# .#config.yaml config.bak.yaml config-old.yaml config_2.yaml #.env# ..env.swp "
            "profiles/work/config.yaml~ backup-config.yaml",
        ),
        ("openclaw", "openclaw.json~ .openclaw.json.swp openclaw-backup.json openclaw.copy.json"),
        ("nanobot", "config.json~ .config.json.swo config-2026-11-01.json config.old.json.save"),
        ("codex", "config.toml~ #config.toml#"),
        ("generic", "config.yaml.bak config.yaml~ settings.orig.json #auth.json#"),
    ],
)
def test_copies_of_what_holds_secrets_are_secret(name: str, paths: str) -> None:
    profile = shipped(name)
    spaced = ["config (1).yaml", "Copy of config.yaml"] if name in ("hermes", "generic") else []
    names = [*paths.split(), *spaced]
    assert {path: classify(profile, path) for path in names} == dict.fromkeys(names, "secret")


def test_a_rule_may_name_a_copy_and_what_is_no_copy_stays_unknown() -> None:
    profile = shipped("generic")
    profile["rules"] = [{"match": "config.sample.yaml", "class": "keep"}, *profile["rules"]]

    assert classify(profile, "config.sample.yaml") == "keep"
    assert classify(profile, "workspace/config.yaml~") == "keep"
    for path in (
        "notes.md~",
        "my-config.yaml",
        "config",
        "reconfig.yaml.bak",
        ".config.yaml",
        "a" * 255,
    ):
        assert classify(profile, path) == "unknown"
    assert classify(profile, "." * 255) == classify(profile, "#" * 255) == "unknown"
