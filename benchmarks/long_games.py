"""The mean return of whole games that may last longer than those of training, sampled.

    python benchmarks/long_games.py runs/latest                       # 400,000 emulator frames
    python benchmarks/long_games.py runs/latest --games 100 --frames 1000000

Gym's `NoFrameskip-v4` ids, which many published scores are of, end a game after 400,000 emulator
frames; ours ends after 108,000, which in a game like Atlantis is a quarter of the score.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

import a3c
from a3c.envs.atari import atari_options
from a3c.envs.names import atari_game
from a3c.errors import InputError
from atari2600 import AtariVectorEnv


def play(model: str, games: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths in agent steps, [N] each. Raises InputError for what is not Atari."""
    policy = a3c.load(model, "cpu")
    game = atari_game(policy.config.env)
    if game is None:
        raise InputError(f"{policy.config.env} is no Atari game")
    protocol = atari_options(policy.config) | {"max_num_frames_per_episode": frames}
    envs = AtariVectorEnv(game, games, **protocol)
    observations, _ = envs.reset(seed=1)
    returns, lengths, playing = np.zeros(games), np.zeros(games, int), np.ones(games, bool)
    while playing.any():
        observations, rewards, terminated, truncated, _ = envs.step(policy.act(observations))
        returns += rewards * playing
        lengths += playing
        playing &= ~(terminated | truncated)
    return returns, lengths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--games", type=int, default=10)
    parser.add_argument("--frames", type=int, default=400_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        returns, lengths = play(options.model, options.games, options.frames)
    except InputError as error:
        parser.error(str(error))
    print(f"mean return {returns.mean():,.0f} ± {returns.std():,.0f}, {options.games} games")
    print(f"mean length {lengths.mean():,.0f} agent steps, the longest {lengths.max():,}")


if __name__ == "__main__":
    main()
