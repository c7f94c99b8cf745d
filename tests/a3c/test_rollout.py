"""collect(): what the optimiser sees, frame stacking, the LSTM's state, whole-game returns."""

import numpy as np
import pytest
import torch
from torch import Tensor

from a3c.config import Config, preset
from a3c.envs.protocol import Array, Step
from a3c.metrics import Stopwatch
from a3c.network import ActorCritic
from a3c.rollout import Agents, Game, Rollout, Upload, collect
from tests.scripted import VECTOR, Scripted, step

CPU = torch.device("cpu")


def config_for(steps: list[Step], **changes: object) -> Config:
    return preset("control", rollout_length=len(steps), **changes)


def run(
    steps: list[Step], config: Config, network: ActorCritic | None = None
) -> tuple[Rollout, list[Game], Agents]:
    """One rollout over scripted steps."""
    envs = Scripted(steps)
    network = network or ActorCritic(config, VECTOR)
    network.prepare()
    network.remember(config.rollout_length, envs.num_envs)
    agents = start(envs, network)
    upload, generator = Upload(CPU, False), torch.Generator()
    rollout, games = collect(envs, network, agents, upload, generator, config, Stopwatch())
    return rollout, games, agents


def start(envs: Scripted, network: ActorCritic) -> Agents:
    n = envs.num_envs
    return Agents(
        torch.from_numpy(envs.reset(0)),
        network.initial_state(n, CPU),
        np.zeros(n),
        np.zeros(n, np.int64),
    )


def test_rewards_are_clipped_for_the_optimiser_and_never_in_the_return() -> None:
    steps = [step([7, -3]), step([0, 2], terminated=[True, False])]
    rollout, games, agents = run(steps, config_for(steps, clip_rewards=True))
    assert rollout.rewards.tolist() == [[1, -1], [0, 1]]
    assert games == [Game(7.0, 2)]
    assert agents.returns.tolist() == [0.0, -1.0]
    assert agents.lengths.tolist() == [0, 2]


@pytest.mark.parametrize("life_loss_terminal", [True, False])
def test_a_lost_life_ends_nothing_but_the_optimisers_episode(life_loss_terminal: bool) -> None:
    steps = [step([1], life_lost=[True]), step([1], terminated=[True])]
    config = config_for(steps, life_loss_terminal=life_loss_terminal)
    rollout, games, _ = run(steps, config)
    assert rollout.dones.tolist() == [[float(life_loss_terminal)], [1.0]]
    assert games == [Game(2.0, 2)]


def test_a_game_that_ends_is_followed_by_the_next_in_the_same_rollout() -> None:
    steps = [step([1], terminated=[True]), step([2], terminated=[True]), step([4])]
    _, games, agents = run(steps, config_for(steps))
    assert games == [Game(1.0, 1), Game(2.0, 1)]
    assert agents.returns.tolist() == [4.0]


def value_of(network: ActorCritic, observation: list[float]) -> float:
    with torch.no_grad():
        return float(network(torch.tensor([observation]), None)[1])


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
    network = ActorCritic(config, VECTOR)
    rollout, _, _ = run(steps, config, network)
    assert rollout.rewards[0, 0] == 1
    assert rollout.rewards[0, 2] == 1
    expected = 1 + 0.5 * value_of(network, [3.0, 4.0])
    assert expected != 1
    assert rollout.rewards[0, 1].item() == pytest.approx(expected)
    assert rollout.dones[0].tolist() == [1, 1, 1]
    # and the rollout itself from the observation after its last step
    assert rollout.bootstrap.tolist() == pytest.approx([value_of(network, [9.0, 9.0])] * 3)


