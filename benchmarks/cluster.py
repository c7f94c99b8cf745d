"""What several nodes bring, what they cost, and what they survive; in one command.

    python benchmarks/cluster.py                          # hours; the machine should be quiet
    python benchmarks/cluster.py --parts rate,costs       # some of it
    python benchmarks/cluster.py --tiny --out /tmp/x.md   # every step, in seconds

Each part runs in a process of its own. What is measured stands at once in a JSON beside the table,
and is not measured again: begun anew, the command goes on where it was.

    rate         agent steps per second of two nodes of one thread against one machine's one thread
    learning     2 and 4 nodes of one thread beside 1, 2, 4 threads of one machine, by agent steps
    costs        of an exchange: what each side computes, what Ray adds, bytes
    simulation   from these costs: 4 to 1,024 nodes, where the server saturates, a server in shards
    kills        one run in which nodes are killed twenty times and the server twice

It needs Ray (pip install -e '.[cluster]'), and Linux, whose /proc tells of processes.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

from a3c.cluster.exchange import AVERAGE_EVERY, Exchange, Newest, Sent, apply
from a3c.cluster.machines import LOOPBACK, QUIET, joined
from a3c.cluster.server import Server
from a3c.config import UPDATE_AGENT_STEPS, Config, preset
from a3c.envs import spec_of
from a3c.methods import make_method
from a3c.metrics import Part as MetricsPart
from a3c.network import Network, flatten, sizes
from a3c.run import log, provenance
from a3c.shared import SharedParameters

sys.path.insert(0, str(Path(__file__).parent.parent))  # `benchmarks` is not installed

from benchmarks.processes import below, cpu_seconds, name_of, named, stat
from benchmarks.rows import (
    Lines,
    Parts,
    Results,
    Row,
    Rows,
    chosen,
    command_of,
    header,
    line,
    measure_all,
    parser_of,
    preamble,
    sections,
    verdict,
)
from benchmarks.runs import evaluations_in, finish, records_in, start, stop

RATIO = 1.8  # of two nodes' rate to one thread's
EFFICIENCY = 0.9  # at 16 nodes
IRREGULAR = 0.3  # periods of simulated nodes


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    env: str  # of rate, costs, simulation
    pairs: int
    warm_seconds: float
    seconds: float  # of a rate
    learned: dict[str, tuple[str, ...]]  # of learning: options by environment
    agent_steps: dict[str, int]
    seeds: dict[str, int]
    nodes: tuple[int, ...]
    threads: tuple[int, ...]
    times: int  # that a cost is measured
    simulated: tuple[int, ...]  # nodes
    exchanges: int  # of each
    killed_agent_steps: int
    kills: tuple[str, ...]
    mean_return: float  # in the end
    checkpoint_every_seconds: float  # of the run with kills


FULL = Sizes(
    env="breakout",
    pairs=4,
    warm_seconds=10,
    seconds=60,
    learned={"CartPole-v1": (), "breakout": ("--lr-schedule=constant",)},
    agent_steps={"CartPole-v1": 500_000, "breakout": 600_000},
    seeds={"CartPole-v1": 3, "breakout": 1},
    nodes=(2, 4),  # one is one thread
    threads=(1, 2, 4),
    times=100,
    simulated=(4, 16, 64, 256, 1024),
    exchanges=50,
    killed_agent_steps=2_000_000,
    kills=("Member",) * 20 + ("Server",) * 2,
    mean_return=400,
    checkpoint_every_seconds=10,
)
TINY = Sizes(
    env="CartPole-v1",
    pairs=1,
    warm_seconds=0.1,
    seconds=0.5,
    learned={"CartPole-v1": ()},
    agent_steps={"CartPole-v1": 1_200},
    seeds={"CartPole-v1": 1},
    nodes=(),  # as the rate's
    threads=(1,),
    times=50,  # the system counts CPU time in hundredths of a second
    simulated=(4, 16),
    exchanges=10,
    killed_agent_steps=30_000,
    kills=("Member", "Server"),
    mean_return=5,
    checkpoint_every_seconds=0.3,
)


def parts_of(sizes: Sizes, results: Results) -> Parts:
    """All there is to measure."""
    return {
        "rate": {sizes.env: partial(rates, sizes)},
        "learning": learning_rows(sizes),
        "costs": {
            name: partial(costs, env, network, average, sizes)
            for name, (env, network, average) in networks(sizes).items()
        },
        "simulation": {each.words: partial(simulated, each, sizes, results) for each in settings()},
        "kills": {"CartPole-v1": partial(killed, sizes)},
    }


def actors(name: str) -> list[int]:
    """Below this process: `Member` or `Server`."""
    return named(below(os.getpid()), f"ray::{name}")


def cpu_by_kind(root: int) -> dict[str, float]:
    """CPU seconds of a command and all that it has started."""
    found = {"command": cpu_seconds(stat(root)), "nodes": 0.0, "server": 0.0, "Ray": 0.0}
    for pid in below(root):
        name = name_of(pid)
        kind = "nodes" if name.startswith("ray::Member") else "Ray"
        found["server" if name.startswith("ray::Server") else kind] += cpu_seconds(stat(pid))
    return found


# Rate


def rates(sizes: Sizes) -> Row:
    """Two nodes and one thread in alternation; the first of a pair takes turns."""
    ways = {"one thread": ["--num-threads=1"], "two nodes": ["--num-threads=1", "--nodes=2"]}
    found: dict[str, list[Row]] = {way: [] for way in ways}
    for pair in range(sizes.pairs):
        for way in sorted(ways, reverse=pair % 2 == 1):
            found[way].append(watched([sizes.env, "--device=cpu", *ways[way]], sizes))
    by_way = {way: [each["rate"] for each in rows] for way, rows in found.items()}
    ratios = [two / one for one, two in zip(*by_way.values(), strict=True)]
    used = {
        way: {kind: statistics.median(each["cores"][kind] for each in rows) for kind in CORES}
        for way, rows in found.items()
    }
    ratio = statistics.median(ratios)
    return {"rates": by_way, "ratios": ratios, "ratio": ratio, "cores": used,
            "cluster lag": statistics.median(each["cluster lag"] for each in found["two nodes"]),
            "ok": ratio >= RATIO}  # fmt: skip


CORES = ("nodes", "server", "Ray", "command")


def watched(words: list[str], sizes: Sizes) -> Row:
    """A run that is stopped: its rate after the first seconds, and whose CPU time that took."""
    with tempfile.TemporaryDirectory() as runs:
        process = start(*words, f"--runs-dir={runs}", "--log-every-seconds=0.5")
        try:
            first = wait_for_record(process, Path(runs), sizes.warm_seconds)
            before, begun = cpu_by_kind(process.pid), time.monotonic()
            time.sleep(sizes.seconds)
            last = wait_for_record(process, Path(runs), first["seconds"] + sizes.seconds)
            after, seconds = cpu_by_kind(process.pid), time.monotonic() - begun
        finally:
            stop(process, 60)
    steps = last["agent_steps"] - first["agent_steps"]
    return {
        "rate": steps / (last["seconds"] - first["seconds"]),
        "cores": {kind: (after[kind] - before[kind]) / seconds for kind in CORES},
        "cluster lag": last.get("cluster_lag", 0.0),
    }


def wait_for_record(process: subprocess.Popen[bytes], runs: Path, seconds: float) -> log.Record:
    """The first one of a run so many seconds after its start."""
    while process.poll() is None:
        for record in records_in(runs):
            if record["seconds"] >= seconds:
                return record
        time.sleep(0.05)
    raise RuntimeError(f"the run ended with exit code {process.returncode}")


# Learning


def learning_rows(sizes: Sizes) -> Rows:
    """Every setting before the next seed."""
    rows: dict[str, Callable[[], Row]] = {}
    for env, options in sizes.learned.items():
        for seed in range(1, sizes.seeds[env] + 1):
            ways = [("threads", count) for count in sizes.threads]
            ways += [("nodes", count) for count in sizes.nodes]
            for way, count in ways:
                what = partial(learned, env, way, count, seed, options, sizes.agent_steps[env])
                rows[f"{env}, {count} {way}, seed {seed}"] = what
    return rows


def learned(
    env: str, way: str, count: int, seed: int, options: tuple[str, ...], agent_steps: int
) -> Row:
    """What a run has learned at a third, two thirds and all of its agent steps."""
    threads, nodes = (count, 1) if way == "threads" else (1, count)
    number = [f"--num-threads={threads}", *([f"--nodes={nodes}"] if nodes > 1 else [])]
    with tempfile.TemporaryDirectory() as runs:
        finish(env, f"--seed={seed}", f"--total-agent-steps={agent_steps}", *number, *options,
               f"--evaluate-every={agent_steps}", "--log-every-seconds=1", "--device=cpu",
               f"--runs-dir={runs}")  # fmt: skip
        records, evaluated = records_in(Path(runs)), evaluations_in(Path(runs))
    last = records[-1]
    return {
        "env": env, "way": way, "count": count,
        "returns": [return_at(records, agent_steps * part // 3) for part in (1, 2, 3)],
        "evaluated": evaluated[-1]["sampled_return"],
        "policy lag": mean_of(records, "policy_lag"),
        "cluster lag": mean_of(records, "cluster_lag"),
        "rate": last["agent_steps"] / last["seconds"],
        "ok": last["agent_steps"] >= agent_steps,
    }  # fmt: skip


def return_at(records: list[log.Record], agent_steps: int) -> float | None:
    """Mean return of the last 100 games, at the first record from there on."""
    after = [each for each in records if each["agent_steps"] >= agent_steps]
    return after[0]["mean_return_100"] if after else None


def mean_of(records: list[log.Record], name: str) -> float | None:
    values = [each[name] for each in records if each.get(name) is not None]
    return statistics.mean(values) if values else None


# Costs


def networks(sizes: Sizes) -> dict[str, tuple[str, str, bool]]:
    """What is exchanged: the network that counts, and one of next to no parameters; and whether the
    average of squared gradients travels with them."""
    small = {"mlp": ("CartPole-v1", "mlp", False)}
    if sizes.env != "breakout":
        return small
    large = {"paper": False, "paper, and its average": True}
    return {**{name: ("breakout", "paper", average) for name, average in large.items()}, **small}


def costs(env: str, network: str, average: bool, sizes: Sizes) -> Row:
    """Median seconds of each step of an exchange, and CPU seconds of whole ones."""
    torch.set_num_threads(1)  # as train() has it
    config = preset("fast", env=env, network=network, num_threads=1, nodes=2, device="cpu")
    store = store_of(config)
    store.updates = 10_000  # the average has a past
    exchange = Exchange(store)
    exchange.updates -= 1  # as if there had been an update
    change = exchange.take(everything=average)
    sent, newest = Sent(0, 0, 0, change, MetricsPart(0, {}, [])), newest_of(config, store)
    if not average:
        del newest.vectors["square_avg"]
    median = partial(median_seconds, times=sizes.times)
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
        row |= costs_of_ray(config, store, sent, sizes)
    return row | {"ok": True}


def store_of(config: Config) -> SharedParameters:
    """As a node has it."""
    method = make_method(config)
    network = Network(config, spec_of(config), method, torch.float32)
    return SharedParameters(flatten(network)[0], sizes(network), config)


def newest_of(config: Config, store: SharedParameters) -> Newest:
    """A server's answer."""
    vectors = {name: vector.numpy().copy() for name, vector in store.save().items()}
    return Newest(0, 0, 0, 0, vectors, False, False, (0, 0.0, 0.0))


