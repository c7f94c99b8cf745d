"""Cluster: nodes on several machines, or several on this one, and their server; by Ray.

To the run it looks as one Node does. It lives in the process of the command, which trains nothing:
it starts the actors, asks the server how far they are, and sees to those that died.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, NamedTuple

import ray
import torch
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor

from a3c.cluster.exchange import Newest, tensors_of
from a3c.cluster.machines import Machine, alive, check_number
from a3c.cluster.member import Member, NotMadeError, Paused, RefusedError
from a3c.cluster.server import Contribution, Server, Status, ToEvaluate
from a3c.config import Config
from a3c.devices import pick_devices, pick_precision
from a3c.envs import make_envs, spec_of
from a3c.errors import InputError
from a3c.memory import check_memory
from a3c.methods import make_method
from a3c.metrics import Metrics
from a3c.network import Network, flatten, layout
from a3c.optimiser import Piece
from a3c.run.log import NODE_RATE
from a3c.run.provenance import what_must_be_the_same
from a3c.run.terminal import counted
from a3c.shared import SharedParameters

CPU = torch.device("cpu")
WAIT_SECONDS = 0.2
LOOK_SECONDS = 2.0  # between two looks for machines that have joined
SLOW_SECONDS = 120.0  # a node that has not been made by then may wait for CPUs
LOST_SECONDS = 300.0  # after which a node that has died is not waited for any more
GO_ON_SECONDS = 5.0  # after which one that does not answer is not: it will hear that it may go on
CALLS = 8  # of a node at once: it trains, and is asked to pause meanwhile

Future = Any  # Ray's types do not follow methods of actors


class Began(NamedTuple):
    """What the server begins with, or goes on from when it has died."""

    vectors: dict[str, Any]  # [P] by name, NumPy
    agent_steps: int
    updates: int


class Cluster:
    """Nodes and their server. `say` takes lines for the user. Raises InputError, as Node does.

    roll_back: called where the server has died, with the agent steps that all go on from.
    """

    roll_back: Callable[[int], None]

    def __init__(self, config: Config, metrics: Metrics, say: Callable[[str], None]):
        self.config, self.metrics, self.say = config, metrics, say
        self.device, self.dtype = CPU, pick_precision(config, CPU)  # of what this process plays
        self.method, self.spec = make_method(config), spec_of(config)
        network = self.network(CPU)
        self.store = SharedParameters(  # what the server's was when it was last asked
            flatten(network)[0],
            layout(network),
            config,
            target_every_agent_steps=self.method.target_every_agent_steps,
        )
        self.began = Began(arrays(self.store.save()), 0, 0)
        self.server = self.start_server(layout(network))
        self.versions = what_must_be_the_same()
        self.numbers = itertools.count()  # of nodes; none is used twice
        self.members: dict[int, ActorHandle[Any]] = {}
        self.used: set[str] = set()  # machines that have or had a node, by Ray's id
        self.training: dict[Future, int] = {}  # what a node's training will return
        self.present: set[int] = set()  # nodes that begin with the others
        self.taking_part: set[int] = set()  # nodes that train, or have trained to the end
        self.pause_number = 0  # of the last pause
        self.still: set[int] = set()  # nodes that stand still in a pause; one may join meanwhile
        self.life = 0  # of the server, when it was last heard of
        self.died_at: dict[int, float] = {}  # of nodes that have not contributed since
        self.failures: list[BaseException] = []
        self.faults: list[BaseException] = []  # of nodes without which the others go on
        self.contributions: dict[int, Contribution] = {}  # of each node, as last heard of
        self.counted: dict[int, Contribution] = {}  # the same at the last record
        self.facts: list[dict[str, Any]] = []  # of nodes that began, to be noted
        self.stopping = self.aborting = False
        self.next_look = time.monotonic() + LOOK_SECONDS
        self.metrics.gauges = self.figures
        self.make_members()

    def network(self, device: torch.device) -> Network:
        """As Node's."""
        return Network(self.config, self.spec, self.method, self.dtype).to(device)

    def start_server(self, pieces: list[Piece]) -> ActorHandle[Any]:
        """In a process of its own on this machine: where it dies, it is not the run that ends."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor: Any = ray.remote(Server)
        options = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here}
        target_every = self.method.target_every_agent_steps
        return actor.options(**options).remote(self.config, pieces, target_every)

    def make_members(self) -> None:
        """A node on each machine, or all on this one. Raises InputError."""
        machines = list(alive(self.config))
        check_number(self.config, machines)
        places = machines[: self.config.nodes]
        if not self.config.cluster:
            threads = len(places) * self.config.num_threads
            as_one = replace(self.config, num_threads=threads, nodes=1, cuda_graphs="off")
            devices = pick_devices(self.config.device)
            check_memory(as_one, devices)
            make_envs(self.config, 1, devices[0]).close()  # so that one process compiles, not all
        self.present = {self.add(place) for place in places}
        made: dict[int, Future] = {
            index: self.members[index].make.remote(self.versions) for index in self.present
        }
        _, waiting = ray.wait(list(made.values()), num_returns=len(made), timeout=SLOW_SECONDS)
        if waiting:
            self.say(f"{len(waiting)} of {len(made)} nodes are not ready yet; others may use their "
                     "machines' CPUs (ray status)")  # fmt: skip
        for index, future in made.items():
            try:
                self.facts += self.answered({index: future}).values()
            except RefusedError as error:
                self.lose(index, error)
        if not self.present:
            raise InputError(f"no node can train: {self.faults[0]}")
        self.say_if_smaller()

    def say_if_smaller(self) -> None:
        """Say where a node has fewer threads than asked for: in sync mode an update is of all, and
        its learning rate is for as many as that."""
        asked = self.config.num_threads
        fewest = min((each["num_threads"] for each in self.facts), default=asked)
        if self.config.mode == "sync" and fewest < asked:
            self.say(
                f"a node has {counted(fewest, 'thread')}, a core each, and not {asked}: with "
                "--mode sync that makes updates smaller than their learning rate is for; in a new "
                f"run better --num-threads {fewest}"
            )

    def answered(self, asked: dict[int, Future]) -> dict[int, Any]:
        """The answers of nodes that have not begun to train; one that dies joins the others later.

        Raises InputError if none is left.
        """
        told = {}
        for index, future in asked.items():
            try:
                told[index] = answer(future)
            except (RayActorError, NotMadeError) as error:
                if starts_no_more(error):
                    self.lose(index, error)
                self.present.discard(index)
        if not self.present:
            why = last_line(self.faults[0]) if self.faults else "their processes died"
            raise InputError(f"no node is left before they began to train: {why}")
        return told

    def add(self, place: Machine) -> int:
        """Start a node's actor there; Ray starts it again where it dies, there or elsewhere."""
        index = next(self.numbers)
        self.used.add(place.node_id)
        actor: Any = ray.remote(Member)
        options = {
            "num_cpus": place.cpus,
            "num_gpus": place.gpus,
            "max_restarts": -1,
            "max_concurrency": CALLS,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(place.node_id, soft=True),
        }
        self.members[index] = actor.options(**options).remote(index, self.config)
        return index

    def begin(self) -> None:
        """New games for all agents; the first node measures the background."""
        told: dict[int, Any] = {}
        while not told:
            first = min(self.present)
            told = self.answered({first: self.members[first].begin.remote()})
        self.store.restart(torch.tensor(told[first]))
        others = self.present - {first}
        self.answered({index: self.members[index].start_games.remote(0) for index in others})

    def load(self, saved: dict[str, Tensor], agent_steps: int, updates: int) -> None:
        """Go on from what `save` returned, also of another number of nodes."""
        self.store.load(saved, agent_steps, updates)
        asked = {
            index: self.members[index].load.remote(self.part_of(saved, index), agent_steps, updates)
            for index in self.present
        }
        self.answered(asked)

    def part_of(self, saved: dict[str, Tensor], index: int) -> dict[str, Tensor]:
        """Of a checkpoint, a node's."""
        first = index * self.config.num_threads
        own = {f"thread{first + i}" for i in range(self.config.num_threads)}
        return {k: v for k, v in saved.items() if "." not in k or k.partition(".")[0] in own}

    def is_home(self, saved: dict[str, Tensor]) -> bool:
        """As Node's."""
        first = min(self.present)
        told = self.answered({first: self.members[first].is_home.remote(self.part_of(saved, 0))})
        return all(told.values())

    def games_in_words(self) -> str:
        """How many, in words; machines with fewer cores than threads have fewer."""
        most = "at most " if self.config.cluster else ""
        return f"{most}{len(self.members)} x {self.config.num_threads} x {self.config.num_envs}"

    def newcomers(self) -> list[dict[str, Any]]:
        """As Node's."""
        found, self.facts = self.facts, []
        return found

    def start(self) -> None:
        """Let the nodes train."""
        self.began = Began(arrays(self.store.save()), self.store.agent_steps, self.store.updates)
        while not self.load_server(self.present):
            time.sleep(WAIT_SECONDS)
        for index in self.present:
            self.training[self.members[index].train.remote(self.server)] = index
        self.taking_part = set(self.present)
        for index in set(self.members) - self.present:
            self.bring_back(index)

    def goes_on(self, seconds: float) -> bool:
        """Wait up to so long, and see to what happens meanwhile; whether the run goes on here."""
        self.tell_wishes()
        if self.training:
            ray.wait(list(self.training), timeout=seconds)
        self.look_after()
        if self.config.cluster and time.monotonic() >= self.next_look:
            self.next_look = time.monotonic() + LOOK_SECONDS
            self.add_machines()
        if self.taking_part & {*self.training.values()}:
            return True
        if self.store.finished or self.stopping:
            return False  # nobody waits for nodes that were still to join
        if not self.training:
            self.failures = self.faults[:1]
        return bool(self.training)

    def look_after(self) -> None:
        """Ask the server how far they are; bring back what died."""
        done, _ = ray.wait(list(self.training), num_returns=len(self.training) or 1, timeout=0)
        for future in done:
            self.ended(future, self.training.pop(future))
        try:
            status = answer(self.server.status.remote())
        except RayActorError as error:
            check_server_comes(error)
            return
        if status.ready:
            self.take(status)
        else:  # also where all nodes have come to their end: what they learned is to be saved
            self.bring_back_server()

    def ended(self, future: Future, index: int) -> None:
        """A node has come to its end, or died."""
        self.server.leave.remote(index)
        try:
            faults = answer(future)
        except (RayActorError, NotMadeError) as error:
            if not starts_no_more(error):
                self.bring_back(index)
                return
            faults = [error]
        except Exception as error:
            faults = [error]
        if faults:
            self.lose(index, faults[0])

    def lose(self, index: int, fault: BaseException) -> None:
        """A node that cannot go on; the others can."""
        if index not in self.members:  # it is known
            return
        self.faults.append(fault)
        for nodes in (self.present, self.taking_part, self.still):
            nodes.discard(index)
        self.died_at.pop(index, None)  # nobody waits for it, and machines may take its place
        self.training = {f: i for f, i in self.training.items() if i != index}
        self.server.leave.remote(index)
        ray.kill(self.members.pop(index))
        self.say(f"node {index} has ended: {last_line(fault)}")

    def bring_back(self, index: int) -> None:
        """A node's process has died: it joins as new once Ray has started it again."""
        for nodes in (self.taking_part, self.still):
            nodes.discard(index)
        if index not in self.died_at:
            self.say(
                f"node {index} died: what it had learned and not yet sent is lost; "
                "it is started again"
            )
        died_at = self.died_at.setdefault(index, time.monotonic())
        if time.monotonic() > died_at + LOST_SECONDS:
            self.lose(index, RuntimeError("it died, and could not be started again"))
        elif not self.stopping:
            time.sleep(WAIT_SECONDS)  # it fails at once while the process is not there yet
            self.rejoin(index)

    def rejoin(self, index: int) -> None:
        """Let a node train that has not begun with the others."""
        self.training[self.members[index].rejoin.remote(self.server, self.versions)] = index

    def bring_back_server(self) -> None:
        """It has been started again by Ray, and goes on from the last checkpoint."""
        if not self.load_server(self.taking_part & {*self.training.values()}):
            return
        self.say(
            f"the server died: all go on from agent step {self.began.agent_steps:,}, its last "
            "checkpoint"
        )
        self.store.agent_steps, self.store.updates = self.began.agent_steps, self.began.updates
        self.contributions, self.counted = {}, {}
        self.roll_back(self.began.agent_steps)

    def load_server(self, nodes: set[int]) -> bool:
        """Give it what it begins with, and in sync mode whom it waits for; not if it has died."""
        try:
            self.life = answer(self.server.load.remote(*self.began, nodes))
        except RayActorError as error:
            check_server_comes(error)
            return False
        return True

    def take(self, status: Status) -> None:
        """What the server says."""
        for part in status.metrics:
            self.metrics.merge(part)
        for seen in status.seen:
            self.show(seen)
        self.store.agent_steps, self.store.updates = status.agent_steps, status.updates
        for index in {*status.arrived} & {*self.training.values()} - self.taking_part:
            self.welcome(index)
        self.contributions, self.life = status.nodes, status.life

    def welcome(self, index: int) -> None:
        """A node that joined later, or again, has contributed."""
        self.taking_part.add(index)
        self.died_at.pop(index, None)
        with suppress(RayActorError, NotMadeError):  # it has died meanwhile, which is soon seen
            member = self.members[index]
            self.used.add(answer(member.machine_id.remote()))  # maybe another one by now
            self.facts.append(answer(member.provenance.remote()))
        self.say(f"node {index} has joined")

    def show(self, seen: ToEvaluate) -> None:
        """Parameters to be evaluated, to whoever looks at this store."""
        store = self.store
        store.parameters.copy_(torch.tensor(seen.parameters))
        store.agent_steps, store.updates = seen.agent_steps, seen.updates
        store.in_update(seen.agent_steps_before)

    def add_machines(self) -> None:
        """Nodes for machines that have joined since, unless one is wanted for a node that died."""
        for place in alive(self.config):
            wanted = len(self.members) < self.config.nodes and not self.died_at
            if place.node_id not in self.used and wanted:
                self.rejoin(self.add(place))

    def stop(self) -> None:
        """Ask the nodes to end after the rollouts under way and their updates. Safe in a signal
        handler."""
        self.stopping = True

    def abort(self) -> None:
        """End the nodes as soon as may be."""
        self.stopping = self.aborting = True

    def tell_wishes(self) -> None:
        """What is asked for; again and again, since words to a process that dies are lost."""
        if self.aborting:
            self.server.abort.remote()
            for index in self.training.values():
                self.members[index].abort.remote()
        elif self.stopping:
            self.ask_server(pause=False)
            if self.config.mode == "async":
                for index in self.training.values():
                    self.members[index].stop.remote()

    def ask_server(self, pause: bool) -> Future:
        """Sync mode: all nodes stand still after the same update."""
        return self.server.ask.remote(self.pause_number if pause else 0, self.stopping)

    def join(self) -> None:
        """Wait for the nodes to end."""
        while self.goes_on(WAIT_SECONDS):
            pass

    @contextmanager
    def paused(self) -> Iterator[None]:
        """All nodes' threads stand between two rollouts, and what these came to is counted."""
        self.pause_number += 1
        self.ask_server(pause=True)
        try:
            told = self.stand_still()
            self.still = {*told}
            self.look_after()
            for paused in told.values():
                if paused.life == self.life:  # else it is of what was lost
                    self.metrics.merge(paused.metrics)
            yield
        finally:
            self.still = set()
            self.ask_server(pause=False)
            self.asked("go_on", {*self.training.values()} - self.taking_part, self.pause_number)
            self.ask_all("go_on", self.taking_part, self.pause_number, seconds=GO_ON_SECONDS)

    def stand_still(self) -> dict[int, Paused]:
        """Wait until all nodes do, also those that join the others meanwhile.

        In sync mode some may do so already when the server dies, and others not know that they
        should: those wait for these at the end of their rollouts, so these go on. Whether one
        stands nobody knows whose answer was lost, or that had not begun when it answered.
        """
        told: dict[int, Paused | None] = {}
        heard, life = {*self.taking_part}, self.life  # those that were asked; the server of then
        asked = self.asked("pause", heard, self.pause_number)
        while asked:
            told |= self.answers(asked)
            self.look_after()  # they may wait for a server, or for one another
            self.ask_server(pause=True)
            if self.aborting:
                self.tell_wishes()
            early = {i for i, paused in told.items() if paused and paused.life != self.life}
            early &= self.taking_part & {*self.training.values()}  # others have ended, or died
            if early or (self.life != life and self.config.mode == "sync"):
                stand = {i for i, paused in told.items() if paused and paused.life == self.life}
                early |= (heard - {*asked.values()} - stand) & self.taking_part
                life = self.life
            if early:
                self.let_go(early)
            heard = (heard & self.taking_part) - early
            told = {index: told[index] for index in told.keys() & heard}
            asked |= self.asked("pause", self.taking_part - heard, self.pause_number)
            heard |= self.taking_part
        return {index: paused for index, paused in told.items() if paused is not None}

    def let_go(self, nodes: set[int]) -> None:
        """Let them go on, into a new pause.

        The server knows of that before they go on: its word to pause must not be one of a pause
        that is over.
        """
        over, self.pause_number = self.pause_number, self.pause_number + 1
        with suppress(RayActorError):  # one that is started again hears it again
            answer(self.ask_server(pause=True))
        self.ask_all("go_on", nodes, over, seconds=GO_ON_SECONDS)

    def asked(self, method: str, nodes: set[int], *words: Any) -> dict[Future, int]:
        """What these nodes will answer."""
        return {getattr(self.members[i], method).remote(*words): i for i in nodes}

    def answers(self, asked: dict[Future, int]) -> dict[int, Any]:
        """Those that come soon, which are asked for no more; without those of nodes that died."""
        told = {}
        done, _ = ray.wait(list(asked), timeout=WAIT_SECONDS)
        for future in done:
            index = asked.pop(future)
            try:
                told[index] = answer(future)
            except RayActorError:
                pass
            except Exception as error:  # the others go on
                self.lose(index, error)
        return told

    def ask_all(
        self, method: str, nodes: set[int], *words: Any, seconds: float = math.inf
    ) -> dict[int, Any]:
        """The answers of these nodes, without those that die meanwhile, and those that are late.

        While they save nobody looks after the server: what it has come to since its vectors were
        taken is not of this checkpoint.
        """
        asked, told = self.asked(method, nodes, *words), dict[int, Any]()
        until = time.monotonic() + seconds
        while asked and time.monotonic() < until:
            told |= self.answers(asked)
        return told

    def save(self) -> dict[str, Tensor]:
        """All tensors of a checkpoint: the server's, and what each node can save of its agents."""
        newest, status = self.patiently_saved()
        self.take(status)  # what its counters count: a resumed run asks for none of it again
        self.began = Began(newest.vectors, newest.agent_steps, newest.updates)
        tensors = tensors_of(newest.vectors)
        self.store.load(tensors, newest.agent_steps, newest.updates)
        parts = self.ask_all("save", self.still)
        for place, index in enumerate(i for i in sorted(parts) if parts[i]):
            tensors |= self.numbered(parts[index], place - index)
        return tensors

    def numbered(self, part: dict[str, Tensor], shift: int) -> dict[str, Tensor]:
        """A node's part of a checkpoint, as of one with another number: nodes that are gone leave
        gaps, and those of a resumed run have numbers from 0 on."""
        moved = {}
        for name, tensor in part.items():
            thread, _, rest = name.partition(".")
            number = int(thread.removeprefix("thread")) + shift * self.config.num_threads
            moved[f"thread{number}.{rest}"] = tensor
        return moved

    def patiently_saved(self) -> tuple[Newest, Status]:
        """The server's vectors and status, also of one that is being started again."""
        while True:
            with suppress(RayActorError):
                newest, status = answer(self.server.save_with_status.remote())
                if isinstance(newest, Newest):
                    return newest, status
            time.sleep(WAIT_SECONDS)
            self.look_after()

    def figures(self, seconds: float) -> dict[str, float]:
        """Of the exchanges since the last record, and of each node."""
        new = {
            index: since(now, self.counted.get(index, Contribution()))
            for index, now in self.contributions.items()
        }
        self.counted = self.contributions
        in_all = Contribution(*(sum(each) for each in zip(*new.values(), strict=True)))
        rates = {
            f"node{index}{NODE_RATE}": round(each.agent_steps / seconds, 1)
            for index, each in sorted(new.items())
            if index in self.members  # not those that were given up
        }
        return {
            "nodes": len(self.taking_part),
            "cluster_lag": round(in_all.lag / max(in_all.exchanges, 1), 3),
            "exchange_bytes_per_agent_step": round(in_all.bytes / max(in_all.agent_steps, 1), 1),
            **rates,
        }

    def close(self) -> None:
        """Free what the environments hold; Ray ends the processes."""
        if not self.aborting:  # else at once
            self.ask_all("close", self.taking_part)


def starts_no_more(error: Exception) -> bool:
    """Whether an actor could not even be made, as where its machine has no `a3c`: Ray starts one
    that died, but never such a one."""
    return isinstance(error, RayActorError) and error.actor_init_failed


def check_server_comes(error: RayActorError) -> None:
    """The server has died, and Ray starts it again; raise InputError where it cannot."""
    if starts_no_more(error):
        raise InputError(f"the server cannot be started: {last_line(error)}") from None


def last_line(error: BaseException) -> str:
    """What an error says; of one of Ray's, which has a traceback in it, the end of that."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if isinstance(error, RayActorError) and lines else str(error)


def since(now: Contribution, before: Contribution) -> Contribution:
    """The difference."""
    return Contribution(*(a - b for a, b in zip(now, before, strict=True)))


def arrays(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """As NumPy's, of memory of their own."""
    return {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()}


def answer(future: Future) -> Any:
    """What an actor's method returns; raises what it raised, as it was."""
    try:
        return ray.get(future)
    except RayTaskError as error:
        error.cause.add_note(str(error))  # with its traceback
        raise error.cause from None
