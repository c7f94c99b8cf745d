"""Network: torso -> (LSTM) -> heads; all its parameters are views into one vector.

Pixels stay uint8 until the first convolution, and 1/255 is folded into that layer's weights. The
torso may compute in bfloat16; the parameters, heads, LSTM and everything after them are float32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from a3c.config import Config, InputError
from a3c.convolutions import Convolution, Replay
from a3c.envs.protocol import Spec
from a3c.heads import MakesHeads, Outputs, initialise
from a3c.optimiser import Piece
from a3c.pixels import subtract


class Layer(NamedTuple):
    """What a layer computes with."""

    weight: Tensor
    bias: Tensor


# name -> convolutions, width of the fully connected layer
CONVOLUTIONAL: dict[str, tuple[list[Convolution], int]] = {
    # Mnih et al. 2016, section 5.1 (the network of Mnih et al. 2013)
    "paper": ([Convolution(16, 8, 4), Convolution(32, 4, 2)], 256),
    # This project's ancestor; padding 1 is TensorFlow's SAME for 20x20 -> 10x10
    "seed": ([Convolution(32, 8, 4), Convolution(64, 4, 2, 1)], 256),
    # Mnih et al. 2015 (Nature), extended data table 1
    "nature": ([Convolution(32, 8, 4), Convolution(64, 4, 2), Convolution(64, 3, 1)], 512),
}


class Dense(NamedTuple):
    """A torso for vectors, and what stands on it."""

    widths: tuple[int, ...]  # of its layers
    activation: Callable[[Tensor], Tensor]
    cells: int  # of the LSTM
    shared_if_recurrent: bool  # by all that the heads learn


DENSE: dict[str, Dense] = {
    "mlp": Dense((64, 64), torch.tanh, 256, True),
    # Mnih et al. 2016, supplement 9: policy and value share nothing
    "paper-vector": Dense((200,), torch.relu, 128, False),
}
LSTM_CELLS = 256  # on a convolutional torso

LARGEST = 10.0  # standard deviations that a normalised observation may be from the mean

State = tuple[Tensor, Tensor]  # hidden and cell state of all LSTMs side by side, [N, cells] each


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
        modules: list[nn.Conv2d] = []
        for layer in self.layers:
            modules.append(nn.Conv2d(channels, *layer))
            height, width, channels = layer.size(height), layer.size(width), layer.channels
        if min(height, width) < 1:
            raise InputError(
                f"--network {name} cannot read images as small as {shape}; channels come last; "
                "Gymnasium's FlattenObservation makes vectors of what are no images"
            )
        self.convolutions = nn.ModuleList(modules)
        self.linear = nn.Linear(height * width * channels, self.width)
        initialise(self, math.sqrt(2))
        self.background: nn.Parameter | None = None
        self.whole_background: Tensor
        if subtract_background:
            self.background = nn.Parameter(torch.zeros(shape), requires_grad=False)
            # whole numbers: int16 is exact, and faster than bfloat16
            self.register_buffer("whole_background", torch.zeros(shape, dtype=torch.int16), False)
        self.cast: list[Layer] = []  # of `prepare`
        self.room: Tensor | None = None  # for what the first layer reads, [CHUNK, H, W, C]

    @torch.no_grad()
    def prepare(self) -> None:
        """Cast the weights for the forward passes to come, each time into the same memory."""
        if self.background is not None:
            self.whole_background.copy_(self.background)
        new = self.casts()
        self.cast = self.cast or new
        for kept, layer in zip(self.cast, new, strict=True):
            kept.weight.copy_(layer.weight)
            kept.bias.copy_(layer.bias)

    def casts(self) -> list[Layer]:
        """The layers in the torso's arithmetic; gradients reach the parameters through them."""
        cast: list[Layer] = []
        scale = self.scale
        for module in self.convolutions:
            assert isinstance(module, nn.Conv2d)
            assert module.bias is not None
            weight = (module.weight * scale).to(self.dtype, memory_format=torch.channels_last)
            cast.append(Layer(weight, module.bias.to(self.dtype)))
            scale = 1.0  # only the first layer sees pixels
        linear = Layer(self.linear.weight.to(self.dtype), self.linear.bias.to(self.dtype))
        return [*cast, linear]

    def remember(self, rollout_length: int, num_envs: int) -> None:
        """Make room for the activations of a rollout, which `forward` fills and `replay` reads.

        Of the pixels a CPU keeps the bytes, and subtracts the background once more to learn: from
        memory, that is faster than to read the differences, which are twice or four times as long.
        """
        height, width, channels = self.shape
        shapes: list[tuple[int, ...]] = [(height, width, channels)]
        for layer in self.layers:
            height, width = layer.size(height), layer.size(width)
            shapes.append((height, width, layer.channels))
        shapes.append((self.width,))
        empty, device = self.linear.weight.new_empty, self.linear.weight.device
        as_bytes = Replay.in_chunks(rollout_length * num_envs, device)
        kinds = [torch.uint8 if as_bytes else self.dtype, *[self.dtype] * (len(shapes) - 1)]
        self.memory = [  # [T, N, h, w, c] each; the last one [T, N, width]
            empty(rollout_length, num_envs, *shape, dtype=kind)
            for shape, kind in zip(shapes, kinds, strict=True)
        ]
        self.room = empty(Replay.CHUNK, *self.shape, dtype=self.dtype) if as_bytes else None

    @torch.no_grad()
    def forward(self, observations: Tensor, t: int | None = None) -> Tensor:
        """uint8 [N, H, W, C] -> float32 features [N, width], without a graph.

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
        """What the first layer reads: pixels without the background, in the torso's arithmetic.

        observations: pixels; or that already, where it is what `memory` keeps. kept: a place there.
        """
        if observations.dtype == self.dtype:
            return observations
        if kept is not None and kept.dtype == self.dtype:
            return self.subtracted(observations, kept)
        if kept is not None:
            kept.copy_(observations)
        if self.room is not None and len(observations) <= len(self.room):
            return self.subtracted(observations, self.room[: len(observations)])
        out = torch.empty(observations.shape, dtype=self.dtype, device=observations.device)
        return self.subtracted(observations, out)

    def subtracted(self, pixels: Tensor, out: Tensor) -> Tensor:
        """uint8 [N, H, W, C] minus the background."""
        if self.background is None:
            return out.copy_(pixels)
        if out.device.type == "cpu" and not torch.compiler.is_compiling():  # nor exported
            return subtract(pixels, self.whole_background, out)
        return out.copy_(pixels - self.whole_background)

    @torch.no_grad()
    def read(self, observations: Tensor, agents: Tensor) -> None:
        """Compute a rollout's activations for `agents` int64 [G] of `observations` [T, N, ...]."""
        length, num_envs = observations.shape[:2]
        starts = torch.arange(length, device=agents.device) * num_envs  # [T]
        rows = (starts.unsqueeze(1) + agents).flatten()  # [T G]
        pixels = observations.flatten(0, 1)
        chunk = Replay.chunk(len(rows), agents.device)
        chunks = [x.flatten(0, 1).split(chunk) for x in self.memory]
        for part, *kept in zip(rows.split(chunk), *chunks, strict=True):
            self.activate(self.enter(pixels[part], kept[0]), iter(kept[1:]))

    def review(self, other: ConvolutionalTorso) -> Tensor:
        """The features [T, N, width] of what another torso remembers; no graph.

        Both subtract the same background.
        """
        kept = other.memory[0].flatten(0, 1)  # [T N, H, W, C]
        parts = [
            self.activate(self.enter(part), itertools.repeat(None))
            for part in kept.split(Replay.chunk(len(kept), kept.device))
        ]
        return torch.cat(parts).view(*other.memory[0].shape[:2], self.width)

    def replay(self) -> Tensor:
        """The features of a rollout, [T, N, width], with a graph back to the parameters."""
        weights = [tensor for layer in self.casts() for tensor in layer]
        activations = [x.flatten(0, 1) for x in self.memory]
        features: Tensor = Replay.apply(self.layers, self.enter, activations, *weights)
        return features.view(*self.memory[-1].shape)


