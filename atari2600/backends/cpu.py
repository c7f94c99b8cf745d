"""Many machines on CPU threads: one call moves a range of agents on without the GIL.

A call touches nothing but the rows of its own agents, what is never written (`layer`, `view`) and
its worker's scratch, so any number of threads can be in it at once without a lock.
"""

from __future__ import annotations

import numba
import numpy as np

from atari2600 import agent, boot
from atari2600.ale import LOAD_IS_COPY, Layer
from atari2600.games import Game

RESET = -1  # in place of an action


@numba.njit(_nrt=False, nogil=True, cache=True)
def run(machines, layer, agents, view, scratch, ids, actions, values):  # type: ignore[no-untyped-def]
    """One agent step, or reset, of each agent in `ids`.

    actions[k] and values[k] belong to agent ids[k]: an action and what a frame of it turns a paddle
    by; or RESET and a seed, negative for none. One function for both: it compiles in half the time.
    """
    for k in range(ids.shape[0]):
        i, action, value = ids[k], actions[k], values[k]
        if action == RESET:
            agent.reset(machines, layer, agents, view, scratch, i, value)
        else:
            agent.step(machines, layer, agents, view, scratch, i, action, value)


def fill_start(layer: Layer, game: Game) -> None:
    """Compute the layer's start state, on a machine of its own."""
    options = layer.options.copy()
    options[LOAD_IS_COPY] = 0
    protocol = np.zeros(agent.PROTOCOL, np.int64)
    view = agent.view_of(game, protocol, 1, 1, grayscale=True)
    agents = agent.agents_of(np.zeros((1, 0), np.uint8), view, game)
    machines = boot.machines_of(game, 1)
    scratch = agent.scratch_of(view, game)
    first, action, seed = np.array([[0], [RESET], [0]])
    run(machines, layer._replace(options=options), agents, view, scratch, first, action, seed)
    layer.generators[:] = agents.generators
    layer.registers[:], layer.ram[:] = machines.registers, machines.ram
    layer.words[:] = machines.words
