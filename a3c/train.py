"""The run, top to bottom: config -> a node of threads, or a cluster of nodes -> log and checkpoints
-> end."""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from a3c.config import Config
from a3c.devices import pick_devices, without_tf32
from a3c.envs.names import frames_per_agent_step
from a3c.envs.protocol import EnvironmentFault, closed_on_failure
from a3c.errors import InputError
from a3c.evaluation import Evaluation
from a3c.evaluator import Evaluator, Snapshot, saved_snapshots
from a3c.metrics import RECENT_GAMES, Metrics
from a3c.node import Node
from a3c.run import best, checkpoint, provenance, start
from a3c.run.checkpoint import FAILED, FAILED_SCORES, Checkpoint
from a3c.run.folder import Run, create_run_folder, establish, locked, standing
from a3c.run.interrupts import interrupts
from a3c.run.log import Log
from a3c.run.start import Resumed
from a3c.run.terminal import Terminal

if TYPE_CHECKING:
    from a3c.cluster.cluster import Cluster

LATE_SECONDS = 60.0  # rollouts take seconds at most, unless an environment is slow
FIRST_CHECKPOINT_SECONDS = 5.0  # or sooner: what is killed in its first minute is not lost


class RunFailed(RuntimeError):
    """The run stopped before its end; __cause__ is the first thing that went wrong."""

    def __init__(self, message: str, folder: Path, outside: bool = False, begun: bool = True):
        super().__init__(message)
        self.folder = folder
        self.outside = outside  # a full disk, for one: the message says it all
        self.begun = begun  # False: no training of it has begun, or all of it has ended

    def line(self) -> str:
        """What happened, and what is left."""
        if not self.begun:
            return f"{self.folder.parent.name} has failed: {self}"  # of a study: its setting
        return f"the run stopped: {self}; {standing(self.folder)}"


def train(
    config: Config,
    resume: str | Path | None = None,
    quiet: bool = False,
    start_from: str | Path | None = None,
) -> Run:
    """Train until `total_agent_steps`, Ctrl-C, SIGTERM or SIGHUP; returns after a last checkpoint.

    With `resume`, a run folder, go on from its newest checkpoint; `config` must be that run's, but
    for its length and the options in FREE_ON_RESUME. With `start_from`, a game whose model
    ships, a model file or a run folder, a new run begins with those parameters and nothing else.
    With `quiet` nothing is printed.
    Raises InputError for what cannot be done as asked, leaving nothing, RunFailed when a
    thread dies or cannot be started, a gradient is not finite or the disk is full, and
    KeyboardInterrupt where a Ctrl-C came before there was a folder, while a run was loaded, or
    twice.
    """
    torch.set_num_threads(1)  # a thread is a core: no second pool of threads beneath each
    without_tf32()
    metrics = Metrics(frames_per_agent_step(config))
    with Terminal(config, metrics, quiet) as terminal:
        found = start.to_resume(config, resume, start_from)
        if found is not None and start.has_ended(found):
            return already_finished(found, metrics, terminal)
        folder = None if found is None else found.folder
        del found  # its checkpoint holds all games; it is read again once the folder is locked
        with node_or_cluster(config, metrics, terminal) as node:
            with closed_on_failure([node]):
                training = Training(config, metrics, node, terminal)
            # To enter it starts the games, or loads them, and opens the run's folder
            to_open = resumed_run(training, folder) if folder else new_run(training, start_from)
            with closed_unless_it_begins(training), to_open:
                try:
                    training.supervise()
                    return training.end()
                except KeyboardInterrupt:  # the second: at once
                    training.abort()
                    raise KeyboardInterrupt(standing(training.folder)) from None


@contextmanager
def node_or_cluster(
    config: Config, metrics: Metrics, terminal: Terminal
) -> Iterator[Node | Cluster]:
    """Where it trains: a node, or a cluster of them, which looks the same from here."""
    if config.nodes == 1 and not config.cluster:
        yield Node(config, pick_devices(config.device), metrics)
        return
    from a3c.cluster.machines import joined

    with joined(config):
        from a3c.cluster.cluster import Cluster  # imports Ray, which knows by now where to listen

        with closing(Cluster(config, metrics, terminal.say)) as cluster:
            yield cluster


@contextmanager
def closed_unless_it_begins(training: Training) -> Iterator[None]:
    """The environments, of a run that cannot begin. One that has begun closes them in its end."""
    try:
        yield
    except (Exception, KeyboardInterrupt):
        if not training.supervised:
            training.close()
        raise


