"""AtariEnv: one machine as a Gymnasium Env, as `ale_py.env.AtariEnv` has it.

Equal observations, rewards and ends for equal seeds and actions; sound is not emulated. The same
compiled function plays it as the vector environment's agents: without its wrapper (no-ops, stack,
resizing), every frame drawn.
"""

from __future__ import annotations

import operator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import error
from gymnasium.spaces import Box, Discrete
from gymnasium.utils import EzPickle, seeding
from numpy.typing import NDArray

from atari2600 import agent, boot, games, snapshot
from atari2600.ale import full_strength
from atari2600.arguments import (
    actions_of,
    check_flags,
    check_fractions,
    check_limit,
    continuous_space,
    frames_of,
)
from atari2600.backends import cpu
from atari2600.interface import Interface
from atari2600.mersenne import ENVIRONMENT
from atari2600.snapshot import Rest
from atari2600.state import BUFFER, EXTRA_RAM, HELD_ACTION, UNFINISHED, WIDTH
from atari2600.window import Window

Array = NDArray[Any]
OBSERVATIONS = ("rgb", "grayscale", "ram")
KEYS = {"UP": "w", "LEFT": "a", "RIGHT": "d", "DOWN": "s", "FIRE": " "}
NOOP_KEY = "e"
LEFT_BY_CLONES = [HELD_ACTION, UNFINISHED]  # registers that no clone of ALE's holds


class AtariEnv(gymnasium.Env[Array, Any], EzPickle):
    """One agent of one game."""

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(
        self,
        game: str,
        mode: int | None = None,
        difficulty: int | None = None,
        obs_type: str = "rgb",
        frameskip: int | tuple[int, int] = 4,
        repeat_action_probability: float = 0.25,
        full_action_space: bool = False,
        continuous: bool = False,
        continuous_action_threshold: float = 0.5,
        max_num_frames_per_episode: int | None = None,
        render_mode: str | None = None,
    ):
        """Build the machine; `reset` starts it.

        game: ROM name in snake_case, or an id of Gymnasium's such as ALE/Breakout-v5
        mode, difficulty: of the game; None is its default
        obs_type: "rgb", "grayscale" or "ram"
        frameskip: emulator frames per agent step; (low, high) draws from low to high - 1
        repeat_action_probability: of the sticky actions, at each emulator frame
        full_action_space: all 18 actions (9 of Skiing and Lost Luggage), also what a game ignores
        continuous: actions are (radius, angle, fire); paddles turn by the radius
        continuous_action_threshold: from where a direction, or fire, counts
        max_num_frames_per_episode: emulator frames after which an episode is truncated
        render_mode: "rgb_array", or "human" for a window (with pygame)
        """
        EzPickle.__init__(
            self, game, mode, difficulty, obs_type, frameskip, repeat_action_probability,
            full_action_space, continuous, continuous_action_threshold,
            max_num_frames_per_episode, render_mode,
        )  # fmt: skip
        check_flags(full_action_space=full_action_space, continuous=continuous)
        if obs_type not in OBSERVATIONS:
            raise ValueError(f"obs_type is {obs_type!r}; expected one of {OBSERVATIONS}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode is {render_mode!r}; expected rgb_array or human")
        self.game = games.find(game)
        self.obs_type, self.render_mode = obs_type, render_mode
        self._frameskip = frameskip  # wrappers look at ale-py's name
        self.frameskip = frames_of(frameskip)
        full = full_action_space or continuous
        actions = self.game.legal_actions if full else self.game.minimal_actions
        self.action_set = full_strength(np.array(actions))
        self.action_names = [games.ACTIONS[action] for action in actions]
        self.continuous = continuous
        self.continuous_action_threshold = continuous_action_threshold
        if max_num_frames_per_episode is not None:
            check_limit(0, max_num_frames_per_episode)
        self.limit = int(max_num_frames_per_episode or 0)
        self.mode = games.check_mode(self.game, mode)
        self.difficulty = games.check_difficulty(self.game, difficulty)
        check_fractions(
            repeat_action_probability=repeat_action_probability,
            continuous_action_threshold=continuous_action_threshold,
        )
        self.sticky = repeat_action_probability
        self.layer = boot.layer_of(self.game, self.mode, self.difficulty, self.sticky, self.limit)
        self.make_machine()
        self.make_spaces()
        self.palette, self.greys = games.palette(self.game), games.greys(self.game)
        self.window = Window(self.game.gym_name) if render_mode == "human" else None
        self.started = False
        self.load_seed = -1  # of the next reset; negative: the game goes on
        self.seed_game()
        self.load_game()

    def make_machine(self) -> None:
        """One machine, and the protocol without ALE's vector environment around it."""
        self.protocol = agent.protocol_of(self.frameskip, run_on=True)
        self.view = agent.view_of(self.game, self.protocol, 1, 1, grayscale=True)
        self.agents = agent.agents_of(np.zeros((1, 0), np.uint8), self.view, self.game)
        self.machines = boot.machines_of(self.game, 1)
        code = cpu.prepare(self.machines, self.layer, self.game)
        self.scratch = agent.scratch_of(self.view, self.game, code)

    def make_spaces(self) -> None:
        shape: tuple[int, ...] = (self.game.height, WIDTH)
        if self.obs_type != "grayscale":
            shape = (EXTRA_RAM,) if self.obs_type == "ram" else (*shape, 3)
        self.observation_space = Box(0, 255, shape, np.uint8)
        self.action_space = (
            continuous_space() if self.continuous else Discrete(len(self.action_set))
        )

    # ---- Gymnasium's interface ----

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode. A seed loads the game again."""
        super().reset(seed=seed, options=options)
        info: dict[str, Any] = {}
        if seed is not None:
            info["seeds"] = self.seed_game(seed)
            self.load_game()
        self.run(cpu.RESET, self.load_seed)
        self.load_seed, self.started = -1, True
        self.show(1)
        return self.observation(), self.info() | info

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One agent step: observation uint8 (see `observation_space`), reward, unclipped,
        terminated, truncated, and info: lives, frame_number, episode_frame_number.

        Raises ResetNeeded before `reset`, and ValueError for an action that there is not.
        """
        if not self.started:
            raise error.ResetNeeded("call reset() before step()")
        code = self.decode(action)
        low, high = self.frameskip
        frames = low if high == low + 1 else int(self.np_random.integers(low, high))
        self.protocol[agent.SKIP_LOW], self.protocol[agent.SKIP_HIGH] = frames, frames + 1
        self.run(code)
        self.show(frames)
        reward, over = float(self.agents.rewards[0]), self.ale.game_over(with_truncation=False)
        return self.observation(), reward, over, self.ale.game_truncated(), self.info()

    def render(self) -> Array | None:
        """The screen [H, W, 3] for "rgb_array"; the window shows itself."""
        if self.render_mode == "rgb_array":
            return games.recoloured(self.screen(), self.palette)
        if self.render_mode == "human":
            return None
        raise ValueError("render_mode is None; expected rgb_array or human at construction")

    def close(self) -> None:
        if self.window is not None:
            self.window.close()

    def get_action_meanings(self) -> list[str]:
        return self.action_names

    def get_keys_to_action(self) -> dict[tuple[str, ...], int]:
        """Keys of gymnasium.utils.play: w, a, s, d and the space bar.

        Raises AttributeError, as ale-py, where actions are continuous.
        """
        if self.continuous:
            raise AttributeError("continuous actions have no keys; expected continuous=False")
        return {keys_of(name): i for i, name in enumerate(self.get_action_meanings())}

    # ---- ale-py's ways in ----

    @property
    def ale(self) -> Interface:
        """What wrappers look at, in ale-py's names."""
        return Interface(self)

    def seed_game(self, seed: int | None = None) -> tuple[Any, Any]:
        """Seed the drawn frame skips, and the machine from the next `load_game` on."""
        words = np.random.SeedSequence(seed).generate_state(2)
        self._np_random, _ = seeding.np_random(int(words[0]))
        self.game_seed = int(words[1])
        return words[0], words[1]

    def load_game(self) -> None:
        """The next `reset` loads the game again, with the seed of the last `seed_game`."""
        self.load_seed = self.game_seed

    def clone_state(self, include_rng: bool = False) -> Array:
        """The machine as it is, for `restore_state`: uint8 [bytes].

        include_rng: with the generators of the machine, so that sticky actions repeat themselves
        """
        if not self.started:
            raise error.ResetNeeded("call reset() before clone_state()")
        return snapshot.save(self.clone_header(), {"rng": include_rng}, self.state_arrays())

    def restore_state(self, state: Array) -> None:
        """Go back to a cloned state, as ALE does, which leaves the action that sticks, and whether
        the machine's frame is unfinished, as a reset of Q*bert leaves it.

        Raises ValueError if it is of another game, mode or difficulty; the rest of the protocol
        may be another.
        """
        if self.load_seed >= 0:  # ale-py has loaded the game by now
            self.run(cpu.RESET, self.load_seed)
        registers, generators = self.machines.registers, self.agents.generators
        left = registers[0, LEFT_BY_CLONES]  # int32 [2]
        generator = generators[0, ENVIRONMENT].copy()
        rest = snapshot.load(state, self.clone_header(), self.state_arrays(), self.check_loaded)
        registers[0, LEFT_BY_CLONES] = left
        if not rest["rng"]:
            generators[0, ENVIRONMENT] = generator
        self.load_seed, self.started = -1, True

    def clone_header(self) -> Rest:
        named = {key: self.state_header()[key] for key in ("game", "mode", "difficulty")}
        return named | {"kind": "clone"}

    # ---- exact saving ----

    def save_state(self) -> Array:
        """The whole state, the generators of sticky actions and frame skips too: uint8 [bytes]."""
        if not self.started:
            raise error.ResetNeeded("call reset() before save_state()")
        rest = {
            "np_random": self.np_random.bit_generator.state,
            "np_random_seed": self._np_random_seed,
            "game_seed": self.game_seed,
            "load_seed": self.load_seed,
        }
        return snapshot.save(self.state_header(), rest, self.state_arrays())

    def load_state(self, state: Array) -> None:
        """Go on from what `save_state` returned. Raises ValueError if it is of something else."""
        rest = snapshot.load(state, self.state_header(), self.state_arrays(), self.check_loaded)
        self.np_random.bit_generator.state = rest["np_random"]
        # of states that were saved before 30 November 2026 these are not known
        self._np_random_seed = rest.get("np_random_seed", self._np_random_seed)
        self.game_seed = rest.get("game_seed", self.game_seed)
        self.load_seed, self.started = rest.get("load_seed", -1), True

    def state_header(self) -> Rest:
        """What must be equal in the environment that loads a state."""
        return {
            "game": self.game.name,
            "kind": "one machine",
            "mode": self.mode,
            "difficulty": self.difficulty,
            "repeat_action_probability": float(self.sticky),
            "frameskip": list(self.frameskip),
            "max_num_frames_per_episode": self.limit,
        }

    def check_loaded(self, rest: Rest, arrays: list[Array]) -> None:
        """Raise ValueError if such a state would not be one."""
        registers, _, _, generators = arrays[:4]
        snapshot.check_machines(self.machines, registers, generators)
        if "np_random" in rest:
            try:
                np.random.PCG64().state = rest["np_random"]
            except (TypeError, KeyError, ValueError, OverflowError):
                raise ValueError(
                    "the state is damaged: NumPy does not take its generator"
                ) from None

    def __getstate__(self) -> dict[str, Any]:
        """A copy is built from the arguments, and goes on with the same game."""
        saved = self.save_state() if self.started else None
        random = self.np_random.bit_generator.state, self._np_random_seed
        seeds = self.game_seed, self.load_seed, *random
        return super().__getstate__() | {"saved": saved, "seeds": seeds}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if state["saved"] is not None:
            self.load_state(state["saved"])
        self.game_seed, self.load_seed, drawn, self._np_random_seed = state["seeds"]
        self.np_random.bit_generator.state = drawn

    def state_arrays(self) -> list[Array]:
        machines = [self.machines.registers, self.machines.ram, self.machines.screens]
        return [*machines, *agent.changing(self.agents)]

    # ---- what is behind it ----

    def run(self, action: int, seed: int = -1) -> None:
        """Move the machine on, see `cpu.run`."""
        only = np.array([[0], [action], [seed]])
        cpu.run(self.machines, self.layer, self.agents, self.view, self.scratch, *only)

    def decode(self, action: Any) -> int:
        """The action, any kind of integer, as ale.py has it. Raises ValueError."""
        chosen: Any
        try:
            chosen = np.asarray(action, np.float32) if self.continuous else operator.index(action)
        except (TypeError, ValueError):
            chosen = action
        if not self.action_space.contains(chosen):
            raise ValueError(f"action is {action!r}; expected one of {self.action_space}")
        if self.continuous:
            return int(actions_of(chosen[None], self.continuous_action_threshold)[0])
        return int(self.action_set[chosen])

    def screen(self) -> Array:
        """uint8 [H, W], colour codes."""
        buffer = self.machines.registers[0, BUFFER]
        return self.machines.screens[0, buffer].reshape(-1, WIDTH)

    def observation(self) -> Array:
        if self.obs_type == "ram":
            return self.machines.ram[0, :EXTRA_RAM].copy()
        colours = self.palette if self.obs_type == "rgb" else self.greys
        return games.recoloured(self.screen(), colours)

    def info(self) -> dict[str, int]:
        return {
            "lives": self.ale.lives(),
            "episode_frame_number": self.ale.getEpisodeFrameNumber(),
            "frame_number": self.ale.getFrameNumber(),
        }

    def show(self, frames: int) -> None:
        if self.window is not None:
            self.window.show(games.recoloured(self.screen(), self.palette), frames)


def keys_of(action: str) -> tuple[str, ...]:
    """The keys held for an action: UPLEFTFIRE is w, a and space."""
    return tuple(key for name, key in KEYS.items() if name in action) or (NOOP_KEY,)
