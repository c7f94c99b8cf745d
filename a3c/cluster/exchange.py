"""What a node and the server tell each other. Knows nothing of Ray.

A node learns on its own store, as a single machine does, and now and then sends what has come of
it; the server adds that to its own vectors, and the node takes those back. With s the server's
vector when the node took it, n the node's now, k the node's updates since then, alpha
`rmsprop_decay`:

    parameters:  the node sends  d = n - s            the server does  S <- S + d
    square_avg:  the node sends  c = g - alpha^k s_g   the server does  G <- alpha^k G + c

So each update counts once on the server, and the average of squared gradients is what it would be
had the updates been applied there one after another. What the node has learned while the exchange
was under way is kept, in the same way, on top of what it takes back.

An average over many updates changes little from one exchange to the next, and costs as much to send
as the parameters: once it has a past it travels with one exchange in AVERAGE_EVERY.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from a3c.devices import ToHost
from a3c.metrics import Part
from a3c.shared import SharedParameters

Vector = NDArray[np.float32]  # [P]
AVERAGE_EVERY = 8  # exchanges
YOUNG = 0.01  # of the average's weight is still to come: it travels with every exchange


class Change(NamedTuple):
    """What a node has learned since it last sent."""

    parameters: Vector  # [P], difference
    agent_steps: int
    updates: int
    square_avg: Vector | None = None  # [P], what is added to the average
    averaged: int = 0  # updates that this is of

    def vectors(self) -> list[Vector]:
        """One or two."""
        return [self.parameters, *([] if self.square_avg is None else [self.square_avg])]

    def finite(self) -> bool:
        """Whether all of it is: NaN and infinity show in an extreme, and no copy is made."""
        extremes = [f(x) for x in self.vectors() for f in (np.min, np.max)]
        return bool(np.isfinite(extremes).all())

    def bytes(self) -> int:
        """Of the vectors."""
        return sum(vector.nbytes for vector in self.vectors())


class Sent(NamedTuple):
    """A node's word to the server."""

    node: int
    life: int  # of the server which the node knows, see Newest
    version: int
    change: Change
    metrics: Part
    number: int  # of the node's exchanges: what comes twice counts once


class Newest(NamedTuple):
    """The server's word to a node."""

    life: int  # another one after each start of the server
    version: int  # exchanges that it has applied; in sync mode averages of all nodes'
    agent_steps: int
    updates: int
    vectors: dict[str, Vector]  # as many as were sent; to one that joins all, the target as well
    pause: int  # in sync mode: the pause in which to stand still before the next rollout; or 0
    stop: bool  # in sync mode: end before the next rollout
    applied: tuple[int, float, float]  # in sync mode: updates before, learning rate, gradient norm


class Exchange:
    """A node's side. `store` is the node's; `known` what it has of the server."""

    def __init__(self, store: SharedParameters):
        self.store, self.decay = store, store.config.rmsprop_decay
        self.known = {name: vector.clone() for name, vector in vectors_of(store).items()}
        self.agent_steps, self.updates = store.agent_steps, store.updates
        self.life = self.version = 0
        self.exchanges = 0
        self.averaged = 0  # updates since the average was sent

    def new_updates(self) -> int:
        """That have not been sent."""
        return self.store.updates - self.updates

    def take(self, everything: bool = False) -> Change:
        """What is new; from here on that counts as sent. everything: the average in any case."""
        store = self.store
        self.exchanges += 1
        with store.exclusive():
            updates, agent_steps = self.new_updates(), store.agent_steps - self.agent_steps
            self.averaged += updates
            parameters, square_avg = self.take_parameters(), None
            averaged = self.averaged
            young = self.decay**store.updates > YOUNG
            if everything or young or self.exchanges % AVERAGE_EVERY == 0:
                square_avg = self.take_average()
            self.agent_steps, self.updates = store.agent_steps, store.updates
        if square_avg is None:
            return Change(parameters.read(), agent_steps, updates)
        return Change(parameters.read(), agent_steps, updates, square_avg.read(), averaged)

    def take_parameters(self) -> ToHost:
        """The difference [P], the lock held."""
        now, known = self.store.parameters, self.known["parameters"]
        sent = ToHost(now - known)
        known.copy_(now)
        return sent

    def take_average(self) -> ToHost:
        """What the updates since the last time add to it [P], the lock held."""
        now, known = vectors_of(self.store)["square_avg"], self.known["square_avg"]
        sent = ToHost(now - self.decay**self.averaged * known)
        known.copy_(now)
        self.averaged = 0
        return sent

    def merge(self, newest: Newest) -> None:
        """Take the server's vectors; what is new here stays on top of them."""
        store, known = self.store, self.known
        theirs = tensors_of(newest.vectors, self.store.device)
        with store.exclusive():
            kept = self.decay ** self.new_updates()
            now = vectors_of(store)
            now["parameters"].add_(theirs["parameters"] - known["parameters"])
            if "square_avg" in theirs:
                assert self.averaged == 0  # it was sent: the server answers in kind
                now["square_avg"].add_(theirs["square_avg"] - known["square_avg"], alpha=kept)
                now["square_avg"].clamp_min_(0)  # rounding may leave less, which has no root
            store.advance(newest.agent_steps - self.agent_steps, newest.updates - self.updates)
            self.note(newest, theirs)

    def restart(self, newest: Newest) -> None:
        """Take the server's vectors and counters; what was new here is lost."""
        theirs = tensors_of(newest.vectors, self.store.device)
        with self.store.exclusive():
            self.store.load(theirs, newest.agent_steps, newest.updates)
            self.averaged = 0
            self.note(newest, theirs)

    def note(self, newest: Newest, theirs: dict[str, Tensor]) -> None:
        """What is known of the server now."""
        for name in self.known.keys() & theirs.keys():
            self.known[name].copy_(theirs[name])
        self.agent_steps, self.updates = newest.agent_steps, newest.updates
        self.life, self.version = newest.life, newest.version


def tensors_of(vectors: dict[str, Vector], device: torch.device | None = None) -> dict[str, Tensor]:
    """Copies: Ray's memory cannot be written to, and a tensor's must be."""
    return {name: torch.tensor(vector, device=device) for name, vector in vectors.items()}


def vectors_of(store: SharedParameters) -> dict[str, Tensor]:
    """Those that are exchanged, [P] each."""
    return {"parameters": store.parameters, "square_avg": store.optimiser.save()["square_avg"]}


def apply(store: SharedParameters, change: Change) -> None:
    """The server's side, on a CPU: a node's updates, after those that are there.

    In NumPy, which reads Ray's memory where it is; a tensor would be a copy.
    """
    with store.exclusive():
        vectors = {name: vector.numpy() for name, vector in vectors_of(store).items()}
        vectors["parameters"] += change.parameters
        if change.square_avg is not None:
            vectors["square_avg"] *= store.config.rmsprop_decay**change.averaged
            vectors["square_avg"] += change.square_avg
            np.maximum(vectors["square_avg"], 0, out=vectors["square_avg"])  # as in merge
        store.advance(change.agent_steps, change.updates)
