"""Lockstep with ale-py: RAM, screen, reward, lives and end of game, at every frame of every game.

    python benchmarks/exactness.py                     # all games x 5 seeds x 20,000 frames
    python benchmarks/exactness.py --games pong qbert --frames 2000
    python benchmarks/exactness.py --resume            # leave out games that the table has already

Random actions of the game's minimal set, each held for 1 to 16 frames; ended games are reset. Hot
code is translated, as for users; unlike for them, every frame is drawn. Of all games, or with
`--resume`, it writes benchmarks/results/exactness.md, game by game; `--resume` takes over the rows
of a table that was made of the same emulator (a digest of its source stands in it), the same number
of seeds and of frames.
tests/atari2600/test_oracle.py runs the same comparison for a shorter time.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ale_py import Action, ALEInterface, LoggerMode, roms

from a3c.run.files import write_whole
from a3c.run.provenance import processor
from atari2600 import games
from atari2600.state import BUFFER, EXTRA_RAM, OVER
from atari2600.vector_env import AtariVectorEnv

PACKAGE = Path(games.__file__).parent
RESULTS = Path(__file__).parent / "results" / "exactness.md"
SEEDS, FRAMES = 5, 20_000  # of each game, of each seed


class Outcome(NamedTuple):
    """What came of one game with one seed."""

    game: str
    seed: int
    frames: int  # compared
    resets: int
    rewards: int  # frames with a reward
    difference: str | None  # the first one


class Lockstep:
    """A game on ale-py and on atari2600, with the same seed and the same actions.

    setting: mode and difficulty, in place of its default ones.
    """

    def __init__(
        self,
        game: str,
        seed: int,
        sticky: float = 0.0,
        rom: Path | None = None,
        setting: tuple[int, int] | None = None,
    ):
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.ale = ALEInterface()
        self.ale.setFloat("repeat_action_probability", sticky)
        self.ale.setInt("random_seed", seed)
        rom = rom or roms.get_rom_path(game)
        assert rom is not None
        self.ale.loadROM(rom)
        mode, difficulty = setting or (None, None)
        if setting is not None:
            self.ale.setMode(setting[0])
            self.ale.setDifficulty(setting[1])
        self.ale.reset_game()
        self.env = AtariVectorEnv(
            game, 1, num_threads=1, frameskip=1, repeat_action_probability=sticky, noop_max=0,
            use_fire_reset=False, reward_clipping=False, stack_num=1, img_height=1, img_width=1,
            mode=mode, difficulty=difficulty,
        )  # fmt: skip
        self.lives = int(self.env.reset(seed=seed)[1]["lives"][0])
        self.reward, self.ended, self.over = 0, False, self.begins_over()
        self.ale_reward = 0

    def begins_over(self) -> bool:
        """Whether a new game is over, by ALE's rules: so begin three modes of Demon Attack. A reset
        says nothing of it, the next step does."""
        return bool(self.env.machines.registers[0, OVER])

    def step(self, action: int) -> bool:
        """One frame on both, or the reset of an ended game; returns whether it was a reset."""
        ended = self.ended
        if ended:
            self.ale.reset_game()
            self.ale_reward = 0
        else:
            self.ale_reward = int(self.ale.act(Action(self.env.game.minimal_actions[action])))
        _, rewards, terminated, _, info = self.env.step(np.array([action]))
        self.reward, self.ended = int(rewards[0]), bool(terminated[0])
        self.over = self.begins_over() if ended else self.ended
        self.lives = int(info["lives"][0])
        return ended

    def reset(self) -> None:
        """Give up the game that is played, on both."""
        self.ale.reset_game()
        self.lives = int(self.env.reset()[1]["lives"][0])
        self.ale_reward = self.reward = 0
        self.ended, self.over = False, self.begins_over()

    def difference(self) -> str | None:
        """The first thing in which the two differ now."""
        machines = self.env.machines
        screen = machines.screens[0, machines.registers[0, BUFFER]]
        for name, theirs, ours in (
            ("RAM", self.ale.getRAM()[:EXTRA_RAM], machines.ram[0, :EXTRA_RAM]),
            ("screen", self.ale.getScreen().reshape(-1), screen),
        ):
            if theirs.tobytes() != ours.tobytes():
                return f"{name} differs at {np.flatnonzero(theirs != ours)[:5].tolist()}"
        for name, expected, found in (
            ("reward", self.ale_reward, self.reward),
            ("lives", self.ale.lives(), self.lives),
            ("end", self.ale.game_over(with_truncation=False), self.over),
        ):
            if expected != found:
                return f"{name} is {found}, not {expected}"
        return None


def compare(
    game: str,
    seed: int,
    frames: int,
    sticky: float = 0.0,
    setting: tuple[int, int] | None = None,
) -> Outcome:
    """Compare at the start and at every frame, up to the first difference."""
    lockstep = Lockstep(game, seed, sticky, setting=setting)
    random = np.random.default_rng(seed)
    actions = len(lockstep.env.game.minimal_actions)
    action, held, resets, rewards = 0, 0, 0, 0
    for frame in range(frames + 1):
        difference = lockstep.difference()
        if difference is not None:
            return Outcome(game, seed, frame, resets, rewards, f"frame {frame}: {difference}")
        if held == 0:
            action, held = int(random.integers(actions)), int(random.integers(1, 17))
        held -= 1
        resets += lockstep.step(action)
        rewards += lockstep.reward != 0
    return Outcome(game, seed, frames, resets, rewards, None)


def row(game: str, outcomes: list[Outcome]) -> str:
    """One game's line of the table."""
    differences = [f"seed {o.seed}, {o.difference}" for o in outcomes if o.difference]
    verdict = "exact" if not differences else "; ".join(differences)
    frames, resets = sum(o.frames for o in outcomes), sum(o.resets for o in outcomes)
    rewards = sum(o.rewards for o in outcomes)
    return f"| {game} | {frames:,} | {resets} | {rewards} | {verdict} |"


