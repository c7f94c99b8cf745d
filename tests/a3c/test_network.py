"""Shapes, precision, heads, and the flat vectors."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import distributions, nn

from a3c.config import Config
from a3c.envs.protocol import Spec
from a3c.errors import InputError
from a3c.heads import Categorical, Gaussian
from a3c.methods import A3C
from a3c.network import Network, flatten, layout
from a3c.presets import preset
from a3c.torsos import ConvolutionalTorso
from tests.scripted import VECTOR

ATARI = Spec((84, 84, 4), pixels=True, stacked=True, discrete=True, num_actions=4)


def network_for(config: Config, dtype: torch.dtype = torch.float32, spec: Spec = ATARI) -> Network:
    return Network(config, spec, A3C(config), dtype)


def frames(count: int = 3) -> torch.Tensor:
    """[N, 84, 84, 4] uint8."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 84, 84, 4), np.uint8)
    return torch.from_numpy(pixels)


def learn(network: Network, observations: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Policy and values, with a graph, of a rollout with these observations [T, N, ...]."""
    network.prepare()
    network.make_room(*observations.shape[:2])
    for t, seen in enumerate(observations):
        network(seen, None, t)
    return network.recall(None, torch.ones(observations.shape[:2]))[0]


@pytest.mark.parametrize("spec", [ATARI, VECTOR], ids=["pixels", "vector"])
def test_layers_begin_orthogonal_with_the_gains_of_their_kind(spec: Spec) -> None:
    """The policy begins nearly uniform; values and torsos keep the size of what they read."""
    network = network_for(preset("fast", subtract_background=False), spec=spec)
    layers = [
        (name, layer)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    ]
    assert len(layers) >= 4
    for name, layer in layers:
        gain = {"heads.policy": 0.01, "heads.value": 1.0}.get(name.removesuffix(".linear"))
        weight = layer.weight.flatten(1) / (gain or math.sqrt(2))
        across = weight if weight.shape[0] <= weight.shape[1] else weight.T
        torch.testing.assert_close(across @ across.T, torch.eye(len(across)), rtol=0, atol=1e-5)
        assert layer.bias is not None
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # 8*8*4*16+16 + 4*4*16*32+32 + 9*9*32*256+256 + heads 256*(4+1)+5
        ("paper", 4112 + 8224 + 663_808 + 1285),
        # 8*8*4*32+32 + 4*4*32*64+64 + 10*10*64*256+256 + heads; the script has 11*11 for 10*10
        ("seed", 8224 + 32_832 + 1_638_656 + 1285),
        # 8*8*4*16+16 + 4*4*16*32+32 + 3*3*32*64+64 + 7*7*64*256+256 + heads 256*5+5
        ("slim", 4112 + 8224 + 18_496 + 803_072 + 1285),
        # 8*8*4*32+32 + 4*4*32*64+64 + 3*3*64*64+64 + 7*7*64*512+512 + heads 512*5+5
        ("nature", 8224 + 32_832 + 36_928 + 1_606_144 + 2565),
    ],
)
def test_the_torsos_have_these_sizes(name: str, parameters: int) -> None:
    network = network_for(preset("fast", network=name, subtract_background=False))
    assert sum(piece.size for piece in layout(network)) == parameters
    network.prepare()
    (logits, values), state = network(frames(), None)
    assert (logits.shape, values.shape, state) == ((3, 4), (3,), None)


@pytest.mark.parametrize(
    ("name", "widths", "activation"),
    [("mlp", [64, 64], torch.tanh), ("paper-vector", [200], torch.relu)],
)
def test_vectors_go_through_these_layers(name: str, widths: list[int], activation: Any) -> None:
    network = network_for(preset("control", network=name), spec=VECTOR)
    torso = network.torsos[0]
    assert [layer.out_features for layer in torso.layers] == widths
    x = observations = torch.randn(5, 2)
    for layer in torso.layers:
        x = activation(layer(x))
    torch.testing.assert_close(torso(observations), x)


@pytest.mark.parametrize(
    ("options", "spec", "cells"),
    [
        ({}, ATARI, 256),
        ({"network": "nature"}, ATARI, 256),
        ({"network": "mlp"}, VECTOR, 256),
        ({"network": "paper-vector"}, VECTOR, 128),
    ],
)
def test_an_lstm_has_so_many_cells(options: dict[str, str], spec: Spec, cells: int) -> None:
    network = network_for(preset("fast", recurrent=True, **options), spec=spec)
    state = network.initial_state(3, torch.device("cpu"))
    assert state is not None
    assert [core.hidden_size for core in network.cores] == [cells] * len(network.cores)
    assert state[0].shape == state[1].shape == (3, cells * len(network.cores))


def test_bfloat16_agrees_with_float32_and_keeps_heads_and_gradients_in_float32() -> None:
    outputs = []
    for dtype in (torch.float32, torch.bfloat16):
        network = network_for(preset("fast"), dtype)
        logits, values = learn(network, frames().unsqueeze(0))
        values.sum().backward()
        gradient = network.torsos[0].get_parameter("linear.weight").grad
        assert gradient is not None
        assert logits.dtype == values.dtype == gradient.dtype == torch.float32
        outputs.append((logits, values, gradient))
    for exact, rounded in zip(*outputs, strict=True):
        # bfloat16 keeps 8 bits, and a unit near zero may switch off: 3 % was seen
        assert (exact - rounded).norm() <= 0.05 * exact.norm()


def test_pixels_are_scaled_in_the_first_layers_weights() -> None:
    scaled = network_for(preset("fast"))
    unscaled = network_for(preset("fast", scale_pixels=False))
    bright = torch.full((1, 84, 84, 4), 255, dtype=torch.uint8)
    one = torch.ones((1, 84, 84, 4), dtype=torch.uint8)
    scaled.prepare()
    unscaled.prepare()
    torch.testing.assert_close(scaled(bright, None)[0][1], unscaled(one, None)[0][1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_background_is_subtracted(dtype: torch.dtype) -> None:
    network = network_for(preset("fast"), dtype)
    parameters, gradients = flatten(network)
    background = network.background
    assert background is not None
    seen, other = frames(2)
    background.copy_(seen)
    learn(network, torch.stack([seen, other]).unsqueeze(0))
    features = network.torsos[0].recall()[0]  # [N, width]
    assert features[0].count_nonzero() == 0  # biases start at 0
    assert features[1].count_nonzero() > 0
    features.sum().backward()
    assert gradients.count_nonzero() > 0
    assert background.grad is not None  # a part of the vector, and it stays 0
    assert background.grad.count_nonzero() == 0
    assert parameters.count_nonzero() > seen.count_nonzero()


def test_vectors_are_normalised_by_the_moments_that_were_measured() -> None:
    plain, network = (
        network_for(preset("control", normalize=on), spec=VECTOR) for on in (False, True)
    )
    parameters, gradients = flatten(network)
    assert network.moments is not None
    assert network.return_std is not None
    width = network.moments.shape[1]
    mean, std = torch.arange(float(width)), 2.0 + torch.arange(float(width))
    network.moments.copy_(torch.stack([mean, std]))
    seen = torch.stack([mean, mean + 2 * std, mean - 1000 * std])  # [N, D]
    meant = torch.tensor([0.0, 2.0, -10.0]).unsqueeze(1).expand(3, width)  # the last is cut
    for found, expected in zip(network(seen, None)[0], plain(meant, None)[0], strict=True):
        torch.testing.assert_close(found, expected)
    torch.cat([x.flatten() for x in learn(network, seen.unsqueeze(0))]).sum().backward()
    network.read(seen.unsqueeze(0), torch.arange(3))  # learning sees what acting sees
    for found, expected in zip(
        network.recall(None, torch.ones(1, 3))[0], network(seen, None)[0], strict=True
    ):
        torch.testing.assert_close(found[0], expected)
    assert gradients.count_nonzero() > 0
    for measured in (network.moments, network.return_std):  # parts of the vector; they stay
        assert measured.grad is not None
        assert measured.grad.count_nonzero() == 0
    assert parameters[: 2 * width].tolist() == [*mean.tolist(), *std.tolist()]


def test_images_are_not_normalised() -> None:
    assert network_for(preset("fast", normalize=True)).moments is None


def test_no_gpu_is_looked_for_to_make_initial_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", Mock(side_effect=AssertionError))
    network_for(preset("fast"))


def test_networks_that_are_made_at_once_have_each_its_seeds_values() -> None:
    config = preset("control", env="CartPole-v1", seed=5)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: flatten(network_for(config, spec=VECTOR))[0], range(200)))
    assert all(torch.equal(made[0], each) for each in made)


def test_the_seed_alone_decides_the_initial_values() -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first = flatten(network_for(preset("fast", seed=5)))[0]
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert torch.equal(first, flatten(network_for(preset("fast", seed=5)))[0])
    assert not torch.equal(first, flatten(network_for(preset("fast", seed=6)))[0])


@pytest.mark.parametrize("name", ["paper", "seed", "slim", "nature"])
def test_a_recalled_rollout_has_autograds_gradients(name: str) -> None:
    network = network_for(preset("fast", network=name, subtract_background=False))
    vector, _ = flatten(network)
    noise = torch.randn(len(vector), generator=torch.Generator().manual_seed(0))
    vector += 0.01 * noise  # biases, too, are no longer zero
    torso = network.torsos[0]
    assert isinstance(torso, ConvolutionalTorso)
    seen = frames(80).view(2, 40, 84, 84, 4)  # more than a chunk
    learn(network, seen)
    recalled = torso.recall()  # [T, N, width]
    x = seen.flatten(0, 1).float().permute(0, 3, 1, 2) / 255
    for layer, convolution in zip(torso.layers, torso.convolutions, strict=True):
        assert isinstance(convolution, nn.Conv2d)
        weight, bias = convolution.weight, convolution.bias
        x = F.conv2d(x, weight, bias, layer.stride, layer.padding).relu()
    expected = torso.linear(x.permute(0, 2, 3, 1).flatten(1)).relu().view_as(recalled)
    torch.testing.assert_close(recalled, expected, rtol=1e-4, atol=1e-5)
    parameters = list(torso.parameters())
    towards = torch.randn_like(expected)
    for found, oracle in zip(
        torch.autograd.grad(recalled, parameters, towards),
        torch.autograd.grad(expected, parameters, towards),
        strict=True,
    ):
        assert (found - oracle).norm() <= 1e-5 * oracle.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_part_of_a_rollout_read_with_newer_parameters_is_as_if_seen_with_them(
    dtype: torch.dtype,
) -> None:
    network = network_for(preset("fast"), dtype)
    parameters, gradients = flatten(network)
    seen = frames(80).view(2, 40, 84, 84, 4)  # more than a chunk
    agents = torch.randperm(40)[:36]
    network.make_room(2, 36)
    parameters += 0.01 * torch.randn(len(parameters), generator=torch.Generator().manual_seed(0))
    network.prepare()
    network.read(seen, agents)
    found, _ = network.recall(None, torch.ones(2, 36))
    found[1].sum().backward()
    gradient = gradients.clone()
    gradients.zero_()
    expected = learn(network, seen[:, agents])
    expected[1].sum().backward()
    # chunks of another size round differently
    for one, other in zip((*found, gradient), (*expected, gradients), strict=True):
        assert (one - other).norm() <= (1e-4 if dtype == torch.float32 else 0.02) * other.norm()


def test_flat_vectors_are_what_the_network_computes_with() -> None:
    network = network_for(preset("fast"))
    parameters, gradients = flatten(network)
    learn(network, frames().unsqueeze(0))[1].sum().backward()
    assert gradients.count_nonzero() > 0
    bias = network.heads.value.bias
    assert bias.grad is not None
    assert bias.grad.item() == 3.0  # three observations, d value / d bias = 1 each
    parameters.zero_()
    network.prepare()
    assert network(frames(), None)[0][1].abs().sum() == 0


def test_categorical_head() -> None:
    head = Categorical(8, 5)
    logits = torch.randn(7, 3, 5)
    actions = torch.randint(5, (7, 3))
    oracle = distributions.Categorical(logits=logits)
    torch.testing.assert_close(head.log_prob(logits, actions), oracle.log_prob(actions))
    torch.testing.assert_close(head.entropy(logits), oracle.entropy())


def test_categorical_samples_follow_the_policy() -> None:
    logits = torch.tensor([0.1, 0.2, 0.7]).log().expand(20_000, 3)
    generator = torch.Generator().manual_seed(0)
    drawn = Categorical(8, 3).sample(logits, generator).bincount(minlength=3) / 20_000
    # three standard deviations of a frequency are at most 0.011
    torch.testing.assert_close(drawn, torch.tensor([0.1, 0.2, 0.7]), atol=0.011, rtol=0)


@pytest.mark.parametrize(
    ("std", "name"),
    [
        ("dependent", "log_std.weight"),
        ("independent", "log_std_bias"),
        ("softplus", "variance.weight"),
    ],
)
def test_gaussian_head(std: str, name: str) -> None:
    head = Gaussian(8, 2, std)
    parameters = head(torch.randn(6, 8))
    mean, log_std = parameters.chunk(2, -1)
    oracle = distributions.Normal(mean, log_std.exp())
    actions = head.sample(parameters, torch.Generator())
    torch.testing.assert_close(head.log_prob(parameters, actions), oracle.log_prob(actions).sum(-1))
    torch.testing.assert_close(head.entropy(parameters), oracle.entropy().sum(-1))
    parameters.sum().backward()
    gradient = head.get_parameter(name).grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("std", ["dependent", "independent", "softplus"])
def test_continuous_actions_are_about_0_at_first(std: str) -> None:
    """With a deviation of 1, or the root of softplus(0)."""
    head, features = Gaussian(8, 2, std), torch.randn(6, 8)
    mean, log_std = head(features).chunk(2, -1)
    assert mean.abs().max() < 0.1
    first = 0.5 * math.log(math.log(2)) if std == "softplus" else 0.0
    torch.testing.assert_close(log_std, torch.full((6, 2), first), rtol=0, atol=0.1)


def test_the_most_likely_gaussian_action_is_the_mean() -> None:
    parameters = torch.tensor([[1.0, -2.0, 0.5, 3.0]])
    assert Gaussian(8, 2, "independent").mode(parameters).tolist() == [[1.0, -2.0]]


def test_gaussian_actions_have_the_policys_mean_and_deviation() -> None:
    parameters = torch.tensor([1.0, -2.0, math.log(0.5), math.log(3.0)]).expand(20_000, 4)
    drawn = Gaussian(8, 2, "independent").sample(parameters, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), torch.tensor([1.0, -2.0]), atol=0.07, rtol=0)
    torch.testing.assert_close(drawn.std(0), torch.tensor([0.5, 3.0]), atol=0, rtol=0.03)


def test_each_action_has_a_deviation_of_its_own() -> None:
    head = Gaussian(8, 3, "independent")
    assert head.log_std_bias is not None
    with torch.no_grad():
        head.log_std_bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
    assert head(torch.zeros(2, 8)).chunk(2, -1)[1].tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize(
    ("name", "side", "instead"),
    [
        ("slim", 35, "expected --network paper or seed"),
        ("nature", 35, "expected --network paper or seed"),
        ("slim", 19, "expected --network seed"),  # its second layer has edges
        ("seed", 11, "FlattenObservation makes vectors"),
    ],
)
def test_an_image_that_is_too_small(name: str, side: int, instead: str) -> None:
    spec = Spec((side, 50, 3), True, True, True, 4)
    with pytest.raises(InputError, match=instead) as caught:
        network_for(preset("fast", network=name), spec=spec)
    assert f"--network {name} cannot read images as small as ({side}, 50, 3)" in str(caught.value)
    network_for(preset("fast", network=name), spec=replace(spec, observation_shape=(36, 50, 3)))


@pytest.mark.parametrize(("side", "name"), [(36, "slim"), (35, "paper"), (20, "paper")])
def test_small_images_have_the_smaller_network(side: int, name: str) -> None:
    spec = replace(ATARI, observation_shape=(50, side, 3))
    automatic, named = (network_for(preset("fast", network=n), spec=spec) for n in ("auto", name))
    assert layout(automatic) == layout(named)
