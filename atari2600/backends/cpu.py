"""Many machines on CPU threads: one call moves a range of agents on without the GIL.

A call touches nothing but the rows of its own agents, what is never written (`layer`, `view`) and
its worker's scratch, so any number of threads can be in it at once without a lock.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from atari2600 import agent, boot, translate
from atari2600.ale import FIRE, LOAD_IS_COPY, Layer, full_strength
from atari2600.games import Game
from atari2600.state import Machines

Array = NDArray[Any]
RESET = -1  # in place of an action
WARM_UP_STEPS = 1_000  # agent steps that show which code is hot


@numba.njit(_nrt=False, nogil=True, cache=True)
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


def sources() -> str:
    """A checksum of this package's code."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


# Numba keeps `run` on the disk as long as this very file is unchanged; the code that it calls
# counts, too. (Numba has no public way to say so; the tests notice if this one ends.)
run._cache._cache_file._source_stamp = sources()


@functools.cache
def announce() -> None:
    """Say that a wait begins, if Numba is going to compile."""
    if not run.signatures and not run._cache._cache_file._load_index():
        print("atari2600: compiling the emulator, once; about a minute", file=sys.stderr)


def machines_of(game: Game, layer: Layer, num_machines: int) -> Machines:
    """N machines ready for their first reset. Computes the layer's start state, too."""
    announce()
    fill_start(layer, game)
    machines = boot.machines_of(game, num_machines)
    translate.install(machines, game.md5, lambda: warm_up(machines, layer, game))
    return machines


def fill_start(layer: Layer, game: Game) -> None:
    """Compute the layer's start state, on a machine of its own."""
    options = layer.options.copy()
    options[LOAD_IS_COPY] = 0
    machines = boot.machines_of(game, 1)
    nothing = np.zeros(0, np.int64)
    agents = play(machines, layer._replace(options=options), game, nothing, fire=False)
    layer.generators[:] = agents.generators
    layer.registers[:], layer.ram[:] = machines.registers, machines.ram
    layer.words[:] = machines.words


def warm_up(machines: Machines, layer: Layer, game: Game) -> None:
    """Let machine 0 play a little, so that `translate` learns which code is hot."""
    chosen = np.random.default_rng(0).choice(game.minimal_actions, WARM_UP_STEPS // 4)
    play(machines, layer, game, full_strength(chosen).repeat(4), fire=FIRE in game.minimal_actions)


def play(machines: Machines, layer: Layer, game: Game, held: Array, fire: bool) -> agent.Agents:
    """A reset and then these actions on machine 0, with nobody watching."""
    protocol = np.zeros(agent.PROTOCOL, np.int64)
    protocol[agent.SKIP_LOW], protocol[agent.SKIP_HIGH] = 4, 5
    protocol[agent.FIRE_RESET], protocol[agent.MAX_FRAMES] = fire, agent.NEVER
    view = agent.view_of(game, protocol, 1, 1, grayscale=True)
    agents = agent.agents_of(np.zeros((1, 0), np.uint8), view, game)
    shared = machines, layer, agents, view, agent.scratch_of(view, game)
    run(*shared, *np.array([[0], [RESET], [0]]))
    run(*shared, np.zeros_like(held), held, held)
    return agents
