"""Network: torso -> (LSTM) -> heads; all its parameters are views into one vector.

The torso may compute in bfloat16; the parameters, heads, LSTM and everything after them are
float32.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from a3c.config import Config
from a3c.envs.protocol import Spec
from a3c.errors import InputError
from a3c.heads import MakesHeads, Outputs
from a3c.optimiser import Piece
from a3c.torsos import CONVOLUTIONAL, DENSE, LSTM_CELLS, ConvolutionalTorso, VectorTorso, can_read

MOST_DEVIATIONS = 10.0  # standard deviations that a normalised observation may be from the mean

# PyTorch's generator is the whole process's, whose threads may all train
SEEDING = threading.Lock()

# Hidden and cell state, [N, L cells] each: those of the L LSTMs side by side (two at most)
State = tuple[Tensor, Tensor]


class Network(nn.Module):
    """Torso -> (LSTM) -> a method's heads: what a thread acts and learns with.

    `make_room`, once; then for each rollout `prepare` (new parameters) and

    - `forward` for each of its steps t, to act, and to bootstrap: no autograd graph
    - `recall`, to learn from what `forward` kept, with a graph
    - `prepare`, `read` before that, to learn with newer parameters, for any part of the agents
    - `review`, of a target network: its values of what another one keeps

    What one of them keeps for another is in the same memory each time.

    Its initial values depend on `config.seed` alone, and torch's global generator is left alone.
    Raises InputError if the network that is asked for does not read such observations.
    """

    def __init__(
        self, config: Config, spec: Spec, method: MakesHeads, dtype: torch.dtype = torch.float32
    ):
        super().__init__()
        check_network(config, spec.pixels)
        with SEEDING, torch.random.fork_rng(devices=[]):  # of the CPU: no GPU is started for it
            torch.default_generator.manual_seed(config.seed)
            # Images share a torso: its cost is most of the work. So do most networks with an LSTM.
            dense = None if spec.pixels else DENSE[network_name(config, spec)]
            shared = dense is None or (config.recurrent and dense.shared_if_recurrent)
            torsos = [
                make_torso(config, spec, dtype) for _ in range(1 if shared else method.torsos)
            ]
            self.torsos: Any = nn.ModuleList(torsos)
            features = torsos[0].width
            self.cells = LSTM_CELLS if dense is None else dense.cells  # of each LSTM
            # The LSTMs; exported models have parameters of this name
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
        return ((observations - mean) / std).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)

    def make_room(self, rollout_length: int, agents: int) -> None:
        """Make room for rollouts of so many agents, those of one update; call it once. Fresh memory
        each time would cost page faults."""
        for torso in self.torsos:
            torso.make_room(rollout_length, agents)

    def read(self, observations: Tensor, agents: Tensor) -> None:
        """See a rollout's observations [T, N, ...] of `agents` int64 [M] with newer parameters.

        In place of `forward` for each step: after `prepare`, before `recall`. `make_room` has made
        room for M agents.
        """
        observations = self.normalised(observations)
        for torso in self.torsos:
            torso.read(observations, agents)

    @torch.no_grad()
    def forward(
        self, observations: Tensor, state: State | None, t: int | None = None
    ) -> tuple[Outputs, State | None]:
        """To act: observations [N, ...] -> the heads' outputs [N, ...], next state. No autograd.

        With `t`, this is step t of a rollout that `recall` will be asked for.
        """
        observations = self.normalised(observations)
        features = [torso(observations, t) for torso in self.torsos]  # [N, width]
        if self.cores:
            assert state is not None  # initial_state's at first
            features, state = self.pass_lstms(features, state)
        return self.heads(features), state

    def pass_lstms(self, features: Sequence[Tensor], state: State) -> tuple[list[Tensor], State]:
        """Each torso's features [N, width] through its LSTM, to [N, cells]; and the next state."""
        count = len(self.cores)
        before = zip(*(part.chunk(count, -1) for part in state), strict=True)
        after = [core(*each) for core, *each in zip(self.cores, features, before, strict=True)]
        hidden, cell = (torch.cat(part, -1) for part in zip(*after, strict=True))
        return [each for each, _ in after], (hidden, cell)

    @torch.no_grad()
    def review(self, other: Network) -> Outputs:
        """The heads' outputs [T, N, ...] for the rollout that `other` remembers.

        To be called after `prepare`. Without LSTM and autograd graph.
        """
        torsos = zip(self.torsos, other.torsos, strict=True)
        return self.heads([torso.review(another) for torso, another in torsos])

    def recall(self, state: State | None, not_ended: Tensor) -> tuple[Outputs, list[State | None]]:
        """To learn: the heads' outputs [T, N, ...] of the rollout, with their autograd graph; and
        the LSTM's state after each of its T steps, also of episodes that ended with it.

        state: the LSTM's before the rollout. not_ended [T, N]: 0 where an episode ended with
        step t, so that the LSTM starts afresh at t + 1.
        """
        features = [torso.recall() for torso in self.torsos]  # [T, N, width]
        if not self.cores:
            return self.heads(features), [None] * len(not_ended)
        assert state is not None
        outputs: list[list[Tensor]] = []
        states: list[State | None] = []
        masks = not_ended.unsqueeze(-1)  # [T, N, 1]
        for *seen, mask in zip(*features, masks, strict=True):
            hidden, state = self.pass_lstms(seen, state)
            outputs.append(hidden)
            states.append(state)
            state = (state[0] * mask, state[1] * mask)  # [N, L cells] each
        return self.heads([torch.stack(part) for part in zip(*outputs, strict=True)]), states


def check_network(config: Config, pixels: bool) -> None:
    """Raise InputError if the network cannot read the environment's observations."""
    if config.network == "auto" or (config.network in DENSE) != pixels:
        return
    reads = "vectors" if pixels else "images"
    either = " or ".join(CONVOLUTIONAL if pixels else DENSE)
    raise InputError(f"--network {config.network} reads {reads}; {config.env} needs {either}")


def network_name(config: Config, spec: Spec) -> str:
    """The torso that `config.network` names; `auto` goes by the observations."""
    if config.network != "auto":
        return config.network
    if not spec.pixels:
        return "mlp"
    return "slim" if can_read("slim", spec.observation_shape) else "paper"


def make_torso(config: Config, spec: Spec, dtype: torch.dtype) -> ConvolutionalTorso | VectorTorso:
    """A torso for such observations."""
    name = network_name(config, spec)
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
    """Size and fan-in of each tensor, in the order of the flat vector. Fan-in: a weight's inputs of
    each output; 1 of biases."""
    return [
        Piece(tensor.numel(), tensor[0].numel() if tensor.dim() in (2, 4) else 1)
        for tensor in network.parameters()
    ]
