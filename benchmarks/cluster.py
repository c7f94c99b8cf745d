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
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from a3c.cluster.machines import LOOPBACK, QUIET
from a3c.presets import preset
from a3c.run import log, provenance

sys.path.insert(0, str(Path(__file__).parent.parent))  # `benchmarks` is not installed

from benchmarks import exchange_costs, simulation
from benchmarks.processes import actors, below, cpu_seconds, name_of, stat
from benchmarks.rows import Parts, Results, Row, Rows, chosen, command_of, measure_all, parser_of
from benchmarks.runs import evaluations_in, finish, records_in, start, stop
from benchmarks.tables import Lines, header, line, preamble, sections, verdict

RATIO = 1.8  # of two nodes' rate to one thread's


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
            name: partial(exchange_costs.measured, *which, sizes.times)
            for name, which in exchange_costs.networks(sizes.env).items()
        },
        "simulation": {
            each.words: partial(
                simulation.simulated, each, sizes.simulated, sizes.exchanges, results
            )
            for each in simulation.settings()
        },
        "kills": {"CartPole-v1": partial(killed, sizes)},
    }


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
    yield from simulation.goals(results.parts.get("simulation", {}))
    reached = verdict(killed) if "wrong" in killed else "not measured"
    goal = "counters exact, learned, no process left"
    yield line(["nodes killed twenty times, the server twice", goal, reached])


def first(results: Results, part: str) -> Row:
    """The part's one row, if there."""
    return next(iter(results.parts.get(part, {}).values()), {})


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
    "costs": ("What an exchange costs", exchange_costs.table),
    "simulation": ("More nodes, by simulation", simulation.table),
    "kills": ("Kills", kills_table),
}


if __name__ == "__main__":
    sys.exit(main())
