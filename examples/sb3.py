"""stable-baselines3 on this emulator: PPO or A2C on an AtariVectorEnv.

    pip install stable-baselines3
    python examples/sb3.py breakout --total-timesteps 1000000

`AtariVectorEnv` steps all games in one call without the GIL, and does what SB3's Atari wrappers do:
frame skip, maximum, 84 x 84, stack of 4, no-ops, FIRE. So one adapter takes the place of SB3's
vector environment and of its wrappers. Episodes are whole games: a lost life does not end them, and
the returns in SB3's log are unclipped. It needs nothing of `a3c`.
"""

import argparse
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import VecEnv

from atari2600 import AtariVectorEnv

Array = NDArray[Any]


class AtariVecEnv(VecEnv):
    """N games as SB3 wants them: observations uint8 [N, 4, 84, 84], the newest frame last."""

    def __init__(self, game: str, num_envs: int, seed: int, **options: Any):
        self.envs = AtariVectorEnv(
            game,
            num_envs,
            autoreset_mode=AutoresetMode.SAME_STEP,
            reward_clipping=False,  # done in `step_wait`, after the returns are counted
            **options,
        )
        self.first_seed: int | None = seed
        self.returns, self.lengths = np.zeros(num_envs), np.zeros(num_envs, int)
        spaces = self.envs.single_observation_space, self.envs.single_action_space
        super().__init__(num_envs, *spaces)

    def reset(self) -> Array:
        observations, _ = self.envs.reset(seed=self.first_seed)
        self.first_seed = None  # go on with the generators
        self.returns[:], self.lengths[:] = 0, 0
        return observations

    def step_async(self, actions: Array) -> None:
        self.envs.send(actions)

    def step_wait(self) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        observations, rewards, terminated, truncated, info = self.envs.recv()
        self.returns += rewards
        self.lengths += 1
        ended = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(ended):
            infos[i] = {
                "terminal_observation": info["final_obs"][i],
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                "episode": {"r": float(self.returns[i]), "l": int(self.lengths[i])},
            }
        self.returns[ended], self.lengths[ended] = 0, 0
        return observations, np.sign(rewards).astype(np.float32), ended, infos

    def close(self) -> None:
        self.envs.close()

    # What VecEnv asks for as well: single games have no attributes of their own

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.envs, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("set attributes of `envs`, for all games at once")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        raise NotImplementedError("call methods of `envs`, for all games at once")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


def main() -> None:
    parser = argparse.ArgumentParser(description="Train stable-baselines3 on Atari.")
    parser.add_argument("game", nargs="?", default="breakout")
    parser.add_argument("--algorithm", choices=["a2c", "ppo"], default="ppo")
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--total-timesteps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    envs = AtariVecEnv(options.game, options.num_envs, options.seed)
    algorithm: type[A2C | PPO] = A2C if options.algorithm == "a2c" else PPO
    model = algorithm("CnnPolicy", envs, verbose=1, seed=options.seed)
    model.learn(options.total_timesteps)
    model.save(f"{options.algorithm}-{options.game}")
    envs.close()


if __name__ == "__main__":
    main()
