"""Training speed of a3c-gpu beside two peers, in alternation, on the same CPU cores.

    python benchmarks/vs_peers.py                 # 3 rounds x 8 contenders x 80 s, ~32 minutes
    python benchmarks/vs_peers.py --setup-only    # only build the peers' environment
    python benchmarks/vs_peers.py --only sb3 cleanrl --rounds 1 --seconds 15 --warmup 5

Every contender learns Breakout (84x84 grey, four stacked frames, frame skip 4) on the CPU with
the same three-convolution `nature` network; `-slim` and `-paper` show smaller ones, the first of
them our default.
Ours is measured on ale-py, as SB3 is, and (`-own`) on atari2600, the default:

    ours      a3c train breakout --emulator ale --network nature --num-threads 2 --num-envs 64
              --minibatches 1 --correction none
    sb3       stable-baselines3 A2C, 16 agents, its usual Atari settings; DummyVecEnv or
              SubprocVecEnv, whichever a short trial before the rounds finds faster
    cleanrl   CleanRL's ppo_atari_envpool.py set as A2C: 64 agents, 5 steps, 1 epoch, 1 minibatch

Prints one line per measurement and a table of agent steps per second, learning included: median,
min-max, and ours/peer. A full run also writes it to benchmarks/results/vs_peers.md.

The peers live in a venv of their own (.venv-peers), built on the first run from the pins below;
it needs Python 3.9 to 3.11 because of envpool (see --peers-python).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `benchmarks` is not installed

from benchmarks.processes import cpu_seconds, end_group, stats

ROOT = Path(__file__).resolve().parent.parent
CLEANRL = "cleanrl==1.2.0"
CLEANRL_SCRIPT = "cleanrl/ppo_atari_envpool.py"
# envpool 0.8.4 with gym 0.23.1 (the gym that cleanrl 1.2.0 asks for) still returns gym's old
# four-value step, so CleanRL's script runs as published, without a shim. That envpool is
# compiled against numpy 1, hence numpy 1.26 and the last opencv that accepts it.
PINS = (
    "torch==2.13.0",
    "numpy==1.26.4",
    "stable-baselines3==2.9.2",
    "gymnasium==1.4.0",
    "ale-py==0.12.1",
    "opencv-python-headless==4.11.0.86",
    "envpool==0.8.4",
    "gym==0.23.1",
    "tensorboard==2.21.0",
)
# ours/peer that we want: on ale-py, as sb3 is, and on atari2600; None: no goal
GOALS: dict[str, tuple[float | None, float]] = {"sb3": (4.5, 11.0), "cleanrl": (None, 8.0)}
SB3_MARK_CALLS = 20  # the SB3 child reports once per this many vector steps
ENDLESS = 1_000_000_000  # more agent steps than any measurement reaches: we stop it by time

Point = tuple[float, float]  # agent steps so far, seconds so far
Points = Callable[["subprocess.Popen[str]", Path], Iterator[Point]]


class BenchmarkError(Exception):
    """Something the reader of the terminal can act on."""


@dataclass(frozen=True)
class Contender:
    """One program to measure: how to start it in a scratch folder and how to follow it."""

    name: str
    what: str
    agents: str
    command: Callable[[Path], list[str]]
    points: Points
    piped: bool = True  # whether `points` reads its output; otherwise that goes to the log


# ---- following a program's progress -------------------------------------------------------


def marked_lines(mark: str, steps_per_mark: int) -> Points:
    """Progress of a program that prints a line beginning with `mark` every so many steps."""

    def points(process: subprocess.Popen[str], _folder: Path) -> Iterator[Point]:
        assert process.stdout is not None
        started, steps = None, 0
        for line in process.stdout:
            if line.startswith(mark):
                now = time.monotonic()
                started = now if started is None else started
                steps += steps_per_mark
                yield steps, now - started

    return points


def metrics_file(process: subprocess.Popen[str], folder: Path) -> Iterator[Point]:
    """Progress of our trainer, from the metrics.jsonl of the run it writes below `folder`."""
    seen = 0
    while True:
        alive = process.poll() is None  # asked before reading, so the last lines are not lost
        found = read_metrics(folder)
        yield from found[seen:]
        seen = len(found)
        if not alive:
            return
        time.sleep(0.5)


def read_metrics(folder: Path) -> list[Point]:
    found = []
    for path in folder.rglob("metrics.jsonl"):
        for line in path.read_text().splitlines(keepends=True):
            # A line without its end is still being written.
            entry = json.loads(line) if line.endswith("\n") else {}
            if "agent_steps" in entry and "seconds" in entry:
                found.append((float(entry["agent_steps"]), float(entry["seconds"])))
    return found


# ---- one measurement ----------------------------------------------------------------------


class Reading(NamedTuple):
    speed: float  # agent steps per second
    others: float  # share of our cores that other programs took meanwhile


def busy_seconds() -> float:
    """CPU time spent on our cores since boot by anyone, time stolen by the host included."""
    wanted = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    rows = [row.split() for row in Path("/proc/stat").read_text().splitlines()]
    # The fields: user, nice, system, idle, iowait, irq, softirq, steal.
    ticks = [int(row[field]) for row in rows if row[0] in wanted for field in (1, 2, 3, 6, 7, 8)]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def session_seconds(leader: int) -> float:
    """CPU time of a program and its workers, which share the session it leads.

    The operating system's sum over our ended children would miss SB3's workers: they descend
    from a fork server that nobody waits for.
    """
    session = (fields for fields in stats().values() if int(fields[3]) == leader)
    return sum(cpu_seconds(fields, children=True) for fields in session)


def measure(contender: Contender, warmup: float, seconds: float) -> Reading:
    """Agent steps per second over `seconds`, after leaving out the first `warmup` seconds."""
    with tempfile.TemporaryDirectory(prefix="vs_peers_") as scratch:
        folder = Path(scratch)
        began, busy = time.monotonic(), busy_seconds()
        process = start(contender, folder)
        # Two minutes of grace cover imports and compilation before the first step.
        watchdog = threading.Timer(warmup + seconds + 120, end_group, [process])
        watchdog.start()
        try:
            speed = rate(contender.points(process, folder), warmup, seconds)
            foreign = busy_seconds() - busy - session_seconds(process.pid)
            capacity = (time.monotonic() - began) * len(os.sched_getaffinity(0))
            return Reading(speed, max(0.0, foreign / capacity))
        except BenchmarkError as error:
            raise BenchmarkError(f"{contender.name}: {error}\n{log_tail(folder)}") from error
        finally:
            watchdog.cancel()
            stop(process)


def rate(points: Iterator[Point], warmup: float, seconds: float) -> float:
    first = last = None
    for point in points:
        if first is None and point[1] >= warmup:
            first = point
        last = point
        if point[1] >= warmup + seconds:
            break
    # A program that ended by itself still counts if it gave us at least half the time.
    if first is None or last is None or last[1] - first[1] < seconds / 2:
        raise BenchmarkError("it ended, or hung, before it was measured; the end of its output:")
    return (last[0] - first[0]) / (last[1] - first[1])


def start(contender: Contender, folder: Path) -> subprocess.Popen[str]:
    # CleanRL leaves files in its working folder; ours must find the package even uninstalled.
    # A session of its own lets us stop the program together with its workers.
    with (folder / "log.txt").open("w") as log:
        return subprocess.Popen(
            contender.command(folder),
            cwd=folder if contender.piped else ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE if contender.piped else log,
            stderr=log,
            text=True,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[str]) -> None:
    """Ask as Ctrl-C would, so that shared memory is released; then insist."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=15)
    end_group(process)
    if process.stdout is not None:
        process.stdout.close()


