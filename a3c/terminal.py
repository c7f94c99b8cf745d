"""What a run says: a live status where there is a terminal, plain lines where there is none."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from a3c.config import Config
from a3c.metrics import Metrics
from a3c.shared import SharedParameters

if TYPE_CHECKING:
    from a3c.train import Run

PLAIN_EVERY_SECONDS = 30.0


class Terminal:
    """Context manager around a run. `quiet` says nothing at all."""

    def __init__(
        self,
        config: Config,
        shared: SharedParameters,
        metrics: Metrics,
        folder: Path,
        quiet: bool = False,
    ):
        self.config, self.shared, self.metrics, self.folder = config, shared, metrics, folder
        self.console = Console(quiet=quiet, highlight=False, soft_wrap=True)
        self.live = Live(console=self.console, auto_refresh=False) if sys.stdout.isatty() else None
        self.latest: dict[str, Any] = {}
        self.next_plain = 0.0

    def __enter__(self) -> Terminal:
        self.say(f"run folder {self.folder}")
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def say(self, line: str) -> None:
        """One plain line."""
        self.console.print(line, markup=False)

    def record(self, record: dict[str, Any]) -> None:
        """Take note of a new record of the log."""
        self.latest = record
        if self.live is None and time.monotonic() >= self.next_plain:
            self.next_plain = time.monotonic() + PLAIN_EVERY_SECONDS
            self.say("  ".join(f"{name} {value}" for name, value in self.rows()))

    def refresh(self) -> None:
        """Redraw the live status."""
        if self.live is not None:
            self.live.update(self.table(), refresh=True)

    def table(self) -> Table:
        """The live status: a bar and what `rows` says."""
        table = Table.grid(padding=(0, 2))
        total, done = self.config.total_agent_steps, self.shared.agent_steps
        table.add_row(self.config.env, ProgressBar(total, min(done, total), width=40))
        for name, value in self.rows():
            table.add_row(name, value)
        return table

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of all that is shown."""
        done, latest = self.shared.agent_steps, self.latest
        rate = latest.get("agent_steps_per_second", 0.0)
        frames = rate * self.metrics.frames_per_step
        status = self.metrics.status()
        left = (self.config.total_agent_steps - done) / rate if rate else None
        atari = (
            [("emulator frames/s", f"{frames:,.0f}")] if self.metrics.frames_per_step > 1 else []
        )
        return [
            ("agent steps", f"{done:,} of {self.config.total_agent_steps:,}"),
            ("agent steps/s", f"{rate:,.0f}"),
            *atari,
            ("mean return", number(status["mean_return_100"])),
            ("best return", number(status["best_return_100"])),
            ("policy lag", number(latest.get("policy_lag"))),
            ("entropy", number(latest.get("entropy"), 3)),
            ("time left", duration(left)),
        ]

    def goodbye(self, run: Run) -> None:
        """The last line: what came of it, and how to go on."""
        returned = number(run.mean_return_100)
        self.say(
            f"{run.agent_steps:,} agent steps, {run.episodes:,} games, "
            f"mean return of the last 100: {returned}"
        )
        if run.finished:
            self.say(f"play it: a3c play {run.folder}")
        else:
            self.say(f"go on: a3c train --resume {run.folder}")


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
