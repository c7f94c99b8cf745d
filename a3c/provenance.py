"""Where a run was made: code, versions and machine, for whoever repeats it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

VERSIONS = ("a3c-gpu", "torch", "numpy", "numba", "gymnasium", "ale-py")


def note(folder: Path, **facts: Any) -> None:
    """Add a line to the run's provenance.jsonl: a run that was resumed has one for each part."""
    with (folder / "provenance.jsonl").open("a") as file:
        file.write(json.dumps({**provenance(), **facts}) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """The parts of a run, the first one first; none for a run that noted nothing."""
    path = folder / "provenance.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def provenance() -> dict[str, Any]:
    """What computes here and now."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in VERSIONS},
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    }


def commit() -> str | None:
    """The commit of this code, `-dirty` where files differ from it; None outside its checkout."""
    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None  # installed, perhaps inside a checkout of something else
    return git("describe", "--always", "--dirty")


def git(*words: str) -> str | None:
    """What git says in this folder, or None where it fails or is not there."""
    command = ["git", "-C", str(Path(__file__).parent), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def processor() -> str:
    """The processor's name, as the system gives it."""
    information = Path("/proc/cpuinfo")
    for line in information.read_text().splitlines() if information.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
