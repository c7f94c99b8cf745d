"""The run, top to bottom: config -> nodes of threads -> log and checkpoints -> end."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from a3c import checkpoint, provenance
from a3c.checkpoint import Checkpoint
from a3c.config import Config
from a3c.devices import pick_device
from a3c.envs.names import atari_game
from a3c.interrupts import interrupts
from a3c.log import Log
from a3c.metrics import RECENT_GAMES, Metrics
from a3c.node import Node
from a3c.run_folder import create_run_folder
from a3c.terminal import Terminal


class RunFailed(RuntimeError):
    """The run stopped before its end; __cause__ is the first thing that went wrong."""


@dataclass(frozen=True)
class Run:
    """What `train` returns."""

    folder: Path
    agent_steps: int
    episodes: int
    mean_return_100: float | None  # of the last 100 games, unclipped
    finished: bool  # False if it was interrupted and can be resumed


def train(config: Config, resume: Path | None = None, quiet: bool = False) -> Run:
    """Train until `total_agent_steps`, Ctrl-C or SIGTERM; returns after the last checkpoint.

    With `resume`, a run folder, go on from its newest checkpoint; `config` must be that run's.
    Raises InputError for what cannot be done as asked, before anything is created, and RunFailed
    when a thread dies, a gradient is not finite or the disk is full.
    """
    device = pick_device(config.device)
    found = checkpoint.newest(resume) if resume is not None else None
    torch.set_num_threads(1)  # a thread is a core: no second pool of threads beneath each
    metrics = Metrics(config.mean_frame_skip if atari_game(config.env) else 1)
    nodes = [Node(config, device, metrics)]
    folder = create_run_folder(config) if resume is None else resume.resolve()

    run = Training(config, folder, metrics, nodes)
    with Terminal(config, run.store, metrics, folder, quiet) as terminal, interrupts(run.stop):
        if found is None:
            terminal.say(f"starting {config.num_threads} x {config.num_envs} games of {config.env}")
            for node in nodes:
                node.begin()
        else:
            for line in found.damaged:
                terminal.say(f"{line}; taking the one before")
            terminal.say(f"resuming from {found.path}")
            checkpoint.set_aside(folder)
            run.load(found.checkpoint)
        dtype = str(nodes[0].dtype).removeprefix("torch.")
        provenance.note(folder, device=str(device), torso_dtype=dtype)
        run.log = Log(folder, run.store.agent_steps)
        run.supervise(terminal)
        return run.end(terminal)


class Training:
    """A run under way: supervises its nodes, logs, saves."""

    def __init__(self, config: Config, folder: Path, metrics: Metrics, nodes: list[Node]):
        self.config, self.folder, self.metrics, self.nodes = config, folder, metrics, nodes
        self.store = nodes[0].store  # whose counters are the run's
        self.best_mean: float | None = None
        self.failures: list[BaseException] = []
        self.log: Log

    def supervise(self, terminal: Terminal) -> None:
        """Start the threads; log and save until the last of them has ended."""
        self.metrics.begin()
        for node in self.nodes:
            node.start()
        try:
            self._watch(terminal)
        except BaseException as error:  # for instance a full disk: the threads must end as well
            self.failures.append(error)
            for node in self.nodes:
                node.abort()
        for node in self.nodes:
            node.join()

    def _watch(self, terminal: Terminal) -> None:
        next_log = time.monotonic() + self.config.log_every_seconds
        next_save = time.monotonic() + self.config.checkpoint_every_seconds
        while any(node.alive(0.2) for node in self.nodes):
            terminal.refresh()
            now = time.monotonic()
            if now >= next_log:
                next_log = now + self.config.log_every_seconds
                terminal.record(self._log())
            if now >= next_save:
                next_save = now + self.config.checkpoint_every_seconds
                terminal.record(self.save())

    def stop(self) -> None:
        """End after the updates under way. Safe in a signal handler."""
        for node in self.nodes:
            node.stop()

    def _log(self) -> dict[str, Any]:
        with self.store.lock:
            agent_steps, updates = self.store.agent_steps, self.store.updates
        record = self.metrics.drain(agent_steps, updates)
        self.log.write(record)
        return record

    def end(self, terminal: Terminal) -> Run:
        """Last record, last checkpoint, last line. Raises RunFailed if something went wrong."""
        try:
            terminal.record(self.save())
            self.log.close()
        except (OSError, FloatingPointError) as error:
            self.failures.append(error)
        for node in self.nodes:
            node.close()
        failures = [failure for node in self.nodes for failure in node.failures] + self.failures
        if failures:
            cause = failures[0]
            raise RunFailed(f"{type(cause).__name__}: {cause}") from cause
        finished = self.store.finished
        mean = self.metrics.status()["mean_return_100"]
        run = Run(self.folder, self.store.agent_steps, self.metrics.episodes, mean, finished)
        terminal.goodbye(run)
        return run

    def save(self) -> dict[str, Any]:
        """One checkpoint, and the record of the log that belongs to it, which is returned.

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
        return record

    def _snapshot(self) -> tuple[Checkpoint, dict[str, Any]]:
        tensors = {name: tensor for node in self.nodes for name, tensor in node.save().items()}
        record = self.metrics.drain(self.store.agent_steps, self.store.updates)
        mean = record["mean_return_100"]
        if len(self.metrics.recent) == RECENT_GAMES:  # a few lucky games are no record
            self.best_mean = mean if self.best_mean is None else max(mean, self.best_mean)
        progress = {
            "agent_steps": self.store.agent_steps,
            "updates": self.store.updates,
            "mean_return_100": mean,
            "best_mean_return_100": self.best_mean,
            "metrics": self.metrics.save(),
        }
        return Checkpoint(self.config, self.nodes[0].spec, progress, tensors), record

    def load(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint: parameters, statistics, counters, random states, agents."""
        progress = saved.progress
        self.best_mean = progress["best_mean_return_100"]
        for node in self.nodes:
            node.load(saved.tensors, progress["agent_steps"], progress["updates"])
        self.metrics.load(progress["metrics"], self.store.agent_steps)
