"""All that is to be seen on a GPU, in one command: is it right, how fast is it, what does it learn?

    python benchmarks/gpu.py                          # eleven minutes, on one H100 or H200
    python benchmarks/gpu.py --parts parity,rates     # some of it
    python benchmarks/gpu.py --device cpu --tiny      # every step but the device's, in seconds

Each part runs in a process of its own and is ended at its limit. What is measured stands at once in
a JSON beside the table, and is not measured again: begun anew, the command goes on where it was.
So where defaults have changed since, --out names another table.

    parity    a rollout and its updates against the CPU's: networks, heads, graphs on and off
    resume    a run that is killed and resumed against one that is not
    devices   parity on the second GPU, one GPU against two, a run on all, where there are several
    learner   agent steps per second where environments cost nothing
    rates     agent steps per second of training, by agents, network and graphs; where time goes
    pong, breakout    the time until they are learned, with the defaults

Rates are those of whole rollouts of all threads between two moments after start-up, and without a
checkpoint between them, by the same counters as the log's.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from a3c.config import Config
from a3c.devices import pick_device
from a3c.envs import spec_of
from a3c.metrics import RECENT_GAMES, STAGES
from a3c.node import Node
from a3c.presets import preset
from a3c.run import checkpoint, log, provenance
from a3c.run.checkpoint import Checkpoint

sys.path.insert(0, str(Path(__file__).parent.parent))  # `benchmarks` is not installed

from benchmarks.parity import CLOSE, Extent, Prepared, node_of, parity, parity_table
from benchmarks.processes import end_group
from benchmarks.rows import Parts, Results, Row, Rows, chosen, command_of, measure_all, parser_of
from benchmarks.runs import evaluations_in, finish, records_in, start, stop
from benchmarks.tables import Lines, Tables, header, line, preamble, sections, verdict

# Seconds after which a part is ended, the start of its process included; 635 on one GPU, which has
# no `devices`. The emulator is compiled beside `parity` where that has not been done before: what
# is left of it is `compile`.
LIMITS = {
    "compile": 50, "parity": 55, "resume": 70, "devices": 75, "learner": 45, "rates": 95,
    "pong": 135, "breakout": 185,
}  # fmt: skip
TO_END = 20  # seconds of these in which a run that has not learned ends, is read and written
NEED_THE_EMULATOR = ("resume", "devices", "rates", "pong", "breakout")


class Speed(NamedTuple):
    """Whose rate is measured."""

    network: str
    graphs: str  # on, off
    agents: int  # of all threads

    @property
    def words(self) -> str:
        return f"{self.network}, graphs {self.graphs}, {self.agents:,} agents"


class Goal(NamedTuple):
    """What is to be learned: a game, its return."""

    env: str
    mean_return: float
    evaluate_every: int  # agent steps
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    preset: str  # of all but parity
    env: str
    networks: tuple[str, ...]  # of parity
    heads: tuple[str, ...]
    extent: Extent  # of parity
    resumed: tuple[str, ...]  # options of the run that is killed
    learner: tuple[Speed, ...]
    rates: tuple[Speed, ...]
    warm_seconds: float
    seconds: float  # of a rate
    longest: float  # of both, where a rollout takes longer
    goals: dict[str, Goal]


HEADS = ("discrete", "independent std", "dependent std", "recurrent", "minibatches")
FULL = Sizes(
    preset="fast",
    env="breakout",
    networks=("slim", "seed", "nature", "mlp"),
    heads=HEADS,
    extent=Extent(agents=8, rollout_length=5, updates=6),
    # It grows twice, to four minibatches, after 41,000 and 82,000 agent steps
    resumed=(
        "--num-envs=64",
        "--rollout-length=5",
        "--minibatches=4",
        "--total-agent-steps=90000",
        "--checkpoint-every-seconds=0.5",
    ),
    learner=(
        Speed("slim", "on", 1024),
        Speed("slim", "on", 8192),
        Speed("slim", "off", 8192),
        Speed("nature", "on", 8192),
    ),
    rates=(
        Speed("slim", "on", 1024),
        Speed("slim", "on", 4096),
        Speed("nature", "on", 1024),
        Speed("slim", "off", 1024),
        Speed("slim", "on", 256),
        Speed("slim", "on", 8192),
        Speed("nature", "on", 8192),
        Speed("nature", "off", 1024),
    ),
    warm_seconds=1.5,
    seconds=3,
    longest=9,
    goals={"pong": Goal("pong", 18, 250_000), "breakout": Goal("breakout", 400, 2_000_000)},
)
TINY = Sizes(
    preset="control",
    env="CartPole-v1",
    networks=("slim", "mlp"),
    heads=("dependent std", "recurrent", "minibatches"),
    extent=Extent(agents=4, rollout_length=3, updates=2),
    resumed=("--num-envs=8", "--total-agent-steps=40000", "--checkpoint-every-seconds=0.2"),
    learner=(Speed("mlp", "off", 8),),
    rates=(Speed("mlp", "off", 8),),
    warm_seconds=0.05,
    seconds=0.1,
    longest=2,
    # Hardly learned from, so that games stay short: a hundred of them are what a mean is of
    goals={"pong": Goal("CartPole-v1", 15, 4000, ("--total-agent-steps=12000", "--lr=1e-9"))},
)


def parts_of(device: str, sizes: Sizes) -> Parts:
    """All there is to measure."""
    return {
        "parity": {
            f"{network}, {head}": partial(parity, network, head, device, sizes.extent)
            for head in sizes.heads
            for network in sizes.networks
        },
        "resume": {sizes.env: partial(resumed, device, sizes)},
        "devices": several(device, sizes),
        "learner": {
            each.words: partial(speed, each, device, sizes, True) for each in sizes.learner
        },
        "rates": {each.words: partial(speed, each, device, sizes, False) for each in sizes.rates},
        **{
            name: {goal.env: partial(learned, goal, device, sizes, LIMITS[name] - TO_END)}
            for name, goal in sizes.goals.items()
        },
    }


# Resume, several GPUs


# What cuDNN adds in any order could differ from run to run
DETERMINISTIC = """
import sys, torch
from a3c import cli
torch.backends.cudnn.deterministic = True
sys.exit(cli.main())
"""
PROGRAM = ("-c", DETERMINISTIC)


def resumed(device: str, sizes: Sizes) -> Row:
    """A run that is killed after its first checkpoint; bit by bit the same in the end?"""
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        words = [sizes.env, f"--preset={sizes.preset}", f"--device={device}", "--num-threads=1"]
        words += sizes.resumed
        finish(*words, f"--runs-dir={whole}", program=PROGRAM)
        run = kill_at_checkpoint([*words, f"--runs-dir={killed}"], killed)
        at = checkpoint.newest(run).checkpoint.progress["agent_steps"]
        finish("--resume", str(run), program=PROGRAM)
        one, other = (checkpoint.newest(each).checkpoint for each in (whole / "latest", run))
    steps = [each.progress["agent_steps"] for each in (one, other)]
    differ = differing(one, other)
    return {"killed at": at, "agent steps": steps[1], "differ": differ,
            "ok": not differ and steps[0] == steps[1] > at}  # fmt: skip


def differing(one: Checkpoint, other: Checkpoint) -> list[str]:
    """The tensors that are not the same bit by bit."""
    return [name for name in one.tensors if not torch.equal(one.tensors[name], other.tensors[name])]


def kill_at_checkpoint(words: list[str], runs: Path) -> Path:
    """kill -9 as soon as there is a checkpoint; returns the run's folder."""
    process = start(*words, program=PROGRAM)
    while not (found := list(runs.glob("*/checkpoints/*.safetensors"))):
        if process.poll() is not None:
            raise RuntimeError("the run ended before its first checkpoint")
        time.sleep(0.01)
    process.kill()
    if process.wait() != -signal.SIGKILL:
        raise RuntimeError("the run was over before it could be killed")
    return found[0].parent.parent