def alone(config: Config, store: SharedParameters, sent: Sent) -> Callable[[], object]:
    """All that the server computes in an exchange, without Ray."""
    server = Server(config, [len(store.parameters)], 0)
    loop = asyncio.new_event_loop()
    vectors = {name: vector.numpy() for name, vector in store.save().items()}
    loop.run_until_complete(server.load(vectors, 0, 0, set()))
    known = sent._replace(life=server.life)
    return lambda: loop.run_until_complete(server.exchange(known))


def costs_of_ray(config: Config, store: SharedParameters, sent: Sent, sizes: Sizes) -> Row:
    """With a real actor: a round trip, and the CPU time of both ends."""
    import ray  # which knows by now where to listen

    actor: Any = ray.remote(Server)
    server = actor.options(num_cpus=0).remote(config, [len(store.parameters)], 0)
    vectors = {name: vector.numpy() for name, vector in store.save().items()}
    ray.get(server.load.remote(vectors, 0, 0, set()))
    known = sent._replace(life=ray.get(server.join.remote(0)).life)

    def round_trip() -> None:
        ray.get(server.exchange.remote(known))

    median_seconds(round_trip, 3)  # memory is mapped
    (pid,) = actors("Server")
    before, own = cpu_seconds(stat(pid)), time.process_time()
    seconds = median_seconds(round_trip, sizes.times)
    return {
        "serialise": median_seconds(lambda: ray.get(ray.put(known)), sizes.times),
        "round trip": seconds,
        "server cpu": (cpu_seconds(stat(pid)) - before) / sizes.times,
        "node cpu": (time.process_time() - own) / sizes.times,
    }


