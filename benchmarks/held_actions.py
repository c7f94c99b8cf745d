"""What play earns that holds one action all the time: is there a place where nothing happens?

    python benchmarks/held_actions.py defender

Four games of each action, of at most 6,000 agent steps: points and length.
"""

from __future__ import annotations

import argparse

import numpy as np

from atari2600 import AtariEnv, AtariVectorEnv, games

GAMES, STEPS = 4, 6000  # games of each action, agent steps of a game at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("game", choices=games.names(), metavar="game")
    game = parser.parse_args().game
    names = AtariEnv(game).get_action_meanings()
    actions = np.repeat(np.arange(len(names)), GAMES)
    envs = AtariVectorEnv(game, len(actions), reward_clipping=False, use_fire_reset=False)
    envs.reset(seed=1)
    points, lengths = np.zeros(len(actions)), np.zeros(len(actions))
    playing = np.ones(len(actions), bool)
    for _ in range(STEPS):
        _, rewards, terminated, truncated, _ = envs.step(actions)
        points += rewards * playing
        lengths += playing
        playing &= ~(terminated | truncated)
    for k, name in enumerate(names):
        own = slice(k * GAMES, (k + 1) * GAMES)
        ended = GAMES - int(playing[own].sum())
        print(
            f"{name}: {points[own].mean():,.0f} points in {lengths[own].mean():,.0f} agent steps, "
            f"{ended} of {GAMES} games ended"
        )


if __name__ == "__main__":
    main()
