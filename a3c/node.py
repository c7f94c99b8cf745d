"""Node: one machine's part of a run: a store, a gate, and its actor-learner threads."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import Tensor

from a3c.actor_learner import ActorLearner
from a3c.config import Config, stages
from a3c.devices import pick_precision, room_for, synchronise
from a3c.envs import make_envs
from a3c.envs.names import atari_game
from a3c.envs.protocol import EnvironmentFault, Envs, close_all, closed_on_failure
from a3c.errors import InputError
from a3c.gate import Gate
from a3c.measuring import measure_background, measure_moments
from a3c.memory import check_memory
from a3c.methods import make_method
from a3c.metrics import Metrics
from a3c.network import Network, check_network, flatten, layout
from a3c.run import provenance
from a3c.shared import SharedParameters

MEASURING_AGENTS = 32  # a thousand take ten seconds longer, and the mean is the same


class Node:
    """`num_threads` actor-learners, dealt to the devices; the store is on the first.

    first_thread: the index of its first thread among those of all nodes. Raises InputError for what
    it cannot run.
    """

    roll_back: Callable[[int], None]  # not used here, see Cluster

    def __init__(
        self,
        config: Config,
        devices: Sequence[torch.device],
        metrics: Metrics,
        first_thread: int = 0,
    ):
        self.config, self.devices = config, devices[: config.num_threads]
        self.metrics, self.stages = metrics, stages(config)
        self.current = self.stages[0][1]  # the Config of the threads that there are
        self.device = devices[0]
        self.dtype = pick_precision(config, self.device)
        self.method = make_method(config)
        if atari_game(config.env) is not None:  # said before the emulator is compiled
            check_network(config, pixels=True)
        check_memory(config, devices)
        self.failures: list[BaseException] = []  # of the threads, the first one first
        self.threads: list[threading.Thread] = []
        self.noted = False  # its provenance
        self.kept: dict[str, Tensor] | None = None  # what `save` gives while the agents are made
        envs = self.environments()
        with closed_on_failure(envs):
            self._make_store_and_learners(envs, first_thread)

    def _make_store_and_learners(self, envs: list[Envs], first_thread: int) -> None:
        """Make what threads share, and a learner for each one's environments."""
        self.spec = envs[0].spec
        first = self.network(self.device)
        self.gate = Gate(self.config.num_threads)
        self.store = SharedParameters(
            flatten(first)[0],
            layout(first),
            self.config,
            after_update=self.look,
            target_every_agent_steps=self.method.target_every_agent_steps,
            first_thread=first_thread,
        )
        self.learners = [self.learner(index, each) for index, each in enumerate(envs)]

    def device_of(self, thread: int) -> torch.device:
        """The device of a thread: they are dealt in turn."""
        return self.devices[thread % len(self.devices)]

    def network(self, device: torch.device) -> Network:
        """Make a network; its values follow from the seed, so all are alike."""
        return Network(self.config, self.spec, self.method, self.dtype).to(device)

    def environments(self) -> list[Envs]:
        """Make the environments of each thread, with the agents of this stage."""
        envs: list[Envs] = []
        with closed_on_failure(envs):
            envs.extend(
                make_envs(self.current, self.current.num_envs, self.device_of(index))
                for index in range(self.current.num_threads)
            )
        return envs

    def learner(self, index: int, envs: Envs) -> ActorLearner:
        """Make one thread's learner; with a target network, if the method needs one.

        Raises InputError if a GPU has too little memory.
        """
        device = self.device_of(index)
        with room_for(self.config, device):
            target = self.network(device) if self.method.target_every_agent_steps else None
            return ActorLearner(
                self.store.first_thread + index,
                self.current,
                make_method(self.config),  # its own: it has what a thread prepares
                envs,
                (self.network(device), target),
                self.store,
                self.gate,
                self.metrics,
                device,
            )

    def begin(self) -> None:
        """Measure the background, or what normalises vectors; then new games for all agents."""
        self.measure()
        self.start_games(updates=0)

    def start_games(self, updates: int) -> None:
        """New games for all agents; other ones than at any other number of updates."""
        for learner in self.learners:
            learner.start_games(updates)
        self.record()

    def record(self) -> None:
        """Record the CUDA graphs, if any. Raises InputError if there is too little memory."""
        synchronise(self.devices)  # what was set up was so on another stream than the threads'
        if not self.learners[0].graphs.wanted:
            return
        # An earlier run's CUDA graphs, destroyed while one is recorded, would spoil it
        gc.collect()
        for learner in self.learners:
            with room_for(self.config, learner.device):
                learner.record()
        synchronise(self.devices)

    def measure(self) -> None:
        """What the untrained policy sees, for networks that ask for it: played here with the first
        learner's network, in environments of its own."""
        learner, network = self.learners[0], self.learners[0].network
        if network.background is None and network.moments is None:
            return
        agents = min(MEASURING_AGENTS, self.config.num_envs)
        with closing(make_envs(self.config, agents, self.device)) as envs:
            if network.background is not None:
                measure_background(learner, network.background, envs)
            if network.moments is not None and network.return_std is not None:
                measure_moments(learner, network.moments, network.return_std, envs)

    def games_in_words(self) -> str:
        """How many, in words; where there will be more, of how many."""
        words = [f"{each.num_threads} x {each.num_envs}" for each in (self.current, self.config)]
        return " of ".join(dict.fromkeys(words))

    def start(self) -> None:
        """Start the threads. Raises InputError where the system has none left; those that have
        started end then."""
        self.threads = []
        for learner in self.learners:
            thread = threading.Thread(target=self._guarded, args=[learner], daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # a limit on processes and threads, as containers have
                self._do_without(len(self.learners) - len(self.threads))
                started = f"{len(self.threads)} of {len(self.learners)} threads"
                raise InputError(f"{started} could be started: {error}") from None
            self.threads.append(thread)

    def _do_without(self, missing: int) -> None:
        """These threads will never be: the others are not to wait for them, and end."""
        for _ in range(missing):
            self.gate.leave()
        self.abort()

    def _guarded(self, learner: ActorLearner) -> None:
        """A thread's whole life. A dead thread stops the run: no other waits for it."""
        torch.set_num_threads(1)  # what the main thread has set is not for all that come after it
        try:
            learner.run()
        except threading.BrokenBarrierError:
            pass  # in sync mode, after `abort`: nothing that this thread has to say
        except BaseException as error:
            if isinstance(error, EnvironmentFault):
                error = EnvironmentFault(f"thread {learner.index}: {error}")
            self.failures.append(error)
            self.abort()
        finally:
            self.gate.leave()

    def goes_on(self, seconds: float) -> bool:
        """Wait up to so long for a thread to end; whether the run goes on here.

        Where all have ended to have more agents they get them, and start again.
        """
        for thread in self.threads:
            if thread.is_alive():  # never at once while others work: they need the interpreter
                thread.join(timeout=seconds)
                break
        return any(thread.is_alive() for thread in self.threads) or self.grow()

    def look(self) -> None:
        """After each update: whether the threads are to stop, at the end or to have more agents."""
        self.gate.look(lambda: self.store.finished or self.stage() is not self.current)

    def stage(self) -> Config:
        """The Config that the threads are to have by now."""
        first, *later = self.stages
        begun = [config for start, config in later if start <= self.store.agent_steps]
        return [first[1], *begun][-1]

    def grow(self) -> bool:
        """Growing is resuming with more agents: `load` fills the new ones with copies. Give the
        threads, all of which have ended, the agents that they are to have by now, and start them;
        False where they have them, or end for another reason."""
        if (
            self.stage() is self.current
            or self.store.finished
            or self.failures
            or self.gate.stopping
        ):
            return False
        self.kept = self.save()
        self.load(self.kept, self.store.agent_steps, self.store.updates)
        self.kept = None
        if self.gate.stopping:  # asked for meanwhile
            return False
        self.gate.open(self.config.num_threads)
        self.start()
        return True

    def seat(self) -> None:
        """Replace environments and learners by those of the stage that the run has reached."""
        if self.stage() is self.current:
            return
        self.close()
        self.current = self.stage()
        streams = [(learner.stream, learner.store_stream) for learner in self.learners]
        self.learners = []
        self.store.forget_graphs()
        gc.collect()  # they refer to themselves, and their memory is wanted
        envs = self.environments()
        with closed_on_failure(envs):
            self.learners = [self.learner(index, each) for index, each in enumerate(envs)]
        for learner, own in zip(self.learners, streams, strict=True):
            learner.stream, learner.store_stream = own  # a new one might be the evaluator's

    def stop(self) -> None:
        """Ask the threads to end after the rollout they are in and its updates. Safe in a signal
        handler."""
        self.gate.stop()

    def abort(self) -> None:
        """End the threads as soon as may be, also those that wait for one another."""
        self.gate.abort()
        self.store.abort()

    def join(self) -> None:
        """Wait for the threads to end."""
        for thread in self.threads:
            thread.join()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """All threads stand between two rollouts, and what these came to is accounted for."""
        with self.gate.paused():
            self.settle()
            yield

    def settle(self) -> None:
        """Account for each thread's last rollout; for while the threads stand still. A gradient
        that was not finite ends the run, and costs no checkpoint: it was not applied."""
        for learner in self.learners:
            try:
                learner.settle()
            except FloatingPointError as error:
                self.failures.append(error)
                self.stop()

    def save(self) -> dict[str, Tensor]:
        """Copies of all tensors of a checkpoint, on the host; for while the threads stand still."""
        if self.kept is not None:
            return self.kept
        synchronise(self.devices)
        tensors = self.store.save()
        for learner in self.learners:
            for name, value in learner.save().items():
                tensors[f"thread{learner.index}.{name}"] = torch.as_tensor(value)
        return {name: tensor.cpu().clone() for name, tensor in tensors.items()}

    def load(self, saved: dict[str, Tensor], agent_steps: int, updates: int) -> None:
        """Go on from what `save` returned, before the threads start; never with fewer agents."""
        had = max((len(v) for name, v in saved.items() if name.endswith(".returns")), default=0)
        self.stages = [stage for stage in self.stages if stage[1].num_envs >= had]
        self.store.load(saved, agent_steps, updates)
        self.seat()
        self.look()  # a run that was saved at its end makes no rollout more
        for learner in self.learners:
            prefix = f"thread{learner.index}."
            own = {k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)}
            with room_for(self.config, learner.device):
                if own:
                    learner.load(own, updates)
                else:  # more nodes than there were
                    learner.start_games(updates)
        self.record()

    def is_home(self, saved: dict[str, Tensor]) -> bool:
        """Whether a checkpoint is of this kind of device; else its agents start new games."""
        generator = saved.get("thread0.generator")
        return generator is None or self.learners[0].is_home(generator)

    def provenance(self) -> dict[str, Any]:
        """What computes here."""
        dtype = self.dtype if self.spec.pixels else torch.float32
        facts = {"device": str(self.device), "torso_dtype": str(dtype).removeprefix("torch.")}
        return {**provenance.provenance(), **facts}

    def newcomers(self) -> list[dict[str, Any]]:
        """The provenance of nodes that began to train since the last call: this one."""
        found, self.noted = ([] if self.noted else [self.provenance()]), True
        return found

    def close(self) -> None:
        """Free what the environments hold."""
        close_all(learner.envs for learner in self.learners)
