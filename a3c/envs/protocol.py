"""The environments' protocol: what the learner needs of N agents' environments, and no more.

Agents whose episode ends are reset in the same call: `step` returns the first observation of the
next episode, and the last one of the ended episode apart from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]


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
