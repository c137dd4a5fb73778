"""What the owner of the scenario's Hermes types, as the agent's user.

as_owner.py pair              log in to the provider
as_owner.py begin             begin a conversation with the provider's models
as_owner.py continue SESSION  take it up again
as_owner.py sessions          Hermes' own list of sessions
"""

from __future__ import annotations

import os
import sys

PROVIDER = "http://127.0.0.1:11890"
HOME = "/home/hermes"
FIRST = "The beans are for the north bed. Keep that in mind."
SECOND = "Which bed did I name?"
CHAT = ["chat", "-Q", "--provider", "nous", "--model", "lifeboat-stub"]


def command(task: str, *rest: str) -> list[str]:
    if task == "pair":
        where = ["--portal-url", PROVIDER, "--inference-url", f"{PROVIDER}/v1"]
        return ["auth", "add", "nous", "--type", "oauth", *where, "--no-browser"]
    if task == "begin":
        return [*CHAT, "-q", FIRST]
    if task == "continue":
        return [*CHAT, "--resume", rest[0], "-q", SECOND]
    return ["sessions", "list"]


def main() -> None:
    # Where the provider's models are is said the documented way for providers of one's own.
    settings = [f"HOME={HOME}", "PATH=/usr/local/bin:/usr/bin:/bin"]
    settings.append(f"NOUS_INFERENCE_BASE_URL={PROVIDER}/v1")
    become = ["runuser", "--user", "hermes", "--", "env", "--chdir", HOME, *settings, "hermes"]
    os.execvp("runuser", [*become, *command(*sys.argv[1:])])


if __name__ == "__main__":
    main()
