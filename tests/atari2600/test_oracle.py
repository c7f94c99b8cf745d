"""The machine against ale-py, frame by frame: all games interpreted, one of each kind translated.

benchmarks/exactness.py runs the same comparison for longer, always translated.
"""

from typing import Any

import pytest

from atari2600 import cartridge, games
from atari2600.backends import translate
from benchmarks.exact_modes import settings_of
from benchmarks.exactness import Lockstep, compare

FRAMES = 600
# one game of each cartridge scheme, paddles, PAL, and unstable line counts
OF_EACH_KIND = [
    "breakout",
    "pong",
    "klax",
    "robotank",
    "pitfall2",
    "montezuma_revenge",
    "solaris",
    "ms_pacman",
    "seaquest",
    "elevator_action",
]


@pytest.mark.parametrize("game", games.names())
@pytest.mark.usefixtures("interpreted")
def test_interpreted_it_is_exact(game: str) -> None:
    outcome = compare(game, seed=1, frames=FRAMES)
    assert outcome.difference is None
    assert outcome.frames == FRAMES


@pytest.mark.parametrize("game", games.names())
@pytest.mark.usefixtures("interpreted")
def test_a_reset_in_the_middle_of_a_game_is_exact(game: str) -> None:
    """What RAM and the timer held before shows in some games after it (games.Game.start_varies)."""
    lockstep = Lockstep(game, seed=1)
    for frame in range(120):
        if frame % 40 == 37:
            lockstep.reset()
            assert lockstep.difference() is None, frame
        lockstep.step(frame % len(lockstep.env.game.minimal_actions))
        assert lockstep.difference() is None, frame


def test_there_is_one_of_each_kind() -> None:
    found = [games.find(game) for game in OF_EACH_KIND]
    assert {game.scheme for game in found} == set(cartridge.SCHEMES)
    assert any(game.paddles for game in found)
    assert any(game.pal for game in found)


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


@pytest.mark.parametrize(
    "game", [name for name in games.names() if len(games.find(name).modes) > 1]
)
@pytest.mark.usefixtures("interpreted")
def test_the_last_mode_and_the_highest_difficulty_are_exact(game: str) -> None:
    """benchmarks/exact_modes.py compares all of them."""
    modes, difficulties = games.find(game).modes, games.find(game).difficulties
    outcome = compare(game, seed=1, frames=60, setting=(modes[-1], difficulties[-1]))
    assert outcome.difference is None
    given_modes, given_difficulties = map(set, zip(*settings_of(game), strict=True))
    assert (given_modes, given_difficulties) == (set(modes), set(difficulties))


def test_sticky_actions_draw_as_the_oracle_does() -> None:
    assert compare("seaquest", seed=3, frames=FRAMES, sticky=0.25).difference is None


def test_a_difference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail."""

    def broken(self: Any, action: int) -> bool:
        ended = step(self, action)
        self.env.machines.ram[0, 5] ^= 1
        return ended

    step = Lockstep.step
    monkeypatch.setattr(Lockstep, "step", broken)
    difference = compare("pong", seed=1, frames=5).difference
    assert difference is not None
    assert "RAM" in difference
