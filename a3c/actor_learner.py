"""One actor-learner thread: sync -> rollout -> loss -> gradients -> apply.

With A3C it is Algorithm S3 of Mnih et al. (2016), with N agents in place of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from a3c.acting import Actor, Agents
from a3c.config import Config
from a3c.devices import ToHost, on_device
from a3c.envs.protocol import Envs
from a3c.gate import Gate
from a3c.graphs import Graphed, Graphs, wants_graphs
from a3c.heads import Outputs
from a3c.method import Method
from a3c.metrics import Episodes, Floats, Metrics
from a3c.network import Network, flatten
from a3c.rollout import Rollout
from a3c.shared import Applied, SharedParameters

# Where agents stand, in a checkpoint
AGENT_TENSORS = ("observations", "hidden", "cell", "next_actions")
RENEWED_EVERY = 5  # agent steps of each agent; by default a rollout has 20, of many agents 10


class ActorLearner:
    """A thread's own things: environments, network, agents, random generator, CUDA stream.

    index: among the threads of all nodes; games and actions are seeded by it. networks: the
    thread's own, and the target network if the method has one. Raises InputError for CUDA graphs
    that cannot be had.
    """

    def __init__(
        self,
        index: int,
        config: Config,
        method: Method,
        envs: Envs,
        networks: tuple[Network, Network | None],
        store: SharedParameters,
        gate: Gate,
        metrics: Metrics,
        device: torch.device,
    ):
        self.index, self.config, self.method, self.envs = index, config, method, envs
        self.store, self.gate, self.metrics, self.device = store, gate, metrics, device
        self.network, self.target = networks
        self.parameters, self.gradients = flatten(self.network)  # [P] each
        self.target_parameters = None if self.target is None else flatten(self.target)[0]  # [P]
        self.minibatch_size = envs.num_envs // config.minibatches  # agents of one update
        self.network.make_room(config.rollout_length, self.minibatch_size)
        self._choose_copies()
        self._make_device_state()
        self.behaviour = method.behaviour(index, envs.num_envs, device)
        self.prepared: dict[str, float] = {}  # for this rollout, as the log shows it
        self.actor = Actor(envs, self.network, self.choose, self.seen, method.looks_ahead)
        self.graphed_differentiate = Graphed(self.differentiate)
        self.episodes = Episodes(envs.num_envs)
        self.rollouts = 0  # of this thread
        self.acted_at = 0  # how many updates, of all threads, are in the parameters that act
        # The same at each step of a rollout, see `renew`; 0: none so far
        self.acted_at_each_step = [0]
        self.under_way: Figures | None = None  # of the last rollout that was learned from
        # True from a rollout's first step to its Figures: a thread that dies there saves no games
        self.torn = False

    def _choose_copies(self) -> None:
        """Which copy of the parameters acts, and whether the same one learns.

        With several updates a rollout, only the first could learn with the copy that acted. By
        default, with few threads on a CPU, a rollout is one update and learns with that copy.
        """
        config = self.config
        many = config.minibatches * config.epochs > 1
        self.learns_with_newest = many or self.method.needs_newest
        several = config.mode == "async" and config.num_threads > 1
        self.renews = self.learns_with_newest and several and config.sync_every == 1
        self.seen = self.room_for_observations() if self.learns_with_newest else None
        # [P]; with --sync-every, where learning takes newer ones, the copy that acts is another
        older = self.learns_with_newest and config.sync_every > 1
        self.acting_parameters = self.parameters.clone() if older else self.parameters

    def _make_device_state(self) -> None:
        """Generator, streams and CUDA graphs; the norm and the minibatch that these work on."""
        device = self.device
        self.generator = torch.Generator(device).manual_seed(seed_of(self.config, self.index))
        self.graphs = Graphs(self.generator, wants_graphs(self.config, device))
        self.norm = torch.zeros((), device=device)  # of the gradients before they were clipped
        self.minibatch = torch.zeros(self.minibatch_size, dtype=torch.int64, device=device)  # [M]
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.store_stream = self.stream  # of this thread on the store's device
        if device != self.store.device:
            self.store_stream = torch.cuda.Stream(self.store.device)

    def run(self) -> None:
        """Rollout after rollout until the run ends."""
        with self.on_streams():
            while self.gate.going_on():
                self.cycle()
            self.settle()

    def cycle(self) -> None:
        """Sync and rollout; then loss, gradients and apply, once or for each minibatch.

        What goes from one to the next lies in memory of its own, for CUDA graphs: the rollout in
        `actor.last`, the agents of an update in `minibatch`, what comes of its loss in `gradients`
        and `norm`.
        """
        stopwatch, self.acted_at_each_step = self.actor.stopwatch, []
        with stopwatch("forward"):
            self.sync()
            self.prepared = self.behaviour.prepare(self.store.agent_steps)
        self.torn = True
        rollout = self.actor.rollout(self.config.rollout_length, self.renew)
        self.rollouts += 1
        self.settle()  # the rollout before: its figures have long arrived
        learned = [self.learn(agents, new) for agents, new in self.minibatches()]
        beside = {**self.prepared, "num_envs": self.envs.num_envs}  # fewer at first if it grows
        self.under_way = Figures.of(rollout, learned, stopwatch.take(), beside)
        self.torn = False

    def renew(self, t: int) -> None:
        """Before step t of a rollout: note with which parameters it acts.

        Others have gone on learning, so now and then these are newer ones; but only where learning
        sees the rollout anew, with the newest.
        """
        if self.renews and t and t % RENEWED_EVERY == 0:
            with self.actor.stopwatch("forward"):
                self.acted_at = self.store.copy_to(self.parameters)
                self.network.prepare()
        self.acted_at_each_step.append(self.acted_at)

    def sync(self) -> None:
        """Copy the shared parameters, or act with older ones if the run wants such a lag.

        The target network is the shared one in any case.
        """
        if self.rollouts % self.config.sync_every == 0:
            self.acted_at = self.store.copy_to(self.parameters, self.target_parameters)
            self.acting_parameters.copy_(self.parameters)  # as a rule the same tensor
        else:
            self.parameters.copy_(self.acting_parameters)
            if self.target_parameters is not None:
                self.store.copy_target_to(self.target_parameters)
        self.network.prepare()
        if self.target is not None:
            self.target.prepare()

    def minibatches(self) -> Iterator[tuple[Tensor | None, bool]]:
        """Of each update of a rollout: its agents, int64 [M], dealt at random, or None for all as
        they acted; and whether what happened to them is new."""
        if not self.learns_with_newest:
            yield None, True
            return
        agents, device = self.envs.num_envs, self.device
        for epoch in range(self.config.epochs):
            everyone = torch.randperm(agents, generator=self.generator, device=device)
            for minibatch in everyone.chunk(self.config.minibatches):
                yield minibatch, epoch == 0

    def learn(self, agents: Tensor | None, new: bool) -> Learned:
        """One update from what happened to these agents in the last rollout; its agent steps count
        once, when new."""
        assert self.actor.last is not None
        stopwatch, computed_at = self.actor.stopwatch, self.acted_at
        with stopwatch("waiting"):
            self.store.turn.acquire()
        try:
            with stopwatch("backward"):
                if agents is not None:  # the rollout is seen anew, see `minibatches`
                    computed_at = self.store.copy_to(self.parameters)
                    self.minibatch.copy_(agents)
                # truncations are rare, and differ each time: no CUDA graph fits
                truncated = bool(self.actor.last.truncations)
                names, shown = (self.differentiate if truncated else self.graphed_differentiate)()
            with stopwatch("apply"):
                agent_steps = self.minibatch_size * self.config.rollout_length if new else 0
                applied = self.store.apply(self.gradients, agent_steps, self.index, self.norm)
        finally:
            self.store.turn.release()
        norm = on_device(applied.gradient_norm, self.device)
        # `cat` copies: a CUDA graph returns the same memory each time
        figures = torch.cat([shown, norm.reshape(1)])  # one for each name
        mean_acted_at = sum(self.acted_at_each_step) / len(self.acted_at_each_step)
        return Learned.of([*names, "gradient_norm"], figures, applied, mean_acted_at, computed_at)

    def differentiate(self) -> tuple[list[str], Tensor]:
        """Gradients of the loss of the last rollout, or of `minibatch`'s part in it, into
        `gradients`; clipped, with `norm`, where the store clips each thread's.

        Returns what the log shows: names, and as many scalars. On CUDA it is a CUDA graph. It takes
        no argument: a CUDA graph finds rollout and minibatch where they always lie.
        """
        rollout = self.actor.last
        assert rollout is not None
        if self.seen is not None:  # the rollout is seen anew, with the newest parameters
            self.network.prepare()
            self.network.read(self.seen, self.minibatch)
            rollout = rollout.of(self.minibatch)
        losses = self.method.loss(self.network, self.target, rollout)
        self.gradients.zero_()
        losses.total.backward()  # into self.gradients: each .grad is a view of it, see `flatten`
        self.norm.copy_(self.store.clip(self.gradients))
        return list(losses.shown), torch.stack(list(losses.shown.values()))

    def settle(self) -> None:
        """Account for the rollout whose figures are under way, once. Raises FloatingPointError if
        the gradient of one of its updates was not finite, which was not applied then.

        Called one rollout later, when nobody waits for its figures any more; at the thread's end;
        and where all threads stand still.
        """
        if self.under_way is not None:
            figures, self.under_way = self.under_way, None
            values, rewards, ended = figures.read()
            self.metrics.add(self.episodes.count(rewards, ended), values)
            norm = values["gradient_norm"]
            if not norm < float("inf"):
                raise FloatingPointError(
                    f"the gradient is not finite (its norm is {norm}); a new run may want less --lr"
                )

    def choose(self, outputs: Outputs) -> Tensor:
        """Actions [N] or [N, A]."""
        return self.behaviour.act(self.network, outputs, self.generator)

    def room_for_observations(self) -> Tensor:
        """[T, N, ...] of a rollout, as the environments give them."""
        spec = self.envs.spec
        dtype = torch.uint8 if spec.pixels else torch.float32
        shape = self.config.rollout_length, self.envs.num_envs, *spec.observation_shape
        return torch.empty(shape, dtype=dtype, device=self.device)

    def start_games(self, updates: int = 0) -> None:
        """New episodes for all agents; another game than at any other number of updates."""
        self.actor.reset(seed_of(self.config, self.index, updates))
        self.episodes = Episodes(self.envs.num_envs)

    def record(self) -> None:
        """Record the CUDA graphs, while no thread is at work. Afterwards the last
        rollout and its gradients are others; nobody reads those any more."""
        with self.on_streams():
            random = self.generator.get_state()
            self.network.prepare()
            if self.target is not None:
                self.target.prepare()
            self.actor.rehearse(self.config.rollout_length)
            self.differentiate()
            torch.cuda.empty_cache()  # CUDA graphs have memory of their own; this is free again
            for t in range(self.config.rollout_length):
                self.actor.graphed_compute.record(self.graphs, t)
            if self.method.looks_ahead:
                self.actor.graphed_compute.record(self.graphs, None)
            self.envs.record(self.graphs)
            self.graphed_differentiate.record(self.graphs)
            self.store.record(self.graphs, self.gradients, self.norm, self.index)
            self.generator.set_state(random)

    @contextmanager
    def on_streams(self) -> Iterator[None]:
        """This thread's streams are the current ones; does nothing on a CPU."""
        if self.stream is None:  # nor does PyTorch then, but it would start CUDA where there is one
            yield
            return
        with torch.cuda.stream(self.store_stream), torch.cuda.stream(self.stream):
            yield

    def save(self) -> dict[str, NDArray[Any] | Tensor]:
        """This thread's part of a checkpoint: random state and, where possible, its agents."""
        saved: dict[str, NDArray[Any] | Tensor] = {"generator": self.generator.get_state()}
        saved |= self.behaviour.save()
        if self.config.sync_every > 1:
            saved["parameters"] = self.acting_parameters
            saved["sync"] = np.array([self.rollouts, self.acted_at])
        environments = None if self.torn else self.envs.save_state()
        if environments is None:
            return saved
        saved |= {f"envs.{name}": array for name, array in environments.items()}
        agents = self.actor.agents
        saved["observations"] = agents.observations
        saved["returns"], saved["lengths"] = self.episodes.returns, self.episodes.lengths
        if agents.state is not None:
            saved["hidden"], saved["cell"] = agents.state
        if agents.next_actions is not None and agents.decided:
            saved["next_actions"] = agents.next_actions
        return saved

    def is_home(self, generator: Tensor) -> bool:
        """Whether the generator's saved state is of this kind of device, CPU or CUDA."""
        return generator.numel() == self.generator.get_state().numel()

    def load(self, saved: dict[str, Tensor], updates: int) -> None:
        """Go on from a checkpoint, of fewer agents with copies of them; agents whose games could
        not be saved start new ones.

        So do all, with new random numbers, where it was made on a device of another kind: their
        states are different. `updates`: of all threads, for the seeds of those.
        """
        at_home = self.is_home(saved["generator"])
        if at_home:
            self.generator.set_state(saved["generator"])
        else:
            self.generator.manual_seed(seed_of(self.config, self.index, updates))
        if "sync" in saved:
            self.acting_parameters.copy_(saved["parameters"])
            self.rollouts, self.acted_at = saved["sync"].tolist()
        self.behaviour.load(saved)
        if "observations" not in saved or not at_home:
            return self.start_games(updates)
        self.envs.reset(seed_of(self.config, self.index, updates))
        games = {k.removeprefix("envs."): v.numpy() for k, v in saved.items() if "envs." in k}
        copies = self.envs.num_envs // len(saved["returns"])  # more than one where a run has grown
        self.episodes.returns[:] = np.tile(saved["returns"].numpy(), copies)
        self.episodes.lengths[:] = np.tile(saved["lengths"].numpy(), copies)
        # In memory of PyTorch's: sums round otherwise where a file's lies elsewhere in a cache line
        names = [name for name in AGENT_TENSORS if name in saved]
        own = {name: torch.cat([saved[name]] * copies).to(self.device) for name in names}
        self.envs.load_state(games, own["observations"])
        state = (own["hidden"], own["cell"]) if "hidden" in own else None
        next_actions = own.get("next_actions")
        self.actor.go_on(Agents(own["observations"], state, next_actions, next_actions is not None))


