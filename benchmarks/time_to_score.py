"""When runs of one game first had a score: the mean return of the last 100 games of training.

    python benchmarks/time_to_score.py 400 benchmark/runs/*breakout/latest
    python benchmarks/time_to_score.py 18 runs/pong-*

Seconds are those of training: of a run that was interrupted, without the time in between.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from a3c.metrics import RECENT_GAMES
from a3c.results.curves import distinct
from a3c.run import log


class Passed(NamedTuple):
    """Where a run had the score; infinity where it never had."""

    agent_steps: float
    seconds: float


def passed(records: list[dict[str, Any]], score: float) -> Passed:
    """At the first record of a log whose mean return, of 100 games, is the score or more."""
    for record in records:
        mean = record["mean_return_100"]
        if record["episodes"] >= RECENT_GAMES and mean is not None and mean >= score:
            return Passed(record["agent_steps"], record["seconds"])
    return Passed(math.inf, math.inf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("score", type=float)
    parser.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    runs = distinct(tuple(map(str, options.runs)))
    for run in runs:
        if not (run / log.METRICS).exists():
            parser.error(f"{run} is no run folder: it has no {log.METRICS}")
    found = {run: passed(log.read(run / log.METRICS), options.score) for run in runs}
    for run, when in found.items():
        print(f"{when.seconds:8.0f} s  {when.agent_steps / 1e6:6.2f} million agent steps  {run}")
    steps, seconds = (median(each) for each in zip(*found.values(), strict=True))
    print(f"{seconds:8.0f} s  {steps / 1e6:6.2f} million agent steps  median")


if __name__ == "__main__":
    main()
