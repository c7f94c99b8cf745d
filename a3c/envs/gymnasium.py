"""Any Gymnasium environment with Box or Discrete spaces."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from a3c.config import InputError
from a3c.envs import classic_control
from a3c.envs.protocol import Array, NumpyStep, Spec


class GymnasiumEnvs:
    """Any Gymnasium id with Box or Discrete spaces, stepped one after another in this thread."""

    def __init__(self, env: str, num_envs: int, **kwargs: Any):
        self.num_envs = num_envs
        self.vector = SyncVectorEnv(
            [lambda: gymnasium.make(env, **kwargs)] * num_envs,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space
        self.spec = gymnasium_spec(env, self.observation_space, self.action_space)

    def reset(self, seed: int) -> Array:
        return self.encode(self.vector.reset(seed=seed)[0])

    def step(self, actions: Array) -> NumpyStep:
        result = self.vector.step(self.decode(actions))
        observations, rewards, terminated, truncated, info = result
        ended = terminated | truncated
        observations = self.encode(observations)
        final = None
        if ended.any():
            final = np.zeros_like(observations)
            final[ended] = self.encode(np.stack(list(info["final_obs"][ended])))
        nothing = np.zeros_like(terminated)
        rewards = rewards.astype(np.float32)
        return NumpyStep(observations, rewards, terminated, truncated, nothing, final)

    def encode(self, observations: Array) -> Array:
        """Discrete observations one-hot, boxes as flat float32, images as they are."""
        if isinstance(self.observation_space, spaces.Discrete):
            index = observations - self.observation_space.start
            return np.eye(int(self.observation_space.n), dtype=np.float32)[index]
        if self.spec.pixels:
            return observations
        return observations.reshape(len(observations), -1).astype(np.float32)

    def decode(self, actions: Array) -> Array:
        """The learner's actions as the environment takes them."""
        if isinstance(self.action_space, spaces.Discrete):
            return actions + self.action_space.start
        assert isinstance(self.action_space, spaces.Box)
        low, high = self.action_space.low, self.action_space.high
        shaped = actions.reshape(len(actions), *self.action_space.shape)
        return np.clip(shaped, low, high).astype(self.action_space.dtype)

    def save_state(self) -> dict[str, Array] | None:
        return classic_control.save(self.vector.envs)

    def load_state(self, state: dict[str, Array]) -> None:
        classic_control.load(self.vector.envs, state)

    def close(self) -> None:
        self.vector.close()


def gymnasium_spec(
    env: str, observations: gymnasium.Space[Any], actions: gymnasium.Space[Any]
) -> Spec:
    """The Spec of an environment's spaces. Raises InputError where they are of another kind."""
    if isinstance(actions, spaces.Discrete):
        discrete, num_actions = True, int(actions.n)
    elif isinstance(actions, spaces.Box) and np.issubdtype(actions.dtype, np.floating):
        discrete, num_actions = False, int(np.prod(actions.shape))
    else:
        raise InputError(f"{env} takes actions {actions}; expected Discrete or a Box of floats")
    if isinstance(observations, spaces.Discrete):
        return Spec((int(observations.n),), False, False, discrete, num_actions)
    if not isinstance(observations, spaces.Box):
        raise InputError(f"{env} gives observations {observations}; expected Discrete or Box")
    shape = observations.shape
    if observations.dtype == np.uint8 and len(shape) == 3:
        return Spec(shape, True, False, discrete, num_actions)
    return Spec((int(np.prod(shape)),), False, False, discrete, num_actions)
