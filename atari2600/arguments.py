"""What both environments make of their arguments: checks, spaces, and continuous actions."""

from __future__ import annotations

import operator
from contextlib import suppress
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from atari2600.ale import ACTION_BITS, PADDLE_DELTA

Array = NDArray[Any]
MOST_FRAMES = 2**31 - 1  # of an episode
MOST_SKIPPED = 100_000  # frames of an agent step: half an hour of play
# The action of a direction [left, centre, right], [down, centre, up] and [nothing, FIRE].
ACTION_OF = np.array(
    [[[9, 17], [4, 12], [7, 15]], [[5, 13], [0, 1], [2, 10]], [[8, 16], [3, 11], [6, 14]]]
)


def continuous_space() -> Box:
    """Of (radius, angle, fire)."""
    low, high = np.array([[0, -np.pi, 0], [1, np.pi, 1]], np.float32)
    return Box(low, high, dtype=np.float32)


def actions_of(actions: Array, threshold: float) -> Array:
    """Actions, as ale.py has them, of [N, 3] radius, angle, fire."""
    radius, angle, fire = actions.T
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    horizontal = 1 + (x > threshold) - (x < -threshold).astype(int)
    vertical = 1 + (y > threshold) - (y < -threshold).astype(int)
    codes = ACTION_OF[horizontal, vertical, (fire > threshold).astype(int)]
    turns = (PADDLE_DELTA * np.abs(radius).astype(np.float64)).astype(np.int64)  # as ALE: doubles
    return codes | turns << ACTION_BITS


def frames_of(frameskip: int | tuple[int, int]) -> tuple[int, int]:
    """(low, high): frames per agent step are drawn from low to high - 1."""
    drawn = isinstance(frameskip, tuple | list)
    both: Any = frameskip if drawn else (frameskip, frameskip)
    low = high = 0
    with suppress(TypeError, ValueError):
        first, last = both
        if not isinstance(first, bool) and not isinstance(last, bool):
            low, high = operator.index(first), operator.index(last) + (not drawn)
    if not 0 < low < high:
        raise ValueError(f"frameskip is {frameskip!r}; expected at least 1, or 1 <= low < high")
    if high > MOST_SKIPPED + 1:
        raise ValueError(f"frameskip is {frameskip!r}; expected at most {MOST_SKIPPED}")
    return low, high


def check_flags(**values: Any) -> None:
    """Raise TypeError for what is no truth value: the word "False" would be true."""
    for name, value in values.items():
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{name} is {value!r}; expected True or False")


def check_fractions(**values: float) -> None:
    """Raise TypeError for what is no number, ValueError for what is not from 0 to 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, float | int | np.number):
            raise TypeError(f"{name} is {value!r}; expected a number from 0 to 1")
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; expected 0 to 1")


def check_limit(least: int, frames: int) -> None:
    """Of an episode. Raises as `check_least`."""
    check_least(least, max_num_frames_per_episode=frames)
    if frames > MOST_FRAMES:
        raise ValueError(f"max_num_frames_per_episode is {frames}; expected at most {MOST_FRAMES}")


def check_least(least: int, **values: int) -> None:
    """Raise TypeError for what is no whole number, ValueError for one that is too small."""
    for name, value in values.items():
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"{name} is {value!r}; expected a whole number")
        if value < least:
            raise ValueError(f"{name} is {value}; expected at least {least}")
