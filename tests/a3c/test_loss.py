"""Returns, advantages and the loss against numbers worked by hand."""

import math

import pytest
import torch
from torch import Tensor

from a3c.loss import actor_critic_loss, gae, n_step_returns, normalized, spread, vtrace


def column(*values: float) -> Tensor:
    """[T, 1] of one agent."""
    return torch.tensor(values, dtype=torch.float32).unsqueeze(-1)


def test_n_step_returns_bootstrap_from_the_last_value() -> None:
    # 3 + 0.5 * 8 = 7;  2 + 0.5 * 7 = 5.5;  1 + 0.5 * 5.5 = 3.75
    returns = n_step_returns(column(1, 2, 3), column(0, 0, 0), torch.tensor([8.0]), gamma=0.5)
    assert returns.flatten().tolist() == [3.75, 5.5, 7.0]


def test_nothing_flows_back_across_an_end() -> None:
    # the second step ends an episode: 2; the first sees 1 + 0.5 * 2; the third starts anew
    returns = n_step_returns(column(1, 2, 3), column(0, 1, 0), torch.tensor([8.0]), gamma=0.5)
    assert returns.flatten().tolist() == [2.0, 2.0, 7.0]


def test_no_bootstrap_after_an_end_at_the_last_step() -> None:
    returns = n_step_returns(column(1, 2), column(0, 1), torch.tensor([100.0]), gamma=0.5)
    assert returns.flatten().tolist() == [2.0, 2.0]


def test_agents_are_independent() -> None:
    rewards = torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    ends = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    returns = n_step_returns(rewards, ends, torch.tensor([4.0, 40.0]), gamma=0.5)
    assert returns.tolist() == [[3.0, 10.0], [4.0, 40.0]]


def test_gae_by_hand() -> None:
    # gamma 0.5, lambda 0.5; deltas: 1 + .5*4 - 2 = 1;  2 + .5*6 - 4 = 1;  3 + .5*8 - 6 = 1
    # advantages: 1;  1 + .25*1 = 1.25;  1 + .25*1.25 = 1.3125
    advantages = gae(
        column(1, 2, 3), column(2, 4, 6), column(0, 0, 0), torch.tensor([8.0]), 0.5, 0.5
    )
    assert advantages.flatten().tolist() == [1.3125, 1.25, 1.0]


def test_gae_stops_at_an_end() -> None:
    # second delta: 2 - 4 = -2, nothing from the third;  first: 1 + .5*4 - 2 + .25 * -2 = 0.5
    advantages = gae(
        column(1, 2, 3), column(2, 4, 6), column(0, 1, 0), torch.tensor([8.0]), 0.5, 0.5
    )
    assert advantages.flatten().tolist() == [0.5, -2.0, 1.0]


def test_lambda_1_gives_n_step_returns() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 7, 3, generator=generator)
    ends = (torch.rand(7, 3, generator=generator) < 0.3).float()
    bootstrap = torch.randn(3, generator=generator)
    advantages = gae(rewards, values, ends, bootstrap, 0.9, 1.0)
    expected = n_step_returns(rewards, ends, bootstrap, 0.9) - values
    torch.testing.assert_close(advantages, expected)


def test_vtrace_by_hand() -> None:
    # gamma 0.5, lambda 1; ratios 2, 0.5, 4, bounded by 1: rho = c = 1, 0.5, 1
    # deltas: 1 + .5*4 - 2 = 1;  2 + .5*6 - 4 = 1;  3 + .5*8 - 6 = 1
    # v - V: 1;  .5*1 + .5*.5*1 = 0.75;  1 + .5*1*.75 = 1.375
    # advantages: 1;  .5*(1 + .5*1) = 0.75;  1*(1 + .5*.75) = 1.375
    targets, advantages = vtrace(
        column(1, 2, 3), column(2, 4, 6), column(0, 0, 0), torch.tensor([8.0]),
        column(2, 0.5, 4).log(), 0.5, 1.0, 1.0, 1.0,
    )  # fmt: skip
    assert targets.flatten().tolist() == pytest.approx([3.375, 4.75, 7.0])
    assert advantages.flatten().tolist() == pytest.approx([1.375, 0.75, 1.0])


