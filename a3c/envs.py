"""make_envs(): the agents' environments behind one small protocol.

The protocol is what the learner needs and no more, so that another emulator can take ale-py's
place. Agents whose episode ends are reset in the same call: `step` returns the first observation
of the next episode, and the last one of the ended episode apart from it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import ale_py
import gymnasium
import numpy as np
from ale_py import roms
from ale_py.vector_env import AtariVectorEnv as AleVectorEnv
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from a3c import classic_control
from a3c.config import Config, InputError, nearest
from a3c.devices import pick_device
from atari2600.vector_env import AtariVectorEnv

Array = NDArray[Any]
gymnasium.register_envs(ale_py)


@dataclass(frozen=True)
class Spec:
    """What a network must know about an environment."""

    observation_shape: tuple[int, ...]  # [H, W, C] of pixels, [D] of vectors
    pixels: bool
    stacked: bool  # of C frames; environments may send the newest [H, W] alone, see Upload
    discrete: bool
    num_actions: int  # of Discrete actions; or the size of continuous ones


class Step(NamedTuple):
    """The outcome of one agent step of N agents."""

    observations: Array  # [N, ...], of the next episode where one ended
    rewards: Array  # [N] float32, unclipped
    terminated: Array  # [N] bool
    truncated: Array  # [N] bool
    life_lost: Array  # [N] bool; a life lost in a game that goes on
    final_observations: Array | None  # [N, ...]; valid where an episode ended; None if none did


class Envs(Protocol):
    """N environments of one thread. Every method is called from one thread at a time."""

    num_envs: int
    spec: Spec

    def reset(self, seed: int) -> Array:
        """Start N new episodes; returns the observations [N, ...]."""

    def step(self, actions: Array) -> Step:
        """One action for each agent: [N] int64, or [N, A] float32 not yet clipped."""

    def save_state(self) -> dict[str, Array] | None:
        """The exact state of all environments as named arrays, or None if it cannot be had."""

    def load_state(self, state: dict[str, Array]) -> None:
        """Go on from what `save_state` returned."""

    def close(self) -> None:
        """Free what the environments hold."""


STACKED_FRAMES = 4


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
        if config.emulator == "ale":
            self.vector = AleVectorEnv(game, num_envs, num_threads=1, **options)
        else:
            self.vector = own_emulator(game, num_envs, options)
        space = self.vector.single_action_space
        assert isinstance(space, spaces.Discrete)
        self.spec = Spec((84, 84, STACKED_FRAMES), True, True, True, int(space.n))

    def reset(self, seed: int | Array) -> Array:
        observations, info = self.vector.reset(seed=seed)
        self.lives = info["lives"]
        return self.frames(observations)

    def step(self, actions: Array) -> Step:
        observations, rewards, terminated, truncated, info = self.vector.step(actions)
        ended = terminated | truncated
        life_lost = (info["lives"] < self.lives) & ~ended
        self.lives = info["lives"]
        final = self.frames(info["final_obs"]) if ended.any() else None
        rewards = rewards.astype(np.float32)
        return Step(self.frames(observations), rewards, terminated, truncated, life_lost, final)

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
        self.vector.load_state(state["games"])
        self.lives = state["lives"]

    def close(self) -> None:
        self.vector.close()


def own_emulator(game: str, num_envs: int, options: dict[str, Any]) -> AtariVectorEnv:
    """atari2600's vector environment. Raises InputError for a game that it does not know."""
    if options["stack_num"] > 1:
        options["layout"] = "channels_last"
        options["out"] = np.zeros((num_envs, 84, 84, options["stack_num"]), np.uint8)
    try:
        return AtariVectorEnv(game, num_envs, num_threads=1, **options)
    except ValueError as error:
        raise InputError(str(error)) from None


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

    def step(self, actions: Array) -> Step:
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
        return Step(observations, rewards, terminated, truncated, nothing, final)

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


def atari_game(env: str) -> str | None:
    """The ALE name of `env` (breakout, ALE/Breakout-v5, BreakoutNoFrameskip-v4), or None.

    None also for ids that observe the machine's memory (ALE/Breakout-ram-v5): they are vectors.
    """
    if env in atari_games():
        return env
    known = gymnasium.registry.get(env)
    if known is None or known.kwargs.get("obs_type") == "ram":
        return None
    return known.kwargs.get("game") if "ale_py" in str(known.entry_point) else None


def atari_games() -> list[str]:
    """ALE's names of all games whose ROM ale-py ships."""
    return sorted(roms.get_all_rom_ids())


def make_envs(config: Config, num_envs: int) -> Envs:
    """N environments for one thread; call it from the main thread, one call after another.

    (ale-py stalls when several threads construct or reset vector environments at once.)
    Raises InputError for a name that is no environment, and for spaces that are not supported.
    """
    game = atari_game(config.env)
    if game is not None:
        # to a GPU only the newest frame travels, and is stacked there
        whole = config.emulator == "atari2600" and pick_device(config.device).type == "cpu"
        return AtariEnvs(game, config, num_envs, stack_num=STACKED_FRAMES if whole else 1)
    check_gymnasium_id(config.env)
    return GymnasiumEnvs(config.env, num_envs)


def check_gymnasium_id(env: str) -> None:
    """Raise InputError if Gymnasium does not know `env` or an extra for it is missing.

    `package.module:Name-v0` imports the module first, which registers the environment.
    """
    module, _, env = env.rpartition(":")
    if module:
        import_environments(module)
    known = [name for name in gymnasium.registry if not name.startswith("ALE/")]
    games = atari_games()
    if env not in gymnasium.registry:
        if env.startswith("ALE/") or env == env.lower():
            word = env.removeprefix("ALE/").split("-")[0].lower()
            raise InputError(f"no game {env!r}{nearest(word, games)}")
        raise InputError(f"no environment {env!r}{nearest(env, known + games)}")
    entry_point = str(gymnasium.registry[env].entry_point)
    if "mujoco" in entry_point and importlib.util.find_spec("mujoco") is None:
        raise InputError(f"{env} needs MuJoCo; pip install 'a3c-gpu[mujoco]'")
    if "box2d" in entry_point and importlib.util.find_spec("Box2D") is None:
        raise InputError(f"{env} needs Box2D; pip install 'gymnasium[box2d]'")


def import_environments(module: str) -> None:
    """Import what registers environments. Raises InputError if there is no such module."""
    sys.path.insert(0, "")  # a console script does not look in the current folder by itself
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"no module {error.name!r} to import environments from") from None