class Learned(NamedTuple):
    """What came of one update, for the log."""

    names: list[str]
    shown: Tensor  # as many scalars, on the device
    known: dict[str, float]  # what the host knows without it
    waiting_seconds: float

    @staticmethod
    def of(
        names: list[str], shown: Tensor, applied: Applied, mean_acted_at: float, computed_at: int
    ) -> Learned:
        """mean_acted_at, computed_at: updates that the parameters had seen which chose the actions,
        on average, and with which the gradients were computed."""
        lags = {
            "policy_lag": float(applied.updates_before - mean_acted_at),
            "gradient_lag": float(applied.updates_before - computed_at),
        }
        return Learned(names, shown, {**lags, "lr": applied.lr}, applied.waiting_seconds)


class Figures(NamedTuple):
    """All that the host needs of a rollout and its updates, in one copy on its way."""

    sent: ToHost  # float64: the scalars `names`, then rewards and ends [T N] each
    names: list[str]
    known: dict[str, float]  # what the host knows without a device
    shape: tuple[int, ...]  # T, N

    @staticmethod
    def of(
        rollout: Rollout,
        learned: list[Learned],
        seconds: dict[str, float],
        beside: dict[str, float],
    ) -> Figures:
        """Send them off: of several updates the means. beside: what the log shows as well."""
        shown = torch.stack([each.shown for each in learned]).mean(0)
        sent = ToHost(
            torch.cat([x.double().flatten() for x in (shown, rollout.rewards, rollout.ended)])
        )
        waited = sum(each.waiting_seconds for each in learned)
        seconds["apply"] -= waited
        seconds["waiting"] += waited
        known = {
            name: sum(each.known[name] for each in learned) / len(learned)
            for name in learned[0].known
        }
        known |= beside
        known |= {f"seconds_{stage}": value for stage, value in seconds.items()}
        return Figures(sent, learned[0].names, known, rollout.ended.shape)

    def read(self) -> tuple[dict[str, float], Floats, Floats]:
        """Figures by name; rewards and ends [T, N]. The wait of a rollout's updates."""
        scalars, rollout = np.split(self.sent.read(), [len(self.names)])
        rewards, ended = rollout.reshape(2, *self.shape)
        shown = dict(zip(self.names, scalars.tolist(), strict=True))
        return {**shown, **self.known}, rewards, ended


def seed_of(config: Config, thread: int, updates: int = 0) -> int:
    """A seed for each thread, run and resumption.

    Agent i is seeded with seed + i. The seed is below 2**30, so that the sums stay within 31 bits:
    of 16 threads with 64 agents two have agents with equal seeds once in some 70,000 runs.
    """
    sequence = np.random.SeedSequence([config.seed, thread, updates])
    return int(sequence.generate_state(1)[0] >> 2)
