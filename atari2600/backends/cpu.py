"""Many machines on CPU threads: one call moves a range of agents on without the GIL.

A call writes nothing but the rows of its own agents and its worker's scratch, so any number of
threads can be in it at once without a lock. `layer`, `view` and the translated code are only read.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atari2600 import agent, boot
from atari2600.ale import FIRE, LOAD_IS_COPY, Layer, full_strength
from atari2600.backends import kept, translate
from atari2600.backends.translate import HotCode
from atari2600.games import Game
from atari2600.state import Machines

Array = NDArray[Any]
RESET = -1  # in place of an action
WARM_UP_STEPS = 1_000  # agent steps that show which code is hot


def sources() -> str:
    """A checksum of this package's code."""
    files = sorted(Path(__file__).parents[1].rglob("[!.]*.py"))  # not an editor's
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@kept.compiled(sources())
def run(machines, layer, agents, view, scratch, ids, actions, seeds):  # type: ignore[no-untyped-def]
    """One agent step of each agent in `ids`, with its action as ale.py has it; or its reset.

    Where actions[k] is RESET, agent ids[k] starts an episode, with seeds[k] if that is not
    negative. One function does both since it compiles in half the time.
    """
    for k in range(ids.shape[0]):
        i, action = ids[k], actions[k]
        if action == RESET:
            agent.reset(machines, layer, agents, view, scratch, i, seeds[k])
        else:
            agent.step(machines, layer, agents, view, scratch, i, action)


def prepare(machines: Machines, layer: Layer, game: Game) -> HotCode:
    """Fill the layer's start state; returns the game's translated code, for workers' scratch.

    The first time it compiles the emulator, and translates the game.
    """
    kept.announce(run)
    fill_start(layer, game)
    constants, image = machines.constants, machines.image
    return translate.code_of(constants, image, game.md5, lambda code: warm_up(layer, game, code))


def fill_start(layer: Layer, game: Game) -> None:
    """Compute the layer's start state, on a machine of its own."""
    options = layer.options.copy()
    options[LOAD_IS_COPY] = 0
    machines = boot.machines_of(game, 1)
    booting, code = layer._replace(options=options), translate.nothing(machines.image)
    agents = play_alone(machines, booting, game, code, np.zeros(0, np.int64), fire=False)
    layer.generators[:] = agents.generators
    layer.registers[:], layer.ram[:] = machines.registers, machines.ram
    layer.words[:] = machines.words


def warm_up(layer: Layer, game: Game, code: HotCode) -> None:
    """Let a machine of its own play a little, so that `code.heat` tells which code is hot."""
    chosen = np.random.default_rng(0).choice(game.minimal_actions, WARM_UP_STEPS // 4)
    held, fire = full_strength(chosen).repeat(4), FIRE in game.minimal_actions
    play_alone(boot.machines_of(game, 1), layer, game, code, held, fire)


def play_alone(
    machines: Machines, layer: Layer, game: Game, code: HotCode, held: Array, fire: bool
) -> agent.Agents:
    """A reset and then these actions on a single machine, with nobody watching."""
    protocol = agent.protocol_of((4, 5), fire_reset=fire)
    view = agent.view_of(game, protocol, 1, 1, grayscale=True)
    agents = agent.agents_of(np.zeros((1, 0), np.uint8), view, game)
    shared = machines, layer, agents, view, agent.scratch_of(view, game, code)
    kept.call(run, *shared, *np.array([[0], [RESET], [0]]))
    run(*shared, np.zeros_like(held), held, held)
    return agents
