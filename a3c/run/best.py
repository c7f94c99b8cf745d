"""The best policy by evaluation: checkpoints/best.safetensors, and best.json, its score.

It was chosen because its mean was the highest of many, so that mean flatters it. Its score is that
of games which had no part in the choice.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from a3c.config import Config
from a3c.run import checkpoint, log, strict_json
from a3c.run.checkpoint import FAILED, FAILED_SCORES, SCORE, Checkpoint
from a3c.run.files import write_whole

# Of a score, whichever games there were
FIGURES = ("agent_steps", "evaluated_return", "episodes", "mean", "seconds")


def path_of(run: Path) -> Path:
    """Where a run keeps its best policy."""
    return checkpoint.folder(run) / checkpoint.BEST


def load(run: Path) -> Checkpoint | None:
    """The best by evaluation; None if there is none or a damaged one. Raises InputError."""
    saved = checkpoint.best_of(run)
    return None if saved is None or evaluated_return(saved) is None else saved


def failed(evaluations: list[int], scores: list[int]) -> list[str]:
    """Lines about evaluations, and scores of best policies, that are missing for good."""
    words = {"evaluations": evaluations, "scores of the best": scores}
    return [
        f"{what} that failed are left out, at agent steps: {listed(agent_steps)}"
        for what, agent_steps in words.items()
        if agent_steps
    ]


def listed(agent_steps: list[int]) -> str:
    """The first five, in words."""
    more = ", ..." if len(agent_steps) > 5 else ""
    return ", ".join(f"{each:,}" for each in agent_steps[:5]) + more


def is_complete(run: Path, config: Config, progress: dict[str, Any]) -> bool:
    """Whether a run, by its newest checkpoint's progress, has been trained, evaluated at its end
    and its best scored (or has failed to be). It lacks the last two where it was interrupted after
    its last update."""
    if progress["agent_steps"] < config.total_agent_steps:
        return False
    if config.evaluate_every == "never":
        return True
    evaluated = [record["agent_steps"] for record in log.read_evaluations(run)[-1:]]
    last = max([*evaluated, *progress[FAILED]], default=0)
    return last >= config.total_agent_steps and (
        set(FIGURES) <= set(strict_json.read(run / SCORE) or {})  # a damaged one is made anew
        or (chosen := load(run)) is None
        or chosen.progress["agent_steps"] in progress[FAILED_SCORES]
    )


def evaluated_return(saved: Checkpoint) -> float | None:
    """The mean return by which it was chosen; None if it was not chosen by evaluation."""
    evaluation = saved.progress.get("evaluation")
    value: Any = evaluation.get("sampled_return") if isinstance(evaluation, dict) else None
    return float(value) if log.is_number(value) else None


def save(run: Path, best: Checkpoint) -> None:
    """In place of the one before, whose score goes. Raises OSError."""
    (run / SCORE).unlink(missing_ok=True)
    checkpoint.save(path_of(run), best)


def score(
    best: Checkpoint, returns: list[float], lengths: list[int], seconds: float
) -> dict[str, Any]:
    """What best.json holds; `standard_error` is that of the mean, None of one game."""
    games = len(returns)
    error = float(np.std(returns, ddof=1)) / math.sqrt(games) if games > 1 else None
    return {
        "agent_steps": best.progress["agent_steps"],
        "evaluated_return": evaluated_return(best),
        "episodes": games,
        "mean": float(np.mean(returns)),
        "standard_error": error,
        "seconds": round(seconds, 3),
        "returns": returns,
        "lengths": lengths,
    }


def write_score(run: Path, found: dict[str, Any]) -> None:
    """best.json, whole or not at all. Raises OSError."""
    write_whole(run / SCORE, strict_json.dumps(found, indent=1) + "\n")


def read_score(run: Path) -> dict[str, Any] | None:
    """What best.json holds; None if the run has not come to one, or it lacks a figure."""
    found = strict_json.read(run / SCORE) or {}
    figures = [found.get(name) for name in FIGURES]
    error = found.setdefault("standard_error", None)
    whole = all(log.is_number(each) for each in (*figures, 0 if error is None else error))
    return found if whole else None
