"""What threads share: RMSProp, clipping, the schedule, exact counters, policy lag, sync mode."""

import math
import threading
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from a3c.config import Config
from a3c.optimiser import Piece
from a3c.presets import preset
from a3c.shared import SharedParameters
from tests.scripted import update


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
    shared = SharedParameters(torch.tensor([1.0, -2.0]), [Piece(2)], config)
    theta, g = [1.0, -2.0], [1.0, 1.0]
    for d in ([0.5, -1.0], [0.25, 3.0]):
        update(shared, torch.tensor(d), 10, 0)
        g = [0.9 * a + 0.1 * b * b for a, b in zip(g, d, strict=True)]
        step = [0.1 * b / math.sqrt(a + 0.01) for a, b in zip(g, d, strict=True)]
        theta = [a - b for a, b in zip(theta, step, strict=True)]
    assert shared.save()["square_avg"].tolist() == pytest.approx(g)
    assert shared.parameters.tolist() == pytest.approx(theta)
    assert (shared.updates, shared.agent_steps) == (2, 20)


def test_layers_of_more_inputs_have_a_rate_of_their_own() -> None:
    config = constant(rmsprop_initial="debiased", lr_by_fan_in=True)
    shared = SharedParameters(torch.zeros(6), [Piece(4, 1024), Piece(2)], config)
    update(shared, torch.ones(6), 10, 0)
    assert shared.parameters.tolist() == pytest.approx([-0.05] * 4 + [-0.1] * 2)


def test_a_debiased_average_is_that_of_the_gradients_alone() -> None:
    config = constant(rmsprop_decay=0.9, rmsprop_eps=0.01, rmsprop_initial="debiased")
    shared = SharedParameters(torch.tensor([1.0, -2.0]), [Piece(2)], config)
    theta, seen = [1.0, -2.0], []
    for d in ([0.5, -1.0], [0.25, 3.0], [0.0, 2.0]):
        update(shared, torch.tensor(d), 10, 0)
        seen.append(d)
        weights = [0.9**age for age in reversed(range(len(seen)))]
        for i in (0, 1):
            squares = sum(w * x[i] ** 2 for w, x in zip(weights, seen, strict=True))
            theta[i] -= 0.1 * d[i] / math.sqrt(squares / sum(weights) + 0.01)
    assert shared.parameters.tolist() == pytest.approx(theta)


def test_on_cuda_streams_wait_for_the_last_use_of_the_vectors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lock orders the hosts' threads, and not what they have handed to the device."""
    order, stream = Mock(), Mock()
    stream.wait_event.side_effect = order.wait
    monkeypatch.setattr("torch.cuda.current_stream", lambda _: stream)
    for config, waits in ((constant(), 1), (constant(mode="sync", num_threads=1), 3)):
        order.reset_mock()
        shared = SharedParameters(torch.zeros(1), [Piece(1)], config)
        shared.last_use = last_use = Mock()
        last_use.record.side_effect = order.record
        update(shared, torch.ones(1), 1, 0)
        names = [called[0] for called in order.method_calls]
        assert names[:2] == ["wait", "record"]
        assert names.count("wait") == waits  # in sync mode it also reads the norm
        assert all(called.args == (last_use,) for called in stream.wait_event.call_args_list[-1:])
        assert all(called.args == (stream,) for called in last_use.record.call_args_list)


def test_epsilon_is_inside_the_root() -> None:
    shared = SharedParameters(
        torch.zeros(1), [Piece(1)], constant(rmsprop_eps=4.0, rmsprop_decay=1.0)
    )
    update(shared, torch.ones(1), 1, 0)  # the average stays 0: the step is 0.1 * 1 / sqrt(4)
    assert shared.parameters.item() == pytest.approx(-0.05)


def test_with_rmsprop_each_thread_has_statistics_of_its_own() -> None:
    config = constant(
        optimizer="rmsprop", num_threads=2, rmsprop_decay=0.9, rmsprop_eps=0.01,
        rmsprop_initial="debiased",
    )  # fmt: skip
    shared = SharedParameters(torch.tensor([1.0]), [Piece(1)], config)
    theta = 1.0
    seen: list[list[float]] = [[], []]
    for thread, d in [(0, 0.5), (1, 2.0), (0, -1.0), (0, 3.0), (1, 1.0)]:
        update(shared, torch.tensor([d]), 10, thread)
        seen[thread].append(d)
        weights = [0.9**age for age in reversed(range(len(seen[thread])))]
        squares = sum(w * x**2 for w, x in zip(weights, seen[thread], strict=True))
        theta -= 0.1 * d / math.sqrt(squares / sum(weights) + 0.01)
    assert shared.parameters.item() == pytest.approx(theta)
    assert shared.save()["square_avg"].shape == (2, 1)
    assert shared.save()["own_updates"].tolist() == [3, 2]


