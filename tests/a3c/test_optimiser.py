"""Clipping and the learning rate; RMSProp itself is tested through SharedParameters."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from a3c import optimiser
from a3c.config import Config
from a3c.envs.protocol import Spec
from a3c.methods import make_method
from a3c.network import Network, layout
from a3c.optimiser import Piece, RMSProp, slower
from a3c.presets import PRESETS, preset
from a3c.schedules import entropy_weight, learning_rate


def clip(gradients: Tensor, config: Config, sizes: list[int]) -> float:
    """In place; returns the norm before."""
    return optimiser.clip(gradients, [Piece(size) for size in sizes], config).item()


def test_clip_by_global_norm() -> None:
    gradients = torch.tensor([3.0, 4.0])
    assert clip(gradients, preset("fast", max_grad_norm=1.0), [1, 1]) == pytest.approx(5.0)
    assert gradients.tolist() == pytest.approx([0.6, 0.8])
    assert clip(gradients, preset("fast", max_grad_norm=40.0), [1, 1]) == pytest.approx(1.0)
    assert gradients.tolist() == pytest.approx([0.6, 0.8])


def test_clip_by_each_tensors_average_norm() -> None:
    gradients = torch.tensor([3.0, 4.0, 0.1, 0.0, 0.0])
    config = preset("fast", grad_clip="average-norm", max_grad_norm=0.1)
    clip(gradients, config, [2, 3])
    # the first tensor: norm 5 / 2 elements = 2.5 -> 0.1;  the second: 0.1 / 3 is below 0.1
    assert gradients.tolist() == pytest.approx([0.12, 0.16, 0.1, 0.0, 0.0])


@pytest.mark.parametrize("how", ["global-norm", "average-norm"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_becomes_nothing(how: str, bad: float) -> None:
    gradients = torch.tensor([3.0, bad, 1.0])
    assert not math.isfinite(clip(gradients, preset("fast", grad_clip=how), [2, 1]))
    assert gradients.tolist() == [0.0, 0.0, 0.0]


def test_learning_rate_schedules() -> None:
    to_zero = preset(
        "fast", lr=1.0, lr_schedule="linear", lr_final_fraction=0.0, total_agent_steps=100
    )
    assert [learning_rate(to_zero, steps) for steps in (0, 25, 100, 120)] == [1, 0.75, 0, 0]
    seed = preset("seed", total_agent_steps=100)
    assert learning_rate(seed, 0) == pytest.approx(2.5e-4)
    assert learning_rate(seed, 25) == pytest.approx(2.5e-4 * 0.55)
    assert learning_rate(seed, 50) == learning_rate(seed, 100) == pytest.approx(2.5e-5)
    assert learning_rate(preset("fast", lr=0.1, lr_schedule="constant"), 10**9) == 0.1


def test_an_exponential_learning_rate() -> None:
    """A hundredth is left at its end, a tenth at the middle."""
    whole = preset("fast", lr=1.0, lr_final_fraction=0.01, total_agent_steps=20_000_000)
    rates = [learning_rate(whole, steps) for steps in (10_000_000, 20_000_000, 20_000_100)]
    assert rates == pytest.approx([0.1, 0.01, 0.01])
    assert learning_rate(whole, 0) == 1
    half = replace(whole, lr_schedule_until=0.5, lr_final_fraction=0.25)
    rates = [learning_rate(half, steps) for steps in (5_000_000, 10_000_000, 20_000_000)]
    assert rates == pytest.approx([0.5, 0.25, 0.25])


def test_the_entropy_bonus_falls_on_a_line_within_the_learning_rates_time() -> None:
    until = {"ent_coef": 0.5, "lr_schedule_until": 0.5, "ent_final_fraction": 0.2}
    linear = preset("fast", lr_schedule="linear", total_agent_steps=200, **until)
    weights = [entropy_weight(linear, steps) for steps in (0, 50, 100, 150)]
    assert weights == pytest.approx([0.5, 0.3, 0.1, 0.1])
    short = preset("fast", ent_coef=0.5, ent_final_fraction=0.0, total_agent_steps=100)
    weights = [entropy_weight(short, steps) for steps in (0, 5_000_000, 10_000_000, 20_000_000)]
    assert weights == pytest.approx([0.5, 0.25, 0.0, 0.0])
    constant = replace(short, lr_schedule="constant")
    assert [entropy_weight(constant, steps) for steps in (50, 100, 10**9)] == [0.5] * 3
    assert entropy_weight(preset("paper"), 79_000_000) == 0.01


@pytest.mark.parametrize("agent_steps", [100, 10_000_000])
def test_a_short_run_has_the_rates_of_a_longer_ones_beginning(agent_steps: int) -> None:
    short = preset("fast", lr=1.0, lr_final_fraction=0.01, total_agent_steps=agent_steps)
    assert learning_rate(short, 100) == pytest.approx(0.01 ** (100 / 10_000_000))
    assert learning_rate(short, 5_000_000) == pytest.approx(0.1)


def test_layers_that_add_up_more_inputs_learn_slower() -> None:
    pieces = [Piece(256 * 3, 256), Piece(3), Piece(1024 * 2, 1024), Piece(2)]
    assert slower(pieces) == [(slice(771, 771 + 2048), 0.5)]
    steps = {}
    for by_fan_in in (True, False):
        config = preset("fast", num_threads=1, lr_by_fan_in=by_fan_in)
        parameters = torch.zeros(2821)
        rmsprop = RMSProp(parameters, pieces, config)
        rmsprop.prepare(0.1, 0, 0)
        rmsprop.step(parameters, torch.ones(2821), torch.ones(()), 0)
        steps[by_fan_in] = parameters
    assert steps[False].allclose(torch.tensor(-0.1))  # the first step is as long as the rate
    assert steps[True][771 : 771 + 2048].allclose(torch.tensor(-0.05))
    assert torch.equal(steps[True][:771], steps[False][:771])
    assert torch.equal(steps[True][-2:], steps[False][-2:])


def test_which_layers_of_the_networks_learn_slower() -> None:
    spec = Spec((84, 84, 4), True, True, True, 4)
    factors = {}
    for name in ("paper", "slim", "nature"):
        config = preset("fast", env="pong", network=name)
        network = Network(config, spec, make_method(config), torch.float32)
        factors[name] = [factor for _, factor in slower(layout(network))]
        whole = torch.zeros(sum(piece.size for piece in layout(network)))
        for part, _ in slower(layout(network)):
            whole[part] = 1
        many = [x for x in network.parameters() if x.dim() in (2, 4) and x[0].numel() > 256]
        assert whole.sum() == sum(x.numel() for x in many)
    assert factors["paper"] == pytest.approx([math.sqrt(256 / 2592)])
    assert factors["slim"] == pytest.approx([math.sqrt(256 / 288), math.sqrt(256 / 3136)])
    expected = [math.sqrt(256 / each) for each in (512, 576, 3136, 512, 512)]
    assert factors["nature"] == pytest.approx(expected)


def test_the_papers_presets_have_one_rate_for_all_layers() -> None:
    assert [name for name in PRESETS if preset(name).lr_by_fan_in] == ["fast"]