def log_tail(folder: Path, lines: int = 15) -> str:
    return "\n".join((folder / "log.txt").read_text().splitlines()[-lines:])


# ---- the contenders -----------------------------------------------------------------------


def ours(name: str, network: str, emulator: str) -> Contender:
    def command(folder: Path) -> list[str]:
        train = ["train", "breakout", "--preset", "fast", "--network", network, "--seed", "1"]
        train += ["--num-threads", "2", "--num-envs", "64", "--device", "cpu"]
        train += ["--minibatches", "1", "--correction", "none"]  # as theirs
        train += ["--emulator", emulator]
        limits = ["--total-agent-steps", str(ENDLESS), "--runs-dir", str(folder)]
        limits += ["--log-every-seconds", "1"]  # so that short measurements are exact
        return [sys.executable, "-m", "a3c.cli", *train, *limits]

    return Contender(
        name,
        f"a3c-gpu, `{network}` network, {'ale-py' if emulator == 'ale' else emulator}",
        "2 x 64",
        command,
        metrics_file,
        piped=False,
    )


def sb3(python: Path, vec_env: str) -> Contender:
    def command(_folder: Path) -> list[str]:
        return [str(python), str(Path(__file__).resolve()), "--sb3-child", vec_env]

    what = f"stable-baselines3 A2C ({'Dummy' if vec_env == 'dummy' else 'Subproc'}VecEnv)"
    return Contender("sb3", what, "16", command, marked_lines("agent-steps", 16 * SB3_MARK_CALLS))