def test_momentum_by_hand_and_each_thread_has_its_own() -> None:
    config = replace(constant(num_threads=2), optimizer="momentum", momentum=0.75)
    shared = SharedParameters(torch.tensor([1.0]), [Piece(1)], config)
    theta, m = 1.0, [0.0, 0.0]
    for thread, d in [(0, 4.0), (1, -8.0), (0, 0.0)]:
        update(shared, torch.tensor([d]), 10, thread)
        m[thread] = 0.75 * m[thread] + 0.25 * d  # 1, then -2, then 0.75
        theta -= 0.1 * m[thread]
    assert theta == pytest.approx(1 - 0.1 * (1 - 2 + 0.75))
    assert shared.parameters.item() == pytest.approx(theta)
    assert shared.save()["momentum"].flatten().tolist() == m


def test_in_sync_mode_there_is_one_momentum() -> None:
    config = replace(constant(num_threads=2, mode="sync"), optimizer="momentum")
    shared = SharedParameters(torch.zeros(3), [Piece(3)], config)
    assert not in_threads(shared, torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]))
    torch.testing.assert_close(shared.save()["momentum"], torch.full((1, 3), 0.2))
    torch.testing.assert_close(shared.parameters, torch.full((3,), -0.02))


@pytest.mark.parametrize("optimizer", ["shared-rmsprop", "rmsprop", "momentum"])
def test_an_optimiser_goes_on_from_what_was_saved(optimizer: Any) -> None:
    config = replace(constant(num_threads=2, rmsprop_initial="debiased"), optimizer=optimizer)
    one, other = (SharedParameters(torch.ones(4), [Piece(4)], config) for _ in range(2))
    gradients = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    for i, gradient in enumerate(gradients):
        if i == 3:
            saved = {name: tensor.clone() for name, tensor in one.save().items()}
            other.load(saved, one.agent_steps, one.updates)
        for store in (one, other):
            update(store, gradient.clone(), 10, i % 2)
    assert torch.equal(one.parameters, other.parameters)
    for name, tensor in one.save().items():
        assert torch.equal(tensor, other.save()[name])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("optimizer", "name"), [("rmsprop", "square_avg"), ("momentum", "momentum")]
)
def test_whose_ever_a_gradient_is_that_is_not_finite(bad: float, optimizer: Any, name: str) -> None:
    config = replace(constant(num_threads=2), optimizer=optimizer)
    shared = SharedParameters(torch.ones(2), [Piece(2)], config)
    shared.save()[name].fill_(0.25)
    update(shared, torch.tensor([1.0, bad]), 1, 1)
    assert shared.parameters.tolist() == [1.0, 1.0]
    assert shared.save()[name].tolist() == [[0.25, 0.25]] * 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad: float) -> None:
    shared = SharedParameters(torch.ones(2), [Piece(2)], constant())
    shared.save()["square_avg"].fill_(0.25)
    applied = update(shared, torch.tensor([1.0, bad]), 1, 0)
    assert not applied.gradient_norm.isfinite()  # by which the thread knows
    assert shared.parameters.tolist() == [1.0, 1.0]
    assert shared.save()["square_avg"].tolist() == [0.25, 0.25]


def test_an_update_knows_how_many_came_before_it() -> None:
    shared = SharedParameters(torch.zeros(1), [Piece(1)], constant(num_threads=2))
    local = torch.empty(1)
    assert shared.copy_to(local) == 0
    assert [update(shared, torch.ones(1), 1, 1).updates_before for _ in range(2)] == [0, 1]
    assert shared.copy_to(local) == 2