class VectorTorso(nn.Module):
    """float32 vectors [N, D] -> features [N, width]."""

    def __init__(self, size: int, dense: Dense):
        super().__init__()
        pairs = itertools.pairwise((size, *dense.widths))
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairs)
        self.activation = dense.activation
        self.background = None  # vectors are read as they are
        self.width = dense.widths[-1]
        initialise(self, math.sqrt(2))

    def prepare(self) -> None:
        """Nothing to cast."""

    def remember(self, rollout_length: int, num_envs: int) -> None:
        """Make room for the observations of a rollout."""
        weight = next(self.parameters())  # of the first layer
        self.memory = weight.new_empty(rollout_length, num_envs, weight.shape[1])  # [T, N, D]

    def forward(self, observations: Tensor, t: int | None = None) -> Tensor:
        """float32 [N, D] -> features; with `t`, as those of the rollout's step t."""
        if t is not None:
            self.memory[t] = observations
        x = observations
        for layer in self.layers:
            x = self.activation(layer(x))
        return x

    def read(self, observations: Tensor, agents: Tensor) -> None:
        """Keep the observations [T, N, D] of `agents` int64 [G]; `replay` computes from them."""
        torch.index_select(observations, 1, agents, out=self.memory)

    def review(self, other: VectorTorso) -> Tensor:
        """The features [T, N, width] of what another torso remembers."""
        return self(other.memory)

    def replay(self) -> Tensor:
        """The features of a rollout, [T, N, width], with a graph."""
        return self(self.memory)


