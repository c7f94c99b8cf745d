"""What a run says: a live status where there is a terminal, plain lines where there is none."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from a3c.config import Config
from a3c.metrics import RECENT_GAMES, Metrics
from a3c.run.best import path_of
from a3c.run.folder import Run, as_word
from a3c.run.log import NODE_RATE

PLAIN_EVERY_SECONDS = 30.0
# Of a record, with so many digits
FIGURES = (("policy_lag", 2), ("cluster_lag", 2), ("entropy", 3), ("mean_q", 3), ("epsilon", 3))


class Screen(Console):
    """A console that what is under way outlives: where nothing can be shown any more (the terminal
    was closed, the reader of a pipe has left) it goes on in silence."""

    gone = False

    def __init__(self, **words: Any):
        """Of a Console's keyword arguments. What is printed is as it is: rich would make emoji and
        colours of what stands in names and paths."""
        super().__init__(highlight=False, markup=False, emoji=False, **words)

    @property
    def redraws(self) -> bool:
        """Whether what is shown can be drawn again in its place: on a terminal that can."""
        try:
            on_terminal = self.file.isatty()
        except (AttributeError, ValueError):  # what only writes, or is closed
            return False
        return on_terminal and not self.quiet and not self.is_dumb_terminal

    def on_broken_pipe(self) -> None:
        """For rich, which would end the process."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def show(self, write: Callable[[], object]) -> None:
        """Call what writes to the terminal, unless that has gone away."""
        if self.gone:
            return
        try:
            write()
        except (OSError, ValueError):  # ValueError: a closed file, or letters that it cannot write
            self.gone = True

    def say(self, line: str) -> None:
        """One plain line, which may be longer than the terminal is wide."""
        self.show(lambda: self.print(line, soft_wrap=True))


class Terminal:
    """Context manager around a run. `quiet` says nothing at all."""

    def __init__(self, config: Config, metrics: Metrics, quiet: bool = False):
        self.config, self.metrics = config, metrics
        self.agent_steps = 0
        self.console = Screen(quiet=quiet, soft_wrap=True)
        redraws = self.console.redraws
        self.live = Live(console=self.console, auto_refresh=False) if redraws else None
        self.latest: dict[str, Any] = {}
        self.evaluation: dict[str, Any] = {}  # the newest
        self.evaluations_waiting = 0
        self.start = self.next_plain = time.monotonic()

    def __enter__(self) -> Terminal:
        if self.live is not None:
            self.console.show(self.live.start)
        return self

    def __exit__(self, *_: object) -> None:
        self.close_live()

    def close_live(self) -> None:
        """End the live status; what is said from now on stands below it."""
        if self.live is not None:
            with suppress(OSError, ValueError):  # it gives back stdout in any case
                self.live.stop()
            self.live = None

    def say(self, line: str) -> None:
        """One plain line."""
        self.console.say(line)

    def logged(self, record: dict[str, Any]) -> None:
        """Take note of a new record of the log. Plain lines: often at first, then every 30 s."""
        self.latest, self.agent_steps = record, record["agent_steps"]
        now = time.monotonic()
        if self.live is None and now >= self.next_plain:
            self.next_plain = now + min(PLAIN_EVERY_SECONDS, now - self.start)
            self.say("  ".join(f"{name} {value}" for name, value in self.rows()))

    def evaluated(self, record: dict[str, Any]) -> None:
        """Take note of an evaluation; a line where there is no live status."""
        self.evaluation = record
        if self.live is None:
            seconds = number(record["evaluation_seconds"], 1)
            self.say(f"evaluation {self.evaluation_row()}, in {seconds} s")

    def evaluation_row(self) -> str:
        """Of the newest evaluation, and whether others wait."""
        found = self.evaluation
        means = [f"{name} {number(found[f'{name}_return'])}" for name in ("sampled", "greedy")]
        waiting = f"; {self.evaluations_waiting} waiting" if self.evaluations_waiting else ""
        return f"{', '.join(means)} at agent step {found['agent_steps']:,}{waiting}"

    def refresh(self, agent_steps: int) -> None:
        """Redraw the live status."""
        self.agent_steps = agent_steps
        if (live := self.live) is not None:
            self.console.show(lambda: live.update(self.table(), refresh=True))

    def table(self) -> Table:
        """The live status: a bar and what `rows` says."""
        table = Table.grid(padding=(0, 2))
        total, done = self.config.total_agent_steps, self.agent_steps
        table.add_row(self.config.env, ProgressBar(total, min(done, total), width=40))
        for name, value in self.rows():
            table.add_row(name, value)
        return table

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of all that is shown."""
        done, latest, frames = self.agent_steps, self.latest, self.metrics.frames_per_agent_step
        rate, status = latest.get("agent_steps_per_second", 0.0), self.metrics.status()
        left = (self.config.total_agent_steps - done) / rate if rate else None
        rows = [
            ("agent steps", f"{done:,} of {self.config.total_agent_steps:,}"),
            ("agent steps/s", f"{rate:,.0f}"),
        ]
        if nodes := [f"{latest[name]:,.0f}" for name in latest if name.endswith(NODE_RATE)]:
            rows.append(("of its nodes", " + ".join(nodes)))
        if frames > 1:
            rows.append(("emulator frames/s", f"{rate * frames:,.0f}"))
        rows += [
            (f"mean return of the last {RECENT_GAMES} games", number(status["mean_return_100"])),
            ("best of these", number(status["best_return_100"])),
        ]
        if self.evaluation:
            rows.append(("evaluation", self.evaluation_row()))
        for name, digits in FIGURES:
            if name in latest:
                rows.append((name.replace("_", " "), number(latest[name], digits)))
        return [*rows, ("time left", duration(left))]

    def goodbye(self, run: Run) -> None:
        """The last lines: what came of it, and how to go on."""
        if self.latest:  # not of a run that was finished before
            self.refresh(run.agent_steps)
        self.close_live()
        games = min(run.episodes, RECENT_GAMES) or RECENT_GAMES
        self.say(
            f"{run.agent_steps:,} agent steps, {counted(run.episodes, 'game')}, "
            f"mean return of the last {games}: {number(run.mean_return_100)}"
        )
        if run.best is not None:
            self.say(best_line(run))
        if run.finished:
            self.say(f"play it: a3c play {as_word(run.folder)}")
        if not run.finished or (run.interrupted and self.config.evaluate_every != "never"):
            self.say(f"go on: a3c train --resume {as_word(run.folder)}")


def best_line(run: Run) -> str:
    """The score of the best policy, and where it is."""
    best = run.best
    assert best is not None
    error = best["standard_error"]
    spread = "" if error is None else f" +- {number(error)}"
    return (
        f"best policy, of agent step {best['agent_steps']:,}: mean return {number(best['mean'])}"
        f"{spread} of {best['episodes']} fresh games, in {number(best['seconds'], 1)} s "
        f"(chosen for {number(best['evaluated_return'])}): {path_of(run.folder)}"
    )


def counted(count: int, noun: str) -> str:
    """1 game, 2 games."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def number(value: float | None, digits: int = 2) -> str:
    """A number or a dash."""
    return "-" if value is None else f"{value:,.{digits}f}"


def duration(seconds: float | None) -> str:
    """Hours and minutes, or minutes and seconds."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
