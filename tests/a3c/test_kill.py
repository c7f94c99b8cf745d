"""kill -9 at random moments, then resume: only the time since the last checkpoint is lost."""

import multiprocessing
import os
import random
import re
import sys
import time
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TextIO

import pytest
import torch

from a3c import cli
from a3c.config import to_dict
from a3c.run import checkpoint, log
from a3c.train import train
from tests.a3c.test_train import small

KILLS = 6


# Forked from a process that has imported all and done nothing: a start of Python takes seconds
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__, "torch.utils.tensorboard"])


def start(*words: str) -> tuple[ForkServerProcess, TextIO]:
    """`a3c train` in a process of its own, and what it prints."""
    said, saying = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=train_command, args=(words, saying))
    process.start()
    saying.close()
    return process, open(os.dup(said.fileno()))


def train_command(words: list[str], saying: Connection) -> None:
    os.dup2(saying.fileno(), 1)
    sys.stdout = open(1, "w", buffering=1)  # noqa: SIM115  # line by line
    sys.exit(cli.main(["train", *words]))


def kill_after(process: ForkServerProcess, out: TextIO, seconds: float, started: str) -> str:
    """kill -9 that many seconds after the line that starts with `started`; returns that line."""
    for line in out:
        if line.startswith(started):
            break
    else:
        raise AssertionError(f"the process ended without a line {started!r}")
    time.sleep(seconds)
    assert process.is_alive(), "the run was over before it could be killed"
    process.kill()
    process.join()
    out.close()
    return line


@pytest.mark.usefixtures("in_earnest")
def test_killed_again_and_again_it_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    moments = random.Random(0)
    length = {"total_agent_steps": 100_000, "num_envs": 8}
    length |= {"evaluate_every": 5_000, "evaluate_episodes": 2}  # one is hardly ever not at work
    config = small(tmp_path / "killed", **length, checkpoint_every_seconds=0.1)
    changed = {k: v for k, v in to_dict(config).items() if v != to_dict(small(tmp_path))[k]}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in changed.items()]
    once = ["CartPole-v1", "--preset=control", "--num-threads=1", "--rollout-length=8"]
    once += ["--log-every-seconds=0.1"]
    process, out = start(*once, *words)
    while not list((tmp_path / "killed").glob("*/checkpoints/*.safetensors")):
        assert process.is_alive()  # before the first checkpoint there is nothing to resume
        time.sleep(0.05)
    kill_after(process, out, moments.uniform(0, 0.3), "starting")
    (folder,) = (tmp_path / "killed").glob("CartPole-v1-*")  # `latest` comes a moment later
    for _ in range(KILLS - 1):
        last = checkpoint.newest(folder)
        process, out = start("--resume", str(folder))
        line = kill_after(process, out, moments.uniform(0.05, 0.4), "resuming from")
        assert line.split()[-1] == str(last.path)
        after = checkpoint.newest(folder)
        assert not after.damaged
        steps = after.checkpoint.progress["agent_steps"]
        assert steps >= last.checkpoint.progress["agent_steps"]
    process, out = start("--resume", str(folder))
    assert re.search(r"100,\d{3} agent steps", out.read())
    process.join()
    assert process.exitcode == 0
    whole = train(small(tmp_path / "whole", **length), quiet=True)
    killed_end = checkpoint.newest(folder).checkpoint
    whole_end = checkpoint.newest(whole.folder).checkpoint
    for name, tensor in whole_end.tensors.items():
        if not name.startswith("evaluation"):  # a copy that waited to be played
            assert torch.equal(tensor, killed_end.tensors[name]), name
    evaluations = [log.read_evaluations(run) for run in (whole.folder, folder)]
    played = [[(e["agent_steps"], e["sampled_returns"]) for e in each] for each in evaluations]
    assert len(played[0]) == 20
    assert played[0] == played[1]
    curves = [log.read(run / "metrics.jsonl") for run in (whole.folder, folder)]
    returns = [[r for record in curve for r in record["returns"]] for curve in curves]
    assert returns[0] == returns[1]
    steps_of = [record["agent_steps"] for record in curves[1]]
    assert steps_of == sorted(steps_of)
