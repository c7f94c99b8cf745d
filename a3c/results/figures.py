"""The figures of a study and their table, from its study.csv alone.

Lines are means over seeds; bands and bars are 95 % intervals of that mean, by SciPy's bootstrap.
A figure appears where the study varies what it is about.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a3c.config import InputError
from a3c.results.study import MEASURED, label_of

try:
    from scipy.stats import bootstrap
except ImportError:
    raise InputError("a study needs SciPy; pip install 'a3c-gpu[study]'") from None

Floats = NDArray[np.float64]
Run = list[dict[str, str]]  # the rows of one run, in order
Runs = dict[str, list[Run]]  # by setting

POINTS = 60  # at which the seeds of a setting are averaged


def draw(path: Path, goal: float | None) -> list[Path]:
    """Write the figures that `path`, a study.csv, has the data for, beside it."""
    import matplotlib

    matplotlib.use("Agg")
    runs = read(path)
    figures = [curves(runs, path.parent / "return.png")]
    if len(values_of(runs, "num_threads")) > 1:
        figures.append(threads(runs, path.parent / "threads.png"))
        if goal is not None and 1.0 in values_of(runs, "num_threads"):
            figures.append(speed_up(runs, goal, path.parent / "speed-up.png"))
    if len(values_of(runs, "lr")) > 1:
        figures.append(learning_rates(runs, path.parent / "learning-rate.png"))
    return [*figures, table(runs, goal, path.parent / "table.md")]


def read(path: Path) -> Runs:
    """The runs of a CSV by setting, each a list of its rows."""
    found: dict[str, dict[str, Run]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            label = label_of(setting_of(row))
            found.setdefault(label, {}).setdefault(row["seed"], []).append(row)
    return {label: list(seeds.values()) for label, seeds in found.items()}


def setting_of(row: dict[str, str]) -> dict[str, str]:
    """The options that a row's setting varies."""
    return {name: value for name, value in row.items() if value and name not in ("seed", *MEASURED)}


def values_of(runs: Runs, name: str) -> list[float]:
    """The values that an option takes in a study, in order; none if it is not varied."""
    return sorted(
        {float(run[0][name]) for seeds in runs.values() for run in seeds if run[0].get(name)}
    )


def column(run: Run, name: str) -> Floats:
    """One column of a run; nan where a cell is empty."""
    return np.array([float(row[name]) if row[name] else np.nan for row in run])


def interval(values: Floats) -> tuple[float, float, float]:
    """Mean over seeds, and the 95 % interval of that mean; of one seed, the mean alone."""
    mean = float(np.mean(values))
    if len(values) < 2 or np.ptp(values) == 0:
        return mean, mean, mean
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few seeds: the bootstrap's distribution is coarse
        found = bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0))
    return mean, float(found.confidence_interval.low), float(found.confidence_interval.high)


def curves(runs: Runs, path: Path) -> Path:
    """Return against agent steps and against wall-clock, one line a setting."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(13, 7), sharey=True, layout="constrained")
    style(axes)
    for label, seeds in runs.items():
        for axis, name, unit in zip(axes, ("agent_steps", "seconds"), (1e6, 60), strict=True):
            place, mean, low, high = averaged(seeds, name)
            axis.plot(place / unit, mean, label=f"{label} ({len(seeds)} seeds)")
            axis.fill_between(place / unit, low, high, alpha=0.2, linewidth=0)
    for axis, text in zip(axes, ("million agent steps", "minutes"), strict=True):
        axis.set_xlabel(text)
    axes[0].set_ylabel("mean return of the last 100 games")
    return save(figure, axes[0], path)


def averaged(seeds: list[Run], name: str) -> tuple[Floats, Floats, Floats, Floats]:
    """Places as far as all seeds reach, and there mean, low and high of the return."""
    end = min(column(run, name)[-1] for run in seeds)
    place = np.linspace(end / POINTS, end, POINTS)
    returns = [np.interp(place, column(run, name), column(run, "mean_return_100")) for run in seeds]
    points = [interval(at) for at in np.array(returns).T]
    mean, low, high = np.array(points).T
    return place, mean, low, high


def threads(runs: Runs, path: Path) -> Path:
    """Agent steps per second and policy lag against the number of threads."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 6), layout="constrained")
    style(axes)
    points(axes[0], runs, "num_threads", speed)
    points(axes[1], runs, "num_threads", policy_lag)
    for axis, text in zip(axes, ("agent steps per second", "policy lag, updates"), strict=True):
        axis.set_xlabel("threads")
        axis.set_ylabel(text)
        axis.set_ylim(bottom=0)
    return save(figure, axes[0], path)


def speed(run: Run) -> float:
    """Agent steps per second over a whole run."""
    return float(column(run, "agent_steps")[-1] / column(run, "seconds")[-1])


def policy_lag(run: Run) -> float:
    """Mean over the points of a run's curve, in updates."""
    return float(np.nanmean(column(run, "policy_lag")))


