"""Learning runs that are too long for the test suite: does each reach its goal?

    python benchmarks/learning.py [NAME ...]

Runs `a3c train` with the defaults for each task, one after another, and writes
benchmarks/results/learning.md, if these are all of them: the best mean return of 100 games, the
goal, when it was passed.
"""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from a3c import metrics
from a3c.errors import nearest
from a3c.run import log
from a3c.run.provenance import commit, processor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `benchmarks` is not installed

from benchmarks.time_to_score import passed

ROOT = Path(__file__).parent.parent
OUT = ROOT / "benchmarks" / "results" / "learning.md"


class Task(NamedTuple):
    """A command and the mean return of 100 games that it is to reach."""

    command: str
    goal: float


TASKS = {
    "cartpole": Task("a3c train CartPole-v1", 475),
    "inverted-pendulum": Task("a3c train InvertedPendulum-v5", 900),
    "pendulum": Task("a3c train Pendulum-v1 --total-agent-steps 1000000", -200),
    "memory": Task(
        "a3c train examples.memory:CartPoleHiddenVelocities-v1 --recurrent"
        " --total-agent-steps 1000000",
        400,
    ),
}


def main() -> None:
    names = sys.argv[1:] or list(TASKS)
    for name in set(names) - set(TASKS):
        sys.exit(f"no task {name!r}; expected {', '.join(TASKS)}{nearest(name, list(TASKS))}")
    lines = [
        "# Learning runs",
        "",
        f"`python benchmarks/learning.py {' '.join(sys.argv[1:])}`".replace(" `", "`"),
        f"on {date.today()}, commit {commit()}, {os.cpu_count()} cores, {processor()}, Python "
        f"{platform.python_version()}. Mean return of the last 100 games.",
        "",
        "| command | goal | passed at agent step | after seconds | best | at the end |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(row(TASKS[name]) for name in names),
    ]
    print("\n".join(lines))
    if set(names) == set(TASKS):
        OUT.write_text("\n".join(lines) + "\n")


def row(task: Task) -> str:
    """Run one task; its line of the table."""
    records = run(task)
    first = passed(records, task.goal)
    when = (
        "never | -" if math.isinf(first.seconds) else f"{first.agent_steps:,} | {first.seconds:.0f}"
    )
    best = max((r["mean_return_100"] for r in records), default=float("nan"))
    last = records[-1]["mean_return_100"] if records else float("nan")
    return f"| `{task.command}` | {task.goal:g} | {when} | {best:.1f} | {last:.1f} |"


def run(task: Task) -> list[dict[str, Any]]:
    """The records of one run from the hundredth game on."""
    with tempfile.TemporaryDirectory() as runs:
        words = [*task.command.split()[1:], "--runs-dir", runs, "--log-every-seconds", "1"]
        subprocess.run([sys.executable, "-m", "a3c.cli", *words], check=True, cwd=ROOT)
        records = log.read(Path(runs) / "latest" / "metrics.jsonl")
    return [record for record in records if record["episodes"] >= metrics.RECENT_GAMES]


if __name__ == "__main__":
    main()
