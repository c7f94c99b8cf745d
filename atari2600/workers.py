"""The threads of a vector environment: each moves a share of the agents on, without the GIL."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atari2600.agent import Scratch
from atari2600.backends import cpu

Array = NDArray[Any]


class Workers:
    """Threads that compute agent steps, each with its own scratch memory.

    A lone worker that is not pinned is the calling thread: several environments in several threads
    then share nothing.
    The threads end with this object. A fork takes no threads along: the child makes new ones.
    """

    def __init__(self, workers: int, pinned: list[int], new_scratch: Callable[[], Scratch]):
        self.workers, self.pinned, self.new_scratch = workers, pinned, new_scratch
        self.own = threading.local()
        self.process = os.getpid()
        self.threads: ThreadPoolExecutor | None = None
        if workers > 1 or pinned:  # the caller itself is never pinned
            arguments = self.own, new_scratch, iter(list(pinned))
            self.threads = ThreadPoolExecutor(workers, "atari2600", begin, arguments)
        else:
            begin(self.own, new_scratch, iter(()))

    def forked(self) -> bool:
        """Whether this is a child of the process that made the threads."""
        return self.process != os.getpid()

    def again(self) -> Workers:
        """The same, with new threads."""
        return Workers(self.workers, self.pinned, self.new_scratch)

    def run(
        self, shared: tuple[Any, ...], ids: Array, actions: Array, seeds: Array
    ) -> list[tuple[int, Future[None] | None]]:
        """Move the agents `ids` on; returns each with what computes it."""
        if self.threads is None:
            work(self.own, self.new_scratch, shared, ids, actions, seeds)
            return [(i, None) for i in ids.tolist()]
        started: list[tuple[int, Future[None] | None]] = []
        for part in np.array_split(np.arange(len(ids)), self.workers):
            rows = ids[part], actions[part], seeds[part]
            future = self.threads.submit(work, self.own, self.new_scratch, shared, *rows)
            started += [(i, future) for i in ids[part].tolist()]
        return started

    def close(self) -> None:
        """Wait for the threads, and end them."""
        if self.threads is not None:
            self.threads.shutdown()


# What threads run knows nothing of Workers: a thread that held its pool would never end.


def begin(
    own: threading.local, new_scratch: Callable[[], Scratch], processors: Iterator[int]
) -> None:
    """A thread's first act: its scratch memory, and its processor if it is to have one."""
    own.scratch = new_scratch()
    for processor in processors:
        os.sched_setaffinity(0, {processor})
        break


def work(
    own: threading.local,
    new_scratch: Callable[[], Scratch],
    shared: tuple[Any, ...],
    ids: Array,
    actions: Array,
    seeds: Array,
) -> None:
    """Move agents on in this thread."""
    if not hasattr(own, "scratch"):  # another thread took the environment over
        own.scratch = new_scratch()
    cpu.run(*shared, own.scratch, ids, actions, seeds)


def processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_affinity(offset: int, workers: int) -> list[int]:
    """The processors of these workers, in order; none for -1, or where the system cannot pin.

    Raises ValueError if there are no such processors for this process.
    """
    if offset == -1:
        return []
    chosen = list(range(offset, offset + workers))
    if offset < 0 or not all(can_pin(processor) for processor in chosen):
        usable = [processor for processor in range(os.cpu_count() or 1) if can_pin(processor)]
        raise ValueError(
            f"thread_affinity_offset is {offset}, for {workers} workers; expected -1, or the first"
            f" of as many processors out of {usable}"
        )
    return chosen if hasattr(os, "sched_setaffinity") else []


def can_pin(processor: int) -> bool:
    """Whether this thread could run on a processor; it stays where it is."""
    if not hasattr(os, "sched_setaffinity"):
        return True
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {processor})
    except (OSError, ValueError, OverflowError):
        return False
    os.sched_setaffinity(0, before)
    return True
