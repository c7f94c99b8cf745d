"""Ctrl-C and its kind, as a wish to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
SAME_SECONDS = 1.0  # a Ctrl-C this soon after the first is the same one: keys bounce, hands hurry


@contextmanager
def interrupts(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal (SIGHUP) call `stop`, once.

    A second Ctrl-C or SIGTERM, a second or more later, raises KeyboardInterrupt in the main thread;
    who closes the terminal after a Ctrl-C wants no more than that. SIGHUP stays ignored where it
    was, as under nohup. Outside the main thread Python allows no handlers: there this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: list[float] = []

    def handler(number: int, _frame: Any) -> None:
        if not first:
            first.append(time.monotonic())
            stop()
        elif number != HANGUP and time.monotonic() - first[0] >= SAME_SECONDS:
            raise KeyboardInterrupt

    # None: a handler that Python did not install, and cannot bring back
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in stopping_signals()}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def stopping_signals() -> list[signal.Signals]:
    """The signals that mean stop."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if HANGUP is not None and signal.getsignal(HANGUP) is not signal.SIG_IGN:
        numbers.append(HANGUP)
    return numbers


def ignore() -> None:
    """For a process that was asked to stop, and is ending: the same wish once more is nothing."""
    for number in stopping_signals():
        signal.signal(number, signal.SIG_IGN)
