"""What comes of evaluations: their records, the best policy and its score, what they cost.

The main thread's part; evaluator.py plays the games.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from a3c.config import Config
from a3c.envs.protocol import Spec
from a3c.evaluator import BEST_EPISODES, Evaluated, Evaluator, Snapshot
from a3c.run import best
from a3c.run.checkpoint import Checkpoint
from a3c.run.log import Log, is_number
from a3c.run.terminal import Terminal, counted

MANY_WAITING = 20  # snapshots, each a copy of the parameters, from which on a line says so
REFRESH_SECONDS = 0.2  # of the live status


class Evaluation:
    """Of a run in its folder, with what an earlier part of it has evaluated."""

    def __init__(
        self, evaluator: Evaluator, spec: Spec, folder: Path, log: Log, terminal: Terminal
    ):
        self.evaluator, self.spec, self.folder = evaluator, spec, folder
        self.log, self.terminal = log, terminal
        self.best = best.load(folder)
        self.score: dict[str, Any] | None = None  # of the best policy, once the run has ended
        self.said_behind = False
        self.next_refresh = 0.0

    def note(self) -> None:
        """Write down, and show, what has been evaluated since the last call. Raises OSError."""
        behind = self.terminal.evaluations_waiting = self.evaluator.behind
        for evaluated in self.evaluator.take():
            # The policy first: of an evaluation that has been written down nothing is played again
            if self._is_best(evaluated.record["sampled_return"]):
                chosen = checkpoint_of(evaluated, self.evaluator.config, self.spec)
                best.save(self.folder, chosen)
                self.best = chosen  # once it is written: else a lesser one would get a record
            self.log.write_evaluation(evaluated.record)
            self.terminal.evaluated(evaluated.record)
        if behind >= MANY_WAITING and not self.said_behind:
            self.said_behind = True
            self.terminal.say(
                f"{behind} evaluations wait, each with a copy of the parameters: a larger "
                "--evaluate-every or fewer --evaluate-episodes keep pace with learning"
            )

    def go_on(self, left: list[Snapshot], trained: bool) -> None:
        """Queue what an earlier part of the run had left, but for what it wrote down after its
        checkpoint; and of a run that has been trained its end, if nobody had asked for that. What
        failed is left out, and said so: with the same games it might fail each time."""
        had = {record["agent_steps"] for record in self.log.evaluations} | {*self.evaluator.failed}
        for snapshot in left:
            if snapshot.agent_steps not in had:
                self.evaluator.queue(snapshot)
        ends = [*had, *(snapshot.agent_steps for snapshot in left)]
        for line in best.failed(self.evaluator.failed, self.evaluator.failed_scores):
            self.terminal.say(line)
        if trained and max(ends, default=0) < self.evaluator.config.total_agent_steps:
            self.evaluator.copy()

    def _is_best(self, mean: Any) -> bool:
        before = None if self.best is None else best.evaluated_return(self.best)
        return is_number(mean) and (before is None or mean > before)

    def finish(self, complete: bool) -> None:
        """Of a complete run what still waits is played, and the best policy scored; of any other
        it stays in the checkpoint. Says so, and what evaluations have cost. Raises OSError.
        """
        evaluator = self.evaluator
        if not complete:
            evaluator.stop()
        if complete and (behind := evaluator.behind):
            self.terminal.say(f"still to be played: {counted(behind, 'evaluation')}")
        evaluator.finish()
        while evaluator.alive(REFRESH_SECONDS):
            self.note()
            self.terminal.refresh(self.terminal.agent_steps)
        self.note()
        if evaluator.left_out:
            steps = best.listed(evaluator.left_out)
            self.terminal.say(f"evaluations left for when it goes on, at agent steps: {steps}")
        if complete and not evaluator.stopped and evaluator.failure is None:
            self._score()
        self._say_cost()

    def _score(self) -> None:
        """Play the best policy again, with games that had no part in its choice."""
        if self.best is None:
            return
        evaluator, steps = self.evaluator, self.best.progress["agent_steps"]
        # Said as it went on: with the same games it might fail each time
        if steps in evaluator.failed_scores:
            return
        found = self.log.evaluations
        # One that was better has been lost: its file was damaged
        lost = any(self._is_best(record.get("sampled_return")) for record in found)
        left = " that is left" if lost else ""
        self.terminal.say(
            f"scoring the best{left} of {counted(len(found), 'evaluation')}, that at "
            f"agent step {steps:,}, by {BEST_EPISODES} fresh games"
        )
        started = time.perf_counter()
        try:
            episodes = evaluator.score(self.best.tensors["parameters"], steps, self._goes_on)
        except Exception as error:  # whatever an environment raises
            evaluator.failed_scores.append(steps)
            evaluator.fail(error)
            return
        if episodes is None:
            self.terminal.say("interrupted: the best policy has no score")
            return
        seconds = time.perf_counter() - started
        returns = [episode.episodic_return for episode in episodes]
        lengths = [episode.length for episode in episodes]
        self.score = best.score(self.best, returns, lengths, seconds)
        best.write_score(self.folder, self.score)

    def _goes_on(self, *_: int) -> bool:
        """Asked at each agent step of the score's games."""
        if time.monotonic() >= self.next_refresh:
            self.next_refresh = time.monotonic() + REFRESH_SECONDS
            self.terminal.refresh(self.terminal.agent_steps)
        return not self.evaluator.stopped

    def _say_cost(self) -> None:
        """Of all evaluations of the run, those of its earlier parts included."""
        records = self.log.evaluations
        wall, cpu = (
            sum(record[name] for record in records if is_number(record.get(name)))
            for name in ("evaluation_seconds", "evaluation_cpu_seconds")
        )
        if records:
            many = counted(len(records), "evaluation")
            on_core = f", {cpu:,.1f} s of it on a processor core" if cpu else ""
            self.terminal.say(f"{many} took {wall:,.1f} s{on_core}")


def checkpoint_of(evaluated: Evaluated, config: Config, spec: Spec) -> Checkpoint:
    """A model of the parameters alone, with training's figures of that moment."""
    snapshot, record = evaluated
    recent = snapshot.metrics["recent_returns"]
    progress = {
        "agent_steps": snapshot.agent_steps,
        "updates": snapshot.updates,
        "mean_return_100": sum(recent) / len(recent) if recent else None,
        "best_mean_return_100": None,
        "metrics": snapshot.metrics,
        "evaluation": record,
    }
    parameters = torch.from_numpy(snapshot.parameters.read())
    return Checkpoint(config, spec, progress, {"parameters": parameters})
