"""An environment of your own: write the class, register it, name the module before the id.

    a3c train examples.custom_environment:Harbour-v0 --total-agent-steps 50000

`a3c` looks for the module from the current folder: in this one it is `custom_environment`.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

SIZE = 7
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # rows and columns: north, south, west, east


class Harbour(gymnasium.Env[Any, Any]):
    """A boat on a sea of 7 x 7 squares is to reach the middle; the wind may push it to the east.

    An observation is the number of the boat's square, an action a direction. Each step costs 1.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012
    observation_space = spaces.Discrete(SIZE * SIZE)
    action_space = spaces.Discrete(len(MOVES))

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode
        self.row, self.column = 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)  # makes self.np_random: draw from it alone, and a seed repeats
        self.row, self.column = self.np_random.integers(SIZE, size=2).tolist()
        return self.square(), {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        down, right = MOVES[action]
        wind = int(self.np_random.random() < 0.2)
        self.row = min(max(self.row + down, 0), SIZE - 1)
        self.column = min(max(self.column + right + wind, 0), SIZE - 1)
        arrived = self.row == self.column == SIZE // 2
        return self.square(), -1.0, arrived, False, {}

    def square(self) -> int:
        return self.row * SIZE + self.column

    def render(self) -> NDArray[np.uint8]:
        """The sea, the harbour, the boat: uint8 [112, 112, 3], for the films of `a3c play`."""
        picture = np.full((SIZE, SIZE, 3), (120, 180, 230), np.uint8)
        picture[SIZE // 2, SIZE // 2] = (240, 240, 240)
        picture[self.row, self.column] = (160, 40, 30)
        return picture.repeat(16, axis=0).repeat(16, axis=1)


# The time limit truncates an episode: its value goes on behind it, as if it had not been cut
gymnasium.register("Harbour-v0", f"{__name__}:Harbour", max_episode_steps=100)
