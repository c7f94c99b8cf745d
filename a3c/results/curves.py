"""The curve of a run: its games in their order, where each ended, and their running mean."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from a3c import log
from a3c.config import InputError

Floats = NDArray[np.float64]

WINDOW = 100  # games of the running mean and of its band
BAND_FROM = 50  # games: quartiles of fewer jump from one whole score to the next


class Curve(NamedTuple):
    """The G games of one run in their order: where each ended, and its return. [G] each."""

    name: str
    agent_steps: Floats
    seconds: Floats
    returns: Floats


def distinct(runs: tuple[str, ...]) -> list[Path]:
    """The run folders, each once: `runs/*` has the newest run twice, as runs/latest too."""
    found: dict[Path, Path] = {}
    for run in runs:
        found.setdefault(Path(run).resolve(), Path(run))
    return list(found.values())


def read_curves(runs: list[Path]) -> list[Curve]:
    """The curves of several runs, each with a name of its own.

    Raises InputError for a folder that is no run's, or has no games.
    """
    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):  # as of the same second on two machines
        names = [str(run) for run in runs]
    return [read_curve(run, name) for run, name in zip(runs, names, strict=True)]


def read_curve(run: Path, name: str) -> Curve:
    """All games that a run's metrics.jsonl reports. Raises InputError if there are none.

    A record says how many games ended since the one before, not when: they are placed evenly
    between the two records.
    """
    steps, seconds, returns = [0.0], [0.0], list[float]()
    for record in read_records(run):
        games = [as_number(value) for value in as_list(record.get("returns"))]
        steps += places(steps[-1], record["agent_steps"], len(games))
        seconds += places(seconds[-1], record["seconds"], len(games))
        returns += games
    if not returns:
        raise InputError(no_games(run))
    return Curve(name, np.array(steps[1:]), np.array(seconds[1:]), np.array(returns))


def places(before: float, end: float, count: int) -> list[float]:
    """`count` equal steps from `before`, which is left out, to `end`."""
    return [before + (end - before) * (k + 1) / count for k in range(count)]


def read_records(run: Path) -> list[dict[str, Any]]:
    """The records of a run that say where they stand, in agent steps and seconds.

    None if the run has none yet. Raises InputError if the file cannot be read.
    """
    path = run / "metrics.jsonl"
    try:
        records = log.read(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"cannot read {path}: it is no text") from None
    return [
        record
        for record in records
        if isinstance(record, dict)
        and all(math.isfinite(as_number(record.get(name))) for name in ("agent_steps", "seconds"))
    ]


def no_games(run: Path) -> str:
    """Why there is nothing to draw."""
    if not run.exists():
        return f"{run} has no finished games: there is no such folder; expected a run folder"
    if not run.is_dir():
        return f"{run} has no finished games: it is a file; expected a run folder"
    if not (run / "metrics.jsonl").exists():
        return f"{run} has no finished games: it has no metrics.jsonl; expected a run folder"
    return f"{run} has no finished games yet; there is nothing to draw"


def as_number(value: Any) -> float:
    """A number of a record; nan for whatever is none (null, a missing key, a damaged line)."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known else math.nan


def as_list(value: Any) -> list[Any]:
    """A list of a record; empty for whatever is none."""
    return value if isinstance(value, list) else []


def running(returns: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, first and third quartile of the last WINDOW games up to each game: [G] each.

    nan where one of these games has no finite return; the quartiles also before game BAND_FROM.
    """
    finite = np.isfinite(returns)
    padding = np.full(WINDOW - 1, np.nan)
    last = windows(np.concatenate([padding, np.where(finite, returns, 0.0)]))  # [G, WINDOW]
    mean = np.nanmean(last, axis=1)
    low, high = np.nanquantile(last, (0.25, 0.75), axis=1)
    spoiled = windows(np.concatenate([np.zeros(WINDOW - 1, bool), ~finite])).any(axis=1)
    for column in (mean, low, high):
        column[spoiled] = np.nan
    for column in (low, high):
        column[: BAND_FROM - 1] = np.nan
    return mean, low, high


def windows(padded: NDArray[Any]) -> NDArray[Any]:
    """The last WINDOW values up to each: [G, WINDOW] of [WINDOW - 1 + G]."""
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW)
