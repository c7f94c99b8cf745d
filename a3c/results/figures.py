"""The figures of a study and their table, from its study.csv alone.

Lines are means over seeds; bands and bars are 95 % intervals of that mean, by SciPy's bootstrap.
A figure appears where the study varies what it is about.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from a3c import extras
from a3c.errors import as_input_error
from a3c.metrics import RECENT_GAMES, Floats
from a3c.results.charts import AGENT_STEPS, SECONDS, new_figure, unit, whole_numbers, write_figure
from a3c.results.output import markdown, write_text
from a3c.results.study_csv import EVALUATED, Rows, Runs, label_of, read_csv, setting_of
from a3c.run.terminal import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCIPY = (1, 15)  # the oldest that will do
PLACES = 60  # at which the seeds of a setting are averaged
MOST_DECIMALS = 6  # of a cell
Kind = tuple[str, str]  # method, environment


def check_scipy() -> None:
    """Raise InputError if SciPy is not installed, or older than its bootstrap's `rng`."""
    there = importlib.util.find_spec("scipy") is not None
    if not there or tuple(map(int, metadata.version("scipy").split(".")[:2])) < SCIPY:
        raise extras.missing("a table of several runs", "SciPy 1.15 or newer", "study")


def draw(path: Path, goal: float | None, unfinished: Sequence[str] = ()) -> list[Path]:
    """Write the figures that `path`, a study.csv, has the data for, beside it, and the table.

    unfinished: runs that have not come to their end, in words: the table names them. A figure that
    is there, and has no data any more, is removed: it would stand beside a table of other runs.
    """
    check_scipy()
    runs = read_csv(path)
    figures = []
    for name, drawing in drawings(runs, goal).items():
        if drawing is not None:
            figures.append(drawing(path=path.parent / name))
        else:
            with as_input_error(f"cannot remove {path.parent / name}, of other runs"):
                (path.parent / name).unlink(missing_ok=True)
    return [*figures, write_table(runs, goal, path.parent / "table.md", unfinished)]


def drawings(runs: Runs, goal: float | None) -> dict[str, Callable[..., Path] | None]:
    """All figures by name, and how each is drawn, to a `path`; None: there is no data for it."""
    returns, evaluated = (with_values(runs, each) for each in ("mean_return_100", EVALUATED))
    threads = values_of(runs, "num_threads")
    several, from_one = len(threads) > 1, len(threads) > 1 and 1.0 in threads
    rates = len(values_of(runs, "lr")) > 1
    return {
        "return.png": partial(draw_returns, returns, measured="mean_return_100")
        if returns
        else None,
        "evaluated-return.png": partial(draw_returns, evaluated, measured=EVALUATED)
        if evaluated
        else None,
        "threads.png": partial(draw_threads, runs) if several else None,
        "speed-up.png": partial(draw_speed_up, runs, goal)
        if from_one and goal is not None
        else None,
        "learning-rate.png": partial(draw_learning_rates, runs) if rates else None,
    }


def values_of(runs: Runs, name: str) -> list[float]:
    """The values that an option takes in a study, in order; none if it is not varied."""
    return sorted(
        {float(run[0][name]) for seeds in runs.values() for run in seeds if run[0].get(name)}
    )


def column(run: Rows, name: str) -> Floats:
    """One column of a run; nan where a cell is empty."""
    return np.array([float(row[name]) if row.get(name) else np.nan for row in run])


def with_values(runs: Runs, measured: str) -> Runs:
    """The settings all of whose runs measured it: many agents may have ended no game so far."""
    return {
        label: seeds
        for label, seeds in runs.items()
        if all(np.isfinite(column(run, measured)).any() for run in seeds)
    }


def interval(
    values: Floats, statistic: Callable[..., float] = np.mean
) -> tuple[float, float, float]:
    """A statistic of values, as of seeds, and its 95 % interval; of one value, itself alone.

    statistic: takes `axis`, as SciPy's bootstrap asks.
    """
    value = float(statistic(values))
    if len(values) < 2 or np.ptp(values) == 0:
        return value, value, value
    from scipy.stats import bootstrap  # an extra, see check_scipy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few values: the bootstrap's distribution is coarse
        found = bootstrap((values,), statistic, method="percentile", rng=np.random.default_rng(0))
    return value, float(found.confidence_interval.low), float(found.confidence_interval.high)


LABELS = {
    "mean_return_100": "mean return of the last 100 games",
    EVALUATED: "mean return of evaluation games",
}


