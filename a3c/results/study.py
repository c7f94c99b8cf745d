"""A study: one run after another for every setting of a grid, a CSV of their curves, figures.

The CSV is the study's result: the figures are drawn from it alone. What runs are there is taken as
it is, so that an interrupted study goes on where it stood.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.live import Live
from rich.table import Table

from a3c import checkpoint
from a3c.config import InputError, option
from a3c.results import figures
from a3c.results.curves import as_number, read_records
from a3c.results.run_config import differences, read_run_config
from a3c.results.study_csv import label_of, write_csv
from a3c.results.study_plan import FREE, Planned, plan, read_spec
from a3c.train import train


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


def study(options: StudyOptions) -> list[Path]:
    """Run what is still to be run, then write study.csv and the figures; returns their paths.

    After Ctrl-C what has been run is written all the same. Raises InputError for a bad SPEC, or an
    `out` that cannot be used, before anything is run.
    """
    spec = read_spec(Path(options.spec))
    out = Path(options.out)
    plans = plan(spec, out)
    figures.check_scipy()  # before hours of runs, not after
    make_folder(out)
    for planned in plans:
        check_as_planned(planned)
    with Live(get_renderable=lambda: progress(plans), refresh_per_second=0.5) as live:
        for planned in plans:
            if not (finished(planned) or run(planned)):
                break  # interrupted
    if not live.console.is_terminal:
        live.console.line()  # there rich leaves the table's last line open
    path = out / "study.csv"
    if not write_csv(path, plans):
        return []  # interrupted before the first run ended a game
    return [path, *figures.draw(path, spec.goal)]


def make_folder(out: Path) -> None:
    """Create the folder of the study. Raises InputError if that fails."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {out}: {error.strerror}") from None


def check_as_planned(planned: Planned) -> None:
    """Raise InputError if a run that is there was made by another SPEC: it would count as ours."""
    if not planned.folder.exists():
        return
    of_run = read_run_config(planned.folder).config
    for name, had, value in differences(of_run, planned.config, FREE):
        raise InputError(
            f"{planned.folder} was run with {option(name)} {had}, the study has {value}; "
            "expected another --out"
        )


def finished(planned: Planned) -> bool:
    """Whether the run has reached its end."""
    records = read_records(planned.folder)
    return bool(records) and records[-1]["agent_steps"] >= planned.config.total_agent_steps


def run(planned: Planned) -> bool:
    """Start the run, or go on with it; returns whether it reached its end."""
    resumable = planned.folder.exists() and checkpoint.numbered(planned.folder)
    return train(planned.config, planned.folder if resumable else None, quiet=True).finished


def progress(plans: list[Planned]) -> Table:
    """Where each run stands."""
    table = Table("setting", "seed", "agent steps", "mean return", "agent steps/s")
    for planned in plans:
        table.add_row(label_of(planned.setting), str(planned.config.seed), *standing(planned))
    return table


def standing(planned: Planned) -> tuple[str, str, str]:
    """Agent steps, mean return and rate of a run; dashes before its first record."""
    records = read_records(planned.folder)
    if not records:
        return "-", "-", "-"
    last = records[-1]
    steps, seconds, mean = (
        as_number(last.get(name)) for name in ("agent_steps", "seconds", "mean_return_100")
    )
    return (
        f"{steps:,.0f} of {planned.config.total_agent_steps:,}",
        "-" if mean != mean else f"{mean:,.1f}",
        f"{steps / seconds:,.0f}" if seconds else "-",
    )
