"""What a GPU replays as graphs finds everything where it was: watched here on the CPU."""

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from a3c.actor_learner import ActorLearner
from a3c.config import Config
from a3c.errors import InputError
from a3c.graphs import Graphed, Graphs, wants_graphs
from a3c.metrics import Metrics
from a3c.node import Node
from a3c.presets import preset
from a3c.train import train

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
Operation = tuple[Any, ...]


class Operations(TorchDispatchMode):
    """Every operation: its name, its numbers, and where the tensors lie that it is given.

    What an earlier operation made is written as that one's number, not as an address.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Operation] = []
        self.made: dict[int, int] = {}  # address of a storage -> number
        self.given: set[int] = set()
        self.alive: list[Tensor] = []  # so that nothing comes to lie where something was

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        leaves = tree_leaves((args, kwargs or {}))
        self.seen.append((str(function), *(self.named(leaf) for leaf in leaves)))
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.alive.append(tensor)
                address = tensor.untyped_storage().data_ptr()
                if address not in self.given:
                    self.made.setdefault(address, len(self.made))
        return result

    def named(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return type(leaf) if isinstance(leaf, torch.Generator) else str(leaf)
        address = leaf.untyped_storage().data_ptr()
        if address in self.made:
            return "made", self.made[address], leaf.storage_offset(), tuple(leaf.shape)
        self.given.add(address)
        self.alive.append(leaf)
        return "given", leaf.data_ptr(), tuple(leaf.shape)


class Watched(Graphed[Any]):
    """Notes the operations of each call."""

    def __init__(self, graphed: Graphed[Any]):
        super().__init__(graphed.function)
        self.calls: dict[tuple[Any, ...], list[list[Operation]]] = defaultdict(list)

    def __call__(self, *arguments: Any) -> Any:
        with Operations() as operations:
            returned = self.function(*arguments)
        self.calls[arguments].append(operations.seen)
        return returned

    @property
    def changes(self) -> list[str]:
        """The first operation of each call that is another than in the call before."""
        found = []
        for arguments, calls in self.calls.items():
            for before, after in pairwise(calls):
                if before != after:
                    at = next(pair for pair in zip_longest(before, after) if pair[0] != pair[1])
                    found.append(f"{arguments}: {at[0]} -> {at[1]}")
        return found


def learner_of(config: Config) -> ActorLearner:
    """The first thread's, with all of its agents, ready for its first rollout."""
    node = Node(replace(config, grow=False), [CPU], Metrics(1))
    node.begin()
    return node.learners[0]


def watched(config: Config, rollouts: int = 3) -> tuple[Watched, Watched]:
    """A thread's acting and learning, after its first rollout."""
    learner = learner_of(config)
    learner.cycle()
    act, differentiate = (
        Watched(learner.actor.graphed_compute),
        Watched(learner.graphed_differentiate),
    )
    learner.actor.graphed_compute, learner.graphed_differentiate = act, differentiate
    for _ in range(rollouts):
        learner.cycle()
    return act, differentiate


