"""Curves of runs: returns against agent steps, episodes and hours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from numpy.typing import NDArray

from a3c import log
from a3c.config import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PlotOptions:
    """Draw the returns of runs against agent steps, episodes and hours."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Run folders, one line each."""
    out: str = "curves.png"
    """Picture to write; the ending chooses the kind (png, pdf, svg)."""


class Curve(NamedTuple):
    """The games of one run in their order, each placed at the record that reported it."""

    name: str
    agent_steps: Floats
    seconds: Floats
    returns: Floats


WINDOW = 100  # games of the running mean and of its band


def plot(options: PlotOptions) -> Path:
    """Write the picture; returns its path. Raises InputError for a folder without games."""
    if not options.runs:
        raise InputError("plot needs at least one run folder")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves = [read_curve(Path(run)) for run in options.runs]
    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.2), sharey=True, layout="constrained")
    for curve in curves:
        mean, low, high = running(curve.returns)
        games = np.arange(1, len(curve.returns) + 1)
        places = (curve.agent_steps / 1e6, games / 1e3, curve.seconds / 3600)
        for axis, place in zip(axes, places, strict=True):
            axis.plot(place, mean, label=curve.name)
            axis.fill_between(place, low, high, alpha=0.2, linewidth=0)
    for axis, label in zip(axes, ("million agent steps", "thousand games", "hours"), strict=True):
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"return: mean of {WINDOW} games, band of the middle half")
    axes[0].legend()
    out = Path(options.out)
    try:
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {out}: {error}") from None
    finally:
        pyplot.close(figure)
    return out


def read_curve(run: Path) -> Curve:
    """All games that a run's metrics.jsonl reports."""
    records = log.read(run / "metrics.jsonl")
    games = [(record, value) for record in records for value in record["returns"]]
    if not games:
        raise InputError(f"{run} has no finished games to plot; expected a run folder of a3c train")
    columns: list[list[Any]] = [
        [record["agent_steps"] for record, _ in games],
        [record["seconds"] for record, _ in games],
        [value for _, value in games],
    ]
    return Curve(run.resolve().name, *(np.array(column, float) for column in columns))


def running(values: Floats, window: int = WINDOW) -> tuple[Floats, Floats, Floats]:
    """Mean, first and third quartile of the last `window` values up to each: [G] each."""
    padded = np.concatenate([np.full(window - 1, np.nan), values])
    last = np.lib.stride_tricks.sliding_window_view(padded, window)  # [G, window]
    low, high = np.nanquantile(last, (0.25, 0.75), axis=1)
    return np.nanmean(last, axis=1), low, high
