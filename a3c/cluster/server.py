"""The server of a cluster holds the store that its nodes share; cluster.py makes it a Ray actor.

Its methods are coroutines of one thread: between two `await` nobody else is at work, so nobody
here ever waits for a lock. Only sync mode awaits anything: the other nodes' gradients, and the end
of their rollouts.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from a3c.cluster.exchange import Newest, Sent, Vector, apply, tensors_of, vectors_of
from a3c.config import Config
from a3c.metrics import Part
from a3c.optimiser import Piece
from a3c.shared import SharedParameters

Gradients = NDArray[np.float32]  # [threads, P] of a node, in their order


class Refused(NamedTuple):
    """Why a node may not go on."""

    reason: str


class NotReady(NamedTuple):
    """The server has been started again, and has not got its parameters yet."""


class HandedIn(NamedTuple):
    """A node's word in sync mode."""

    node: int
    life: int  # of the server whose parameters they are of
    version: int
    gradients: Gradients
    agent_steps: int
    metrics: Part
    ends: bool  # the last update of its threads' rollouts
    number: int  # of the node's words


class ToEvaluate(NamedTuple):
    """The parameters [P] as they are to be evaluated, and the counters before and with them."""

    agent_steps_before: int
    agent_steps: int
    updates: int
    parameters: Vector


class Contribution(NamedTuple):
    """What a node has sent since the server began."""

    agent_steps: int = 0
    exchanges: int = 0
    bytes: int = 0  # both ways
    lag: int = 0  # sum over its exchanges


class Standing(enum.Enum):
    """Of a node; read in sync mode alone."""

    UNKNOWN = enum.auto()  # it has not said a word to this server
    STRAY = enum.auto()  # a server before this one knew it: it trains alone to its rollouts' end
    JOINS = enum.auto()  # its process is new, and waits for the end of the others' rollouts
    MEMBER = enum.auto()  # each round waits for it
    LEFT = enum.auto()  # it has ended or died, and has not joined again


@dataclass
class Known:
    """What the server knows of a node."""

    standing: Standing = Standing.UNKNOWN
    awaited: bool = False  # in sync mode: the first round does not begin without it
    new: bool = False  # it has not contributed since it joined, or heard of this server
    # Number of its last exchange; in sync mode of the word with which, a stray, it met the others
    heard: int | None = None
    contribution: Contribution = field(default_factory=Contribution)


class Status(NamedTuple):
    """What the command that trains asks for, again and again."""

    life: int  # of the server: another one once it was started again; benchmarks/cluster.py counts
    ready: bool
    agent_steps: int
    updates: int
    metrics: list[Part]  # since the last time
    seen: list[ToEvaluate]  # since the last time
    nodes: dict[int, Contribution]
    arrived: list[int]  # nodes that joined and have contributed since, since the last time