def several(device: str, sizes: Sizes) -> Rows:
    """Rows for more GPUs than one, if these are there and nobody asked for a certain one."""
    count = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if count < 2:
        return {}
    rows = {"parity on cuda:1": partial(parity, "slim", "discrete", "cuda:1", sizes.extent)}
    dealt = "the same on one and on two"
    rows[dealt] = partial(alike_on, ("cuda:0", "cuda:0,cuda:1"), sizes)
    return {**rows, f"training on all {count}": partial(on_all, count, sizes)}


def alike_on(devices: Sequence[str], sizes: Sizes) -> Row:
    """Two threads in sync mode on each of these devices: bit by bit the same in the end? The
    average is taken in the order of the threads, on the first device of them."""
    with tempfile.TemporaryDirectory() as folder:
        ends = []
        for i, device in enumerate(devices):
            runs = Path(folder) / str(i)
            finish(sizes.env, f"--preset={sizes.preset}", f"--device={device}", "--mode=sync",
                   "--num-threads=2", "--num-envs=8", "--no-grow", "--total-agent-steps=8000",
                   f"--runs-dir={runs}", program=PROGRAM)  # fmt: skip
            ends.append(checkpoint.newest(runs / "latest").checkpoint)
    differ = differing(*ends)
    return {"agent steps": ends[0].progress["agent_steps"], "differ": differ, "ok": not differ}


