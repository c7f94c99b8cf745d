"""How much memory a run takes, by a rehearsal with a few agents; and whether it is there.

Nothing here repeats what a network or a thread keeps: a real thread makes a rollout and its updates
on environments that stand still, while every tensor that lives is counted. The bytes grow linearly
in the agents, in those of one update, and in the agent steps of a rollout.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from a3c.acting import nothing
from a3c.actor_learner import ActorLearner
from a3c.config import AUTO, MANY_AGENTS, ROLLOUT, Config, follows
from a3c.convolutions import Recall
from a3c.devices import pick_precision
from a3c.envs import agent_bytes, spec_of
from a3c.envs.protocol import Array, Spec, Step
from a3c.errors import InputError
from a3c.gate import Gate
from a3c.graphs import Graphs, wants_graphs
from a3c.machine import available_memory
from a3c.methods import make_method
from a3c.metrics import Metrics
from a3c.network import Network, flatten, layout
from a3c.shared import SharedParameters

LONGEST_REHEARSAL = 32  # agent steps of a rollout; more are extrapolated
CHUNK = Recall.CHUNK  # samples, on a CPU
EVERYTHING = 2**62  # samples of a chunk
GIB = 2**30
# cuBLAS keeps so much for each stream on a Hopper (CUBLAS_WORKSPACE_CONFIG in NVIDIA's manual), and
# PyTorch as much again for cuBLASLt; less on other cards
STREAM_BYTES = 2 * 32 * 2**20


class Bytes(NamedTuple):
    """What a thread takes: for each of its agents, and for itself."""

    agent: float
    thread: float

    def of(self, threads: int, num_envs: int) -> int:
        """Of so many threads with so many agents each."""
        return round(threads * (self.thread + num_envs * self.agent))


class Place(NamedTuple):
    """A memory: what a run takes of it, and what there is."""

    words: str  # `memory`, `memory of cuda:1`
    each: Bytes
    threads: int  # that lie there
    there: int  # bytes
    besides: int  # bytes that no thread takes: the games of evaluations

    def need(self, config: Config) -> int:
        """Bytes."""
        return self.besides + self.each.of(self.threads, config.num_envs)

    def agents(self, config: Config) -> int:
        """How many agents of each thread fit, in whole minibatches of a rollout's updates."""
        left = (self.there - self.besides) / self.threads
        fit = int((left - self.each.thread) / self.each.agent)
        minibatch = config.num_envs // config.minibatches
        return fit - fit % (minibatch if follows(config, "minibatches") else config.minibatches)


def check_memory(config: Config, devices: Sequence[torch.device]) -> None:
    """Raise InputError if the run takes more memory than there is, of the host's or of a GPU's.

    The threads are dealt to the devices. Of two memories that are too small, the message is about
    the one that holds fewer agents. Where the system does not say what there is, anything goes.
    """
    found = [place for place in places(config, devices) if place.need(config) > place.there]
    if not found:
        return
    place = min(found, key=lambda place: place.agents(config))
    fit = place.agents(config)
    if follows(config, "rollout_length") and fit * config.num_threads <= MANY_AGENTS:
        fit = fewer(config, devices, place)
    raise InputError(
        f"{config.num_threads:,} x {config.num_envs:,} agents of {config.env} need about "
        f"{gib(place.need(config))} of {place.words}, and {gib(place.there)} are available; "
        f"{fitting(fit, place.besides)}"
    )


def fewer(config: Config, devices: Sequence[torch.device], place: Place) -> int:
    """How many agents of each thread fit if they are so few that their rollouts are longer."""
    derived = follows(config, "minibatches")
    fixed = 1 if derived else config.minibatches
    most = MANY_AGENTS // config.num_threads // fixed * fixed
    if most == 0:
        return 0
    minibatches = AUTO if derived else fixed
    few = replace(config, rollout_length=ROLLOUT, num_envs=most, minibatches=minibatches)
    (same,) = (each for each in places(few, devices) if each.words == place.words)
    return min(same.agents(few), most)


