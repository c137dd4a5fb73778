"""The stages of script/test: run them, show what they print, sum up at the end.

A stage is a list of steps, a step is one command. A failing step never hides the
ones after it: all run, all are reported, and the exit code is that of the whole.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
LOGS = CACHE / "test"
# ansible-test and ansible-galaxy want a folder with this very name, and no symlink.
TREE = CACHE / "tree" / "ansible_collections" / "lifeboat" / "agents"
BUILD = CACHE / "build"
INSTALLED = CACHE / "installed"
BASE = ".config/molecule/config.yml"  # of all scenarios
NOT_SHIPPED = (".ci/", ".collections/", ".config/")

ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|\x1b\]8;;.*?(?:\x1b\\|\x07)")
GUTTER = re.compile(r"^ *│ ?", re.MULTILINE)  # molecule draws it before what its commands print
OFFENDER = re.compile(r"^(?:FAILED|ERROR|fatal:)\b.*")
COUNTS = re.compile(r"\b(\d+) (passed|failed|errors?|skipped)\b")


@dataclass(frozen=True)
class Step:
    """One command of a stage; `prepare` runs before it, in this process."""

    name: str
    argv: Sequence[str]
    cwd: Path = ROOT
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: int = 2700  # ends what hangs; a busy machine needs several times the usual
    prepare: Callable[[], None] | None = None


@dataclass(frozen=True)
class Result:
    """What became of a step."""

    stage: str
    step: str
    problem: str | None
    seconds: float
    output: str

    @property
    def detail(self) -> str:
        """The last line with words in it: where tools put their verdict."""
        for line in reversed(ESCAPES.sub("", self.output).splitlines()):
            if re.search(r"[A-Za-z]{3}", line) and not line.startswith(("WARNING", "[WARNING")):
                return line.strip("= ")
        return ""

    @property
    def offenders(self) -> list[str]:
        """The lines that name what failed, or else the last ones: for who sees only the end."""
        plain = GUTTER.sub("", ESCAPES.sub("", self.output))
        lines = [line for line in plain.splitlines() if line.strip()]
        return [line[:400] for line in lines if OFFENDER.match(line)][-10:] or lines[-10:]


class CouldNotRun(Exception):
    """The checks could not be run at all; says why."""


def git_files() -> list[str]:
    """Name the files that git tracks and that are still there."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return [name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def copy_tree() -> None:
    """Copy what git tracks to a folder that is named as Ansible wants it."""
    shutil.rmtree(TREE, ignore_errors=True)
    for name in git_files():
        if name.startswith(NOT_SHIPPED):
            continue
        target = TREE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    # ansible-test asks the nearest .git for the files; the checkout's own ignores .cache.
    subprocess.run(["git", "init", "--quiet", str(TREE)], check=True)


def provide_pip_bootstrap() -> None:
    """Give ansible-test the pip that its environments begin with.

    It would fetch a get-pip script from its authors' own server. The same pip comes from
    the package index like everything else, so only the index has to be in reach.
    """
    found_at = importlib.util.find_spec("ansible_test")
    if found_at is None or not found_at.submodule_search_locations:
        raise CouldNotRun("ansible-test is not installed beside this Python")
    package = Path(found_at.submodule_search_locations[0])
    source = package / "_internal" / "python_requirements.py"
    found = re.search(r"\bpip='([0-9.]+)'", source.read_text(encoding="utf-8"))
    if found is None:
        raise CouldNotRun(f"{source} no longer says which pip ansible-test begins with")
    version = found.group(1)
    folder = Path.home() / ".ansible" / "test" / "cache"
    script = folder / f"get_pip_{version.replace('.', '_')}.py"
    if script.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    download = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download"]
    download += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), f"pip=={version}"]
    subprocess.run(download, check=True)
    wheel = next(folder.glob(f"pip-{version}-*.whl"))
    script.write_text(
        "import os\n"
        "import runpy\n"
        "import sys\n"
        "\n"
        f'sys.path.insert(0, os.path.join(os.path.dirname(__file__), "{wheel.name}"))\n'
        "wanted = [word for word in sys.argv[1:] if not word.startswith('--no-')]\n"
        "sys.argv[1:] = ['install'] + wanted\n"
        "runpy.run_module('pip', run_name='__main__', alter_sys=True)\n",
        encoding="utf-8",
    )


def prepare_sanity() -> None:
    """Everything that ansible-test expects to find."""
    copy_tree()
    provide_pip_bootstrap()


