"""What stands on a torso: distributions of actions, values; and initial weights."""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from a3c.envs.protocol import Spec

LEAST_VARIANCE = 1e-6  # of the softplus, whose logarithm has to be finite

# [..., size] first, by which actions are chosen; then, for A3C, the value [...]
Outputs = tuple[Tensor, ...]


class MakesHeads(Protocol):
    """What a network asks of a method."""

    torsos: int  # how many its heads learn from, where each may have one of its own

    def heads(self, width: int, spec: Spec) -> nn.Module:
        """Makes a module from the torsos' features, a list of [..., width], to Outputs.

        The list has one entry where the torso is shared.
        """


class ActorCriticHeads(nn.Module):
    """Policy [..., A or 2A], the distribution's parameters, and value [...].

    For vectors actor and critic learn from torsos of their own, except `mlp` with an LSTM: an
    unclipped value's large errors would drown the policy's gradient in a shared one.
    """

    def __init__(self, width: int, spec: Spec, std: str):
        super().__init__()
        self.policy: Categorical | Gaussian = (
            Categorical(width, spec.num_actions)
            if spec.discrete
            else Gaussian(width, spec.num_actions, std)
        )
        self.value = nn.Linear(width, 1)
        initialise(self.value, 1.0)

    def forward(self, features: list[Tensor]) -> Outputs:
        """features: of the actor's and the critic's torso, or of the one that they share."""
        return self.policy(features[0]), self.value(features[-1]).squeeze(-1)


class ActionValueHeads(nn.Module):
    """Values [..., A] of the discrete actions."""

    def __init__(self, width: int, spec: Spec):
        super().__init__()
        self.policy = ActionValues(width, spec.num_actions)

    def forward(self, features: list[Tensor]) -> Outputs:
        return (self.policy(features[0]),)


class Discrete(nn.Module):
    """A number [..., A] for each discrete action, the highest for the best: values, or logits."""

    def __init__(self, width: int, num_actions: int):
        super().__init__()
        self.linear = nn.Linear(width, num_actions)
        initialise(self, 0.01)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features)

    def mode(self, numbers: Tensor) -> Tensor:
        return numbers.argmax(-1)


class ActionValues(Discrete):
    """The policy that follows from action values [N, A]: the best action, int64 [N].

    Who is to explore replaces some of them by random ones.
    """

    def sample(self, values: Tensor, generator: Generator) -> Tensor:
        return self.mode(values)


class Categorical(Discrete):
    """Discrete actions: logits [..., A] -> actions, their log-probabilities, entropies [...]."""

    def sample(self, logits: Tensor, generator: Generator) -> Tensor:
        # Gumbel's trick: one kernel fewer than a multinomial, and no synchronisation on CUDA
        noise = torch.empty_like(logits).exponential_(generator=generator)  # [N, A]
        return (logits - noise.log()).argmax(-1)

    def log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        return of_actions(logits.log_softmax(-1), actions)

    def entropy(self, logits: Tensor) -> Tensor:
        log_probabilities = logits.log_softmax(-1)  # [..., A]
        return -(log_probabilities.exp() * log_probabilities).sum(-1)


class Gaussian(nn.Module):
    """Continuous actions float32 [..., A]: `policies` are mean and log standard deviation,
    [..., 2A]; log-probabilities and entropies of whole actions, [...].

    Actions are unbounded here; the environment's bounds clip them on their way out only. std: as
    the option; `softplus` is one variance for all actions (Mnih et al. 2016, supplement 9).
    """

    def __init__(self, width: int, num_actions: int, std: str):
        super().__init__()
        self.mean = nn.Linear(width, num_actions)
        self.log_std = nn.Linear(width, num_actions) if std == "dependent" else None
        self.variance = nn.Linear(width, 1) if std == "softplus" else None
        initialise(self, 0.01)
        own = nn.Parameter(torch.zeros(num_actions)) if std == "independent" else None
        self.log_std_bias = own

    def forward(self, features: Tensor) -> Tensor:
        mean = self.mean(features)  # [..., A]
        if self.log_std is not None:
            return torch.cat([mean, self.log_std(features)], -1)
        if self.variance is not None:
            variance = F.softplus(self.variance(features)) + LEAST_VARIANCE  # [..., 1]
            return torch.cat([mean, (0.5 * variance.log()).expand_as(mean)], -1)
        assert self.log_std_bias is not None
        return torch.cat([mean, self.log_std_bias.expand_as(mean)], -1)

    def sample(self, policies: Tensor, generator: Generator) -> Tensor:
        mean, log_std = policies.chunk(2, -1)
        noise = torch.empty_like(mean).normal_(generator=generator)  # [N, A]
        return mean + log_std.exp() * noise

    def mode(self, policies: Tensor) -> Tensor:
        return policies.chunk(2, -1)[0]

    def log_prob(self, policies: Tensor, actions: Tensor) -> Tensor:
        mean, log_std = policies.chunk(2, -1)
        z = (actions - mean) * (-log_std).exp()  # [..., A]
        return (-0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self, policies: Tensor) -> Tensor:
        return (policies.chunk(2, -1)[1] + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


def of_actions(values: Tensor, actions: Tensor) -> Tensor:
    """[...] of the values [..., A] of all actions: those of the actions [...]."""
    return values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def initialise(module: nn.Module, gain: float) -> None:
    """Orthogonal weights (Saxe et al., 2014) and zero biases in `module` and all its layers."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(layer.weight, gain)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
