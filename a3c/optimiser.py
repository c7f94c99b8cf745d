"""Clipping and optimisers, on whole vectors [P]; figures stay on the device."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from a3c.config import FAN_IN, Config


class Piece(NamedTuple):
    """One tensor in a vector [P]."""

    size: int  # elements
    fan_in: int = 1  # inputs that each output adds up; 1 of a bias


class Optimiser(Protocol):
    """What the store asks of an optimiser."""

    def prepare(self, lr: float, updates: int, thread: int) -> None:
        """For the next step, a thread's, after so many updates of all: it finds its numbers on the
        device."""

    def step(self, parameters: Tensor, gradients: Tensor, norm: Tensor, thread: int) -> None:
        """Update `parameters` [P] with a thread's clipped gradients [P], which are used up.

        Where their norm was not finite, nothing is changed: no update is better than a ruined
        network. Whoever reads the norm must see to the rest.
        """

    def save(self) -> dict[str, Tensor]:
        """All its state by name, not copied: to go on from it, copy another one's there."""


class RMSProp:
    """g <- alpha g + (1 - alpha) dtheta^2;  theta <- theta - lr dtheta / sqrt(g / w + eps)

    Mnih et al. 2016, section 4, "Optimization": epsilon is inside the root. dtheta is the clipped
    gradient, alpha `rmsprop_decay`; `square_avg` is g. It is shared by all threads, [P], or each
    thread has its own, [threads, P].

    w is 1, as in the paper, where g starts at a number. Where it is `debiased` g starts at 0, and
    w = 1 - alpha^updates is the weight of the gradients in it (Kingma and Ba, 2015, section 3): the
    first steps are neither ten times as long as later ones, as from 0 without w, nor for hundreds
    of updates shorter, as from a number above the squared gradients.
    """

    def __init__(self, parameters: Tensor, layout: list[Piece], config: Config):
        self.config = config
        self.slower = slower(layout) if config.lr_by_fan_in else []
        self.debiased = config.rmsprop_initial == "debiased"
        self.shared = config.optimizer == "shared-rmsprop"
        initial = 0.0 if config.rmsprop_initial == "debiased" else config.rmsprop_initial
        shape = parameters.shape if self.shared else (config.num_threads, *parameters.shape)
        self.square_avg = torch.full(shape, initial).to(parameters)  # [P] or [threads, P]
        self.own_updates = np.zeros(config.num_threads, np.int64)  # of each thread's average
        self.eps = parameters.new_tensor(config.rmsprop_eps)
        self.scratch = torch.empty_like(parameters)  # [P], so that a step allocates nothing
        self.lr = parameters.new_zeros((), dtype=torch.float64)
        self.inverse_weight = parameters.new_ones(())  # 1 / w

    def prepare(self, lr: float, updates: int, thread: int) -> None:
        self.lr.fill_(lr)
        averaged = updates  # that are in the average which the step updates
        if not self.shared:
            averaged = int(self.own_updates[thread])
            self.own_updates[thread] += 1
        if self.debiased:
            self.inverse_weight.fill_(1 / (1 - self.config.rmsprop_decay ** (averaged + 1)))

    def step(self, parameters: Tensor, gradients: Tensor, norm: Tensor, thread: int) -> None:
        decay = self.config.rmsprop_decay
        average = self.square_avg if self.shared else self.square_avg[thread]  # [P]
        # Gradients that were not finite `clip` has made zero: then the average stays as it is
        average.mul_(torch.where(norm.isfinite(), decay, 1.0))
        average.addcmul_(gradients, gradients, value=1 - decay)
        torch.addcmul(self.eps, average, self.inverse_weight, out=self.scratch).sqrt_()
        gradients.mul_(self.lr)
        for part, factor in self.slower:
            gradients[part].mul_(factor)
        parameters.addcdiv_(gradients, self.scratch, value=-1.0)

    def save(self) -> dict[str, Tensor]:
        own = {} if self.shared else {"own_updates": torch.from_numpy(self.own_updates)}
        return {"square_avg": self.square_avg, **own}


class Momentum:
    """m <- alpha m + (1 - alpha) dtheta;  theta <- theta - lr m

    Mnih et al. 2016, supplement 7: each thread has an m of its own, [threads, P]; in sync mode, in
    which they have one gradient, there is one. alpha is `momentum`.
    """

    def __init__(self, parameters: Tensor, config: Config):
        self.alpha = config.momentum
        rows = 1 if config.mode == "sync" else config.num_threads
        self.momentum = parameters.new_zeros(rows, *parameters.shape)  # [threads or 1, P]
        self.scratch = torch.empty_like(parameters)  # [P]
        self.lr = parameters.new_zeros((), dtype=torch.float64)

    def prepare(self, lr: float, updates: int, thread: int) -> None:
        self.lr.fill_(lr)

    def step(self, parameters: Tensor, gradients: Tensor, norm: Tensor, thread: int) -> None:
        finite = norm.isfinite()
        momentum = self.momentum[thread]  # [P]; in sync mode ALL, -1: the only row
        momentum.mul_(torch.where(finite, self.alpha, 1.0))
        momentum.add_(gradients, alpha=1 - self.alpha)
        torch.mul(momentum, torch.where(finite, self.lr, 0.0), out=self.scratch)
        parameters.sub_(self.scratch)

    def save(self) -> dict[str, Tensor]:
        return {"momentum": self.momentum}


def slower(layout: list[Piece]) -> list[tuple[slice, float]]:
    """The parts of a vector that have a lower learning rate, and what theirs is multiplied by.

    RMSProp's steps are about as long in every weight, and an output moves by the sum of its
    weights' steps: with the root of their number, where these are independent of one another. So
    with the root of FAN_IN / fan_in it moves as far as one of FAN_IN inputs, for which the rate is
    made.
    """
    ends = itertools.accumulate(piece.size for piece in layout)
    return [
        (slice(end - piece.size, end), math.sqrt(FAN_IN / piece.fan_in))
        for piece, end in zip(layout, ends, strict=True)
        if piece.fan_in > FAN_IN
    ]


def make_optimiser(parameters: Tensor, layout: list[Piece], config: Config) -> Optimiser:
    """The one that a Config asks for, for a vector [P] of these parts."""
    if config.optimizer == "momentum":
        return Momentum(parameters, config)
    return RMSProp(parameters, layout, config)


def clip(gradients: Tensor, layout: list[Piece], config: Config) -> Tensor:
    """Clip the gradients [P] in place; all zeros if they are not finite.

    Returns their norm before, a scalar on the device.
    """
    norm = gradients.norm()
    if config.grad_clip == "average-norm":
        clip_each(gradients, [piece.size for piece in layout], config.max_grad_norm)
        scale = torch.ones_like(norm)
    else:  # in float64, so that the scale is rounded once
        scale = (config.max_grad_norm / norm.double()).clamp(max=1.0)
    gradients.mul_(torch.where(norm.isfinite(), scale, 0.0))
    torch.nan_to_num_(gradients, 0.0, 0.0, 0.0)  # what NaN and infinity became
    return norm


def clip_each(gradients: Tensor, sizes: list[int], bound: float) -> None:
    """Bound each tensor's L2 norm divided by its number of elements, in place."""
    for part, size in zip(gradients.split(sizes), sizes, strict=True):
        average_norm = part.norm() / size
        part.mul_(torch.clamp(bound / average_norm, max=1.0))
