"""Why a policy of Asteroids earns little: what it makes of its lives, beside play that is blind.

    python benchmarks/asteroids.py runs/latest

`discounted` is what learning maximises: signs of rewards, discounted by gamma, to the life's end.
`foreseen` is the policy's own value of it so many agent steps before a life is lost, beside what
came: where a death is seen, they are alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import a3c
from a3c.config import DEFAULTS
from a3c.envs.names import atari_game
from a3c.errors import InputError
from atari2600 import AtariEnv, AtariVectorEnv

AGENTS, STEPS, BEYOND = 32, 2600, 600  # those of the last BEYOND steps are not whole
BEFORE = (32, 8, 4, 2, 1)  # agent steps
GAMMA = DEFAULTS["gamma"]
Array = NDArray[Any]
Play = Callable[[int, Array], Array]  # step and observations -> actions [N]


def blind() -> dict[str, Play]:
    """Play that does not look."""
    random, names = np.random.default_rng(0), AtariEnv("asteroids").get_action_meanings()

    def one_of(*among: str) -> Play:
        return lambda t, _: random.choice([names.index(name) for name in among], AGENTS)

    def in_turn(*among: str) -> Play:
        return lambda t, _: np.full(AGENTS, names.index(among[t % len(among)]))

    return {
        "random": one_of(*names),
        "fire held": in_turn("RIGHTFIRE"),
        "turn, fire at every second step": in_turn("RIGHT", "RIGHTFIRE"),
        "turn, fire at random": one_of("RIGHT", "RIGHTFIRE"),
        "fly, turn, fire at random": one_of("RIGHT", "RIGHTFIRE", "UPRIGHT", "UPRIGHTFIRE"),
    }


def played(play: Play) -> tuple[Array, Array]:
    """Rewards and whether a life was lost, [T, N] each."""
    envs = AtariVectorEnv("asteroids", AGENTS, reward_clipping=False, life_loss_info=True)
    observations, _ = envs.reset(seed=1)
    rewards, lost = np.zeros((STEPS, AGENTS)), np.zeros((STEPS, AGENTS), bool)
    for t in range(STEPS):
        observations, rewards[t], terminated, truncated, _ = envs.step(play(t, observations))
        lost[t] = terminated | truncated
    return rewards, lost


def to_come(rewards: Array, lost: Array) -> Array:
    """What learning maximises, from each step on, [T, N]."""
    after, returns = np.zeros(rewards.shape[1]), np.zeros(rewards.shape)
    for t in reversed(range(len(rewards))):
        after = returns[t] = np.sign(rewards[t]) + GAMMA * np.where(lost[t], 0.0, after)
    return returns


def row(name: str, rewards: Array, lost: Array) -> str:
    """Points and rewards of an agent step, agent steps of a life, and what is learned from."""
    figures = f"{rewards.mean():.2f} | {np.sign(rewards).mean():.3f} | {lost.size / lost.sum():.0f}"
    return f"| {name} | {figures} | {to_come(rewards, lost)[:-BEYOND].mean():.2f} |"


def foreseen(values: Array, rewards: Array, lost: Array) -> Iterator[str]:
    """Means of values [T, N] before a life is lost, beside what came."""
    ends, agents = np.nonzero(lost[BEFORE[0] :])  # in steps from BEFORE[0]
    came = to_come(rewards, lost)
    yield f"foreseen: {values.mean():.2f} in the mean"
    for before in BEFORE:
        at = ends + BEFORE[0] - before + 1, agents
        yield f"{before:2d} before a life ends {values[at].mean():.2f}, came {came[at].mean():.2f}"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a run folder or a model file, of Asteroids")
    model = parser.parse_args().model
    torch.set_num_threads(1)
    try:
        policy = a3c.load(model, "cpu")
    except InputError as error:
        parser.error(str(error))
    values: list[Array] = []
    if atari_game(policy.config.env) != "asteroids":
        parser.error(f"{model} plays {policy.config.env}; expected a model of Asteroids")
    if policy.config.recurrent:
        parser.error(f"{model} has an LSTM, whose past is not known here; expected one without")

    def looking(t: int, observations: Array) -> Array:
        encoded = torch.from_numpy(policy.coding.encode(observations).copy())
        values.append(policy.network(encoded, None)[0][1].numpy())
        return policy.act(observations)

    print("| | points a step | rewards a step | steps a life | discounted |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, play in blind().items():
        print(row(name, *played(play)))
    rewards, lost = played(looking)
    print(row(model, rewards, lost))
    print(*foreseen(np.array(values), rewards, lost), sep="\n")


if __name__ == "__main__":
    main()
