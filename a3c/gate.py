"""Gate: pausing and stopping of threads, between a thread's rollouts only. No tensors.

Requests come at any time. Whoever has made an update calls `look`, which puts them in force for
all; each thread obeys in `going_on`, before its next rollout. In async mode each thread looks after
its own update. In sync mode the thread that applies for all looks, while all others wait for it: so
all see a request at the same update.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Gate:
    """Where `num_threads` threads wait or end, between two rollouts."""

    def __init__(self, num_threads: int):
        self._pause_wanted = self._stop_wanted = False
        self._paused = self._stopped = False
        self._running, self._parked = num_threads, 0
        self._boundary = threading.Condition()

    def look(self, threads_end: Callable[[], bool]) -> None:
        """Put what was asked for in force; where `threads_end` says so they end in any case: at the
        end of the run, or to have more agents.

        It is asked under the lock: else a thread could put in force what was true before
        the last update of another.
        """
        with self._boundary:  # an `abort` meanwhile comes after it
            self._paused, self._stopped = self._pause_wanted, self._stop_wanted or threads_end()
            # nobody is notified: threads that are parked wake as this one calls `leave`

    def going_on(self) -> bool:
        """Called by each thread between two rollouts: parks while paused; False when to stop."""
        with self._boundary:
            if self._paused and not self._stopped:
                self._parked += 1
                self._boundary.notify_all()  # once: those that wake would wake the others
                self._boundary.wait_for(lambda: self._stopped or not self._paused)
                self._parked -= 1
            return not self._stopped

    def leave(self) -> None:
        """Called once by each thread at its end, however it ends; or for one that never began."""
        with self._boundary:
            self._running -= 1
            self._boundary.notify_all()

    def open(self, num_threads: int) -> None:
        """For threads that begin where others have ended; a stop asked for meanwhile holds."""
        with self._boundary:
            self._running, self._stopped = num_threads, False

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for; not where threads end because the run is done, or grows."""
        return self._stop_wanted

    def stop(self) -> None:
        """Ask the threads to end after the rollout they are in and its updates. Safe in a signal
        handler."""
        self._stop_wanted = True

    def abort(self) -> None:
        """Where a thread died, or a run is to end at once: all end before their next rollout, also
        those that are parked."""
        with self._boundary:
            self._stop_wanted = self._stopped = True
            self._boundary.notify_all()

    def ask(self, pause: bool, stop: bool) -> None:
        """What is wanted from the next look on, where others than this gate decide that."""
        self._pause_wanted = pause
        if stop:
            self._stop_wanted = True

    def wait_until_parked(self) -> None:
        """Every thread stands between two rollouts, or has ended.

        Not those that still count from a pause before, and are about to go on: `_paused` is this
        pause's only once a thread has looked. Nor those that are about to end.
        """
        with self._boundary:
            self._boundary.wait_for(
                lambda: (
                    not self._running
                    or (self._paused and not self._stopped and self._parked >= self._running)
                )
            )

    def end_pause(self) -> None:
        """Parked threads go on."""
        with self._boundary:
            self._pause_wanted = self._paused = False
            self._boundary.notify_all()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Every thread stands between two rollouts (or has ended) in the meantime."""
        self._pause_wanted = True
        try:
            self.wait_until_parked()
            yield
        finally:
            self.end_pause()
