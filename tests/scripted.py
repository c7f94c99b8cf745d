"""Environments whose every step is written down in advance, and updates by given gradients."""

from collections.abc import Iterable

import numpy as np
from torch import Tensor

from a3c.envs.protocol import Array, NumpyStep, Spec
from a3c.shared import Applied, SharedParameters

VECTOR = Spec((2,), pixels=False, stacked=False, discrete=True, num_actions=3)


def step(
    rewards: Iterable[float],
    terminated: Iterable[bool] | None = None,
    truncated: Iterable[bool] | None = None,
    life_lost: Iterable[bool] | None = None,
    observations: Array | None = None,
    final: Array | None = None,
) -> NumpyStep:
    """A step of N agents with nothing but what is said."""
    reward = np.array(list(rewards), np.float32)
    nothing = np.zeros(len(reward), bool)

    def flags(given: Iterable[bool] | None) -> Array:
        return nothing.copy() if given is None else np.array(list(given))

    seen = np.zeros((len(reward), 2), np.float32) if observations is None else observations
    return NumpyStep(seen, reward, flags(terminated), flags(truncated), flags(life_lost), final)


def update(store: SharedParameters, gradients: Tensor, agent_steps: int, thread: int) -> Applied:
    """An update as an actor-learner makes it."""
    return store.apply(gradients, agent_steps, thread, store.clip(gradients))


class Scripted:
    """NumpyEnvs that play the given steps, whatever the actions; they remember these."""

    def __init__(self, steps: list[NumpyStep], spec: Spec = VECTOR):
        self.spec, self.steps = spec, steps
        self.num_envs = len(steps[0].rewards)
        self.actions: list[Array] = []

    def reset(self, seed: int) -> Array:
        return np.zeros_like(self.steps[0].observations)

    def step(self, actions: Array) -> NumpyStep:
        self.actions.append(actions)
        return self.steps[len(self.actions) - 1]

    def save_state(self) -> None:
        return None

    def load_state(self, state: dict[str, Array]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass
