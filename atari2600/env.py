"""AtariEnv: one machine as a Gymnasium Env, as `ale_py.env.AtariEnv` has it.

Equal observations, rewards and ends for equal seeds and actions; sound is not emulated. The same
compiled function plays it as the vector environment's agents: without its wrapper (no-ops, stack,
resizing), every frame drawn.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import error
from gymnasium.spaces import Box, Discrete
from gymnasium.utils import EzPickle, seeding
from numpy.typing import NDArray

from atari2600 import agent, boot, games, snapshot
from atari2600.ale import full_strength
from atari2600.backends import cpu
from atari2600.controls import actions_of, check_probability, continuous_space, frames_of
from atari2600.state import BUFFER, EPISODE_FRAMES, EXTRA_RAM, FRAMES, LIVES, OVER, WIDTH
from atari2600.window import Window

Array = NDArray[Any]
OBSERVATIONS = ("rgb", "grayscale", "ram")
KEYS = {"UP": "w", "LEFT": "a", "RIGHT": "d", "DOWN": "s", "FIRE": " "}
NOOP_KEY = "e"


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

        game: ROM name in snake_case
        mode, difficulty: of the game; None is its default
        obs_type: "rgb", "grayscale" or "ram"
        frameskip: emulator frames per agent step; (low, high) draws from low to high - 1
        repeat_action_probability: of the sticky actions, at each emulator frame
        full_action_space: all actions, also where the game ignores some
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
        if obs_type not in OBSERVATIONS:
            raise ValueError(f"obs_type is {obs_type!r}; expected one of {OBSERVATIONS}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode is {render_mode!r}; expected rgb_array or human")
        self.game = games.find(game)
        self.obs_type, self.render_mode = obs_type, render_mode
        self.frameskip = frames_of(frameskip)
        full = full_action_space or continuous
        actions = self.game.legal_actions if full else self.game.minimal_actions
        self.action_set = full_strength(np.array(actions))
        self.action_names = [games.ACTIONS[action] for action in actions]
        self.continuous = continuous
        self.continuous_action_threshold = continuous_action_threshold
        self.limit = max_num_frames_per_episode or 0
        self.layer = boot.layer_of(
            self.game,
            games.check_mode(self.game, mode),
            games.check_difficulty(self.game, difficulty),
            check_probability(repeat_action_probability),
            self.limit,
        )
        self.make_machine()
        self.make_spaces()
        self.palette, self.greys = games.palette(self.game), games.greys(self.game)
        self.window = Window(self.game.gym_name) if render_mode == "human" else None
        self.started = False

    def make_machine(self) -> None:
        """One machine, and the protocol without ALE's vector environment around it."""
        self.protocol = np.zeros(agent.PROTOCOL, np.int64)
        self.protocol[agent.SKIP_LOW], self.protocol[agent.SKIP_HIGH] = self.frameskip
        self.protocol[agent.RUN_ON], self.protocol[agent.MAX_FRAMES] = 1, agent.NEVER
        self.view = agent.view_of(self.game, self.protocol, 1, 1, grayscale=True)
        self.agents = agent.agents_of(np.zeros((1, 0), np.uint8), self.view, self.game)
        self.scratch = agent.scratch_of(self.view, self.game)
        self.machines = cpu.machines_of(self.game, self.layer, 1)

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
        """Start an episode. A seed loads the game again; so does the first call without one."""
        super().reset(seed=seed, options=options)
        info: dict[str, Any] = {}
        ale_seed = -1
        if seed is not None or not self.started:
            words = np.random.SeedSequence(seed).generate_state(2)
            self._np_random, _ = seeding.np_random(int(words[0]))
            ale_seed = int(words[1])
            if seed is not None:
                info["seeds"] = (words[0], words[1])
        self.run(cpu.RESET, ale_seed)
        self.started = True
        self.show(1)
        return self.observation(), self.info() | info

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One agent step."""
        if not self.started:
            raise error.ResetNeeded("call reset() before step()")
        code = self.decode(action)
        low, high = self.frameskip
        frames = low if high == low + 1 else int(self.np_random.integers(low, high))
        self.protocol[agent.SKIP_LOW], self.protocol[agent.SKIP_HIGH] = frames, frames + 1
        self.run(code)
        self.show(frames)
        registers = self.machines.registers[0]
        truncated = 0 < self.limit <= registers[EPISODE_FRAMES]
        reward = float(self.agents.rewards[0])
        return self.observation(), reward, bool(registers[OVER]), bool(truncated), self.info()

    def render(self) -> Array | None:
        """The screen [H, W, 3] for "rgb_array"; the window shows itself."""
        if self.render_mode == "rgb_array":
            return self.palette[self.screen()]
        if self.render_mode == "human":
            return None
        raise ValueError("render_mode is None; expected rgb_array or human at construction")

    def close(self) -> None:
        if self.window is not None:
            self.window.close()

    def get_action_meanings(self) -> list[str]:
        return self.action_names

    def get_keys_to_action(self) -> dict[tuple[str, ...], int]:
        """Keys of gymnasium.utils.play: w, a, s, d and the space bar."""
        return {keys_of(name): i for i, name in enumerate(self.get_action_meanings())}

    # ---- exact saving ----

    def save_state(self) -> Array:
        """The whole state, the generators of sticky actions and frame skips too: uint8 [bytes]."""
        if not self.started:
            raise error.ResetNeeded("call reset() before save_state()")
        rest = {"np_random": self.np_random.bit_generator.state}
        return snapshot.save(self.state_header(), rest, self.state_arrays())

    def load_state(self, state: Array) -> None:
        """Go on from what `save_state` returned. Raises ValueError if it is of something else."""
        rest = snapshot.load(state, self.state_header(), self.state_arrays())
        self.np_random.bit_generator.state = rest["np_random"]
        self.started = True

    def state_header(self) -> dict[str, Any]:
        return {"game": self.game.name, "kind": "one machine"}

    def state_arrays(self) -> list[Array]:
        machines = [self.machines.registers, self.machines.ram, self.machines.screens]
        return [*machines, *agent.changing(self.agents)]

    # ---- what is behind it ----

    def run(self, action: int, seed: int = -1) -> None:
        """Move the machine on, see `cpu.run`."""
        only = np.array([[0], [action], [seed]])
        cpu.run(self.machines, self.layer, self.agents, self.view, self.scratch, *only)

    def decode(self, action: Any) -> int:
        """The action as ale.py has it. Raises ValueError."""
        if not self.action_space.contains(action):
            raise ValueError(f"action is {action!r}; expected one of {self.action_space}")
        if self.continuous:
            return int(actions_of(action[None], self.continuous_action_threshold)[0])
        return int(self.action_set[action])

    def screen(self) -> Array:
        """uint8 [H, W], colour codes."""
        buffer = self.machines.registers[0, BUFFER]
        return self.machines.screens[0, buffer].reshape(-1, WIDTH)

    def observation(self) -> Array:
        if self.obs_type == "ram":
            return self.machines.ram[0, :EXTRA_RAM].copy()
        table = self.palette if self.obs_type == "rgb" else self.greys
        return np.take(table, self.screen(), axis=0)

    def info(self) -> dict[str, int]:
        registers = self.machines.registers[0]
        fields = {
            "lives": LIVES,
            "episode_frame_number": EPISODE_FRAMES,
            "frame_number": FRAMES,
        }
        return {name: int(registers[field]) for name, field in fields.items()}

    def show(self, frames: int) -> None:
        if self.window is not None:
            self.window.show(self.palette[self.screen()], frames)


def keys_of(action: str) -> tuple[str, ...]:
    """The keys held for an action: UPLEFTFIRE is w, a and space."""
    return tuple(key for name, key in KEYS.items() if name in action) or (NOOP_KEY,)
