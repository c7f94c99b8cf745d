"""What an exchange of a cluster costs either side: the part `costs` of cluster.py."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from a3c.cluster.exchange import Exchange, Newest, Sent, apply
from a3c.cluster.machines import joined
from a3c.cluster.server import Server
from a3c.config import Config
from a3c.envs import spec_of
from a3c.methods import make_method
from a3c.metrics import Part
from a3c.network import Network, flatten, layout
from a3c.optimiser import Piece
from a3c.presets import preset
from a3c.shared import SharedParameters
from benchmarks.processes import actors, cpu_seconds, stat
from benchmarks.rows import Row
from benchmarks.tables import Lines, header, line


def networks(env: str) -> dict[str, tuple[str, str, bool]]:
    """What is exchanged: `paper`, the default when the figures were made, and one of next to no
    parameters; and whether the average of squared gradients travels with them."""
    small = {"mlp": ("CartPole-v1", "mlp", False)}
    if env != "breakout":
        return small
    large = {"paper": False, "paper, and its average": True}
    return {**{name: ("breakout", "paper", average) for name, average in large.items()}, **small}


def measured(env: str, network: str, average: bool, times: int) -> Row:
    """Median seconds of each step of an exchange, and CPU seconds of whole ones."""
    torch.set_num_threads(1)  # as train() has it
    config = preset("fast", env=env, network=network, num_threads=1, nodes=2, device="cpu")
    store = store_of(config)
    store.updates = 10_000  # the average has a past
    exchange = Exchange(store)
    exchange.updates -= 1  # as if there had been an update
    change = exchange.take(everything=average)
    sent, newest = Sent(0, 0, 0, change, Part(0, {}, []), 1), newest_of(store)
    if not average:
        del newest.vectors["square_avg"]
    median = partial(median_seconds, times=times)
    row: Row = {
        "parameters": len(store.parameters),
        "bytes": change.bytes(),  # each way
        "take": median(lambda: exchange.take(everything=average)),
        "merge": median(lambda: exchange.merge(newest)),
        "finite": median(change.finite),
        "apply": median(lambda: apply(store, change)),
        "server alone": median(alone(config, store, sent)),
    }
    with joined(config):
        row |= costs_of_ray(config, store, sent, times)
    return row | {"ok": True}


def store_of(config: Config) -> SharedParameters:
    """As a node has it."""
    method = make_method(config)
    network = Network(config, spec_of(config), method, torch.float32)
    return SharedParameters(flatten(network)[0], layout(network), config)


def newest_of(store: SharedParameters) -> Newest:
    """A server's answer."""
    vectors = {name: vector.numpy().copy() for name, vector in store.save().items()}
    return Newest(0, 0, 0, 0, vectors, 0, False, (0, 0.0, 0.0))


def alone(config: Config, store: SharedParameters, sent: Sent) -> Callable[[], object]:
    """All that the server computes in an exchange, without Ray."""
    server = Server(config, [Piece(len(store.parameters))], 0)
    loop = asyncio.new_event_loop()
    vectors = {name: vector.numpy() for name, vector in store.save().items()}
    loop.run_until_complete(server.load(vectors, 0, 0, set()))
    sending = one_after_another(sent._replace(life=server.life))
    return lambda: loop.run_until_complete(server.exchange(next(sending)))


def one_after_another(sent: Sent) -> Iterator[Sent]:
    """As a node numbers what it sends: the server leaves out what it has heard."""
    for number in itertools.count(sent.number):
        yield sent._replace(number=number)


def costs_of_ray(config: Config, store: SharedParameters, sent: Sent, times: int) -> Row:
    """With a real actor: a round trip, and the CPU time of both ends."""
    import ray  # which knows by now where to listen

    actor: Any = ray.remote(Server)
    server = actor.options(num_cpus=0).remote(config, [Piece(len(store.parameters))], 0)
    vectors = {name: vector.numpy() for name, vector in store.save().items()}
    ray.get(server.load.remote(vectors, 0, 0, set()))
    known = sent._replace(life=ray.get(server.join.remote(0)).life)

    sending = one_after_another(known)

    def round_trip() -> None:
        ray.get(server.exchange.remote(next(sending)))

    median_seconds(round_trip, 3)  # memory is mapped
    (pid,) = actors("Server")
    before, own = cpu_seconds(stat(pid)), time.process_time()
    seconds = median_seconds(round_trip, times)
    return {
        "serialise": median_seconds(lambda: ray.get(ray.put(known)), times),
        "round trip": seconds,
        "server cpu": (cpu_seconds(stat(pid)) - before) / times,
        "node cpu": (time.process_time() - own) / times,
    }


def median_seconds(do: Callable[[], object], times: int) -> float:
    """Of one call."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        do()
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


def table(rows: dict[str, Row]) -> Lines:
    yield "Milliseconds, medians; CPU: means of both processes' time in an exchange by Ray. `take`"
    yield "and `merge` are the node's, `finite` and `apply` the server's, all of it without Ray;"
    yield "put and get: into Ray's object store and back in one process."
    yield ""
    names = ["take", "merge", "finite", "apply", "server alone", "serialise"]
    names += ["round trip", "server cpu", "node cpu"]
    words = ["put and get" if name == "serialise" else name for name in names]
    yield from header(["network", "parameters", "MB each way", *words], "lrr" + "r" * len(names))
    for name, row in rows.items():
        cells = [f"{1e3 * row[each]:.2f}" for each in names]
        yield line([name, f"{row['parameters']:,}", f"{row['bytes'] / 1e6:.2f}", *cells])
