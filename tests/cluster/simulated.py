"""A cluster without machines: its command, server and nodes are the real ones; games, Ray, threads
and clocks are those of a world where one thread at a time is at work, and a seed says whose turn it
is, how long a word travels, and what is lost on its way.
"""

import asyncio
import copy
import heapq
import inspect
import itertools
import math
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from ray.exceptions import ActorDiedError, ActorUnavailableError

from a3c.cluster.cluster import Cluster
from a3c.cluster.machines import Machine
from a3c.cluster.server import Server
from a3c.config import Config
from a3c.metrics import FinishedEpisode, Metrics
from a3c.node import Node
from tests.scripted import VECTOR, update

TICK_SECONDS = 0.02
STUCK_TICKS = 10_000  # 200 seconds, which is less than a node that is lost is waited for
MOST_TURNS = 200_000  # a run has some thousands
AGENT_STEPS = 8  # of an update
HERE = "1" * 56  # a machine, as Ray names them


class Process:
    """Where threads are; they end with it."""

    dead = False


class Died(BaseException):
    """Raised in the threads of a process that has died, where they would go on."""


class Task:
    """A thread, which is at work while it is its turn."""

    def __init__(self, process: Process):
        self.process, self.turn = process, threading.Semaphore(0)
        self.ready: Callable[[], bool] = lambda: True


class World:
    """Time, threads, and what happens by itself."""

    def __init__(self, seed: int, lost: float, cut_off: float):
        self.chance = random.Random(seed)
        self.lost, self.cut_off = lost, cut_off  # of the nodes' calls, and of the command's to them
        self.now, self.turns, self.numbers = 0, 0, itertools.count()
        self.due: list[tuple[int, int, Callable[[], object]]] = []
        self.loop = asyncio.new_event_loop()
        self.command = Process()
        self.running = Task(self.command)
        self.tasks = [self.running]  # the command's first
        self.actors: list[Actor] = []
        self.learned: Counter[int] = Counter()  # updates of each node

    def after(self, ticks: int, event: Callable[[], object]) -> None:
        """It will happen so much later."""
        heapq.heappush(self.due, (self.now + ticks, next(self.numbers), event))

    def tick(self) -> None:
        """The next moment; coroutines go on."""
        self.now += 1
        while self.due and self.due[0][0] <= self.now:
            heapq.heappop(self.due)[2]()
        self.loop.run_until_complete(asyncio.sleep(0))

    def wait(self, ready: Callable[[], bool], seconds: float = math.inf) -> bool:
        """Let others be at work until that is so, or the time is over; whether it is so."""
        until = self.now + max(seconds / TICK_SECONDS, 0)
        self.running.ready = lambda: ready() or self.now >= until
        self.give_way()
        return ready()

    def sleep(self, seconds: float) -> None:
        """As time.sleep."""
        self.wait(lambda: False, seconds)

    def give_way(self) -> None:
        """Let one thread be at work of those that can, maybe this one. Fails where the command
        waits for ever, and raises Died."""
        mine = self.running
        self.hand_over()
        mine.turn.acquire()
        if mine.process.dead:
            raise Died
        assert self.now <= STUCK_TICKS, "nothing moves any more"

    def hand_over(self) -> None:
        """It is the turn of one that can go on, maybe later; of the command if there is none."""
        self.turns += 1
        if self.turns > MOST_TURNS:  # time stands still
            self.now = STUCK_TICKS + 1
        able = list[Task]()
        while not able and self.now <= STUCK_TICKS:
            able = [each for each in self.tasks if each.process.dead or each.ready()]
            if not able:
                self.tick()
        self.running = self.chance.choice(able or self.tasks[:1])
        self.running.turn.release()

    def begin(self, process: Process, work: Callable[[], object]) -> Task:
        """A thread of that process."""
        task = Task(process)

        def life() -> None:
            task.turn.acquire()
            try:
                if not process.dead:
                    work()
            except Died:
                pass
            finally:
                self.tasks.remove(task)
                self.hand_over()

        self.tasks.append(task)
        threading.Thread(target=life, daemon=True).start()
        return task

    def end(self) -> None:
        """No thread is left behind."""
        for actor in self.actors:
            actor.process.dead = True
        self.now, self.turns, self.due = 0, 0, []
        self.wait(lambda: len(self.tasks) == 1)
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


class Future:
    """What a call will answer."""

    done, value, error = False, None, None

    def set(self, value: Any = None, error: BaseException | None = None) -> None:
        """The first one counts."""
        if not self.done:
            self.done, self.value, self.error = True, value, error


