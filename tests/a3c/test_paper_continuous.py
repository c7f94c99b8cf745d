"""The paper's networks for continuous control: nothing is shared, each has its own LSTM."""

from pathlib import Path

import pytest
import torch
from torch import distributions

from a3c.envs.protocol import Spec
from a3c.errors import InputError
from a3c.heads import Gaussian
from a3c.methods import A3C
from a3c.network import Network, flatten, layout
from a3c.presets import preset
from a3c.train import train
from tests.a3c.test_train import equal, final, stop_after

SPEC = Spec((3,), pixels=False, stacked=False, discrete=False, num_actions=2)


def network_for() -> Network:
    config = preset("paper-continuous", env="Pendulum-v1")
    return Network(config, SPEC, A3C(config))


def test_the_network_has_its_published_sizes() -> None:
    # each: 3*200+200, LSTM 4*128*(200+128+2); mean 128*2+2, variance 128+1; value 128+1
    each = 800 + 4 * 128 * 330
    assert sum(piece.size for piece in layout(network_for())) == 2 * each + 258 + 129 + 129


def rollout(network: Network) -> tuple[torch.Tensor, torch.Tensor]:
    """Parameters of the policy and values, [T, N, ...], learned as they were acted."""
    seen = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    network.prepare()
    network.make_room(4, 2)
    state = first = network.initial_state(2, torch.device("cpu"))
    acted = []
    for t, observations in enumerate(seen):
        outputs, state = network(observations, state, t)
        acted.append(outputs)
    (policies, values), _ = network.recall(first, torch.ones(4, 2))
    for found, steps in zip((policies, values), zip(*acted, strict=True), strict=True):
        torch.testing.assert_close(found, torch.stack(steps))
    assert state is not None
    assert state[0].shape == state[1].shape == (2, 2 * 128)
    return policies, values


def test_learning_sees_what_acting_saw() -> None:
    policies, values = rollout(network_for())
    assert (policies.shape, values.shape) == ((4, 2, 4), (4, 2))


def test_policy_and_value_share_no_parameter() -> None:
    network = network_for()
    _, gradients = flatten(network)
    touched = []
    for i in (0, 1):
        gradients.zero_()
        rollout(network)[i].sum().backward()
        touched.append(gradients != 0)
    assert touched[0].any()
    assert touched[1].any()
    assert not (touched[0] & touched[1]).any()


def test_an_episodes_end_clears_both_memories() -> None:
    network = network_for()
    rollout(network)
    state = torch.randn(2, 256), torch.randn(2, 256)
    not_ended = torch.ones(4, 2)
    not_ended[1] = 0
    ended, _ = network.recall(state, not_ended)
    afresh, _ = network.recall(network.initial_state(2, torch.device("cpu")), not_ended)
    for one, other in zip(ended, afresh, strict=True):
        assert not torch.equal(one[:2], other[:2])
        torch.testing.assert_close(one[2:], other[2:])


def test_the_variance_is_one_softplus_for_all_actions() -> None:
    head = Gaussian(8, 3, "softplus")
    assert head.variance is not None
    with torch.no_grad():
        head.variance.weight.zero_()
        head.variance.bias.fill_(2.0)
    parameters = head(torch.randn(5, 8))
    mean, log_std = parameters.chunk(2, -1)
    variance = torch.tensor(2.0).exp().add(1).log()  # log(1 + e^2) = 2.1269
    torch.testing.assert_close(log_std.exp().square(), variance.expand(5, 3), rtol=1e-4, atol=0)
    oracle = distributions.Normal(mean, variance.sqrt().expand(5, 3))
    # the paper's entropy: (log(2 pi sigma^2) + 1) / 2 for each action
    torch.testing.assert_close(head.entropy(parameters), oracle.entropy().sum(-1))


def test_a_variance_of_nothing_is_still_finite() -> None:
    head = Gaussian(8, 3, "softplus")
    assert head.variance is not None
    with torch.no_grad():
        head.variance.bias.fill_(-1e4)
    parameters = head(torch.randn(5, 8))
    parameters.sum().backward()
    assert parameters.isfinite().all()
    log_std = parameters.detach().chunk(2, -1)[1]
    assert log_std.exp().square().max().item() == pytest.approx(1e-6, rel=1e-3)
    assert head.variance.weight.grad is not None
    assert head.variance.weight.grad.isfinite().all()


def test_it_trains_and_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = preset(
        "paper-continuous", env="Pendulum-v1", num_threads=1, num_envs=2, rollout_length=8,
        total_agent_steps=320, runs_dir=str(tmp_path),
    )  # fmt: skip
    whole = train(config, quiet=True)
    with monkeypatch.context() as patch:
        stop_after(patch, updates=9)
        part = train(config, quiet=True)
    assert equal(final(whole), final(train(config, resume=part.folder, quiet=True)))


@pytest.mark.parametrize("network", ["mlp", "paper-vector"])
def test_networks_for_vectors_read_no_images(network: str, tmp_path: Path) -> None:
    expected = f"--network {network} reads vectors; breakout needs paper or seed or slim or nature"
    with pytest.raises(InputError, match=expected):
        train(preset("fast", network=network, num_threads=1, runs_dir=str(tmp_path)), quiet=True)
    config = preset("control", env="CartPole-v1", network="seed", runs_dir=str(tmp_path))
    with pytest.raises(InputError, match=r"--network seed reads images; .* needs mlp or paper-vec"):
        train(config, quiet=True)
