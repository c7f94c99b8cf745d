"""The machine against ale-py, frame by frame: all games interpreted, one of each kind translated.

benchmarks/exactness.py runs the same comparison for longer, always translated.
"""

from typing import Any

import pytest

from atari2600 import games
from atari2600.backends import translate
from benchmarks.exactness import compare

FRAMES = 600
# one game of each cartridge scheme, paddles, PAL, and unstable line counts
OF_EACH_KIND = ["breakout", "pong", "klax", "robotank", "pitfall2", "montezuma_revenge", "solaris"]


@pytest.mark.parametrize("game", games.names())
def test_interpreted_it_is_exact(game: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translate, "code_of", lambda _, image, *__: translate.nothing(image))
    outcome = compare(game, seed=1, frames=FRAMES)
    assert outcome.difference is None
    assert outcome.frames == FRAMES


@pytest.mark.parametrize("game", OF_EACH_KIND)
def test_translated_it_is_exact(game: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, code_of = [], translate.code_of

    def noted(*words: Any) -> translate.HotCode:
        made.append(code_of(*words))
        return made[-1]

    monkeypatch.setattr(translate, "code_of", noted)
    assert compare(game, seed=2, frames=2 * FRAMES).difference is None
    assert made
    assert all(code.address and code.starts.any() for code in made)


def test_sticky_actions_draw_as_the_oracle_does() -> None:
    assert compare("seaquest", seed=3, frames=FRAMES, sticky=0.25).difference is None


def test_a_difference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail."""
    from benchmarks import exactness

    def broken(self: Any, action: int) -> bool:
        ended = step(self, action)
        self.env.machines.ram[0, 5] ^= 1
        return ended

    step = exactness.Lockstep.step
    monkeypatch.setattr(exactness.Lockstep, "step", broken)
    difference = compare("pong", seed=1, frames=5).difference
    assert difference is not None
    assert "RAM" in difference
