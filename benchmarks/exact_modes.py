"""Lockstep with ale-py in every mode of every game, in all its difficulties.

    python benchmarks/exact_modes.py                     # all games, 600 frames of each setting
    python benchmarks/exact_modes.py --games pong --frames 5000

Each mode once, the difficulties dealt to them in turn; then the difficulties that are left, in the
last mode. Interpreted: to translate a game takes seconds, and its code is the same in every mode.
What is compared, and how: benchmarks/exactness.py, which plays default modes for longer.
Of all games it writes benchmarks/results/exact_modes.md.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent.parent))  # `benchmarks` is not installed

from a3c.run.files import write_whole
from atari2600 import games
from atari2600.backends import translate
from benchmarks.exactness import Outcome, compare, head

RESULTS = Path(__file__).parent / "results" / "exact_modes.md"
FRAMES = 600
Setting = tuple[int, int]  # mode, difficulty


def settings_of(name: str) -> list[Setting]:
    """Of a game: each of its modes and each of its difficulties at least once."""
    game = games.find(name)
    dealt = list(zip(game.modes, cycle(game.difficulties)))
    left = [each for each in game.difficulties if each not in {given for _, given in dealt}]
    return [*dealt, *((game.modes[-1], each) for each in left)]


def row(name: str, outcomes: dict[Setting, Outcome]) -> str:
    """One game's line of the table."""
    differences = [
        f"mode {mode}, difficulty {difficulty}, {outcome.difference}"
        for (mode, difficulty), outcome in outcomes.items()
        if outcome.difference
    ]
    frames, rewards = (
        sum(getattr(each, what) for each in outcomes.values()) for what in ("frames", "rewards")
    )
    verdict = "; ".join(differences) or "exact"
    return f"| {name} | {len(outcomes)} | {frames:,} | {rewards} | {verdict} |"


def report(rows: dict[str, str], settings: int, frames: int) -> str:
    """The page."""
    exact = sum(line.endswith("| exact |") for line in rows.values())
    lines = [
        *head("Exactness in every mode", "exact_modes.py"),
        f"{settings} settings of {len(rows)} games, {frames:,} frames of each.",
        "RAM (128 bytes), screen (all pixels), reward, lives and end of game against ale-py, at",
        "every frame, interpreted. Random actions held 1 to 16 frames.",
        "",
        f"**{exact} of {len(rows)} games exact.**",
        "",
        "| game | modes and difficulties | frames | frames with a reward | |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    return "\n".join([*lines, *rows.values(), ""])


def compared(name: str, frames: int) -> dict[Setting, Outcome]:
    """Every setting of a game."""
    with patch.object(translate, "code_of", lambda _, image, *__: translate.nothing(image)):
        return {setting: compare(name, 0, frames, setting=setting) for setting in settings_of(name)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    names = games.names()
    parser.add_argument("--games", nargs="*", choices=names, metavar="GAME", default=names)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    rows, settings = {}, 0
    with ProcessPoolExecutor(options.workers) as pool:
        futures = {name: pool.submit(compared, name, options.frames) for name in options.games}
        for name, future in futures.items():
            outcomes = future.result()
            rows[name] = row(name, outcomes)
            settings += len(outcomes)
            print(rows[name], flush=True)
    if list(rows) == names and options.frames >= FRAMES:  # a part is shown
        write_whole(RESULTS, report(rows, settings, options.frames))
        print(f"written to {RESULTS}")
    return int(any(not line.endswith("| exact |") for line in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
