"""What threads share: RMSProp, clipping, the schedule, exact counters, policy lag, sync mode."""

import math
import threading
import time
from itertools import pairwise

import pytest
import torch

from a3c.config import Config, preset
from a3c.shared import SharedParameters, clip_, learning_rate


def constant(**changes: object) -> Config:
    """A Config with a constant rate, an average that starts at 0 and no clipping that matters."""
    values: dict[str, object] = {
        "lr": 0.1,
        "lr_schedule": "constant",
        "rmsprop_initial": 0.0,
        "max_grad_norm": 1e9,
    }
    return preset("fast", **{**values, **changes})


def test_rmsprop_is_the_papers_equation() -> None:
    config = constant(rmsprop_decay=0.9, rmsprop_eps=0.01, rmsprop_initial=1.0)
    shared = SharedParameters(torch.tensor([1.0, -2.0]), [2], config)
    theta, g = [1.0, -2.0], [1.0, 1.0]
    for d in ([0.5, -1.0], [0.25, 3.0]):
        shared.apply(torch.tensor(d), 10, shared.updates, 0)
        g = [0.9 * a + 0.1 * b * b for a, b in zip(g, d, strict=True)]
        step = [0.1 * b / math.sqrt(a + 0.01) for a, b in zip(g, d, strict=True)]
        theta = [a - b for a, b in zip(theta, step, strict=True)]
    assert shared.square_avg.tolist() == pytest.approx(g)
    assert shared.parameters.tolist() == pytest.approx(theta)
    assert (shared.updates, shared.agent_steps) == (2, 20)


def test_epsilon_is_inside_the_root() -> None:
    shared = SharedParameters(torch.zeros(1), [1], constant(rmsprop_eps=4.0, rmsprop_decay=1.0))
    shared.apply(torch.ones(1), 1, 0, 0)  # the average stays 0: the step is 0.1 * 1 / sqrt(4)
    assert shared.parameters.item() == pytest.approx(-0.05)


def test_clip_by_global_norm() -> None:
    gradients = torch.tensor([3.0, 4.0])
    assert clip_(gradients, preset("fast", max_grad_norm=1.0), [1, 1]) == pytest.approx(5.0)
    assert gradients.tolist() == pytest.approx([0.6, 0.8])
    assert clip_(gradients, preset("fast", max_grad_norm=40.0), [1, 1]) == pytest.approx(1.0)
    assert gradients.tolist() == pytest.approx([0.6, 0.8])


def test_clip_by_each_tensors_average_norm() -> None:
    gradients = torch.tensor([3.0, 4.0, 0.1, 0.0, 0.0])
    config = preset("fast", grad_clip="average-norm", max_grad_norm=0.1)
    clip_(gradients, config, [2, 3])
    # the first tensor: norm 5 / 2 elements = 2.5 -> 0.1;  the second: 0.1 / 3 is below 0.1
    assert gradients.tolist() == pytest.approx([0.12, 0.16, 0.1, 0.0, 0.0])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad: float) -> None:
    shared = SharedParameters(torch.ones(2), [2], constant())
    with pytest.raises(FloatingPointError, match="not finite"):
        shared.apply(torch.tensor([1.0, bad]), 1, 0, 0)
    assert shared.parameters.tolist() == [1.0, 1.0]
    assert shared.square_avg.tolist() == [0.0, 0.0]
    assert shared.updates == 0


def test_learning_rate_schedules() -> None:
    to_zero = preset("fast", lr=1.0, total_agent_steps=100)
    assert [learning_rate(to_zero, steps) for steps in (0, 25, 100, 120)] == [1, 0.75, 0, 0]
    seed = preset("seed", total_agent_steps=100)
    assert learning_rate(seed, 0) == pytest.approx(2.5e-4)
    assert learning_rate(seed, 25) == pytest.approx(2.5e-4 * 0.55)
    assert learning_rate(seed, 50) == learning_rate(seed, 100) == pytest.approx(2.5e-5)
    assert learning_rate(constant(), 10**9) == 0.1


