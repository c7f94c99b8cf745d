"""Does the code still compute, bit for bit, what it computed? For whoever changes its structure.

    python benchmarks/digests.py           # two minutes; compares with results/digests.json
    python benchmarks/digests.py --write   # before a change: write that file

One-thread runs of several kinds. A digest is a SHA-256 over the parameters, RMSProp's average, and
the return and length of every game. Rounding differs between processors and versions of PyTorch, so
the file says where it was made, and digests are to be compared on that machine only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from a3c.run.provenance import processor

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "results" / "digests.json"
TASKS = {
    "breakout": "breakout --num-threads 1 --total-agent-steps 40000",
    "breakout nature ale": "breakout --network nature --emulator ale --num-threads 1"
    " --num-envs 8 --total-agent-steps 8000",
    "cartpole": "CartPole-v1 --total-agent-steps 200000",
    "inverted pendulum": "InvertedPendulum-v5 --total-agent-steps 150000",
    "pendulum": "Pendulum-v1 --std dependent --total-agent-steps 20000",
    "memory": "examples.memory:CartPoleHiddenVelocities-v1 --recurrent --total-agent-steps 40000",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    where = {"processor": processor(), "torch": torch.__version__}
    if write:
        found = digests()
        OUT.write_text(json.dumps({**where, "digests": found}, indent=1) + "\n")
        return 0
    before = json.loads(OUT.read_text())
    expected = before.pop("digests")
    if before != where:
        sys.exit(f"{OUT} is of {before}, not {where}: --write one before a change")
    found = digests()
    for name in TASKS:
        print(f"{name}: {'equal' if found[name] == expected[name] else 'DIFFERENT'}")
    return int(found != expected)


def digests() -> dict[str, str]:
    """Of all runs."""
    return {name: digest(words.split()) for name, words in TASKS.items()}


def digest(words: list[str]) -> str:
    """Of one run: its last checkpoint's vectors, and its games."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "a3c.cli", "train", *words, "--device", "cpu"]
        command += ["--runs-dir", runs]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        checkpoint = max(Path(runs).glob("latest/checkpoints/0*.safetensors"))
        records = (checkpoint.parent.parent / "metrics.jsonl").read_text().splitlines()
        sha = hashlib.sha256()
        with safe_open(checkpoint, "pt") as file:
            for name in ("parameters", "square_avg"):
                sha.update(file.get_tensor(name).numpy().tobytes())
    sha.update(json.dumps(games([json.loads(line) for line in records])).encode())
    return sha.hexdigest()


def games(records: list[dict[str, Any]]) -> list[list[float]]:
    """Return and length of every game, in order."""
    returns = [value for record in records for value in record["returns"]]
    lengths = [value for record in records for value in record["lengths"]]
    return [returns, lengths]


if __name__ == "__main__":
    sys.exit(main())
