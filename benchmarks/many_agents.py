"""Do a thousand agents cost rate? Agent steps per second of one thread, in alternation.

    python benchmarks/many_agents.py              # four minutes on one core

Both learn with updates of 320 agent steps and V-trace, so that they make as many updates for equal
data; what differs is how many agents a rollout has, and that of 1,024 it is 10 agent steps long,
not 20. Best on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile

from a3c.config import SHORT_ROLLOUT
from a3c.presets import preset
from a3c.run import log
from a3c.train import train

FEW, MANY = 32, 1024
ROLLOUTS_OF_MANY = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    pairs = parser.parse_args().pairs
    ratios = []
    for _ in range(pairs):
        few, many = rate(FEW), rate(MANY)
        ratios.append(many / few)
        print(f"{FEW} agents {few:,.0f}, {MANY:,} agents {many:,.0f}: {ratios[-1]:.3f}", flush=True)
    print(f"median {statistics.median(ratios):.3f}")


def rate(agents: int) -> float:
    """Of a short run, without the time before its first rollout."""
    agent_steps = ROLLOUTS_OF_MANY * MANY * SHORT_ROLLOUT
    with tempfile.TemporaryDirectory() as runs:
        config = preset("fast", num_threads=1, num_envs=agents, grow=False,
                        correction="vtrace", runs_dir=runs, total_agent_steps=agent_steps,
                        device="cpu")  # fmt: skip
        last = log.read(train(config, quiet=True).folder / "metrics.jsonl")[-1]
    return float(last["agent_steps"] / last["seconds"])


if __name__ == "__main__":
    main()