def final_return(run: Run) -> float:
    """Mean of the last 100 games."""
    return float(column(run, "mean_return_100")[-1])


def speed_up(runs: Runs, goal: float, path: Path) -> Path:
    """How many times faster the goal is reached than by one thread: the paper's Table 2."""
    from matplotlib import pyplot

    base = seconds_alone(runs, goal)
    figure, axis = pyplot.subplots(figsize=(8, 6), layout="constrained")
    style([axis])
    points(axis, runs, "num_threads", lambda run: base / to(run, goal, "seconds"))
    axis.set_xlabel("threads")
    axis.set_title("1: the fastest setting of one thread; 0: not reached", fontsize="medium")
    axis.set_ylabel(f"speed-up to a mean return of {goal:g}")
    return save(figure, axis, path)


def seconds_alone(runs: Runs, goal: float) -> float:
    """Mean time to the goal of the fastest setting of one thread; nan if none always reaches it."""
    times = [
        float(np.mean([to(run, goal, "seconds") for run in seeds]))
        for seeds in runs.values()
        if setting_of(seeds[0][0]).get("num_threads") == "1"
    ]
    return min(times) if np.isfinite(min(times)) else np.nan


def to(run: Run, goal: float, name: str) -> float:
    """The named column where the mean return first passes the goal; infinity if it never does."""
    passed = np.flatnonzero(column(run, "mean_return_100") >= goal)
    return float(column(run, name)[passed[0]]) if len(passed) else np.inf


def table(runs: Runs, goal: float | None, path: Path) -> Path:
    """The settings' means over seeds, with their intervals, as Markdown."""
    measures: dict[str, Callable[[Run], float]] = {
        "return at the end": final_return,
        "agent steps per second": speed,
        "policy lag, updates": policy_lag,
    }
    if goal is not None:
        measures[f"agent steps to a return of {goal:g}"] = lambda run: to(run, goal, "agent_steps")
        measures[f"seconds to a return of {goal:g}"] = lambda run: to(run, goal, "seconds")
    lines = [
        f"| setting | seeds | {' | '.join(measures)} |",
        f"| --- | ---: {'| ---: ' * len(measures)}|",
    ]
    for label, seeds in runs.items():
        cells = [cell(np.array([measure(run) for run in seeds])) for measure in measures.values()]
        lines.append(f"| {label} | {len(seeds)} | {' | '.join(cells)} |")
    path.write_text("\n".join(lines) + "\n")
    return path


def cell(values: Floats) -> str:
    """`mean (low to high)`, to three digits; of values that not all seeds reached, how many did."""
    if not np.isfinite(values).all():
        return f"by {np.isfinite(values).sum()} of {len(values)}"
    mean, low, high = (f"{value:,.{digits(value)}f}" for value in interval(values))
    return mean if low == high else f"{mean} ({low} to {high})"


def digits(value: float) -> int:
    """Decimals that show three digits of a value."""
    return int(np.clip(2 - np.floor(np.log10(max(abs(value), 0.01))), 0, 2))


def learning_rates(runs: Runs, path: Path) -> Path:
    """Final return against the learning rate: the paper's Figure 2."""
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 6), layout="constrained")
    style([axis])
    points(axis, runs, "lr", final_return)
    axis.set_xscale("log")
    axis.set_xlabel("learning rate")
    axis.set_ylabel("mean return of the last 100 games, at the end")
    return save(figure, axis, path)


def points(axis: Any, runs: Runs, name: str, measure: Callable[[Run], float]) -> None:
    """A point with its interval for each setting, at the setting's value of an option.

    Settings that differ in that option alone are joined by a line.
    """
    lines: dict[str, list[tuple[float, float, float, float]]] = {}
    for seeds in runs.values():
        setting = setting_of(seeds[0][0])
        if name not in setting:
            continue  # it leaves the option alone
        place = float(setting.pop(name))
        found = interval(np.array([measure(run) for run in seeds]))
        lines.setdefault(label_of(setting), []).append((place, *found))
    for i, (label, line) in enumerate(lines.items()):
        place, mean, low, high = np.array(sorted(line)).T
        marker = "o" if i < 10 else "s"
        axis.errorbar(place, mean, [mean - low, high - mean], marker=marker, label=label)


def style(axes: Iterable[Any]) -> None:
    """A grid, and lines of their own for twenty settings: ten colours, then the same dashed."""
    from cycler import cycler
    from matplotlib import rcParams

    for axis in axes:
        axis.grid(alpha=0.3)
        axis.set_prop_cycle(cycler(linestyle=["-", "--"]) * rcParams["axes.prop_cycle"])


def save(figure: Any, axis: Any, path: Path) -> Path:
    """Put the legend of `axis` below the figure, write the figure and forget it."""
    from matplotlib import pyplot

    labels = axis.get_legend_handles_labels()
    figure.legend(*labels, loc="outside lower center", ncols=2, fontsize="small")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
