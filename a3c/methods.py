"""Methods: what a thread learns, and how it acts for it. The paper's A3C.

A method makes a loss of what happened. Threads, store and environments name no method.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor, nn

from a3c.config import Config
from a3c.envs.protocol import Spec
from a3c.heads import ActorCriticHeads, MakesHeads, Outputs
from a3c.loss import actor_critic_loss, gae, vtrace
from a3c.network import Network
from a3c.rollout import Rollout


class Losses(NamedTuple):
    """Scalars on the device."""

    total: Tensor  # what is minimised, with its graph
    shown: dict[str, Tensor]  # for the log, by name; no graph


class Method(MakesHeads, Protocol):
    """What a thread asks of a method."""

    learns_with_newest: bool  # take the newest parameters before the loss: a full forward pass more
    target_every_agent_steps: int  # how often the target vector is copied; 0: it needs none

    def act(self, network: Network, outputs: Outputs, generator: Generator) -> Tensor:
        """Actions [N] or [N, A] from the heads' outputs."""

    def loss(self, network: Network, target: Network | None, rollout: Rollout) -> Losses:
        """`network` is prepared and remembers the rollout; `target` is prepared, if asked for."""


class A3C:
    """Advantage actor-critic: Algorithm S3 of Mnih et al. (2016), with GAE's lambda."""

    torsos = 2
    target_every_agent_steps = 0

    def __init__(self, config: Config):
        self.config = config
        self.learns_with_newest = config.correction != "none"  # else there is nothing to correct

    def heads(self, width: int, spec: Spec) -> nn.Module:
        return ActorCriticHeads(width, spec, self.config.std == "dependent")

    def act(self, network: Network, outputs: Outputs, generator: Generator) -> Tensor:
        return network.heads.policy.sample(outputs[0], generator)

    def loss(self, network: Network, target: Network | None, rollout: Rollout) -> Losses:
        config = self.config
        (_, bootstrap), _ = network(rollout.last_observations, rollout.last_state)  # [N]
        policies, values = network.evaluate(rollout.state, rollout.keep)  # [T, N, ...], [T, N]
        log_probs = network.heads.policy.log_prob(policies, rollout.actions)  # [T, N]
        returns, advantages = self.estimates(
            network, rollout, values.detach(), bootstrap, log_probs.detach()
        )
        total, shown = actor_critic_loss(
            log_probs,
            network.heads.policy.entropy(policies),
            values,
            advantages,
            returns,
            config.ent_coef,
            config.vf_coef,
            config.loss_reduction,
        )
        return Losses(total, shown)

    def estimates(
        self,
        network: Network,
        rollout: Rollout,
        values: Tensor,
        bootstrap: Tensor,
        log_probs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """What values and policy are taught: returns and advantages, [T, N] each."""
        config = self.config
        rewards, ends = learning_rewards(network, rollout, config), learning_ends(rollout, config)
        discounts = config.gamma, config.gae_lambda
        if config.correction == "none":
            advantages = gae(rewards, values, ends, bootstrap, *discounts)
            return advantages + values, advantages
        acted = network.heads.policy.log_prob(rollout.outputs, rollout.actions)  # [T, N]
        ratios, bounds = log_probs - acted, (config.rho_bar, config.c_bar)
        return vtrace(rewards, values, ends, bootstrap, ratios, *discounts, *bounds)


def make_method(config: Config) -> Method:
    """The method that a Config asks for."""
    return A3C(config)


def learning_rewards(network: Network, rollout: Rollout, config: Config) -> Tensor:
    """Rewards [T, N] as the optimiser sees them: clipped, if so configured.

    A truncated episode would have gone on: gamma times the value of its final observation joins its
    last reward, and the step counts as an end (Pardo et al., 2018). That costs a forward pass for
    each step at which an episode was truncated.
    """
    rewards = rollout.rewards.sign() if config.clip_rewards else rollout.rewards
    if not rollout.truncations:
        return rewards
    rewards = rewards.clone()
    for t, observations, state in rollout.truncations:
        (_, value), _ = network(observations, state)  # [N]
        cut = rollout.truncated[t] & ~rollout.terminated[t]
        rewards[t] = torch.where(cut, rewards[t] + config.gamma * value, rewards[t])
    return rewards


def learning_ends(rollout: Rollout, config: Config) -> Tensor:
    """float32 [T, N], 1 where the optimiser sees an end: at a lost life too, if so configured."""
    if config.life_loss_terminal:
        return (rollout.ended | rollout.life_lost).float()
    return rollout.ended.float()
