"""A node of a cluster: a Ray actor around the Node that a single machine has.

Its threads never wait for a network in async mode: a thread of its own, the exchanger, sends what
they have learned and takes back what all have, one exchange at a time. In sync mode the last thread
to arrive at the node's barrier hands in the gradients of all of them, and waits.
"""

from __future__ import annotations

import gc
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import ray
import torch
from ray.actor import ActorHandle
from ray.exceptions import RayActorError
from torch import Tensor

from a3c import machine
from a3c.cluster.exchange import Exchange, Newest, Sent, Vector, tensors_of
from a3c.cluster.server import HandedIn, NotReady, Refused
from a3c.config import Config
from a3c.devices import pick_devices, without_tf32
from a3c.metrics import Metrics, Part
from a3c.node import Node
from a3c.run.provenance import what_must_be_the_same

LEAST_UPDATES = 2  # of an exchange: it costs both processors some 10 ms, an update of paper 150
RETRY_SECONDS = 0.2  # while the server is started again
IDLE_SECONDS = 0.05  # the exchanger looks whether the node has ended


class RefusedError(RuntimeError):
    """The server does not go on with this node."""


class NotMadeError(RuntimeError):
    """The node's process was started again since `make`, which knows nothing of it."""


class Paused(NamedTuple):
    """A node's threads stand still."""

    life: int  # of the server that they have last heard of
    metrics: Part  # that it has not been told


