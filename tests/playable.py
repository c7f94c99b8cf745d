"""Environments to play and film, and models for them that nobody had to train."""

from __future__ import annotations

import dataclasses
import functools
import signal
import tempfile
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces

from a3c.presets import preset
from a3c.run import checkpoint
from a3c.train import train

Observation = np.ndarray[Any, np.dtype[np.float32]]


class Playable(gymnasium.Env[Any, Any]):
    """Ends after 20 agent steps; observations and rewards are drawn from the seed."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space: spaces.Space[Any] = spaces.Discrete(2)
    length = 20

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Observation, Any]:
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self.observe(), self.reward(), self.t >= self.length, False, {}

    def observe(self) -> Observation:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)

    def reward(self) -> float:
        return float(self.np_random.uniform())

    def render(self) -> Any:
        return np.full((64, 48, 3), self.t, np.uint8)


class Continuous(Playable):
    action_space = spaces.Box(-1, 1, (2,), np.float32)


class HalfNeverEnds(Playable):
    """Of the games every second one has no end; the others end after 10 agent steps."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Observation, Any]:
        self.seed = seed
        self.length = 10 + 10**9 * ((seed or 0) % 2)
        return super().reset(seed=seed)


class Interrupted(HalfNeverEnds):
    """Somebody presses Ctrl-C at agent step 15 of the game with seed 1."""

    at = 15

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        if self.seed == 1 and self.t + 1 == self.at:
            signal.raise_signal(signal.SIGINT)
        return super().step(action)


class InterruptedEarly(Interrupted):
    at = 5


class NotNumbers(Playable):
    """Rewards of inf, -inf and NaN, by seed."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Observation, Any]:
        self.value = [np.inf, -np.inf, np.nan][(seed or 0) % 3]
        return super().reset(seed=seed)

    def reward(self) -> float:
        return float(self.value) if self.t == 3 else 1.0


def registered(kind: type[Playable]) -> str:
    """Its id."""
    env, creator = f"{kind.__name__}-v0", cast(Any, kind)
    if env not in gymnasium.registry:
        gymnasium.register(env, creator)
    return env


@functools.cache
def untrained(kind: type[Playable]) -> checkpoint.Checkpoint:
    """The checkpoint of a run of a few agent steps."""
    with tempfile.TemporaryDirectory() as runs:
        config = preset("control", env=registered(kind), total_agent_steps=40, runs_dir=runs)
        return checkpoint.newest(train(config, quiet=True).folder).checkpoint


def model_of(kind: type[Playable], folder: Path, **changes: Any) -> str:
    """A model file that says it was trained for this environment, with these options."""
    saved = untrained(Continuous if issubclass(kind, Continuous) else Playable)
    config = dataclasses.replace(saved.config, env=registered(kind), **changes)
    path = folder / f"{kind.__name__}.safetensors"
    checkpoint.save(path, saved._replace(config=config))
    return str(path)
