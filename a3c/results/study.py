"""A study: one run after another for every setting of a grid, a CSV of their curves, figures.

The CSV is the study's result: the figures are drawn from it alone. What runs are there is taken as
it is, so that an interrupted study goes on where it stood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import tyro
from rich.live import Live
from rich.table import Table

from a3c.devices import pick_devices
from a3c.errors import InputError, as_input_error, option
from a3c.memory import check_memory
from a3c.options import differences
from a3c.results import figures
from a3c.results.benchmark_csv import SCORES_CSV
from a3c.results.output import out_folder
from a3c.results.run_config import read_run_config
from a3c.results.study_csv import STUDY_CSV, label_of, rows_of, write_study
from a3c.results.study_plan import FREE, Planned, plan, read_spec
from a3c.run import best, checkpoint, log
from a3c.run.folder import as_word, locked
from a3c.run.terminal import Screen, counted
from a3c.train import RunFailed, train


@dataclass(frozen=True)
class StudyOptions:
    """Run a grid of settings, one run after another; write study.csv and figures.

    SPEC is a TOML file: [base] has `preset` and options common to all runs; each [[settings]] and
    every combination of the lists in [grid] (seed = [1, 2, 3]) make runs; `goal` is the mean return
    whose time is compared, by evaluation too where [base] has evaluate_every. Give the command
    again to go on after an interruption.
    """

    spec: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SPEC")]
    """TOML file that describes the study."""
    out: str = "study"
    """Folder for the runs, study.csv and the figures."""


def study(options: StudyOptions) -> list[Path]:
    """Run what is still to be run, then write study.csv and the figures; returns their paths.

    After Ctrl-C, or where runs fail, what has been run is written all the same. Raises InputError
    for a bad SPEC, an `out` that cannot be used or has another's results, before anything is run,
    or where the system refuses, as on a full disk; and RunFailed for the first run that failed,
    after the last.
    """
    out = out_folder(options.out)
    spec = read_spec(Path(options.spec))
    plans = plan(spec, out)
    check_own(plans, out)
    with ready(plans, out, plans):
        went = run_all(plans)
        if went.interrupted:
            say(f"interrupted; go on: a3c study {as_word(options.spec)} --out {as_word(out)}")
        path = out / STUDY_CSV
        written = write_study(path, plans)
        paths = [path, *figures.draw(path, spec.goal, unfinished(plans))] if written else []
        if not paths:
            say("no run has ended a game: there is nothing to write")
    went.check()
    return paths


def check_own(plans: list[Planned], out: Path) -> None:
    """Raise InputError if what is in `out` is not this study's: its CSV and figures would go, or
    would when it goes on. They are where one of its runs is there; a CSV without runs is nobody's
    to write over."""
    check_no_other(out, SCORES_CSV, "benchmark")
    own = {planned.runs_dir.name for planned in plans}
    there = sorted({path.parent.parent.name for path in (out / "runs").glob("*/*/config.json")})
    if there and own.isdisjoint(there):
        raise InputError(
            f"{out} has the runs of another study, {there[0]} for one; expected another --out"
        )
    if not there and (out / STUDY_CSV).exists():
        raise InputError(f"{out} has {STUDY_CSV}, but none of its runs; expected another --out")


def check_no_other(out: Path, its: str, what: str) -> None:
    """Raise InputError where a folder has the file of a study's or a benchmark's results that would
    lose its table to the other."""
    if (out / its).exists():
        raise InputError(f"{out} has {its}, of a {what}; expected another --out")


def unfinished(plans: list[Planned]) -> list[str]:
    """The runs that were interrupted or have failed, or whose last evaluation has, in words: their
    ends are none of a setting. Of how many there is no row, so that a setting has fewer seeds, or
    is missing, says a last line."""
    found, without = [], 0
    for planned in plans:
        run = f"{label_of(planned.setting)}, seed {planned.config.seed}"
        last = log.last(planned.folder / log.METRICS)
        if not rows_of(planned):
            without += 1
        elif last is None or last["agent_steps"] < planned.config.total_agent_steps:
            found.append(f"{run} ({come_to(planned)[0]} agent steps)")
        elif (evaluated := evaluated_up_to(planned)) < planned.config.total_agent_steps:
            found.append(f"{run} (evaluated up to agent step {evaluated:,})")
    return (
        [*found, f"{counted(without, 'run')} in which no game has ended, which count nowhere"]
        if without
        else found
    )


def evaluated_up_to(planned: Planned) -> int:
    """Agent steps of the last evaluation; all of them where none was asked for."""
    if not isinstance(planned.config.evaluate_every, int):
        return planned.config.total_agent_steps
    found = log.read_evaluations(planned.folder)
    return max((int(each["agent_steps"]) for each in found), default=0)


def say(line: str) -> None:
    """To who still reads: a reader who has left ends no study."""
    Screen().say(line)


@contextmanager
def ready(plans: list[Planned], out: Path, there: list[Planned]) -> Iterator[None]:
    """Nothing is in the way of the runs: their folder is there, and nobody else's; what is needed
    after them is installed. there: those of which something may count. Raises InputError."""
    figures.check_scipy()  # before hours of runs, not after
    check_memory_of(plans)
    with as_input_error(f"cannot create the folder {out}"):
        out.mkdir(parents=True, exist_ok=True)
    with locked(out) as remarks:
        for planned in there:
            check_as_planned(planned)
        for remark in (*remarks, *filter(None, map(begins_anew, plans))):
            say(remark)
        yield


def check_as_planned(planned: Planned) -> None:
    """Raise InputError if a run that is there was made by another SPEC: it would count as ours."""
    if not planned.folder.exists():
        return
    had, has = read_run_config(planned.folder).config, planned.config
    for name in differences(had, has):
        if name not in FREE:
            # auto is another number on another machine: the study's runs would not be alike
            by_machine = name in ("num_threads", "num_envs")
            named = f"{name} = {getattr(had, name)} in the SPEC, or " * by_machine
            raise InputError(
                f"{planned.folder} was run with {option(name)} {getattr(had, name)}, "
                f"the study has {getattr(has, name)}; expected {named}another --out"
            )


def begins_anew(planned: Planned) -> str | None:
    """A line for a run that has come some way, of which only records are left."""
    last = log.last(planned.folder / log.METRICS)
    if last is None or not last["agent_steps"] or checkpoint.numbered(planned.folder):
        return None
    steps = f"{last['agent_steps']:,} agent steps"
    return f"{planned.folder} has no checkpoint of its {steps}: the run begins anew"


def check_memory_of(plans: list[Planned]) -> None:
    """Raise InputError if one of the runs that are still to be run has not the memory for it here;
    a cluster's machines look for themselves."""
    torch.set_num_threads(1)  # as `train` does: small operations are slower with more
    to_run = [planned.config for planned in plans if not finished(planned)]
    here = [config for config in to_run if not config.cluster]
    for config in {replace(config, seed=1, runs_dir="runs"): None for config in here}:
        check_memory(config, pick_devices(config.device))