def places(config: Config, devices: Sequence[torch.device]) -> Iterator[Place]:
    """The memories that a run lies in, as far as the system says what there is."""
    spec = spec_of(config)
    there = available_memory()
    if there is not None:
        each = host_bytes(config, spec, devices[0])
        yield Place("memory", each, config.num_threads, there, evaluation_bytes(config, spec))
    if devices[0].type == "cuda":
        gc.collect()  # a run before this one
        torch.cuda.empty_cache()  # what PyTorch keeps counts as taken
        each = gpu_bytes(config, spec, devices[0])
        for i, device in enumerate(devices[: config.num_threads]):
            threads = len(range(i, config.num_threads, len(devices)))
            free, _ = torch.cuda.mem_get_info(device)
            yield Place(f"memory of {device}", each, threads, free, 0)


def fitting(agents: int, besides: int) -> str:
    """What would fit, in words."""
    if agents > 0:
        return f"expected at most {agents:,} agents of each thread (--num-envs)"
    games = "--evaluate-episodes, " if besides else ""
    return f"expected fewer {games}--num-threads or a smaller --rollout-length"


def gib(size: float) -> str:
    """Bytes as `410 GiB`, or `1.5 GiB`."""
    return f"{size / GIB:,.0f} GiB" if size >= 10 * GIB else f"{size / GIB:.1f} GiB"


def host_bytes(config: Config, spec: Spec, device: torch.device) -> Bytes:
    """What a thread takes of the host's memory.

    A checkpoint holds the games twice more, while it is copied and while it is written.
    """
    environment = agent_bytes(config, spec)
    agent = environment.alive + 2 * environment.saved
    if device.type != "cpu":
        return Bytes(agent, 0)
    learning = learning_bytes(config, spec)
    return Bytes(agent + learning.agent, learning.thread)


def evaluation_bytes(config: Config, spec: Spec) -> int:
    """What the games take that are played as the run goes; without the network that plays them. Of
    a cluster they count on each machine, though one plays them."""
    if config.evaluate_every == "never":
        return 0
    return round(config.evaluate_episodes * game_bytes(config, spec))


def game_bytes(config: Config, spec: Spec) -> int:
    """What a game takes of the host's memory that is played for its score; without the network."""
    each = agent_bytes(config, spec)
    return each.alive + each.alone


def check_memory_of_games(config: Config, spec: Spec, games: int) -> None:
    """Raise InputError if so many games take more memory than there is."""
    each, there = game_bytes(config, spec), available_memory()
    if there is not None and games * each > there:
        raise InputError(
            f"--episodes is {games:,}, which need about {gib(games * each)} of memory, and "
            f"{gib(there)} are available; expected at most {int(there / each):,}"
        )


def gpu_bytes(config: Config, spec: Spec, device: torch.device) -> Bytes:
    """What a thread takes of a GPU's memory: an estimate, from a rehearsal on the CPU.

    Of what PyTorch's allocator keeps besides nothing is known: each thread's stream has its own.
    CUDA graphs keep the memory of what they compute, and a rollout in which a game was truncated is
    learned from without one, in other memory.
    """
    dtype = str(pick_precision(config, device)).removeprefix("torch.")
    changes: dict[str, Any] = {"precision": dtype, "cuda_graphs": "off"}  # a CPU captures nothing
    with all_at_once():
        learning = learning_bytes(
            replace(config, **changes), spec, twice=wants_graphs(config, device)
        )
    return Bytes(learning.agent, learning.thread + STREAM_BYTES)


@contextmanager
def all_at_once() -> Iterator[None]:
    """A network learns from all samples in one piece, as on a GPU, and not in a CPU's chunks.

    For the rehearsal, while no other thread trains.
    """
    chunk, Recall.CHUNK = Recall.CHUNK, EVERYTHING
    try:
        yield
    finally:
        Recall.CHUNK = chunk