def lint() -> list[Step]:
    """Style and types."""
    shell = [name for name in git_files() if is_shell(ROOT / name)]
    types = [".collections/ansible_collections/lifeboat/agents/plugins", "script/lib"]
    return [
        Step("ruff check", ["ruff", "check"]),
        Step("ruff format", ["ruff", "format", "--check"]),
        Step("mypy", ["mypy", *types]),
        Step("shellcheck", ["shellcheck", "--external-sources", *shell]),
        Step("yamllint", ["yamllint", "--strict", "."]),
        Step("ansible-lint", ["ansible-lint", "--offline"]),
        Step("changelog", ["antsibull-changelog", "lint"]),
        Step(
            "plugin docs",
            ["antsibull-docs", "lint-collection-docs", "--plugin-docs", "."],
            environment={"HOME": str(BUILD)},  # it leaves a log in the home folder
        ),
    ]


def is_shell(path: Path) -> bool:
    """Tell whether a file is a script for sh or bash."""
    with path.open("rb") as opened:
        first = opened.readline(80)
    if path.suffix == ".j2":
        return False
    return path.suffix == ".sh" or re.match(rb"#!.*\b(?:ba|da)?sh\b", first) is not None


def unit() -> list[Step]:
    """Fast tests of the Python that decides, and of the contracts between the parts."""
    borg = {
        "LIFEBOAT_BORG": str(Path(sys.executable).parent / "borg"),
        "LIFEBOAT_REQUIRE_BORG": "1",
    }
    pytest = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "--dist", "worksteal"]
    pytest += ["--durations=15", "--override-ini=cache_dir=.cache/pytest", "tests/unit"]
    return [Step("pytest", pytest, environment=borg, timeout=7200)]


def sanity() -> list[Step]:
    """Ansible's own checks, on a copy of what git tracks."""
    # One Python, so that the outcome does not hang on which others a machine happens to have;
    # ruff holds the code to the oldest one that boxes have.
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    argv = ["ansible-test", "sanity", "--color", "no", "--python", version]
    return [Step("ansible-test", argv, cwd=TREE, timeout=4500, prepare=prepare_sanity)]


