"""What a CPU computes in its own way, against PyTorch's."""

import pytest
import torch
from torch import Tensor

from a3c.convolutions import Back, Convolution, Recall
from a3c.network import flatten
from a3c.pixels import subtract
from a3c.presets import preset
from a3c.torsos import CONVOLUTIONAL
from tests.a3c.test_network import frames, learn, network_for


def images(*shape: int) -> Tensor:
    """[S, c, h, w], channels last."""
    return torch.randn(shape).to(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("layer", "sides", "can_be"),
    [
        *[(CONVOLUTIONAL[name][0][1], (20, 20), name != "seed") for name in CONVOLUTIONAL],
        *[(CONVOLUTIONAL[name][0][2], (9, 9), False) for name in ("slim", "nature")],
        (Convolution(8, 6, 3), (12, 12), True),
        (Convolution(8, 6, 3), (12, 18), True),
        (Convolution(8, 6, 3), (13, 13), False),  # the last row and column are read by nobody
        (Convolution(8, 6, 3), (12, 13), False),
        (Convolution(8, 6, 3), (13, 12), False),
    ],
)
def test_gradients_towards_an_image(
    layer: Convolution, sides: tuple[int, int], can_be: bool
) -> None:
    image, weight = images(3, 5, *sides), images(layer.channels, 5, *[layer.kernel] * 2)
    gradient = images(3, layer.channels, *map(layer.size, sides))
    back = Back.of(layer, weight, sides, tries=True)
    assert (back.subpixel is not None) == can_be
    found = back(image, gradient, towards_image=True)
    expected = back._replace(subpixel=None)(image, gradient, towards_image=True)
    assert found[0].shape == image.shape
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_every_difference_of_two_bytes(dtype: torch.dtype) -> None:
    pixels = torch.arange(256, dtype=torch.uint8).unsqueeze(1).expand(256, 256).contiguous()
    background = torch.arange(256, dtype=torch.int16)
    found = subtract(pixels, background, torch.empty(256, 256, dtype=dtype))
    assert found.dtype == dtype
    assert torch.equal(found.int(), pixels.int() - background.int())


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 0.02), (torch.float32, 1e-5)])
def test_a_rollout_of_chunks_and_a_smaller_one_learn_alike(
    dtype: torch.dtype, rounding: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One keeps bytes and goes by sub-pixels; the other keeps differences, and PyTorch does it."""
    seen = frames(64).view(2, 32, 84, 84, 4)
    outputs, learned = [], []
    for chunk, kept in ((64, torch.uint8), (65, dtype)):
        monkeypatch.setattr(Recall, "CHUNK", chunk)
        network = network_for(preset("fast"), dtype)
        _, gradients = flatten(network)
        assert network.background is not None
        network.background.copy_(frames(1)[0] // 2)
        policy, values = learn(network, seen)
        assert network.torsos[0].memory[0].dtype == kept
        (policy.square().sum() + values.sum()).backward()
        outputs.append([policy, values])
        learned.append(gradients.clone())
    assert all(map(torch.equal, *outputs))
    one, other = learned
    assert (one - other).norm() <= rounding * other.norm()


def test_what_chunks_add_up_is_not_rounded_between_them() -> None:
    """In bfloat16 a sum of 40 equal parts would stand still before its end."""
    network = network_for(preset("fast"), torch.bfloat16)
    torso, parts = network.torsos[0], 40
    one = frames(64).view(1, 64, 84, 84, 4)
    sums = []
    for seen in (one, one.repeat(parts, 1, 1, 1, 1)):
        network.zero_grad()
        _, values = learn(network, seen)
        values.sum().backward()
        sums.append(
            [x.grad.clone() for x in torso.parameters() if x.dim() == 4 and x.grad is not None]
        )
    assert sums[0]
    for single, whole in zip(*sums, strict=True):
        assert (whole - parts * single).norm() < 0.004 * whole.norm()  # the parameters' rounding


def test_pixels_in_another_order() -> None:
    pixels = torch.arange(24, dtype=torch.uint8).view(2, 3, 4).transpose(1, 2)
    found = subtract(pixels, torch.ones(4, 3, dtype=torch.int16), torch.empty(2, 4, 3))
    assert torch.equal(found, pixels.float() - 1)
