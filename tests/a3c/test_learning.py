"""Learning for real, with the defaults: one thread, so that the seed decides the outcome."""

from pathlib import Path

from a3c.config import preset
from a3c.run import log
from a3c.train import train


def test_cartpole_is_solved(tmp_path: Path) -> None:
    config = preset(
        "control",
        env="CartPole-v1",
        total_agent_steps=400_000,
        log_every_seconds=1.0,
        runs_dir=str(tmp_path),
    )
    run = train(config, quiet=True)
    records = log.read(run.folder / "metrics.jsonl")
    means = [record["mean_return_100"] for record in records if record["episodes"] >= 100]
    assert max(means) >= 475
