"""Run folders made by hand, so that what reads them is tested without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import zeros

from a3c.config import to_dict
from a3c.envs.protocol import Spec
from a3c.presets import preset
from a3c.run import checkpoint
from a3c.run.checkpoint import Checkpoint

CARTPOLE = Spec((4,), False, False, True, 2)


def make_run(folder: Path, records: list[dict[str, Any]], **options: Any) -> Path:
    """A run of CartPole with these records and without checkpoints."""
    folder.mkdir(parents=True)
    config = preset("control", **{"env": "CartPole-v1", **options})
    (folder / "config.json").write_text(json.dumps(to_dict(config)))
    write_records(folder, records)
    return folder


def write_records(run: Path, records: list[dict[str, Any]]) -> None:
    """metrics.jsonl; infinity and nan as Python writes them."""
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def record(agent_steps: int, seconds: float, returns: list[Any], **more: Any) -> dict[str, Any]:
    """A record of the log."""
    common = {"agent_steps": agent_steps, "seconds": seconds, "returns": returns}
    return {**common, "episodes": 7, "updates": 9, "mean_return_100": 20.0, **more}


def evaluation(agent_steps: int, seconds: float, mean: float | None, **more: Any) -> dict[str, Any]:
    """A record of an evaluation; greedy games have returned one more than sampled ones."""
    common = {"agent_steps": agent_steps, "seconds": seconds, "sampled_return": mean}
    greedy = None if mean is None else mean + 1
    return {**common, "greedy_return": greedy, "evaluation_seconds": 1.5, **more}


def write_evaluations(run: Path, records: list[dict[str, Any]]) -> None:
    """evaluations.jsonl."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    (run / "evaluations.jsonl").write_text(text)


def save_checkpoint(run: Path, agent_steps: int, value: float = 0.0, **options: Any) -> Path:
    """A checkpoint whose parameters are all `value`."""
    path = checkpoint.folder(run) / f"{agent_steps:012d}.safetensors"
    path.parent.mkdir(exist_ok=True)
    config = preset("control", **{"env": "CartPole-v1", **options})
    tensors = {"parameters": zeros(3) + value, "square_avg": zeros(3)}
    progress = {
        "agent_steps": agent_steps,
        "updates": 9,
        "mean_return_100": 20.0,
        "best_mean_return_100": None,
        "metrics": {"episodes": 7, "recent_returns": [20.0], "seconds": 9.0},
    }
    checkpoint.save(path, Checkpoint(config, CARTPOLE, progress, tensors))
    return path
