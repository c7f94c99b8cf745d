"""What A3C teaches values and policy, through a whole rollout, against one sample at a time."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from a3c.acting import Actor
from a3c.envs.on_device import OnDevice
from a3c.methods import A3C
from a3c.network import Network, flatten
from a3c.presets import preset
from tests.scripted import VECTOR, Scripted, step

CPU = torch.device("cpu")


class Case:
    """Ends of all kinds, acted with parameters that are not those that learn."""

    def __init__(self, **changes: Any):
        random = np.random.default_rng(3)
        draw = lambda: random.normal(size=(2, 2)).astype(np.float32)  # noqa: E731
        self.steps = [
            step([1, -2], observations=draw()),
            step([3, 1], terminated=[True, False], observations=draw(), life_lost=[False, True]),
            step([-1, 2], truncated=[True, False], observations=draw(), final=draw()),
            step([2, 2], observations=draw()),
        ]
        self.config = preset(
            "control", rollout_length=4, gamma=0.5, gae_lambda=0.8, normalize=False,
            ent_coef=0.1, vf_coef=0.7, **changes,
        )  # fmt: skip
        self.method = A3C(self.config)
        self.network, self.acted = (Network(self.config, VECTOR, self.method) for _ in range(2))
        self.redraw(self.acted, 1)
        self.redraw(self.network, 1)
        self.network.make_room(4, 2)
        generator = torch.Generator().manual_seed(0)
        actor = Actor(
            OnDevice(Scripted(self.steps), CPU),
            self.network,
            lambda outputs: self.method.act(self.network, outputs, generator),
        )
        actor.reset(0)
        self.rollout = actor.rollout(4)
        self.redraw(self.network, 2)

    def redraw(self, network: Network, seed: int) -> None:
        parameters, _ = flatten(network)
        parameters.copy_(torch.randn(len(parameters), generator=torch.manual_seed(seed)) / 2)
        network.prepare()

    def seen(self, t: int, n: int) -> Any:
        """What agent n saw before step t."""
        return np.zeros(2, np.float32) if t == 0 else self.steps[t - 1].observations[n]

    def unrolled(self, network: Network, n: int) -> list[tuple[torch.Tensor, float, Any]]:
        """Of agent n at each step: logits, value, and the LSTM's state after it, if any."""
        found, state = [], network.initial_state(1, CPU)
        for t, at in enumerate(self.steps):
            (logits, value), state = network(torch.as_tensor(self.seen(t, n))[None], state)
            found.append((logits[0], float(value), state))
            if at.terminated[n] or at.truncated[n]:
                state = network.initial_state(1, CPU)
        return found

    def log_prob(self, network: Network, t: int, n: int) -> float:
        logits, _, _ = self.unrolled(network, n)[t]
        return float(logits.log_softmax(-1)[self.rollout.actions[t, n]])

    def value(self, t: int, n: int) -> float:
        """Of what agent n sees before step t."""
        return self.unrolled(self.network, n)[t][1]

    def value_after(self, t: int, n: int, observations: Any) -> float:
        """Of what agent n sees after step t, with what it remembers."""
        _, _, state = self.unrolled(self.network, n)[t]
        (_, value), _ = self.network(torch.as_tensor(observations[n])[None], state)
        return float(value)