class Actor:
    """A process with an object in it, whose methods others call; started again when it died."""

    def __init__(self, world: World, kind: type, words: tuple[Any, ...]):
        self.world, self.kind, self.words = world, kind, words
        self.under_way: list[Future] = []
        self.arrived: dict[Process, int] = {}  # when the last word of each process comes
        self.gone = False
        self.start()
        world.actors.append(self)

    def start(self) -> None:
        """A new process."""
        if not self.gone:
            self.process, self.object = Process(), self.kind(*self.words)

    def die(self, for_ever: bool = False) -> None:
        """With it end all calls."""
        self.gone = self.gone or for_ever
        if self.process.dead:
            return
        self.process.dead = True
        for future in self.under_way:
            future.set(error=ActorDiedError())
        self.under_way = []
        self.world.after(int(100 ** self.world.chance.random()), self.start)

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=partial(self.call, method))

    def __deepcopy__(self, memo: object) -> "Actor":
        return self

    def call(self, method: str, *words: Any) -> Future:
        """The words of a process arrive in their order."""
        future = Future()
        if self.process.dead:
            future.set(error=ActorUnavailableError("it is not there", None))
            return future
        self.under_way.append(future)
        sender, now = self.world.running.process, self.world.now
        arrives = max(now + self.world.chance.randrange(4), self.arrived.get(sender, 0))
        self.arrived[sender] = arrives
        chances = (self.world.lost, 0.0) if self.kind is Server else (0.0, self.world.cut_off)
        if self.world.chance.random() < chances[sender is self.world.command]:
            never = partial(future.set, error=ActorUnavailableError("nothing is heard of it", None))
            self.world.after(self.world.chance.randrange(30), never)
        call = partial(self.arrive, self.process, future, method, copy.deepcopy(words))
        self.world.after(arrives - now, call)
        return future

    def arrive(self, process: Process, future: Future, method: str, words: Any) -> None:
        """Coroutines are one thread's, other methods have one each."""
        if process.dead:
            return
        function = getattr(self.object, method)
        answer = partial(self.answer, process, future)
        if not inspect.iscoroutinefunction(function):
            self.world.begin(process, lambda: answer(partial(function, *words)))
            return

        def ended(task: asyncio.Task[Any]) -> None:
            if not task.cancelled():
                answer(task.result)

        self.world.loop.create_task(function(*words)).add_done_callback(ended)

    def answer(self, process: Process, future: Future, result: Callable[[], Any]) -> None:
        """It travels."""
        try:
            words: dict[str, Any] = {"value": copy.deepcopy(result())}
        except Exception as error:
            words = {"error": error}
        if not process.dead:
            self.world.after(self.world.chance.randrange(4), lambda: future.set(**words))


class Ray:
    """As much of it as a cluster uses."""

    def __init__(self, world: World):
        self.world = world

    def remote(self, kind: type) -> Any:
        def make(*words: Any) -> Actor:
            return Actor(self.world, kind, words)

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=make))

    def get(self, future: Future) -> Any:
        self.world.wait(lambda: future.done)
        if future.error is not None:
            raise future.error
        return future.value

    def wait(
        self, futures: list[Future], num_returns: int = 1, timeout: float = math.inf
    ) -> tuple[list[Future], list[Future]]:
        self.world.wait(lambda: sum(each.done for each in futures) >= num_returns, timeout)
        done = [each for each in futures if each.done][:num_returns]
        return done, [each for each in futures if each not in done]

    def kill(self, actor: Actor) -> None:
        actor.die(for_ever=True)

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: HERE)


class Threading:
    """As much of that module as a node uses."""

    BrokenBarrierError, BoundedSemaphore = threading.BrokenBarrierError, threading.BoundedSemaphore

    def __init__(self, world: World):
        self.Lock = lambda: Lock(world)
        self.Condition = lambda: Condition(world)
        self.Event = lambda: Event(world)
        self.Thread = partial(Thread, world)
        self.Barrier = partial(Barrier, world)


class Lock:
    def __init__(self, world: World):
        self.world, self.held = world, False

    def __enter__(self) -> None:
        if self.held:
            self.world.wait(lambda: not self.held)
        self.held = True

    def __exit__(self, *_: object) -> None:
        self.held = False


class Condition:
    """Nobody else is at work while one does not wait: it needs no lock."""

    def __init__(self, world: World):
        self.world, self.wait_for = world, world.wait

    def __enter__(self) -> None:
        self.world.wait(lambda: True)

    def __exit__(self, *_: object) -> None: ...

    def notify_all(self) -> None: ...


