"""Where a run was made: code, versions and machine, for whoever repeats it."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from a3c.errors import as_input_error
from a3c.run import strict_json

SAME = ("a3c-gpu", "gymnasium", "ale-py")
VERSIONS = ("a3c-gpu", "torch", "numpy", "numba", "gymnasium", "ale-py")


def note(folder: Path, facts: dict[str, Any]) -> None:
    """Add a line to the run's provenance.jsonl: a run that was resumed has one for each part, and
    one for each of its nodes.

    Facts that are None are left out. Raises InputError if nothing can be written.
    """
    path = folder / "provenance.jsonl"
    known = {name: value for name, value in facts.items() if value is not None}
    line = strict_json.dumps(known) + "\n"
    with as_input_error(f"cannot write {path}"), path.open("ab") as file:
        # a line that a crash cut short must not spoil this one
        cut = file.tell() > 0 and not path.read_bytes().endswith(b"\n")
        file.write((f"\n{line}" if cut else line).encode())


def read(folder: Path) -> list[dict[str, Any]]:
    """The parts of a run, the first one first, without damaged lines.

    Empty for a run that noted nothing, or whose file cannot be read.
    """
    try:
        lines = (folder / "provenance.jsonl").read_bytes().splitlines()
    except OSError:
        return []
    return [part for part in map(strict_json.read_object, lines) if part is not None]


def provenance() -> dict[str, Any]:
    """What computes here and now."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        **{name: version_of(name) for name in VERSIONS},
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    }


def what_must_be_the_same() -> dict[str, str | None]:
    """Of all machines of a run: the code, this program's version and the environments'."""
    return {"code": code(), **{name: version_of(name) for name in SAME}}


def code() -> str:
    """The first digits of a SHA-256 over the source of a3c and of atari2600."""
    sha = hashlib.sha256()
    root = Path(__file__).parents[2]
    for path in sorted([*root.glob("a3c/**/[!.]*.py"), *root.glob("atari2600/**/[!.]*.py")]):
        sha.update(path.read_bytes())
    return sha.hexdigest()[:12]


@cache
def version_of(package: str) -> str | None:
    """The version that is installed; None for a copy of the code that is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def commit() -> str | None:
    """The commit of this code, `-dirty` where files differ from it; None outside its checkout.

    As it was when first asked: modules that are imported stay as they are.
    """
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
