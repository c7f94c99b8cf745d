"""An Atari 2600 in Numba, bit-exact with ale-py. Importing it registers its environments."""

from gymnasium.envs.registration import register, registry

from atari2600 import games
from atari2600.env import AtariEnv
from atari2600.vector_env import AtariVectorEnv

__all__ = ["AtariEnv", "AtariVectorEnv"]

for _game in games.names():
    _id = f"atari2600/{games.gym_name(_game)}-v5"
    if _id not in registry:  # the module may be loaded again
        register(
            _id,
            entry_point="atari2600.env:AtariEnv",
            vector_entry_point="atari2600.vector_env:AtariVectorEnv",
            kwargs={
                "game": _game,
                "repeat_action_probability": 0.25,
                "full_action_space": False,
                "frameskip": 4,
                "max_num_frames_per_episode": 108_000,
            },
        )
