"""NumPy environments as tensors.

On a CPU whole images are used where they lie, vectors are copied, and newest frames are pushed onto
the stack.
"""

import numpy as np
import torch
from torch import Tensor

from a3c.envs.on_device import OnDevice
from a3c.envs.protocol import Array, Spec
from tests.scripted import Scripted, step

CPU = torch.device("cpu")
FRAMES = Spec((5, 3, 4), pixels=True, stacked=True, discrete=True, num_actions=3)
ACTIONS = torch.zeros(2, dtype=torch.int64)


def expect(stack: Tensor, agent: int, frames: Array) -> None:
    """The agent's stack [H, W, 4] holds these frames [4, H, W], oldest first."""
    assert np.array_equal(stack[agent].numpy(), np.moveaxis(frames, 0, -1))


def test_stacking_pushes_the_newest_frame_and_starts_afresh() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, 2, 5, 3), np.uint8)  # [t, N, H, W]
    ends = [[False, False]] * 4 + [[False, True]]
    steps = [
        step([0, 0], end, observations=seen, final=seen)
        for end, seen in zip(ends, frames[1:], strict=True)
    ]
    envs = OnDevice(Scripted(steps, FRAMES), CPU)
    black = np.zeros((3, 5, 3), np.uint8)
    first = envs.reset(0)  # Scripted starts with black frames
    assert first.shape == (2, 5, 3, 4)
    assert first.dtype == torch.uint8
    stack = envs.step(ACTIONS).observations
    expect(stack, 0, np.stack([*black, frames[1, 0]]))
    for _ in range(3):
        stack = envs.step(ACTIONS).observations
    expect(stack, 0, frames[1:5, 0])
    expect(stack, 1, frames[1:5, 1])
    stack = envs.step(ACTIONS).observations
    expect(stack, 0, frames[2:6, 0])
    expect(stack, 1, np.stack([*black, frames[5, 1]]))


def test_the_final_stack_of_a_truncated_game_goes_on_from_the_one_before() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 2, 5, 3), np.uint8)
    cut = [False, True]
    steps = [
        step([0, 0], observations=frames[0]),
        step([0, 0], truncated=cut, observations=frames[1], final=frames[2]),
    ]
    envs = OnDevice(Scripted(steps, FRAMES), CPU)
    envs.reset(0)
    envs.step(ACTIONS)
    outcome = envs.step(ACTIONS)
    assert outcome.ended.tolist() == outcome.truncated.tolist() == cut
    assert outcome.final_observations is not None
    black = np.zeros((2, 5, 3), np.uint8)
    expect(outcome.final_observations, 1, np.stack([*black, frames[0, 1], frames[2, 1]]))
    expect(outcome.observations, 1, np.stack([*black, black[0], frames[1, 1]]))
    expect(outcome.observations, 0, np.stack([*black, frames[0, 0], frames[1, 0]]))


def test_agents_that_stay_keep_their_frames() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 3), np.uint8)
    scripted = Scripted([step([0] * 3, observations=frames[0])], FRAMES)
    envs = OnDevice(scripted, CPU)
    envs.reset(0)
    envs.step(torch.zeros(3, dtype=torch.int64))
    envs.keep(torch.tensor([1, 2]))
    scripted.steps.append(step([0] * 2, observations=frames[1, 1:]))
    stack = envs.step(ACTIONS).observations
    black = np.zeros((2, 5, 3), np.uint8)
    expect(stack, 0, np.stack([*black, frames[0, 1], frames[1, 1]]))


def test_whole_stacks_are_taken_as_they_are() -> None:
    stacks = np.random.default_rng(0).integers(0, 256, (2, 5, 3, 4), np.uint8)
    envs = OnDevice(Scripted([step([0, 0], observations=stacks)], FRAMES), CPU)
    envs.reset(0)
    assert np.shares_memory(envs.step(ACTIONS).observations.numpy(), stacks)


def test_flags_and_rewards_are_those_of_the_environments() -> None:
    steps = [step([7, -0.5], [True, False], [False, True], [False, False], final=np.zeros((2, 2)))]
    outcome = OnDevice(Scripted(steps), CPU).envs.step(ACTIONS.numpy())
    envs = OnDevice(Scripted(steps), CPU)
    envs.reset(0)
    found = envs.step(ACTIONS)
    assert found.rewards.tolist() == outcome.rewards.tolist() == [7, -0.5]
    assert found.terminated.tolist() == [True, False]
    assert found.truncated.tolist() == [False, True]
    assert found.ended.tolist() == [True, True]
    assert found.life_lost.tolist() == [False, False]


def test_memory_for_agents_that_have_left_is_given_back() -> None:
    """Pinned memory, on a GPU: of every number of games that there has been."""
    steps = [step([0] * 5, observations=np.zeros((5, 5, 3), np.uint8)) for _ in range(3)]
    scripted = Scripted(steps, FRAMES)
    envs = OnDevice(scripted, CPU)
    envs.reset(0)
    envs.step(torch.zeros(5, dtype=torch.int64))
    before = len(envs.ways)
    envs.keep(torch.tensor([0, 2, 3, 4]))
    scripted.steps[1:] = [step([0] * 4, observations=np.zeros((4, 5, 3), np.uint8))]
    envs.step(torch.zeros(4, dtype=torch.int64))
    assert len(envs.ways) <= before
