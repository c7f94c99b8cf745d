"""The part `simulation` of cluster.py: many nodes and their server, from costs as measured."""

from __future__ import annotations

import heapq
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from a3c.cluster.exchange import AVERAGE_EVERY
from a3c.config import UPDATE_AGENT_STEPS
from benchmarks.rows import Results, Row
from benchmarks.tables import Lines, header, line

EFFICIENCY = 0.9  # at 16 nodes
IRREGULAR = 0.3  # periods of simulated nodes


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


def simulated(setting: Setting, nodes: Sequence[int], exchanges: int, results: Results) -> Row:
    """By number of nodes, and how many it would take to saturate server and network."""
    kind, each = kind_of(setting.kind, results), costs_of(setting, results)
    found = {
        str(count): simulate(kind, each, count, exchanges, IRREGULAR)._asdict() for count in nodes
    }
    return {
        "nodes": found,
        "wanted": 1 / kind.period,  # exchanges per second of a node
        "server full": kind.period / each.server,  # nodes
        "network full": kind.period / each.link,
        # what the exchanges that are made take of the node's cores, where each has one
        "own": {
            count: row["efficiency"] * each.node / kind.period / kind.threads
            for count, row in found.items()
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


# What is shown


def goals(rows: dict[str, Row]) -> Lines:
    """Of each kind of node."""
    for kind, words in KINDS.items():
        row = rows.get(Setting(kind, 10, 1, 4).words, {})
        made = kept = "not simulated"
        if "nodes" in row:
            made = f"{row['nodes']['16']['efficiency']:.0%}"
            kept = f"{1 - row['own']['16']:.1%}"
        yield line([f"16 nodes of {words}: agent steps that exchanges leave them", "", kept])
        yield line(["the same: exchanges made of those wanted", f"{EFFICIENCY:.0%}", made])


def table(rows: dict[str, Row]) -> Lines:
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