def test_stacking_pushes_the_newest_frame_and_starts_afresh() -> None:
    upload = Upload(CPU, stacked=True)
    frames = np.random.default_rng(0).integers(0, 256, (6, 2, 5, 3), np.uint8)  # [t, N, H, W]
    stack = upload.observations(frames[0])
    assert stack.shape == (2, 5, 3, 4)
    assert stack.dtype == torch.uint8
    black = np.zeros((3, 5, 3), np.uint8)
    expect(stack, 0, np.stack([*black, frames[0, 0]]))
    for t in range(1, 5):
        stack = upload.next_observations(stack, frames[t], np.array([False, False]))
    expect(stack, 0, frames[1:5, 0])
    expect(stack, 1, frames[1:5, 1])
    stack = upload.next_observations(stack, frames[5], np.array([False, True]))
    expect(stack, 0, frames[2:6, 0])
    expect(stack, 1, np.stack([*black, frames[5, 1]]))


def test_whole_stacks_are_taken_as_they_are() -> None:
    upload = Upload(CPU, stacked=True)
    stacks = np.random.default_rng(0).integers(0, 256, (2, 5, 3, 4), np.uint8)
    assert np.array_equal(upload.observations(stacks).numpy(), stacks)
    before = torch.zeros(2, 5, 3, 4, dtype=torch.uint8)
    assert np.shares_memory(upload.next_observations(before, stacks).numpy(), stacks)


def expect(stack: Tensor, agent: int, frames: Array) -> None:
    """The agent's stack [H, W, 4] holds these frames [4, H, W], oldest first."""
    assert np.array_equal(stack[agent].numpy(), np.moveaxis(frames, 0, -1))


def test_the_lstm_is_carried_between_rollouts_and_reset_where_an_episode_ends() -> None:
    steps = [step([0, 0]), step([0, 0], terminated=[True, False])]
    config = config_for(steps, recurrent=True)
    network = ActorCritic(config, VECTOR)
    _, _, agents = run(steps, config, network)
    assert agents.state is not None
    hidden, cell = agents.state
    assert hidden[0].abs().sum() == cell[0].abs().sum() == 0
    state = network.initial_state(1, CPU)
    for _ in range(2):
        with torch.no_grad():
            state = network(torch.zeros(1, 2), state)[2]
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
        network = ActorCritic(config, VECTOR)
        rollout, _, _ = run(steps, config, network)
        assert network.core is not None
        rollout.values[1].sum().backward()
        weight = network.core.weight_hh.grad
        assert weight is not None
        return float(weight.abs().sum())

    # weight_hh meets a state other than zero only if the first step's state reaches the second
    assert gradient(ended=False) > 0
    assert gradient(ended=True) == 0


def test_the_rollout_carries_the_learners_graph() -> None:
    steps = [step([1, 0]), step([0, 1])]
    config = config_for(steps)
    network = ActorCritic(config, VECTOR)
    rollout, _, _ = run(steps, config, network)
    assert rollout.log_probs.shape == rollout.values.shape == rollout.rewards.shape == (2, 2)
    (rollout.log_probs.sum() + rollout.values.sum()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert not rollout.bootstrap.requires_grad


@pytest.mark.parametrize("recurrent", [True, False])
def test_learning_sees_what_acting_saw(recurrent: bool) -> None:
    random = np.random.default_rng(0)
    ends = [[False, False], [True, False], [False, True], [False, False]]
    seen = random.standard_normal((4, 2, 2)).astype(np.float32)
    steps = [step([0, 0], end, observations=o) for end, o in zip(ends, seen, strict=True)]
    config = config_for(steps, recurrent=recurrent)
    network = ActorCritic(config, VECTOR)
    rollout, _, _ = run(steps, config, network)
    state, observation, values = network.initial_state(2, CPU), np.zeros((2, 2), np.float32), []
    for end, after in zip(ends, seen, strict=True):
        with torch.no_grad():
            _, value, state = network(torch.from_numpy(observation), state)
        values.append(value)
        if state is not None:
            for agent in np.flatnonzero(end):
                state[0][agent] = state[1][agent] = 0
        observation = after
    torch.testing.assert_close(rollout.values.detach(), torch.stack(values))
