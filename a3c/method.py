"""Method: what a thread asks of its learning algorithm; and rewards and ends as the optimiser sees
them.

A method makes a loss of what happened. Threads, store and environments name no method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from a3c.config import Config
from a3c.heads import MakesHeads, Outputs
from a3c.network import Network
from a3c.rollout import Rollout, Truncation


class Losses(NamedTuple):
    """Scalars on the device."""

    total: Tensor  # what is minimised, with its autograd graph
    shown: dict[str, Tensor]  # for the log, by name; no autograd graph


class Behaviour(Protocol):
    """How the agents of one thread act, with what they need for it and what changes in a run."""

    def prepare(self, agent_steps: int) -> dict[str, float]:
        """Before a rollout, after so many agent steps of all threads; returns figures for the log.

        What changes is written into tensors that stay where they are: CUDA graphs may have `act`
        and the method's `loss`.
        """

    def act(self, network: Network, outputs: Outputs, generator: Generator) -> Tensor:
        """Actions [N] or [N, A] from the heads' outputs."""

    def save(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of it."""

    def load(self, saved: dict[str, Tensor]) -> None:
        """Go on from what `save` returned, among other tensors."""


class Method(MakesHeads, Protocol):
    """What a thread asks of a method; each thread has its own."""

    needs_newest: bool  # take the newest parameters before the loss: a full forward pass more
    target_every_agent_steps: int  # how often the target vector is copied; 0: it needs none
    looks_ahead: bool  # wants to know the action after a rollout's last step: it is chosen by then

    def behaviour(self, thread: int, agents: int, device: torch.device) -> Behaviour:
        """Make the Behaviour of one thread's agents."""

    def loss(self, network: Network, target: Network | None, rollout: Rollout) -> Losses:
        """`network` is prepared and remembers the rollout; `target` is prepared, if asked for."""


def learning_rewards(
    rollout: Rollout, config: Config, network: Network, value_of: Callable[[Truncation], Tensor]
) -> Tensor:
    """Rewards [T, N] as the optimiser sees them: clipped, normalised, or both, if so configured.

    A truncated episode would have gone on: gamma times the value [N] of its final observation joins
    its last reward, and the step counts as an end (Pardo et al., 2018). That costs a forward pass
    for each step at which an episode was truncated.
    """
    rewards = rollout.rewards.sign() if config.clip_rewards else rollout.rewards
    if network.return_std is not None:
        rewards = rewards / network.return_std
    if not rollout.truncations:
        return rewards
    rewards = rewards.clone()
    for truncation in rollout.truncations:
        t = truncation.t
        truncated = rollout.truncated[t] & ~rollout.terminated[t]  # [N]
        bootstrap = config.gamma * value_of(truncation)  # [N]
        rewards[t] = torch.where(truncated, rewards[t] + bootstrap, rewards[t])
    return rewards


def learning_ends(rollout: Rollout, config: Config) -> Tensor:
    """float32 [T, N], 1 where the optimiser sees an end: at a lost life too, if so configured."""
    if config.life_loss_terminal:
        return (rollout.ended | rollout.life_lost).float()
    return rollout.ended.float()