def naive(case: Case) -> tuple[list[list[float]], list[list[float]]]:
    """Targets of the values, and advantages: of each step and agent, by V-trace's recursion."""
    config, gamma = case.config, case.config.gamma
    targets, advantages = ([[0.0, 0.0] for _ in case.steps] for _ in range(2))
    for n in range(2):
        later = 0.0  # v - V of the next step
        value_then = case.value_after(3, n, case.steps[-1].observations)
        for t in reversed(range(4)):
            at, value = case.steps[t], case.value(t, n)
            if at.truncated[n]:
                assert at.final_observations is not None
                value_then, later = case.value_after(t, n, at.final_observations), 0.0
            if at.terminated[n] or (config.life_loss_terminal and at.life_lost[n]):
                value_then, later = 0.0, 0.0
            ratio = math.exp(case.log_prob(case.network, t, n) - case.log_prob(case.acted, t, n))
            corrected = config.correction == "vtrace"
            rho, c = (
                min(bound, ratio) if corrected else 1.0 for bound in (config.rho_bar, config.c_bar)
            )
            delta = float(at.rewards[n]) + gamma * value_then - value
            advantages[t][n] = rho * (delta + gamma * config.gae_lambda * later)
            later = rho * delta + gamma * config.gae_lambda * c * later
            targets[t][n] = value + later
            value_then = value
    return targets, advantages


@pytest.mark.parametrize(
    "scaling",
    [{"advantage_floor": 0.0}, {"advantage_floor": 50.0}, {"normalize_advantages": True}],
    ids=str,
)
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("life_loss_terminal", [True, False])
@pytest.mark.parametrize(
    "correction",
    [
        {"correction": "none"},
        {"correction": "vtrace"},
        {"correction": "vtrace", "rho_bar": 1.5, "c_bar": 0.6},
    ],
    ids=str,
)
def test_targets_and_loss_are_those_of_a_naive_loop(
    correction: dict[str, Any],
    life_loss_terminal: bool,
    recurrent: bool,
    scaling: dict[str, Any],
) -> None:
    case = Case(
        life_loss_terminal=life_loss_terminal,
        recurrent=recurrent,
        **scaling,
        **correction,
    )
    targets, advantages = map(np.array, naive(case))
    centered, deviation, floor = (
        advantages - advantages.mean(),
        advantages.std(),
        case.config.advantage_floor,
    )
    if floor > deviation:
        wanted = min(floor * math.sqrt(floor / deviation), max(floor, 1))
        advantages = advantages.mean() + centered * wanted / deviation
    if case.config.normalize_advantages:
        advantages = (advantages - advantages.mean()) / advantages.std()
    assert 0.1 < deviation < 50
    losses = case.method.loss(case.network, None, case.rollout)
    each = [(t, n) for t in range(4) for n in range(2)]
    log_probs = np.array([case.log_prob(case.network, *at) for at in each]).reshape(4, 2)
    values = np.array([case.value(*at) for at in each]).reshape(4, 2)
    policy, value = -(log_probs * advantages).mean(), ((targets - values) ** 2).mean()
    assert losses.shown["policy_loss"].item() == pytest.approx(policy, rel=1e-4)
    assert losses.shown["value_loss"].item() == pytest.approx(value, rel=1e-4)
    entropy = losses.shown["entropy"].item()
    assert losses.total.item() == pytest.approx(policy + 0.7 * value - 0.1 * entropy, rel=1e-4)


def test_the_loss_has_the_entropy_bonus_of_the_rollouts_agent_steps() -> None:
    case = Case(ent_final_fraction=0.5)  # linear, 0.1 at the start
    totals = []
    for agent_steps in (0, 250_000, 500_000):
        bonus = case.method.prepare(agent_steps)["ent_coef"]
        losses = case.method.loss(case.network, None, case.rollout)
        totals.append(losses.total.item() + bonus * losses.shown["entropy"].item())
        assert bonus == pytest.approx(0.1 - 0.05 * agent_steps / 500_000)
    assert totals == pytest.approx([totals[0]] * 3, rel=1e-5)
    assert losses.shown["entropy"].item() > 0.1  # else the line above could not fail


def test_the_bounds_count_in_this_case() -> None:
    """Else the test above could not tell them apart."""
    case = Case()
    ratios = [
        math.exp(case.log_prob(case.network, t, n) - case.log_prob(case.acted, t, n))
        for t in range(4)
        for n in range(2)
    ]
    assert min(ratios) < 0.6
    assert max(ratios) > 1.5
