"""`a3c bench`: what this machine does, which part of it is the limit, and the settings it suggests.

Measured are a training's own threads, networks, store and environments. A setting is measured as a
whole first; then the fastest one's parts, each alone: its environments, acting and learning.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from shlex import quote
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import tyro

from a3c import machine
from a3c.actor_learner import ActorLearner
from a3c.config import TINY, Config, auto_threads, check_number, is_auto
from a3c.devices import pick_device, pick_devices, pick_precision, synchronise
from a3c.envs import numpy_envs, spec_of
from a3c.envs.names import atari_game, default_preset, frames_per_agent_step
from a3c.envs.on_device import OnDevice
from a3c.envs.protocol import Array, EnvironmentFault, NumpyEnvs, NumpyStep, close_all
from a3c.errors import InputError
from a3c.memory import check_memory, host_bytes
from a3c.metrics import Metrics
from a3c.node import Node
from a3c.presets import preset, preset_values
from a3c.results.progress import Progress
from a3c.run.provenance import processor, version_of
from a3c.run.terminal import Screen, counted

Work = Callable[[], int]  # does a piece of work of one thread; returns its agent steps

PARTS = ("environment", "acting", "learning")
CPU_AGENTS_TRIED = (16, 64)  # of each thread, in the settings that are compared
GPU_AGENTS_TRIED = (64, 256, 1024)
GPU_THREADS = 4  # beside one, and one for each core: threads share the device and the interpreter
FEWEST_GPU_AGENTS, MOST_AGENTS = 256, 4096  # of all threads
CLEARLY_FASTER = 1.1  # times the default's rate; less is a machine's noise
LONGEST_SECONDS = 3600


@dataclass(frozen=True)
class BenchOptions:
    """Measure what this machine does, name the part that is the limit, and suggest settings."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[GAME]")] = "breakout"
    """Atari game (breakout), or any Gymnasium id."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:i."""
    seconds: float = 32.0
    """Time to measure for. Making the games comes on top, and so does the emulator's compilation
    the first time."""
    json: bool = False
    """Print one JSON object in place of tables."""


class Rate(NamedTuple):
    """How fast a part is, or all of a training."""

    part: str  # of PARTS, or training
    num_threads: int
    num_envs: int  # agents of each thread
    agent_steps_per_second: float  # of all threads


class Setting(NamedTuple):
    """A setting that was trained with for a moment."""

    num_threads: int
    num_envs: int
    minibatches: int
    agent_steps_per_second: float
    device_bytes: int | None  # the most that PyTorch took of a GPU for it; None on a CPU


class Memory(NamedTuple):
    """Bytes. What a run takes of the host is estimated, of a GPU measured; None where not known."""

    host_needed: int
    host_available: int | None
    device_needed: int | None
    device_total: int | None


