"""The machine against ale-py, frame by frame: all games interpreted, one of each kind translated.

benchmarks/exactness.py runs the same comparison for longer, always translated.
"""

from typing import Any

import pytest

from atari2600 import games
from atari2600.backends import translate
from benchmarks.exact_modes import settings_of
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


# modes by SELECT, by a menu, by difficulty switches; many of them, and numbers with gaps
OF_MANY_MODES = [
    "ms_pacman",
    "adventure",
    "video_checkers",
    "space_invaders",
    "double_dunk",
    "demon_attack",  # whose last mode begins with a game that is over
]


@pytest.mark.parametrize("game", OF_MANY_MODES)
def test_the_last_mode_and_the_highest_difficulty_are_exact(
    game: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """benchmarks/exact_modes.py compares all of them."""
    monkeypatch.setattr(translate, "code_of", lambda _, image, *__: translate.nothing(image))
    modes, difficulties = games.find(game).modes, games.find(game).difficulties
    outcome = compare(game, seed=1, frames=60, setting=(modes[-1], difficulties[-1]))
    assert outcome.difference is None
    given_modes, given_difficulties = map(set, zip(*settings_of(game), strict=True))
    assert (given_modes, given_difficulties) == (set(modes), set(difficulties))


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
