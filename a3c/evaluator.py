"""Evaluation while training: whole games of the policy of a moment, in a thread of their own.

At each multiple of `evaluate_every` agent steps, and when the run has had its agent steps (some
updates of what was under way may follow), the store's parameters are copied, its lock held. Copies
wait in a queue for the evaluator, which plays them on games of its own, as `a3c play` does: no end
at a lost life, nothing clipped. Learning is the same with and without it, but for the time that its
thread takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from a3c.config import Config
from a3c.devices import ToHost
from a3c.envs.protocol import EnvironmentFault
from a3c.errors import InputError
from a3c.games import (
    Episode,
    EvaluationProtocol,
    GameEnvs,
    GoesOn,
    make_games,
    play_episodes,
    usual_epsilon,
)
from a3c.metrics import Metrics
from a3c.network import Network, flatten
from a3c.shared import SharedParameters

BEST_EPISODES = 30  # fresh games by which the best policy is scored
EVALUATION, SCORING = 1, 2  # what seeds are for; 3 is in value_methods.py


class Snapshot(NamedTuple):
    """What is evaluated: the store as it was after one update."""

    agent_steps: int
    updates: int
    parameters: ToHost  # [P]
    metrics: dict[str, Any]  # of training at that moment, as Metrics.save has them
    life: int  # how often the run had been rolled back


class Evaluated(NamedTuple):
    """An evaluation that is done."""

    snapshot: Snapshot
    record: dict[str, Any]  # of evaluations.jsonl


class Evaluator:
    """Plays snapshots in their order, until `finish` or `abort`.

    `network` is its own. Raises InputError where games cannot be made, as make_envs does.
    """

    def __init__(
        self,
        config: Config,
        network: Network,
        device: torch.device,
        store: SharedParameters,
        metrics: Metrics,
    ):
        self.config, self.store, self.metrics = config, store, metrics
        self.network = network.requires_grad_(False)
        self.parameters, _ = flatten(network)  # [P]
        self.games = make_games(config, config.evaluate_episodes, device)
        self.generator = torch.Generator(device)
        # Of another priority than a learner's: PyTorch deals out 32 of each in turn
        self.stream = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None
        self.waiting: SimpleQueue[Snapshot | None] = SimpleQueue()
        # Those whose records are not written yet, by life and agent steps, in order
        self.unwritten: dict[tuple[int, int], Snapshot] = {}
        self.done: SimpleQueue[Evaluated] = SimpleQueue()
        self.left_out: list[int] = []  # agent steps of the snapshots that were not played
        self.failed: list[int] = []  # of those that failed, in all of the run: nobody tries again
        self.failed_scores: list[int] = []  # likewise of best policies' scores
        self.rolled_back: list[int] = []  # each time to these agent steps
        self.stopped = self.ending = False
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._guarded, name="evaluator", daemon=True)
        self.on_failure: Callable[[], None] = lambda: None
        store.in_update = self.copy_if_due

    def copy_if_due(self, before: int) -> None:
        """In each update, the store's lock held: copy what is to be evaluated.

        A copy of [P], less than a millisecond, for all of a thousand updates or more.
        """
        if self.store.to_be_evaluated(before):
            self.copy()

    def copy(self) -> None:
        """Queue a copy of the store as it is, while nobody changes it."""
        store = self.store
        copy = ToHost(store.parameters.clone())
        life = len(self.rolled_back)
        self.queue(Snapshot(store.agent_steps, store.updates, copy, self.metrics.save(), life))

    def queue(self, snapshot: Snapshot) -> None:
        """To be played once those before it have been."""
        self.unwritten[snapshot.life, snapshot.agent_steps] = snapshot
        self.waiting.put(snapshot)

    def forget(self, snapshot: Snapshot) -> None:
        """A checkpoint need not keep it any more."""
        self.unwritten.pop((snapshot.life, snapshot.agent_steps), None)

    def save(self) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
        """What is still to be played, so that a resumed run can: for a checkpoint's header, and its
        tensors, [P] each; of the parameters that are the checkpoint's own no copy. For while no
        thread learns."""
        left = [each for each in list(self.unwritten.values()) if not self.is_lost(each)]
        facts = [
            {"agent_steps": each.agent_steps, "updates": each.updates, "metrics": each.metrics}
            for each in left
        ]
        copies = {
            name_of(each.agent_steps): torch.from_numpy(each.parameters.read())
            for each in left
            if each.updates != self.store.updates
        }
        return facts, copies

    def start(self, on_failure: Callable[[], None]) -> None:
        """Start the thread; `on_failure` is called in it if it fails. Raises InputError where the
        system has no threads left."""
        self.on_failure = on_failure
        try:
            self.thread.start()
        except RuntimeError as error:
            raise InputError(f"evaluations need one more thread: {error}") from None

    def finish(self) -> None:
        """No more snapshots will come: the thread ends with the last one that waits."""
        if not self.ending:
            self.ending = True
            self.waiting.put(None)

    def stop(self) -> None:
        """Leave out what is not done yet. Safe in a signal handler."""
        self.stopped = True

    def abort(self) -> None:
        """End at once, whatever is still to come."""
        self.stop()
        self.finish()

    def roll_back(self, agent_steps: int) -> None:
        """The run goes on from here: what was copied beyond is of parameters that are lost."""
        self.rolled_back.append(agent_steps)
        self.failed = [failed for failed in self.failed if failed <= agent_steps]

    def is_lost(self, snapshot: Snapshot) -> bool:
        since = self.rolled_back[snapshot.life :]
        return any(snapshot.agent_steps > agent_steps for agent_steps in since)

    def alive(self, seconds: float) -> bool:
        """Whether the thread is at work; waits up to so long for its end."""
        if self.thread.ident is not None:  # else it could not be started
            self.thread.join(timeout=seconds)
        return self.thread.is_alive()

    @property
    def behind(self) -> int:
        """How many snapshots wait."""
        return max(self.waiting.qsize() - self.ending, 0)

    def take(self) -> Iterator[Evaluated]:
        """What has been done since the last call."""
        while True:
            try:
                evaluated = self.done.get_nowait()
            except Empty:
                return
            if not self.is_lost(evaluated.snapshot):
                yield evaluated
            self.forget(evaluated.snapshot)  # by now who asked has written it down

    def score(self, parameters: Tensor, agent_steps: int, goes_on: GoesOn) -> list[Episode] | None:
        """BEST_EPISODES sampled games with parameters [P] that were evaluated at `agent_steps`.

        For after the thread's end. None where `goes_on` said no.
        """
        seed = evaluation_seed(self.config, agent_steps, SCORING)
        with closing(make_games(self.config, BEST_EPISODES, self.generator.device)) as games:
            return self._play(games, parameters, seed, False, goes_on)

    def fail(self, error: BaseException) -> None:
        """Remember why nothing more can be evaluated."""
        fault = isinstance(error, EnvironmentFault)
        self.failure = EnvironmentFault(f"evaluation: {error}") if fault else error

    def close(self) -> None:
        """End the thread and free what the games hold."""
        self.abort()
        if self.thread.ident is not None:
            self.thread.join()
        self.games.close()

    def _guarded(self) -> None:
        """The thread's whole life. If it dies the run ends, after the rollouts under way and their
        updates."""
        torch.set_num_threads(1)
        try:
            with nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
                self._run()
        except BaseException as error:
            self.fail(error)
            self.on_failure()

    def _run(self) -> None:
        while (snapshot := self.waiting.get()) is not None:
            if self.is_lost(snapshot):
                self.forget(snapshot)
                continue
            try:
                record = None if self.stopped else self._evaluate(snapshot)
            except BaseException:
                self.failed.append(snapshot.agent_steps)
                self.forget(snapshot)  # a resumed run would begin with it, and fail at once
                raise
            if record is None:
                self.left_out.append(snapshot.agent_steps)
            else:
                self.done.put(Evaluated(snapshot, record))

    def _evaluate(self, snapshot: Snapshot) -> dict[str, Any] | None:
        """The record of a snapshot; None if it was stopped meanwhile."""
        started, cpu_started = time.perf_counter(), time.thread_time()
        parameters = torch.from_numpy(snapshot.parameters.read())
        figures: dict[str, Any] = {}
        seed = evaluation_seed(self.config, snapshot.agent_steps, EVALUATION)
        for policy in ("sampled", "greedy"):
            greedy = policy == "greedy"
            episodes = self._play(self.games, parameters, seed, greedy, self._goes_on)
            if episodes is None:
                return None
            figures |= figures_of(policy, episodes)
        return {
            "agent_steps": snapshot.agent_steps,
            "updates": snapshot.updates,
            "seconds": round(snapshot.metrics["seconds"], 3),
            **figures,
            "evaluation_seconds": round(time.perf_counter() - started, 3),
            **self._cpu_seconds(cpu_started),
        }

    def _cpu_seconds(self, started: float) -> dict[str, float]:
        """Of this thread; nothing with ale-py, which plays in a thread of its own."""
        if self.config.emulator == "ale":
            return {}
        return {"evaluation_cpu_seconds": round(time.thread_time() - started, 3)}

    def _goes_on(self, *_: int) -> bool:
        return not self.stopped

    def _play(
        self, games: GameEnvs, parameters: Tensor, seed: int, greedy: bool, goes_on: GoesOn
    ) -> list[Episode] | None:
        """A whole game in each of `games` with parameters [P]; None if `goes_on` said no."""
        self.parameters.copy_(parameters)
        self.network.prepare()
        self.generator.manual_seed(seed)
        epsilon = usual_epsilon(self.config, games.spec, greedy)
        protocol = EvaluationProtocol(len(games.envs), seed, greedy, epsilon)
        episodes = play_episodes(games, self.network, self.generator, protocol, goes_on)
        return episodes if len(episodes) == protocol.episodes else None


def name_of(agent_steps: int) -> str:
    """Of a snapshot's parameters in a checkpoint."""
    return f"evaluation.{agent_steps}"


