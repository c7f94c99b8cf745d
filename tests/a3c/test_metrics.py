"""The figures of a record, by a clock that stands still."""

import threading
from collections.abc import Callable

import pytest

from a3c.metrics import FinishedEpisode, Metrics, Part, Stopwatch, significant

PassTime = Callable[[float], None]


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> PassTime:
    """Lets so many seconds go by; no others do."""
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)

    def later(seconds: float) -> None:
        nonlocal now
        now += seconds

    return later


def test_rates_are_those_since_the_last_record(pass_time: PassTime) -> None:
    metrics = Metrics(frames_per_agent_step=4)
    pass_time(7)  # games are loaded
    metrics.begin()
    pass_time(2)
    record = metrics.drain(600, updates=3)
    assert (record["agent_steps"], record["updates"], record["seconds"]) == (600, 3, 2)
    assert (record["agent_steps_per_second"], record["emulator_frames"]) == (300, 2400)
    pass_time(4)
    record = metrics.drain(1000, updates=5)
    assert (record["agent_steps"], record["updates"], record["seconds"]) == (1000, 5, 6)
    assert (record["agent_steps_per_second"], record["emulator_frames"]) == (100, 4000)


def test_the_time_of_a_record_that_the_log_leaves_out_is_the_next_ones(pass_time: PassTime) -> None:
    metrics = Metrics(frames_per_agent_step=4)
    metrics.begin()
    pass_time(5)
    assert metrics.drain(0, updates=0)["agent_steps_per_second"] == 0
    pass_time(5)
    assert metrics.drain(100, updates=1)["agent_steps_per_second"] == 10


def test_rates_after_a_resume_are_those_of_what_was_done_since(pass_time: PassTime) -> None:
    metrics = Metrics(frames_per_agent_step=4)
    metrics.load({"episodes": 2, "recent_returns": [1.0, 5.0], "seconds": 50.0}, 1000)
    pass_time(7)
    metrics.begin()
    pass_time(2)
    record = metrics.drain(1100, updates=9)
    assert (record["agent_steps_per_second"], record["emulator_frames"]) == (50, 4400)
    assert (record["seconds"], record["episodes"], record["mean_return_100"]) == (52, 2, 3)


def test_a_resumed_run_forgets_old_games_as_any_other(pass_time: PassTime) -> None:
    metrics = Metrics(frames_per_agent_step=4)
    metrics.load({"episodes": 100, "recent_returns": [0.0] * 100, "seconds": 50.0}, 1000)
    metrics.begin()
    metrics.add([FinishedEpisode(1.0, 10)] * 70, {})
    pass_time(2)
    record = metrics.drain(1100, updates=9)
    assert (record["episodes"], record["mean_return_100"]) == (170, 0.7)
    assert len(metrics.save()["recent_returns"]) == 100


@pytest.mark.usefixtures("pass_time")
def test_a_record_has_means_of_figures_and_sums_of_thread_seconds() -> None:
    metrics = Metrics(frames_per_agent_step=1)
    metrics.add([FinishedEpisode(3.0, 10)], {"entropy": 0.5, "seconds_forward": 2.0})
    metrics.add(
        [FinishedEpisode(-1.0, 20), FinishedEpisode(4.0, 30)],
        {"entropy": 0.25, "seconds_forward": 3.0},
    )
    record = metrics.drain(60, updates=2)
    assert (record["entropy"], record["seconds_forward"]) == (0.375, 5)
    assert (record["returns"], record["lengths"]) == ([3, -1, 4], [10, 20, 30])
    assert (record["episodes"], record["mean_return_100"], record["best_return_100"]) == (3, 2, 4)
    metrics.add([], {"entropy": 1.0})
    record = metrics.drain(80, updates=3)
    assert record["entropy"] == 1
    assert "seconds_forward" not in record
    assert (record["returns"], record["episodes"], record["mean_return_100"]) == ([], 3, 2)


def test_a_stage_has_the_seconds_of_all_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 5.0, 8.0, 9.0, 11.0])
    monkeypatch.setattr("a3c.metrics.time.perf_counter", lambda: next(times))
    stopwatch = Stopwatch()
    for stage in ("forward", "forward", "environment"):
        with stopwatch(stage):
            pass
    taken = stopwatch.take()
    assert (taken["forward"], taken["environment"]) == (4, 2)
    assert set(stopwatch.take().values()) == {0}


def test_what_came_after_the_checkpoint_that_a_run_goes_back_to_counts_once() -> None:
    metrics = Metrics(1)
    metrics.add([FinishedEpisode(3.0, 10)], {"entropy": 1.0})
    saved = metrics.save()
    metrics.add([FinishedEpisode(5.0, 10)], {"entropy": 9.0})
    metrics.rewind(saved, 100)
    record = metrics.drain(200, 1)
    assert (record["returns"], record["episodes"]) == ([], 1)
    assert "entropy" not in record


def test_a_game_that_ends_while_a_record_is_made_is_in_all_of_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics, take = Metrics(frames_per_agent_step=4), Metrics.take
    threads: list[threading.Thread] = []

    def and_a_game_ends(self: Metrics) -> Part:
        part = take(self)
        if not threads:
            threads.append(threading.Thread(target=self.add, args=([FinishedEpisode(5.0, 9)], {})))
            threads[0].start()
            threads[0].join(0.2)  # it has to wait
        return part

    monkeypatch.setattr(Metrics, "take", and_a_game_ends)
    first = metrics.drain(8, updates=1)
    threads[0].join()
    second = metrics.drain(16, updates=2)
    assert (first["episodes"], first["returns"], first["mean_return_100"]) == (0, [], None)
    assert (second["episodes"], second["returns"], second["mean_return_100"]) == (1, [5.0], 5.0)


def test_figures_have_five_digits() -> None:
    assert [significant(x) for x in (0.1234567, 1234567.0)] == [0.12346, 1234600.0]
