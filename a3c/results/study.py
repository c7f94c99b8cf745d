"""A study: one run after another for every setting of a grid, a CSV of their curves, figures.

The CSV is the study's result: the figures are drawn from it alone. What runs are there is taken as
it is, so that an interrupted study goes on where it stood.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from rich.live import Live
from rich.table import Table

from a3c import checkpoint, log
from a3c.config import Config, InputError, nearest, preset
from a3c.train import train

POINTS = 100  # of each run's curve in the CSV
KEYS = ("base", "settings", "grid", "goal")
MEASURED = ("agent_steps", "seconds", "mean_return_100", "agent_steps_per_second", "policy_lag")


@dataclass(frozen=True)
class StudyOptions:
    """Run a grid of settings, one run after another; write study.csv and figures.

    SPEC is a TOML file: [base] has `preset` and options common to all runs; each [[settings]] and
    every combination of the lists in [grid] (seed = [1, 2, 3]) make runs; `goal` is the mean return
    whose time is compared. Give the command again to go on after an interruption.
    """

    spec: tyro.conf.Positional[str]
    """TOML file that describes the study."""
    out: str = "study"
    """Folder for the runs, study.csv and the figures."""


class Planned(NamedTuple):
    """One run of a study."""

    setting: dict[str, Any]  # the options that the study varies, without the seed
    config: Config
    runs_dir: Path

    @property
    def folder(self) -> Path:
        return self.runs_dir / "latest"

    @property
    def label(self) -> str:
        """The setting in words: `num_threads 2, num_envs 64`."""
        return label_of(self.setting)


def study(options: StudyOptions) -> list[Path]:
    """Run what is still to be run, then write study.csv and the figures; returns their paths.

    After Ctrl-C what has been run is written all the same. Raises InputError for a bad SPEC.
    """
    from a3c.results import figures  # needs the extra `study`: ask before hours of runs, not after

    spec = read_spec(Path(options.spec))
    out = Path(options.out)
    plans = plan(spec, out)
    with Live(get_renderable=lambda: progress(plans), refresh_per_second=0.5) as live:
        for planned in plans:
            if not (finished(planned) or run(planned)):
                break  # interrupted
    if not live.console.is_terminal:
        live.console.line()  # there rich leaves the table's last line open
    path = out / "study.csv"
    found = [row for planned in plans for row in rows(planned)]
    if not found:
        return []  # interrupted before the first run ended a game
    write(path, found)
    return [path, *figures.draw(path, spec.get("goal"))]


def read_spec(path: Path) -> dict[str, Any]:
    """The SPEC as it stands. Raises InputError if it cannot be read or has unknown keys."""
    try:
        spec = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}") from None
    for key in spec:
        if key not in KEYS:
            hint = nearest(key, list(KEYS))
            raise InputError(f"{path} has {key!r}; expected {', '.join(KEYS)}{hint}")
    return spec


def plan(spec: dict[str, Any], out: Path) -> list[Planned]:
    """Every run of a study: settings times combinations of the grid. Raises InputError."""
    base = dict(spec.get("base", {}))
    name = base.pop("preset", "fast")
    grid = {"seed": [1], **spec.get("grid", {})}
    plans = []
    # every setting before the next seed: a part of a study compares them all, and a noisy hour
    # disturbs them all
    for values in itertools.product(*grid.values()):
        for setting in spec.get("settings", [{}]):
            varied = {**setting, **dict(zip(grid, values, strict=True))}
            check_names([*base, *varied])
            runs_dir = out / "runs" / slug(varied)
            config = preset(name, **{**base, **varied, "runs_dir": str(runs_dir)})
            seedless = {key: value for key, value in varied.items() if key != "seed"}
            plans.append(Planned(seedless, config, runs_dir))
    return plans


def check_names(names: Iterable[str]) -> None:
    """Raise InputError for a name that is no option."""
    options = [field.name for field in dataclasses.fields(Config)]
    for name in names:
        if name not in options:
            raise InputError(f"the study sets {name!r}, no option{nearest(name, options)}")


def slug(varied: dict[str, Any]) -> str:
    """A folder's name for a setting."""
    return "_".join(f"{name}-{value}" for name, value in varied.items())


def label_of(setting: dict[str, Any]) -> str:
    """A setting in words."""
    return ", ".join(f"{name} {value}" for name, value in setting.items()) or "defaults"


def finished(planned: Planned) -> bool:
    """Whether the run has reached its end."""
    records = log.read(planned.folder / "metrics.jsonl")
    total = planned.config.total_agent_steps
    return bool(records) and records[-1]["agent_steps"] >= total


def run(planned: Planned) -> bool:
    """Start the run, or go on with it; returns whether it reached its end."""
    resumable = planned.folder.exists() and checkpoint.numbered(planned.folder)
    return train(planned.config, planned.folder if resumable else None, quiet=True).finished


def progress(plans: list[Planned]) -> Table:
    """Where each run stands."""
    table = Table("setting", "seed", "agent steps", "mean return", "agent steps/s")
    for planned in plans:
        records = log.read(planned.folder / "metrics.jsonl")
        last = records[-1] if records else {}
        mean = last.get("mean_return_100")
        table.add_row(
            planned.label,
            str(planned.config.seed),
            f"{last['agent_steps']:,} of {planned.config.total_agent_steps:,}" if last else "-",
            "-" if mean is None else f"{mean:,.1f}",
            f"{last['agent_steps'] / last['seconds']:,.0f}" if last else "-",
        )
    return table


def rows(planned: Planned) -> list[dict[str, Any]]:
    """A run's part of the CSV: its records nearest to POINTS equal steps of its length."""
    records = [
        record
        for record in log.read(planned.folder / "metrics.jsonl")
        if record["mean_return_100"] is not None
    ]
    every = planned.config.total_agent_steps / POINTS
    chosen = {int(record["agent_steps"] / every): record for record in records}
    common = {**planned.setting, "seed": planned.config.seed}
    return [
        {**common, **{name: record.get(name) for name in MEASURED}} for record in chosen.values()
    ]


def write(path: Path, found: list[dict[str, Any]]) -> None:
    """The CSV; a cell is empty where a run does not set an option or has no value."""
    names = list(dict.fromkeys(name for row in found for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
