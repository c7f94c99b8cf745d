"""The curves of a run: its games in their order, where each ended, and their running mean; and the
evaluations that were made as it went."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from a3c.errors import InputError
from a3c.metrics import RECENT_GAMES, Floats
from a3c.run import checkpoint, log

WINDOW = RECENT_GAMES  # of the running mean and of its band
BAND_FROM = 50  # games: quartiles of fewer jump from one whole score to the next


class NoGamesYet(InputError):
    """Of a run that is one, and may have games later."""


class Curve(NamedTuple):
    """The G games of one run in their order: where each ended, and its return. [G] each."""

    name: str
    agent_steps: Floats
    seconds: Floats
    returns: Floats


class Evaluations(NamedTuple):
    """The E evaluations of one run in their order: mean returns, nan where not finite. [E] each."""

    agent_steps: Floats
    seconds: Floats
    sampled: Floats
    greedy: Floats


def distinct(runs: tuple[str, ...]) -> list[Path]:
    """The run folders, each once: `runs/*` has the newest run twice, as runs/latest too."""
    found: dict[Path, Path] = {}
    for run in runs:
        found.setdefault(Path(os.path.realpath(run)), Path(run))
    return list(found.values())


def read_curves(runs: list[Path], needed: Path | None = None) -> dict[Path, Curve]:
    """The curves of those runs that have games or evaluations, each with a name of its own.

    A line on stderr names a run that has none yet. Raises InputError for a folder that is no run's,
    NoGamesYet where no run has any, or not the one that is needed.
    """
    names = [Path(os.path.realpath(run)).name for run in runs]
    if len(set(names)) < len(names):  # as of the same second on two machines
        names = [str(run) for run in runs]
    curves: dict[Path, Curve] = {}
    left_out: dict[Path, NoGamesYet] = {}
    for run, name in zip(runs, names, strict=True):
        try:
            curves[run] = read_curve(run, name)
        except NoGamesYet as error:
            left_out[run] = error
    if not curves or needed in left_out:
        raise left_out[needed or runs[0]]
    for each in left_out.values():
        print(f"{each}; left out", file=sys.stderr)
    return curves


def read_curve(run: Path, name: str) -> Curve:
    """All games that a run's metrics.jsonl reports. Raises InputError for what is no run, and
    NoGamesYet if there are none, nor evaluations.

    A record says how many games ended since the one before, not when: they are placed evenly
    between the two records. A line on stderr says which records are damaged: their games are
    missing.
    """
    check_is_run(run)
    before: log.Record = {"agent_steps": 0, "seconds": 0.0}
    curve: dict[str, list[float]] = {"agent_steps": [], "seconds": [], "returns": []}
    found = named(log.scan(run / log.METRICS), run / log.METRICS)
    for record in found.records:
        curve["returns"] += record["returns"]
        for column in before:
            curve[column] += places(before[column], record[column], len(record["returns"]))
        before = {column: record[column] for column in before}
    if not curve["returns"] and not (found.records and log.read_evaluations(run)):
        raise NoGamesYet(f"{run} has no finished games yet; there is nothing to draw")
    return Curve(name, **{column: np.array(values) for column, values in curve.items()})


def evaluation_curve(run: Path) -> Evaluations:
    """What a run's evaluations.jsonl reports; nothing of a run that was not evaluated.

    A line on stderr says which records are damaged.
    """
    names = ("agent_steps", "seconds", "sampled_return", "greedy_return")
    path = run / log.EVALUATIONS
    records = named(log.scan_lines(path, log.evaluation_of), path).records
    columns = [[record[name] for record in records] for name in names]
    return Evaluations(*(np.array(column, np.float64) for column in columns))  # None becomes nan


def named(found: log.Scan, path: Path) -> log.Scan:
    """The same; a line on stderr names what is damaged in it."""
    if found.damaged:
        print(f"{path} {log.left_out(found.damaged)}", file=sys.stderr)
    return found


def places(before: float, end: float, count: int) -> list[float]:
    """`count` equal steps from `before`, which is left out, to `end`."""
    return [before + (end - before) * (k + 1) / count for k in range(count)]


def check_is_run(run: Path) -> None:
    """Raise InputError for what has no games to draw, nor will have any."""
    if not run.exists():
        raise InputError(checkpoint.no_run_folder(run))
    why = None
    if not run.is_dir():
        why = "it is a file"
    elif not (run / log.METRICS).exists():
        why = "it has no metrics.jsonl"
    if why is not None:
        raise InputError(f"{run} has no finished games: {why}; expected a run folder")


def running(returns: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, first and third quartile of the last WINDOW games up to each game: [G] each.

    nan where one of these games has no finite return; the quartiles also before game BAND_FROM.
    """
    if not len(returns):
        return returns, returns, returns
    finite = np.isfinite(returns)
    padding = np.full(WINDOW - 1, np.nan)
    last = windows(np.concatenate([padding, np.where(finite, returns, 0.0)]))  # [G, WINDOW]
    first, full = last[: WINDOW - 1], last[WINDOW - 1 :]  # NumPy's functions for nan are slow
    mean = np.concatenate([np.nanmean(first, axis=1), full.mean(axis=1)])
    quartiles = 0.25, 0.75
    some, most = np.nanquantile(first, quartiles, axis=1), np.quantile(full, quartiles, axis=1)
    low, high = np.concatenate([some, most], axis=1)
    spoiled = windows(np.concatenate([np.zeros(WINDOW - 1, bool), ~finite])).any(axis=1)
    for column in (mean, low, high):
        column[spoiled] = np.nan
    for column in (low, high):
        column[: BAND_FROM - 1] = np.nan
    return mean, low, high


def windows(padded: Floats) -> Floats:
    """The last WINDOW values up to each: [G, WINDOW] of [WINDOW - 1 + G]."""
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW)
