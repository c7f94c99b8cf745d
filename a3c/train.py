"""The run, top to bottom: config -> environments -> threads -> log and checkpoints -> end."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from a3c import checkpoint, provenance
from a3c.actor_learner import ActorLearner
from a3c.checkpoint import Checkpoint
from a3c.config import Config, InputError
from a3c.devices import pick_device, pick_precision
from a3c.envs import make_envs
from a3c.envs.names import atari_game
from a3c.envs.protocol import Spec
from a3c.interrupts import interrupts
from a3c.log import Log
from a3c.metrics import RECENT_GAMES, Metrics
from a3c.network import ActorCritic, flatten, sizes
from a3c.run_folder import create_run_folder
from a3c.shared import SharedParameters
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
    dtype = pick_precision(config, device)
    found = checkpoint.newest(resume) if resume is not None else None
    torch.set_num_threads(1)  # a thread is a core: no second pool of threads beneath each
    envs = [make_envs(config, config.num_envs) for _ in range(config.num_threads)]
    check_network(config, envs[0].spec)
    networks = [ActorCritic(config, envs[0].spec, dtype).to(device) for _ in envs]
    folder = create_run_folder(config) if resume is None else resume.resolve()

    shared = SharedParameters(flatten(networks[0])[0], sizes(networks[0]), config)
    metrics = Metrics(config.mean_frame_skip if atari_game(config.env) else 1)
    learners = [
        ActorLearner(index, config, envs[index], networks[index], shared, metrics, device)
        for index in range(config.num_threads)
    ]
    run = Training(config, folder, shared, metrics, learners)
    with Terminal(config, shared, metrics, folder, quiet) as terminal, interrupts(shared.stop):
        if found is None:
            terminal.say(f"starting {config.num_threads} x {config.num_envs} games of {config.env}")
            learners[0].measure_background()
            for learner in learners:
                learner.start()
        else:
            for line in found.damaged:
                terminal.say(f"{line}; taking the one before")
            terminal.say(f"resuming from {found.path}")
            checkpoint.set_aside(folder)
            run.load(found.checkpoint)
        provenance.note(folder, device=str(device), torso_dtype=str(dtype).removeprefix("torch."))
        run.log = Log(folder, shared.agent_steps)
        run.supervise(terminal)
        return run.end(terminal)


class Training:
    """A run under way: supervises the threads, logs, saves."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        shared: SharedParameters,
        metrics: Metrics,
        learners: list[ActorLearner],
    ):
        self.config, self.folder = config, folder
        self.shared, self.metrics, self.learners = shared, metrics, learners
        self.best_mean: float | None = None
        self.failures: list[BaseException] = []
        self.threads: list[threading.Thread] = []
        self.log: Log

    def supervise(self, terminal: Terminal) -> None:
        """Start the threads; log and save until the last of them has ended."""
        self.threads = [
            threading.Thread(target=self._guarded, args=[learner], daemon=True)
            for learner in self.learners
        ]
        synchronise()
        self.metrics.begin()
        for thread in self.threads:
            thread.start()
        try:
            self._watch(terminal)
        except BaseException as error:  # for instance a full disk: the threads must end as well
            self.failures.append(error)
            self.shared.abort()
        for thread in self.threads:
            thread.join()

    def _watch(self, terminal: Terminal) -> None:
        next_log = time.monotonic() + self.config.log_every_seconds
        next_save = time.monotonic() + self.config.checkpoint_every_seconds
        while any(thread.is_alive() for thread in self.threads):
            self.threads[0].join(timeout=0.2)
            terminal.refresh()
            now = time.monotonic()
            if now >= next_log:
                next_log = now + self.config.log_every_seconds
                terminal.record(self._log())
            if now >= next_save:
                next_save = now + self.config.checkpoint_every_seconds
                terminal.record(self.save())

    def _guarded(self, learner: ActorLearner) -> None:
        """A thread's whole life. A dead thread stops the run: no other waits for it."""
        try:
            learner.run()
        except threading.BrokenBarrierError:
            pass  # another thread died, and has said why
        except BaseException as error:
            self.failures.append(error)
            self.shared.abort()
        finally:
            self.shared.leave()

    def _log(self) -> dict[str, Any]:
        with self.shared.lock:
            agent_steps, updates = self.shared.agent_steps, self.shared.updates
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
        for learner in self.learners:
            learner.envs.close()
        if self.failures:
            cause = self.failures[0]
            raise RunFailed(f"{type(cause).__name__}: {cause}") from cause
        finished = self.shared.agent_steps >= self.config.total_agent_steps
        mean = self.metrics.status()["mean_return_100"]
        run = Run(self.folder, self.shared.agent_steps, self.metrics.episodes, mean, finished)
        terminal.goodbye(run)
        return run

    def save(self) -> dict[str, Any]:
        """One checkpoint, and the record of the log that belongs to it, which is returned.

        The threads stand still while it is copied, not while it is written. Raises OSError, and
        FloatingPointError rather than overwrite a good checkpoint with a ruined network.
        """
        saved, record = self.shared.while_paused(self._snapshot)
        if not saved.tensors["parameters"].isfinite().all():
            raise FloatingPointError("the parameters are not finite")
        self.log.write(record)
        checkpoint.save_into(self.folder, saved)
        return record

    def _snapshot(self) -> tuple[Checkpoint, dict[str, Any]]:
        synchronise()
        shared = self.shared
        tensors = {"parameters": shared.parameters, "square_avg": shared.square_avg}
        for learner in self.learners:
            for name, value in learner.save().items():
                tensors[f"thread{learner.index}.{name}"] = torch.as_tensor(value)
        copies = {name: tensor.cpu().clone() for name, tensor in tensors.items()}
        record = self.metrics.drain(shared.agent_steps, shared.updates)
        mean = record["mean_return_100"]
        if len(self.metrics.recent) == RECENT_GAMES:  # a few lucky games are no record
            self.best_mean = mean if self.best_mean is None else max(mean, self.best_mean)
        progress = {
            "agent_steps": shared.agent_steps,
            "updates": shared.updates,
            "mean_return_100": mean,
            "best_mean_return_100": self.best_mean,
            "metrics": self.metrics.save(),
        }
        return Checkpoint(self.config, self.learners[0].envs.spec, progress, copies), record

    def load(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint: parameters, statistics, counters, random states, agents."""
        tensors, progress = saved.tensors, saved.progress
        counters = progress["agent_steps"], progress["updates"]
        self.shared.load(tensors["parameters"], tensors["square_avg"], *counters)
        self.best_mean = progress["best_mean_return_100"]
        for learner in self.learners:
            prefix = f"thread{learner.index}."
            own = {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
            learner.load(own, self.shared.updates)
        self.metrics.load(progress["metrics"], self.shared.agent_steps)


def synchronise() -> None:
    """Wait for all CUDA streams: setting up and copying out use another than the threads do."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def check_network(config: Config, spec: Spec) -> None:
    """Raise InputError if the network cannot read the environment's observations."""
    if config.network in ("auto", "mlp") and not spec.pixels:
        return
    if not spec.pixels:
        raise InputError(f"--network {config.network} reads images; {config.env} needs mlp")
    if config.network == "mlp":
        raise InputError(f"--network mlp reads vectors; {config.env} needs paper, seed or nature")