def source() -> str:
    """A digest of the emulator's code, without comments and docstrings, and of its table."""
    texts = [code_of(path) for path in sorted(PACKAGE.rglob("*.py"))]
    texts += [path.read_text() for path in sorted(PACKAGE.glob("*.json"))]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def code_of(path: Path) -> str:
    """A module as Python reads it: without what changes nothing."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body[0] = ast.Pass()
    return ast.unparse(tree)


def extent(seeds: int, frames: int) -> str:
    """How much of each game is compared, in the page's words."""
    return f"{seeds} seeds, {frames:,} frames each."


def rows_before(seeds: int, frames: int) -> dict[str, str]:
    """The exact rows of the table so far, if they are of this emulator and as many seeds and
    frames."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    if not {f"Emulator: source {source()}.", extent(seeds, frames)} <= set(lines):
        return {}
    rows = [line for line in lines if line.endswith("| exact |")]
    return {line.split("|")[1].strip(): line for line in rows}


def head(title: str, script: str) -> list[str]:
    """A page's first lines: the command, the machine, the emulator."""
    return [
        f"# {title}",
        "",
        f"`{' '.join([f'python benchmarks/{script}', *sys.argv[1:]])}`",
        "",
        f"{processor()}, Python {platform.python_version()}.",
        f"Emulator: source {source()}.",
    ]


def report(rows: dict[str, str], seeds: int, frames: int) -> str:
    """The page."""
    exact = sum(line.endswith("| exact |") for line in rows.values())
    lines = [
        *head("Exactness", "exactness.py"),
        extent(seeds, frames),
        "RAM (128 bytes), screen (all pixels), reward, lives and end of game against ale-py, at",
        "every frame, through ends of games and resets. Random actions held 1 to 16 frames.",
        "",
        f"**{exact} of {len(rows)} games exact.**",
        "",
        "| game | frames | resets | frames with a reward | |",
        "| --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*lines, *(rows[game] for game in sorted(rows)), ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    names = games.names()
    parser.add_argument("--games", nargs="*", choices=names, metavar="GAME", default=names)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    rows = rows_before(options.seeds, options.frames) if options.resume else {}
    whole = all(name in [*options.games, *rows] for name in games.names())
    keeps = whole and options.seeds >= SEEDS and options.frames >= FRAMES  # a part is shown
    with ProcessPoolExecutor(options.workers) as pool:
        futures = {
            game: [
                pool.submit(compare, game, seed, options.frames) for seed in range(options.seeds)
            ]
            for game in options.games
            if game not in rows
        }
        for game, started in futures.items():
            rows[game] = row(game, [future.result() for future in started])
            print(rows[game], flush=True)
            if keeps:
                write_whole(RESULTS, report(rows, options.seeds, options.frames))
    if keeps:
        print(f"written to {RESULTS}")
    return int(any(not line.endswith("| exact |") for line in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