def median_seconds(do: Callable[[], object], times: int) -> float:
    """Of one call."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        do()
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


# Simulation


class Kind(NamedTuple):
    """A node: how fast it is. A node wants to exchange when each thread has made an update."""

    name: str
    threads: int
    updates_per_second: float

    @property
    def period(self) -> float:
        """Seconds between two exchanges, as wanted."""
        return self.threads / self.updates_per_second


class Costs(NamedTuple):
    """Of one exchange with one server, or one shard of it, in seconds."""

    node: float  # of a node's exchanger, before and after
    link: float  # of the server's network each way, which it can do one after another
    server: float  # one thread
    delay: float  # in which nobody is busy, there and back


class Outcome(NamedTuple):
    """Of all nodes, without the first fifth of their exchanges."""

    efficiency: float  # exchanges made / wanted
    under_way: float  # share of a node's time with an exchange under way
    lag_exchanges: float  # mean: of others, between what a node took and what it sent
    lag_updates: float
    server_busy: float
    link_busy: float  # in one direction


@dataclass
class Node:
    """A simulated one."""

    took: float  # when it last took what was new
    wanted: float  # seconds after that until it wants to do so again
    carried: float = 0.0  # updates of the exchange under way
    seen: tuple[int, float] = 0, 0.0  # exchanges and updates of the server, when it was answered


class Sums:
    """Of the time since `since`."""

    def __init__(self, since: float):
        self.since = since
        self.wanted = self.taken = self.under_way = 0.0  # seconds, over exchanges
        self.served = dict.fromkeys(STATIONS, 0.0)
        self.lags: list[tuple[int, float]] = []

    def outcome(self, end: float, nodes: int, on_their_way: list[float]) -> Outcome:
        """on_their_way: when those exchanges began that are under way at the end."""
        seconds = end - self.since
        under_way = self.under_way + sum(end - max(each, self.since) for each in on_their_way)
        exchanges, updates = zip(*self.lags, strict=True)
        return Outcome(
            self.wanted / self.taken,
            under_way / (nodes * seconds),
            statistics.fmean(exchanges),
            statistics.fmean(updates),
            self.served["server"] / seconds,
            self.served["in"] / seconds,
        )


STATIONS = ("in", "server", "out")
NEXT = {"in": "server", "server": "out", "out": "done"}


def simulate(
    kind: Kind, costs: Costs, nodes: int, exchanges: int, irregular: float = 0.0
) -> Outcome:
    """Nodes that begin one after another within a period; so many exchanges of each on average.

    An exchange: half of the node's time and of the delay, the server's network in, the server, its
    network out, the other halves. Network and server serve in the order of arrival. A node that is
    done sends again once its threads have made the updates since it last took, at once if they
    have; what it sends are all updates since then.
    irregular: periods are drawn between 1 - irregular and 1 + irregular times the kind's.
    """
    period, drawn, half = kind.period, random.Random(1), (costs.node + costs.delay) / 2
    serve = {"in": costs.link, "server": costs.server, "out": costs.link}
    free = dict.fromkeys(STATIONS, 0.0)  # from when on
    each = [Node(period * (i / nodes - 1), period) for i in range(nodes)]
    events = [(node.took + period, "take", i) for i, node in enumerate(each)]
    heapq.heapify(events)
    sums, version, updates, now = Sums(0.0), 0, 0.0, 0.0
    while version < nodes * exchanges:
        now, what, i = heapq.heappop(events)
        node = each[i]
        if what == "take":
            sums.wanted, sums.taken = sums.wanted + node.wanted, sums.taken + now - node.took
            node.carried, node.took = (now - node.took) * kind.updates_per_second, now
            heapq.heappush(events, (now + half, "in", i))
            continue
        if what == "done":
            sums.under_way += now - max(node.took, sums.since)
            node.wanted = period * drawn.uniform(1 - irregular, 1 + irregular)
            heapq.heappush(events, (max(now, node.took + node.wanted), "take", i))
            continue
        if what == "out":  # the server has added it
            sums.lags.append((version - node.seen[0], updates - node.seen[1]))
            version, updates = version + 1, updates + node.carried
            node.seen = version, updates
            if version == nodes * exchanges // 5:
                sums = Sums(now)
        free[what] = max(now, free[what]) + serve[what]
        sums.served[what] += serve[what]
        following = NEXT[what]
        heapq.heappush(events, (free[what] + half * (following == "done"), following, i))
    on_their_way = [each[i].took for _, what, i in events if what != "take"]
    return sums.outcome(now, nodes, on_their_way)


class Setting(NamedTuple):
    """What is simulated."""

    kind: str  # cpu, gpu
    gigabits: int  # per second, of the server's network, each way
    shards: int
    bytes_per_number: int  # on the wire

    @property
    def words(self) -> str:
        wire = ", bfloat16 on the wire" if self.bytes_per_number == 2 else ""
        shards = f"server in {self.shards} shards" if self.shards > 1 else "one server"
        return f"{KINDS[self.kind]}, {self.gigabits} Gbit/s, {shards}{wire}"


KINDS = {"cpu": "16 CPU threads", "gpu": "a GPU of 50,000 agent steps/s"}
GPU_AGENT_STEPS_PER_SECOND = 50_000
NODE_THREADS = 16


def settings() -> Iterator[Setting]:
    """Of each kind of node."""
    for kind in KINDS:
        for gigabits in (10, 1):
            yield from (Setting(kind, gigabits, shards, 4) for shards in (1, 2, 4, 8))
            yield Setting(kind, gigabits, 1, 2)


def simulated(setting: Setting, sizes: Sizes, results: Results) -> Row:
    """By number of nodes, and how many it would take to saturate server and network."""
    kind, each = kind_of(setting.kind, results), costs_of(setting, results)
    found = {
        str(nodes): simulate(kind, each, nodes, sizes.exchanges, IRREGULAR)._asdict()
        for nodes in sizes.simulated
    }
    return {
        "nodes": found,
        "wanted": 1 / kind.period,  # exchanges per second of a node
        "server full": kind.period / each.server,  # nodes
        "network full": kind.period / each.link,
        # what the exchanges that are made take of the node's cores, where each has one
        "own": {
            nodes: row["efficiency"] * each.node / kind.period / kind.threads
            for nodes, row in found.items()
        },
        "ok": setting.shards > 1 or found["16"]["efficiency"] >= EFFICIENCY,
    }


def kind_of(name: str, results: Results) -> Kind:
    """Of the two: with this machine's rate of a thread, or a GPU's. It needs `rate`."""
    if name == "gpu":
        rate = GPU_AGENT_STEPS_PER_SECOND
    else:
        (row,) = results.good("rate").values()
        rate = NODE_THREADS * statistics.median(row["rates"]["one thread"])
    return Kind(name, NODE_THREADS, rate / UPDATE_AGENT_STEPS)


def costs_of(setting: Setting, results: Results) -> Costs:
    """It needs `costs`: the largest network, and the smallest for what does not shrink in shards.

    A shard has a K-th of the vectors, on a machine with a network of its own. The server's CPU time
    is taken as its one thread's, though Ray copies in others: so it saturates rather too early.
    """
    rows = results.good("costs")
    most = max(row["parameters"] for row in rows.values())
    large = usual([row for row in rows.values() if row["parameters"] == most])
    small = min(rows.values(), key=lambda row: row["parameters"])
    share = 1 / setting.shards
    wire = large["bytes"] * setting.bytes_per_number / 4 * share

    def parted(name: str) -> float:
        return float(small[name] + max(0.0, large[name] - small[name]) * share)

    node = large["take"] + large["merge"] + parted("node cpu") * setting.shards
    idle = max(0.0, large["round trip"] - large["server cpu"] - large["node cpu"])
    return Costs(node, wire * 8 / (setting.gigabits * 1e9), parted("server cpu"), idle)


def usual(rows: list[Row]) -> Row:
    """The mean exchange of a network: its average travels with one in AVERAGE_EVERY."""
    plain, whole = (f(rows, key=lambda row: row["bytes"]) for f in (min, max))
    mean: Row = {
        name: plain[name] + (whole[name] - plain[name]) / AVERAGE_EVERY
        for name in plain.keys() & whole.keys()
        if isinstance(plain[name], float | int)
    }
    return mean


# Kills


class Watch:
    """What the command's process is told of its cluster, and what is killed meanwhile."""

    def __init__(self, sizes: Sizes):
        self.sizes = sizes
        self.random = random.Random(1)
        self.agent_steps = self.base = self.life = 0
        self.saved = {0}  # agent steps of checkpoints
        self.wrong: list[str] = []
        self.rolled_back: list[int] = []  # agent steps, at least
        self.per_exchange: list[float] = []  # agent steps
        self.killed: list[str] = []
        self.over = threading.Event()

    def take(self, status: Any) -> None:
        """The counters of a status: what the nodes have sent, and what this server began with."""
        sent = sum(each.agent_steps for each in status.nodes.values())
        base = status.agent_steps - sent
        if status.life != self.life:
            if self.life:
                self.rolled_back.append(self.agent_steps - base)
            if base not in self.saved:
                self.wrong.append(f"the server began with {base:,}, which is no checkpoint")
            self.life, self.base = status.life, base
        if base != self.base:
            self.wrong.append(f"{base - self.base:+,} agent steps that no node has sent")
        self.agent_steps = status.agent_steps
        exchanges = sum(each.exchanges for each in status.nodes.values())
        if exchanges:
            self.per_exchange.append(sent / exchanges)

    def kill_in_turn(self) -> None:
        """At random agent steps between a twentieth and nine tenths of the run, in random order."""
        total = self.sizes.killed_agent_steps
        kills = self.random.sample(self.sizes.kills, len(self.sizes.kills))
        moments = sorted(self.random.uniform(0.05, 0.9) * total for _ in kills)
        for name, moment in zip(kills, moments, strict=True):
            while self.agent_steps < moment or not (found := actors(name)):
                if self.over.wait(0.05):
                    return
            os.kill(self.random.choice(found), signal.SIGKILL)
            self.killed.append(name)