def draw_returns(runs: Runs, path: Path, measured: str) -> Path:
    """Return against agent steps and against wall-clock, one line a setting."""
    figure, axes = new_figure(13, 5, 2, sharey=True)
    for axis, name, units in zip(
        axes, ("agent_steps", "seconds"), (AGENT_STEPS, SECONDS), strict=True
    ):
        lines = {label: averaged(seeds, name, measured) for label, seeds in runs.items()}
        size, text = unit(max(float(place[-1]) for place, *_ in lines.values()), units)
        for label, (place, mean, low, high) in lines.items():
            seeds = counted(len(runs[label]), "seed")
            marker = "." if place[0] == place[-1] else None  # a single record makes no line
            axis.plot(place / size, mean, label=f"{label} ({seeds})", marker=marker)
            axis.fill_between(place / size, low, high, alpha=0.2, linewidth=0)
        axis.set_xlabel(text)
    axes[0].set_ylabel(LABELS[measured])
    return write_figure(figure, path)


def averaged(seeds: list[Rows], name: str, measured: str) -> tuple[Floats, Floats, Floats, Floats]:
    """Places that all seeds reach, from where all have been measured; and there mean, low and high
    of what was measured."""
    curves = [known(run, name, measured) for run in seeds]
    first = max(places[0] for places, _ in curves)
    end = min(places[-1] for places, _ in curves)
    place = np.linspace(min(first, end), end, PLACES)
    returns = [np.interp(place, *curve) for curve in curves]
    points = [interval(at) for at in np.array(returns).T]
    mean, low, high = np.array(points).T
    return place, mean, low, high


def known(run: Rows, name: str, measured: str) -> tuple[Floats, Floats]:
    """Where it was measured, and what: the rows that say it."""
    values = column(run, measured)
    return column(run, name)[np.isfinite(values)], values[np.isfinite(values)]


def draw_threads(runs: Runs, path: Path) -> Path:
    """Agent steps per second and policy lag against the number of threads."""
    figure, axes = new_figure(11, 4.5, 2)
    with_intervals(axes[0], runs, "num_threads", speed)
    with_intervals(axes[1], runs, "num_threads", policy_lag)
    for axis, text in zip(axes, ("agent steps per second", "policy lag, updates"), strict=True):
        axis.set_xlabel("threads")
        whole_numbers(axis)
        axis.set_ylabel(text)
        axis.set_ylim(bottom=0)
    return write_figure(figure, path)


def speed(run: Rows) -> float:
    """Agent steps per second over a whole run."""
    return float(column(run, "agent_steps")[-1] / column(run, "seconds")[-1])


def policy_lag(run: Rows) -> float:
    """Mean over the points of a run's curve, in updates; nan if it logged none."""
    lags = column(run, "policy_lag")
    return float(np.nanmean(lags)) if np.isfinite(lags).any() else np.nan


def final_return(run: Rows) -> float:
    """Mean of the last 100 games."""
    return float(column(run, "mean_return_100")[-1])


def final_evaluation(run: Rows) -> float:
    """The last one's mean return; nan if there was none."""
    _, returns = known(run, "agent_steps", EVALUATED)
    return float(returns[-1]) if len(returns) else np.nan


def draw_speed_up(runs: Runs, goal: float, path: Path) -> Path:
    """How much sooner the goal is reached than by one thread of the same kind, by agent steps and
    by seconds: the paper's Figure 3 and Table 2. By evaluation games, where there are any."""
    measured = measured_by(runs)
    figure, axes = new_figure(11, 4.5, 2)
    for axis, name in zip(axes, ("agent_steps", "seconds"), strict=True):
        alone = alone_by_kind(runs, goal, name, measured)
        sooner = partial(times_fewer, alone=alone, goal=goal, name=name, measured=measured)
        with_points(axis, runs, "num_threads", sooner)
        axis.set_xlabel("threads")
        whole_numbers(axis)
        axis.set_ylabel(f"{name.replace('_', ' ')}: times fewer to a mean return of {goal:g}")
    axes[0].set_title(
        "1: the best setting of one thread; 0: not reached by every seed", fontsize="medium"
    )
    return write_figure(figure, path)


def times_fewer(
    seeds: list[Rows], alone: dict[Kind, float], goal: float, name: str, measured: str
) -> tuple[float, float, float]:
    """What one thread of the setting's kind needs to the goal, by what its own seeds need in the
    mean; and the 95 % interval. 0 where a seed does not reach it."""
    needed = np.array([reached(run, goal, name, measured) for run in seeds])
    if not np.isfinite(needed).all():
        return 0.0, 0.0, 0.0
    one = alone[kind_of(seeds[0])]

    def by_mean(values: Floats, axis: int = -1) -> Any:  # [...], without the axis
        return one / np.mean(values, axis=axis)

    return interval(needed, by_mean)


def measured_by(runs: Runs) -> str:
    """What says how good a policy is: evaluation games, if every run has them."""
    evaluated = with_values(runs, EVALUATED)
    return EVALUATED if len(evaluated) == len(runs) else "mean_return_100"


def kind_of(run: Rows) -> Kind:
    """Method and environment, as far as the study varies them: one is not as fast as another."""
    return run[0].get("method", ""), run[0].get("env", "")