def test_vtraces_bounds_and_lambda_by_hand() -> None:
    # ratios 3, 3 with rho_bar 2 and c_bar 1, lambda 0.5: rho = 2, 2; traces 0.5, 0.5
    # deltas 1, 1;  v - V: 2;  2*1 + .5*.5*2 = 2.5;  advantages: 2*1 = 2;  2*(1 + .5*.5*2) = 3
    targets, advantages = vtrace(
        column(1, 2), column(2, 4), column(0, 0), torch.tensor([6.0]),
        column(3, 3).log(), 0.5, 0.5, rho_bar=2.0, c_bar=1.0,
    )  # fmt: skip
    assert targets.flatten().tolist() == pytest.approx([4.5, 6.0])
    assert advantages.flatten().tolist() == pytest.approx([3.0, 2.0])


def random_rollout(agents: int = 3) -> list[Tensor]:
    """rewards, values, ends [7, N], bootstrap [N], log_ratios [7, N]."""
    generator = torch.Generator().manual_seed(0)
    rewards, values, log_ratios = torch.randn(3, 7, agents, generator=generator)
    ends = (torch.rand(7, agents, generator=generator) < 0.2).float()
    return [rewards, values, ends, torch.randn(agents, generator=generator), log_ratios]


def test_vtrace_is_gae_where_both_policies_are_the_same() -> None:
    rewards, values, ends, bootstrap, ratios = random_rollout()
    targets, advantages = vtrace(rewards, values, ends, bootstrap, ratios * 0, 0.9, 0.8, 1.0, 1.0)
    expected = gae(rewards, values, ends, bootstrap, 0.9, 0.8)
    torch.testing.assert_close(advantages, expected)
    torch.testing.assert_close(targets, values + expected)


@pytest.mark.parametrize(("rho_bar", "c_bar"), [(1.0, 1.0), (2.0, 0.7), (math.inf, math.inf)])
@pytest.mark.parametrize("lam", [1.0, 0.8])
def test_vtrace_is_its_definition(lam: float, rho_bar: float, c_bar: float) -> None:
    """v(s) = V(s) + sum over t of gamma^(t-s) (product of c from s to t-1) rho_t delta_t."""
    rewards, values, ends, bootstrap, log_ratios = random_rollout(1)
    r, d, ratio = (x.flatten().tolist() for x in (rewards, ends, log_ratios.exp()))
    v = [*values.flatten().tolist(), bootstrap.item()]
    steps, gamma = len(r), 0.9
    expected = []
    for s in range(steps):
        total, weight = v[s], 1.0
        for t in range(s, steps):
            after = 0.0 if d[t] else v[t + 1]
            total += weight * min(rho_bar, ratio[t]) * (r[t] + gamma * after - v[t])
            weight *= 0.0 if d[t] else gamma * lam * min(c_bar, ratio[t])
        expected.append(total)
    targets, advantages = vtrace(
        rewards, values, ends, bootstrap, log_ratios, gamma, lam, rho_bar, c_bar
    )
    assert targets.flatten().tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    # the advantage: rho times the error of the value, seen with the target of the next step
    expected.append(v[-1])
    for s in range(steps):
        after = 0.0 if d[s] else lam * expected[s + 1] + (1 - lam) * v[s + 1]
        wanted = min(rho_bar, ratio[s]) * (r[s] + gamma * after - v[s])
        assert advantages[s].item() == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def leaves() -> tuple[Tensor, Tensor, Tensor]:
    """log_probs, entropies and values [2, 1], as leaves of a graph."""
    log_probs = column(-1.0, -2.0).requires_grad_()
    entropies = column(0.5, 0.7).requires_grad_()
    return log_probs, entropies, column(3.0, 5.0).requires_grad_()