def test_policy_lag_counts_the_updates_of_others_in_between() -> None:
    shared = SharedParameters(torch.zeros(1), [1], constant(num_threads=2))
    local = torch.empty(1)
    mine = shared.copy_to(local)
    others = shared.copy_to(local)
    assert shared.apply(torch.ones(1), 1, others, 1).policy_lag == 0
    assert shared.apply(torch.ones(1), 1, shared.copy_to(local), 1).policy_lag == 0
    assert shared.apply(torch.ones(1), 1, mine, 0).policy_lag == 2


def test_no_update_is_lost_with_8_threads() -> None:
    threads, rounds, size = 8, 300, 1000
    # decay 0 and epsilon next to nothing: each update moves every parameter by lr = 1 exactly
    config = constant(
        num_threads=threads, lr=1.0, rmsprop_decay=0.0, rmsprop_eps=1e-20, total_agent_steps=10**9
    )
    shared = SharedParameters(torch.zeros(size), [size], config)
    torn = []

    def hammer(thread: int) -> None:
        local = torch.empty(size)
        for _ in range(rounds):
            updates = shared.copy_to(local)
            if local.unique().numel() != 1 or local[0] != -updates:
                torn.append(thread)
            shared.apply(torch.ones(size), 7, updates, thread)

    workers = [threading.Thread(target=hammer, args=[thread]) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not torn
    assert shared.updates == threads * rounds
    assert shared.agent_steps == 7 * threads * rounds
    assert shared.parameters.unique().tolist() == [-threads * rounds]


def in_threads(shared: SharedParameters, gradients: torch.Tensor) -> list[BaseException]:
    """Hand in one gradient from each of k threads at once; returns what they raised."""
    raised: list[BaseException] = []

    def hand_in(thread: int) -> None:
        try:
            shared.apply(gradients[thread].clone(), 5, 0, thread)
        except BaseException as error:
            raised.append(error)

    workers = [threading.Thread(target=hand_in, args=[i]) for i in range(len(gradients))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=30)
    return raised


def test_sync_applies_the_average_once() -> None:
    gradients = torch.randn(4, 50, generator=torch.Generator().manual_seed(1))
    together = SharedParameters(
        torch.zeros(50), [50], constant(mode="sync", num_threads=4, max_grad_norm=0.5)
    )
    assert not in_threads(together, gradients)
    alone = SharedParameters(torch.zeros(50), [50], constant(max_grad_norm=0.5))
    alone.apply(gradients.mean(0), 20, 0, 0)
    assert torch.equal(together.parameters, alone.parameters)
    assert torch.equal(together.square_avg, alone.square_avg)
    assert (together.updates, together.agent_steps) == (1, 20)


def test_sync_ends_for_all_if_the_gradient_is_not_finite() -> None:
    shared = SharedParameters(torch.zeros(1), [1], constant(mode="sync", num_threads=3))
    raised = in_threads(shared, torch.tensor([[1.0], [math.nan], [1.0]]))
    kinds = sorted(type(error).__name__ for error in raised)
    assert kinds == ["BrokenBarrierError", "BrokenBarrierError", "FloatingPointError"]


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_pausing_stops_all_threads_between_updates(mode: str) -> None:
    shared = SharedParameters(torch.zeros(10), [10], constant(mode=mode, num_threads=3))

    def work(thread: int) -> None:
        local = torch.empty(10)
        while shared.going_on():
            shared.apply(torch.ones(10), 1, shared.copy_to(local), thread)
        shared.leave()

    workers = [threading.Thread(target=work, args=[i], daemon=True) for i in range(3)]
    for worker in workers:
        worker.start()

    def watch() -> tuple[int, int]:
        before = shared.updates
        time.sleep(0.02)
        return before, shared.updates

    seen = []
    for _ in range(20):
        seen.append(shared.while_paused(watch))
        give_up = time.monotonic() + 30
        while shared.updates == seen[-1][1] and time.monotonic() < give_up:
            time.sleep(1e-3)  # after a pause all go on, however late a busy machine wakes them
    shared.stop()
    for worker in workers:
        worker.join(timeout=30)
        assert not worker.is_alive()
    assert all(before == after for before, after in seen)
    assert all(one[1] < next_one[0] for one, next_one in pairwise(seen))
