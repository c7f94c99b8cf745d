"""A task that needs memory: CartPole without its velocities.

    a3c train examples.memory:CartPoleHiddenVelocities-v1 --recurrent --total-agent-steps 1000000

One observation does not tell whether the pole rises or falls; the last ones together do. Mean
return 400 of 500 after a minute, 500 at the end (benchmarks/results/learning.md says where).
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from numpy.typing import NDArray

Observation = NDArray[np.float32]


class CartPoleHiddenVelocities(gymnasium.ObservationWrapper[Any, Any, Any]):
    """CartPole that shows positions only: the cart's, and the pole's angle."""

    def __init__(self, **kwargs: Any):
        super().__init__(CartPoleEnv(**kwargs))
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def observation(self, observation: Observation) -> Observation:
        return observation[[0, 2]]


def made(**kwargs: Any) -> CartPoleHiddenVelocities:
    """Older versions of Gymnasium make no wrapper of its class."""
    return CartPoleHiddenVelocities(**kwargs)


gymnasium.register("CartPoleHiddenVelocities-v1", made, max_episode_steps=500)
