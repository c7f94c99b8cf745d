"""What all pictures have in common: axes with a grid, a legend beside the curves, whole files.

Without pyplot, so that a notebook's own pictures and their back end stay as they are.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from a3c.errors import InputError, nearest
from a3c.results.output import whole_file

if TYPE_CHECKING:  # half a second to import, so not at the top
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE_KINDS = ["png", "pdf", "svg"]
LEGEND_COLUMNS = 2
LEGEND_ROW = 0.22  # inches


# (from which highest value on, what it is divided by, the label)
Units = tuple[tuple[float, float, str], ...]
AGENT_STEPS: Units = (
    (1e6, 1e6, "million agent steps"),
    (1e4, 1e3, "thousand agent steps"),
    (0, 1, "agent steps"),
)
GAMES: Units = ((1e4, 1e3, "thousand games"), (0, 1, "games"))
SECONDS: Units = ((3 * 3600, 3600, "hours"), (180, 60, "minutes"), (0, 1, "seconds"))


def new_figure(
    width: float, height: float, columns: int = 1, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A row of axes, in inches, the legend not counted.

    Each has a grid, and lines of their own for twenty curves: ten colours, then the same dashed.
    """
    from cycler import cycler
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    axes = list(figure.subplots(1, columns, sharey=sharey, squeeze=False)[0])
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.set_prop_cycle(cycler(linestyle=["-", "--"]) * rcParams["axes.prop_cycle"])
    return figure, axes


def whole_numbers(axis: Axes) -> None:
    """Ticks of the x axis at whole numbers: there is no half game or thread."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def as_label(name: str) -> str:
    """A folder's name as matplotlib shows it whole: it hides what begins with _, and takes what
    stands between $ for mathematics."""
    shown = name.encode(errors="replace").decode().replace("$", r"\$")
    return f"./{shown}" if shown.startswith("_") else shown


def write_figure(figure: Figure, path: Path) -> Path:
    """Put the first axes' legend below all axes, in height of its own, and write the picture.

    Raises InputError for another ending than PICTURE_KINDS, or if it cannot be written.
    """
    kind = picture_kind(path)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    height = figure.get_figheight() + LEGEND_ROW * math.ceil(len(labels) / LEGEND_COLUMNS)
    figure.set_figheight(height)
    figure.legend(
        handles, labels, loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize="small"
    )
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format=kind)
    return path


def picture_kind(path: Path) -> str:
    """The kind of picture that a name asks for. Raises InputError for one not in PICTURE_KINDS."""
    kind = path.suffix.removeprefix(".").lower()
    if kind not in PICTURE_KINDS:
        endings = ", ".join(f".{kind}" for kind in PICTURE_KINDS)
        hint = nearest(path.suffix.lower(), [f".{kind}" for kind in PICTURE_KINDS])
        raise InputError(f"{path} does not end like a picture; expected {endings}{hint}")
    return kind


def unit(highest: float, units: Units) -> tuple[float, str]:
    """What to divide values by, and what they are called then."""
    return next((size, label) for start, size, label in units if highest >= start)
