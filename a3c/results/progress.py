"""A sign of life of what takes long: a line that changes on a terminal, else one now and then."""

from __future__ import annotations

import time
from contextlib import suppress

from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from a3c.run.terminal import PLAIN_EVERY_SECONDS, Screen

REDRAWN_EVERY_SECONDS = 0.25


class Progress:
    """Context manager around what takes long. A quiet console stays quiet."""

    def __init__(self, console: Screen):
        self.console = console
        shown = console.redraws
        self.live = Live(console=console, auto_refresh=False, transient=True) if shown else None
        self.every_seconds = REDRAWN_EVERY_SECONDS if shown else PLAIN_EVERY_SECONDS
        self.next = time.monotonic() + self.every_seconds

    def __enter__(self) -> Progress:
        if self.live is not None:
            self.console.show(self.live.start)
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            with suppress(OSError, ValueError):  # it gives back stdout in any case
                self.live.stop()

    def status(self, line: str) -> None:
        """How far it has come; it may be called at every step."""
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + self.every_seconds
        if (live := self.live) is not None:
            self.console.show(lambda: live.update(Text(line), refresh=True))
        else:
            self.say(line)

    def say(self, line: RenderableType) -> None:
        """One plain line, or a table, that stays."""
        wraps = isinstance(line, str)
        self.console.show(lambda: self.console.print(line, soft_wrap=wraps))