@contextmanager
def new_run(training: Training, start_from: str | Path | None) -> Iterator[None]:
    """In a folder of its own. A Ctrl-C before there is one ends all at once and leaves nothing."""
    training.begin(start_from)
    with interrupts(training.stop), ExitStack() as until_the_end:
        folder = create_run_folder(training.config)
        try:
            remarks = until_the_end.enter_context(locked(folder))
            training.open(folder, remarks)
        except (InputError, KeyboardInterrupt):  # nothing is left of what could not begin
            shutil.rmtree(folder, ignore_errors=True)
            raise
        yield


@contextmanager
def resumed_run(training: Training, folder: Path) -> Iterator[None]:
    """In the folder that it has. A Ctrl-C while it is loaded ends all at once."""
    with locked(folder) as remarks:
        # read again, now that it is locked: another process may have trained on
        training.load(start.find(training.config, folder))
        with interrupts(training.stop):
            training.open(folder, remarks)
            yield


def already_finished(found: Resumed, metrics: Metrics, terminal: Terminal) -> Run:
    """Of a run that has nothing to do: says so, and changes nothing."""
    metrics.load(found.checkpoint.progress["metrics"], found.agent_steps)
    mean = metrics.status()["mean_return_100"]
    score = best.read_score(found.folder)
    run = Run(found.folder, found.agent_steps, metrics.episodes, mean, finished=True, best=score)
    progress = found.checkpoint.progress
    for line in best.failed(progress[FAILED], progress[FAILED_SCORES]):
        terminal.say(line)
    terminal.say(start.nothing_to_do(found))
    terminal.goodbye(run)
    return run


def evaluator_of(config: Config, node: Node | Cluster, metrics: Metrics) -> Evaluator | None:
    """Of a run that evaluates as it goes. Raises InputError where its games cannot be made."""
    if config.evaluate_every == "never":
        return None
    return Evaluator(config, node.network(node.device), node.device, node.store, metrics)


