"""What the untrained policy measures before a run: the background, the moments of vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from a3c.acting import Actor
from a3c.actor_learner import ActorLearner, seed_of
from a3c.envs.atari import STACKED_FRAMES
from a3c.envs.protocol import Envs

BACKGROUND_STEPS = 100  # agent steps of each agent
MOMENTS_STEPS = 500  # likewise
SMALLEST_STD = 1e-6  # of the mean: less is rounding; and where that is next to nothing:
LEAST_STD = 1e-12


def measure_background(learner: ActorLearner, background: Tensor, envs: Envs) -> None:
    """Let the untrained policy play in `envs`; its mean observation becomes the background.

    For one learner, before its `start_games`. background: its network's, [H, W, C].
    """
    actor = measuring(learner, envs)
    learner.network.prepare()
    total = torch.zeros_like(background)  # [H, W, C]
    for t in range(-STACKED_FRAMES, BACKGROUND_STEPS):  # stacks start with black frames
        seen = actor.step().step.observations
        if t >= 0:
            total += seen.float().mean(0)
    with torch.no_grad():  # whole numbers: exact in bfloat16
        background.copy_((total / BACKGROUND_STEPS).round())
    # background is a view into parameters: now all threads get it
    learner.store.restart(learner.parameters)


def measure_moments(learner: ActorLearner, moments: Tensor, return_std: Tensor, envs: Envs) -> None:
    """Let the untrained policy play in `envs`; what it sees and earns says how to normalise.

    For one learner, before its `start_games`. moments: its network's, [2, D]. return_std: the
    deviation of the discounted sum of rewards so far in an episode, as Gymnasium's NormalizeReward
    has it; of their signs where learning sees those.
    """
    actor, config = measuring(learner, envs), learner.config
    sums: list[Tensor] = []
    total = torch.zeros(envs.num_envs, device=learner.device)
    first = actor.agents.observations[0].double()  # [D]; near the mean
    offsets, squares = torch.zeros_like(first), torch.zeros_like(first)
    for _ in range(MOMENTS_STEPS):
        offset = actor.agents.observations.double() - first  # [N, D]
        offsets += offset.sum(0)
        squares += offset.square().sum(0)
        step = actor.step().step
        rewards = step.rewards.sign() if config.clip_rewards else step.rewards
        total = config.gamma * total + rewards
        sums.append(total)
        total = total * ~step.ended
    count = MOMENTS_STEPS * envs.num_envs
    std = ((squares - offsets.square() / count) / (count - 1)).clamp_min(0).sqrt()
    with torch.no_grad():
        mean, returns = first + offsets / count, torch.stack(sums)
        moments.copy_(torch.stack([mean, positive(std, mean)]))
        return_std.copy_(positive(returns.std(), returns.mean()))
    # both are views into parameters, as the background is
    learner.store.restart(learner.parameters)


def measuring(learner: ActorLearner, envs: Envs) -> Actor:
    """Plays in `envs` as a learner's agents at their start, of which there may be fewer."""
    behaviour = learner.method.behaviour(learner.index, envs.num_envs, learner.device)
    actor = Actor(
        envs, learner.network, lambda out: behaviour.act(learner.network, out, learner.generator)
    )
    actor.reset(seed_of(learner.config, learner.index))
    return actor


def positive(deviations: Tensor, means: Tensor) -> Tensor:
    """Standard deviations to divide by: 1 for what never changed."""
    least = (SMALLEST_STD * means.abs()).clamp_min(LEAST_STD)
    return torch.where(deviations > least, deviations, 1.0)