class Server:
    """`layout` as SharedParameters has them; `load` brings the vectors.

    What Ray needs to start it again is small, so Ray keeps it.
    """

    def __init__(self, config: Config, layout: list[Piece], target_every_agent_steps: int):
        torch.set_num_threads(1)
        self.config = config
        self.life = time.time_ns()
        self.store = SharedParameters(
            torch.zeros(sum(piece.size for piece in layout)),
            layout,
            config,
            target_every_agent_steps=target_every_agent_steps,
        )
        self.store.in_update = self.copy_if_due
        self.ready = self.stopping = False
        self.pausing = 0  # the number of the pause; 0 for none
        self.version = 0
        self.applied = 0, 0.0, 0.0
        self.metrics: list[Part] = []
        self.seen: list[ToEvaluate] = []
        self.nodes: defaultdict[int, Known] = defaultdict(Known)
        self.arrived: list[int] = []
        self.round: dict[int, HandedIn] = {}
        self.round_over = asyncio.Event()
        self.between = True  # no member is amid rollouts: the last round was the last one of them
        self.outcome: Newest  # of the last round

    def members(self) -> set[int]:
        """In sync mode those that a round waits for."""
        return {node for node, known in self.nodes.items() if known.standing is Standing.MEMBER}

    def awaits(self) -> bool:
        """Whether the first round is still to begin, and not all are there."""
        return any(known.awaited for known in self.nodes.values())

    def copy_if_due(self, before: int) -> None:
        """Copy the parameters where they are to be evaluated, as Evaluator.copy_if_due does."""
        store = self.store
        if store.to_be_evaluated(before):
            parameters = store.parameters.numpy().copy()
            self.seen.append(ToEvaluate(before, store.agent_steps, store.updates, parameters))

    async def load(
        self, vectors: dict[str, Vector], agent_steps: int, updates: int, nodes: set[int]
    ) -> int:
        """Begin, or go on from a checkpoint, in sync mode with these nodes; the server's life."""
        self.store.load(tensors_of(vectors), agent_steps, updates)
        if self.config.mode == "sync":
            for node in nodes:
                self.nodes[node].awaited = True
        self.ready = True
        return self.life

    async def exchange(self, sent: Sent) -> Newest | Refused | NotReady:
        """Add what a node has learned; what is newest then.

        Of a node that knows another life of the server it is lost: that had parameters that are
        gone. It finds out by `life`, and takes all of the answer.
        """
        if not self.ready:
            return NotReady()
        if not sent.change.finite():
            return Refused("what it has learned is not finite")
        known = self.nodes[sent.node]
        if sent.life != self.life:
            known.new = True
            return self.newest(joins=True)
        if known.heard != sent.number:  # the answer may have been lost on its way
            known.heard = sent.number
            self.add(sent)
        return self.newest(average=sent.change.square_avg is not None)

    def add(self, sent: Sent) -> None:
        """What a node has learned, once."""
        self.count(sent.node, sent.change.agent_steps, 2 * sent.change.bytes(), self.lag_of(sent))
        self.metrics.append(sent.metrics)
        apply(self.store, sent.change)
        self.version += 1

    def lag_of(self, sent: Sent) -> int:
        """Exchanges of others between what a node began with and now."""
        return self.version - sent.version

    def count(self, node: int, agent_steps: int, size: int, lag: int) -> None:
        """Of one exchange."""
        known, more = self.nodes[node], (agent_steps, 1, size, lag)
        sums = (a + b for a, b in zip(known.contribution, more, strict=True))
        known.contribution = Contribution(*sums)
        if known.new:
            known.new = False
            self.arrived.append(node)

    async def join(self, node: int) -> Newest | NotReady:
        """All that a node needs to begin; in sync mode the next round waits for it too."""
        if not self.ready:
            return NotReady()
        known = self.nodes[node]
        if known.standing is Standing.MEMBER and not self.between:  # it had died, or was cut off
            await self.leave(node)
        known.standing, known.new = Standing.JOINS, True
        if self.config.mode == "sync" and not await self.meet(known):
            return NotReady()
        known.heard = None  # a new process counts anew
        return self.newest(joins=True)

    async def meet(self, known: Known) -> bool:
        """Wait until the others' rollouts have ended, to begin the next ones together with them:
        all stand still after the same round and between two rollouts.

        False where nobody waits for the node any more: the others end, or it has died.
        """
        awaited, known.awaited = known.awaited, False
        if awaited and not self.awaits():
            self.end_round()
        while self.awaits() or not self.between:
            await self.round_over.wait()
        if known.standing is Standing.LEFT or (self.stopping and not awaited):
            return False
        known.standing = Standing.MEMBER
        return True

    async def leave(self, node: int) -> None:
        """Nobody waits for this node any more; what it has sent before is no sign of a new one."""
        known = self.nodes[node]
        known.standing, known.awaited, known.new = Standing.LEFT, False, False
        self.arrived = [each for each in self.arrived if each != node]
        self.round.pop(node, None)
        self.finish_round()
        if not self.members():  # nor do those that join wait for anybody who trains
            self.between = True
            self.end_round()

    async def hand_in(self, given: HandedIn) -> Newest | Refused | NotReady:
        """Sync mode: the gradients of a node's threads; waits for those of all others."""
        if not self.ready:
            return NotReady()
        known = self.nodes[given.node]
        again = given.number == known.heard  # the answer was lost on its way
        if known.standing is Standing.LEFT:
            return Refused("the others had gone on without it")
        if again or given.life != self.life or known.standing is Standing.STRAY:
            return await self.go_on_alone(given, known)
        if known.standing is not Standing.MEMBER:
            return Refused("the others had gone on without it")
        if not np.isfinite(given.gradients).all():
            return Refused("its gradient is not finite")
        if given.version != self.version:  # the answer was lost on its way
            return self.outcome
        self.round[given.node] = given
        over = self.round_over
        self.finish_round()
        await over.wait()
        return self.outcome

    async def go_on_alone(self, given: HandedIn, known: Known) -> Newest:
        """For a node that a server before this one knew: what is newest, and nobody waits for it
        until its rollouts have ended. Of two such nodes one may have had an answer that the other
        had not: in step they would never again be, and so never stand still together.
        """
        if known.standing is not Standing.MEMBER:
            known.standing, known.new = Standing.STRAY, True
            if given.ends:
                known.heard = given.number
                await self.meet(known)
        return self.newest(joins=True)._replace(pause=0)  # it pauses with the others

    def finish_round(self) -> None:
        """Apply the average once all are there."""
        if not self.round or not self.members() <= self.round.keys():
            return
        given = [self.round[node] for node in sorted(self.round)]
        gradients = torch.from_numpy(np.concatenate([each.gradients for each in given]))
        with self.store.exclusive():
            before, lr = self.store.apply_average(gradients, sum(g.agent_steps for g in given))
        self.applied = before, lr, float(self.store.norm_of_mean)
        self.version += 1
        self.between = all(each.ends for each in given)
        for each in given:
            size = each.gradients.nbytes + self.store.parameters.nbytes
            self.count(each.node, each.agent_steps, size, 0)
            self.metrics.append(each.metrics)
        self.end_round()

    def end_round(self) -> None:
        """Let all go on who wait for it. The same answer to each: all pause, or none does."""
        self.round, self.outcome = {}, self.newest()
        self.round_over.set()
        self.round_over = asyncio.Event()

    def newest(self, joins: bool = False, average: bool = False) -> Newest:
        """Copies, since the answer leaves when others have gone on."""
        store = self.store
        vectors: dict[str, Tensor] = {"parameters": store.parameters}
        if joins:
            vectors = store.save()
        elif average:
            vectors = vectors_of(store)
        return Newest(
            self.life,
            self.version,
            store.agent_steps,
            store.updates,
            {name: vector.numpy().copy() for name, vector in vectors.items()},
            self.pausing,
            self.stopping,
            self.applied,
        )

    async def save(self) -> Newest | NotReady:
        """All vectors, for a checkpoint, or for a node that is about to join."""
        return self.newest(joins=True) if self.ready else NotReady()

    async def save_with_status(self) -> tuple[Newest | NotReady, Status]:
        """Both of one moment: nodes that joined lately do not stand still for a checkpoint."""
        return await self.save(), await self.status()  # neither lets anybody else work meanwhile

    async def ask(self, pause: int, stop: bool) -> None:
        """Sync mode: all nodes stand still, or end, after the same update. pause: its number, or
        0."""
        self.pausing, self.stopping = pause, stop

    async def abort(self) -> None:
        """Let go all that wait for others."""
        self.stopping = self.between = True
        for known in self.nodes.values():
            known.awaited = False
        self.end_round()

    async def status(self) -> Status:
        """What is new for the command that trains."""
        metrics, self.metrics = self.metrics, []
        seen, self.seen = self.seen, []
        arrived, self.arrived = self.arrived, []
        store = self.store
        contributed = {
            node: known.contribution
            for node, known in self.nodes.items()
            if known.contribution.exchanges
        }
        return Status(
            self.life,
            self.ready,
            store.agent_steps,
            store.updates,
            metrics,
            seen,
            contributed,
            arrived,
        )
