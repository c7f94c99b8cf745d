"""The objective, as pure functions of [T, N] tensors: T agent steps of N agents."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_DEVIATION = 1e-8  # no division by 0, as PPO has it (openai/baselines)


def gae(
    rewards: Tensor, values: Tensor, ends: Tensor, bootstrap: Tensor, gamma: float, lam: float
) -> Tensor:
    """Generalised advantage estimates (Schulman et al., 2016, equation 16).

    rewards, values, ends: [T, N] float32; ends[t] is 1 where the episode ended after step t, so
    that nothing flows back across it. bootstrap: [N], the value of the observation after the last
    step. Returns the advantages [T, N]; with lam = 1 they are n_step_returns - values.
    """
    deltas = td_errors(rewards, values, ends, bootstrap, gamma)  # [T, N]
    return accumulated(deltas, gamma * lam * (1.0 - ends))


def n_step_returns(rewards: Tensor, ends: Tensor, bootstrap: Tensor, gamma: float) -> Tensor:
    """R of Algorithm S3 (Mnih et al., 2016): R <- r + gamma R, backwards from the bootstrap.

    Shapes as for `gae`; returns [T, N]: its advantages where all values but the last are 0.
    """
    return gae(rewards, torch.zeros_like(rewards), ends, bootstrap, gamma, lam=1.0)


def vtrace(
    rewards: Tensor,
    values: Tensor,
    ends: Tensor,
    bootstrap: Tensor,
    log_ratios: Tensor,
    gamma: float,
    lam: float,
    rho_bar: float,
    c_bar: float,
) -> tuple[Tensor, Tensor]:
    """V-trace (Espeholt et al., 2018, equation 1 and section 4.2), with GAE's lambda in the traces.

    log_ratios [T, N]: log pi - log mu of the actions taken, of the policy that learns and the one
    that acted; the other inputs as for `gae`. With rho = min(rho_bar, pi / mu), c = lam min(c_bar,
    pi / mu) and delta = r + gamma V' - V:

    v - V = rho delta + gamma c (v' - V');  advantage = rho (delta + gamma lam (v' - V'))

    Returns the values' targets v and the advantages, [T, N] each. Where both policies are the same,
    and no bound is below 1, the advantages are `gae`'s, and v is V plus those; with lam = 1 they
    are the paper's.
    """
    ratios = log_ratios.exp()  # [T, N], pi / mu
    rhos, traces = ratios.clamp(max=rho_bar), ratios.clamp(max=c_bar)  # [T, N]
    deltas = td_errors(rewards, values, ends, bootstrap, gamma)  # [T, N]
    discounts = gamma * lam * (1.0 - ends)  # [T, N]
    beyond = accumulated(rhos * deltas, traces * discounts)  # [T, N], v - V
    advantages = rhos * (deltas + discounts * following(beyond, torch.zeros_like(bootstrap)))
    return values + beyond, advantages


def one_step_returns(rewards: Tensor, ends: Tensor, next_values: Tensor, gamma: float) -> Tensor:
    """r + gamma V', V' the value of what follows each step: y of Algorithm 1 (Mnih et al., 2016).

    Shapes as for `gae`, next_values [T, N]; returns [T, N].
    """
    return rewards + gamma * (1.0 - ends) * next_values


def td_errors(
    rewards: Tensor, values: Tensor, ends: Tensor, bootstrap: Tensor, gamma: float
) -> Tensor:
    """delta = r + gamma V' - V of each step, [T, N]; shapes as for `gae`."""
    return one_step_returns(rewards, ends, following(values, bootstrap), gamma) - values


def following(values: Tensor, last: Tensor) -> Tensor:
    """Of values [T, N, ...] those of the next step; after the last step `last` [N, ...]."""
    return torch.cat([values[1:], last.unsqueeze(0)])


def accumulated(terms: Tensor, factors: Tensor) -> Tensor:
    """Backwards x <- term + factor x, from 0: [T, N] each. One operation for each step."""
    total = torch.zeros_like(terms[0])  # [N]
    totals = []
    for term, factor in zip(reversed(terms.unbind()), reversed(factors.unbind()), strict=True):
        total = torch.addcmul(term, factor, total)
        totals.append(total)
    return torch.stack(totals[::-1])


def spread(advantages: Tensor, floor: float) -> Tensor:
    """Those whose deviation d is below `floor` are spread around their mean, [T, N] as they were:
    to floor (floor / d)^0.5, the more the closer they are, but at most to 1 (or `floor`).

    Of this project. Where no reward has been met the value is soon right, and advantages are what
    it is wrong by. The entropy bonus undoes nearly all that so small a gradient does, and most of
    what one of `floor` would. Where all are the same their rounding is spread, by at most 1.
    """
    centered = advantages - advantages.mean()
    deviation = centered.square().mean().sqrt() + LEAST_DEVIATION
    factor = torch.minimum((floor / deviation) ** 1.5, max(floor, 1) / deviation)
    return advantages + centered * (factor.clamp(min=1) - 1)


def normalized(advantages: Tensor) -> Tensor:
    """Of mean 0 and deviation 1, [T, N] as they were; those that are all the same are at most 1."""
    centered = advantages - advantages.mean()  # one mean for both: rounding cannot grow
    return centered / (centered.square().mean().sqrt() + LEAST_DEVIATION)


def actor_critic_loss(
    log_probs: Tensor,
    entropies: Tensor,
    values: Tensor,
    advantages: Tensor,
    returns: Tensor,
    ent_coef: Tensor | float,
    vf_coef: float,
    reduction: str,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Advantage actor-critic with entropy bonus (Mnih et al., 2016, section 4 and Algorithm S3).

    log_probs to returns: [T, N] float32. The first three carry the autograd graph; advantages and
    returns are constants: the actor's gradient does not flow into the critic through them.
    ent_coef, vf_coef: the weights of entropy and value, scalars. reduction: sum or mean.
    The value's error is (R - V)^2, without a half.
    Returns what is minimised, and its parts for the log; the entropy there is a mean in any case.
    """
    reduce = torch.sum if reduction == "sum" else torch.mean
    policy = -reduce(log_probs * advantages.detach())
    value = reduce((returns.detach() - values).square())
    total = policy + vf_coef * value - ent_coef * reduce(entropies)
    shown = {"policy_loss": policy, "value_loss": value, "entropy": entropies.mean()}
    return total, {name: scalar.detach() for name, scalar in shown.items()}


def action_value_loss(
    taken: Tensor, targets: Tensor, reduction: str
) -> tuple[Tensor, dict[str, Tensor]]:
    """Squared error of the values of the actions taken (Mnih et al., 2016, Algorithms 1 and S2).

    taken [T, N] carries the autograd graph, targets [T, N] are constants. There is no half before
    it. Returns what is minimised, and what the log shows; mean_q is a mean in any case.
    """
    reduce = torch.sum if reduction == "sum" else torch.mean
    total = reduce((targets.detach() - taken).square())
    return total, {"value_loss": total.detach(), "mean_q": taken.detach().mean()}
