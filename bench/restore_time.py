# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The restore phase of a drill over raw `borg extract` of the same archive on the same box.

python3 bench/restore_time.py --inventory hosts.yml --agent NAME [--files 50000 --database 1000]
A real drill restores the agent's newest archive. The same box then extracts it again with nothing
but borg, from the same host and over the same kind of connection. The phase is all that the drill
does from the preflight to the home in its place, Ansible included; bar 1.3. The processor time is
that of extracting, placing and switching on the box, without Ansible's own. With --files the home
of the agent is filled and backed up first: give it an agent that nobody needs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import ROOT, arguments, machine, ratio

FILL = """
import sys
sys.path.insert(0, "/var/tmp")
from pathlib import Path
from lifeboat_bench_common import finish_home, make_database, make_sessions
home = Path(sys.argv[1])
make_sessions(home, int(sys.argv[2]))
(home / "bench.db").unlink(missing_ok=True)
make_database(home / "bench.db", float(sys.argv[3]))
"""


def run(argv: Sequence[str], ok: Sequence[int] = (0,)) -> str:
    """The output of a command in the checkout."""
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in ok:
        raise SystemExit(f"{argv[0]} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def declared(inventory: str, agent: str) -> tuple[str, dict[str, Any]]:
    """The agent's host and what the inventory says of the agent."""
    listed = json.loads(run(["ansible-inventory", "--inventory", inventory, "--list"]))
    for host, variables in listed["_meta"]["hostvars"].items():
        for entry in variables.get("backup_agents", ()):
            if entry["name"] == agent:
                return host, entry
    raise SystemExit(f"There is no agent {agent} in {inventory}.")


def fill(inventory: str, agent: str, files: int, megabytes: float) -> None:
    """Put sessions and a database into the agent's home, and back it up."""
    host, entry = declared(inventory, agent)
    ask = ["ansible", "--inventory", inventory, host, "--become", "--module-name"]
    common = Path(__file__).with_name("common.py")
    there = "/var/tmp/lifeboat_bench_common.py"
    run([*ask, "ansible.builtin.copy", "--args", f"src={common} dest={there} mode=0644"])
    program = ["runuser", "-u", str(entry["user"]), "--", "python3", "-I", "-c", FILL]
    words = [*program, str(entry["home"]), str(files), str(megabytes)]
    run([*ask, "ansible.builtin.command", "--args", json.dumps({"argv": words})])
    run([*ask, "ansible.builtin.file", "--args", f"path={there} state=absent"])
    play = ["ansible-playbook", "--inventory", inventory, "playbooks/backup.yml"]
    run([*play, "--extra-vars", f"agent={agent}"])


def clock(text: str) -> float:
    """Seconds of what the shell's times says, such as 1m2.50s."""
    minutes, _sign, seconds = text.rstrip("s").partition("m")
    return int(minutes) * 60 + float(seconds)


def main() -> int:
    """Print every measurement and the ratio."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--inventory", required=True)
    parser.add_argument("--agent", required=True)
    parser.add_argument("--files", type=int, default=0)
    parser.add_argument("--database", type=float, default=0.0, help="MB")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    inventory = os.path.abspath(options.inventory)
    print(machine(), flush=True)
    if options.files:
        fill(inventory, options.agent, options.files, options.database)
    ours, raw, ours_spent, raw_spent = [], [], [], []
    for _round in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="lifeboat-bench-") as folder:
            result = Path(folder, "raw")
            extra = {
                "drill_agent": options.agent,
                "drill_production": False,
                "drill_evidence_dir": folder,
                "drill_rehearsal": str(Path(__file__).with_name("raw_extract.yml")),
                "raw_rounds": 1,
                "raw_result": str(result),
            }
            play = ["ansible-playbook", "--inventory", inventory, "playbooks/drill.yml"]
            run([*play, "--extra-vars", json.dumps(extra)], ok=(0, 1))  # no rehearsal is a proof
            (path,) = Path(folder, options.agent).glob("*.json")
            record = json.loads(path.read_text(encoding="utf-8"))
            failed = [c["name"] for c in record["checks"] if c["status"] == "failed"]
            if failed != ["rehearsal"]:
                raise SystemExit(f"The drill was no good: {record['verdict']['reason']}")
            began, ended, user, system, spent = result.read_text(encoding="utf-8").split()
            (phase,) = (p["seconds"] for p in record["phases"] if p["name"] == "extract")
            (borg,) = (c["duration"] for c in record["checks"] if c["name"] == "extraction")
            ours.append(phase)
            raw.append(float(ended) - float(began))
            ours_spent.append(float(spent))
            raw_spent.append(clock(user) + clock(system))
            print(
                f"restore phase {phase:6.1f} s, of which borg {borg:6.1f} s; raw {raw[-1]:6.1f} s; "
                f"processor {ours_spent[-1]:6.1f} s and {raw_spent[-1]:6.1f} s",
                flush=True,
            )
    ratio("processor time, extract and place / raw extract", ours_spent, raw_spent, 1.3)
    return 0 if ratio("restore phase / raw extract", ours, raw, 1.3) else 1


if __name__ == "__main__":
    sys.exit(main())
