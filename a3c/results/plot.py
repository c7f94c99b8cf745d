"""`a3c plot`: curves of runs, returns against agent steps, games and time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from a3c.errors import InputError
from a3c.metrics import Floats
from a3c.results.charts import (
    AGENT_STEPS,
    GAMES,
    SECONDS,
    Units,
    as_label,
    new_figure,
    picture_kind,
    unit,
    whole_numbers,
    write_figure,
)
from a3c.results.curves import (
    WINDOW,
    Curve,
    Evaluations,
    distinct,
    evaluation_curve,
    read_curves,
    running,
)

if TYPE_CHECKING:  # half a second to import, so not at the top
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class PlotOptions:
    """Draw the returns of runs against agent steps, games and time; dotted: of evaluations."""

    runs: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint=""),
    ]
    """Run folders, one line each."""
    out: str = "curves.png"
    """Picture to write; the ending chooses the kind (png, pdf, svg)."""


def plot(options: PlotOptions) -> Path:
    """Write the picture; returns its path.

    Runs without games or evaluations are left out. Raises InputError for a folder that is no run's,
    where no run has any, or for a picture that cannot be written.
    """
    if not options.runs:
        raise InputError("plot needs at least one run folder")
    out = Path(options.out)
    picture_kind(out)
    found = read_curves(distinct(options.runs))
    curves, evaluated = list(found.values()), [evaluation_curve(run) for run in found]
    bands = [running(curve.returns) for curve in curves]  # 8 us a game
    figure, axes = new_figure(15, 4.2, 3, sharey=True)
    for axis, places, units in zip(axes, along(curves), (AGENT_STEPS, GAMES, SECONDS), strict=True):
        column = EVALUATED_ALONG[units]
        there = [*places, *(getattr(run, column) for run in evaluated if column is not None)]
        size, label = unit(max((float(each[-1]) for each in there if len(each)), default=0), units)
        for curve, place, (mean, low, high) in zip(curves, places, bands, strict=True):
            marker = "." if len(mean) == 1 else None  # a single game makes no line
            axis.plot(place / size, mean, label=as_label(curve.name), marker=marker)
            axis.fill_between(place / size, low, high, alpha=0.2, linewidth=0)
        if column is not None:
            draw_evaluations(axis, evaluated, column, size)
        axis.set_xlabel(label)
        axis.set_xlim(left=0)
    whole_numbers(axes[1])  # games
    axes[0].set_ylabel(f"return: mean of {WINDOW} games, band of the middle half")
    return write_figure(figure, out)


# No evaluation is at a game of training
EVALUATED_ALONG: dict[Units, str | None] = {
    AGENT_STEPS: "agent_steps",
    GAMES: None,
    SECONDS: "seconds",
}


def draw_evaluations(axis: Axes, evaluated: list[Evaluations], along: str, size: float) -> None:
    """The mean returns of sampled games: dots in the colours of the runs' own lines."""
    for found, line in zip(evaluated, list(axis.get_lines()), strict=True):
        if len(found.sampled):
            label = f"{line.get_label()}, by evaluation"
            place = getattr(found, along) / size
            colour = line.get_color()
            axis.plot(place, found.sampled, color=colour, marker=".", linestyle=":", label=label)


def along(curves: list[Curve]) -> tuple[list[Floats], list[Floats], list[Floats]]:
    """Where the games of each curve lie along the three axes."""
    return (
        [curve.agent_steps for curve in curves],
        [np.arange(1.0, len(curve.returns) + 1) for curve in curves],
        [curve.seconds for curve in curves],
    )
