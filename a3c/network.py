"""ActorCritic: torso -> (LSTM) -> policy head and value head.

Pixels stay uint8 until the first convolution, and 1/255 is folded into that layer's weights. The
torso may compute in bfloat16; the parameters, heads, LSTM and everything after them are float32.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from a3c.config import Config, InputError
from a3c.envs import Spec


class Convolution(NamedTuple):
    """One layer of a torso."""

    channels: int
    kernel: int
    stride: int
    padding: int = 0

    def size(self, pixels: int) -> int:
        """Height or width of its output."""
        return (pixels + 2 * self.padding - self.kernel) // self.stride + 1


# name -> convolutions, width of the fully connected layer
CONVOLUTIONAL: dict[str, tuple[list[Convolution], int]] = {
    # Mnih et al. 2016, section 5.1 (the network of Mnih et al. 2013)
    "paper": ([Convolution(16, 8, 4), Convolution(32, 4, 2)], 256),
    # This project's ancestor; padding 1 is TensorFlow's SAME for 20x20 -> 10x10
    "seed": ([Convolution(32, 8, 4), Convolution(64, 4, 2, 1)], 256),
    # Mnih et al. 2015 (Nature), extended data table 1
    "nature": ([Convolution(32, 8, 4), Convolution(64, 4, 2), Convolution(64, 3, 1)], 512),
}
MLP_WIDTH = 64
LSTM_CELLS = 256

State = tuple[Tensor, Tensor]  # the LSTM's hidden and cell state, [N, LSTM_CELLS] each


class Convolutions(torch.autograd.Function):
    """The backward pass of convolutions with ReLUs whose forward pass has been done in parts.

    Acting computes the activations one agent step at a time; learning takes the gradient of all
    T N of them at once, which costs less than T times that of N.
    """

    @staticmethod
    def forward(
        ctx: Any, layers: list[Convolution], activations: list[Tensor], *weights: Tensor
    ) -> Tensor:
        """activations [T, N, h, w, c]: the input and each layer's output; returns the last."""
        ctx.layers, ctx.activations = layers, activations
        ctx.save_for_backward(*weights)  # weight and bias of each layer in turn
        return activations[-1].view_as(activations[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        found: list[Tensor] = []
        gradient = channels_first(gradients[0])
        for i in reversed(range(len(ctx.layers))):
            layer, weight = ctx.layers[i], ctx.saved_tensors[2 * i]
            x, y = (channels_first(activation) for activation in ctx.activations[i : i + 2])
            gradient, *of_weights = torch.ops.aten.convolution_backward(
                torch.ops.aten.threshold_backward(gradient, y, 0),
                x,
                weight,
                [layer.channels],
                [layer.stride] * 2,
                [layer.padding] * 2,
                [1, 1],
                False,
                [0, 0],
                1,
                [i > 0, True, True],  # the pixels need no gradient
            )
            found = of_weights + found
        return None, None, *found


def channels_first(x: Tensor) -> Tensor:
    """[T, N, h, w, c] -> [T N, c, h, w], the same memory."""
    return x.flatten(0, 1).permute(0, 3, 1, 2)


class ConvolutionalTorso(nn.Module):
    """uint8 images [N, H, W, C] -> float32 features [N, width].

    `background` [H, W, C] is subtracted from the pixels. It is a parameter so that it is shared and
    saved as the others are; it gets no gradient. Zeros until ActorLearner.measure_background.
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
            raise InputError(f"--network {name} cannot read images as small as {shape}")
        self.convolutions = nn.ModuleList(modules)
        self.linear = nn.Linear(height * width * channels, self.width)
        initialise(self, math.sqrt(2))
        self.background: nn.Parameter | None = None
        if subtract_background:
            self.background = nn.Parameter(torch.zeros(shape), requires_grad=False)

    def prepare(self) -> None:
        """Cast the weights for the forward passes to come, once for all of a rollout.

        The casts are part of the graph: gradients reach the float32 parameters through them.
        """
        self.cast: list[tuple[Tensor, Tensor]] = []
        scale = self.scale
        for module in self.convolutions:
            assert isinstance(module, nn.Conv2d)
            assert module.bias is not None
            weight = (module.weight * scale).to(self.dtype, memory_format=torch.channels_last)
            self.cast.append((weight, module.bias.to(self.dtype)))
            scale = 1.0  # only the first layer sees pixels
        self.cast.append((self.linear.weight.to(self.dtype), self.linear.bias.to(self.dtype)))

    def remember(self, rollout_length: int, num_envs: int) -> None:
        """Make room for the activations of a rollout, which `encode` fills and `replay` reads."""
        height, width, channels = self.shape
        empty = self.linear.weight.new_empty
        self.memory = [  # [T, N, h, w, c]: the input, and the output of each layer
            empty(rollout_length, num_envs, height, width, channels, dtype=self.dtype)
        ]
        for layer in self.layers:
            height, width, channels = layer.size(height), layer.size(width), layer.channels
            self.memory.append(
                empty(rollout_length, num_envs, height, width, channels, dtype=self.dtype)
            )

    @torch.no_grad()
    def encode(self, observations: Tensor, t: int | None = None) -> Tensor:
        """The convolutions: [N, H, W, C] uint8 -> [N, height * width * channels].

        With `t`, the activations are kept as those of the rollout's step t.
        """
        x = self.subtracted(observations, None if t is None else self.memory[0][t])
        for i, (layer, (weight, bias)) in enumerate(zip(self.layers, self.cast, strict=False), 1):
            # [N, H, W, C] in memory is channels-last [N, C, H, W]: no copy
            y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, layer.stride, layer.padding)
            kept = None if t is None else self.memory[i][t]
            x = torch.clamp_min(y.permute(0, 2, 3, 1), 0, out=kept)  # the ReLU
        return x.flatten(1)

    def subtracted(self, observations: Tensor, out: Tensor | None) -> Tensor:
        """The pixels without the background, in the torso's arithmetic."""
        if self.background is not None:  # whole numbers: int16 is exact, and faster than bfloat16
            observations = observations - self.background.to(torch.int16)
        return observations.to(self.dtype) if out is None else out.copy_(observations)

    def replay(self) -> Tensor:
        """All that `encode` has kept of a rollout, [T, N, F], with a graph back to the weights."""
        weights = [tensor for layer in self.cast[:-1] for tensor in layer]
        last: Tensor = Convolutions.apply(self.layers, self.memory, *weights)
        return last.flatten(2)

    def forward(self, encoded: Tensor) -> Tensor:
        """What `encode` returned, of any number of agents and steps -> float32 features."""
        return F.relu_(F.linear(encoded, *self.cast[-1])).float()


class VectorTorso(nn.Module):
    """float32 vectors [N, D] -> features [N, MLP_WIDTH]."""

    def __init__(self, size: int):
        super().__init__()
        self.first = nn.Linear(size, MLP_WIDTH)
        self.second = nn.Linear(MLP_WIDTH, MLP_WIDTH)
        self.background = None  # vectors are read as they are
        self.width = MLP_WIDTH
        initialise(self, math.sqrt(2))

    def prepare(self) -> None:
        """Nothing to cast."""

    def remember(self, rollout_length: int, num_envs: int) -> None:
        """Make room for the observations of a rollout."""
        weight = self.first.weight
        self.memory = weight.new_empty(rollout_length, num_envs, weight.shape[1])  # [T, N, D]

    def encode(self, observations: Tensor, t: int | None = None) -> Tensor:
        """Vectors are read as they are; with `t`, kept as those of the rollout's step t."""
        return observations if t is None else self.memory[t].copy_(observations)

    def replay(self) -> Tensor:
        """All that `encode` has kept of a rollout, [T, N, D]."""
        return self.memory

    def forward(self, observations: Tensor) -> Tensor:
        return torch.tanh(self.second(torch.tanh(self.first(observations))))


class Categorical(nn.Module):
    """Discrete actions: logits [N, A] -> actions int64 [N]."""

    def __init__(self, width: int, actions: int):
        super().__init__()
        self.linear = nn.Linear(width, actions)
        initialise(self, 0.01)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features)

    def sample(self, logits: Tensor, generator: Generator | None) -> Tensor:
        # Gumbel's trick: one kernel fewer than a multinomial, and no synchronisation on CUDA
        noise = torch.empty_like(logits).exponential_(generator=generator)
        return (logits - noise.log()).argmax(-1)

    def mode(self, logits: Tensor) -> Tensor:
        return logits.argmax(-1)

    def log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        return logits.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def entropy(self, logits: Tensor) -> Tensor:
        log_probabilities = logits.log_softmax(-1)
        return -(log_probabilities.exp() * log_probabilities).sum(-1)


class Gaussian(nn.Module):
    """Continuous actions float32 [N, A]: mean and log standard deviation, concatenated [N, 2A].

    Actions are unbounded here; the environment's bounds clip them on their way out only.
    """

    def __init__(self, width: int, actions: int, state_dependent: bool):
        super().__init__()
        self.mean = nn.Linear(width, actions)
        self.log_std = nn.Linear(width, actions) if state_dependent else None
        initialise(self, 0.01)
        self.log_std_bias = None if state_dependent else nn.Parameter(torch.zeros(actions))

    def forward(self, features: Tensor) -> Tensor:
        mean = self.mean(features)
        if self.log_std is not None:
            return torch.cat([mean, self.log_std(features)], -1)
        assert self.log_std_bias is not None
        return torch.cat([mean, self.log_std_bias.expand_as(mean)], -1)

    def sample(self, parameters: Tensor, generator: Generator | None) -> Tensor:
        mean, log_std = parameters.chunk(2, -1)
        noise = torch.empty_like(mean).normal_(generator=generator)
        return mean + log_std.exp() * noise

    def mode(self, parameters: Tensor) -> Tensor:
        return parameters.chunk(2, -1)[0]

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        mean, log_std = parameters.chunk(2, -1)
        z = (actions - mean) * (-log_std).exp()
        return (-0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        return (parameters.chunk(2, -1)[1] + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


def initialise(module: nn.Module, gain: float) -> None:
    """Orthogonal weights (Saxe et al., 2014) and zero biases in every layer below `module`."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(layer.weight, gain)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


class ActorCritic(nn.Module):
    """The network that a thread acts and learns with.

    Its initial values depend on `config.seed` alone, and torch's global generator is left alone.
    """

    def __init__(self, config: Config, spec: Spec, dtype: torch.dtype = torch.float32):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.torso = make_torso(config, spec, dtype)
            # Vectors: actor and critic learn from torsos of their own, since an unclipped value's
            # large errors would drown the policy's gradient in a shared one. Images share theirs.
            own = not spec.pixels and not config.recurrent
            self.critic_torso = make_torso(config, spec, dtype) if own else None
            width = LSTM_CELLS if config.recurrent else self.torso.width
            self.core = nn.LSTMCell(self.torso.width, LSTM_CELLS) if config.recurrent else None
            self.policy: Categorical | Gaussian = (
                Categorical(width, spec.num_actions)
                if spec.discrete
                else Gaussian(width, spec.num_actions, config.std == "dependent")
            )
            self.value = nn.Linear(width, 1)
            initialise(self.value, 1.0)

    def initial_state(self, agents: int, device: torch.device) -> State | None:
        """What the LSTM knows at the start of an episode: zeros."""
        if self.core is None:
            return None
        zeros = torch.zeros(agents, LSTM_CELLS, device=device)
        return zeros, zeros.clone()

    def prepare(self) -> None:
        """Call before the first forward pass with new parameters."""
        self.torso.prepare()

    def forward(
        self, observations: Tensor, state: State | None
    ) -> tuple[Tensor, Tensor, State | None]:
        """observations [N, ...] -> policy parameters [N, A or 2A], values [N], next state."""
        return self.act(self.torso.encode(observations), state)

    def act(self, encoded: Tensor, state: State | None) -> tuple[Tensor, Tensor, State | None]:
        """One step of N agents from `torso.encode`d observations; returns as `forward` does."""
        features = self.torso(encoded)
        if self.core is not None:
            state = self.core(features, state)
            assert state is not None
            features = state[0]
        return *self.heads(encoded, features), state

    def evaluate(self, encoded: Tensor, state: State | None, keep: Tensor) -> tuple[Tensor, Tensor]:
        """The same for a rollout at once: [T, N, F] -> policy [T, N, A or 2A], values [T, N].

        state: the LSTM's before the rollout. keep [T, N]: 0 where an episode ended with step t, so
        that the LSTM starts afresh at t + 1.
        """
        features = self.torso(encoded)  # [T, N, width]
        if self.core is not None:
            outputs = []
            for feature, going_on in zip(features, keep.unsqueeze(-1), strict=True):
                state = self.core(feature, state)
                assert state is not None
                outputs.append(state[0])
                state = (state[0] * going_on, state[1] * going_on)
            features = torch.stack(outputs)
        return self.heads(encoded, features)

    def heads(self, encoded: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Policy parameters [..., A or 2A] and values [...]."""
        seen = features if self.critic_torso is None else self.critic_torso(encoded)
        return self.policy(features), self.value(seen).squeeze(-1)


def make_torso(config: Config, spec: Spec, dtype: torch.dtype) -> ConvolutionalTorso | VectorTorso:
    """The torso that `config.network` names; `auto` goes by the kind of observation."""
    if not spec.pixels:
        return VectorTorso(spec.observation_shape[0])
    name = "paper" if config.network == "auto" else config.network
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


def sizes(network: nn.Module) -> list[int]:
    """Number of elements of each tensor, in the order of the flat vector."""
    return [tensor.numel() for tensor in network.parameters()]