ON_ALL_AGENT_STEPS = 100_000


def on_all(count: int, sizes: Sizes) -> Row:
    """A short run with two threads for each GPU comes to its end."""
    with tempfile.TemporaryDirectory() as runs:
        finish(sizes.env, f"--preset={sizes.preset}", "--device=cuda", f"--num-threads={2 * count}",
               "--num-envs=64", "--no-grow", f"--total-agent-steps={ON_ALL_AGENT_STEPS}",
               f"--runs-dir={runs}")  # fmt: skip
        last = records_in(Path(runs))[-1]
    whole = last["agent_steps"] >= ON_ALL_AGENT_STEPS
    return {"rate": last["agent_steps"] / last["seconds"], "ok": whole}


# Rates


def speed(what: Speed, device: str, sizes: Sizes, stub: bool) -> Row:
    """Of training, or with environments that do nothing; threads as the defaults have them."""
    config = config_of_speed(what, device, sizes)
    spec = spec_of(config) if stub else None
    make = None if spec is None else lambda agents: Prepared(spec, agents, 2, 0.0)
    reset_gpu_memory(device)
    with node_of(config, make) as node:
        record = measured(node, sizes)
    return {
        "rate": record["agent_steps_per_second"],
        "frames": record["agent_steps_per_second"] * config.mean_frame_skip,
        "updates": record["updates in it"],
        "threads": config.num_threads,
        "minibatches": config.minibatches,
        "stages": {stage: record.get(f"seconds_{stage}", 0.0) for stage in STAGES},
        "gpu memory": gpu_memory(device),
        "ok": record["whole"],
    }


