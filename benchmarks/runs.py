"""Runs of `a3c train` as processes of their own, and the records that they write."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from a3c.run import log

A3C = ("-m", "a3c.cli")  # what Python runs


def start(*words: str, program: Sequence[str] = A3C) -> subprocess.Popen[bytes]:
    """`a3c train`, silent but for what goes wrong."""
    command = [sys.executable, *program, "train", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def finish(*words: str, program: Sequence[str] = A3C) -> None:
    """The same, to its end. Raises RuntimeError if that is not a good one."""
    if code := start(*words, program=program).wait():
        raise RuntimeError(f"a3c train {' '.join(words)}: exit code {code}")


def stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    """As Ctrl-C does, so that the last record is written; after so many seconds at once."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run_in(folder: Path) -> Path | None:
    """The one run there, once it writes records."""
    runs = (path.parent for path in folder.glob(f"*/{log.METRICS}"))
    return next((run for run in runs if not run.is_symlink()), None)  # runs/latest is a link


def records_in(folder: Path) -> list[log.Record]:
    """Of the one run there."""
    run = run_in(folder)
    return log.read(run / log.METRICS) if run else []


def evaluations_in(folder: Path) -> list[log.Record]:
    """Of the one run there."""
    run = run_in(folder)
    return log.read_evaluations(run) if run else []
