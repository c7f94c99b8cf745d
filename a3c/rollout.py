"""collect(): T agent steps of the N agents of one thread.

The parameters do not change inside a rollout, so the activations of the torso that chooses the
actions are kept, and are the learner's as well. What follows them is small: for learning it is
computed once more over the whole rollout.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from a3c.config import Config
from a3c.envs.protocol import Envs, Step
from a3c.metrics import Stopwatch
from a3c.network import ActorCritic, State


class Rollout(NamedTuple):
    """[T, N] each, float32; the first three carry the graph of the policy and the value."""

    log_probs: Tensor
    entropies: Tensor
    values: Tensor
    rewards: Tensor  # as the optimiser sees them: clipped; with the value of a truncated episode
    dones: Tensor  # 1 where the optimiser sees the end of an episode
    bootstrap: Tensor  # [N], the value of the observation after step T


class Game(NamedTuple):
    """One finished episode: its unclipped return and its length in agent steps."""

    episodic_return: float
    length: int


@dataclass
class Agents:
    """Where the N agents of a thread stand between two rollouts."""

    observations: Tensor  # [N, H, W, C] uint8 or [N, D] float32, on the device
    state: State | None  # the LSTM's, detached
    returns: NDArray[np.float64]  # [N], of the episodes under way
    lengths: NDArray[np.int64]  # [N], agent steps of the episodes under way


def collect(
    envs: Envs,
    network: ActorCritic,
    agents: Agents,
    upload: Upload,
    generator: Generator,
    config: Config,
    stopwatch: Stopwatch,
) -> tuple[Rollout, list[Game]]:
    """Let all agents act `rollout_length` times; moves `agents` on. For after `network.remember`.

    Returns the rollout and the games that ended in it, in order.
    """
    actions, rewards, dones, keep, games = [], [], [], [], []
    state_before = agents.state
    for t in range(config.rollout_length):
        with stopwatch("forward"):
            policy, _, state = network(agents.observations, agents.state, t)
            actions.append(network.policy.sample(policy, generator))
            sent = actions[-1].cpu().numpy()  # on CUDA: waits for the device
        with stopwatch("environment"):
            step = envs.step(sent)
        with stopwatch("forward"):
            games += count(agents, step)
            rewards.append(seen_rewards(network, agents, upload, step, state, config))
            dones.append(seen_dones(step, config))
            keep.append(1.0 - (step.terminated | step.truncated).astype(np.float32))
            advance(agents, upload, step, state)
    with stopwatch("forward"):
        bootstrap = network(agents.observations, agents.state)[1]  # [N]
        policies, values = network.evaluate(state_before, upload.small(np.stack(keep)))
        taken = torch.stack(actions)  # [T, N] or [T, N, A]
        rollout = Rollout(
            network.policy.log_prob(policies, taken),
            network.policy.entropy(policies),
            values,
            upload.small(np.stack(rewards)),
            upload.small(np.stack(dones)),
            bootstrap,
        )
    return rollout, games


def count(agents: Agents, step: Step) -> list[Game]:
    """Add the step to the running returns; returns the games that ended with it."""
    agents.returns += step.rewards
    agents.lengths += 1
    games = []
    for i in np.flatnonzero(step.terminated | step.truncated):
        games.append(Game(float(agents.returns[i]), int(agents.lengths[i])))
        agents.returns[i] = agents.lengths[i] = 0
    return games


def seen_rewards(
    network: ActorCritic,
    agents: Agents,
    upload: Upload,
    step: Step,
    state: State | None,
    config: Config,
) -> NDArray[np.float32]:
    """Rewards [N] for the optimiser.

    A truncated episode would have gone on: gamma times the value of its final observation joins its
    last reward, and the step counts as an end (Pardo et al., 2018). This costs a forward pass, but
    only where an episode was truncated.
    """
    rewards = np.sign(step.rewards) if config.clip_rewards else step.rewards
    if not step.truncated.any():
        return rewards
    assert step.final_observations is not None
    final = upload.next_observations(agents.observations, step.final_observations)
    value = network(final, state)[1].cpu().numpy()  # [N]
    bootstrapped = step.truncated & ~step.terminated
    return np.where(bootstrapped, rewards + config.gamma * value, rewards).astype(np.float32)


def seen_dones(step: Step, config: Config) -> NDArray[np.float32]:
    """[N], 1 where the optimiser sees an episode end: at a lost life too, if so configured."""
    ended = step.terminated | step.truncated
    return (ended | step.life_lost if config.life_loss_terminal else ended).astype(np.float32)


def advance(agents: Agents, upload: Upload, step: Step, state: State | None) -> None:
    """Move on to the next observations; an agent whose episode ended starts afresh."""
    started = step.terminated | step.truncated
    agents.observations = upload.next_observations(agents.observations, step.observations, started)
    if state is not None and started.any():
        keep = upload.small(1.0 - started.astype(np.float32)).unsqueeze(-1)  # [N, 1]
        state = (state[0] * keep, state[1] * keep)
    agents.state = state


class Upload:
    """The way of observations, rewards and ends to the device, and the stacking of frames there.

    On CUDA arrays pass through pinned memory, asynchronously. A staging buffer may be overwritten
    at the next step: choosing that step's actions has waited for the stream in between.
    """

    def __init__(self, device: torch.device, stacked: bool):
        self.device, self.stacked = device, stacked
        self.staging: dict[tuple[int, ...], Tensor] = {}

    def observations(self, array: NDArray[np.generic]) -> Tensor:
        """First observations of N episodes as the network reads them."""
        if self._complete(array):
            return self.small(array)
        return _unpacked(self._newest(array))

    def next_observations(
        self,
        before: Tensor,
        array: NDArray[np.generic],
        started: NDArray[np.bool_] | None = None,
    ) -> Tensor:
        """The observations after those of `before`; for `started` agents, of a new episode."""
        if self._complete(array):
            return self.small(array)
        newest = self._newest(array)
        packed = _packed(before) >> 8  # [N, H, W]
        packed &= OLDER_BYTES  # in place: twice as fast as with memory for each result
        packed |= newest
        for i in [] if started is None else np.flatnonzero(started):
            packed[i] = newest[i]
        return _unpacked(packed)

    def small(self, array: NDArray[np.generic]) -> Tensor:
        """Any array as a tensor on the device."""
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor if self.device.type == "cpu" else tensor.pin_memory().to(self.device)

    def _complete(self, array: NDArray[np.generic]) -> bool:
        """Whether these are whole observations, not the newest frames [N, H, W] of stacks."""
        return not self.stacked or array.ndim > 3

    def _newest(self, frames: NDArray[np.generic]) -> Tensor:
        """uint8 [N, H, W] -> the newest byte of int32 on the device; one byte a pixel travels."""
        tensor = torch.from_numpy(frames)
        if self.device.type != "cpu":
            if frames.shape not in self.staging:
                self.staging[frames.shape] = torch.empty_like(tensor, pin_memory=True)
            tensor = self.staging[frames.shape].copy_(tensor).to(self.device, non_blocking=True)
        newest = tensor.to(torch.int32)
        newest <<= NEWEST_BYTE
        return newest


# A pixel's four frames are the four bytes of one int32, the newest in the highest: pushing a frame
# is a shift, five times faster than concatenation; in memory the stack is [N, H, W, 4] uint8.
# An episode starts with three black frames, as in both emulators' own stacks.
NEWEST_BYTE = 24
OLDER_BYTES = 0x00FFFFFF
if sys.byteorder != "little":
    raise ImportError("a3c stacks frames as the bytes of a word and needs a little-endian machine")


def _packed(stack: Tensor) -> Tensor:
    return stack.view(torch.int32).squeeze(-1)  # [N, H, W, 4] uint8 -> [N, H, W]


def _unpacked(packed: Tensor) -> Tensor:
    return packed.unsqueeze(-1).view(torch.uint8)  # [N, H, W] int32 -> [N, H, W, 4]
