"""Ways in which a drill has to end badly, as data: the table of docs/drill.md is held to it.

Harm is done to the restored home between extraction and proof, one agent each, in one run. The
rest is wrong before: the escrow, the repository, the snapshot, the box, what was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

NOT_PROVEN, COULD_NOT_RUN = "not proven", "could not run"
PYTHON = "python3 -c \"import sqlite3; c = sqlite3.connect('state.db'); {}; c.commit(); c.close()\""
# Like the agent's own, and new: what an agent makes silently when it misses its database.
FRESH = (
    "rm state.db && python3 -I - <<'END'\n"
    "import sqlite3\n"
    "c = sqlite3.connect('state.db')\n"
    "c.executescript('PRAGMA journal_mode = WAL; PRAGMA user_version = 3;'\n"
    "  'CREATE TABLE messages (id INTEGER PRIMARY KEY, content TEXT, timestamp REAL);'\n"
    "  'CREATE TABLE sessions (id INTEGER PRIMARY KEY, started_at REAL, cwd TEXT);'\n"
    "  'CREATE VIRTUAL TABLE found USING fts5(content);')\n"
    "c.commit(); c.close()\n"
    "END\n"
    "chown fleet:fleet state.db && chmod 600 state.db"
)


@dataclass(frozen=True)
class Harm:
    """What is done to a restored home, the check that names it, and what it names."""

    what: str
    command: str
    found: dict[str, str]


# One to an agent, all in one run.
HARM: dict[str, Harm] = {
    "a0": Harm("`state.db` truncated", "truncate -s 4096 state.db", {"database_opens": "state.db"}),
    "a1": Harm(
        "`state.db` replaced by a fresh one", FRESH, {"database_rows": "messages has 0 rows"}
    ),
    "a2": Harm(
        "`state.db` replaced by last month's",
        PYTHON.format("c.execute('UPDATE messages SET timestamp = timestamp - 2592000')"),
        {"database_newest": "state.db"},
    ),
    "a3": Harm("`SOUL.md` altered", "sed -i s/I/i/ SOUL.md", {"content": "SOUL.md: altered"}),
    "a4": Harm(
        "a pairing gone",
        "rm pairing/irc-approved.json",
        {"pairings": "pairing/irc-approved.json: missing"},
    ),
    "a5": Harm(
        "a canary present", "echo API_KEY=canary-0123456789 > .env", {"secret_files": ".env"}
    ),
    "a6": Harm("a stale lock present", "touch gateway.lock", {"runtime_files": "gateway.lock"}),
    "a7": Harm(
        "`state.db` zeroed",
        "dd if=/dev/zero of=state.db conv=notrunc bs=4096 count=10 status=none",
        {"database_opens": "state.db"},
    ),
    "a8": Harm(
        "a page of `state.db` corrupted",
        "dd if=/dev/urandom of=state.db conv=notrunc bs=4096 seek=5 count=1 status=none",
        {"database_integrity": "state.db"},
    ),
    "a9": Harm(
        "all at once: memories missing, a session cut short, modes and owners wrong, a log left over, "
        "a file of another origin",
        "rm -r memories; truncate -s 3 sessions/1.json; chmod 644 SOUL.md; chown root SOUL.md; "
        "cp state.db state.db-wal; touch planted",
        {
            "entries_present": "memories",
            "entries_size": "sessions/1.json: 3 bytes",
            "entries_mode": "SOUL.md: 0644, expected 0600",
            "entries_owner": "SOUL.md: 0:",
            "stray_journals": "state.db-wal",
            "unknown_files": "planted",
        },
    ),
}


@dataclass(frozen=True)
class Ending:
    """How a drill ends that meets something else, and what its reason says."""

    what: str
    verdict: str
    reason: str

    @property
    def code(self) -> int:
        return 1 if self.verdict == NOT_PROVEN else 2


# What is wrong with the escrow or the repository, one agent each, all in one run.
LOST: dict[str, Ending] = {
    "a0": Ending("passphrase in the vault wrong", NOT_PROVEN, "assphrase"),
    "a1": Ending("no escrow in the vault", NOT_PROVEN, "There is no escrow of agent"),
    "a2": Ending("borg key missing in the vault", NOT_PROVEN, "borg key export is missing"),
    "a3": Ending(
        "borg key of another agent in the vault", NOT_PROVEN, "not the one of the pinned repository"
    ),
    "a4": Ending("repository gone", NOT_PROVEN, "does not exist"),
    "a5": Ending(
        "repository exchanged for another", NOT_PROVEN, "the repository there is not the pinned"
    ),
    "a6": Ending("stored data damaged", NOT_PROVEN, "is damaged"),
    "a7": Ending("recovery takes longer than `rto_target`", NOT_PROVEN, "RTO: "),
    "empty": Ending("archive list empty", NOT_PROVEN, "holds no archive of"),
}

# What stops a drill without saying anything about the backup.
STOPPED: dict[str, Ending] = {
    "a0": Ending("box dies in mid-drill", COULD_NOT_RUN, "did not answer any more"),
    "a1": Ending("time limit over", COULD_NOT_RUN, "did not answer any more"),
}
UNREACHABLE = Ending("repository unreachable", COULD_NOT_RUN, "the connection was closed")
NO_SNAPSHOT = Ending("snapshot gone", NOT_PROVEN, "There is no snapshot")

# What cannot be had, by the arguments of the run.
ASKED: dict[tuple[str, ...], Ending] = {
    ("-e", "archive=a0-2020-01-01T00:00:00Z"): Ending(
        "an archive that is not there", NOT_PROVEN, "There is no archive"
    ),
    ("-e", "at=2020-01-01"): Ending(
        "a day before the first archive", NOT_PROVEN, "There is no archive"
    ),
    ("--vault-password-file", "WRONG"): Ending("a wrong vault secret", COULD_NOT_RUN, "vault"),
    ("-e", "agent=nobody"): Ending(
        "an agent that is not in the inventory", COULD_NOT_RUN, "not in the inventory"
    ),
    ("-e", "source=tape"): Ending("a source that does not exist", COULD_NOT_RUN, "tape"),
    ("-e", "provider=nowhere"): Ending("a provider that does not exist", COULD_NOT_RUN, "nowhere"),
    ("-e", '{"drill_distribution": "beos"}'): Ending(
        "a box that cannot be made", COULD_NOT_RUN, "beos"
    ),
    ("--limit", "box"): Ending("a run with `--limit`", COULD_NOT_RUN, "--limit"),
}


def rows() -> list[tuple[str, str, str, int]]:
    """The table: what was done, the verdict, what names it, the exit code."""
    found = [
        (harm.what, NOT_PROVEN, ", ".join(f"`{name}`" for name in harm.found), 1)
        for harm in HARM.values()
    ]
    endings = [*LOST.values(), NO_SNAPSHOT, *STOPPED.values(), UNREACHABLE, *ASKED.values()]
    found += [(item.what, item.verdict, "reason", item.code) for item in endings]
    return found
