"""The log of a run: metrics.jsonl, evaluations.jsonl and TensorBoard's curves.

A record is one line of a file and one point of each curve. The files are the truth: when a run is
resumed, their lines after the checkpoint are dropped, and TensorBoard is written anew.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from a3c.errors import as_input_error
from a3c.metrics import STAGES
from a3c.run import strict_json
from a3c.run.files import flush_names, write_whole

if TYPE_CHECKING:  # a second to import, so not at the top
    from torch.utils.tensorboard import SummaryWriter

Record = dict[str, Any]
RecordOf = Callable[[bytes], Record | None]  # of a line; None if it is none

METRICS, EVALUATIONS = "metrics.jsonl", "evaluations.jsonl"  # in the run's folder
TAIL = 2**14  # bytes: a record has fewer, as a rule


class Lines:
    """A file of records, one a line, to which more are written.

    `remarks`: lines about what was wrong with an earlier part's file.
    """

    def __init__(self, path: Path, agent_steps: int, parse: RecordOf):
        """Of an earlier part of the run keep the `records` up to `agent_steps`, and drop the rest.

        A file with damaged lines is kept aside. Raises InputError if nothing can be written.
        """
        self.path = path
        found = scan_lines(path, parse)
        self.records = [record for record in found.records if record["agent_steps"] <= agent_steps]
        self.file: FileIO | None = None
        self.rest = b""  # of records, for which the disk had no room
        self.unnamed = False  # its name may not be on the disk yet
        self.remarks: list[str] = []
        if path.exists():
            with as_input_error(f"cannot write {path}"):
                self.remarks = [keep_aside(path, found.damaged)] if found.damaged else []
                self._keep()

    def _keep(self) -> None:
        """Write what is kept in place of the file."""
        write_whole(self.path, "".join(strict_json.dumps(each) + "\n" for each in self.records))

    def open(self) -> None:
        """Make the file, if there is none. Raises OSError."""
        if self.file is None:
            self.unnamed = not self.path.exists()
            self.file = self.path.open("ab", buffering=0)

    def write(self, record: Record) -> None:
        """Append one record. Raises OSError if the disk is full; what is written next goes on
        where it was cut."""
        self.open()
        assert self.file is not None
        self.rest += (strict_json.dumps(record) + "\n").encode()
        while self.rest:
            self.rest = self.rest[self.file.write(self.rest) :]

    def sync(self) -> None:
        """Have the system write what it holds back, as it does for some seconds. Raises OSError."""
        if self.file is not None:
            os.fsync(self.file.fileno())
            if self.unnamed:
                flush_names(self.path.parent)
                self.unnamed = False

    def close(self) -> None:
        """Close the file, if it is open."""
        if self.file is not None:
            self.file.close()


class Log:
    """metrics.jsonl, evaluations.jsonl and TensorBoard's event files of one run folder.

    `remarks`: lines about what was wrong with an earlier part's files. `evaluations`: all records
    of the run's evaluations.
    """

    def __init__(self, folder: Path, agent_steps: int):
        """Open the log; of an earlier part of the run keep what lies up to `agent_steps`.

        A file with damaged lines is kept aside. Raises InputError if nothing can be written.
        """
        self.folder = folder
        self.open(agent_steps)

    def open(self, agent_steps: int) -> None:
        """Read what lies up to `agent_steps`, and make TensorBoard's files anew. Raises InputError
        if something cannot be read or written."""
        folder, self.last_agent_steps = self.folder, agent_steps
        self.metrics = Lines(folder / METRICS, agent_steps, record_of)
        self.evaluated = Lines(folder / EVALUATIONS, agent_steps, evaluation_of)
        self.remarks = self.metrics.remarks + self.evaluated.remarks
        self.evaluations = self.evaluated.records
        with as_input_error(f"cannot write {self.metrics.path}"):
            self.metrics.open()
        events = folder / "tensorboard"
        with as_input_error(f"cannot write {events}"):
            for before in events.glob("events.out.tfevents.*"):  # the folder may be a link
                before.unlink()
            from torch.utils.tensorboard import SummaryWriter

            self.tensorboard: SummaryWriter | None = None
            try:
                self.tensorboard = board = SummaryWriter(str(events))
            except UnicodeEncodeError:
                self.remarks.append(f"no curves for TensorBoard: {str(events)!r} is no UTF-8")
            else:
                for record in self.metrics.records:
                    curves(board, record)
                for record in self.evaluations:
                    evaluation_curves(board, record)
        self.metrics.records = []  # of a long run many

    def rewind(self, agent_steps: int) -> None:
        """Forget what lies after `agent_steps`. Raises InputError as the beginning does."""
        self.close()
        self.open(agent_steps)

    def write(self, record: Record) -> None:
        """Append one record; raises OSError if the disk is full.

        One at the agent steps of the last is left out, unless there were games or updates since.
        """
        if record["agent_steps"] == self.last_agent_steps and not says_something(record):
            return
        self.last_agent_steps = record["agent_steps"]
        self.metrics.write(record)
        self._on_board(lambda board: curves(board, record))

    def write_evaluation(self, record: Record) -> None:
        """Append the record of an evaluation; raises OSError if the disk is full."""
        self.evaluated.write(record)
        self.evaluations.append(record)
        self._on_board(lambda board: evaluation_curves(board, record))

    def _on_board(self, act: Callable[[SummaryWriter], None]) -> None:
        """TensorBoard's files are made anew from ours when a run is resumed: where they cannot be
        written the run goes on, and a line on stderr says so."""
        if self.tensorboard is None:
            return
        try:
            act(self.tensorboard)
            self.tensorboard.flush()
        except Exception as error:  # TensorFlow, where it is installed, has errors of its own
            board, self.tensorboard = self.tensorboard, None  # once it failed it fails for ever
            with suppress(Exception):  # ends its thread
                board.close()
            path = self.folder / "tensorboard"
            with suppress(OSError, ValueError):  # nobody reads stderr any more
                print(f"{path} cannot be written: {error}; its curves end here", file=sys.stderr)

    def sync(self) -> None:
        """All records outlive a power cut from now on. Raises OSError."""
        self.metrics.sync()
        self.evaluated.sync()

    def close(self) -> None:
        """Flush and close all."""
        self.metrics.close()
        self.evaluated.close()
        self._on_board(lambda board: board.close())


def evaluation_curves(board: SummaryWriter, record: Record) -> None:
    """The mean returns, by agent steps; what they took."""
    for name in ("sampled_return", "greedy_return", "evaluation_seconds"):
        if is_number(record.get(name)):
            tag = f"evaluation/{name.removeprefix('evaluation_')}"
            board.add_scalar(tag, record[name], record["agent_steps"])


def curves(board: SummaryWriter, record: Record) -> None:
    """Names as CleanRL has them where it has them; the three curves of the return."""
    steps = record["agent_steps"]
    mean = record["mean_return_100"]
    if is_number(mean):
        board.add_scalar("charts/episodic_return", mean, steps)
        board.add_scalar("return/by_agent_steps", mean, steps)
        board.add_scalar("return/by_episodes", mean, record["episodes"])
        board.add_scalar("return/by_seconds", mean, int(record["seconds"]))
    for name, tag in tags(record):
        board.add_scalar(tag, record[name], steps)
    seconds = {stage: record.get(f"seconds_{stage}", 0.0) for stage in STAGES}
    total = sum(seconds.values()) if all(map(is_number, seconds.values())) else 0.0
    for stage in STAGES if total else ():
        board.add_scalar(f"time/{stage}", seconds[stage] / total, steps)


# Two have CleanRL's names; what is in NO_LOSSES, and nodes' rates, are charts; the rest are losses
RENAMED = {"agent_steps_per_second": "charts/SPS", "lr": "charts/learning_rate"}
NO_LOSSES = {
    "ent_coef",
    "policy_lag",
    "gradient_lag",
    "epsilon",
    "num_envs",
    "nodes",
    "cluster_lag",
    "exchange_bytes_per_agent_step",
}
NODE_RATE = "_agent_steps_per_second"  # of a cluster's nodes, after their names
COUNTS = ("agent_steps", "emulator_frames", "updates", "episodes", "seconds")


def tags(record: Record) -> Iterator[tuple[str, str]]:
    """Names of a record's figures, with TensorBoard's name for each."""
    for name, value in record.items():
        shown_otherwise = name in COUNTS or name.startswith("seconds_") or "return" in name
        if is_number(value) and not shown_otherwise:
            kind = "charts" if name in NO_LOSSES or name.endswith(NODE_RATE) else "losses"
            yield name, RENAMED.get(name, f"{kind}/{name}")


def says_something(record: Record) -> bool:
    """Whether there were games or updates since the record before; these have seconds_forward and
    the like."""
    return bool(record["returns"]) or any(name.startswith("seconds_") for name in record)


class Scan(NamedTuple):
    """A file of lines: its records, and the numbers of the lines that are none."""

    records: list[Record]
    damaged: list[int]


def read(path: Path) -> list[Record]:
    """The records of a metrics.jsonl, without what is damaged; none if there is no file.

    Each has `agent_steps`, `seconds` and `episodes`, finite numbers; `returns` and `lengths`, lists
    of numbers (nan for what was not finite); and `mean_return_100`, a finite number or None. Raises
    InputError if the file cannot be read.
    """
    return scan(path).records


def read_evaluations(run: Path) -> list[Record]:
    """The evaluations of a run, in order; none where there were none.

    Each has `agent_steps` and `seconds`, finite numbers; `sampled_return` and `greedy_return`, the
    means, finite or None; and of both policies `_returns` and `_lengths`, lists of numbers. Raises
    InputError if the file cannot be read.
    """
    return scan_lines(run / EVALUATIONS, evaluation_of).records


def last(path: Path) -> Record | None:
    """The last record of a metrics.jsonl, None if there is none.

    In a few milliseconds however long the run is: the file is read from its end. Raises InputError
    if it cannot be read.
    """
    with as_input_error(f"cannot read {path}"):
        if not path.exists():
            return None
        with path.open("rb") as file:
            start, size = file.seek(0, os.SEEK_END), TAIL
            while True:
                start = file.seek(max(0, start - size))
                lines = reversed(file.read().split(b"\n"))  # the first one cut: no record
                found = next(filter(None, map(record_of, lines)), None)
                if found is not None or start == 0:
                    return found
                size *= 4


def scan(path: Path) -> Scan:
    """`read`, and what is damaged."""
    return scan_lines(path, record_of)


def scan_lines(path: Path, parse: RecordOf) -> Scan:
    """All records, and what is damaged. A last line cut short by a crash is not: it is left out."""
    with as_input_error(f"cannot read {path}"):
        if not path.exists():
            return Scan([], [])
        *lines, cut = path.read_bytes().split(b"\n")
    records = [parse(line) for line in lines]
    damaged = [number for number, record in enumerate(records, 1) if record is None]
    last = parse(cut)  # whole, but for its line's end
    return Scan([record for record in (*records, last) if record is not None], damaged)


def record_of(line: bytes) -> Record | None:
    """The record of a line, or None if it is none."""
    record = strict_json.read_object(line)
    if record is None or not all(
        is_number(record.get(name)) for name in ("agent_steps", "seconds", "episodes")
    ):
        return None
    mean = record.get("mean_return_100")
    lists = {name: numbers(record.get(name)) for name in ("returns", "lengths")}
    return {**record, "mean_return_100": mean if is_number(mean) else None, **lists}


def evaluation_of(line: bytes) -> Record | None:
    """The record of an evaluation's line, or None if it is none."""
    record = strict_json.read_object(line)
    if record is None or not all(
        is_number(record.get(name)) for name in ("agent_steps", "seconds")
    ):
        return None
    known = {}
    for policy in ("sampled", "greedy"):
        mean = record.get(f"{policy}_return")
        known[f"{policy}_return"] = mean if is_number(mean) else None
        for name in (f"{policy}_returns", f"{policy}_lengths"):
            known[name] = numbers(record.get(name))
    return {**record, **known}


def numbers(values: Any) -> list[float]:
    """The numbers of a list, nan in place of what is none; empty for what is no list."""
    known = values if isinstance(values, list) else []
    return [value if is_number(value) else math.nan for value in known]


def is_number(value: Any) -> bool:
    """Whether it is a finite number, that a float holds."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max  # false for NaN


def keep_aside(path: Path, damaged: list[int]) -> str:
    """Copy a file with damaged lines to another name; returns a line that says so."""
    kept, number = path.with_name(f"{path.name}.damaged"), 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}.damaged-{number}")
    shutil.copyfile(path, kept)
    return f"{path.name} {left_out(damaged)}; the file is kept as {kept.name}"


def left_out(damaged: list[int]) -> str:
    """Which lines a reader did not take."""
    lines = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
    return f"is damaged in line {lines}: left out"
