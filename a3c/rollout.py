"""Rollout: what happened in T agent steps of N agents; no returns or advantages."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from a3c.envs.protocol import Step
from a3c.network import State


class Moment(NamedTuple):
    """One agent step of N agents."""

    policies: Tensor  # [N, A or 2A]: the first of the heads' Outputs, by which actions were chosen
    actions: Tensor  # [N] int64, or [N, A] float32
    step: Step


class Truncation(NamedTuple):
    """A step at which episodes were cut short that would have gone on."""

    t: int
    observations: Tensor  # [N, ...], the episodes' last; valid where truncated
    actions: Tensor | None = None  # [N], chosen for them, for methods that look ahead

    def of(self, agents: Tensor) -> Truncation:
        """Of some of the agents, int64 [M]."""
        return Truncation(
            self.t,
            self.observations[agents],
            None if self.actions is None else self.actions[agents],
        )


class Rollout(NamedTuple):
    """Tensors on the learner's device. The observations are kept elsewhere: see `Actor`.

    An actor's rollouts lie all in the same memory, but for what is truncated; `next_actions` is
    that of its agents.
    """

    # [T, N, A or 2A] that acted, as the head says them: logits, means and log deviations, or values
    policies: Tensor
    actions: Tensor  # [T, N] int64, or [T, N, A] float32
    rewards: Tensor  # [T, N] float32, unclipped
    terminated: Tensor  # [T, N] bool
    truncated: Tensor  # [T, N] bool
    ended: Tensor  # [T, N] bool: one of the two
    life_lost: Tensor  # [T, N] bool
    truncations: list[Truncation]
    state: State | None  # the LSTM's before the first step
    last_observations: Tensor  # [N, ...], after the last step
    next_actions: Tensor | None = None  # [N], with which acting will go on: where it looks ahead

    @property
    def not_ended(self) -> Tensor:
        """float32 [T, N], 0 where an episode ended."""
        return (~self.ended).float()

    def of(self, agents: Tensor) -> Rollout:
        """What happened to some of the agents, int64 [M]."""
        return Rollout(
            self.policies[:, agents],
            self.actions[:, agents],
            self.rewards[:, agents],
            self.terminated[:, agents],
            self.truncated[:, agents],
            self.ended[:, agents],
            self.life_lost[:, agents],
            [truncation.of(agents) for truncation in self.truncations],
            state_of(self.state, agents),
            self.last_observations[agents],
            None if self.next_actions is None else self.next_actions[agents],
        )


def rollout_of(
    moments: list[Moment],
    state: State | None,
    last_observations: Tensor,
    into: Rollout | None = None,
) -> Rollout:
    """T moments, one after another, of agents whose LSTM stood at `state` before the first.

    `into`: an earlier one of as many moments and agents, whose memory it takes.
    """
    policies, actions, steps = zip(*moments, strict=True)
    _, rewards, terminated, truncated, ended, life_lost, finals = zip(*steps, strict=True)

    def stack(name: str, tensors: tuple[Tensor, ...]) -> Tensor:
        return torch.stack(tensors, out=None if into is None else getattr(into, name))

    return Rollout(
        stack("policies", policies),
        stack("actions", actions),
        stack("rewards", rewards),
        stack("terminated", terminated),
        stack("truncated", truncated),
        stack("ended", ended),
        stack("life_lost", life_lost),
        [Truncation(t, final) for t, final in enumerate(finals) if final is not None],
        state,
        copied(last_observations, None if into is None else into.last_observations),
    )


def copied(tensor: Tensor, into: Tensor | None) -> Tensor:
    """A copy, in new memory where `into` is None."""
    return tensor.clone() if into is None else into.copy_(tensor)


def copied_state(state: State | None, into: State | None) -> State | None:
    """A copy of the LSTM's state, in new memory where `into` is None."""
    if state is None:
        return None
    hidden, cell = (None, None) if into is None else into
    return copied(state[0], hidden), copied(state[1], cell)


def state_of(state: State | None, agents: Tensor) -> State | None:
    """The LSTM's state of some of the agents, int64 [M]."""
    return None if state is None else (state[0][agents], state[1][agents])