class Event:
    def __init__(self, world: World):
        self.world, self.happened = world, False

    def set(self) -> None:
        self.happened = True

    def clear(self) -> None:
        self.happened = False

    def wait(self, seconds: float) -> bool:
        return self.world.wait(lambda: self.happened, seconds)


class Thread:
    def __init__(self, world: World, target: Any, args: Iterable[Any], daemon: bool):
        self.world, self.life = world, lambda: target(*args)

    def start(self) -> None:
        self.task = self.world.begin(self.world.running.process, self.life)

    def is_alive(self) -> bool:
        return self.task in self.world.tasks

    def join(self, timeout: float = math.inf) -> None:
        self.world.wait(lambda: not self.is_alive(), timeout)


class Barrier:
    def __init__(self, world: World, parties: int, action: Callable[[], None]):
        self.world, self.parties, self.action = world, parties, action
        self.arrived, self.met, self.broken = 0, 0, False

    def abort(self) -> None:
        self.broken = True

    def wait(self) -> None:
        met, self.arrived = self.met, self.arrived + 1
        if self.arrived == self.parties and not self.broken:
            self.action()
            self.arrived, self.met = 0, met + 1
        self.world.wait(lambda: self.met > met or self.broken)
        if self.broken:
            raise threading.BrokenBarrierError


class Learner:
    """An actor-learner without a game: its updates are of one gradient, and with each a game ends
    (in earnest its games are told of one rollout later)."""

    def __init__(self, world: World, node: "Playing", index: int, envs: Any):
        self.world, self.node, self.index = world, node, index
        self.envs, self.graphs = envs, Mock(wanted=False)
        self.network = Mock(background=None, moments=None)
        self.gradients = torch.ones_like(node.store.parameters)

    def start_games(self, updates: int) -> None: ...

    def settle(self) -> None: ...

    def save(self) -> dict[str, int]:
        return {"index": self.index}

    def run(self) -> None:
        node = self.node
        while node.gate.going_on():
            for _ in range(node.config.minibatches):
                self.world.sleep(self.world.chance.random() * 0.1)
                update(node.store, self.gradients.clone(), AGENT_STEPS, self.index)
                node.metrics.add([FinishedEpisode(1.0, AGENT_STEPS)], {})
                self.world.learned[self.index // node.config.num_threads] += 1


class Playing(Node):
    """A node whose learners are such."""

    world: World

    def environments(self) -> list[Any]:
        return [SimpleNamespace(spec=VECTOR, close=list) for _ in range(self.config.num_threads)]

    def learner(self, index: int, envs: Any) -> Any:
        return Learner(self.world, self, self.store.first_thread + index, envs)


@contextmanager
def simulated(
    config: Config,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    lost: float = 0.02,
    cut_off: float = 0.0,
    dies_early: bool = False,
) -> Iterator[tuple[World, Cluster, Metrics]]:
    """A cluster of such a world, whose nodes are about to start. dies_early: so does a process."""
    world = World(seed, lost, cut_off)
    if dies_early:
        world.after(world.chance.randrange(1, 40), lambda: world.chance.choice(world.actors).die())
    clock = SimpleNamespace(monotonic=lambda: world.now * TICK_SECONDS, sleep=world.sleep)
    node = type("Simulated", (Playing,), {"world": world})
    for module in ("a3c.gate", "a3c.shared", "a3c.node", "a3c.cluster.member"):
        monkeypatch.setattr(f"{module}.threading", Threading(world))
    for module in ("a3c.cluster.member", "a3c.cluster.cluster"):
        monkeypatch.setattr(f"{module}.ray", Ray(world))
        monkeypatch.setattr(f"{module}.time", clock)
        monkeypatch.setattr(f"{module}.what_must_be_the_same", dict)
    monkeypatch.setattr("a3c.cluster.member.Node", node)
    monkeypatch.setattr("a3c.machine.physical_cores", lambda: config.num_threads)
    places = [Machine(HERE, config.num_threads, 0) for _ in range(config.nodes)]
    monkeypatch.setattr("a3c.cluster.cluster.alive", lambda _: places)
    monkeypatch.setattr("a3c.cluster.cluster.spec_of", lambda _: VECTOR)
    monkeypatch.setattr("a3c.cluster.cluster.make_envs", Mock())
    metrics = Metrics(1)
    try:
        cluster = Cluster(config, metrics, lambda line: None)
        cluster.begin()
        yield world, cluster, metrics
    finally:
        world.end()