def killed(sizes: Sizes) -> Row:
    """One run of two nodes, in this process."""
    os.environ.update({**QUIET, **LOOPBACK})  # before Ray is imported
    from a3c.cluster.cluster import Cluster
    from a3c.train import train

    watch = Watch(sizes)
    take, save = Cluster.take, Cluster.save

    def taken(cluster: Cluster, status: Any) -> None:
        watch.take(status)
        take(cluster, status)

    def saved(cluster: Cluster) -> Any:
        tensors = save(cluster)
        watch.saved.add(cluster.began.agent_steps)
        return tensors

    killing = threading.Thread(target=watch.kill_in_turn)
    with (
        tempfile.TemporaryDirectory() as runs,
        mock.patch.multiple(Cluster, take=taken, save=saved),
    ):
        every = sizes.checkpoint_every_seconds
        config = preset("control", env="CartPole-v1", nodes=2, num_threads=1, runs_dir=runs,
                        total_agent_steps=sizes.killed_agent_steps,
                        checkpoint_every_seconds=every)  # fmt: skip
        killing.start()
        try:
            run = train(config, quiet=True)
        finally:
            watch.over.set()
            killing.join()
        saved_steps = max(int(path.stem) for path in run.folder.glob("checkpoints/[0-9]*"))
    if not run.agent_steps == watch.agent_steps == saved_steps:
        watch.wrong.append(
            f"{run.agent_steps:,}, {watch.agent_steps:,}, {saved_steps:,} at the end"
        )
    left = left_over()
    mean = run.mean_return_100 or 0.0
    return {
        "nodes killed": watch.killed.count("Member"),
        "server killed": watch.killed.count("Server"),
        "agent steps": run.agent_steps,
        "wrong": watch.wrong,
        "rolled back": watch.rolled_back,
        "per exchange": statistics.fmean(watch.per_exchange),
        "mean return": mean,
        "left": left,
        "ok": run.finished and not watch.wrong and not left and mean >= sizes.mean_return
        and len(watch.killed) == len(sizes.kills),
    }  # fmt: skip