def alone_by_kind(runs: Runs, goal: float, name: str, measured: str) -> dict[Kind, float]:
    """Of each kind, the mean to the goal of the best setting of one thread; nan if no setting's
    seeds all reach it."""
    best: dict[Kind, float] = {}
    for seeds in runs.values():
        kind = kind_of(seeds[0])
        best.setdefault(kind, np.inf)
        if setting_of(seeds[0][0]).get("num_threads") == "1":
            mean = float(np.mean([reached(run, goal, name, measured) for run in seeds]))
            best[kind] = min(best[kind], mean)
    return {kind: mean if np.isfinite(mean) else np.nan for kind, mean in best.items()}


def reached(run: Rows, goal: float, name: str, measured: str = "mean_return_100") -> float:
    """The named column where the return first passes the goal; infinity if it never does.

    A mean of training's games counts once it is of RECENT_GAMES: the first to end may be the best.
    """
    returns = column(run, measured)
    if measured == "mean_return_100":
        returns[column(run, "episodes") < RECENT_GAMES] = np.nan
    passed = np.flatnonzero(returns >= goal)
    return float(column(run, name)[passed[0]]) if len(passed) else np.inf


def write_table(runs: Runs, goal: float | None, path: Path, unfinished: Sequence[str] = ()) -> Path:
    """The settings' means over seeds, with their intervals, as Markdown."""
    measures: dict[str, Callable[[Rows], float]] = {
        "return at the end": final_return,
        "agent steps per second": speed,
        "policy lag, updates": policy_lag,
    }
    if goal is not None:
        measures[f"agent steps to a return of {goal:g}"] = lambda run: reached(
            run, goal, "agent_steps"
        )
        measures[f"seconds to a return of {goal:g}"] = lambda run: reached(run, goal, "seconds")
    if any(np.isfinite(column(run, EVALUATED)).any() for seeds in runs.values() for run in seeds):
        measures |= by_evaluation(goal)
    rows = [
        [
            label,
            len(seeds),
            *(table_cell(np.array([of(run) for run in seeds])) for of in measures.values()),
        ]
        for label, seeds in runs.items()
    ]
    lines = markdown(["setting", "seeds", *measures], rows)
    if unfinished:
        lines += [
            "",
            "Not at their end; they count here and in the figures as far as they came:",
            "",
        ]
        lines += [f"- {run}" for run in unfinished]
    return write_text(path, "\n".join(lines) + "\n")


def by_evaluation(goal: float | None) -> dict[str, Callable[[Rows], float]]:
    """What the table says of runs that were evaluated as they went."""
    measures: dict[str, Callable[[Rows], float]] = {"evaluated return at the end": final_evaluation}
    if goal is not None:
        measures[f"agent steps to an evaluated return of {goal:g}"] = lambda run: reached(
            run, goal, "agent_steps", EVALUATED
        )
    return measures


def table_cell(values: Floats) -> str:
    """`mean (low to high)`, to three digits; of values that not all seeds reached, how many did."""
    if not np.isfinite(values).all():
        return f"by {np.isfinite(values).sum()} of {len(values)}"
    mean, low, high = (f"{value:,.{digits(value)}f}" for value in interval(values))
    return mean if low == high else f"{mean} ({low} to {high})"


def digits(value: float) -> int:
    """Decimals that show three digits of a value, or two where it is below 1."""
    exponent = np.floor(np.log10(abs(value) or 1))  # of ten; 0.00 for nothing
    return int(np.clip((2 if exponent >= 0 else 1) - exponent, 0, MOST_DECIMALS))


def draw_learning_rates(runs: Runs, path: Path) -> Path:
    """Final return against the learning rate: the paper's Figure 2."""
    figure, (axis,) = new_figure(8, 4.5)
    measured = measured_by(runs)
    with_intervals(axis, runs, "lr", final_evaluation if measured == EVALUATED else final_return)
    axis.set_xscale("log")
    axis.set_xlabel("learning rate")
    axis.set_ylabel(f"{LABELS[measured]}, at the end")
    return write_figure(figure, path)


def with_intervals(axis: Axes, runs: Runs, name: str, measure: Callable[[Rows], float]) -> None:
    """`with_points` of the means over seeds."""
    with_points(axis, runs, name, lambda seeds: interval(np.array([measure(run) for run in seeds])))


def with_points(
    axis: Axes, runs: Runs, name: str, found: Callable[[list[Rows]], tuple[float, float, float]]
) -> None:
    """A point with its interval for each setting, at the setting's value of an option.

    Settings that differ in that option alone are joined by a line.
    """
    lines: dict[str, list[tuple[float, float, float, float]]] = {}
    for seeds in runs.values():
        setting = setting_of(seeds[0][0])
        if name not in setting:
            continue  # it leaves the option alone
        place = float(setting.pop(name))
        lines.setdefault(label_of(setting), []).append((place, *found(seeds)))
    for i, (label, line) in enumerate(lines.items()):
        place, mean, low, high = np.array(sorted(line)).T
        marker = "o" if i < 10 else "s"
        axis.errorbar(place, mean, [mean - low, high - mean], marker=marker, label=label)
