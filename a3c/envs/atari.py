"""Atari, on this project's emulator or on ale-py's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from ale_py.vector_env import AtariVectorEnv as AleVectorEnv
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from a3c.config import Config
from a3c.envs.protocol import AgentBytes, Array, NumpyStep, Spec, other_version
from a3c.errors import InputError, as_input_error
from atari2600 import agent, boot, games
from atari2600.vector_env import AtariVectorEnv

FRAME_SIDE = 84  # pixels, Mnih et al. 2015
STACKED_FRAMES = 4
ONE_AT_A_TIME = threading.Lock()  # ale-py can stall where two threads make or reset games
ALE_BYTES = 1_200_000  # of one of ale-py's environments, measured: 1.1 to 1.6 million
ALONE_BYTES = 460_000  # of an environment besides its agents, measured: 0.46 to 0.51 million


class AtariEnvs:
    """Atari through a vector environment that steps its N games without the GIL.

    ale-py's and ours answer alike for equal seeds and actions. Ours also saves its games exactly,
    and on a CPU it writes whole stacks of frames into the memory that the network reads.
    Lost lives come from the lives counter: ale-py's own `episodic_life` restarts the whole game.
    """

    def __init__(self, game: str, config: Config, num_envs: int, **kwargs: Any):
        self.num_envs = num_envs
        options = {"stack_num": 1, **atari_options(config), **kwargs}
        self.whole_stacks = options["stack_num"] > 1
        self.vector: Any  # one of two that are alike
        self.alone = ONE_AT_A_TIME if config.emulator == "ale" else nullcontext()
        with self.alone, made_of(game):
            if config.emulator == "ale":
                self.vector = AleVectorEnv(game, num_envs, num_threads=1, **options)
            else:
                self.vector = own_emulator(game, num_envs, options)
        space = self.vector.single_action_space
        assert isinstance(space, spaces.Discrete)
        self.spec = spec_with(int(space.n))

    def reset(self, seed: int) -> Array:
        with self.alone:
            observations, info = self.vector.reset(seed=seed)
        self.lives = info["lives"]
        return self.frames(observations)

    def step(self, actions: Array) -> NumpyStep:
        observations, rewards, terminated, truncated, info = self.vector.step(actions)
        ended = terminated | truncated
        life_lost = (info["lives"] < self.lives) & ~ended
        self.lives = info["lives"]
        # of all that ended: a film shows the last picture of a game
        final = self.frames(info["final_obs"]) if ended.any() else None
        rewards = rewards.astype(np.float32)
        return NumpyStep(
            self.frames(observations), rewards, terminated, truncated, life_lost, final
        )

    def frames(self, observations: Array) -> Array:
        """Whole stacks [N, H, W, C], or the newest frames [N, H, W]."""
        return observations if self.whole_stacks else observations[:, 0]

    def save_state(self) -> dict[str, Array] | None:
        if not isinstance(self.vector, AtariVectorEnv):
            return None  # ale-py's vector environment cannot save its games
        return {"games": self.vector.save_state(), "lives": self.lives}

    def load_state(self, state: dict[str, Array]) -> None:
        if not isinstance(self.vector, AtariVectorEnv):
            raise NotImplementedError("ale-py's vector environment cannot restore its games")
        copies = self.num_envs // len(state["lives"])
        try:
            self.vector.load_state(state["games"], copies)
        except ValueError as error:
            raise other_version(str(error)) from None
        self.lives = np.tile(state["lives"], copies)

    def close(self) -> None:
        self.vector.close()


def spec_with(num_actions: int) -> Spec:
    """Atari's Spec."""
    shape = FRAME_SIDE, FRAME_SIDE, STACKED_FRAMES
    return Spec(shape, pixels=True, stacked=True, discrete=True, num_actions=num_actions)


def atari_spec(game: str, config: Config) -> Spec:
    """The Spec of a game's AtariEnvs, without making them."""
    return spec_with(len(action_meanings(game, config)))


def action_meanings(game: str, config: Config) -> list[str]:
    """What a game's actions do, in ale-py's words: NOOP, FIRE, UP, ..."""
    row = games.find(game)
    actions = row.legal_actions if config.full_action_set else row.minimal_actions
    return [games.ACTIONS[action] for action in actions]


def atari_bytes(game: str, config: Config) -> AgentBytes:
    """What one of a game's environments takes, without making it."""
    if config.emulator == "ale":
        return AgentBytes(ALE_BYTES, 0)
    row = games.find(game)
    protocol = agent.protocol_of((1, 1), same_step=True)
    view = agent.view_of(row, protocol, FRAME_SIDE, FRAME_SIDE, True)
    stack = np.zeros((1, FRAME_SIDE, FRAME_SIDE, STACKED_FRAMES), np.uint8)
    with made_of(game):
        machines = boot.machines_of(row, 1)
    state = [*machines[3:6], *agent.changing(agent.agents_of(stack, view, row))]
    size = sum(array.nbytes for array in state)
    # What the agents see is saved apart, too
    return AgentBytes(size, size + stack.nbytes, ALONE_BYTES)


def own_emulator(game: str, num_envs: int, options: dict[str, Any]) -> AtariVectorEnv:
    """atari2600's vector environment."""
    if options["stack_num"] > 1:
        options["layout"] = "channels_last"
        shape = num_envs, FRAME_SIDE, FRAME_SIDE, options["stack_num"]
        options["out"] = np.zeros(shape, np.uint8)
    return AtariVectorEnv(game, num_envs, num_threads=1, **options)


@contextmanager
def made_of(game: str) -> Iterator[None]:
    """Raise InputError for a game that the emulator does not know, or whose ROM file is missing or
    another's."""
    try:
        with as_input_error(f"cannot read the ROM file of {game}"):
            yield
    except ValueError as error:
        raise InputError(str(error)) from None


def native_size(game: str) -> dict[str, int]:
    """The options of the emulator's own picture, by whose height games differ."""
    return {"img_height": games.find(game).height, "img_width": 160}


def atari_options(config: Config) -> dict[str, Any]:
    """The protocol of a Config in the words of the vector environments."""
    drawn = (config.frame_skip, config.frame_skip_max + 1)  # Gymnasium's: the second is exclusive
    return {
        "frameskip": drawn if config.frame_skip_max else config.frame_skip,
        "repeat_action_probability": config.sticky_actions,
        "noop_max": config.noop_max,
        "full_action_space": config.full_action_set,
        "max_num_frames_per_episode": config.max_episode_frames,
        "reward_clipping": False,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }
