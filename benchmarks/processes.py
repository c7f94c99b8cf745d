"""Processes: what Linux's /proc tells of them, and their end.

It needs nothing but Python 3.9, for vs_peers.py is run by the peers' Python as well.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; none of a process that has ended."""
    try:
        # The name, in brackets, may hold blanks and brackets
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def stats() -> dict[int, list[str]]:
    """The same of all processes."""
    pids = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat")]
    return {pid: fields for pid in pids if (fields := stat(pid))}


def below(pid: int) -> set[int]:
    """The processes that descend from one."""
    parents, found = {child: int(fields[1]) for child, fields in stats().items()}, {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def name_of(pid: int) -> str:
    """The first word of its command, which Ray sets for actors; empty for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].decode()
    except OSError:
        return ""


def named(pids: set[int], name: str) -> list[int]:
    """Those of these processes, in their order, whose name begins so."""
    return [pid for pid in sorted(pids) if name_of(pid).startswith(name)]


def actors(name: str) -> list[int]:
    """Ray's, of this class, below this process."""
    return named(below(os.getpid()), f"ray::{name}")


def cpu_seconds(fields: list[str], children: bool = False) -> float:
    """That a process has had, by its fields; with those of its children that have ended."""
    ticks = sum(map(int, fields[11 : 15 if children else 13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def end_group(process: subprocess.Popen[Any]) -> None:
    """At once, of one that leads its group: what it has started would run on after it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
