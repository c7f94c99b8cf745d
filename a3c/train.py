"""The run, top to bottom: config -> nodes of threads -> log and checkpoints -> end."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from a3c.config import Config
from a3c.devices import pick_device
from a3c.envs.names import atari_game
from a3c.metrics import RECENT_GAMES, Metrics
from a3c.node import Node
from a3c.run import checkpoint, provenance, start
from a3c.run.checkpoint import Checkpoint
from a3c.run.folder import Run, create_run_folder, establish, locked, standing
from a3c.run.interrupts import interrupts
from a3c.run.log import Log
from a3c.run.start import Resumed
from a3c.run.terminal import Terminal

FIRST_CHECKPOINT_SECONDS = 5.0  # or sooner: what is killed in its first minute is not lost


class RunFailed(RuntimeError):
    """The run stopped before its end; __cause__ is the first thing that went wrong."""

    def __init__(self, message: str, folder: Path, full_disk: bool = False):
        super().__init__(message)
        self.folder = folder
        self.full_disk = full_disk  # or another refusal of the system: no fault of the program


def train(
    config: Config,
    resume: str | Path | None = None,
    quiet: bool = False,
    start_from: str | Path | None = None,
) -> Run:
    """Train until `total_agent_steps`, Ctrl-C, SIGTERM or SIGHUP; returns after a last checkpoint.

    With `resume`, a run folder, go on from its newest checkpoint; `config` must be that run's, but
    for its length and where and how often it is written. With `start_from`, a game whose model
    ships, a model file or a run folder, a new run begins with those parameters and nothing else.
    Raises InputError for what cannot be done as asked, before anything is created, RunFailed when a
    thread dies, a gradient is not finite or the disk is full, and KeyboardInterrupt where a Ctrl-C
    came before the first update, or twice.
    """
    device = pick_device(config.device)
    torch.set_num_threads(1)  # a thread is a core: no second pool of threads beneath each
    metrics = Metrics(config.mean_frame_skip if atari_game(config.env) else 1)
    with ExitStack() as stack:
        found, remarks = None, []
        terminal = stack.enter_context(Terminal(config, metrics, quiet))
        if resume is not None:
            folder = start.run_to_resume(resume, start_from)
            found = start.find(config, folder)
            if found.agent_steps >= config.total_agent_steps:
                return already_finished(found, metrics, terminal)
            remarks = stack.enter_context(locked(folder))
            found = start.find(config, folder)  # nobody can have gone on with it any more
        nodes = [Node(config, device, metrics)]
        run = Training(config, metrics, nodes)
        if found is None:
            run.begin(start_from, terminal)
        else:
            run.load(found, terminal)
        # Until here a Ctrl-C ends all at once and leaves nothing, from here on it saves
        stack.enter_context(interrupts(run.stop))
        if found is None:
            folder = create_run_folder(config)
            remarks = stack.enter_context(locked(folder))
        run.open(folder, new=found is None)
        dtype = str(nodes[0].dtype).removeprefix("torch.")
        origin = None if start_from is None else str(start_from)
        provenance.note(folder, device=str(device), torso_dtype=dtype, start_from=origin)
        for line in [f"run folder {folder}", *remarks, *run.log.remarks]:
            terminal.say(line)
        try:
            run.supervise(terminal)
            return run.end(terminal)
        except KeyboardInterrupt:  # the second: at once
            run.abort()
            raise KeyboardInterrupt(standing(folder)) from None


def already_finished(found: Resumed, metrics: Metrics, terminal: Terminal) -> Run:
    """Of a run that has nothing to do: says so, and changes nothing."""
    metrics.load(found.checkpoint.progress["metrics"], found.agent_steps)
    mean = metrics.status()["mean_return_100"]
    run = Run(found.folder, found.agent_steps, metrics.episodes, mean, finished=True)
    terminal.say(start.already_finished(found))
    terminal.goodbye(run)
    return run


class Training:
    """A run under way: supervises its nodes, logs, saves."""

    def __init__(self, config: Config, metrics: Metrics, nodes: list[Node]):
        self.config, self.metrics, self.nodes = config, metrics, nodes
        self.store = nodes[0].store  # whose counters are the run's
        self.best_mean: float | None = None
        self.failures: list[BaseException] = []
        self.folder: Path
        self.log: Log

    def begin(self, start_from: str | Path | None, terminal: Terminal) -> None:
        """New games for all agents; with the parameters of another model, if one is named."""
        config, parameters = self.config, None
        if start_from is not None:
            model = start.model_to_start_from(start_from, config, self.nodes[0].spec)
            start.check_parameters(self.store.parameters, model)
            terminal.say(start.origin(start_from, model))
            parameters = model.tensors["parameters"]
        terminal.say(f"starting {config.num_threads} x {config.num_envs} games of {config.env}")
        for node in self.nodes:
            node.begin()
            if parameters is not None:  # the background that was measured is among them
                node.store.restart(parameters)

    def open(self, folder: Path, new: bool) -> None:
        """Log into the run's folder. `new`: runs/latest leads to it once it has a checkpoint."""
        self.folder, self.new = folder, new
        self.established = False
        self.log = Log(folder, self.store.agent_steps)

    def supervise(self, terminal: Terminal) -> None:
        """Start the threads; log and save until the last of them has ended."""
        self.metrics.begin()
        for node in self.nodes:
            node.start()
        try:
            self._watch(terminal)
        except Exception as error:  # for instance a full disk: the threads must end as well
            self.failures.append(error)
            self.abort()
        for node in self.nodes:
            node.join()

    def _watch(self, terminal: Terminal) -> None:
        next_log = time.monotonic() + self.config.log_every_seconds
        first = min(FIRST_CHECKPOINT_SECONDS, self.config.checkpoint_every_seconds)
        next_save = time.monotonic() + first
        while any(node.alive(0.2) for node in self.nodes):
            terminal.refresh(self.store.agent_steps)
            now = time.monotonic()
            if now >= next_log:
                next_log = now + self.config.log_every_seconds
                terminal.record(self._log())
            if now >= next_save:
                next_save = now + self.config.checkpoint_every_seconds
                self.save(terminal)

    def stop(self) -> None:
        """End after the updates under way. Safe in a signal handler."""
        for node in self.nodes:
            node.stop()

    def abort(self) -> None:
        """End the threads as soon as may be."""
        for node in self.nodes:
            node.abort()

    def _log(self) -> dict[str, Any]:
        with self.store.lock:
            agent_steps, updates = self.store.agent_steps, self.store.updates
        record = self.metrics.drain(agent_steps, updates)
        self.log.write(record)
        return record

    def end(self, terminal: Terminal) -> Run:
        """Last record, last checkpoint, last line. Raises RunFailed if something went wrong."""
        try:
            self.save(terminal)
            self.log.close()
        except (OSError, FloatingPointError) as error:
            self.failures.append(error)
        for node in self.nodes:
            node.close()
        failures = [failure for node in self.nodes for failure in node.failures] + self.failures
        if failures:
            cause = failures[0]
            disk = isinstance(cause, OSError) and cause in self.failures
            words = str(cause) if disk else f"{type(cause).__name__}: {cause}"
            raise RunFailed(words, self.folder, disk) from cause
        finished = self.store.finished
        mean = self.metrics.status()["mean_return_100"]
        run = Run(self.folder, self.store.agent_steps, self.metrics.episodes, mean, finished)
        terminal.goodbye(run)
        return run

    def save(self, terminal: Terminal) -> None:
        """One checkpoint, and the record of the log that belongs to it.

        The threads stand still while it is copied, not while it is written. Raises OSError, and
        FloatingPointError rather than overwrite a good checkpoint with a ruined network.
        """
        with ExitStack() as pauses:
            for node in self.nodes:
                pauses.enter_context(node.paused())
            saved, record = self._snapshot()
        if not saved.tensors["parameters"].isfinite().all():
            raise FloatingPointError("the parameters are not finite")
        self.log.write(record)
        checkpoint.save_into(self.folder, saved)
        terminal.record(record)
        if not self.established:
            self.established = True
            for line in establish(self.folder, self.config, self.new):
                terminal.say(line)

    def _snapshot(self) -> tuple[Checkpoint, dict[str, Any]]:
        tensors = {name: tensor for node in self.nodes for name, tensor in node.save().items()}
        record = self.metrics.drain(self.store.agent_steps, self.store.updates)
        mean = record["mean_return_100"]
        whole = len(self.metrics.recent) == RECENT_GAMES  # a few lucky games are no record
        if whole and math.isfinite(mean):
            self.best_mean = mean if self.best_mean is None else max(mean, self.best_mean)
        progress = {
            "agent_steps": self.store.agent_steps,
            "updates": self.store.updates,
            "mean_return_100": mean,
            "best_mean_return_100": self.best_mean,
            "metrics": self.metrics.save(),
        }
        return Checkpoint(self.config, self.nodes[0].spec, progress, tensors), record

    def load(self, found: Resumed, terminal: Terminal) -> None:
        """Go on from a checkpoint: parameters, statistics, counters, random states, agents."""
        start.check_parameters(self.store.parameters, found.checkpoint)
        for line in [*found.remarks, f"resuming from {found.path}"]:
            terminal.say(line)
        checkpoint.set_aside(found.folder)
        progress = found.checkpoint.progress
        self.best_mean = progress["best_mean_return_100"]
        for node in self.nodes:
            node.load(found.checkpoint.tensors, progress["agent_steps"], progress["updates"])
        self.metrics.load(progress["metrics"], self.store.agent_steps)
