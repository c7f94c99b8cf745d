"""The torsos: the layers that read observations, images or vectors, below LSTM and heads.

Pixels stay uint8 until `enter` subtracts the background, just before the first convolution, and
1/255 is folded into that layer's weights. A convolutional torso may compute in bfloat16; its
parameters and its features are float32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from a3c.convolutions import Convolution, Recall
from a3c.errors import InputError
from a3c.heads import initialise
from a3c.pixels import subtract


class Weights(NamedTuple):
    """What a layer computes with."""

    weight: Tensor  # [out, in], or [out, in, k, k] channels-last
    bias: Tensor  # [out]


# name -> convolutions, width of the fully connected layer
CONVOLUTIONAL: dict[str, tuple[list[Convolution], int]] = {
    # Mnih et al. 2016, section 5.1 (the network of Mnih et al. 2013)
    "paper": ([Convolution(16, 8, 4), Convolution(32, 4, 2)], 256),
    # This project's ancestor, but for the edges: it pads both layers, 84 -> 21 -> 11 pixels
    "seed": ([Convolution(32, 8, 4), Convolution(64, 4, 2, 1)], 256),
    # This project's own: `nature` with half the filters below its last layer, and half the width
    "slim": ([Convolution(16, 8, 4), Convolution(32, 4, 2), Convolution(64, 3, 1)], 256),
    # Mnih et al. 2015 (Nature), extended data table 1
    "nature": ([Convolution(32, 8, 4), Convolution(64, 4, 2), Convolution(64, 3, 1)], 512),
}


def sides_above(layers: Sequence[Convolution], height: int, width: int) -> tuple[int, int]:
    """Height and width of what convolutions make of an image; below 1 where it is too small."""
    for layer in layers:
        height, width = layer.size(height), layer.size(width)
    return height, width


def can_read(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a network's convolutions leave anything of an image [H, W, C]."""
    return min(sides_above(CONVOLUTIONAL[name][0], *shape[:2])) > 0


def too_small(name: str, shape: tuple[int, ...]) -> str:
    """The line for an image [H, W, C] that a network cannot read: which can, or what else to do."""
    able = " or ".join(other for other in CONVOLUTIONAL if can_read(other, shape))
    otherwise = (
        f"expected --network {able}"
        if able
        else "channels come last; Gymnasium's FlattenObservation makes vectors of what is no image"
    )
    return f"--network {name} cannot read images as small as {shape}; {otherwise}"


class Dense(NamedTuple):
    """A torso for vectors, and what stands on it."""

    widths: tuple[int, ...]  # of its layers
    activation: Callable[[Tensor], Tensor]
    cells: int  # of the LSTM
    shared_if_recurrent: bool  # with an LSTM policy and value have one torso, not one each


DENSE: dict[str, Dense] = {
    "mlp": Dense((64, 64), torch.tanh, 256, True),
    # Mnih et al. 2016, supplement 9: policy and value share nothing
    "paper-vector": Dense((200,), torch.relu, 128, False),
}
LSTM_CELLS = 256  # on a convolutional torso


class ConvolutionalTorso(nn.Module):
    """uint8 images [N, H, W, C] -> float32 features [N, width].

    `background` [H, W, C] is subtracted from the pixels. It is a parameter so that it is shared and
    saved as the others are; it gets no gradient. Zeros until it has been measured.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        scale: float,
        dtype: torch.dtype,
        subtract_background: bool,
    ):
        super().__init__()
        self.layers, self.width = CONVOLUTIONAL[name]
        self.shape, self.scale, self.dtype = shape, scale, dtype
        height, width, channels = shape
        above = sides_above(self.layers, height, width)
        if min(above) < 1:
            raise InputError(too_small(name, shape))
        modules: list[nn.Conv2d] = []
        for layer in self.layers:
            modules.append(nn.Conv2d(channels, *layer))
            channels = layer.channels
        self.convolutions = nn.ModuleList(modules)
        self.linear = nn.Linear(math.prod(above) * channels, self.width)
        initialise(self, math.sqrt(2))
        self.background: nn.Parameter | None = None
        self.whole_background: Tensor
        if subtract_background:
            self.background = nn.Parameter(torch.zeros(shape), requires_grad=False)
            # whole numbers: int16 is exact, and faster than bfloat16
            self.register_buffer("whole_background", torch.zeros(shape, dtype=torch.int16), False)
        self.cast: list[Weights] = []  # in the torso's arithmetic, of `prepare`
        self.scratch: Tensor | None = None  # for what the first layer reads, [CHUNK, H, W, C]

    @torch.no_grad()
    def prepare(self) -> None:
        """Cast the weights for the forward passes to come, each time into the same memory."""
        if self.background is not None:
            self.whole_background.copy_(self.background)
        new = self.cast_weights()
        self.cast = self.cast or new  # the first time it is its own copy
        for kept, now in zip(self.cast, new, strict=True):
            kept.weight.copy_(now.weight)
            kept.bias.copy_(now.bias)

    def cast_weights(self) -> list[Weights]:
        """Each layer's in the torso's arithmetic; gradients reach the parameters through them."""
        cast: list[Weights] = []
        scale = self.scale
        for module in self.convolutions:
            assert isinstance(module, nn.Conv2d)
            assert module.bias is not None
            weight = (module.weight * scale).to(self.dtype, memory_format=torch.channels_last)
            cast.append(Weights(weight, module.bias.to(self.dtype)))
            scale = 1.0  # only the first layer sees pixels
        linear = Weights(self.linear.weight.to(self.dtype), self.linear.bias.to(self.dtype))
        return [*cast, linear]

    def make_room(self, rollout_length: int, agents: int) -> None:
        """Make room for the activations of a rollout, which `forward` or `read` fills and `recall`
        reads. From here on N is `agents`: where a rollout has minibatches those of one.

        Of the pixels a CPU keeps the bytes, unless samples are few, and subtracts the background
        once more to learn: from memory, that is faster than to read the differences, which are
        twice or four times as long.
        """
        height, width, channels = self.shape
        shapes: list[tuple[int, ...]] = [(height, width, channels)]
        for layer in self.layers:
            height, width = layer.size(height), layer.size(width)
            shapes.append((height, width, layer.channels))
        shapes.append((self.width,))
        empty, device = self.linear.weight.new_empty, self.linear.weight.device
        as_bytes = Recall.in_chunks(rollout_length * agents, device)
        kinds = [torch.uint8 if as_bytes else self.dtype, *[self.dtype] * (len(shapes) - 1)]
        self.memory = [  # [T, N, h, w, c] each; the last one [T, N, width]
            empty(rollout_length, agents, *shape, dtype=kind)
            for shape, kind in zip(shapes, kinds, strict=True)
        ]
        self.scratch = empty(Recall.CHUNK, *self.shape, dtype=self.dtype) if as_bytes else None

    @torch.no_grad()
    def forward(self, observations: Tensor, t: int | None = None) -> Tensor:
        """uint8 [N, H, W, C] -> float32 features [N, width], without an autograd graph.

        With `t`, the activations are kept as those of the rollout's step t.
        """
        kept = itertools.repeat(None) if t is None else iter([x[t] for x in self.memory])
        return self.activate(self.enter(observations, next(kept)), kept)

    def activate(self, x: Tensor, kept: Iterator[Tensor | None]) -> Tensor:
        """[N, H, W, C] of the torso's arithmetic -> features; each layer's output into `kept`."""
        for layer, (weight, bias) in zip(self.layers, self.cast[:-1], strict=True):
            # [N, H, W, C] in memory is channels-last [N, C, H, W]: no copy
            y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, layer.stride, layer.padding)
            x = torch.clamp_min(y.permute(0, 2, 3, 1), 0, out=next(kept))  # the ReLU
        y = F.linear(x.flatten(1), *self.cast[-1])
        return torch.clamp_min(y, 0, out=next(kept)).float()

    def enter(self, observations: Tensor, kept: Tensor | None = None) -> Tensor:
        """What the first layer reads, [N, H, W, C]: pixels without the background, in the torso's
        arithmetic.

        observations: uint8 pixels; or, where `memory` keeps differences, those, which are returned
        as they are. kept: the part of `memory` to fill: with pixels or differences, as it keeps.
        """
        if observations.dtype == self.dtype:  # learning, where the differences were kept
            return observations
        if kept is not None and kept.dtype == self.dtype:  # acting, where they are kept
            return self.subtracted(observations, kept)
        if kept is not None:  # acting, where the bytes are kept
            kept.copy_(observations)
        # And learning from bytes; or acting for what nobody will learn from
        return self.subtracted(observations, self.room_for(observations))

    def room_for(self, pixels: Tensor) -> Tensor:
        """[N, H, W, C] for their differences, until the next call: `scratch`, if they fit."""
        if self.scratch is not None and len(pixels) <= len(self.scratch):
            return self.scratch[: len(pixels)]
        return torch.empty(pixels.shape, dtype=self.dtype, device=pixels.device)

    def subtracted(self, pixels: Tensor, out: Tensor) -> Tensor:
        """uint8 [N, H, W, C] minus the background, into `out` of that shape."""
        if self.background is None:
            return out.copy_(pixels)
        if out.device.type == "cpu" and not torch.compiler.is_compiling():  # nor exported
            return subtract(pixels, self.whole_background, out)
        return out.copy_(pixels - self.whole_background)

    @torch.no_grad()
    def read(self, observations: Tensor, agents: Tensor) -> None:
        """Compute a rollout's activations for `agents` int64 [M] of `observations` [T, N, ...]."""
        length, num_envs = observations.shape[:2]
        starts = torch.arange(length, device=agents.device) * num_envs  # [T]
        rows = (starts.unsqueeze(1) + agents).flatten()  # [T M]
        pixels = observations.flatten(0, 1)
        chunk = Recall.chunk(len(rows), agents.device)
        chunks = [x.flatten(0, 1).split(chunk) for x in self.memory]
        for part, *kept in zip(rows.split(chunk), *chunks, strict=True):
            self.activate(self.enter(pixels[part], kept[0]), iter(kept[1:]))

    def review(self, other: ConvolutionalTorso) -> Tensor:
        """The features [T, N, width] of what another torso remembers; no autograd graph.

        Both subtract the same background.
        """
        kept = other.memory[0].flatten(0, 1)  # [T N, H, W, C]
        parts = [
            self.activate(self.enter(part), itertools.repeat(None))
            for part in kept.split(Recall.chunk(len(kept), kept.device))
        ]
        return torch.cat(parts).view(*other.memory[0].shape[:2], self.width)

    def recall(self) -> Tensor:
        """The features of a rollout, [T, N, width], with an autograd graph to the parameters."""
        weights = [tensor for layer in self.cast_weights() for tensor in layer]
        activations = [x.flatten(0, 1) for x in self.memory]  # [T N, ...] each
        features: Tensor = Recall.apply(self.layers, self.enter, activations, *weights)
        return features.view(*self.memory[-1].shape)


