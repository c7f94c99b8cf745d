"""Stdout of the commands, which may go away: a reader that leaves, a disk that is full."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator


class OutputError(Exception):
    """Stdout goes nowhere any more: the disk is full, or its reader has left, as `head` does."""


@contextlib.contextmanager
def to_stdout() -> Iterator[None]:
    """Around what does nothing with files but write to stdout. Raises OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(error.strerror) from error


def show(write: Callable[..., object], *words: object) -> None:
    """Call what writes to stdout. Raises OutputError."""
    with to_stdout():
        write(*words)


def flush() -> None:
    """What has been printed is written."""
    if sys.stdout is not None:
        sys.stdout.flush()


def give_up(error: OutputError) -> None:
    """Close stdout for good, for the flush at exit; say why, unless it is the reader's wish."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error.__cause__, OSError) and error.__cause__.errno != errno.EPIPE:
        with contextlib.suppress(OSError):  # stderr may lie on the same disk
            print(f"a3c: cannot write the output: {error}", file=sys.stderr)