class Network(nn.Module):
    """Torso -> (LSTM) -> a method's heads: what a thread acts and learns with.

    A rollout is `prepare` (new parameters), `forward` for each of its steps t (to act, no graph;
    `remember` has made room for what it computes), then `evaluate` (to learn, with the graph). To
    learn with newer parameters: `prepare`, `read`, `evaluate`, for any part of the agents. What one
    of them keeps for another is in the same memory each time.

    Its initial values depend on `config.seed` alone, and torch's global generator is left alone.
    Raises InputError if the network that is asked for does not read such observations.
    """

    def __init__(
        self, config: Config, spec: Spec, method: MakesHeads, dtype: torch.dtype = torch.float32
    ):
        super().__init__()
        check_network(config, spec.pixels)
        with torch.random.fork_rng(devices=[]):  # of the CPU: no GPU is started for it
            torch.default_generator.manual_seed(config.seed)
            # Images share a torso: its cost is most of the work. So do most networks with an LSTM.
            dense = None if spec.pixels else DENSE[network_name(config, spec.pixels)]
            with_lstm = config.recurrent and (dense is None or dense.shared_if_recurrent)
            shared = dense is None or with_lstm
            torsos = [
                make_torso(config, spec, dtype) for _ in range(1 if shared else method.torsos)
            ]
            self.torsos: Any = nn.ModuleList(torsos)
            features = torsos[0].width
            self.cells = LSTM_CELLS if dense is None else dense.cells  # of each LSTM
            self.cores = nn.ModuleList(
                nn.LSTMCell(features, self.cells) for _ in torsos if config.recurrent
            )
            self.heads: Any = method.heads(self.cells if config.recurrent else features, spec)
        # Measured once: parameters without a gradient, so that they are shared and saved
        self.moments: nn.Parameter | None = None  # of observations [2, D]: means, deviations
        self.return_std: nn.Parameter | None = None  # [], of discounted sums of rewards
        if config.normalize and not spec.pixels:
            moments = torch.tensor([[0.0], [1.0]]).repeat(1, *spec.observation_shape)
            self.moments = nn.Parameter(moments, requires_grad=False)
            self.return_std = nn.Parameter(torch.ones(()), requires_grad=False)

    @property
    def background(self) -> nn.Parameter | None:
        """The mean image that is subtracted from pixels [H, W, C], if the network has one."""
        background: nn.Parameter | None = self.torsos[0].background
        return background

    def initial_state(self, agents: int, device: torch.device) -> State | None:
        """What the LSTM knows at the start of an episode: zeros."""
        if not self.cores:
            return None
        zeros = torch.zeros(agents, len(self.cores) * self.cells, device=device)
        return zeros, zeros.clone()

    def prepare(self) -> None:
        """Call before the first forward pass with new parameters."""
        for torso in self.torsos:
            torso.prepare()

    def normalised(self, observations: Tensor) -> Tensor:
        """float32 [..., D] by the moments that were measured; images as they are."""
        if self.moments is None:
            return observations
        mean, std = self.moments
        return ((observations - mean) / std).clamp(-LARGEST, LARGEST)

    def remember(self, rollout_length: int, num_envs: int) -> None:
        """Make room for rollouts; call it once. Fresh memory each time would cost page faults."""
        for torso in self.torsos:
            torso.remember(rollout_length, num_envs)

    def read(self, observations: Tensor, agents: Tensor) -> None:
        """See a rollout's observations [T, N, ...] of `agents` int64 [G] with newer parameters.

        In place of `forward` for each step: after `prepare`, before `evaluate`. `remember` has made
        room for G agents.
        """
        observations = self.normalised(observations)
        for torso in self.torsos:
            torso.read(observations, agents)

    @torch.no_grad()
    def forward(
        self, observations: Tensor, state: State | None, t: int | None = None
    ) -> tuple[Outputs, State | None]:
        """To act: observations [N, ...] -> the heads' outputs [N, ...], next state; no graph.

        With `t`, this is step t of a rollout that `evaluate` will be asked for.
        """
        observations = self.normalised(observations)
        features = [torso(observations, t) for torso in self.torsos]  # [N, width]
        if self.cores:
            features, state = self.pass_cores(features, state)
        return self.heads(features), state

    def pass_cores(
        self, features: Sequence[Tensor], state: State | None
    ) -> tuple[list[Tensor], State]:
        """Each torso's features [N, width] through its LSTM, to [N, cells]; and the next state."""
        count = len(self.cores)
        before: list[Any] = [None] * count
        if state is not None:
            before = list(zip(*(part.chunk(count, -1) for part in state), strict=True))
        after = [core(*each) for core, *each in zip(self.cores, features, before, strict=True)]
        hidden, cell = (torch.cat(part, -1) for part in zip(*after, strict=True))
        return [each for each, _ in after], (hidden, cell)

    @torch.no_grad()
    def review(self, other: Network) -> Outputs:
        """The heads' outputs [T, N, ...] for the rollout that `other` remembers; no graph, no LSTM.

        To be called after `prepare`.
        """
        torsos = zip(self.torsos, other.torsos, strict=True)
        return self.heads([torso.review(another) for torso, another in torsos])

    def evaluate(self, state: State | None, keep: Tensor) -> Outputs:
        """To learn: the heads' outputs [T, N, ...] of the rollout, with their graph.

        state: the LSTM's before the rollout. keep [T, N]: 0 where an episode ended with step t, so
        that the LSTM starts afresh at t + 1.
        """
        features = [torso.replay() for torso in self.torsos]  # [T, N, width]
        if self.cores:
            outputs = []
            for *seen, going_on in zip(*features, keep.unsqueeze(-1), strict=True):
                hidden, state = self.pass_cores(seen, state)
                outputs.append(hidden)
                state = (state[0] * going_on, state[1] * going_on)
            features = [torch.stack(part) for part in zip(*outputs, strict=True)]
        return self.heads(features)


