"""A window that shows a game, for render_mode="human". It needs pygame."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from gymnasium import error
from numpy.typing import NDArray

FRAMES_PER_SECOND = 60
WIDE, HIGH = 4, 3  # screen pixels of a pixel: a television's are wider than high


class Window:
    """Opened by the first `show`, at the speed of a television.

    pygame has one display for a process: several windows show their games there in turn.
    """

    opened = 0  # of all

    def __init__(self, title: str):
        try:
            pygame = importlib.import_module("pygame")
        except ImportError as missing:
            raise error.DependencyNotInstalled(
                "render_mode is 'human', and the window needs pygame: pip install pygame, or "
                "render_mode='rgb_array'"
            ) from missing
        self.pygame: Any = pygame
        self.title = title
        self.surface: Any = None

    def show(self, picture: NDArray[np.uint8], frames: int) -> None:
        """Show a picture [H, W, 3] for as long as `frames` of the game last."""
        height, width, _ = picture.shape
        if self.surface is None:
            self.pygame.display.init()  # and no sound, as `pygame.init` would
            Window.opened += 1
            self.surface = self.pygame.display.set_mode((width * WIDE, height * HIGH))
            self.pygame.display.set_caption(self.title)
            self.clock = self.pygame.time.Clock()
        small = self.pygame.surfarray.make_surface(picture.swapaxes(0, 1))
        self.pygame.transform.scale(small, self.surface.get_size(), self.surface)
        self.pygame.event.pump()
        self.pygame.display.flip()
        self.clock.tick(FRAMES_PER_SECOND / max(frames, 1))

    def close(self) -> None:
        if self.surface is not None:
            self.surface = None
            Window.opened -= 1
            if not Window.opened:
                self.pygame.display.quit()