class VectorTorso(nn.Module):
    """float32 vectors [N, D] -> features [N, width]."""

    def __init__(self, size: int, dense: Dense):
        super().__init__()
        pairs = itertools.pairwise((size, *dense.widths))
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairs)
        self.activation = dense.activation
        self.background = None  # only pixels have one
        self.width = dense.widths[-1]
        initialise(self, math.sqrt(2))

    def prepare(self) -> None:
        """Nothing to cast."""

    def make_room(self, rollout_length: int, agents: int) -> None:
        """Make room for the observations of a rollout."""
        weight = next(self.parameters())  # of the first layer
        self.memory = weight.new_empty(rollout_length, agents, weight.shape[1])  # [T, N, D]

    def forward(self, observations: Tensor, t: int | None = None) -> Tensor:
        """float32 [N, D] -> features; with `t`, as those of the rollout's step t."""
        if t is not None:
            self.memory[t] = observations
        x = observations
        for layer in self.layers:
            x = self.activation(layer(x))
        return x

    def read(self, observations: Tensor, agents: Tensor) -> None:
        """Keep the observations [T, N, D] of `agents` int64 [M]; `recall` computes from them."""
        torch.index_select(observations, 1, agents, out=self.memory)

    def review(self, other: VectorTorso) -> Tensor:
        """The features [T, N, width] of what another torso remembers."""
        return self(other.memory)

    def recall(self) -> Tensor:
        """The features of a rollout, [T, N, width], with an autograd graph."""
        return self(self.memory)
