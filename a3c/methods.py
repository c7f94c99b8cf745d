"""The methods of Mnih et al. (2016): A3C here, those that learn action values in value_methods."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from a3c.config import VALUE_METHODS, Config
from a3c.envs.protocol import Spec
from a3c.heads import ActorCriticHeads, Outputs
from a3c.loss import actor_critic_loss, gae, normalized, spread, vtrace
from a3c.method import Behaviour, Losses, Method, learning_ends, learning_rewards
from a3c.network import Network, State
from a3c.rollout import Rollout, Truncation
from a3c.schedules import entropy_weight
from a3c.value_methods import ValueMethod


class A3C:
    """Advantage actor-critic: Algorithm S3 of Mnih et al. (2016), with GAE's lambda."""

    torsos = 2  # actor's and critic's, where they do not share one
    target_every_agent_steps = 0  # 0: no target network
    looks_ahead = False

    def __init__(self, config: Config):
        self.config = config
        # V-trace weighs by what the newest would choose; where a rollout makes several updates
        # ActorLearner takes them in any case
        self.needs_newest = config.correction != "none"
        self.ent_coef = torch.tensor(config.ent_coef)  # now; where a CUDA graph finds it

    def heads(self, width: int, spec: Spec) -> nn.Module:
        return ActorCriticHeads(width, spec, self.config.std)

    def behaviour(self, thread: int, agents: int, device: torch.device) -> Behaviour:
        self.ent_coef = self.ent_coef.to(device)
        return self  # A3C is its own Behaviour

    def loss(self, network: Network, target: Network | None, rollout: Rollout) -> Losses:
        config = self.config
        # From the activations that acting has left in the network (or `read`), with an autograd
        # graph. policies: what the head says of actions, as logits [T, N, A]; values [T, N]; where
        # a rollout has minibatches N is the agents of one
        (policies, values), states = network.recall(rollout.state, rollout.not_ended)
        log_probs = network.heads.policy.log_prob(policies, rollout.actions)  # [T, N]
        returns, advantages = self.estimates(
            network, rollout, values.detach(), states, log_probs.detach()
        )
        if config.normalize_advantages:
            advantages = normalized(advantages)
        elif config.advantage_floor:
            advantages = spread(advantages, config.advantage_floor)
        total, shown = actor_critic_loss(
            log_probs,
            network.heads.policy.entropy(policies),
            values,
            advantages,
            returns,
            self.ent_coef,
            config.vf_coef,
            config.loss_reduction,
        )
        return Losses(total, shown)

    def estimates(
        self,
        network: Network,
        rollout: Rollout,
        values: Tensor,
        states: list[State | None],
        log_probs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """What values and policy are taught: returns and advantages, [T, N] each.

        values, log_probs [T, N] and the LSTM's states after each step are the learning network's,
        for its values of what follows: the last state of acting may be an older network's.
        """

        def value_of(truncation: Truncation) -> Tensor:
            return state_values(network, truncation.observations, states[truncation.t])

        config = self.config
        bootstrap = state_values(network, rollout.last_observations, states[-1])
        rewards = learning_rewards(rollout, config, network, value_of)
        ends = learning_ends(rollout, config)
        if config.correction == "none":
            advantages = gae(rewards, values, ends, bootstrap, config.gamma, config.gae_lambda)
            return advantages + values, advantages
        acted = network.heads.policy.log_prob(rollout.policies, rollout.actions)  # [T, N]
        return vtrace(
            rewards,
            values,
            ends,
            bootstrap,
            log_ratios=log_probs - acted,
            gamma=config.gamma,
            lam=config.gae_lambda,
            rho_bar=config.rho_bar,
            c_bar=config.c_bar,
        )

    # As Behaviour: how its agents act

    def prepare(self, agent_steps: int) -> dict[str, float]:
        ent_coef = entropy_weight(self.config, agent_steps)
        self.ent_coef.fill_(ent_coef)
        return {"ent_coef": ent_coef}

    def act(self, network: Network, outputs: Outputs, generator: Generator) -> Tensor:
        return network.heads.policy.sample(outputs[0], generator)

    def save(self) -> dict[str, Tensor]:
        return {}

    def load(self, saved: dict[str, Tensor]) -> None:
        pass


def state_values(network: Network, observations: Tensor, state: State | None) -> Tensor:
    """[N], without an autograd graph."""
    (_, values), _ = network(observations, state)
    return values


def make_method(config: Config) -> Method:
    """The method that a Config asks for."""
    return ValueMethod(config) if config.method in VALUE_METHODS else A3C(config)