CASES = {
    "minibatches": {"env": "breakout", "num_envs": 4, "minibatches": 2, "rollout_length": 3},
    "frames travel": {"env": "breakout", "num_envs": 2, "rollout_length": 2, "emulator": "ale"},
    "epochs": {"env": "CartPole-v1", "num_envs": 4, "minibatches": 2, "epochs": 2,
               "rollout_length": 3, "correction": "vtrace"},
    "recurrent": {"env": "CartPole-v1", "num_envs": 2, "recurrent": True, "rollout_length": 3},
    "continuous": {"env": "Pendulum-v1", "num_envs": 2, "rollout_length": 3, "std": "dependent"},
    "older parameters": {"env": "CartPole-v1", "num_envs": 2, "sync_every": 2, "rollout_length": 3,
                         "correction": "vtrace"},
    "sync": {"env": "CartPole-v1", "num_envs": 2, "mode": "sync", "rollout_length": 3},
    "one-step Q": {"env": "CartPole-v1", "num_envs": 2, "method": "one-step-q",
                   "rollout_length": 3, "epsilon_emulator_frames": 10},
    "Sarsa": {"env": "breakout", "num_envs": 2, "method": "one-step-sarsa", "rollout_length": 3},
    "Sarsa in minibatches": {"env": "CartPole-v1", "num_envs": 4, "method": "one-step-sarsa",
                        "minibatches": 2, "rollout_length": 3},
    "n-step Q": {"env": "CartPole-v1", "num_envs": 2, "method": "n-step-q", "rollout_length": 3,
                 "target_emulator_frames": 5},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_acting_and_learning_do_the_same_in_the_same_places(case: str) -> None:
    config = preset("fast", num_threads=1, total_agent_steps=10**6, **CASES[case])
    act, differentiate = watched(config)
    ahead = {(None,)} if config.method == "one-step-sarsa" else set()
    assert set(act.calls) == {(t,) for t in range(config.rollout_length)} | ahead
    assert all(len(calls) == 3 for calls in act.calls.values())
    updates = config.minibatches * config.epochs
    assert len(differentiate.calls[()]) == 3 * updates
    assert len(differentiate.calls[()][0]) > 50
    assert act.changes == differentiate.changes == []


@pytest.mark.parametrize("optimizer", ["shared-rmsprop", "rmsprop", "momentum"])
def test_each_optimiser_takes_its_steps_in_the_same_places(optimizer: str) -> None:
    learner = learner_of(
        preset("fast", env="CartPole-v1", num_threads=2, num_envs=2, optimizer=optimizer)
    )
    learner.cycle()
    step = learner.store.graphed_take_step = Watched(learner.store.graphed_take_step)
    for _ in range(3):
        learner.cycle()
    assert len(step.calls[(0,)]) == 3
    assert len(step.calls[(0,)][0]) > 3
    assert step.changes == []


def test_what_moves_or_changes_is_noticed() -> None:
    learner = learner_of(
        preset("fast", env="CartPole-v1", num_threads=1, num_envs=2, minibatches=2)
    )
    learner.cycle()
    watch = learner.graphed_differentiate = Watched(learner.graphed_differentiate)
    learner.cycle()
    assert watch.changes == []
    learner.minibatch = learner.minibatch.clone()
    learner.cycle()
    assert len(watch.changes) == 1
    assert "given" in watch.changes[0]
    act = learner.actor.graphed_compute = Watched(learner.actor.graphed_compute)
    learner.cycle()
    agents = learner.actor.agents
    agents.observations = agents.observations.clone()
    learner.cycle()
    assert act.changes


@pytest.mark.parametrize("case", ["recurrent", "Sarsa in minibatches"])
def test_a_rehearsal_changes_nothing_but_the_generator(case: str) -> None:
    config = preset("fast", num_threads=1, **CASES[case])
    rehearsed, other = learner_of(config), learner_of(config)
    random = rehearsed.generator.get_state()
    rehearsed.network.prepare()
    if rehearsed.target is not None:
        rehearsed.target.prepare()
    rehearsed.actor.rehearse(config.rollout_length)
    rehearsed.differentiate()
    assert not torch.equal(rehearsed.generator.get_state(), random)
    rehearsed.generator.set_state(random)
    for _ in range(2):
        rehearsed.cycle()
        other.cycle()
    assert torch.equal(rehearsed.store.parameters, other.store.parameters)


def test_graphs_are_for_cuda_and_rollouts_that_are_not_too_long(tmp_path: Path) -> None:
    assert wants_graphs(preset("fast"), CUDA)
    assert wants_graphs(preset("fast", cuda_graphs="on"), CUDA)
    assert not wants_graphs(preset("fast", cuda_graphs="off"), CUDA)
    assert not wants_graphs(preset("fast", rollout_length=129), CUDA)
    assert not wants_graphs(preset("fast"), CPU)
    with pytest.raises(InputError, match="--rollout-length 129; expected at most 128"):
        wants_graphs(preset("fast", cuda_graphs="on", rollout_length=129), CUDA)
    runs = tmp_path / "runs"
    with pytest.raises(InputError, match="'on', but the device is cpu; expected auto or off"):
        train(preset("fast", env="CartPole-v1", device="cpu", cuda_graphs="on", runs_dir=str(runs)))
    assert not runs.exists()


@pytest.mark.parametrize("ends", [True, False])
def test_a_recording_that_fails_says_why(ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not that it could not be ended; after it nothing is recorded."""
    graph = Mock()
    graph.capture_end.side_effect = None if ends else RuntimeError("the capture is invalid")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)

    def fails() -> None:
        raise RuntimeError("CUDA out of memory")

    graphed = Graphed(fails)
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        graphed.record(Graphs(torch.Generator(), wanted=False))
    graph.capture_end.assert_called_once()
    assert not graphed.recorded
