"""Acting and what a method makes of it: what the optimiser sees, the LSTM, whole-game returns."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from a3c.acting import Actor, Agents
from a3c.actor_learner import Figures, Learned
from a3c.config import Config
from a3c.envs.on_device import OnDevice
from a3c.envs.protocol import NumpyStep
from a3c.method import learning_ends, learning_rewards
from a3c.methods import A3C
from a3c.metrics import Episodes, FinishedEpisode
from a3c.network import Network, flatten
from a3c.presets import preset
from a3c.rollout import Rollout, Truncation
from a3c.shared import Applied
from tests.scripted import VECTOR, Scripted, step

CPU = torch.device("cpu")


def config_for(steps: list[NumpyStep], **changes: object) -> Config:
    return preset("control", rollout_length=len(steps), **changes)


def network_for(config: Config) -> Network:
    return Network(config, VECTOR, A3C(config))


def run(
    steps: list[NumpyStep], config: Config, network: Network | None = None
) -> tuple[Rollout, list[FinishedEpisode], Agents]:
    """One rollout over scripted steps."""
    envs = OnDevice(Scripted(steps), CPU)
    network = network or network_for(config)
    network.prepare()
    network.make_room(config.rollout_length, envs.num_envs)
    generator = torch.Generator()
    actor = Actor(envs, network, lambda out: A3C(config).act(network, out, generator))
    actor.reset(0)
    rollout = actor.rollout(config.rollout_length)
    return rollout, games_of(rollout), actor.agents


def games_of(rollout: Rollout, episodes: Episodes | None = None) -> list[FinishedEpisode]:
    """The games that ended, by the way that the log has them."""
    names, shown = ["entropy", "gradient_norm"], torch.tensor([0.5, 2.0])
    applied = Applied(3, torch.tensor(2.0), 0.1, 0.25)  # waited so long for the lock
    seconds = {"apply": 1.0, "waiting": 0.0}
    learned = [Learned.of(names, shown, applied, *seen) for seen in ((2, 3), (0, 2))]
    values, rewards, ended = Figures.of(rollout, learned, seconds, {"epsilon": 0.25}).read()
    assert (values["entropy"], values["gradient_norm"], values["epsilon"]) == (0.5, 2.0, 0.25)
    assert (values["policy_lag"], values["gradient_lag"]) == (2.0, 0.5)  # means of 1, 3 and 0, 1
    assert (values["seconds_apply"], values["seconds_waiting"]) == (0.5, 0.5)
    return (episodes or Episodes(rewards.shape[1])).count(rewards, ended)


def test_rewards_are_normalised_for_the_optimiser_and_never_in_the_return() -> None:
    steps = [step([7, -3]), step([0, 2], terminated=[True, False])]
    config = config_for(steps, normalize=True)
    network = network_for(config)
    assert network.return_std is not None
    network.return_std.fill_(2)
    rollout, _, _ = run(steps, config, network)
    found = learning_rewards(rollout, config, network, by(network))
    assert found.tolist() == [[3.5, -1.5], [0, 1]]
    assert games_of(rollout) == [FinishedEpisode(7.0, 2)]


def test_rewards_are_clipped_for_the_optimiser_and_never_in_the_return() -> None:
    steps = [step([7, -0.5]), step([0, 0.25], terminated=[True, False])]
    config = config_for(steps, clip_rewards=True)
    rollout, _, _ = run(steps, config)
    network = network_for(config)
    found = learning_rewards(rollout, config, network, by(network))
    assert found.tolist() == [[1, -1], [0, 1]]
    assert rollout.rewards.tolist() == [[7, -0.5], [0, 0.25]]
    episodes = Episodes(2)
    assert games_of(rollout, episodes) == [FinishedEpisode(7.0, 2)]
    assert episodes.returns.tolist() == [0.0, -0.25]
    assert episodes.lengths.tolist() == [0, 2]


@pytest.mark.parametrize("life_loss_terminal", [True, False])
def test_a_lost_life_ends_nothing_but_the_optimisers_episode(life_loss_terminal: bool) -> None:
    steps = [step([1], life_lost=[True]), step([1], terminated=[True])]
    config = config_for(steps, life_loss_terminal=life_loss_terminal)
    rollout, games, _ = run(steps, config)
    assert learning_ends(rollout, config).tolist() == [[float(life_loss_terminal)], [1.0]]
    assert games == [FinishedEpisode(2.0, 2)]


def test_a_game_that_ends_is_followed_by_the_next_in_the_same_rollout() -> None:
    steps = [step([1], terminated=[True]), step([2], terminated=[True]), step([4])]
    rollout, _, _ = run(steps, config_for(steps))
    episodes = Episodes(1)
    assert games_of(rollout, episodes) == [FinishedEpisode(1.0, 1), FinishedEpisode(2.0, 1)]
    assert episodes.returns.tolist() == [4.0]


def value_of(network: Network, observation: list[float]) -> float:
    (_, value), _ = network(torch.tensor([observation]), None)
    return float(value)


def by(network: Network) -> Callable[[Truncation], torch.Tensor]:
    """The values of what was cut short."""
    return lambda cut: network(cut.observations, None)[0][1]


def test_truncation_is_bootstrapped_from_the_final_observation_and_termination_is_not() -> None:
    final = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)
    steps = [
        step(
            [1, 1, 1],
            terminated=[True, False, True],
            truncated=[False, True, True],
            final=final,
            observations=np.full((3, 2), 9, np.float32),
        )
    ]
    config = config_for(steps, gamma=0.5)
    network = network_for(config)
    rollout, _, _ = run(steps, config, network)
    rewards = learning_rewards(rollout, config, network, by(network))
    assert rewards[0, 0] == 1
    assert rewards[0, 2] == 1
    expected = 1 + 0.5 * value_of(network, [3.0, 4.0])
    assert expected != 1
    assert rewards[0, 1].item() == pytest.approx(expected)
    assert rollout.rewards.tolist() == [[1, 1, 1]]  # a fact stays as it was
    assert learning_ends(rollout, config)[0].tolist() == [1, 1, 1]
    # and the rollout itself goes on from the observation after its last step
    assert rollout.last_observations.tolist() == [[9.0, 9.0]] * 3


def test_an_end_that_is_no_truncation_needs_no_final_observation() -> None:
    steps = [step([1], terminated=[True], final=np.ones((1, 2), np.float32))]
    rollout, _, _ = run(steps, config_for(steps))
    assert rollout.truncations == []


def test_a_rollout_begins_with_the_state_that_the_one_before_ended_with() -> None:
    """For acting, and for learning, which computes it anew."""
    steps = [step([0], observations=np.full((1, 2), i, np.float32)) for i in range(4)]
    config = preset("control", rollout_length=2, recurrent=True)
    network = network_for(config)
    network.prepare()
    network.make_room(2, 1)
    envs, generator = OnDevice(Scripted(steps), CPU), torch.Generator()
    actor = Actor(envs, network, lambda out: A3C(config).act(network, out, generator))
    actor.reset(0)
    actor.rollout(2)
    assert actor.agents.state is not None
    between = [part.clone() for part in actor.agents.state]
    second = actor.rollout(2)
    assert second.state is not None
    for part, begins in zip(between, second.state, strict=True):
        assert part.abs().sum() > 0
        assert torch.equal(part, begins)
    (policy, _), _ = network.recall(second.state, second.not_ended)
    torch.testing.assert_close(policy, second.policies)


def test_the_lstm_is_carried_from_step_to_step_and_reset_where_an_episode_ends() -> None:
    steps = [step([0, 0]), step([0, 0], terminated=[True, False])]
    config = config_for(steps, recurrent=True)
    network = network_for(config)
    _, _, agents = run(steps, config, network)
    assert agents.state is not None
    hidden, cell = agents.state
    assert hidden[0].abs().sum() == cell[0].abs().sum() == 0
    state = network.initial_state(1, CPU)
    for _ in range(2):
        state = network(torch.zeros(1, 2), state)[1]
    assert state is not None
    torch.testing.assert_close(hidden[1], state[0][0])
    torch.testing.assert_close(cell[1], state[1][0])


def test_a_lost_life_does_not_reset_the_lstm() -> None:
    steps = [step([0], life_lost=[True])]
    _, _, agents = run(steps, config_for(steps, recurrent=True))
    assert agents.state is not None
    assert agents.state[0].abs().sum() > 0


def test_the_gradient_flows_back_through_the_rollout_but_not_across_an_end() -> None:
    def gradient(ended: bool) -> float:
        steps = [step([0], terminated=[ended]), step([0])]
        config = config_for(steps, recurrent=True)
        network = network_for(config)
        rollout, _, _ = run(steps, config, network)
        values_of(network, rollout)[1].sum().backward()
        weight = network.get_parameter("cores.0.weight_hh").grad
        assert weight is not None
        return float(weight.abs().sum())

    # weight_hh meets a state other than zero only if the first step's state reaches the second
    assert gradient(ended=False) > 0
    assert gradient(ended=True) == 0


def values_of(network: Network, rollout: Rollout) -> torch.Tensor:
    """[T, N], with their graph."""
    return network.recall(rollout.state, rollout.not_ended)[0][1]


def test_a_rollout_has_no_graph_and_the_loss_reaches_every_parameter() -> None:
    steps = [step([1, 0], observations=np.ones((2, 2), np.float32)), step([0, 1])]
    config = config_for(steps)
    network = network_for(config)
    rollout, _, _ = run(steps, config, network)
    assert rollout.policies.shape == (2, 2, 3)
    assert rollout.actions.shape == rollout.rewards.shape == rollout.ended.shape == (2, 2)
    assert not rollout.policies.requires_grad
    losses = A3C(config).loss(network, None, rollout)
    losses.total.backward()
    learned = [each for each in network.parameters() if each.requires_grad]
    assert all(each.grad is not None and each.grad.any() for each in learned)
    assert set(losses.shown) == {"policy_loss", "value_loss", "entropy"}
    assert not any(scalar.requires_grad for scalar in losses.shown.values())


@pytest.mark.parametrize("recurrent", [True, False])
def test_learning_sees_what_acting_saw(recurrent: bool) -> None:
    random = np.random.default_rng(0)
    ends = [[False, False], [True, False], [False, True], [False, False]]
    seen = random.standard_normal((4, 2, 2)).astype(np.float32)
    steps = [step([0, 0], end, observations=o) for end, o in zip(ends, seen, strict=True)]
    config = config_for(steps, recurrent=recurrent)
    network = network_for(config)
    rollout, _, _ = run(steps, config, network)
    state, observation, values = network.initial_state(2, CPU), np.zeros((2, 2), np.float32), []
    for end, after in zip(ends, seen, strict=True):
        (_, value), state = network(torch.from_numpy(observation), state)
        values.append(value)
        if state is not None:
            for agent in np.flatnonzero(end):
                state[0][agent] = state[1][agent] = 0
        observation = after
    torch.testing.assert_close(values_of(network, rollout).detach(), torch.stack(values))


def test_a_part_of_a_rollout_is_what_these_agents_would_have_had_alone() -> None:
    final = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    steps = [
        step([1, 2, 3], truncated=[False, True, True], final=final),
        step([4, 5, 6], terminated=[True, False, False]),
    ]
    config = config_for(steps, recurrent=True)
    rollout, _, _ = run(steps, config)
    before = torch.rand(3, 256), torch.rand(3, 256)  # of a first rollout it is 0
    rollout = rollout._replace(state=before)
    part = rollout.of(torch.tensor([2, 0]))
    assert part.rewards.tolist() == [[3, 1], [6, 4]]
    assert part.truncated.tolist() == [[True, False], [False, False]]
    assert part.terminated.tolist() == [[False, False], [False, True]]
    assert torch.equal(part.ended, rollout.ended[:, [2, 0]])
    assert torch.equal(part.life_lost, rollout.life_lost[:, [2, 0]])
    assert torch.equal(part.policies, rollout.policies[:, [2, 0]])
    assert torch.equal(part.actions, rollout.actions[:, [2, 0]])
    assert torch.equal(part.last_observations, rollout.last_observations[[2, 0]])
    assert part.state is not None
    assert torch.equal(part.state[0], before[0][[2, 0]])
    assert torch.equal(part.state[1], before[1][[2, 0]])
    (whole,), (cut,) = rollout.truncations, part.truncations
    assert cut.t == whole.t == 0
    assert torch.equal(cut.observations, whole.observations[[2, 0]])


def test_a_normalised_reward_is_joined_by_a_value_that_is_not_divided() -> None:
    steps = [step([6], truncated=[True], final=np.array([[3, 4]], np.float32))]
    config = config_for(steps, gamma=0.5, normalize=True, clip_rewards=True)
    network = network_for(config)
    assert network.return_std is not None
    network.return_std.fill_(2)
    rollout, _, _ = run(steps, config, network)
    found = learning_rewards(rollout, config, network, lambda _: torch.tensor([10.0]))
    assert found.tolist() == [[0.5 + 5]]


def test_with_an_lstm_values_of_what_follows_are_those_of_its_memory_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the rollout, and where an episode was cut off."""
    final, seen = np.array([[1, 2]], np.float32), np.array([[3, -1]], np.float32)
    steps = [
        step([0], observations=seen),
        step([0], truncated=[True], final=final, observations=seen),
        step([0], observations=seen),
    ]
    config = config_for(steps, recurrent=True)
    network = network_for(config)
    parameters, _ = flatten(network)
    parameters += 0.3 * torch.randn(len(parameters), generator=torch.manual_seed(1))
    rollout, _, _ = run(steps, config, network)
    asked: list[Any] = []
    forward = network.forward

    def noted(observations: torch.Tensor, state: Any) -> Any:
        asked.append((observations, state))
        return forward(observations, state)

    monkeypatch.setattr(network, "forward", noted)
    A3C(config).loss(network, None, rollout)
    before = network.initial_state(1, CPU)
    for observations in (np.zeros((1, 2), np.float32), seen):
        _, before = forward(torch.from_numpy(observations), before)
    _, after = forward(torch.from_numpy(seen), network.initial_state(1, CPU))
    (last, at_end), (cut, at_cut) = asked
    assert (last.tolist(), cut.tolist()) == (seen.tolist(), final.tolist())
    torch.testing.assert_close(at_end, after)
    torch.testing.assert_close(at_cut, before)


def test_agents_that_stay_keep_their_memory() -> None:
    steps = [step([0, 0, 0])]
    config = config_for(steps, recurrent=True)
    network = network_for(config)
    _, _, agents = run(steps, config, network)
    actor = Actor(OnDevice(Scripted(steps), CPU), network, lambda out: out[0])
    agents.state = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[4.0], [5.0], [6.0]])
    actor.go_on(agents)
    actor.keep(torch.tensor([1, 2]))
    assert actor.agents.state is not None
    assert [each.flatten().tolist() for each in actor.agents.state] == [[2, 3], [5, 6]]