def cleanrl(python: Path) -> Contender:
    agents, steps = 64, 5
    a2c = {
        "--num-envs": agents,
        "--num-steps": steps,
        "--update-epochs": 1,
        "--num-minibatches": 1,
        # What still sets PPO apart from A2C after one epoch on one minibatch.
        "--gae-lambda": 1.0,
        "--norm-adv": False,
        "--clip-vloss": False,
    }
    run = {"--env-id": "Breakout-v5", "--cuda": False, "--total-timesteps": ENDLESS, **a2c}

    def command(_folder: Path) -> list[str]:
        options = [str(part) for pair in run.items() for part in pair]
        return [str(python), str(python.parent.parent / CLEANRL_SCRIPT), *options]

    # Its "SPS:" line comes once per update; its own figure is an average since the start, with
    # the warm-up inside, so we count the lines instead.
    what = "CleanRL ppo_atari_envpool set as A2C"
    return Contender("cleanrl", what, str(agents), command, marked_lines("SPS:", agents * steps))


def faster_sb3(python: Path) -> Contender:
    """The vector environment that suits SB3 best here, by a short trial of both."""
    trials = {}
    for vec_env in ("dummy", "subproc"):
        contender = sb3(python, vec_env)
        trials[contender] = measure(contender, warmup=4, seconds=12)
        announce("trial", contender, trials[contender])
    return max(trials, key=lambda contender: trials[contender].speed)


def sb3_child(vec_env: str) -> None:
    """Train SB3's A2C for ever, in the peers' venv, reporting every few vector steps.

    The settings are those that SB3's authors publish for A2C on Atari in RL Zoo.
    """
    # Imported by name: the peers' packages are absent from our own environment.
    a2c = importlib.import_module("stable_baselines3").A2C
    env_util = importlib.import_module("stable_baselines3.common.env_util")
    vec = importlib.import_module("stable_baselines3.common.vec_env")
    optimizer = importlib.import_module("stable_baselines3.common.sb2_compat.rmsprop_tf_like")
    policy = {"optimizer_class": optimizer.RMSpropTFLike, "optimizer_kwargs": {"eps": 1e-5}}
    vec_class = vec.DummyVecEnv if vec_env == "dummy" else vec.SubprocVecEnv
    # The prefix has each worker import ale_py, which registers the Atari games.
    game = "ale_py:BreakoutNoFrameskip-v4"
    games = env_util.make_atari_env(game, n_envs=16, seed=1, vec_env_cls=vec_class)
    frames = vec.VecFrameStack(games, n_stack=4)
    model = a2c("CnnPolicy", frames, ent_coef=0.01, vf_coef=0.25, policy_kwargs=policy,
                device="cpu", seed=1)  # fmt: skip
    model.learn(ENDLESS, callback=every_few_calls())


def every_few_calls() -> Callable[[object, object], bool]:
    calls = 0

    def report(_locals: object, _globals: object) -> bool:
        nonlocal calls
        calls += 1
        if calls % SB3_MARK_CALLS == 0:
            print("agent-steps", calls * 16, flush=True)
        return True

    return report


# ---- the peers' environment ---------------------------------------------------------------


