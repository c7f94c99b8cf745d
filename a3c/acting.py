"""Actor: the one acting loop, for training, the background, evaluation and play."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from a3c.envs.protocol import Envs
from a3c.heads import Outputs
from a3c.metrics import Stopwatch
from a3c.network import Network, State
from a3c.rollout import Moment, Rollout, rollout_of

Choose = Callable[[Outputs], Tensor]  # the heads' outputs -> actions [N] or [N, A]


@dataclass
class Agents:
    """Where the N agents of an actor stand between two agent steps; tensors on its device."""

    observations: Tensor  # [N, H, W, C] uint8 or [N, D] float32
    state: State | None  # the LSTM's


class Actor:
    """N agents that act with one network; no graph, nothing derived.

    What a rollout's learning needs of the observations is kept by the network, as far as it was
    computed to act. Where learning uses newer parameters that would be in vain: with `seen`
    [T, N, ...] the observations themselves are kept there.
    """

    def __init__(self, envs: Envs, network: Network, choose: Choose, seen: Tensor | None = None):
        self.envs, self.network, self.choose, self.seen = envs, network, choose, seen
        self.stopwatch = Stopwatch()
        self.agents: Agents

    def start(self, seed: int) -> None:
        """New episodes for all agents."""
        observations = self.envs.reset(seed)
        state = self.network.initial_state(self.envs.num_envs, observations.device)
        self.agents = Agents(observations, state)

    def rollout(self, length: int) -> Rollout:
        """`length` agent steps of each agent. For after `network.prepare` and `remember`."""
        before = self.agents.state
        moments = [self.step(t) for t in range(length)]
        with self.stopwatch("forward"):
            return rollout_of(moments, before, self.agents.observations, self.agents.state)

    def step(self, t: int | None = None) -> Moment:
        """One agent step; an agent whose episode ended starts the next one.

        With `t`, this is step t of a rollout to learn from.
        """
        agents = self.agents
        with self.stopwatch("forward"):
            if t is not None and self.seen is not None:
                self.seen[t] = agents.observations
                t = None  # nothing for the network to keep
            outputs, state = self.network(agents.observations, agents.state, t)
            actions = self.choose(outputs)
        with self.stopwatch("environment"):  # on CUDA it begins with the wait for the actions
            step = self.envs.step(actions)
        self.agents = Agents(step.observations, started_afresh(state, step.ended))
        return Moment(outputs[0], actions, step, state)

    def keep(self, stays: Tensor) -> None:
        """Go on with those agents alone where `stays` [N] is true, as the environments do."""
        agents, state = self.agents, self.agents.state
        self.agents = Agents(
            agents.observations[stays],
            None if state is None else (state[0][stays], state[1][stays]),
        )


def started_afresh(state: State | None, ended: Tensor) -> State | None:
    """The LSTM's state [N, cells] twice, zero where an episode ended."""
    if state is None:
        return None
    keep = (~ended).float().unsqueeze(-1)  # [N, 1]
    return state[0] * keep, state[1] * keep
