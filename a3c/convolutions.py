"""The backward pass of a torso's convolutions, from activations that acting has left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Convolution(NamedTuple):
    """One layer of a torso."""

    channels: int
    kernel: int
    stride: int
    padding: int = 0

    def size(self, pixels: int) -> int:
        """Height or width of its output."""
        return (pixels + 2 * self.padding - self.kernel) // self.stride + 1


class Recall(torch.autograd.Function):
    """The backward pass of a convolutional torso whose forward pass has been done in parts.

    Acting computes the activations, one agent step at a time; learning computes the gradient over
    all T N samples. The linear layer's goes over them at once, the convolutions' on a CPU in
    chunks whose activations stay in a core's cache.
    """

    CHUNK = 64  # samples

    @staticmethod
    def in_chunks(samples: int, device: torch.device) -> bool:
        """Whether so many samples are some chunks: on a CPU, unless they are few."""
        return device.type == "cpu" and samples >= Recall.CHUNK

    @staticmethod
    def chunk(samples: int, device: torch.device) -> int:
        """How many of them go at once."""
        return Recall.CHUNK if Recall.in_chunks(samples, device) else samples

    @staticmethod
    def forward(
        ctx: Any,
        layers: list[Convolution],
        enter: Callable[[Tensor], Tensor],
        activations: list[Tensor],
        *weights: Tensor,
    ) -> Tensor:
        """activations: input and output of each layer, [T N, h, w, c]; the last one [T N, width].

        enter: what the first layer reads, from a part of the first of these. weights: weight and
        bias of each layer in turn, the linear layer's last.
        """
        ctx.layers, ctx.enter, ctx.activations = layers, enter, activations
        ctx.save_for_backward(*weights)
        return activations[-1].to(torch.float32, copy=True)  # the next rollout overwrites it

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *images, features = ctx.activations
        *weights, weight, _ = ctx.saved_tensors
        gradient = gradients[0].to(features.dtype)
        gradient = torch.ops.aten.threshold_backward(gradient, features, 0)  # of the ReLU
        of_linear = gradient.t() @ images[-1].flatten(1), gradient.sum(0)
        towards = (gradient @ weight).view_as(images[-1])
        of_convolutions = [torch.zeros_like(w, dtype=torch.float32) for w in weights]
        in_chunks = Recall.in_chunks(len(towards), towards.device)
        backs = [
            Back.of(layer, weight, image.shape[1:3], in_chunks and i > 0)
            for i, (layer, weight, image) in enumerate(
                zip(ctx.layers, weights[::2], images[:-1], strict=True)
            )
        ]
        chunk = Recall.chunk(len(towards), towards.device)
        for part, *seen in zip(*(x.split(chunk) for x in (towards, *images)), strict=True):
            seen[0] = ctx.enter(seen[0])
            convolve_back(backs, seen, part, of_convolutions)
        return None, None, None, *of_convolutions, *of_linear


def convolve_back(
    backs: list[Back], activations: list[Tensor], gradient: Tensor, totals: list[Tensor]
) -> None:
    """From the gradient of the last output to those of weights and biases, added to `totals`."""
    images = [x.permute(0, 3, 1, 2) for x in (*activations, gradient)]  # [S, c, h, w], no copies
    gradient = images.pop()
    for i, back in reversed(list(enumerate(backs))):
        gradient, of_weight, of_bias = back(
            images[i],
            torch.ops.aten.threshold_backward(gradient, images[i + 1], 0),
            towards_image=i > 0,  # the pixels need no gradient
        )
        totals[2 * i] += of_weight
        totals[2 * i + 1] += of_bias


class Back(NamedTuple):
    """The backward pass of one convolution."""

    layer: Convolution
    weight: Tensor  # [O, I, k, k]
    subpixel: Tensor | None  # the kernel towards the image, where `subpixel_kernel` has one

    @classmethod
    def of(cls, layer: Convolution, weight: Tensor, sides: tuple[int, ...], tries: bool) -> Back:
        """For images of so many rows and columns. tries: by `subpixel_gradient`, if that can be."""
        return cls(layer, weight, subpixel_kernel(layer, weight, sides) if tries else None)

    def __call__(
        self, image: Tensor, gradient: Tensor, towards_image: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of image (if wanted), weight and bias, from that of the output [S, c, h, w]."""
        layer = self.layer
        towards, of_weight, of_bias = torch.ops.aten.convolution_backward(
            gradient,
            image,
            self.weight,
            [layer.channels],
            [layer.stride] * 2,
            [layer.padding] * 2,
            [1, 1],
            False,
            [0, 0],
            1,
            [towards_image and self.subpixel is None, True, True],
        )
        if towards_image and self.subpixel is not None:
            towards = subpixel_gradient(gradient, self.subpixel, layer.stride)
        return towards, of_weight, of_bias


def subpixel_kernel(layer: Convolution, weight: Tensor, sides: tuple[int, ...]) -> Tensor | None:
    """What takes gradients of the output to those of the image by a convolution with stride 1: a
    sub-pixel convolution (Shi et al., 2016, arXiv 1609.07009). None where there is none.

    weight [O, I, k, k]. Where k is twice the stride s, each cell of s x s pixels of the image is
    read by 2 x 2 outputs. So the gradients of its pixels are the s s I channels of one pixel of a
    convolution with this kernel, [s s I, O, 2, 2]. On a CPU that takes half the time of PyTorch's
    own, which has gaps to fill.
    """
    stride = layer.stride
    whole = all(side == stride * (layer.size(side) + 1) for side in sides)  # no pixel left over
    if layer.kernel != 2 * stride or layer.padding or not whole:
        return None
    outputs, inputs = weight.shape[:2]
    cells = weight.reshape(outputs, inputs, 2, stride, 2, stride).flip(2, 4)
    kernel = cells.permute(3, 5, 1, 0, 2, 4).reshape(-1, outputs, 2, 2)
    return kernel.contiguous(memory_format=torch.channels_last)


def subpixel_gradient(gradient: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """From the gradient of the output to that of the image, [S, c, h, w], channels last."""
    cells = F.conv2d(gradient, kernel, padding=1).permute(0, 2, 3, 1)  # [S, h, w, s s c]
    samples, height, width, _ = cells.shape
    pixels = cells.reshape(samples, height, width, stride, stride, -1).transpose(2, 3)
    image = pixels.reshape(samples, height * stride, width * stride, -1)
    return image.permute(0, 3, 1, 2)
