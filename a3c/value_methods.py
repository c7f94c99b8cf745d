"""Methods that learn the values of actions: one-step Q-learning, one-step Sarsa, n-step Q-learning.

Algorithms 1 and S2 of Mnih et al. (2016), and the target of its section 4 for Sarsa. What is taught
is y, with a target network theta-, which is a copy of the parameters from time to time:

one-step Q:      y = r + gamma max_a' Q(s', a'; theta-)
one-step Sarsa:  y = r + gamma Q(s', a'; theta-), a' being the action that is taken in s'
n-step Q:        y = r + gamma r' + ... + gamma^k max_a Q(s_k, a; theta-), s_k after the rollout

The loss is (y - Q(s, a))^2, summed or averaged over the rollout. Gradients are taken at the copy of
the parameters with which the rollout acted, or at the newest where a rollout makes several updates;
Algorithm 1 reads the shared ones at each step.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor, nn

from a3c.config import Config
from a3c.envs.names import frames_per_agent_step
from a3c.envs.protocol import Spec
from a3c.errors import InputError
from a3c.heads import ActionValueHeads, Outputs, of_actions
from a3c.loss import action_value_loss, following, n_step_returns, one_step_returns
from a3c.method import Behaviour, Losses, learning_ends, learning_rewards
from a3c.network import Network
from a3c.rollout import Rollout, Truncation

# Mnih et al. 2016, supplement 8: final epsilons and how often each is drawn
FINAL_EPSILONS, PROBABILITIES = (0.1, 0.01, 0.5), (0.4, 0.3, 0.3)
EPSILONS = 3  # what the seed of a thread's draw is for; 1 and 2 are in evaluator.py


class ValueMethod:
    """One-step Q-learning, one-step Sarsa or n-step Q-learning, as `config.method` says."""

    torsos = 1
    needs_newest = False

    def __init__(self, config: Config):
        self.config = config
        self.looks_ahead = config.method == "one-step-sarsa"
        frames = frames_per_agent_step(config)
        self.target_every_agent_steps = max(1, round(config.target_emulator_frames / frames))

    def heads(self, width: int, spec: Spec) -> nn.Module:
        if not spec.discrete:
            raise InputError(
                f"--method {self.config.method} learns a value for each action, and those of "
                f"{self.config.env} are continuous; expected --method a3c"
            )
        return ActionValueHeads(width, spec)

    def behaviour(self, thread: int, agents: int, device: torch.device) -> Behaviour:
        return EpsilonGreedy(self.config, thread, agents, device)

    def loss(self, network: Network, target: Network | None, rollout: Rollout) -> Losses:
        assert target is not None
        (values,), _ = network.recall(rollout.state, rollout.not_ended)  # [T, N, A]
        taken = of_actions(values, rollout.actions)  # [T, N]
        targets = self.targets(network, target, rollout)
        return Losses(*action_value_loss(taken, targets, self.config.loss_reduction))

    def targets(self, network: Network, target: Network, rollout: Rollout) -> Tensor:
        """What the values of the actions taken are taught: y, [T, N]."""

        def value_of(truncation: Truncation) -> Tensor:
            values = target_values(target, truncation.observations)  # [N, A]
            return self.state_values(values, truncation.actions)

        rewards = learning_rewards(rollout, self.config, network, value_of)
        ends, gamma = learning_ends(rollout, self.config), self.config.gamma
        last = target_values(target, rollout.last_observations)  # [N, A]
        if self.config.method == "n-step-q":
            return n_step_returns(rewards, ends, self.state_values(last, None), gamma)
        (values,) = target.review(network)  # [T, N, A]
        after = following(values, last)  # [T, N, A], of the observations after each step
        ahead = rollout.next_actions  # [N] where acting looks ahead
        actions = None if ahead is None else following(rollout.actions, ahead)  # [T, N]
        return one_step_returns(rewards, ends, self.state_values(after, actions), gamma)

    def state_values(self, values: Tensor, actions: Tensor | None) -> Tensor:
        """[...] of action values [..., A]: of the best action, or Sarsa's of the one taken."""
        if not self.looks_ahead:
            return values.max(-1).values
        assert actions is not None
        return of_actions(values, actions)


class EpsilonGreedy:
    """A thread's agents act at random with probability epsilon, else by the highest value.

    Each agent has an epsilon of its own. It goes from 1, linearly in the agent steps of all
    threads, to a final one that is drawn once from the paper's three. There each thread is one
    agent and draws its own, from time to time; here each agent does, once, so that a few threads
    explore as variedly as its many.
    """

    def __init__(self, config: Config, thread: int, agents: int, device: torch.device):
        self.annealed_after = config.epsilon_emulator_frames / frames_per_agent_step(config)
        seed = np.random.SeedSequence(config.seed, spawn_key=(thread, EPSILONS))
        final = np.random.default_rng(seed).choice(FINAL_EPSILONS, agents, p=PROBABILITIES)
        self.start = torch.ones(agents, device=device)  # [N]
        self.final = torch.empty_like(self.start)
        self.epsilons = torch.ones_like(self.start)  # now; where a CUDA graph finds them
        self.load({"epsilons": torch.from_numpy(final)})

    def prepare(self, agent_steps: int) -> dict[str, float]:
        done = min(1.0, agent_steps / self.annealed_after)
        torch.lerp(self.start, self.final, done, out=self.epsilons)  # no wait for the device
        return {"epsilon": 1 - done * (1 - self.mean_final)}

    def act(self, network: Network, outputs: Outputs, generator: Generator) -> Tensor:
        return epsilon_greedy(outputs[0], self.epsilons, generator)

    def save(self) -> dict[str, Tensor]:
        return {"epsilons": self.final}

    def load(self, saved: dict[str, Tensor]) -> None:
        final = saved["epsilons"]  # of fewer agents, where the run has grown: then these come first
        self.final[: len(final)] = final
        self.mean_final = float(self.final.mean())  # waits: once, and where a run goes on


def epsilon_greedy(values: Tensor, epsilons: Tensor, generator: Generator) -> Tensor:
    """Actions int64 [N] from action values [N, A]: uniformly random with probabilities [N]."""
    num_envs, num_actions = values.shape
    device = values.device
    chance = torch.rand(num_envs, generator=generator, device=device)  # [N]
    drawn = torch.randint(num_actions, (num_envs,), generator=generator, device=device)  # [N]
    return torch.where(chance < epsilons, drawn, values.argmax(-1))


def target_values(target: Network, observations: Tensor) -> Tensor:
    """Action values [N, A]."""
    (values,), _ = target(observations, None)
    return values
