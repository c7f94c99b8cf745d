"""How many units behind the convolutions a policy has lost: 0 in every state that it visits.

    python benchmarks/dead_units.py beam_rider runs/latest

Takes games whose models ship, model files, runs. The policy plays, sampled.
"""

from __future__ import annotations

import argparse

import torch

import a3c
from a3c.envs.atari import atari_options
from a3c.envs.names import atari_game
from a3c.errors import InputError
from atari2600 import AtariVectorEnv

AGENTS, STEPS, BURN_IN = 64, 400, 100


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    torch.set_num_threads(1)
    for name in parser.parse_args().models:
        try:
            policy = a3c.load(name, "cpu")
        except InputError as error:
            parser.error(str(error))
        game = atari_game(policy.config.env)
        if game is None:
            parser.error(f"{name} plays {policy.config.env}; expected an Atari game")
        (torso,) = policy.network.torsos
        envs = AtariVectorEnv(game, num_envs=AGENTS, **atari_options(policy.config))
        observations, _ = envs.reset(seed=1)
        active = torch.zeros(torso.width, dtype=torch.bool)
        shares = torch.zeros(torso.width)  # of the states in which each unit is not 0
        for step in range(BURN_IN + STEPS):
            if step >= BURN_IN:
                pixels = torch.from_numpy(policy.coding.encode(observations).copy())
                seen = torso(pixels) > 0  # [N, width]
                active |= seen.any(0)
                shares += seen.float().mean(0) / STEPS
            observations, *_ = envs.step(policy.act(observations))
        print(
            f"{name}: {int((~active).sum())} of {torso.width} units are always 0, "
            f"{int((shares > 0.99).sum())} hardly ever"
        )


if __name__ == "__main__":
    main()
