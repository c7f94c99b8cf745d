"""kill -9 at random moments, then resume: only the time since the last checkpoint is lost."""

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from a3c.config import to_dict
from a3c.run import checkpoint, log
from a3c.train import train
from tests.a3c.test_train import small

KILLS = 10


def start(*words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "a3c.cli", "train", *words], stdout=subprocess.PIPE, text=True
    )


def kill_after(process: "subprocess.Popen[str]", seconds: float, started: str) -> str:
    """kill -9 that many seconds after the line that starts with `started`; returns that line."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(started):
            break
    else:
        raise AssertionError(f"the process ended without a line {started!r}")
    time.sleep(seconds)
    assert process.poll() is None, "the run was over before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return line


def test_killed_again_and_again_it_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    moments = random.Random(0)
    config = small(
        tmp_path / "killed", total_agent_steps=200_000, num_envs=8, checkpoint_every_seconds=0.2
    )
    changed = {k: v for k, v in to_dict(config).items() if v != to_dict(small(tmp_path))[k]}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in changed.items()]
    once = ["CartPole-v1", "--preset=control", "--num-threads=1", "--log-every-seconds=0.2"]
    process = start(*once, *words)
    while not list((tmp_path / "killed").glob("*/checkpoints/*.safetensors")):
        assert process.poll() is None  # before the first checkpoint there is nothing to resume
        time.sleep(0.05)
    kill_after(process, moments.uniform(0, 0.6), "starting")
    (folder,) = (tmp_path / "killed").glob("CartPole-v1-*")  # `latest` comes a moment later
    for _ in range(KILLS - 1):
        last = checkpoint.newest(folder)
        process = start("--resume", str(folder))
        line = kill_after(process, moments.uniform(0.05, 0.9), "resuming from")
        assert line.split()[-1] == str(last.path)
        after = checkpoint.newest(folder)
        assert not after.damaged
        steps = after.checkpoint.progress["agent_steps"]
        assert steps >= last.checkpoint.progress["agent_steps"]
    process = start("--resume", str(folder))
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert re.search(r"200,\d{3} agent steps", out)
    whole = train(small(tmp_path / "whole", total_agent_steps=200_000, num_envs=8), quiet=True)
    killed_end = checkpoint.newest(folder).checkpoint
    whole_end = checkpoint.newest(whole.folder).checkpoint
    for name, tensor in whole_end.tensors.items():
        assert torch.equal(tensor, killed_end.tensors[name]), name
    curves = [log.read(run / "metrics.jsonl") for run in (whole.folder, folder)]
    returns = [[r for record in curve for r in record["returns"]] for curve in curves]
    assert returns[0] == returns[1]
    steps_of = [record["agent_steps"] for record in curves[1]]
    assert steps_of == sorted(steps_of)