def learning_bytes(config: Config, spec: Spec, twice: bool = False) -> Bytes:
    """What a thread's tensors take of the memory at most, without the environments'. twice: what
    they take for a while counts twice.

    Where minibatches keep their size however many agents there are, what one update takes is the
    thread's.
    """
    seen, learned, thread = rehearsed_at_length(config, spec, twice)
    if config.minibatches > 1 and follows(config, "minibatches"):
        return Bytes(seen, thread + learned * (config.num_envs // config.minibatches))
    return Bytes(seen + learned / config.minibatches, thread)


class Rehearsed(NamedTuple):
    """Bytes of a thread."""

    seen: float  # for each agent
    learned: float  # for each agent of one update
    thread: float


def rehearsed_at_length(config: Config, spec: Spec, twice: bool) -> Rehearsed:
    """Of long rollouts as two shorter ones say."""
    length = config.rollout_length
    if length <= LONGEST_REHEARSAL:
        return rehearsed(config, spec, twice)
    half, whole = (
        rehearsed(replace(config, rollout_length=steps), spec, twice)
        for steps in (LONGEST_REHEARSAL // 2, LONGEST_REHEARSAL)
    )
    beyond = (length - LONGEST_REHEARSAL) / (LONGEST_REHEARSAL // 2)
    return Rehearsed(*(b + (b - a) * beyond for a, b in zip(half, whole, strict=True)))


def rehearsed(config: Config, spec: Spec, twice: bool) -> Rehearsed:
    """Of a short rollout, as a few agents say; without minibatches all of it is `seen`."""
    few = -(-CHUNK // config.rollout_length)  # from here on chunks are full

    def most(agents: int, minibatches: int) -> int:
        epochs = min(config.epochs, 2)  # of which the second takes what all others do
        small = replace(
            config, num_threads=1, num_envs=agents, minibatches=minibatches, epochs=epochs
        )
        return most_bytes(small, spec, twice)

    # A thread's bytes are thread + agents * seen + agents of an update * learned
    if config.minibatches == 1:
        one, two = most(few, 1), most(2 * few, 1)
        agent = (two - one) / few
        return Rehearsed(agent, 0, one - few * agent)
    one = most(2 * few, 2)
    two = most(4 * few, 4)  # twice the agents, in updates of as many
    wide = most(4 * few, 2)  # in updates of twice as many
    seen, learned = (two - one) / (2 * few), (wide - two) / few
    return Rehearsed(seen, learned, one - few * (2 * seen + learned))


def most_bytes(config: Config, spec: Spec, twice: bool = False) -> int:
    """The most bytes that are alive at once in a thread's first rollout and its updates; twice: of
    those that are not alive after it as many again."""
    device = torch.device("cpu")
    method, dtype = make_method(config), pick_precision(config, device)
    envs = StandingStill(spec, config.num_envs, device)
    with LiveBytes([envs.observations]) as live:
        network = Network(config, spec, method, dtype)
        target = Network(config, spec, method, dtype) if method.target_every_agent_steps else None
        store = SharedParameters(
            flatten(network)[0],
            layout(network),
            config,
            target_every_agent_steps=method.target_every_agent_steps,
        )
        learner = ActorLearner(
            0,
            config,
            method,
            envs,
            (network, target),
            store,
            Gate(1),
            Metrics(1),
            device,
        )
        learner.start_games()
        learner.cycle()
        return live.most + (live.most - live.now if twice else 0)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that are made within it and still alive."""

    def __init__(self, apart: list[Tensor]):
        super().__init__()
        self.now = self.most = 0
        self.apart = apart  # made before, not counted; kept, so that no other takes their place
        self.counted = {tensor.untyped_storage()._cdata for tensor in apart}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; and to import PyTorch's compiler takes two seconds."""
        return False

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.count(tensor.untyped_storage())
        return made

    def count(self, storage: torch.UntypedStorage) -> None:
        """A view's storage has been counted already."""
        key = storage._cdata
        if key not in self.counted:
            self.counted.add(key)
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self.freed, key, storage.nbytes())

    def freed(self, key: int, size: int) -> None:
        """That storage is gone; another may come to lie where it was."""
        self.counted.discard(key)
        self.now -= size


class StandingStill:
    """Envs of N agents to whom nothing happens."""

    def __init__(self, spec: Spec, num_envs: int, device: torch.device):
        self.spec, self.num_envs, self.device = spec, num_envs, device
        dtype = torch.uint8 if spec.pixels else torch.float32
        shape = num_envs, *spec.observation_shape
        self.observations = torch.zeros(shape, dtype=dtype, device=device)

    def reset(self, seed: int) -> Tensor:
        return self.observations

    def record(self, graphs: Graphs) -> None:
        pass

    def step(self, actions: Tensor) -> Step:
        return nothing(self.observations, self.num_envs)

    def save_state(self) -> dict[str, Array] | None:
        return None

    def load_state(self, state: dict[str, Array], observations: Tensor) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass
