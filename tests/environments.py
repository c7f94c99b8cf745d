"""Environments that break; importing this module registers them."""

import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from numpy.typing import NDArray

Observation = NDArray[np.float32]


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


class RewardsTooLargeThenNone(RewardsThatAreNotNumbers):
    """Too large to add in the rollout of 8 steps that ends with the 104th; then NaN."""

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self.ruin = 3e38 if self.steps < 104 else float("nan")
        return super().step(action)


class Crashing(RewardsThatAreNotNumbers):
    """Raises at its hundredth step."""

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        if self.steps >= 100:
            raise RuntimeError("the environment fell over")
        return super().step(action)


class InfiniteRewards(gymnasium.Env[Any, Any]):
    """Games of ten steps; the last reward is infinite."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, **kwargs: Any) -> None:
        self.steps = 0

    def reset(self, **kwargs: Any) -> tuple[Observation, dict[str, Any]]:
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        ended = self.steps == 10
        return np.zeros(2, np.float32), float("inf") if ended else 1.0, ended, False, {}


class Stuck(RewardsThatAreNotNumbers):
    """Does not return from its fiftieth step."""

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        if self.steps >= 50:
            print("stuck", flush=True)
            time.sleep(3600)
        return super().step(action)


class Unhurried(CartPoleEnv):
    """CartPole that leaves the cores to others most of the time."""

    def step(self, action: Any) -> Any:
        time.sleep(0.0005)
        return super().step(action)


class Sides(gymnasium.Env[Any, Any]):
    """Images with a square somewhere: a reward for saying on which side. Twenty steps a game."""

    observation_space = spaces.Box(0, 255, (44, 44, 1), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self, **kwargs: Any) -> None:
        self.left = self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.picture(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        reward = float((self.left >= 18) == action)
        return self.picture(), reward, self.steps == 20, False, {}

    def picture(self) -> NDArray[np.uint8]:
        picture = np.zeros(self.observation_space.shape, np.uint8)
        top, self.left = self.np_random.integers(36, size=2)
        picture[top : top + 8, self.left : self.left + 8] = 200
        return picture


gymnasium.register("Unhurried-v0", f"{__name__}:Unhurried", max_episode_steps=500)
gymnasium.register("NaN-v0", RewardsThatAreNotNumbers)
gymnasium.register("Huge-v0", RewardsTooLargeToAdd)
gymnasium.register("HugeThenNaN-v0", RewardsTooLargeThenNone)
gymnasium.register("Crashing-v0", Crashing)
gymnasium.register("Stuck-v0", Stuck)
gymnasium.register("Infinite-v0", InfiniteRewards)
gymnasium.register("Sides-v0", Sides)