def left_over(seconds: float = 20) -> list[str]:
    """Names of processes that this one has started and that still run."""
    end = time.monotonic() + seconds
    while (found := running_below()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def running_below() -> list[str]:
    own = {pid: stat(pid) for pid in below(os.getpid())}
    return [name_of(pid) for pid, words in own.items() if words and words[0] != "Z"]


# The command


SAME = ("processor", "sizes", "torch", "ray")  # of all rows of a file


def main(words: list[str] | None = None) -> int:
    parser = parser_of(__doc__)
    out = Path(__file__).parent / "results" / "cluster.md"
    parser.add_argument("--out", type=Path, default=out, help="the table")
    parser.add_argument("--seeds", default="3,1", help="of CartPole and of Breakout")
    options = parser.parse_args(words)
    sizes = sizes_of(options, parser)
    results = Results(options.out.with_suffix(".json"), place(options), SAME)
    parts = chosen(parts_of(sizes, results), options, parser)

    def elsewhere(part: str) -> None:  # Ray is imported once in each process
        subprocess.run(command_of(__file__, part, options, "--seeds", options.seeds))

    return measure_all(parts, results, options, elsewhere, report, load)


def sizes_of(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Sizes:
    try:
        seeds = tuple(map(int, options.seeds.split(",")))
        of_env = dict(zip(FULL.seeds, seeds, strict=True))
    except ValueError:
        parser.error(f"--seeds is {options.seeds!r}; expected two numbers, such as 3,1")
    return TINY if options.tiny else replace(FULL, seeds=of_env)


def place(options: argparse.Namespace) -> Row:
    """Versions, processor, how much is measured."""
    return {
        **provenance.provenance(),
        "ray": provenance.version_of("ray"),
        "system": platform.system(),
        "sizes": "tiny" if options.tiny else "full",
    }


def load() -> Row:
    """Of the last quarter of an hour: what else ran here would show in rates."""
    return {"load": round(os.getloadavg()[2], 1)}


# The report


KNOWN = ("ray", "torch", "python", "numpy", "numba", "processor", "cores", "system")


def report(results: Results) -> Lines:
    script = "benchmarks/cluster.py"
    rows = [row for part in results.parts.values() for row in part.values()]
    load = max((row["load"] for row in rows), default=0)
    most = f"load of the machine at most {load:g}"
    yield from preamble("Several nodes", script, results, KNOWN, most)
    yield from goals_table(results)
    yield from sections(results, SECTIONS, f"python {script}")


def goals_table(results: Results) -> Lines:
    rate, killed = (first(results, part) for part in ("rate", "kills"))
    yield from ["", "## Goals", "", *header(["", "goal", "reached"], "lll")]
    reached = f"{rate['ratio']:.2f}" if "ratio" in rate else "not measured"
    yield line(["rate of two nodes to that of one thread", f"{RATIO}", reached])
    yield from simulated_goals(results.parts.get("simulation", {}))
    reached = verdict(killed) if "wrong" in killed else "not measured"
    goal = "counters exact, learned, no process left"
    yield line(["nodes killed twenty times, the server twice", goal, reached])


def first(results: Results, part: str) -> Row:
    """The part's one row, if there."""
    return next(iter(results.parts.get(part, {}).values()), {})


def simulated_goals(rows: dict[str, Row]) -> Lines:
    """Of each kind of node."""
    for kind, words in KINDS.items():
        row = rows.get(Setting(kind, 10, 1, 4).words, {})
        made = kept = "not simulated"
        if "nodes" in row:
            made = f"{row['nodes']['16']['efficiency']:.0%}"
            kept = f"{1 - row['own']['16']:.1%}"
        yield line([f"16 nodes of {words}: agent steps that exchanges leave them", "", kept])
        yield line(["the same: exchanges made of those wanted", f"{EFFICIENCY:.0%}", made])


def rate_table(rows: dict[str, Row]) -> Lines:
    for name, row in rows.items():
        yield f"{name}, agent steps per second; then CPU time of the processes by the clock's."
        yield ""
        names = ["nodes", "server", "Ray's own", "the command"]
        yield from header(["", "of each run", "median", *names], "llrrrrr")
        for way, found in row["rates"].items():
            cores = [f"{row['cores'][way][kind]:.2f}" for kind in CORES]
            each = ", ".join(f"{x:,.0f}" for x in found)
            yield line([way, each, f"{statistics.median(found):,.0f}", *cores])
        ratios = ", ".join(f"{x:.2f}" for x in row["ratios"])
        yield f"\nRatios {ratios}; median {row['ratio']:.2f}. Cluster lag {row['cluster lag']:.2f}."


def learning_table(rows: dict[str, Row]) -> Lines:
    """Means over seeds, and each in brackets."""
    yield "Mean return of the last 100 games at a third, two thirds and all of the agent steps;"
    yield "then of sampled games of the last policy. Of several seeds the mean, each in brackets."
    yield ""
    names = ["1/3", "2/3", "all", "evaluated", "policy lag", "cluster lag", "agent steps/s"]
    yield from header(["", *names], "lllllrrr")
    groups: dict[str, list[Row]] = {}
    for name, row in rows.items():
        groups.setdefault(name.rpartition(", seed")[0], []).append(row)
    for name, seeds in groups.items():
        columns = [[row["returns"][i] for row in seeds] for i in range(3)]
        columns.append([row["evaluated"] for row in seeds])
        lags = [average([row[lag] for row in seeds], 2) for lag in ("policy lag", "cluster lag")]
        rate = average([row["rate"] for row in seeds], 0)
        yield line([name, *map(spread, columns), *lags, rate])


def average(values: list[float | None], digits: int) -> str:
    there = [value for value in values if value is not None]
    return f"{statistics.fmean(there):,.{digits}f}" if there else "-"


def spread(values: list[float | None]) -> str:
    each = ", ".join("-" if value is None else f"{value:.1f}" for value in values)
    return f"{average(values, 1)} ({each})" if len(values) > 1 else each


def costs_table(rows: dict[str, Row]) -> Lines:
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


def simulation_table(rows: dict[str, Row]) -> Lines:
    yield from SIMULATION.strip().splitlines()
    yield ""
    counts = list(next(iter(rows.values()))["nodes"])
    names = ["nodes of", "wanted/s", "server full at", "network full at"]
    names += [f"{int(count):,} nodes" for count in counts]
    yield from header(names, "lrrr" + "l" * len(counts))
    for name, row in rows.items():
        full = [f"{row['server full']:,.0f}", f"{row['network full']:,.0f}"]
        cells = [cell(row["nodes"][count]) for count in counts]
        yield line([name, f"{row['wanted']:.1f}", *full, *cells])
    own = max(share for row in rows.values() for share in row["own"].values())
    yield f"\nOf a node's cores its exchanges take {own:.1%} at most."


SIMULATION = """
No node ever waits for an exchange: no agent step is lost, and where server or network are full
exchanges are larger, and the lag longer. A node wants an exchange when each of its threads has had
an update, on average; these periods are drawn from 0.7 to 1.3 times the mean. In each cell:
efficiency, which is the exchanges that are made of those that are wanted; the share of time in
which a node has an exchange under way; the cluster lag in exchanges, and in updates. Full at: so
many nodes would want all that the server's thread, or its network each way, can do. Threads of a
CPU are as fast as the one of `rate`, with updates of 320 agent steps; costs are those of `costs`,
of eight exchanges one with the average of squared gradients.
bfloat16 is arithmetic: half of the bytes on the network, everything else as it was. Shards: each
has a part of the vectors, and a machine of its own.
"""


def cell(row: Row) -> str:
    lag = f"{row['lag_exchanges']:,.0f}, {row['lag_updates']:,.0f}"
    return f"{row['efficiency']:.0%}, {row['under_way']:.0%}; {lag}"


def kills_table(rows: dict[str, Row]) -> Lines:
    for name, row in rows.items():
        yield (
            f"{name}, two nodes, {row['agent steps']:,} agent steps: nodes killed "
            f"{row['nodes killed']} times, the server {row['server killed']} times. {verdict(row)}."
        )
        rolled = ", ".join(f"{x:,}" for x in row["rolled back"]) or "nothing"
        yield from [
            "",
            f"- Mean return of the last 100 games: {row['mean return']:.1f}.",
            "- Agent steps that the nodes have sent since the server began, and those with which "
            f"it began, against the counter: {'; '.join(row['wrong']) or 'equal each time'}.",
            f"- Rolled back to a checkpoint: {rolled} agent steps.",
            "- Lost with a node: what it had not sent. An exchange carried "
            f"{row['per exchange']:,.0f} agent steps; one can be under way, and one be due.",
            f"- Processes that were left: {', '.join(row['left']) or 'none'}.",
        ]


SECTIONS = {
    "rate": ("Rate", rate_table),
    "learning": ("Learning", learning_table),
    "costs": ("What an exchange costs", costs_table),
    "simulation": ("More nodes, by simulation", simulation_table),
    "kills": ("Kills", kills_table),
}


if __name__ == "__main__":
    sys.exit(main())
