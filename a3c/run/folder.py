"""A run's own folder: made once, locked while a process trains in it, and found as runs/latest."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: there nothing keeps two processes out of one folder
    fcntl = None  # type: ignore[assignment]

from a3c.config import Config, to_dict
from a3c.errors import InputError, as_input_error
from a3c.run import checkpoint, strict_json
from a3c.run.files import flush_names, write_whole

LOCK = ".lock"
HELD: set[int] = set()  # the locks of this process, as file descriptors
# What flock says where another process has the lock; anything else means that there are no locks
TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


@dataclass(frozen=True)
class Run:
    """What `train` returns."""

    folder: Path
    agent_steps: int
    episodes: int
    mean_return_100: float | None  # of the last 100 games, unclipped
    finished: bool  # False if it was interrupted and can be resumed
    best: dict[str, Any] | None = None  # the score of the best by evaluation, as in best.json
    interrupted: bool = False  # asked to stop, perhaps only once it was trained


def create_run_folder(config: Config) -> Path:
    """runs/<env>[-<run_name>]-<time>/ with config.json. Raises InputError, and leaves nothing."""
    runs = runs_of(config)
    words = [config.env, config.run_name, f"{datetime.now():%Y%m%d-%H%M%S}"]
    name = "-".join(re.sub(r"[^\w.-]", "-", word) for word in words if word)
    missing = [path for path in (runs, *runs.parents) if not path.exists()]
    made: list[Path] = []
    try:
        runs.mkdir(parents=True, exist_ok=True)
        made.append(make_numbered(runs / name))
        checkpoint.folder(made[0]).mkdir()
        write_config(made[0], config)
    except BaseException as error:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        for path in missing:
            with suppress(OSError):
                path.rmdir()
        if not isinstance(error, OSError):
            raise
        reason = error.strerror or error
        raise InputError(f"cannot create the run folder {runs / name}: {reason}") from None
    return made[0]


def runs_of(config: Config) -> Path:
    """Where runs lie. ~ is the home here, too: in a file or in Python no shell sees it."""
    return Path(os.path.expanduser(config.runs_dir))


def check_runs_dir(config: Config) -> None:
    """Raise InputError if the folder of the runs cannot be made where it is to be."""
    runs = runs_of(config)
    for path in (runs, *runs.parents):
        which = "which" if path == runs else f"and {path}"
        if path.is_dir():
            with as_input_error(f"--runs-dir is {runs}, {which} cannot be written into"):
                tempfile.TemporaryFile(dir=path).close()
            return
        if os.path.lexists(path):
            raise InputError(f"--runs-dir is {runs}, {which} is no folder; expected one")


def make_numbered(folder: Path) -> Path:
    """Make `folder`, or folder-2, folder-3, ... where others were as quick; raises OSError."""
    number = 1
    while True:
        path = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            path.mkdir()
            return path
        except FileExistsError:
            number += 1


def write_config(folder: Path, config: Config) -> None:
    """config.json: the options of the run, as in its checkpoints. Raises OSError."""
    write_whole(folder / "config.json", strict_json.dumps(to_dict(config), indent=1) + "\n")


def link_latest(folder: Path) -> list[str]:
    """Lead runs/latest to a run. It is a convenience: gives a line where that cannot be done."""
    latest = folder.parent / "latest"
    temporary = folder.parent / f".latest-{folder.name}"  # the name of no other run
    if latest.exists() and not latest.is_symlink():
        return [f"{latest} is no link: it is left as it is, and does not lead to this run"]
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder.name)
        os.replace(temporary, latest)
    except (OSError, NotImplementedError) as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or error
        return [f"{latest} does not lead to this run: {reason}"]
    return []


def establish(folder: Path, config: Config, new: bool) -> list[str]:
    """Once a run has a checkpoint of its own: config.json says what that does, and runs/latest
    leads to a new run. Gives lines about what could not be done; raises OSError.
    """
    write_config(folder, config)
    if not new:
        return []
    for path in (folder, folder.parent):
        flush_names(path)
    return link_latest(folder)


def standing(folder: Path) -> str:
    """What is left of a run that ended before its time, and how to go on."""
    for path in checkpoint.numbered(folder)[:1]:
        agent_steps = int(path.stem)
        return (
            f"the last checkpoint, at {agent_steps:,} agent steps, stands; "
            f"go on: a3c train --resume {as_word(folder)}"
        )
    return f"{folder} has no checkpoint to go on from"


def let_go() -> None:
    """In a child that an environment has forked: it would hold the lock as long as it lives."""
    for descriptor in HELD:
        os.close(descriptor)
    HELD.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=let_go)


@contextmanager
def locked(folder: Path) -> Iterator[list[str]]:
    """Keep other processes from training in this folder; the system unlocks it however we end.

    Gives lines to say: one where the file system has no locks. Raises InputError that names who has
    the folder, or why nothing can be written there.
    """
    with as_input_error(f"cannot write to {folder}"):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    HELD.add(descriptor)
    try:
        remarks = lock(descriptor, folder)
        with suppress(OSError):  # a full disk: the lock holds without its words
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        try:
            yield remarks
        finally:
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        HELD.discard(descriptor)
        os.close(descriptor)


def lock(descriptor: int, folder: Path, shared: bool = False) -> list[str]:
    """Lock an open file; gives a line if that is not possible. Raises InputError if taken."""
    if fcntl is None:
        return [f"no locks on this system: let no other process train in {folder}"]
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        return []
    except OSError as error:
        if error.errno not in TAKEN:
            return [f"no locks in {folder} ({error.strerror}): let no other process train there"]
    # Beyond the `except`: nobody is to take it for the system's refusal
    raise InputError(f"{folder} is in use by {holder(folder)}; expected one at a time")


def holder(folder: Path) -> str:
    """Who has locked a folder, in words."""
    with suppress(OSError):
        if words := (folder / LOCK).read_text(errors="replace").strip():
            return words
    return "another process"


def check_free(folder: Path) -> None:
    """Raise InputError if another process trains in this folder. Writes nothing."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return  # never locked, or nothing that we may look at
    try:
        lock(descriptor, folder, shared=True)
    finally:
        os.close(descriptor)


def as_word(path: str | Path) -> str:
    """A path as a command takes it: quoted where it needs that, and ./-x for what begins with a
    dash, which would be an option."""
    word = str(path)
    return quote(f"./{word}" if word.startswith("-") else word)


def from_here(path: Path) -> Path:
    """A path below the working folder as seen from there; without links, which may be moved."""
    real, here = path.resolve(), Path.cwd()
    return real.relative_to(here) if real.is_relative_to(here) else real