def config_of_speed(what: Speed, device: str, sizes: Sizes) -> Config:
    changes = {
        "env": sizes.env,
        "network": what.network,
        "device": device,
        "cuda_graphs": what.graphs,
        "grow": False,  # the rate is that of all agents
    }
    threads = min(preset(sizes.preset, **changes).num_threads, what.agents)
    return preset(sizes.preset, num_threads=threads, num_envs=what.agents // threads, **changes)


def measured(node: Node, sizes: Sizes) -> log.Record:
    """The record between two moments at which every thread has learned from whole rollouts."""
    store, metrics = node.store, node.learners[0].metrics
    metrics.begin()
    node.start()
    end = time.monotonic() + sizes.longest
    whole = passed_rollout(node, sizes.warm_seconds, end)
    updates = store.updates
    metrics.drain(store.agent_steps, updates)
    whole = (
        passed_rollout(node, sizes.seconds, max(end, time.monotonic() + sizes.seconds)) and whole
    )
    record = metrics.drain(store.agent_steps, store.updates)
    if node.failures:
        raise node.failures[0]
    return {**record, "updates in it": store.updates - updates, "whole": whole}


def passed_rollout(node: Node, seconds: float, end: float) -> bool:
    """Wait so long, then until all threads have another rollout; False if `end` came before."""
    config, store = node.config, node.store
    rollout = config.num_threads * config.num_envs * config.rollout_length  # agent steps
    time.sleep(seconds)
    before = store.agent_steps // rollout
    while store.agent_steps // rollout == before:
        if time.monotonic() > end or node.failures:
            return False
        time.sleep(0.001)
    return True


def reset_gpu_memory(device: str) -> None:
    if pick_device(device).type == "cuda":
        gc.collect()  # a node before this one
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(pick_device(device))


def gpu_memory(device: str) -> int | None:
    """Bytes that the allocator had at most; None on a CPU."""
    found = pick_device(device)
    return torch.cuda.max_memory_reserved(found) if found.type == "cuda" else None


# Learning


def learned(goal: Goal, device: str, sizes: Sizes, limit: float) -> Row:
    """How long until training's mean of 100 games, and an evaluation, reach the goal."""
    with tempfile.TemporaryDirectory() as runs:
        process = start(
            goal.env, f"--preset={sizes.preset}", f"--device={device}", f"--runs-dir={runs}",
            "--log-every-seconds=1", f"--evaluate-every={goal.evaluate_every}", *goal.options,
        )  # fmt: skip
        begun, found = time.monotonic(), Row()
        while process.poll() is None and time.monotonic() < begun + limit:
            time.sleep(0.5)
            found = progress(Path(runs), goal)
            if found.get("mean") and found.get("evaluation"):
                break
        ended = process.poll()
        stop(process, 10)
        found = progress(Path(runs), goal)
    if ended:  # it has not missed the goal, it has failed
        raise RuntimeError(f"training ended with exit code {ended}")
    return {"goal": goal.mean_return, **found, "ok": bool(found.get("mean"))}


def progress(runs: Path, goal: Goal) -> Row:
    """Of the one run there: when it passed the goal, its best, its rate."""
    records, evaluations = records_in(runs), evaluations_in(runs)
    if not records:
        return {}
    whole = [each for each in records if each["episodes"] >= RECENT_GAMES]
    return {
        "mean": first_above(whole, "mean_return_100", goal.mean_return),
        "evaluation": first_above(evaluations, "sampled_return", goal.mean_return),
        "best mean": best(whole, "mean_return_100"),
        "best evaluation": best(evaluations, "sampled_return"),
        "agent steps": records[-1]["agent_steps"],
        "seconds": records[-1]["seconds"],
    }


def first_above(records: list[log.Record], name: str, goal: float) -> list[float] | None:
    """Seconds and agent steps of the first record that reaches the goal."""
    passed = [each for each in records if each[name] is not None and each[name] >= goal]
    return [passed[0]["seconds"], passed[0]["agent_steps"]] if passed else None


def best(records: list[log.Record], name: str) -> float | None:
    return max((each[name] for each in records if each[name] is not None), default=None)


# The command


SAME = ("card", "sizes", "torch")  # of all rows of a file


def main(words: list[str] | None = None) -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:i")
    parser.add_argument("--out", type=Path, help="the table; benchmarks/results/gpu-CARD.md")
    options = parser.parse_args(words)
    where = place(options.device) | {"sizes": "tiny" if options.tiny else "full"}
    if options.out is None:
        options.out = Path(__file__).parent / "results" / f"gpu-{slug(where['card'])}.md"
    sizes = TINY if options.tiny else FULL
    parts = chosen(parts_of(options.device, sizes), options, parser)
    results = Results(options.out.with_suffix(".json"), where, SAME)
    due = {part for part in parts if results.left(part, parts[part])}
    needed = not (options.here or options.tiny) and not due.isdisjoint(NEED_THE_EMULATOR)
    with compilation(needed) as compiling:
        elsewhere = partial(measure_within, options=options, compiling=compiling)
        return measure_all(parts, results, options, elsewhere, report)


def measure_within(
    part: str, options: argparse.Namespace, compiling: subprocess.Popen[bytes] | None
) -> None:
    """In a process of its own, which is ended at its limit with all that it started."""
    if compiling is not None and part in (*NEED_THE_EMULATOR, "learner"):
        wait_for(compiling)
    begun = time.monotonic()
    command = command_of(__file__, part, options, "--device", options.device)
    process = subprocess.Popen(command, start_new_session=True)
    try:
        process.wait(LIMITS[part])
    except subprocess.TimeoutExpired:
        print(f"{part}: ended at its limit of {LIMITS[part]} seconds", flush=True)
    finally:
        end_group(process)
    print(f"{part}: {time.monotonic() - begun:.0f} seconds", flush=True)


# To a GPU the newest frame travels: another function is compiled than for a CPU
COMPILE = """
import numpy, torch
from a3c.presets import preset
from a3c.envs import numpy_envs
envs = numpy_envs(preset("fast"), 1, torch.device("cuda"))
envs.reset(1)
envs.step(numpy.zeros(1, int))
"""


@contextmanager
def compilation(needed: bool) -> Iterator[subprocess.Popen[bytes] | None]:
    """Of the emulator, beside parts that do without it."""
    if not needed:
        yield None
        return
    process = subprocess.Popen([sys.executable, "-c", COMPILE], start_new_session=True)
    try:
        yield process
    finally:
        end_group(process)


def wait_for(compiling: subprocess.Popen[bytes]) -> None:
    """It would slow down what is measured, or be done twice."""
    if compiling.poll() is None:
        print("waiting for the emulator to be compiled", flush=True)
        with suppress(subprocess.TimeoutExpired):
            compiling.wait(LIMITS["compile"])


# The report


def place(device: str) -> Row:
    """Card, versions, processor."""
    gpu = pick_device(device).type == "cuda"
    return {
        **provenance.provenance(),
        "card": torch.cuda.get_device_name(pick_device(device)) if gpu else "CPU",
        "cards": torch.cuda.device_count() if gpu else 0,
        "driver": driver() if gpu else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if gpu else None,
        "torch": torch.__version__,
        "system": platform.platform(),
    }


def driver() -> str | None:
    """The driver's version; None without NVIDIA's tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    words = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(words, capture_output=True, text=True).stdout.split("\n")[0] or None


def slug(words: str) -> str:
    return "-".join(words.lower().split())


KNOWN = ("cards", "driver", "cuda", "cudnn", "torch", "python", "numpy", "numba", "processor",
         "cores", "system")  # fmt: skip


def report(results: Results) -> Lines:
    title = f"On {results.where['card']}"
    yield from preamble(title, "benchmarks/gpu.py", results, KNOWN)
    yield from goals_table(results.parts)
    yield from sections(results, SECTIONS)


def goals_table(parts: dict[str, dict[str, Row]]) -> Lines:
    """What was to be reached on one H100 with 16 cores, and what is known of others."""
    yield from ["", "## Goals", "", *header(["", "goal", "reached", "published"], "llll")]
    yield from map(line, (
        ("training, frames/s", "400,000", most_frames(parts.get("rates", {})),
         "Sample Factory 136,000 with 36 cores and a GPU; CuLE 26,000 to 68,000 on a V100"),
        ("the learner alone, frames/s", "1,000,000", most_frames(parts.get("learner", {})), ""),
        ("Pong, mean of 100 games 18", "60 s", reached_after(parts.get("pong", {})),
         "2 minutes on an RTX 3090"),
        ("Breakout, mean of 100 games 400", "180 s", reached_after(parts.get("breakout", {})),
         "15 minutes on an RTX 3090"),
    ))  # fmt: skip


def most_frames(rows: dict[str, Row]) -> str:
    """With which of them."""
    good = {name: row["frames"] for name, row in rows.items() if row["ok"]}
    name = max(good, key=lambda name: good[name], default="")
    return f"{good[name]:,.0f} ({name})" if name else "not measured"


def reached_after(rows: dict[str, Row]) -> str:
    for row in rows.values():
        return "failed" if "failed" in row else passed(row.get("mean"))
    return "not measured"


def resume_table(rows: dict[str, Row]) -> Lines:
    for name, row in rows.items():
        same = ", ".join(row["differ"]) + " differ" if row["differ"] else "bit by bit equal"
        where = f"killed at {row['killed at']:,} of {row['agent steps']:,} agent steps"
        yield f"{name}: {where}; against a run that was not: {same}. {verdict(row)}"


def devices_table(rows: dict[str, Row]) -> Lines:
    for name, row in rows.items():
        yield f"- {name}: {verdict(row)}, {json.dumps(row)}"


def rate_table(rows: dict[str, Row]) -> Lines:
    """The stages are the threads' time; on a GPU what a stage launches runs on after it."""
    names = ["network, graphs, agents", "threads", "minibatches", "agent steps/s", "frames/s"]
    names += ["updates", "GPU memory", *STAGES]
    yield from header(names, "l" + "r" * (len(names) - 1))
    for name, row in rows.items():
        total = sum(row["stages"].values()) or 1
        parts = [f"{row['stages'][stage] / total:.0%}" for stage in STAGES]
        memory = f"{row['gpu memory'] / 2**30:.1f} GiB" if row["gpu memory"] else "-"
        about = "" if row["ok"] else " (no whole rollouts)"
        yield line([name, f"{row['threads']}", f"{row['minibatches']}",
                    f"{row['rate']:,.0f}{about}", f"{row['frames']:,.0f}", f"{row['updates']:,}",
                    memory, *parts])  # fmt: skip


def learning_table(rows: dict[str, Row]) -> Lines:
    """Seconds from the first action on; evaluation: of that moment's policy, sampled actions."""
    names = ["mean of 100 games", "evaluation of 10", "best mean", "best evaluation", "run"]
    yield from header(["", "goal", *names], "lrllrrl")
    for name, row in rows.items():
        when = [passed(row.get(kind)) for kind in ("mean", "evaluation")]
        best = [f"{row[x]:.1f}" if row.get(x) is not None else "-"
                for x in ("best mean", "best evaluation")]  # fmt: skip
        run = f"{row.get('agent steps', 0):,} agent steps in {row.get('seconds', 0):.0f} s"
        yield line([name, f"{row['goal']:g}", *when, *best, run])


def passed(when: list[float] | None) -> str:
    return "not reached" if when is None else f"{when[0]:.0f} s, {when[1]:,.0f} agent steps"


SECTIONS: Tables = {
    "parity": (
        f"Against the CPU: relative error of the gradient, below {CLOSE:g} expected",
        parity_table,
    ),
    "resume": ("A run that was killed and resumed", resume_table),
    "devices": ("Several GPUs", devices_table),
    "learner": (
        "The learner alone: environments that do nothing, all else as in training",
        rate_table,
    ),
    "rates": ("Training", rate_table),
    "pong": ("Until Pong is learned", learning_table),
    "breakout": ("Until Breakout is learned", learning_table),
}


if __name__ == "__main__":
    sys.exit(main())