def test_no_update_is_lost_with_8_threads() -> None:
    threads, rounds, size = 8, 300, 1000
    # decay 0 and epsilon next to nothing: each update moves every parameter by lr = 1 exactly
    config = constant(
        num_threads=threads, lr=1.0, rmsprop_decay=0.0, rmsprop_eps=1e-20, total_agent_steps=10**9
    )
    shared = SharedParameters(torch.zeros(size), [Piece(size)], config)
    torn = []

    def hammer(thread: int) -> None:
        local = torch.empty(size)
        for _ in range(rounds):
            updates = shared.copy_to(local)
            if local.unique().numel() != 1 or local[0] != -updates:
                torn.append(thread)
            update(shared, torch.ones(size), 7, thread)

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
            update(shared, gradients[thread].clone(), 5, thread)
        except BaseException as error:
            raised.append(error)

    workers = [
        threading.Thread(target=hand_in, args=[i], daemon=True) for i in range(len(gradients))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=30)
    assert not any(worker.is_alive() for worker in workers)
    return raised


def test_sync_applies_the_average_once() -> None:
    gradients = torch.randn(4, 50, generator=torch.Generator().manual_seed(1))
    together = SharedParameters(
        torch.zeros(50), [Piece(50)], constant(mode="sync", num_threads=4, max_grad_norm=0.5)
    )
    assert not in_threads(together, gradients)
    alone = SharedParameters(torch.zeros(50), [Piece(50)], constant(max_grad_norm=0.5))
    update(alone, gradients.mean(0), 20, 0)
    assert torch.equal(together.parameters, alone.parameters)
    assert torch.equal(together.save()["square_avg"], alone.save()["square_avg"])
    assert (together.updates, together.agent_steps) == (1, 20)


def test_sync_applies_nothing_for_all_if_one_gradient_is_not_finite() -> None:
    shared = SharedParameters(torch.ones(1), [Piece(1)], constant(mode="sync", num_threads=3))
    assert not in_threads(shared, torch.tensor([[1.0], [math.nan], [1.0]]))
    assert shared.parameters.tolist() == [1.0]


def test_the_target_is_copied_when_so_many_agent_steps_have_passed() -> None:
    shared = SharedParameters(torch.zeros(1), [Piece(1)], constant(), target_every_agent_steps=25)
    local, target = torch.empty(1), torch.empty(1)
    seen = []
    for _ in range(6):
        update(shared, torch.ones(1), 10, 0)
        shared.copy_to(local, target)
        seen.append((target.item() == local.item(), target.item()))
    # copied as it is after the updates that reach 30 and 50 agent steps
    assert [copied for copied, _ in seen] == [False, False, True, False, True, False]
    assert seen[3][1] == seen[2][1]
    assert set(shared.save()) == {"parameters", "square_avg", "target"}


def test_each_update_takes_the_schedules_rate() -> None:
    config = constant(
        lr=1.0, lr_schedule="linear", lr_final_fraction=0.0, total_agent_steps=100,
        rmsprop_decay=0.0, rmsprop_eps=1e-20,
    )  # fmt: skip
    shared = SharedParameters(torch.zeros(1), [Piece(1)], config)
    assert [update(shared, torch.ones(1), 25, 0).lr for _ in range(4)] == [1, 0.75, 0.5, 0.25]
    assert shared.parameters.item() == pytest.approx(-2.5)


@pytest.mark.parametrize("alone", [True, False])
def test_the_target_is_copied_while_nobody_changes_it(alone: bool) -> None:
    shared = SharedParameters(torch.ones(2), [Piece(2)], constant(), target_every_agent_steps=20)
    local, target = torch.zeros(2), torch.zeros(2)

    def copy() -> None:
        if alone:
            shared.copy_target_to(target)
        else:
            shared.copy_to(local, target)

    thread = threading.Thread(target=copy)
    with shared.exclusive():
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        assert not target.any()
    thread.join(30)
    assert target.tolist() == [1, 1]


def test_a_store_that_begins_with_given_parameters_has_them_as_its_target_too() -> None:
    shared = SharedParameters(
        torch.zeros(1), [Piece(1)], constant(), target_every_agent_steps=10**6
    )
    shared.restart(torch.ones(1))
    local, target = torch.zeros(1), torch.zeros(1)
    shared.copy_to(local, target)
    assert (local.item(), target.item()) == (1, 1)


def test_the_end_is_to_be_evaluated_once() -> None:
    """Also where threads come late with updates of rollouts that they had begun."""
    config = preset("fast", num_threads=2, total_agent_steps=20, evaluate_every=10**9)
    shared = SharedParameters(torch.zeros(1), [Piece(1)], config)
    due: list[bool] = []
    shared.in_update = lambda before: due.append(shared.to_be_evaluated(before))
    for thread in (0, 1, 0, 1):
        update(shared, torch.ones(1), 10, thread)
    assert due == [False, True, False, False]