def build() -> list[Step]:
    """Build, install somewhere else, and find every playbook there by its full name."""
    galaxy = ["ansible-galaxy", "collection"]
    syntax = ["ansible-playbook", "--syntax-check", "-i", "localhost,"]
    # Nothing of the checkout may help: neither its folder nor its ansible.cfg.
    elsewhere = {
        "ANSIBLE_CONFIG": str(BUILD / "empty.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(INSTALLED),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
    }
    return [
        Step(
            "build",
            [*galaxy, "build", "--force", "--output-path", str(BUILD), str(TREE)],
            prepare=copy_tree,
        ),
        Step(
            "install",
            [*galaxy, "install", "--force", "--no-deps", "-p", str(INSTALLED), str(artifact())],
            environment=elsewhere,
            prepare=empty_installed,
        ),
        *(
            Step(name, [*syntax, name], cwd=BUILD, environment=elsewhere)
            for name in (f"lifeboat.agents.{playbook}" for playbook in playbooks())
        ),
    ]


def artifact() -> Path:
    """Name the file that ansible-galaxy builds."""
    found = re.search(r"^version: *(\S+)", (ROOT / "galaxy.yml").read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise CouldNotRun("galaxy.yml has no version")
    return BUILD / f"lifeboat-agents-{found.group(1)}.tar.gz"


def playbooks() -> list[str]:
    """Name the playbooks that a user calls."""
    names = (Path(name) for name in git_files())
    return sorted(p.stem for p in names if p.parent == Path("playbooks") and p.suffix == ".yml")


def empty_installed() -> None:
    """Begin with an empty place, so that nothing of an earlier build is found."""
    shutil.rmtree(INSTALLED, ignore_errors=True)
    (BUILD / "empty.cfg").write_text("", encoding="utf-8")


def molecule(scenario: str = "default") -> list[Step]:
    """The whole loop on disposable boxes."""
    return [
        Step(
            f"scenario {scenario}",
            ["molecule", "-c", BASE, "test", "--scenario-name", scenario],
            # Wide, because a failed test is named in the summary by its one whole line.
            environment={"MOLECULE_GLOB": "molecule/*/molecule.yml", "COLUMNS": "200"},
            timeout=7200,
        )
    ]


STAGES: Mapping[str, Callable[..., list[Step]]] = {
    "lint": lint,
    "unit": unit,
    "sanity": sanity,
    "build": build,
    "molecule": molecule,
}


def steps_of(stage: str) -> list[Step]:
    """Look a stage up; `molecule:NAME` is the scenario NAME."""
    name, colon, argument = stage.partition(":")
    if name not in STAGES or (colon and not (argument and name == "molecule")):
        raise CouldNotRun(
            f"there is no stage {stage!r}; there are: {', '.join(STAGES)}, molecule:SCENARIO"
        )
    return STAGES[name](argument) if argument else STAGES[name]()


def run_step(stage: str, step: Step) -> Result:
    """Run a step, pass on what it prints, and keep it."""
    started = time.monotonic()
    log = LOGS / f"{stage}-{step.name}.log".replace(" ", "-").replace(":", "-")
    lines: list[str] = []
    try:
        if step.prepare is not None:
            step.prepare()
        with log.open("w", encoding="utf-8") as kept:
            problem = follow(step, (lines.append, kept.write))
    except (OSError, subprocess.SubprocessError, CouldNotRun) as error:
        problem = str(error)
    output = "".join(lines)
    if problem is not None:
        problem = f"{problem}; see {log.relative_to(ROOT)}"
    return Result(stage, step.name, problem, time.monotonic() - started, output)


def follow(step: Step, keepers: Sequence[Callable[[str], object]]) -> str | None:
    """Run the command of a step, hand on each line; say what went wrong, or None."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **step.environment}
    process = subprocess.Popen(
        list(step.argv),
        cwd=step.cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        preexec_fn=hear_interrupts,
    )
    timed_out = threading.Event()

    def stop() -> None:
        timed_out.set()
        end(process)

    timer = threading.Timer(step.timeout, stop)
    timer.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            for keep in keepers:
                keep(line)
        code = process.wait()
    except KeyboardInterrupt:
        end(process)
        raise
    finally:
        timer.cancel()
    if timed_out.is_set():
        return f"not done after {step.timeout} s"
    return f"exit code {code}" if code else None


def hear_interrupts() -> None:
    """Undo that a shell lets its background jobs ignore Ctrl-C: steps are ended by it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def end(process: subprocess.Popen[str]) -> None:
    """End a step with everything that it started, giving it time to clean up."""
    for number, patience in ((signal.SIGINT, 60), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return


def test_counts(results: Iterable[Result]) -> dict[str, int]:
    """Add up what the test runners among the steps counted."""
    total = {"passed": 0, "failed": 0, "skipped": 0}
    for result in results:
        for line in ESCAPES.sub("", result.output).splitlines():
            if not re.search(r"\b(passed|failed|errors?)\b.* in [0-9.]+s", line):
                continue
            for number, word in COUNTS.findall(line):
                total["failed" if word.startswith("error") else word] += int(number)
    return total


def summary(results: Sequence[Result], plan: Sequence[tuple[str, Step]]) -> list[str]:
    """Put the outcome into a few lines; the last one is what a CI server reads."""
    lines = ["", "==> Summary"]
    for result in results:
        verdict = "passed" if result.problem is None else "FAILED"
        about = (result.detail if result.problem is None else result.problem)[:90]
        name = f"{result.stage:<10} {result.step:<24}"
        lines.append(f"    {verdict}  {name} {result.seconds:6.1f} s  {about}")
        if result.problem is not None:
            lines += [f"            | {line}" for line in result.offenders]
    for stage, step in plan[len(results) :]:
        lines.append(f"    not run {stage:<10} {step.name}")
    failed = {result.stage for result in results if result.problem is not None}
    unfinished = {stage for stage, step in plan[len(results) :]}
    passed = {stage for stage, step in plan} - failed - unfinished
    tests = ", ".join(f"{number} {word}" for word, number in test_counts(results).items())
    lines.append(f"    {sum(result.seconds for result in results):.0f} s in all")
    lines.append(f"tests: {tests}")
    lines.append(f"stages: {len(passed)} passed, {len(failed)} failed")
    return lines


def interrupt(number: int, frame: object) -> None:
    """Treat being ended like Ctrl-C, so that steps are ended too and clean up."""
    raise KeyboardInterrupt


def run(stages: Sequence[str]) -> int:
    """Run the stages one after the other and report; 0 only if each step of each passed."""
    LOGS.mkdir(parents=True, exist_ok=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, interrupt)
    plan = [(stage, step) for stage in stages for step in steps_of(stage)]
    results: list[Result] = []
    code = 0
    try:
        for number, (stage, step) in enumerate(plan, start=1):
            print(f"\n==> [{number}/{len(plan)}] {stage}: {step.name}", flush=True)
            results.append(run_step(stage, step))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        code = 130
    print("\n".join(summary(results, plan)), flush=True)
    return code or int(any(result.problem is not None for result in results))


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line of script/test."""
    parser = argparse.ArgumentParser(
        prog="script/test", description="Run the checks of the project."
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"{', '.join(STAGES)} (all)")
    parser.add_argument("--list", action="store_true", help="show what each stage runs, and end")
    options = parser.parse_args(argv)
    stages = options.stages or list(STAGES)
    try:
        if options.list:
            for stage in stages:
                for step in steps_of(stage):
                    print(f"{stage:<10} {step.name:<24} {' '.join(step.argv)}")
            return 0
        return run(stages)
    except CouldNotRun as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