def saved_snapshots(progress: dict[str, Any], tensors: dict[str, Tensor]) -> list[Snapshot]:
    """What `Evaluator.save` had given to a checkpoint."""
    return [
        Snapshot(
            each["agent_steps"],
            each["updates"],
            ToHost(tensors.get(name_of(each["agent_steps"]), tensors["parameters"])),
            each["metrics"],
            life=0,
        )
        for each in progress["evaluations"]
    ]


def figures_of(policy: str, episodes: list[Episode]) -> dict[str, Any]:
    """A record's part about one policy, sampled or greedy."""
    returns = [episode.episodic_return for episode in episodes]
    return {
        f"{policy}_return": float(np.mean(returns)),
        f"{policy}_returns": returns,
        f"{policy}_lengths": [episode.length for episode in episodes],
        f"{policy}_cut": sum(episode.cut for episode in episodes),
    }


def evaluation_seed(config: Config, agent_steps: int, purpose: int) -> int:
    """Of the games of one evaluation. Game i is seeded with seed + i: as in actor_learner.py, the
    sums stay within 31 bits, and hardly ever are two games seeded alike.
    """
    sequence = np.random.SeedSequence(config.seed, spawn_key=(agent_steps, purpose))
    return int(sequence.generate_state(1)[0] >> 2)
