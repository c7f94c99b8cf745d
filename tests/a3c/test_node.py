"""A node's threads: who waits for whom, and what they act with."""

from typing import Any

import pytest
import torch

from a3c.config import preset
from a3c.metrics import Metrics
from a3c.node import Node

CPU = torch.device("cpu")


def node_with(**changes: Any) -> Node:
    config = preset("fast", env="CartPole-v1", num_envs=2, rollout_length=12, **changes)
    node = Node(config, [CPU], Metrics(1))
    node.begin()
    return node


class Thread:
    """One that has ended, or works for ever."""

    def __init__(self, works: bool):
        self.works = works
        self.waited: list[float] = []

    def is_alive(self) -> bool:
        return self.works

    def join(self, timeout: float) -> None:
        self.waited.append(timeout)


def test_whoever_looks_waits_while_any_thread_works() -> None:
    node = node_with(num_threads=1)
    threads: list[Any] = [Thread(False), Thread(True), Thread(True)]
    node.threads = threads
    assert node.alive(0.2)
    assert [thread.waited for thread in threads] == [[], [0.2], []]
    threads[1].works = threads[2].works = False
    assert not node.alive(0.2)
    assert threads[1].waited == [0.2]


def test_with_several_threads_a_rollout_takes_newer_parameters_to_act_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = node_with(num_threads=2, correction="vtrace")
    store, learner = node.store, node.learners[0]
    acted: list[int] = []
    step = learner.actor.step

    def others_learn(t: int) -> Any:
        acted.append(round(float((learner.parameters - initial).max())))
        store.parameters += 1
        store.updates += 1
        return step(t)

    initial = store.parameters.clone()
    monkeypatch.setattr(learner.actor, "step", others_learn)
    learner.update()
    assert acted == [0] * 5 + [5] * 5 + [10] * 2
    assert learner.acted_at == 10


@pytest.mark.parametrize(
    "changes",
    [
        {"num_threads": 1, "correction": "vtrace"},  # nobody else learns
        {"num_threads": 2, "correction": "vtrace", "mode": "sync"},  # nor here
        {"num_threads": 2, "correction": "none", "minibatches": 1},  # gradients of what acted
        {"num_threads": 2, "correction": "vtrace", "sync_every": 2},  # a lag is asked for
    ],
)
def test_elsewhere_a_rollout_acts_with_one_policy(changes: dict[str, Any]) -> None:
    assert not node_with(**changes).learners[0].renews