class Training:
    """A run under way: supervises its node, logs, saves."""

    def __init__(self, config: Config, metrics: Metrics, node: Node | Cluster, terminal: Terminal):
        self.config, self.metrics, self.node, self.terminal = config, metrics, node, terminal
        self.store = node.store  # whose counters are the run's
        self.evaluator = evaluator_of(config, node, metrics)
        self.evaluation: Evaluation | None = None
        self.to_evaluate: list[Snapshot] = []  # an earlier part of the run had not come to these
        self.supervised = self.interrupted = False
        self.new = self.established = False  # established: config.json and runs/latest are its own
        self.best_mean: float | None = None
        self.saved: dict[str, Any] = {"agent_steps": 0, "metrics": metrics.save()}  # last progress
        self.written: int | None = None  # updates of the newest checkpoint
        self.changed = False  # the run goes on with other options than that checkpoint's
        self.failures: list[BaseException] = []
        self.unclosed: list[BaseException] = []  # why environments could not be closed
        self.origin: str | None = None  # of its first parameters
        self.node.roll_back = self._roll_back
        self.folder: Path
        self.log: Log

    def begin(self, start_from: str | Path | None) -> None:
        """New games for all agents; with the parameters of another model, if one is named."""
        self.new = True
        config, parameters = self.config, None
        if start_from is not None:
            model = start.model_to_start_from(start_from, config, self.node.spec)
            start.check_parameters(self.store.parameters, model)
            self.origin = start.lasting_name(start_from)
            self.terminal.say(start.origin(start_from, model, config))
            parameters = model.tensors["parameters"]
        self.terminal.say(f"starting {self.node.games_in_words()} games of {config.env}")
        for line in start.warnings_of(config, self.node.spec):
            self.terminal.say(line)
        with self.faults_of_environments():
            self.node.begin()
        if parameters is not None:  # the model's own background is among them: begin's goes
            self.store.restart(parameters)

    def load(self, found: Resumed) -> None:
        """Go on from a checkpoint: parameters, statistics, counters, random states, agents."""
        env = self.config.env
        start.check_spec(str(found.folder), env, found.checkpoint.spec, env, self.node.spec)
        start.check_parameters(self.store.parameters, found.checkpoint)
        for line in [*found.remarks, f"resuming from {found.path}"]:
            self.terminal.say(line)
        progress = found.checkpoint.progress
        self.best_mean = checkpoint.best_mean(found.folder, progress["best_mean_return_100"])
        if not self.node.is_home(found.checkpoint.tensors):
            self.terminal.say("it was made on another kind of device: agents start new games")
        with self.faults_of_environments():
            self.node.load(found.checkpoint.tensors, progress["agent_steps"], progress["updates"])
        self.to_evaluate = saved_snapshots(progress, found.checkpoint.tensors)
        if self.evaluator is not None:
            self.evaluator.failed = list(progress[FAILED])
            self.evaluator.failed_scores = list(progress[FAILED_SCORES])
        for line in checkpoint.set_aside(found.folder):
            if not any(remark.startswith(line) for remark in found.remarks):
                self.terminal.say(f"{line}; it is left out")
        self.metrics.load(progress["metrics"], self.store.agent_steps)
        self.saved, self.written, self.changed = progress, progress["updates"], found.changed

    @contextmanager
    def faults_of_environments(self) -> Iterator[None]:
        """Before training: raise InputError for an environment that cannot be trained on."""
        try:
            yield
        except EnvironmentFault as fault:
            raise InputError(f"{self.config.env} cannot be trained on: {fault}") from None

    def open(self, folder: Path, remarks: list[str]) -> None:
        """Open the logs in the run's folder; note there, and say, what begins."""
        self.folder = folder
        self.log = Log(folder, self.store.agent_steps)
        if self.evaluator is not None:
            spec = self.node.spec
            self.evaluation = Evaluation(self.evaluator, spec, folder, self.log, self.terminal)
        self._note_nodes()
        for line in [f"run folder {folder}", *remarks, *self.log.remarks]:
            self.terminal.say(line)

    def _note_nodes(self) -> None:
        """Those that began to train since the last call, in the run's provenance."""
        for facts in self.node.newcomers():
            provenance.note(self.folder, {**facts, "start_from": self.origin})

    def supervise(self) -> None:
        """Start the threads; log and save until the last of them has ended."""
        self.supervised = True
        self.metrics.begin()
        try:
            if self.evaluation is not None:
                self.evaluation.go_on(self.to_evaluate, self.store.finished)
            self.to_evaluate = []
            self.node.start()
            if self.evaluator is not None:
                self.evaluator.start(self.halt)
            self._watch()
        except Exception as error:  # for instance a full disk: the threads must end as well
            self.failures.append(error)
            self.halt()
        try:
            self.node.join()
        except Exception as error:  # of a cluster whose server has died as well
            self.failures.append(error)
            self.abort()

    def _watch(self) -> None:
        next_log = time.monotonic() + self.config.log_every_seconds
        first = min(FIRST_CHECKPOINT_SECONDS, self.config.checkpoint_every_seconds)
        next_save = time.monotonic() + first
        while self.node.goes_on(0.2):
            self.terminal.refresh(self.store.agent_steps)
            self._note_nodes()
            if self.evaluation is not None:
                self.evaluation.note()
            now = time.monotonic()
            if now >= next_log:
                next_log = now + self.config.log_every_seconds
                self.terminal.logged(self._write_record())
            if now >= next_save:
                next_save = now + self.config.checkpoint_every_seconds
                self.save()

    def _roll_back(self, agent_steps: int) -> None:
        """A cluster's server has died, and goes on from the last checkpoint, or from one that is
        being made; so do the curves."""
        last = agent_steps == self.saved["agent_steps"]
        self.metrics.rewind(self.saved["metrics"] if last else self.metrics.save(), agent_steps)
        self.log.rewind(agent_steps)
        if self.evaluator is not None:
            self.evaluator.roll_back(agent_steps)

    # Three ends: stop (asked for), halt (something beside the threads failed), abort (at once)

    def stop(self) -> None:
        """End after the rollouts under way and their updates. Safe in a signal handler."""
        self.interrupted = True
        self.node.stop()
        if self.evaluator is not None:
            self.evaluator.stop()

    def halt(self) -> None:
        """End after the rollouts under way and their updates: something else failed than the
        threads, so that their games can still be saved."""
        self.node.stop()
        if self.evaluator is not None:
            self.evaluator.abort()

    def abort(self) -> None:
        """End the threads as soon as may be."""
        self.node.abort()
        if self.evaluator is not None:
            self.evaluator.abort()

    def _write_record(self) -> dict[str, Any]:
        with self.store.lock:
            agent_steps, updates = self.store.agent_steps, self.store.updates
        record = self.metrics.drain(agent_steps, updates)
        self.log.write(record)
        return record

    def end(self) -> Run:
        """Last record, last checkpoint, last evaluations, last line.

        Raises RunFailed if something went wrong.
        """
        for last in (self._save_and_evaluate, self.log.close):
            try:
                last()
            except Exception as error:  # the first thing that went wrong is told, not the last
                self.failures.append(error)
        self.close()
        self._check_failures()
        run = self._outcome()
        self.terminal.goodbye(run)
        return run

    def _save_and_evaluate(self) -> None:
        """Last checkpoint, last evaluations. Raises as `save` does."""
        if self._is_to_be_saved():
            self.save()
        if self.evaluation is None:
            return
        self.evaluation.finish(complete=self.store.finished and not self._all_failures())
        if self.store.finished and self.evaluation.evaluator.failure is not None:
            self.save()  # once more, without what failed, or each resumed run would fail

    def _is_to_be_saved(self) -> bool:
        """Whether the newest checkpoint is out of date. Where nothing was learned since, it may
        have games that were lost meanwhile, and a model of the same name would be another."""
        learned = self.store.updates != self.written
        return learned or (self.changed and not self._all_failures())

    def close(self) -> None:
        """Free what environments hold."""
        for each in (self.node, self.evaluator):
            try:
                if each is not None:
                    each.close()
            except Exception as error:
                self.unclosed.append(error)

    def _outcome(self) -> Run:
        """What came of it."""
        mean = self.metrics.status()["mean_return_100"]
        return Run(
            self.folder,
            self.store.agent_steps,
            self.metrics.episodes,
            mean,
            self.store.finished,
            None if self.evaluation is None else self.evaluation.score,
            self.interrupted,
        )

    def _all_failures(self) -> list[BaseException]:
        """The threads', the evaluator's, ours, those at the end: in each the first one first."""
        found = list(self.node.failures)
        if self.evaluator is not None and self.evaluator.failure is not None:
            found.append(self.evaluator.failure)
        return found + self.failures + self.unclosed

    def _check_failures(self) -> None:
        """Raise RunFailed for the first thing that went wrong."""
        if failures := self._all_failures():
            cause = failures[0]
            disk = isinstance(cause, OSError) and cause in self.failures
            # InputError: there is no room for more agents, as a run grows
            known = EnvironmentFault, InputError, FloatingPointError
            outside = disk or isinstance(cause, known)
            words = str(cause) if outside else f"{type(cause).__name__}: {cause}"
            raise RunFailed(words, self.folder, outside) from cause

    def save(self) -> None:
        """One checkpoint, and the record of the log that belongs to it.

        The threads stand still while it is copied, not while it is written. Raises OSError, and
        FloatingPointError rather than overwrite a good checkpoint with a ruined network.
        """
        with self._said_if_late(), self.node.paused():
            saved, record = self._take_checkpoint()
        if not saved.tensors["parameters"].isfinite().all():
            raise FloatingPointError("the parameters are not finite")
        self.log.write(record)
        self.log.sync()  # a checkpoint that outlives a power cut has all that was logged before it
        checkpoint.save_into(self.folder, saved)
        self.written, self.changed = saved.progress["updates"], False
        self.best_mean = saved.progress["best_mean_return_100"]
        self.terminal.logged(record)
        if not self.established:
            for line in establish(self.folder, self.config, self.new):
                self.terminal.say(line)
            self.established = True

    @contextmanager
    def _said_if_late(self) -> Iterator[None]:
        """A line if a rollout does not end: all other threads stand still, and wait for it."""
        words = (
            f"a checkpoint has waited {LATE_SECONDS:.0f} seconds for rollouts to end, and all "
            "threads with it: does an environment hang? A second Ctrl-C ends the run at once"
        )
        late = threading.Timer(LATE_SECONDS, self.terminal.say, [words])
        late.daemon = True
        with suppress(RuntimeError):  # where there is no thread left a checkpoint goes without
            late.start()
        try:
            yield
        finally:
            late.cancel()
            if late.ident is not None:
                late.join()

    def _take_checkpoint(self) -> tuple[Checkpoint, dict[str, Any]]:
        """The checkpoint and the record that belongs to it, which empties the metrics; notes how
        far the run has come, for `_roll_back`. The threads stand still."""
        tensors = self.node.save()
        record = self.metrics.drain(self.store.agent_steps, self.store.updates)
        mean = record["mean_return_100"]
        whole = len(self.metrics.recent) == RECENT_GAMES  # a few lucky games are no record
        best_mean = self.best_mean
        if whole and math.isfinite(mean):
            best_mean = mean if best_mean is None else max(mean, best_mean)
        progress = {
            "agent_steps": self.store.agent_steps,
            "updates": self.store.updates,
            "mean_return_100": mean,
            "best_mean_return_100": best_mean,
            "metrics": self.metrics.save(),
            "evaluations": [],
        }
        if self.evaluator is not None:
            progress["evaluations"], copies = self.evaluator.save()
            progress[FAILED] = list(self.evaluator.failed)
            progress[FAILED_SCORES] = list(self.evaluator.failed_scores)
            tensors |= copies
        self.saved = progress
        return Checkpoint(self.config, self.node.spec, progress, tensors), record