def test_normalized_advantages() -> None:
    found = normalized(torch.tensor([[3.0, 5.0], [7.0, 9.0]]))
    torch.testing.assert_close(found, torch.tensor([[-3.0, -1.0], [1.0, 3.0]]) / 5**0.5)
    for same in (7.3, -0.1, 1e4 / 3):  # whose mean is rounded
        assert normalized(torch.full((20, 16), same)).abs().max() <= 1
    tiny = normalized(1e-6 * torch.tensor([[1.0], [-1.0]]))  # as where there are no rewards
    assert tiny.std(correction=0).item() == pytest.approx(1.0, rel=0.02)


def deviation(advantages: Tensor) -> float:
    return advantages.std(correction=0).item()


def test_advantages_closer_than_the_floor_are_spread_around_their_mean() -> None:
    pattern = torch.tensor([[3.0, 5.0], [7.0, 9.0]]) / 5**0.5  # of deviation 1
    for apart in (0.1001, 0.5, 3.0):
        assert torch.equal(spread(apart * pattern, 0.1), apart * pattern)
    for apart, wanted in ((0.09, 0.1054), (0.025, 0.2), (0.001, 1.0), (1e-5, 1.0)):
        found = spread(apart * pattern, 0.1)
        assert deviation(found) == pytest.approx(wanted, rel=0.002)
        assert found.mean().item() == pytest.approx(apart * pattern.mean().item(), abs=1e-6)
        torch.testing.assert_close((found - found.mean()) / deviation(found), pattern - 6 / 5**0.5)
    assert deviation(spread(0.1 * pattern, 0.4)) == pytest.approx(0.8)
    assert deviation(spread(0.5 * pattern, 4.0)) == pytest.approx(4.0)
    assert torch.equal(spread(torch.zeros(4, 2), 0.1), torch.zeros(4, 2))
    for same in (0.0, 2e-4, 7.3):
        alike = torch.full((20, 16), same)
        for advantages in (alike, alike[:1, :1]):  # also of an update of one agent step
            assert (spread(advantages, 0.1) - same).abs().max() <= 1


@pytest.mark.parametrize(("reduction", "divisor"), [("mean", 2.0), ("sum", 1.0)])
def test_loss_and_gradients_by_hand(reduction: str, divisor: float) -> None:
    log_probs, entropies, values = leaves()
    advantages, returns = column(2.0, -1.0), column(4.0, 3.0)
    total, shown = actor_critic_loss(
        log_probs, entropies, values, advantages, returns, 0.1, 0.5, reduction
    )
    # policy: -(-1*2 + -2*-1) = 0;  value: (4-3)^2 + (3-5)^2 = 5;  entropy: 1.2
    assert shown["policy_loss"].item() == pytest.approx(0.0)
    assert shown["value_loss"].item() == pytest.approx(5.0 / divisor)
    assert total.item() == pytest.approx((0.0 + 0.5 * 5.0 - 0.1 * 1.2) / divisor)
    assert shown["entropy"].item() == pytest.approx(0.6)
    total.backward()
    assert log_probs.grad is not None
    assert values.grad is not None
    assert entropies.grad is not None
    torch.testing.assert_close(log_probs.grad, column(-2.0, 1.0) / divisor)
    torch.testing.assert_close(values.grad, 0.5 * 2 * column(-1.0, 2.0) / divisor)
    torch.testing.assert_close(entropies.grad, column(-0.1, -0.1) / divisor)


def test_the_actor_does_not_teach_the_critic() -> None:
    log_probs, entropies, values = leaves()
    returns = column(4.0, 3.0)
    total, _ = actor_critic_loss(
        log_probs, entropies, values, returns - values, returns, 0.0, 0.0, "sum"
    )
    total.backward()
    assert values.grad is not None
    assert values.grad.abs().sum() == 0
