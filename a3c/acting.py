"""Actor: the one acting loop, for training, the background, evaluation and play."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from a3c.envs.protocol import Envs, Step
from a3c.graphs import Graphed
from a3c.heads import Outputs
from a3c.metrics import Stopwatch
from a3c.network import Network, State
from a3c.rollout import Moment, Rollout, Truncation, copied_state, rollout_of, state_of

Choose = Callable[[Outputs], Tensor]  # the heads' outputs -> actions [N] or [N, A]


@dataclass
class Agents:
    """Where the N agents of an actor stand between two agent steps; tensors on its device."""

    observations: Tensor  # [N, H, W, C] uint8 or [N, D] float32
    state: State | None  # the LSTM's
    # Where acting looks ahead: what they do next, and whether that has been chosen yet
    next_actions: Tensor | None = None  # int64 [N]
    decided: bool = False


class Actor:
    """N agents that act with one network; no autograd graph, nothing derived.

    The network keeps the activations that it computes to act, and learning starts from them. (Of
    vectors it keeps the observations: to compute again is quick.) Where learning uses newer
    parameters these are useless: then the observations are kept, in `seen` [T, N, ...]. Where it
    looks ahead, the action after a rollout is chosen at its end, and the next one begins with it,
    whatever has been learned since.
    """

    def __init__(
        self,
        envs: Envs,
        network: Network,
        choose: Choose,
        seen: Tensor | None = None,
        looks_ahead: bool = False,
    ):
        self.envs, self.network, self.choose, self.seen = envs, network, choose, seen
        self.looks_ahead = looks_ahead
        self.graphed_compute = Graphed(self.compute)
        self.stopwatch = Stopwatch()
        self.agents: Agents
        self.last: Rollout | None = None

    def reset(self, seed: int) -> None:
        """New episodes for all agents."""
        observations = self.envs.reset(seed)
        state = self.network.initial_state(self.envs.num_envs, observations.device)
        self.go_on(Agents(observations, state))

    def go_on(self, agents: Agents) -> None:
        """Go on with these agents; where acting looks ahead, make room for their next actions."""
        self.agents = agents
        if self.looks_ahead and agents.next_actions is None:
            agents.next_actions = torch.zeros(
                self.envs.num_envs, dtype=torch.int64, device=agents.observations.device
            )

    def rollout(self, length: int, renew: Callable[[int], None] = lambda _: None) -> Rollout:
        """`length` agent steps of each agent. For after `network.prepare` and `make_room`.

        renew: called before each step t; may take newer parameters to act with.
        """
        agents = self.agents
        before = copied_state(agents.state, None if self.last is None else self.last.state)
        if self.looks_ahead and not agents.decided:
            self.look_ahead()
        moments = []
        for t in range(length):
            renew(t)
            moments.append(self.step(t))
        with self.stopwatch("forward"):
            self.last = rollout_of(moments, before, agents.observations, self.last)
            if self.looks_ahead:
                self.last = self.last._replace(
                    next_actions=self.look_ahead(),
                    truncations=[self.followed(each) for each in self.last.truncations],
                )
        return self.last

    def look_ahead(self) -> Tensor:
        """Choose what the agents do next, int64 [N]; it lies where they find it."""
        agents = self.agents
        assert agents.next_actions is not None
        agents.decided = True
        return agents.next_actions.copy_(self.graphed_compute(None)[1])

    def followed(self, truncation: Truncation) -> Truncation:
        """The truncation with the actions that its agents would have taken next, for Sarsa, whose
        network has no LSTM."""
        outputs, _ = self.network(truncation.observations, None)
        return truncation._replace(actions=self.choose(outputs))

    def rehearse(self, length: int) -> None:
        """Compute a rollout in which nothing happens, for its memory and for the libraries' choices
        of kernels; only the generator is another afterwards."""
        agents = self.agents
        still = nothing(agents.observations, self.envs.num_envs)
        parts = [self.compute(t) for t in range(length)]  # T of (policies, actions, state)
        moments = [Moment(policies, actions, still) for policies, actions, _ in parts]
        before = copied_state(agents.state, None)
        self.last = rollout_of(moments, before, agents.observations)
        if self.looks_ahead:
            self.compute(None)
            self.last = self.last._replace(next_actions=agents.next_actions)

    def step(self, t: int | None = None) -> Moment:
        """One agent step; an agent whose episode ended starts the next one.

        With `t`, this is step t of a rollout to learn from.
        """
        with self.stopwatch("forward"):
            policies, actions, state = self.graphed_compute(t)
        with self.stopwatch("environment"):  # on CUDA it begins with the wait for the actions
            step = self.envs.step(actions)
        carry_state(state, step.ended, self.agents.state)
        self.agents.observations = step.observations
        return Moment(policies, actions, step)

    def compute(self, t: int | None) -> tuple[Tensor, Tensor, State | None]:
        """The device's part of an agent step: policies [N, A or 2A], actions, the LSTM's state."""
        agents = self.agents
        kept_t = t  # the step for which the network keeps what it computes
        if t is not None and self.seen is not None:
            self.seen[t] = agents.observations
            kept_t = None
        outputs, state = self.network(agents.observations, agents.state, kept_t)
        if t == 0 and agents.next_actions is not None:
            return outputs[0], agents.next_actions.clone(), state
        return outputs[0], self.choose(outputs), state

    def keep(self, stays: Tensor) -> None:
        """Go on with the agents of the numbers `stays`, int64, alone, as the environments do."""
        agents = self.agents
        self.agents = Agents(agents.observations[stays], state_of(agents.state, stays))


def nothing(observations: Tensor, num_envs: int) -> Step:
    """An agent step in which nothing happened to anyone."""
    rewards = torch.zeros(num_envs, device=observations.device)  # [N]
    nobody = torch.zeros(num_envs, dtype=torch.bool, device=observations.device)  # [N]
    return Step(observations, rewards, nobody, nobody, nobody, nobody, None)


def carry_state(state: State | None, ended: Tensor, into: State | None) -> None:
    """Write the LSTMs' state, [N, L cells] each, to `into`; zero where an episode ended."""
    if state is not None and into is not None:
        not_ended = (~ended).float().unsqueeze(-1)  # [N, 1]
        for now, out in zip(state, into, strict=True):
            torch.mul(now, not_ended, out=out)