class Member:
    """Node number `index` of the run."""

    def __init__(self, index: int, config: Config):
        torch.set_num_threads(1)
        without_tf32()
        self.index = index
        threads = min(config.num_threads, machine.physical_cores())
        self.first_thread = index * config.num_threads  # also where other nodes have fewer
        self.config = replace(config, num_threads=threads) if config.cluster else config
        self.metrics = Metrics(1)
        self.running = False
        self.one_life = threading.Lock()  # held while a node is made, and while it trains
        self.counting = threading.Lock()  # on the next number
        self.lives = 0  # calls of `rejoin`
        self.one_exchange = threading.Lock()
        self.averages = 0  # that its rollouts have taken part in, in sync mode
        self.pauses = threading.Lock()  # on the two numbers that follow
        self.pause_number = self.over_number = 0  # the last pause that it heard of; that was ended
        self.news = threading.Event()  # that there is something to send

    def make(self, expected: dict[str, str | None]) -> dict[str, Any]:
        """Make environments and threads; what there is to know of them.

        expected: the versions of those who train already. Raises RefusedError if this node's are
        others, NotMadeError if `rejoin` has been called by now, and InputError as Node does.
        """
        with self.one_life:
            if self.lives:
                raise NotMadeError("it was taken for dead, and joins again")
            return self._make(expected)

    def _make(self, expected: dict[str, str | None]) -> dict[str, Any]:
        """`make`, of a node that has the process to itself."""
        check_same(what_must_be_the_same(), expected)
        devices = pick_devices(self.config.device)
        self.node = Node(self.config, devices, self.metrics, self.first_thread)
        if self.config.mode == "sync":
            self.node.store.average = self.average
        return self.provenance()

    def provenance(self) -> dict[str, Any]:
        """What computes here."""
        threads = self.config.num_threads
        return {**self.made().provenance(), "node": self.index, "num_threads": threads}

    def machine_id(self) -> str:
        """Ray's id of the machine."""
        return ray.get_runtime_context().get_node_id()

    # Until it trains nobody looks whether its process still lives: it may be another one by now

    def made(self) -> Node:
        """What `make` made. Raises NotMadeError."""
        if not (nodes := self.nodes()):
            raise NotMadeError("its process died and has been started again")
        return nodes[0]

    def begin(self) -> Vector:
        """New games for all agents; the parameters [P] with the background that was measured."""
        node = self.made()
        node.begin()
        return node.store.parameters.cpu().numpy()

    def start_games(self, updates: int) -> None:
        """New games for all agents."""
        self.made().start_games(updates)

    def load(self, tensors: dict[str, Tensor], agent_steps: int, updates: int) -> None:
        """This node's part of a checkpoint."""
        self.made().load(tensors, agent_steps, updates)

    def is_home(self, tensors: dict[str, Tensor]) -> bool:
        """As Node's."""
        return self.made().is_home(tensors)

    def train(self, server: ActorHandle[Any]) -> list[BaseException]:
        """To the end of the run; what went wrong."""
        with self.one_life:
            return [] if self.lives else self._train(server)

    def _train(self, server: ActorHandle[Any]) -> list[BaseException]:
        """`train`, of a node that has the process to itself."""
        self.server = server
        self.exchange = Exchange(self.made().store)
        self.averages = 0
        self.exchange.restart(self.patiently(self.server.join.remote, self.index))
        self.node.gate.look(lambda: self.node.store.finished)
        self.running = True
        try:
            self.node.start()
            if self.config.mode == "async":
                self.exchange_until_the_end()
        except Exception as error:  # RefusedError, or a fault of ours: its threads end as well
            self.node.failures.append(error)
            self.node.abort()
        self.node.join()
        failures = self.node.failures
        for failure in failures:  # a traceback does not travel
            failure.add_note("".join(traceback.format_exception(failure)))
        return failures

    def rejoin(
        self, server: ActorHandle[Any], expected: dict[str, str | None]
    ) -> list[BaseException]:
        """Of a node that died, or comes later: as new, with the newest parameters.

        A node that was cut off for a while, and taken for dead, may train in this process, or be
        about to: it ends first. Of several such calls the last one counts.
        """
        with self.counting:
            self.lives += 1
            life = self.lives
        self.abort()
        with self.one_life:
            if life != self.lives:
                return []
            self._make_room()
            self._make(expected)
            if life != self.lives:  # a call meanwhile may have found no node to end
                self.abort()
            newest = self.patiently(server.save.remote)  # nobody is to wait for it yet
            self.node.start_games(newest.updates)
            return self._train(server)

    def _make_room(self) -> None:
        """For another node in this process."""
        with self.one_exchange:
            self.running = False
        self.close()
        self.metrics.take()  # of what it had learned and not sent
        for name in ("node", "exchange"):
            self.__dict__.pop(name, None)
        gc.collect()  # they refer to themselves, and their memory is wanted

    def exchange_until_the_end(self) -> None:
        """Whenever each thread has made an update, on average; a single thread two. Raises
        RefusedError."""
        store = self.node.store
        look = store.after_update

        def after_update() -> None:
            look()
            self.wake_exchanger()

        store.after_update = after_update
        while self.node.goes_on(0):
            if self.news.wait(IDLE_SECONDS):
                self.exchange_once()
        self.exchange_once()

    def wake_exchanger(self) -> None:
        """After each update."""
        if self.exchange.new_updates() >= max(self.config.num_threads, LEAST_UPDATES):
            self.news.set()

    def exchange_once(self, everything: bool = False) -> None:
        """Send what is new, take what is newest. Raises RefusedError."""
        with self.one_exchange:
            if not self.running:  # a pause that comes as the node makes room for its next life
                return
            self.news.clear()
            exchange = self.exchange
            change, metrics = exchange.take(everything), self.metrics.take()
            life, version = exchange.life, exchange.version
            sent = Sent(self.index, life, version, change, metrics, exchange.exchanges)
            newest = self.patiently(self.server.exchange.remote, sent)
            if newest.life == life:
                exchange.merge(newest)
            else:  # it was started again, from a checkpoint
                exchange.restart(newest)
                self.metrics.take()  # of what was learned meanwhile, and is lost

    def average(self) -> None:
        """Sync mode: the cluster's average in place of the node's. All threads of it wait.

        Where the server was started again this round is lost: it goes on from its checkpoint.
        """
        store = self.node.store
        with store.exclusive():  # after what other threads' streams have handed in
            gradients = store.handed_in.cpu().numpy()  # waits
        life, agent_steps = self.exchange.life, store.handed_in_steps
        version, metrics = self.exchange.version, self.metrics.take()
        self.averages += 1
        ends = self.averages % (self.config.minibatches * self.config.epochs) == 0
        number = self.averages
        given = HandedIn(self.index, life, version, gradients, agent_steps, metrics, ends, number)
        newest = self.patiently(self.server.hand_in.remote, given)
        with store.exclusive():
            own = store.save()
            for name, vector in tensors_of(newest.vectors).items():
                own[name].copy_(vector)
            before, lr, norm = newest.applied
            store.norm_of_mean.fill_(norm)
            store.sync_applied = before, lr
            self.exchange.life, self.exchange.version = newest.life, newest.version
            store.advance(newest.agent_steps - store.agent_steps, newest.updates - store.updates)
        self.obey(newest.pause, newest.stop)
        store.after_update()

    def obey(self, pause: int, stop: bool) -> None:
        """In sync mode: what the server says. A pause may have ended before this node heard of it:
        nobody would tell it to go on."""
        with self.pauses:
            if wanted := pause > self.over_number:
                self.pause_number = max(self.pause_number, pause)
            self.node.gate.ask(wanted, stop)

    def patiently(self, call: Callable[..., Any], *words: Any) -> Newest:
        """The server's answer, also of one that is being started again. Raises RefusedError."""
        while True:
            answer: Newest | Refused | NotReady
            try:
                answer = ray.get(call(*words))
            except RayActorError:  # its process died, or it has been cut off: it may have heard
                answer = NotReady()
            if isinstance(answer, Newest):
                return answer
            if isinstance(answer, Refused):
                raise RefusedError(answer.reason)
            time.sleep(RETRY_SECONDS)

    def pause(self, number: int) -> Paused | None:
        """Wait until the threads stand still, and the server knows what they have learned.

        In sync mode the server tells them to. None if the threads are about to start.
        """
        if not self.running:
            return None
        node, exchange = self.node, self.exchange  # of this life, see `rejoin`
        with self.pauses:
            if self.pause_number < number:  # one before it is over; that word may be late, or lost
                node.gate.end_pause()
            self.pause_number = max(self.pause_number, number)
            if self.config.mode == "async":
                node.gate.ask(pause=True, stop=False)
        node.gate.wait_until_parked()
        if not self.running:  # it was taken for dead meanwhile, and begins anew
            return None
        node.settle()
        if self.config.mode == "async":
            self.exchange_once(everything=True)
        return Paused(exchange.life, self.metrics.take())

    def save(self) -> dict[str, Tensor]:
        """The threads' part of a checkpoint; none of a process that has just been started again."""
        if not self.running:
            return {}
        return {k: v for k, v in self.node.save().items() if k.startswith("thread")}

    def go_on(self, number: int) -> None:
        """The end of a pause, and not of one after it: this word may be late."""
        with self.pauses:
            self.over_number = max(self.over_number, number)
            if self.running and self.pause_number <= number:
                self.node.gate.end_pause()

    def stop(self) -> None:
        """As Node's, if there is one."""
        for node in self.nodes():
            node.stop()

    def abort(self) -> None:
        """As Node's, if there is one."""
        for node in self.nodes():
            node.abort()

    def close(self) -> None:
        """As Node's, if there is one."""
        for node in self.nodes():
            node.close()

    def nodes(self) -> list[Node]:
        """One, or none in a process that has just been started again; another call may make it, or
        end it, at any time."""
        node = getattr(self, "node", None)
        return [] if node is None else [node]


def check_same(own: dict[str, str | None], expected: dict[str, str | None]) -> None:
    """Raise RefusedError for a node whose program or environments are others."""
    for name, value in expected.items():
        if own.get(name) != value:
            raise RefusedError(f"its {name} is {own.get(name)}; expected {value}, as here")
