"""Pausing and stopping, between a thread's rollouts."""

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from unittest.mock import Mock

import pytest
import torch

from a3c.gate import Gate
from a3c.optimiser import Piece
from a3c.presets import preset
from a3c.shared import SharedParameters
from tests.scripted import update


def test_a_request_is_in_force_after_the_next_look() -> None:
    gate = Gate(1)
    gate.stop()
    assert gate.going_on()
    gate.look(lambda: False)
    assert not gate.going_on()


def test_a_finished_run_stops_at_the_next_look() -> None:
    gate = Gate(1)
    gate.look(lambda: True)
    assert not gate.going_on()


def test_threads_that_come_after_others_go_on_until_they_are_asked_to_stop() -> None:
    gate = Gate(1)
    gate.look(lambda: True)
    gate.leave()
    gate.open(2)
    assert gate.going_on()
    assert not gate.stopping


def test_a_stop_asked_for_between_two_sets_of_threads_holds() -> None:
    gate = Gate(1)
    gate.look(lambda: True)
    gate.leave()
    gate.stop()
    gate.open(1)
    assert gate.stopping
    gate.look(lambda: False)
    assert not gate.going_on()


def until(comes_true: Callable[[], bool]) -> None:
    """Wait up to half a minute."""
    end = time.monotonic() + 30
    while not comes_true():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_parked_threads_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take neither processor nor interpreter from those that work."""
    gate = Gate(4)
    wake = Mock(side_effect=gate._boundary.notify_all)
    monkeypatch.setattr(gate._boundary, "notify_all", wake)
    gate._pause_wanted = True
    gate.look(lambda: False)
    threads = [threading.Thread(target=gate.going_on, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: gate._parked == 3)
    with gate._boundary:  # the last of them waits, and has told the others
        pass
    time.sleep(0.05)
    assert wake.call_count == 3
    gate.end_pause()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_thread_that_is_about_to_end_does_not_stand_still() -> None:
    gate = Gate(2)
    gate._pause_wanted = True
    gate.look(lambda: False)
    gate._parked = 1  # one is parked; the other one's update is the last
    gate.look(lambda: True)
    gate.leave()
    waiting = threading.Thread(target=gate.wait_until_parked, daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    gate.leave()
    waiting.join(30)
    assert not waiting.is_alive()


def test_abort_wakes_who_is_parked() -> None:
    gate = Gate(2)
    answers: list[bool] = []

    def park() -> None:
        gate.look(lambda: False)
        answers.append(gate.going_on())
        gate.leave()

    gate._pause_wanted = True
    thread = threading.Thread(target=park)
    thread.start()
    until(lambda: gate._parked == 1)
    gate.abort()
    thread.join(timeout=30)
    assert answers == [False]


class AbortedWhileItLooks(Gate):
    """A thread dies just after another, which looks, has read whether a stop is wanted."""

    looking = False

    def __init__(self) -> None:
        self.dying = threading.Thread(target=self.abort)
        super().__init__(2)

    @property
    def _stop_wanted(self) -> bool:
        wanted = self.wanted
        if self.looking and not self.dying.ident:
            self.dying.start()
            self.dying.join(timeout=0.2)
        return wanted

    @_stop_wanted.setter
    def _stop_wanted(self, wanted: bool) -> None:
        self.wanted = wanted


def test_a_look_does_not_undo_an_abort() -> None:
    gate = AbortedWhileItLooks()
    gate.looking = True
    gate.look(lambda: False)
    gate.dying.join()
    assert not gate.going_on()


def test_a_look_asks_whether_the_run_is_over_while_no_other_looks() -> None:
    """Else it could put in force what was true before another's last update."""
    gate, free = Gate(1), list[bool]()

    def try_to_look() -> None:
        free.append(gate._boundary.acquire(blocking=False))
        if free[0]:
            gate._boundary.release()

    def over() -> bool:
        other = threading.Thread(target=try_to_look)
        other.start()
        other.join()
        return True

    gate.look(over)
    assert free == [False]
    assert not gate.going_on()


def test_a_pause_right_after_another_waits_for_those_who_are_about_to_go_on() -> None:
    gate, updates = Gate(1), []

    def work() -> None:
        while gate.going_on():
            updates.append(1)
            gate.look(lambda: False)
        gate.leave()

    gate.ask(pause=True, stop=False)
    gate.look(lambda: False)
    thread = threading.Thread(target=work)
    thread.start()
    gate.wait_until_parked()
    with gate._boundary:  # the thread cannot wake between the two pauses
        gate.end_pause()
        gate.ask(pause=True, stop=False)
        gate.wait_until_parked()
        assert len(updates) == 1
    time.sleep(0.02)
    assert len(updates) == 1
    gate.abort()
    thread.join(timeout=30)
    assert not thread.is_alive()


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_pausing_stops_all_threads_between_updates(mode: str) -> None:
    config = preset("fast", mode=mode, num_threads=3, total_agent_steps=10**9)
    gate = Gate(3)
    shared = SharedParameters(
        torch.zeros(10), [Piece(10)], config, lambda: gate.look(lambda: shared.finished)
    )

    def work(thread: int) -> None:
        local = torch.empty(10)
        while gate.going_on():
            shared.copy_to(local)
            update(shared, torch.ones(10), 1, thread)
        gate.leave()

    workers = [threading.Thread(target=work, args=[i], daemon=True) for i in range(3)]
    for worker in workers:
        worker.start()

    def watch() -> tuple[int, int]:
        before = shared.updates
        time.sleep(0.02)
        return before, shared.updates

    seen = []
    for _ in range(20):
        with gate.paused():
            seen.append(watch())
        give_up = time.monotonic() + 30
        while shared.updates == seen[-1][1] and time.monotonic() < give_up:
            time.sleep(1e-3)  # after a pause all go on, however late a busy machine wakes them
    gate.stop()
    for worker in workers:
        worker.join(timeout=30)
        assert not worker.is_alive()
    assert all(before == after for before, after in seen)
    assert all(one[1] < next_one[0] for one, next_one in pairwise(seen))


def test_what_others_ask_for_undoes_no_stop() -> None:
    """Of a thread that died, for one, while a cluster's server says to go on."""
    gate = Gate(1)
    gate.stop()
    gate.ask(pause=False, stop=False)
    gate.look(lambda: False)
    assert not gate.going_on()