def prepare_peers(folder: Path, python: str) -> Path:
    """Build the peers' venv unless it already holds these very pins; returns its Python."""
    stamp, wanted = folder / "vs_peers_pins.txt", "\n".join((*PINS, CLEANRL))
    peer_python = folder / "bin" / "python"
    if not (stamp.exists() and stamp.read_text() == wanted):
        print(f"building {folder} (a few minutes, once)", flush=True)
        shell([python, "-m", "venv", "--clear", str(folder)])
        (folder / ".gitignore").write_text("*\n")
        shell([str(peer_python), "-m", "pip", "install", "--quiet", *PINS])
        fetch_cleanrl(peer_python, folder)
        stamp.write_text(wanted)
    return peer_python


def fetch_cleanrl(python: Path, folder: Path) -> None:
    """Take CleanRL's script out of its own wheel, so that none of it lives in our repository."""
    with tempfile.TemporaryDirectory() as scratch:
        # The wheel declares Python < 3.11 for the sake of dependencies which we pin ourselves.
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
        shell([str(python), "-m", "pip", "download", *options, "--dest", scratch, CLEANRL])
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(CLEANRL_SCRIPT, folder)


def shell(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise BenchmarkError(f"failed: {shlex.join(command)}\n{tail}")


# ---- the rounds and their report ----------------------------------------------------------

Readings = dict[Contender, list[Reading]]


def run_rounds(contenders: Sequence[Contender], options: argparse.Namespace) -> Readings:
    """Alternate the contenders, so that a slow spell of the machine hits all of them."""
    readings: Readings = {contender: [] for contender in contenders}
    for turn in range(1, options.rounds + 1):
        for contender in contenders:
            reading = measure(contender, options.warmup, options.seconds)
            readings[contender].append(reading)
            announce(f"round {turn}/{options.rounds}", contender, reading)
    return readings


def announce(occasion: str, contender: Contender, reading: Reading) -> None:
    speed = f"{reading.speed:7.0f} steps/s   (other programs: {reading.others:.0%} of the cores)"
    print(f"{occasion:<12}{contender.what:<44}{speed}", flush=True)


def table(readings: Readings) -> str:
    speeds = {contender: [one.speed for one in found] for contender, found in readings.items()}
    medians = {contender.name: statistics.median(found) for contender, found in speeds.items()}
    rows = [
        "| | agents | steps/s, median | min-max | nature on ale-py | goal | on atari2600 | goal |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for contender, found in speeds.items():
        spread = f"{min(found):.0f}-{max(found):.0f}"
        start = f"| {contender.what} | {contender.agents} | {medians[contender.name]:.0f} "
        rows.append(f"{start}| {spread} | {' | '.join(ratios(contender.name, medians))} |")
    return "\n".join(rows)


def ratios(name: str, medians: dict[str, float]) -> tuple[str, ...]:
    """The cells ours/peer and goal, on ale-py and on atari2600; empty for a row of ours."""
    if name not in GOALS:
        return "", "", "", ""
    cells: list[str] = []
    for own, goal in zip(("ours", "ours-own"), GOALS[name], strict=True):
        ratio = medians.get(own, 0.0) / medians[name]
        cells += [shown(ratio), "" if goal is None else verdict(ratio, goal)]
    return tuple(cells)


def verdict(ratio: float, goal: float) -> str:
    """`4x, met`; the goal alone where nothing was measured."""
    return f"{goal:g}x" + (f", {'met' if ratio >= goal else 'NOT met'}" if ratio else "")


def shown(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio else "not run"


def report(readings: Readings, options: argparse.Namespace, cores: list[int]) -> str:
    command = shlex.join(["python", "benchmarks/vs_peers.py", *sys.argv[1:]])
    lasting = f"{options.seconds:g} s each after {options.warmup:g} s of warm-up"
    provenance = importlib.import_module("a3c.run.provenance")  # absent from the peers' environment
    disturbance = max(one.others for found in readings.values() for one in found)
    lines = [
        "# Training speed beside two peers",
        "Agent steps per second, learning included: Breakout, 84x84 grey, frame skip 4, CPU.",
        table(readings),
        f"- Command: `{command}` ({options.rounds} rounds in alternation, {lasting})",
        f"- Date: {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC",
        f"- Machine: {provenance.processor()}, {len(cores)} cores used; {platform.system()}",
        f"- Other programs took at most {disturbance:.0%} of these cores during a measurement",
        f"- Ours: commit {provenance.commit()}, {our_versions()}",
        f"- Peers: {peers_python(options)}, {', '.join((*PINS, CLEANRL))}",
    ]
    return "\n\n".join(lines[:3]) + "\n\n" + "\n".join(lines[3:]) + "\n"


def peers_python(options: argparse.Namespace) -> str:
    command = [str(options.peers_venv / "bin" / "python"), "--version"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def our_versions() -> str:
    names = ("torch", "numpy", "ale-py", "gymnasium")
    known = {name for dist in metadata.distributions() if (name := dist.name.lower()) in names}
    versions = [f"{name}=={metadata.version(name)}" for name in names if name in known]
    return ", ".join([f"Python {platform.python_version()}", *versions])


# ---- the command line ---------------------------------------------------------------------


def parse() -> argparse.Namespace:
    names = ("ours", "sb3", "cleanrl", "ours-slim", "ours-paper", "ours-own", "ours-own-slim",
             "ours-own-paper")  # fmt: skip
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--seconds", type=float, default=60, help="length of one measurement (default 60)")
    add("--warmup", type=float, default=20, help="seconds left out before it (default 20)")
    add("--rounds", type=int, default=3, help="measurements of each contender (default 3)")
    add("--cores", type=int, default=2, help="CPU cores that all of them get (default 2)")
    add("--only", nargs="+", choices=names, help="measure only these; writes no results file")
    add("--peers-venv", type=Path, default=ROOT / ".venv-peers", help="where the peers live")
    add("--peers-python", default=sys.executable, help="Python 3.9-3.11 that builds that venv")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "vs_peers.md")
    add("--setup-only", action="store_true", help="build the peers' venv and leave")
    add("--sb3-child", choices=("dummy", "subproc"), help=argparse.SUPPRESS)
    return parser.parse_args()


def claim_cores(wanted: int) -> list[int]:
    """Confine ourselves, and so every program we start, to that many cores."""
    free = sorted(os.sched_getaffinity(0))
    if len(free) < wanted:
        raise BenchmarkError(f"{wanted} cores wanted, but only {len(free)} to be had")
    os.sched_setaffinity(0, free[:wanted])
    return free[:wanted]


def choose(options: argparse.Namespace, python: Path) -> list[Contender]:
    makers: dict[str, Callable[[], Contender]] = {
        "ours": lambda: ours("ours", "nature", "ale"),
        "sb3": lambda: faster_sb3(python),
        "cleanrl": lambda: cleanrl(python),
        "ours-slim": lambda: ours("ours-slim", "slim", "ale"),
        "ours-paper": lambda: ours("ours-paper", "paper", "ale"),
        "ours-own": lambda: ours("ours-own", "nature", "atari2600"),
        "ours-own-slim": lambda: ours("ours-own-slim", "slim", "atari2600"),
        "ours-own-paper": lambda: ours("ours-own-paper", "paper", "atari2600"),
    }
    return [make() for name, make in makers.items() if name in (options.only or makers)]


def benchmark(options: argparse.Namespace) -> None:
    python = prepare_peers(options.peers_venv.resolve(), options.peers_python)
    if options.setup_only:
        return
    # Children of a shell's background job would ignore the Ctrl-C by which we stop them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Likewise a kill of the benchmark must not leave the program in progress behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("vs_peers: terminated"))
    cores = claim_cores(options.cores)
    text = report(run_rounds(choose(options, python), options), options, cores)
    print("\n" + text)
    if not options.only:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)


def main() -> None:
    options = parse()
    if options.sb3_child:
        sb3_child(options.sb3_child)
        return
    os.environ.pop("OMP_NUM_THREADS", None)  # 1 would take a core from the peers, none from us
    try:
        benchmark(options)
    except BenchmarkError as error:
        sys.exit(f"vs_peers: {error}")


if __name__ == "__main__":
    main()