def finished(planned: Planned) -> bool:
    """Whether the run has reached its end: its newest checkpoint that can be read says so, which
    comes after the last record; and its evaluations are there, or have failed."""
    try:
        newest = checkpoint.newest(planned.folder).checkpoint
        return best.is_complete(planned.folder, planned.config, newest.progress)
    except InputError:  # there is none, or `train` will say what is wrong with it
        return False


class Went(NamedTuple):
    """How it went with all runs."""

    interrupted: bool
    failures: list[RunFailed]

    def check(self) -> None:
        """Raise the first failure, if there is one."""
        if self.failures:
            raise self.failures[0]


def run_all(plans: list[Planned], ended: Callable[[Planned], None] = lambda _: None) -> Went:
    """Run what is still to be run, and show where all stand. A run that fails, or that cannot
    begin, stops no other, unless the system refuses, as where the disk is full: that is raised.

    ended: called with each run that has ended, in turn, before the next one begins; where it raises
    the run has failed.
    """
    interrupted, failures = True, list[RunFailed]()
    # An interrupt where a run itself has nothing to save: as it begins, or between two runs
    with table_of(plans) as screen, suppress(KeyboardInterrupt):
        for planned in plans:
            try:
                if not (finished(planned) or run(planned)):
                    break
                ended(planned)
            except Exception as error:  # an environment may raise anything
                if is_refused(error):
                    raise
                failures.append(failure := as_failure(error, planned))
                screen.say(failure.line())
        else:
            interrupted = False
    return Went(interrupted, failures)


@contextmanager
def table_of(plans: list[Planned]) -> Iterator[Screen]:
    """Show where the runs stand for as long as there is somebody to see it: a reader who leaves
    stops nothing."""
    screen = Screen()
    live = Live(console=screen, get_renderable=lambda: progress(plans), refresh_per_second=0.5)
    screen.show(live.start)
    try:
        yield screen
    finally:
        with suppress(OSError, ValueError):  # it gives back stdout in any case
            live.stop()
        if not screen.is_terminal:
            screen.show(screen.line)  # there rich leaves the table's last line open


def is_refused(error: Exception) -> bool:
    """Whether it is the system that refuses, so that the next run would end as this one did. What
    raises an OSError as it is, untold, is an environment, which may miss a file of its own."""
    told = isinstance(error, InputError) or (isinstance(error, RunFailed) and error.outside)
    return told and isinstance(error.__cause__ or error.__context__, OSError)


def as_failure(error: Exception, planned: Planned) -> RunFailed:
    """A run that cannot begin has failed too: with a traceback if an environment raised."""
    if isinstance(error, RunFailed):
        return error
    outside = isinstance(error, InputError)
    words = str(error) if outside else f"{type(error).__name__}: {error}"
    failure = RunFailed(words, planned.folder, outside, begun=False)
    failure.__cause__ = error
    return failure


def run(planned: Planned) -> bool:
    """Start the run, or go on with it; returns whether it reached its end undisturbed."""
    resumable = planned.folder.exists() and checkpoint.numbered(planned.folder)
    done = train(planned.config, planned.folder if resumable else None, quiet=True)
    return done.finished and not done.interrupted


def progress(plans: list[Planned]) -> Table:
    """Where each run stands."""
    table = Table("setting", "seed", "agent steps", "mean return", "agent steps/s")
    for planned in plans:
        table.add_row(label_of(planned.setting), str(planned.config.seed), *come_to(planned))
    return table


def come_to(planned: Planned) -> tuple[str, str, str]:
    """Agent steps, mean return and rate of a run; dashes before its first record."""
    last = log.last(planned.folder / log.METRICS)
    if last is None:
        return "-", "-", "-"
    steps, seconds, mean = last["agent_steps"], last["seconds"], last["mean_return_100"]
    return (
        f"{steps:,} of {planned.config.total_agent_steps:,}",
        "-" if mean is None else f"{mean:,.1f}",
        f"{steps / seconds:,.0f}" if seconds else "-",
    )
