"""What is measured while a run goes on: returns, rates, losses, policy lag, where the time goes.

Threads add to Metrics; the main thread drains it into records, see run/log.py.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RECENT_GAMES = 100
STAGES = ("environment", "forward", "backward", "apply", "waiting")


class FinishedEpisode(NamedTuple):
    """One finished episode: its unclipped return and its length in agent steps."""

    episodic_return: float
    length: int


class Part(NamedTuple):
    """What threads have added in a while."""

    rollouts: int
    sums: dict[str, float]
    games: list[FinishedEpisode]


class Episodes:
    """The episodes under way of N agents: whole games, all lives, never clipped."""

    def __init__(self, num_envs: int):
        self.returns = np.zeros(num_envs, np.float64)
        self.lengths = np.zeros(num_envs, np.int64)  # agent steps

    def count(self, rewards: Floats, ended: Floats) -> list[FinishedEpisode]:
        """Add T agent steps, [T, N] each; returns the games that ended, in order."""
        games = []
        for reward, end in zip(rewards, ended, strict=True):
            self.returns += reward
            self.lengths += 1
            for i in np.flatnonzero(end):
                games.append(FinishedEpisode(float(self.returns[i]), int(self.lengths[i])))
                self.returns[i] = self.lengths[i] = 0
        return games


class Stopwatch:
    """Seconds by stage. On CUDA kernels run on after their launch: read these as host time."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    def take(self) -> dict[str, float]:
        """The seconds since the last call."""
        taken, self.seconds = self.seconds, dict.fromkeys(STAGES, 0.0)
        return taken

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - start


class Metrics:
    """Sums since the last record, and the recent games. Safe to use from several threads.

    gauges: a function that a cluster sets. Of the seconds since the last record it makes more
    figures for it, by name.
    """

    def __init__(self, frames_per_agent_step: float):
        self.frames_per_agent_step = frames_per_agent_step
        self.seconds_before = 0.0  # of the parts of this run that were interrupted
        self.start = time.monotonic()
        self.lock = threading.RLock()
        self.episodes = 0
        self.recent: deque[float] = deque(maxlen=RECENT_GAMES)
        self.gauges: Callable[[float], dict[str, float]] = lambda seconds: {}
        self._clear()
        self._last = (self.seconds(), 0)

    def begin(self) -> None:
        """The clock starts when the first agent acts, not while games are loaded."""
        self.start = time.monotonic()
        self._last = (self.seconds(), self._last[1])

    def _clear(self) -> None:
        self._rollouts = 0
        self._sums: dict[str, float] = {}
        self._games: list[FinishedEpisode] = []

    def seconds(self) -> float:
        """Wall-clock time of this run, without the time between its parts."""
        return self.seconds_before + time.monotonic() - self.start

    def add(self, games: list[FinishedEpisode], values: dict[str, float]) -> None:
        """One rollout of one thread: games that ended, and figures, means of its updates."""
        self.merge(Part(1, values, games))

    def merge(self, part: Part) -> None:
        """Add what another Metrics gave by `take`."""
        with self.lock:
            self._rollouts += part.rollouts
            for name, value in part.sums.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
            self._games += part.games
            self.episodes += len(part.games)
            self.recent.extend(game.episodic_return for game in part.games)

    def take(self) -> Part:
        """What was added since the last call."""
        with self.lock:
            part = Part(self._rollouts, self._sums, self._games)
            self._clear()
        return part

    def status(self) -> dict[str, float | None]:
        """Recent games, for the live display and the checkpoints."""
        with self.lock:
            recent = list(self.recent)
        mean = sum(recent) / len(recent) if recent else None
        best = max(recent) if recent else None
        return {"mean_return_100": mean, "best_return_100": best}

    def drain(self, agent_steps: int, updates: int) -> dict[str, Any]:
        """The record of the time since the last one.

        seconds_*: thread-seconds by stage since the last record; the other figures of `add`: means
        over its rollouts; returns and lengths: of its games.
        """
        with self.lock:  # at once: a thread's games are in all of a record, or in none of it
            count, sums, games = self.take()
            episodes, status = self.episodes, self.status()
        now = self.seconds()
        elapsed, steps = max(now - self._last[0], 1e-9), agent_steps - self._last[1]
        if steps or count or games:  # else the log leaves the record out: the next one is of both
            self._last = (now, agent_steps)
        record: dict[str, Any] = {
            "agent_steps": agent_steps,
            "emulator_frames": round(agent_steps * self.frames_per_agent_step),
            "updates": updates,
            "episodes": episodes,
            "seconds": round(now, 3),
            "agent_steps_per_second": round(steps / elapsed, 1),
            **status,
            **self.gauges(elapsed),
        }
        for name, value in sums.items():
            record[name] = significant(value if name.startswith("seconds_") else value / count)
        record["returns"] = [game.episodic_return for game in games]
        record["lengths"] = [game.length for game in games]
        return record

    def save(self) -> dict[str, Any]:
        """What a checkpoint needs to go on with the same curves."""
        with self.lock:
            return {
                "episodes": self.episodes,
                "recent_returns": list(self.recent),
                "seconds": self.seconds(),
            }

    def load(self, saved: dict[str, Any], agent_steps: int) -> None:
        """Go on from what `save` returned."""
        self.seconds_before = saved["seconds"]
        self.rewind(saved, agent_steps)

    def rewind(self, saved: dict[str, Any], agent_steps: int) -> None:
        """Forget what came after `save` had returned this; but time has passed."""
        with self.lock:
            self._clear()
            self.episodes = saved["episodes"]
            self.recent = deque(saved["recent_returns"], maxlen=RECENT_GAMES)
            self._last = (self.seconds(), agent_steps)


def significant(value: float) -> float:
    """Five significant digits: enough for a curve, half the size of the file."""
    return float(f"{value:.5g}")
