"""Does a cluster go on whatever dies? One run whose nodes and server are killed again and again.

    python benchmarks/churn.py                      # two minutes, --mode sync, three nodes
    python benchmarks/churn.py --mode async --seed 2

At random moments, some within a second of one another. After most of them one to four checkpoints
are waited for; it ends with 1 where none comes for a minute. CartPole, a checkpoint every 0.3
seconds, rollouts of eight updates, in each of which a sync node waits for the others.

It needs Ray (pip install -e '.[cluster]'), and Linux, whose /proc tells of processes.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from a3c.presets import preset
from a3c.train import train

sys.path.insert(0, str(Path(__file__).parent.parent))  # `benchmarks` is not installed

from benchmarks.processes import actors

PATIENCE_SECONDS = 60.0
KINDS = "Server", "Member"


class Churn:
    """Kills, and waits for checkpoints in `runs`."""

    def __init__(self, runs: Path, seconds: float, seed: int):
        self.runs, self.seconds, self.chance = runs, seconds, random.Random(seed)
        self.kills = dict.fromkeys(KINDS, 0)
        self.longest_wait_seconds = 0.0
        self.failed = False

    def run(self) -> None:
        """Until the time is over; then as by a Ctrl-C, or by two: the run ends at once."""
        self.wait_for_checkpoint()
        end = time.monotonic() + self.seconds
        while time.monotonic() < end and not self.failed:
            self.kill(self.chance.choice(KINDS))
            if self.chance.random() < 0.3:
                time.sleep(self.chance.random())  # another one soon
                continue
            for _ in range(self.chance.randint(1, 4)):
                self.wait_for_checkpoint()
        os.kill(os.getpid(), signal.SIGINT)
        if self.failed:
            time.sleep(1.0)  # two at once might count as one
            os.kill(os.getpid(), signal.SIGINT)

    def kill(self, kind: str) -> None:
        """One of them, if there is one just now."""
        if found := actors(kind):
            os.kill(self.chance.choice(found), signal.SIGKILL)
            self.kills[kind] += 1

    def wait_for_checkpoint(self) -> None:
        """For the next one; `failed` where none comes."""
        before, start = self.newest(), time.monotonic()
        while self.newest() == before:
            if time.monotonic() > start + PATIENCE_SECONDS:
                self.failed = True
                return
            time.sleep(0.02)
        self.longest_wait_seconds = max(self.longest_wait_seconds, time.monotonic() - start)

    def newest(self) -> list[tuple[str, int]]:
        """Names and times of the checkpoints that are there."""
        found = []
        for path in self.runs.glob("*/checkpoints/[0-9]*"):
            try:
                found.append((path.name, path.stat().st_mtime_ns))
            except FileNotFoundError:  # an older one, which has just gone
                continue
        return sorted(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=["sync", "async"], default="sync")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        churn = Churn(Path(folder), options.seconds, options.seed)
        config = preset(
            "control", env="CartPole-v1", mode=options.mode, nodes=3, num_threads=1, minibatches=8,
            total_agent_steps=10**9, runs_dir=folder, checkpoint_every_seconds=0.3,
        )  # fmt: skip
        killer = threading.Thread(target=churn.run, daemon=True)
        killer.start()
        try:
            run = train(config, quiet=True)
        except KeyboardInterrupt as error:
            print(f"no checkpoint for {PATIENCE_SECONDS:.0f} seconds: {error}")
            return 1
        killer.join()
    kills = " and ".join(f"{count} of a {kind}" for kind, count in churn.kills.items())
    print(
        f"kills: {kills}; {run.agent_steps:,} agent steps; the longest wait for a checkpoint "
        f"{churn.longest_wait_seconds:.1f} seconds"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
