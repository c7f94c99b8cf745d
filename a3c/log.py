"""The log of a run: metrics.jsonl and TensorBoard's curves.

A record is one line of metrics.jsonl and one point of each curve. metrics.jsonl is the truth: when
a run is resumed, its lines after the checkpoint are dropped, and TensorBoard is written anew.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from a3c.metrics import STAGES


class Log:
    """metrics.jsonl and TensorBoard's event files of one run folder."""

    def __init__(self, folder: Path, agent_steps: int):
        """Open the log; of an earlier part of the run keep what lies before `agent_steps`."""
        self.path = folder / "metrics.jsonl"
        records = [record for record in read(self.path) if record["agent_steps"] <= agent_steps]
        temporary = self.path.with_suffix(".writing")
        temporary.write_text("".join(json.dumps(record) + "\n" for record in records))
        os.replace(temporary, self.path)
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        from torch.utils.tensorboard import SummaryWriter  # a second to import, so not at the top

        self.tensorboard = SummaryWriter(str(folder / "tensorboard"))
        for record in records:
            self._curves(record)
        self.file = self.path.open("a")

    def write(self, record: dict[str, Any]) -> None:
        """Append one record to both; raises OSError if the disk is full."""
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()
        self._curves(record)
        self.tensorboard.flush()

    def close(self) -> None:
        """Flush and close both."""
        self.file.close()
        self.tensorboard.close()

    def _curves(self, record: dict[str, Any]) -> None:
        """Names as CleanRL has them where it has them; the three curves of the return."""
        steps = record["agent_steps"]
        if record["mean_return_100"] is not None:
            mean = record["mean_return_100"]
            self.tensorboard.add_scalar("charts/episodic_return", mean, steps)
            self.tensorboard.add_scalar("return/by_agent_steps", mean, steps)
            self.tensorboard.add_scalar("return/by_episodes", mean, record["episodes"])
            self.tensorboard.add_scalar("return/by_seconds", mean, int(record["seconds"]))
        for name, tag in TAGS.items():
            if name in record:
                self.tensorboard.add_scalar(tag, record[name], steps)
        total = sum(record.get(f"seconds_{stage}", 0.0) for stage in STAGES)
        for stage in STAGES if total else ():
            share = record[f"seconds_{stage}"] / total
            self.tensorboard.add_scalar(f"time/{stage}", share, steps)


TAGS = {
    "agent_steps_per_second": "charts/SPS",
    "lr": "charts/learning_rate",
    "policy_lag": "charts/policy_lag",
    "policy_loss": "losses/policy_loss",
    "value_loss": "losses/value_loss",
    "entropy": "losses/entropy",
    "gradient_norm": "losses/gradient_norm",
}


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; a last line cut short by a crash is left out."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
