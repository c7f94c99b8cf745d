"""Agent steps per second of one core: atari2600, ale-py and EnvPool, in alternation in one run.

    python benchmarks/env_fps.py            # writes benchmarks/results/env_fps.md

64 agents, random actions, frame skip 4, 84x84 grey, four frames stacked, one worker. EnvPool is
measured where it is installed (1.0.1 goes with this project's NumPy; it is none of its
dependencies). The figures are medians over rounds; what counts is the ratio within
a round, because machines are noisy.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from ale_py.vector_env import AtariVectorEnv as AleVectorEnv
from gymnasium.spaces import Discrete

from a3c.run.provenance import commit, processor
from atari2600 import games
from atari2600.vector_env import AtariVectorEnv

RESULTS = Path(__file__).parent / "results" / "env_fps.md"
GAMES = ["asteroids", "beam_rider", "breakout", "enduro", "montezuma_revenge", "ms_pacman", "pong",
         "qbert", "seaquest", "space_invaders"]  # fmt: skip
AGENTS = 64
Step = Callable[[np.ndarray[Any, Any]], Any]


def ours(game: str) -> tuple[Step, int]:
    env = AtariVectorEnv(game, AGENTS, num_threads=1)
    env.reset(seed=0)
    return env.step, len(env.game.minimal_actions)


def ale(game: str) -> tuple[Step, int]:
    env = AleVectorEnv(game, AGENTS, num_threads=1)
    env.reset(seed=0)
    space = env.single_action_space
    assert isinstance(space, Discrete)
    return env.step, int(space.n)


def envpool(game: str) -> tuple[Step, int]:
    envpool = importlib.import_module("envpool")
    name = "".join(word.capitalize() for word in game.split("_")) + "-v5"
    env = envpool.make_gymnasium(name, num_envs=AGENTS, num_threads=1, seed=0)
    env.reset()
    return env.step, int(env.action_space.n)


def seconds_per_step(step: Step, actions: int, steps: int, random: np.random.Generator) -> float:
    """Of one agent."""
    chosen = random.integers(actions, size=(steps, AGENTS))
    start = time.perf_counter()
    for row in chosen:
        step(row)
    return (time.perf_counter() - start) / (steps * AGENTS)


def measure(game: str, rounds: int, steps: int) -> dict[str, list[float]]:
    """Agent steps per second of each emulator, round by round."""
    makers = {"atari2600": ours, "ale-py": ale}
    if importlib.util.find_spec("envpool"):
        makers["EnvPool"] = envpool
    made = {name: make(game) for name, make in makers.items()}
    random = np.random.default_rng(0)
    for step, actions in made.values():
        seconds_per_step(step, actions, 20, random)  # warm
    rates: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(rounds):
        for name, (step, actions) in made.items():
            rates[name].append(1 / seconds_per_step(step, actions, steps, random))
    return rates


def row(game: str, rates: dict[str, list[float]]) -> tuple[str, float]:
    """A game's line, and its ratio to ale-py: the median over rounds."""
    pairs = zip(rates["atari2600"], rates["ale-py"], strict=True)
    ratios = [a / b for a, b in pairs]
    ratio = statistics.median(ratios)
    cells = [f"{statistics.median(rates[name]):,.0f}" if name in rates else "not installed"
             for name in ("atari2600", "ale-py", "EnvPool")]  # fmt: skip
    spread = f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return f"| {game} | {' | '.join(cells)} | {spread} |", ratio


START = """
import time; start = time.perf_counter()
from atari2600.vector_env import AtariVectorEnv
imported = time.perf_counter()
import numpy
env = AtariVectorEnv("breakout", 8, num_threads=1)
env.reset(seed=0); env.step(numpy.zeros(8, int))
print(imported - start, time.perf_counter() - start)
"""


def start_times() -> list[str]:
    """Lines on import, first compilation and start from the cache, in processes of their own."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        for words in ("with nothing compiled yet", "from the cache on disk"):
            command = [sys.executable, "-c", START]
            output = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True
            )
            imported, stepped = (float(word) for word in output.stdout.split()[-2:])
            lines.append(
                f"- {words}: import {imported:.1f} s, import to first step {stepped:.1f} s"
            )
    return lines


def versions() -> str:
    """Of what is compared."""
    names = ["numba", "ale-py", *(["envpool"] if importlib.util.find_spec("envpool") else [])]
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def report(rows: list[str], ratios: list[float], starts: list[str]) -> str:
    command = " ".join(["python benchmarks/env_fps.py", *sys.argv[1:]])
    lines = [
        "# Agent steps per second of one core",
        "",
        f"`{command}`",
        "",
        f"Commit {commit()}; {os.cpu_count()} cores, {processor()}, "
        f"Python {platform.python_version()}, {versions()};",
        f"{AGENTS} agents, random actions, frame skip 4, 84x84 grey, stack of 4, one worker each.",
        "",
        f"**Median of the ratio to ale-py: {statistics.median(ratios):.2f};"
        f" least {min(ratios):.2f}, most {max(ratios):.2f}.**",
        "",
        "| game | atari2600 | ale-py | EnvPool | ratio to ale-py, median (range) over rounds |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
        "Start (Breakout):",
        "",
        *starts,
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--games", nargs="*", choices=games.names(), metavar="GAME", default=GAMES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=25)
    options = parser.parse_args()
    rows, ratios = [], []
    for game in options.games:
        line, ratio = row(game, measure(game, options.rounds, options.steps))
        print(line, flush=True)
        rows.append(line)
        ratios.append(ratio)
    print(f"median {statistics.median(ratios):.2f}, least {min(ratios):.2f}")
    if options == parser.parse_args([]):  # a part is no report
        RESULTS.write_text(report(rows, ratios, start_times()))
        print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
