"""A thread's own updates beside updates by hand: whose they are, of which parameters, clipped."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from a3c.metrics import Metrics
from a3c.network import flatten
from a3c.node import Node
from a3c.presets import preset

CPU = torch.device("cpu")
LENGTH, AGENTS = 8, 4
SEVERAL = {"minibatches": 2, "epochs": 2, "correction": "vtrace"}  # updates of a rollout


@pytest.mark.parametrize("bound", [1e9, 1e-3])
@pytest.mark.parametrize("several", [{}, SEVERAL], ids=["one", "four"])
def test_an_update_is_of_its_agents_with_the_newest_parameters(
    several: dict[str, Any], bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"num_envs": AGENTS, "rollout_length": LENGTH, "max_grad_norm": bound, "grow": False}
    node = Node(preset("control", env="CartPole-v1", **sizes, **several), [CPU], Metrics(1))
    node.begin()
    (learner,) = node.learners
    seen: list[Tensor] = []
    dealt: list[Tensor] = []
    applied: list[tuple[Tensor, Tensor]] = []  # parameters before, gradients
    step, minibatches, apply = learner.actor.step, learner.minibatches, node.store.apply

    def watched_step(t: int) -> Any:
        seen.append(learner.actor.agents.observations.clone())
        return step(t)

    def watched_minibatches() -> Iterator[tuple[Tensor | None, bool]]:
        for agents, new in minibatches():
            dealt.append(torch.arange(AGENTS) if agents is None else agents.clone())
            yield agents, new

    def watched_apply(gradients: Tensor, *words: Any) -> Any:
        applied.append((node.store.parameters.clone(), gradients.clone()))
        return apply(gradients, *words)

    monkeypatch.setattr(learner.actor, "step", watched_step)
    monkeypatch.setattr(learner, "minibatches", watched_minibatches)
    monkeypatch.setattr(node.store, "apply", watched_apply)
    for _ in range(2):
        for each in (seen, dealt, applied):
            each.clear()
        learner.cycle()
        assert learner.actor.last is not None
        assert len(applied) == (4 if several else 1)
        for agents, (newest, gradients) in zip(dealt, applied, strict=True):
            network = node.network(CPU)
            parameters, expected = flatten(network)
            parameters.copy_(newest)
            network.make_room(LENGTH, len(agents))
            for t, observations in enumerate(seen):
                network(observations[agents], None, t)
            learner.method.loss(network, None, learner.actor.last.of(agents)).total.backward()
            expected *= min(1.0, bound / float(expected.norm()))
            torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-7)


def one_thread(**several: Any) -> Node:
    sizes = {"num_envs": AGENTS, "rollout_length": LENGTH, "grow": False}
    node = Node(preset("control", env="CartPole-v1", **sizes, **several), [CPU], Metrics(1))
    node.begin()
    return node


@pytest.mark.parametrize(
    ("several", "policy_lag", "gradient_lag"), [({}, 3, 3), (SEVERAL, 3 + 1.5, 0)]
)
def test_lags_count_the_updates_of_others(
    several: dict[str, Any],
    policy_lag: float,
    gradient_lag: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three come while the thread acts. Its own, four with the second setting, come between too;
    then it learns with the newest parameters."""
    node = one_thread(**several)
    (learner,) = node.learners
    rollout = learner.actor.rollout

    def others_learn(*words: Any) -> Any:
        node.store.advance(0, 3)
        return rollout(*words)

    node.store.advance(0, 5)  # before it acts
    monkeypatch.setattr(learner.actor, "rollout", others_learn)
    learner.cycle()
    assert learner.under_way is not None
    assert learner.under_way.known["policy_lag"] == policy_lag
    assert learner.under_way.known["gradient_lag"] == gradient_lag


@pytest.mark.parametrize("ruined", range(4))
def test_a_gradient_that_is_not_finite_is_told_whichever_of_several_it_is(
    ruined: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = one_thread(**SEVERAL)
    (learner,) = node.learners
    loss, losses = learner.method.loss, list[int]()

    def ruin(*words: Any) -> Any:
        made = loss(*words)
        losses.append(1)
        return made._replace(total=made.total * (math.nan if len(losses) == ruined + 1 else 1))

    monkeypatch.setattr(learner.method, "loss", ruin)
    learner.cycle()
    with pytest.raises(FloatingPointError, match="the gradient is not finite"):
        learner.settle()
    assert node.store.parameters.isfinite().all()


def test_the_time_of_a_cycle_is_its_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on in environments, in learning, at the lock and in the update alone."""
    node, now = one_thread(), 0.0
    (learner,) = node.learners
    monkeypatch.setattr("time.perf_counter", lambda: now)

    def lasts(owner: Any, name: str, seconds: float) -> None:
        original = getattr(owner, name)

        def later(*words: Any, **keywords: Any) -> Any:
            nonlocal now
            now += seconds
            return original(*words, **keywords)

        monkeypatch.setattr(owner, name, later)

    lasts(learner.actor.envs, "step", 1.0)
    lasts(learner, "graphed_differentiate", 100.0)
    lasts(node.store, "_wait_for_last_use", 1_000.0)  # for the lock; once more as it is copied
    lasts(node.store, "_update", 10_000.0)
    lasts(node.store.turn, "acquire", 100_000.0)
    learner.actor.stopwatch.take()
    learner.cycle()
    assert learner.under_way is not None
    values, _, _ = learner.under_way.read()
    found = {name: value for name, value in values.items() if name.startswith("seconds_")}
    assert found == {
        "seconds_forward": 1_000.0,
        "seconds_environment": float(LENGTH),
        "seconds_backward": 100.0,
        "seconds_waiting": 101_000.0,
        "seconds_apply": 10_000.0,
    }
