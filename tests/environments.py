"""Environments that only the tests need; importing this module registers them."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from numpy.typing import NDArray

Observation = NDArray[np.float32]


class CartPoleHiddenVelocities(gymnasium.ObservationWrapper[Any, Any, Any]):
    """CartPole that shows positions only: to balance it one must remember."""

    def __init__(self, **kwargs: Any):
        super().__init__(CartPoleEnv(**kwargs))
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def observation(self, observation: Observation) -> Observation:
        return observation[[0, 2]]


class RewardsThatAreNotNumbers(gymnasium.Env[Any, Any]):
    """Every reward after the hundredth step is NaN."""

    ruin = float("nan")

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, **kwargs: Any) -> None:
        self.steps = 0

    def reset(self, **kwargs: Any) -> tuple[Observation, dict[str, Any]]:
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        reward = self.ruin if self.steps > 100 else 1.0
        return np.zeros(2, np.float32), reward, False, False, {}


class RewardsTooLargeToAdd(RewardsThatAreNotNumbers):
    """Every reward after the hundredth step is a float32, but the sum of two is not."""

    ruin = 3e38


class Crashing(RewardsThatAreNotNumbers):
    """Raises at its hundredth step."""

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        if self.steps >= 100:
            raise RuntimeError("the environment fell over")
        return super().step(action)


gymnasium.register("CartPoleHiddenVelocities-v1", CartPoleHiddenVelocities, max_episode_steps=500)
gymnasium.register("NaN-v0", RewardsThatAreNotNumbers)
gymnasium.register("Huge-v0", RewardsTooLargeToAdd)
gymnasium.register("Crashing-v0", Crashing)
