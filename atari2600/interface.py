"""What Atari wrappers ask of `env.unwrapped.ale`, in ale-py's names.

Gymnasium's AtariPreprocessing and stable-baselines3's wrappers call a few methods of ale-py's
`ALEInterface`; here they are, of an `AtariEnv`. What changes a game is `AtariEnv`'s own business.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from atari2600.games import Game, recoloured
from atari2600.state import EPISODE_FRAMES, EXTRA_RAM, FRAMES, LIVES, OVER, WIDTH, Machines

Array = NDArray[Any]


class OneGame(Protocol):
    """What is looked at of an environment of one game."""

    game: Game
    limit: int  # emulator frames of an episode; 0 for none
    machines: Machines
    palette: Array  # uint8 [256, 3], of colour codes
    greys: Array  # uint8 [256]

    def screen(self) -> Array:
        """uint8 [H, W], colour codes"""


class Interface:
    """The game of an environment, to look at. Methods that take `output` fill and return it."""

    def __init__(self, env: OneGame):
        self.env = env

    def lives(self) -> int:
        return self.register(LIVES)

    def game_over(self, *, with_truncation: bool = True) -> bool:
        """The game is over, or, with truncation, its frames are used up."""
        return self.register(OVER) != 0 or (with_truncation and self.game_truncated())

    def game_truncated(self) -> bool:
        return 0 < self.env.limit <= self.register(EPISODE_FRAMES)

    def getFrameNumber(self) -> int:
        return self.register(FRAMES)

    def getEpisodeFrameNumber(self) -> int:
        return self.register(EPISODE_FRAMES)

    def getScreenDims(self) -> tuple[int, int]:
        """(height, width)"""
        return self.env.game.height, WIDTH

    def getScreenRGB(self, output: Array | None = None) -> Array:
        """uint8 [H, W, 3]"""
        return filled(output, recoloured(self.env.screen(), self.env.palette))

    def getScreenGrayscale(self, output: Array | None = None) -> Array:
        """uint8 [H, W]"""
        return filled(output, recoloured(self.env.screen(), self.env.greys))

    def getScreen(self, output: Array | None = None) -> Array:
        """uint8 [H, W], colour codes"""
        return filled(output, self.env.screen().copy())

    def getRAM(self, output: Array | None = None) -> Array:
        """uint8 [128]"""
        return filled(output, self.env.machines.ram[0, :EXTRA_RAM].copy())

    def getRAMSize(self) -> int:
        return EXTRA_RAM

    def register(self, field: int) -> int:
        return int(self.env.machines.registers[0, field])


def filled(output: Array | None, content: Array) -> Array:
    """Raises ValueError unless `output` is a uint8 array of the content's size."""
    if output is None:
        return content
    if not isinstance(output, np.ndarray):
        raise TypeError(f"the output is a {type(output).__name__}; expected a NumPy array")
    if output.dtype != np.uint8 or output.size != content.size:
        raise ValueError(
            f"the output is {output.dtype} {output.shape}; expected uint8 {content.shape}"
        )
    output[...] = content.reshape(output.shape)
    return output
