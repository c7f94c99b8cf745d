"""`a3c` in processes of its own."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

A3C = [sys.executable, "-m", "a3c.cli"]
FOR_EVER = ("--total-agent-steps", "1000000000")


class StartProcess(Protocol):
    def __call__(self, *words: str, **keywords: Any) -> "subprocess.Popen[str]":
        """`a3c` with these words; its output goes to pipes, unless it is told otherwise."""


@pytest.fixture
def start_process() -> Iterator[StartProcess]:
    """What has not ended with the test is killed: it would train, or be stuck, for hours."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, **keywords: Any) -> "subprocess.Popen[str]":
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen([*A3C, *words], text=True, **{**pipes, **keywords}))
        return started[-1]

    yield start
    for process in started:
        with process:  # closes the pipes, and waits
            process.kill()