def check_network(config: Config, pixels: bool) -> None:
    """Raise InputError if the network cannot read the environment's observations."""
    if config.network == "auto" or (config.network in DENSE) != pixels:
        return
    if not pixels:
        either = " or ".join(DENSE)
        raise InputError(f"--network {config.network} reads images; {config.env} needs {either}")
    raise InputError(
        f"--network {config.network} reads vectors; {config.env} needs paper, seed or nature"
    )


def network_name(config: Config, pixels: bool) -> str:
    """The torso that `config.network` names; `auto` goes by the kind of observation."""
    auto = "paper" if pixels else "mlp"
    return auto if config.network == "auto" else config.network


def make_torso(config: Config, spec: Spec, dtype: torch.dtype) -> ConvolutionalTorso | VectorTorso:
    """A torso for such observations."""
    name = network_name(config, spec.pixels)
    if not spec.pixels:
        return VectorTorso(spec.observation_shape[0], DENSE[name])
    scale = 1 / 255 if config.scale_pixels else 1.0
    shape = spec.observation_shape
    return ConvolutionalTorso(name, shape, scale, dtype, config.subtract_background)


def flatten(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Move all parameters into one vector and all gradients into a second one.

    Afterwards the network's tensors are views: sync, apply and checkpoint are operations on two
    vectors [P]. `backward()` accumulates into the second; zero it in between.
    """
    tensors = list(network.parameters())
    parameters = torch.cat([tensor.detach().flatten() for tensor in tensors])  # [P]
    gradients = torch.zeros_like(parameters)  # [P]
    offset = 0
    for tensor in tensors:
        part = slice(offset, offset + tensor.numel())
        tensor.data = parameters[part].view_as(tensor)
        tensor.grad = gradients[part].view_as(tensor)
        offset = part.stop
    return parameters, gradients


def layout(network: nn.Module) -> list[Piece]:
    """The tensors, in the order of the flat vector. A weight has the fan-in of its outputs."""
    return [
        Piece(tensor.numel(), tensor[0].numel() if tensor.dim() in (2, 4) else 1)
        for tensor in network.parameters()
    ]
