"""What holds for every test."""

import fcntl
import os
import secrets
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from a3c import evaluation, evaluator, machine, measuring, memory
from a3c.config import Config
from a3c.convolutions import Recall
from a3c.envs.protocol import Spec

# A session that was started in the background ignores these, and so would every program that the
# tests start and interrupt: programs inherit what is ignored.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


LONGEST = (
    "test_cluster.py",
    "test_train.py",
    "test_oracle.py",
    "test_vector_env.py",
    "test_evaluation.py",
    "test_readme.py",
    "test_cluster_benchmark.py",
    *("test_simulated.py", "test_kill.py", "test_learning.py", "test_memory.py", "test_study.py"),
    "test_wheel.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no process has one alone at the end. The first of all is the
    longest of those that wait for each other, so that none has to."""
    items.sort(key=lambda item: (*LONGEST, item.path.name).index(item.path.name))


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` is 2 threads of 16 agents in every test, whatever the machine has."""
    monkeypatch.setattr(machine, "physical_cores", lambda: 2)
    monkeypatch.setattr(machine, "has_gpu", lambda: False)


@pytest.fixture(scope="session", autouse=True)
def plain_terminal() -> Iterator[None]:
    """What is printed has 80 columns and no colours, wherever the tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        for name in ("LINES", "FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread_per_operation() -> None:
    """As in training, where small operations would wait for threads; whichever tests ran before."""
    torch.set_num_threads(1)


LITTLE = ((measuring, "MOMENTS_STEPS", 50), (measuring, "BACKGROUND_STEPS", 10),
          (evaluation, "BEST_EPISODES", 5), (evaluator, "BEST_EPISODES", 5))  # fmt: skip
IN_EARNEST = [(module, name, getattr(module, name)) for module, name, _ in LITTLE]


@pytest.fixture(scope="session", autouse=True)
def little_is_measured() -> Iterator[None]:
    """Most runs here are of a second: what comes before and after one is shorter as well."""
    with pytest.MonkeyPatch.context() as patch:
        for each in LITTLE:
            patch.setattr(*each)
        yield


@pytest.fixture(scope="session", autouse=True)
def rehearsed_once() -> Iterator[None]:
    """A rehearsal of what memory a run takes lasts a second, and many tests ask for the same."""
    rehearse = memory.rehearsed
    known: dict[Any, memory.Rehearsed] = {}

    def rehearsed(config: Config, spec: Spec, twice: bool) -> memory.Rehearsed:
        alike = replace(
            config,
            runs_dir="runs",
            run_name="",
            seed=0,
            total_agent_steps=1,
            log_every_seconds=1.0,
            checkpoint_every_seconds=1.0,
            lr=1e-3,
        )
        key = alike, repr(spec), twice, Recall.CHUNK
        if key not in known:
            known[key] = rehearse(config, spec, twice)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "rehearsed", rehearsed)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_power_is_lost() -> Iterator[None]:
    """Here no disk is waited for, in each run ten times; tests of that look at what is asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_token_is_left() -> Iterator[None]:
    """Ray, here and in programs that tests start, would make one in the home of who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        yield


@pytest.fixture
def in_earnest(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a test of these lengths, or beside a program of its own, which has them."""
    for each in IN_EARNEST:
        monkeypatch.setattr(*each)


@pytest.fixture(scope="module", autouse=True)
def no_gpu() -> Iterator[None]:
    """`auto` is the CPU, here and in the programs that tests start, whatever the machine has.

    Before a file's own fixtures, some of which train. tests/gpu has another one of this name.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: False)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture(scope="module", autouse=True)
def one_file_of_a_group_at_a_time(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Files with the same `xdist_group` wait for each other, whichever processes have them."""
    mark = request.node.get_closest_marker("xdist_group")
    if mark is None or "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    with open(tmp_path_factory.getbasetemp().parent / f"{mark.args[0]}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        fcntl.flock(lock, fcntl.LOCK_UN)  # also if a process that was forked has it open
