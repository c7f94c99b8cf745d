"""Many machines on CPU threads: one call steps a range of agents without the GIL.

A call touches nothing but the rows of its own agents, what is never written (`layer`, `view`) and
its worker's scratch, so any number of threads can be in it at once without a lock.
"""

from __future__ import annotations

import numba

from atari2600 import agent


@numba.njit(_nrt=False, nogil=True, cache=True)
def step(machines, layer, agents, view, scratch, ids, actions, deltas):  # type: ignore[no-untyped-def]
    """One agent step of each agent in `ids`, with actions[k] and paddle deltas[k] for ids[k]."""
    for k in range(ids.shape[0]):
        agent.step(machines, layer, agents, view, scratch, ids[k], actions[k], deltas[k])


@numba.njit(_nrt=False, nogil=True, cache=True)
def reset(machines, layer, agents, view, scratch, ids, seeds):  # type: ignore[no-untyped-def]
    """A new episode of each agent in `ids`; seeds[k] < 0 goes on with the old generators."""
    for k in range(ids.shape[0]):
        agent.reset(machines, layer, agents, view, scratch, ids[k], seeds[k])