@dataclass(frozen=True)
class Bench:
    """What was measured."""

    env: str
    device: str
    device_name: str
    processor: str
    cores: int
    torch: str | None
    precision: str
    emulator_frames_per_agent_step: float | None
    rates: list[Rate]
    settings: list[Setting]  # the default first
    left_out: list[str]  # settings that could not be measured, and why
    suggested: Setting
    command: str  # what to type to train with it
    memory: Memory

    @property
    def shares(self) -> dict[str, float]:
        """Of the time of a thread of the suggested setting, where one part follows the other."""
        seconds = {part: 1 / self.rate(part) for part in PARTS}
        return {part: value / sum(seconds.values()) for part, value in seconds.items()}

    @property
    def limit(self) -> str:
        """The part that takes most of that time."""
        return max(PARTS, key=lambda part: self.shares[part])

    @property
    def of_its_parts(self) -> float:
        """Training's rate divided by that of its parts one after another: what waiting leaves."""
        one_after_another = 1 / sum(1 / self.rate(part) for part in PARTS)
        return self.suggested.agent_steps_per_second / one_after_another

    def rate(self, part: str) -> float:
        """Agent steps per second of a part, with as many threads as the suggested setting has."""
        threads = self.suggested.num_threads
        return next(
            rate.agent_steps_per_second
            for rate in self.rates
            if (rate.part, rate.num_threads) == (part, threads)
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        lists: dict[str, list[Any]] = {"rates": self.rates, "settings": self.settings}
        return {
            **asdict(self),
            **{name: [each._asdict() for each in rows] for name, rows in lists.items()},
            "suggested": self.suggested._asdict(),
            "memory": {f"{name}_bytes": size for name, size in self.memory._asdict().items()},
            "shares": self.shares,
            "limit": self.limit,
            "training_to_parts_one_after_another": self.of_its_parts,
        }


def bench(options: BenchOptions, console: Screen) -> Bench:
    """Measure. How far it has come goes to `console`.

    Raises InputError for an environment, device or time that cannot be had.
    """
    check_number("seconds", float, options.seconds, {"seconds": (TINY, LONGEST_SECONDS)})
    device = pick_device(options.device)
    torch.set_num_threads(1)  # as in training: a thread is a core
    available = machine.available_memory()
    configs = candidates(options.env, options.device, device)
    try:
        with Progress(console) as progress:
            settings, left_out = compared(configs, device, options.seconds / 2, progress)
            chosen = suggestion(settings)
            config = config_of(chosen, configs)
            rates = parts(config, device, options.seconds / 2, progress)
    except EnvironmentFault as fault:
        raise InputError(f"{options.env} cannot be measured: {fault}") from None
    rates += [
        Rate("training", each.num_threads, each.num_envs, each.agent_steps_per_second)
        for each in sorted(settings)
        if each.num_envs == chosen.num_envs
    ]
    return Bench(
        **facts(config, device),
        rates=rates,
        settings=settings,
        left_out=left_out,
        suggested=chosen,
        command=command_of(config, device),
        memory=memory_of(config, device, available, chosen),
    )


def facts(config: Config, device: torch.device) -> dict[str, Any]:
    """What is measured, and on what."""
    atari = atari_game(config.env) is not None
    return {
        "env": config.env,
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "processor": processor(),
        "cores": machine.physical_cores(),
        "torch": version_of("torch"),
        "precision": str(pick_precision(config, device)).removeprefix("torch."),
        "emulator_frames_per_agent_step": config.mean_frame_skip if atari else None,
    }


def command_of(config: Config, device: torch.device) -> str:
    """What to type to train with a setting, on the device that was measured; Config derives the
    minibatches."""
    words = f"a3c train {quote(config.env)} --num-threads {config.num_threads}"
    several = device.type == "cuda" and len(pick_devices(config.device)) > 1
    where = str(device) if several else config.device
    return f"{words} --num-envs {config.num_envs}{'' if is_auto(where) else f' --device {where}'}"


def memory_of(config: Config, device: torch.device, available: int | None, used: Setting) -> Memory:
    """What such a run takes, and what there is."""
    needed = host_bytes(config, spec_of(config), device).of(config.num_threads, config.num_envs)
    total = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else None
    return Memory(needed, available, used.device_bytes, total)


# The settings that are compared


def candidates(env: str, name: str, device: torch.device) -> list[Config]:
    """The default setting first, then others of which Config derives the rest, small ones first.

    Where a preset fixes the minibatches, more agents would mean other updates: they are left alone.
    """
    preset_name = default_preset(env)
    default = preset(preset_name, env=env, device=name)
    agents: tuple[int, ...] = (default.num_envs,)
    if is_auto(preset_values(preset_name)["minibatches"]):
        agents = CPU_AGENTS_TRIED if device.type == "cpu" else GPU_AGENTS_TRIED
    pairs = sorted(
        (threads * each, threads, each)
        for threads in thread_counts(device)
        for each in agents
        if device.type == "cpu" or FEWEST_GPU_AGENTS <= threads * each <= MOST_AGENTS
    )
    others = [
        preset(preset_name, env=env, device=name, num_threads=threads, num_envs=each)
        for _, threads, each in pairs
    ]
    return [default, *(config for config in others if config != default)]


def thread_counts(device: torch.device) -> list[int]:
    """One, one for each core, and for a GPU something between."""
    cores = auto_threads()
    return sorted({1, cores} if device.type == "cpu" else {1, min(GPU_THREADS, cores), cores})


def compared(
    configs: list[Config], device: torch.device, seconds: float, progress: Progress
) -> tuple[list[Setting], list[str]]:
    """Train with each for its share of the time; the first is measured in any case."""
    each = seconds / (len(configs) + 2)
    settings: list[Setting] = []
    left_out: list[str] = []
    for config in configs:
        name = f"{config.num_threads} x {config.num_envs:,} agents"
        if settings and (why := obstacle(config, device, each, settings)):
            left_out.append(f"{name}: not measured, {why}")
            continue
        progress.status(f"training with {name}")
        try:
            settings.append(trained(config, device, each))
        except torch.OutOfMemoryError:
            if not settings:
                raise InputError(f"{name} of {config.env} do not fit into {device}") from None
            left_out.append(f"{name}: not measured, they do not fit into {device}")
        except InputError as error:  # the same, as CUDA graphs were recorded
            if not settings:
                raise
            left_out.append(f"{name}: not measured, {error}")
    for i in sorted({0, settings.index(suggestion(settings))}):
        # Once more: else a moment in which the machine had something else to do would decide
        progress.status(f"training with the {'fastest' if i else 'default'} once more")
        again = trained(config_of(settings[i], configs), device, each)
        settings[i] = max(settings[i], again, key=rate_of)
    return settings, left_out


def rate_of(setting: Setting) -> float:
    """To compare settings by."""
    return setting.agent_steps_per_second


def obstacle(
    config: Config, device: torch.device, seconds: float, measured: list[Setting]
) -> str | None:
    """Why a setting cannot be measured in so long, going by those that were, or None."""
    agent_steps = config.num_threads * config.num_envs * config.rollout_length
    rollout = agent_steps / max(map(rate_of, measured))
    if rollout > seconds:
        return f"a rollout would take about {rollout:.1f} s (more --seconds would do)"
    try:
        check_memory(config, [device])
    except InputError as error:
        return str(error)
    return None


def suggestion(settings: list[Setting]) -> Setting:
    """The fastest, or the default, which is the first, if that is about as fast."""
    default, fastest = settings[0], max(settings, key=rate_of)
    return fastest if rate_of(fastest) > CLEARLY_FASTER * rate_of(default) else default


def config_of(setting: Setting, configs: list[Config]) -> Config:
    """With which it was measured."""
    size = setting.num_threads, setting.num_envs
    return next(config for config in configs if (config.num_threads, config.num_envs) == size)


# What is measured


def trained(config: Config, device: torch.device, seconds: float) -> Setting:
    """Train for a moment, as `a3c train` does; nothing is written."""
    if device.type == "cuda":
        gc.collect()  # the node before this one
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with started(config, device) as learners:
        rate = Stretch(device, seconds).rate([updating(learner) for learner in learners])
    most = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None
    return Setting(config.num_threads, config.num_envs, config.minibatches, rate, most)


def parts(config: Config, device: torch.device, seconds: float, progress: Progress) -> list[Rate]:
    """Each part of a setting alone: by one thread and by all; environments also by all cores."""
    alone, cores = sorted({1, config.num_threads}), auto_threads()
    counts = sorted({*alone, cores})
    each = seconds / (len(counts) + 2 * len(alone))
    rates = [environments(config, device, threads, each, progress) for threads in counts]
    with started(config, device) as learners:
        for learner in learners:
            stand_still(learner)
        for part, working in (("acting", acting), ("learning", learning)):
            for threads in alone:
                progress.status(f"{part}, {counted(threads, 'thread')}")
                works = [working(learner) for learner in learners[:threads]]
                rate = Stretch(device, each).rate(works)
                rates.append(Rate(part, threads, config.num_envs, rate))
    return rates


def environments(
    config: Config, device: torch.device, threads: int, seconds: float, progress: Progress
) -> Rate:
    """The environments alone, with random actions; no device takes part."""
    progress.status(f"environments, {counted(threads, 'thread')}")
    agents = min(config.num_envs, max(1, MOST_AGENTS // threads))
    made: list[NumpyEnvs] = []
    try:
        made.extend(numpy_envs(config, agents, device) for _ in range(threads))
        at_once(lambda envs: envs.reset(0), made)
        rate = Stretch(torch.device("cpu"), seconds).rate([stepping(envs) for envs in made])
    finally:
        close_all(made)
    return Rate("environment", threads, agents, rate)


@contextmanager
def started(config: Config, device: torch.device) -> Iterator[list[ActorLearner]]:
    """The threads' own things of a run, before its first rollout."""
    gc.collect()  # the node before refers to itself, and this one wants its memory
    config = replace(config, grow=False)  # the rate is that of all of its agents
    node = Node(config, [device], Metrics(frames_per_agent_step(config)))
    try:
        at_once(ActorLearner.start_games, node.learners)
        synchronise([device])
        node.record()
        yield node.learners
    finally:
        node.close()


def at_once(function: Callable[[Any], object], each: list[Any]) -> None:
    """Call it for each in a thread of its own: to start a thousand games takes a second a core."""
    with ThreadPoolExecutor(len(each)) as pool:
        for _ in pool.map(function, each):
            pass


def updating(learner: ActorLearner) -> Work:
    """Rollouts and their updates: what a thread does in a run."""

    def work() -> int:
        with learner.on_streams():
            learner.cycle()
        return rollout_steps(learner)

    return work


def acting(learner: ActorLearner) -> Work:
    """A cycle's sync and rollout, in environments that stand still; without `renew`."""

    def work() -> int:
        with learner.on_streams():
            learner.sync()
            learner.actor.rollout(learner.config.rollout_length)
        return rollout_steps(learner)

    return work


def learning(learner: ActorLearner) -> Work:
    """A cycle's updates, from the rollout of the first call each time."""
    acted = False

    def work() -> int:
        nonlocal acted
        with learner.on_streams():
            if not acted:
                acted = True
                learner.network.prepare()
                learner.actor.rollout(learner.config.rollout_length)
            for agents, new in learner.minibatches():
                learner.learn(agents, new)
        return rollout_steps(learner)

    return work


def stepping(envs: NumpyEnvs) -> Work:
    """Agent steps of environments that have been reset, with random actions."""
    random = np.random.default_rng(0)

    def work() -> int:
        envs.step(random_actions(envs, random))
        return envs.num_envs

    return work


def rollout_steps(learner: ActorLearner) -> int:
    """Agent steps of a thread's rollout."""
    return learner.config.rollout_length * learner.envs.num_envs


def random_actions(envs: NumpyEnvs, random: np.random.Generator) -> Array:
    """int64 [N], or float32 [N, A]."""
    spec = envs.spec
    if spec.discrete:
        return random.integers(spec.num_actions, size=envs.num_envs)
    return random.normal(size=(envs.num_envs, spec.num_actions)).astype(np.float32)


class StandStill:
    """NumpyEnvs that answer as they did last: what is left of an agent step is all but theirs."""

    def __init__(self, envs: NumpyEnvs):
        self.envs, self.spec, self.num_envs = envs, envs.spec, envs.num_envs
        answer = envs.step(random_actions(envs, np.random.default_rng(0)))
        nobody = np.zeros(self.num_envs, bool)
        self.answer = NumpyStep(
            answer.observations, answer.rewards, nobody, nobody, nobody, final_observations=None
        )

    def reset(self, seed: int) -> Array:
        return self.answer.observations

    def step(self, actions: Array) -> NumpyStep:
        return self.answer

    def save_state(self) -> dict[str, Array] | None:
        return None

    def load_state(self, state: dict[str, Array]) -> None:
        raise NotImplementedError("environments that stand still have no state")

    def close(self) -> None:
        self.envs.close()


def stand_still(learner: ActorLearner) -> None:
    """From now on its environments take no time; what goes to the device and back still does."""
    assert isinstance(learner.envs, OnDevice)
    learner.envs.envs = StandStill(learner.envs.envs)


class Stretch:
    """Threads at work at once for some seconds. Each does its work once before that, unmeasured.

    The device is waited for at the beginning and at the end.
    """

    def __init__(self, device: torch.device, seconds: float):
        self.device, self.seconds = device, seconds
        self.start = 0.0

    def rate(self, works: list[Work]) -> float:
        """Agent steps per second of all. The first error of a thread is raised."""
        ready = threading.Barrier(len(works), self.begin)
        pool = ThreadPoolExecutor(len(works))
        try:
            agent_steps = results([pool.submit(self.repeat, work, ready) for work in works])
            synchronise([self.device])
            return sum(agent_steps) / (time.perf_counter() - self.start)
        finally:
            pool.shutdown(wait=False)  # at Ctrl-C nobody waits for the work under way

    def begin(self) -> None:
        """All threads are ready."""
        synchronise([self.device])
        self.start = time.perf_counter()

    def repeat(self, work: Work, ready: threading.Barrier) -> int:
        """One thread's part; returns the agent steps that count."""
        torch.set_num_threads(1)  # a new thread's first tanh would make a pool for all cores
        try:
            work()
            ready.wait()
            agent_steps = work()
            while time.perf_counter() < self.start + self.seconds:
                agent_steps += work()
            return agent_steps
        except BaseException:
            ready.abort()  # the others would wait for ever
            raise


def results(futures: list[Future[int]]) -> list[int]:
    """Of threads, once all have ended. Raises the error of the thread that failed."""
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    return [future.result() for future in futures]
