"""Clipping, learning rate and RMSProp, on whole vectors [P]; figures stay on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from a3c.config import Config


class RMSProp:
    """Shared RMSProp.

    g <- alpha g + (1 - alpha) dtheta^2;  theta <- theta - lr dtheta / sqrt(g / w + eps)

    Mnih et al. 2016, section 4, "Optimization": epsilon is inside the root. dtheta is the clipped
    gradient, alpha `rmsprop_decay`; `square_avg` is g [P], all the state there is. `sizes` are the
    elements of each tensor in the vector.

    w is 1, as in the paper, where g starts at a number. Where it is `debiased` g starts at 0, and
    w = 1 - alpha^updates is the weight of the gradients in it (Kingma and Ba, 2015, section 3): the
    first steps are neither ten times as long as later ones, as from 0 without w, nor for hundreds
    of updates shorter, as from a number above the squared gradients.
    """

    def __init__(self, parameters: Tensor, sizes: list[int], config: Config):
        self.config, self.sizes = config, sizes
        self.debiased = config.rmsprop_initial == "debiased"
        initial = 0.0 if config.rmsprop_initial == "debiased" else config.rmsprop_initial
        self.square_avg = torch.full_like(parameters, initial)  # [P]
        self.eps = parameters.new_tensor(config.rmsprop_eps)
        self.scratch = torch.empty_like(parameters)  # [P], so that a step allocates nothing
        self.lr = parameters.new_zeros((), dtype=torch.float64)
        self.inverse_weight = parameters.new_ones(())  # 1 / w

    def clip(self, gradients: Tensor) -> Tensor:
        """Clip the gradients [P] in place; all zeros if they are not finite.

        Returns their norm before, a scalar on the device.
        """
        norm = gradients.norm()
        if self.config.grad_clip == "average-norm":
            clip_each(gradients, self.sizes, self.config.max_grad_norm)
            scale = torch.ones_like(norm)
        else:  # in float64, so that the scale is rounded once
            scale = (self.config.max_grad_norm / norm.double()).clamp(max=1.0)
        gradients.mul_(torch.where(norm.isfinite(), scale, 0.0))
        torch.nan_to_num_(gradients, 0.0, 0.0, 0.0)  # what NaN and infinity became
        return norm

    def prepare(self, lr: float, updates: int) -> None:
        """For the next step, after so many updates: it finds its numbers on the device."""
        self.lr.fill_(lr)
        if self.debiased:
            self.inverse_weight.fill_(1 / (1 - self.config.rmsprop_decay ** (updates + 1)))

    def step(self, parameters: Tensor, gradients: Tensor, norm: Tensor) -> None:
        """Update `parameters` [P] with clipped gradients [P], which are used up.

        Where their norm was not finite, nothing is changed: no update is better than a ruined
        network. Whoever reads the norm must see to the rest.
        """
        decay = self.config.rmsprop_decay
        self.square_avg.mul_(torch.where(norm.isfinite(), decay, 1.0))
        self.square_avg.addcmul_(gradients, gradients, value=1 - decay)
        torch.addcmul(self.eps, self.square_avg, self.inverse_weight, out=self.scratch).sqrt_()
        gradients.mul_(self.lr)
        parameters.addcdiv_(gradients, self.scratch, value=-1.0)


def clip_each(gradients: Tensor, sizes: list[int], bound: float) -> None:
    """Bound each tensor's L2 norm divided by its number of elements, in place."""
    for part, size in zip(gradients.split(sizes), sizes, strict=True):
        average_norm = part.norm() / size
        part.mul_(torch.clamp(bound / average_norm, max=1.0))


def learning_rate(config: Config, agent_steps: int) -> float:
    """Constant, or linear to `lr_final_fraction` at `lr_schedule_until` of the run."""
    if config.lr_schedule == "constant":
        return config.lr
    done = min(1.0, agent_steps / (config.total_agent_steps * config.lr_schedule_until))
    return config.lr * (1.0 - done * (1.0 - config.lr_final_fraction))
