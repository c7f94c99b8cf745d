"""Training on atari2600 and on ale-py: the same parameters bit for bit, and both rates.

    python benchmarks/both_emulators.py            # some minutes; writes results/both_emulators.md

One thread is reproducible from its seed, so if the emulators agree in every observation, reward and
end, what is learned on them is equal in every bit, and so are the learning curves. The rates are
those of the defaults with two threads, in alternation.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

import torch

from a3c.presets import preset
from a3c.run import checkpoint, log
from a3c.run.provenance import commit, processor
from a3c.train import train
from atari2600 import games

RESULTS = Path(__file__).parent / "results" / "both_emulators.md"
EMULATORS = ("atari2600", "ale")
GAMES = ["breakout", "pong", "seaquest"]


def learned(game: str, emulator: str, agent_steps: int) -> tuple[torch.Tensor, list[float]]:
    """Parameters [P] and the returns of all games after one thread's training."""
    with tempfile.TemporaryDirectory() as scratch:
        config = preset("fast", env=game, emulator=emulator, num_threads=1, runs_dir=scratch,
                        total_agent_steps=agent_steps, device="cpu")  # fmt: skip
        folder = train(config, quiet=True).folder
        records = log.read(folder / "metrics.jsonl")
        returns = [value for record in records for value in record["returns"]]
        return checkpoint.newest(folder).checkpoint.tensors["parameters"], returns


def rate(game: str, emulator: str, agent_steps: int) -> float:
    """Agent steps per second of the defaults with two threads, learning included."""
    with tempfile.TemporaryDirectory() as scratch:
        config = preset("fast", env=game, emulator=emulator, num_threads=2, runs_dir=scratch,
                        total_agent_steps=agent_steps, device="cpu")  # fmt: skip
        last = log.read(train(config, quiet=True).folder / "metrics.jsonl")[-1]
        return last["agent_steps"] / last["seconds"]


def sameness(game: str, agent_steps: int) -> str:
    """One row: whether the two learn the same."""
    (ours, games), (theirs, their_games) = (learned(game, e, agent_steps) for e in EMULATORS)
    verdict = "equal" if torch.equal(ours, theirs) and games == their_games else "DIFFERENT"
    return f"| {game} | {agent_steps:,} | {len(games)} | {len(ours):,} | {verdict} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--games", nargs="*", choices=games.names(), metavar="GAME", default=GAMES)
    parser.add_argument("--agent-steps", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = [sameness(game, options.agent_steps) for game in options.games]
    print("\n".join(rows), flush=True)
    rates: dict[str, list[float]] = {emulator: [] for emulator in EMULATORS}
    for _ in range(options.rounds):
        for emulator, found in rates.items():
            found.append(rate("breakout", emulator, 2 * options.agent_steps))
            print(emulator, f"{found[-1]:,.0f}", flush=True)
    ratios = [ours / theirs for ours, theirs in zip(*rates.values(), strict=True)]
    lines = [
        "# Training on both emulators",
        "",
        " ".join(["`python benchmarks/both_emulators.py", *sys.argv[1:]]) + "`",
        "",
        f"Commit {commit()}; {os.cpu_count()} cores, {processor()}, "
        f"Python {platform.python_version()}.",
        "",
        "One thread of 16 agents, the defaults otherwise: parameters and all returns, bit for bit.",
        "",
        "| game | agent steps | games ended | parameters | |",
        "| --- | ---: | ---: | ---: | --- |",
        *rows,
        "",
        "Agent steps per second of `a3c train breakout --num-threads 2`, learning included, in "
        "alternation:",
        "",
        "| emulator | median | range |",
        "| --- | ---: | --- |",
        *(
            f"| {name} | {statistics.median(found):,.0f} | {min(found):,.0f} to {max(found):,.0f} |"
            for name, found in rates.items()
        ),
        "",
        f"Ratio within a round, median: {statistics.median(ratios):.2f}"
        f" ({min(ratios):.2f} to {max(ratios):.2f}).",
        "",
    ]
    print("\n".join(lines))
    if options == parser.parse_args([]):  # a part is no report
        RESULTS.write_text("\n".join(lines))
        print(f"written to {RESULTS}")
    return int(any("DIFFERENT" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
