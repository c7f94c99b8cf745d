"""Gymnasium's environments behind the protocol: spaces, copies, ends, faults, exact states."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from a3c.envs import classic_control
from a3c.envs.coding import Coding, Unreadable
from a3c.envs.gymnasium import GymnasiumEnvs, gymnasium_spec
from a3c.envs.protocol import Array, EnvironmentFault, Spec
from a3c.errors import InputError
from a3c.games import GameEnvs

TWO = spaces.Discrete(2)
VECTOR = spaces.Box(-1, 1, (3,), np.float32)
ONE_SIDED = spaces.Box(np.array([0, -np.inf]), np.array([np.inf, 2]), dtype=np.float64)
BOOL: Any = np.bool_  # a kind of Box that Gymnasium's types leave out
IMAGE = spaces.Box(0, 255, (24, 24, 3), np.uint8)
BYTES = spaces.Box(0, 255, (4,), np.uint8)


class Told(gymnasium.Env[Any, Any]):
    """Shows and rewards what it is told, three steps an episode."""

    def __init__(self, observations: gymnasium.Space[Any], shown: list[Any], rewards: list[Any]):
        self.observation_space, self.action_space = observations, TWO
        self.shown, self.rewards, self.steps = shown, rewards, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.steps = 0
        return self.shown[0], {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.shown[self.steps], self.rewards[self.steps - 1], False, self.steps == 3, {}


class SameArray(gymnasium.Env[Any, Any]):
    """Counts its steps in one array, which all its instances show."""

    observation_space, action_space = spaces.Box(-100, 100, (1,), np.float32), TWO
    array = np.zeros(1, np.float32)

    def __init__(self, **kwargs: Any) -> None:
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.steps = 0
        return self.shown(0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.shown(self.steps + 10 * int(action)), 1.0, False, self.steps == 5, {}

    def shown(self, value: int) -> Array:
        self.array[0] = value
        return self.array


class OtherSpaces(Told):
    made = 0

    def __init__(self, **kwargs: Any) -> None:
        OtherSpaces.made += 1
        super().__init__(spaces.Discrete(2 + OtherSpaces.made), [0], [0])


def told(
    observations: gymnasium.Space[Any], shown: list[Any], rewards: list[Any], count: int = 2
) -> GymnasiumEnvs:
    """Environments of which the last is told this, and the others zeros."""
    made = iter(range(count))

    def make(**kwargs: Any) -> Told:
        zeros = np.zeros(observations.shape or (), observations.dtype)
        if next(made) == count - 1:
            return Told(observations, shown, rewards)
        return Told(observations, [zeros] * 4, [0.0] * 3)

    gymnasium.register("Told-v0", make, disable_env_checker=True)
    try:
        return GymnasiumEnvs("Told-v0", count)
    finally:
        gymnasium.registry.pop("Told-v0")


gymnasium.register("SameArray-v0", SameArray)
gymnasium.register("OtherSpaces-v0", OtherSpaces)


def test_cartpole_stands_again_where_it_fell() -> None:
    """Of what has terminated nobody learns further, so there is no final observation."""
    envs = GymnasiumEnvs("CartPole-v1", 2)
    envs.reset(seed=0)
    while True:
        step = envs.step(np.array([1, 0]))
        if step.terminated.any():
            break
    assert step.final_observations is None
    assert (np.abs(step.observations[step.terminated]) <= 0.05).all()


class Diverges(gymnasium.Env[Any, Any]):
    """Shows what is no number as it ends: agent 0 terminates after two steps, 1 is truncated."""

    observation_space, action_space = spaces.Box(-10, 10, (2,), np.float32), TWO
    agent = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.agent, self.steps = self.agent if seed is None else seed % 2, 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        done = self.steps == 2
        shown = np.full(2, np.nan if done and self.agent == 0 else self.steps, np.float32)
        return shown, 1.0, done and self.agent == 0, done, {}


def test_the_last_observation_of_what_terminated_may_be_anything() -> None:
    """Gymnasium's own end an episode because a number is not finite. Truncated at the same time or
    not, as here: it has ended for good."""
    gymnasium.register("Diverges-v0", cast(Any, Diverges))
    envs = GymnasiumEnvs("Diverges-v0", 2)
    gymnasium.registry.pop("Diverges-v0")
    envs.reset(0)
    envs.step(np.zeros(2, int))
    step = envs.step(np.zeros(2, int))
    assert step.terminated.tolist() == [True, False]
    assert step.truncated.tolist() == [True, True]
    assert step.observations.tolist() == [[0, 0], [0, 0]]
    assert step.final_observations is not None
    assert step.final_observations.tolist() == [[0, 0], [2, 2]]


def test_each_episode_begins_otherwise() -> None:
    envs = GymnasiumEnvs("CartPole-v1", 2)
    starts = [*envs.reset(0)]
    while len(starts) < 8:
        step = envs.step(np.array([1, 1]))
        starts += [*step.observations[step.terminated]]
    assert len(np.unique(starts, axis=0)) == len(starts)


def test_what_a_wrapper_remembers_is_not_saved() -> None:
    env = gymnasium.wrappers.FrameStackObservation(gymnasium.make("CartPole-v1"), 2)
    env.reset(seed=1)
    assert classic_control.save([env.env]) is not None
    assert classic_control.save([env]) is None


def test_an_environment_may_use_its_array_again() -> None:
    """Also one that it shares with the others: each agent has what was shown to it."""
    envs = GymnasiumEnvs("SameArray-v0", 2)
    assert envs.reset(0).tolist() == [[0], [0]]
    seen = [envs.step(np.array([0, 1])) for _ in range(6)]
    assert [step.observations.tolist() for step in seen[:4]] == [
        [[t], [t + 10]] for t in range(1, 5)
    ]
    assert seen[4].final_observations is not None
    assert seen[4].final_observations.tolist() == [[5], [15]]
    assert seen[4].observations.tolist() == [[0], [0]]
    assert seen[5].observations.tolist() == [[1], [11]]  # what was seen before stays as it was
    assert seen[5].final_observations is None


@pytest.mark.parametrize(
    "env",
    ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0"],
)
def test_classic_control_is_restored_exactly(env: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gymnasium.spec(env), "max_episode_steps", 100)
    ends = 0

    def steps(envs: GymnasiumEnvs, count: int) -> list[bytes]:
        nonlocal ends
        random, seen = np.random.default_rng(1), []
        for _ in range(count):
            shape = (3,) if envs.spec.discrete else (3, envs.spec.num_actions)
            actions = random.integers(0, 2, shape)
            step = envs.step(actions if envs.spec.discrete else actions.astype(np.float32))
            seen.append(b"".join(np.ascontiguousarray(a).tobytes() for a in step[:4]))
            ends += int((step.terminated | step.truncated).sum())
        return seen

    envs, other = GymnasiumEnvs(env, 3), GymnasiumEnvs(env, 3)
    envs.reset(seed=1)
    steps(envs, 57)
    state = envs.save_state()
    assert state is not None
    other.reset(seed=2)
    other.load_state(state)
    ends = 0
    assert steps(envs, 250) == steps(other, 250)  # through ends of episodes and new starts
    assert ends > 0


def test_classic_control_goes_on_with_copies() -> None:
    few, many = GymnasiumEnvs("CartPole-v1", 2), GymnasiumEnvs("CartPole-v1", 6)
    few.reset(seed=1)
    state = few.save_state()
    assert state is not None
    many.reset(seed=2)
    many.load_state(state)
    for t in range(60):  # ends of episodes included
        actions = np.array([t % 2, 1])
        expected, step = few.step(actions), many.step(np.tile(actions, 3))
        assert step.observations.tolist() == expected.observations.tolist() * 3
        assert step.terminated.tolist() == expected.terminated.tolist() * 3


def test_others_say_that_they_cannot_be_restored() -> None:
    assert GymnasiumEnvs("CliffWalking-v1", 1).save_state() is None


def test_discrete_observations_become_one_hot() -> None:
    envs = GymnasiumEnvs("CliffWalking-v1", 2)
    first = envs.reset(seed=0)
    assert first.shape == (2, 48)
    assert first.sum(1).tolist() == [1, 1]
    assert first.argmax(1).tolist() == [36, 36]
    assert (envs.spec.observation_shape, envs.spec.pixels, envs.spec.num_actions) == (
        (48,),
        False,
        4,
    )


def coding(observations: gymnasium.Space[Any], actions: gymnasium.Space[Any] = TWO) -> Coding:
    """Of these spaces, by way of a checkpoint's JSON."""
    spec = gymnasium_spec("Some-v0", observations, actions)
    stored = json.loads(json.dumps(dataclasses.asdict(spec), allow_nan=False))
    read = Spec(**{**stored, "observation_shape": tuple(stored["observation_shape"])})
    assert read == spec
    return Coding(read)


def test_large_discrete_observations_cost_no_square() -> None:
    """np.eye of this would be 40 TB."""
    space = spaces.Discrete(1_000_000, start=-3)
    encoded = coding(space).encode(np.array([-3, 999_996]))
    assert encoded.shape == (2, 1_000_000)
    assert encoded.argmax(1).tolist() == [0, 999_999]
    assert encoded.sum() == 2


@pytest.mark.parametrize(
    ("space", "given", "read"),
    [
        (spaces.Box(0, 255, (2,), np.uint8), [0, 51], [0, 0.2]),
        (spaces.Box(0, 255, (1, 2), np.uint8), [[255, 0]], [1, 0]),
        (spaces.Box(-128, 127, (1,), np.int8), [-128], [0]),
        (spaces.Box(np.array([-5, 0]), np.array([5, 4]), dtype=np.int32), [0, 1], [0.5, 0.25]),
        (spaces.Box(0, 2**16 - 1, (1,), np.uint16), [2**16 - 1], [1]),
        (spaces.Box(0, 1, (2,), BOOL), [True, False], [1, 0]),
        (spaces.Box(3, 3, (1,), np.int32), [3], [3]),  # bounds without a width
        (spaces.Box(0, 2**31 - 1, (1,), np.int32), [7], [7]),  # of the type, not of the values
        (spaces.Box(-(2**63), 2**63 - 2, (1,), np.int64), [7], [7]),
        (spaces.Box(0, 100, (2,), np.float32), [50, 100], [50, 100]),  # floats stay as they are
        (spaces.Box(-np.inf, np.inf, (2, 1), np.float64), [[0.25], [-3]], [0.25, -3]),
        (spaces.Box(0, 1, (), np.float32), 0.5, [0.5]),
    ],
)
def test_vectors(space: spaces.Box[Any], given: Any, read: list[float]) -> None:
    encoded = coding(space).encode(np.array([given], space.dtype))
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [pytest.approx(read)]


class Draws(gymnasium.Env[Any, Any]):
    """Draws what it shows, and what it does, from its spaces."""

    observation_space = spaces.Box(0.0, 1.0, (2,))
    action_space = spaces.Discrete(1000)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        drawn = [self.observation_space.sample()[0], self.action_space.sample() / 1000]
        return np.array(drawn, np.float32), {}


def test_environments_that_draw_from_their_spaces_follow_the_seed() -> None:
    gymnasium.register("Draws-v0", cast(Any, Draws))
    first, again, other = (GymnasiumEnvs("Draws-v0", 2).reset(seed) for seed in (5, 5, 9))
    gymnasium.registry.pop("Draws-v0")
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])


class DrawsFromAPart(gymnasium.Env[Any, Any]):
    """From a part of its observation space, and from its action space by another name."""

    def __init__(self) -> None:
        self.goal = spaces.Box(0.0, 1.0, (1,))
        self.observation_space = spaces.Dict({"goal": self.goal, "turn": spaces.Box(0, 1, (1,))})
        self.action_space = spaces.Discrete(1000)
        self.opponent = self.action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        turn = np.array([self.opponent.sample() / 1000], np.float32)
        return {"goal": self.goal.sample(), "turn": turn}, {}


def test_what_it_draws_from_a_part_of_a_space_follows_the_seed_too() -> None:
    flat = lambda **_: gymnasium.wrappers.FlattenObservation(DrawsFromAPart())  # noqa: E731
    gymnasium.register("Part-v0", flat)
    first, again, other = (GymnasiumEnvs("Part-v0", 2).reset(seed) for seed in (5, 5, 9))
    gymnasium.registry.pop("Part-v0")
    assert np.array_equal(first, again)
    assert not np.isclose(first, other).any()
    assert not np.isclose(first[0], first[1]).any()


class DrawsTwice(Draws):
    """From its own generator and from its spaces, one of which a wrapper hides."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        gymnasium.Env.reset(self, seed=seed)
        drawn = [self.np_random.uniform(), self.observation_space.sample()[0]]
        return np.array(drawn, np.float32), {}


def test_each_generator_has_a_seed_of_its_own() -> None:
    """With one seed for all, an environment and its space would draw the same numbers."""

    def make(**kwargs: Any) -> gymnasium.Env[Any, Any]:
        return gymnasium.wrappers.RescaleObservation(
            DrawsTwice(), np.zeros(2, np.float32), np.ones(2, np.float32)
        )

    gymnasium.register("DrawsTwice-v0", make)
    seen = [GymnasiumEnvs("DrawsTwice-v0", 3).reset(5) for _ in range(2)]
    gymnasium.registry.pop("DrawsTwice-v0")
    assert np.array_equal(seen[0], seen[1])  # the hidden space as well
    assert len(np.unique(seen[0])) == 6


class NoSpace(gymnasium.Env[Any, Any]):
    """Has its actions alone: what it shows is for a wrapper to say."""

    action_space = TWO

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return 7, {}


class Says(gymnasium.ObservationWrapper[Any, Any, Any]):
    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        self.observation_space = VECTOR

    def observation(self, observation: int) -> Array:
        return np.full(3, observation / 10, np.float32)


def test_a_wrapper_may_say_what_an_environment_does_not() -> None:
    gymnasium.register("Says-v0", lambda **kwargs: Says(NoSpace()), disable_env_checker=True)
    envs = GymnasiumEnvs("Says-v0", 1)
    gymnasium.registry.pop("Says-v0")
    assert envs.reset(1).tolist() == [[pytest.approx(0.7)] * 3]


def test_an_agent_draws_as_if_it_were_alone() -> None:
    """Though the space is its class's: else each seed would be that of the others as well."""
    gymnasium.register("Draws-v0", cast(Any, Draws))
    alone, three = GymnasiumEnvs("Draws-v0", 1), GymnasiumEnvs("Draws-v0", 3)
    gymnasium.registry.pop("Draws-v0")
    alone.reset(5)
    three.reset(5)
    one, other = (envs.envs[0].unwrapped.observation_space.sample() for envs in (alone, three))
    assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("shape", "read", "moved"),
    [
        ((84, 60, 3), (84, 60, 3), (0, 1, 2)),
        ((84, 60), (84, 60, 1), (0, 1)),
        ((3, 84, 60), (84, 60, 3), (1, 2, 0)),  # channels come first
        ((12, 84, 60), (84, 60, 12), (1, 2, 0)),  # four frames in colour
        ((20, 84, 60), (20, 84, 60), (0, 1, 2)),  # so many are a height
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_images(
    shape: tuple[int, ...], read: tuple[int, ...], moved: tuple[int, ...], dtype: type[Any]
) -> None:
    coded = coding(spaces.Box(0, 255, shape, dtype))
    assert coded.spec.pixels
    assert coded.spec.observation_shape == read
    image = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    encoded = coded.encode(np.stack([image, image]))
    assert encoded.dtype == np.uint8
    assert encoded.flags.c_contiguous
    assert np.array_equal(encoded[1], image.transpose(moved).reshape(read))


def test_bytes_in_three_dimensions_are_an_image_of_any_size() -> None:
    """Too small for a network, which says so; nothing is flattened without a word."""
    assert coding(spaces.Box(0, 255, (7, 9, 3), np.uint8)).spec.pixels


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (8, 9), np.uint8),  # a board
        spaces.Box(-np.inf, np.inf, (84, 84, 3), np.float32),
        spaces.Box(-1, 1, (50, 30), np.float32),  # a window of a time series
    ],
)
def test_what_lies_in_a_plane_and_is_a_vector(space: spaces.Box[Any]) -> None:
    assert coding(space).spec.observation_shape == (math.prod(space.shape),)


@pytest.mark.parametrize(
    ("observations", "actions", "complaint"),
    [
        (VECTOR, spaces.MultiDiscrete([2, 2]), "takes actions"),
        (VECTOR, spaces.MultiBinary(3), "takes actions"),
        (VECTOR, spaces.Box(0, 5, (2,), np.int32), "takes actions"),
        (spaces.Dict({"x": TWO}), TWO, "gives observations Dict.*FlattenObservation"),
        (spaces.Tuple([TWO]), TWO, "gives observations"),
        (spaces.MultiDiscrete([2, 2]), TWO, "gives observations"),
        (spaces.MultiBinary(3), TWO, "gives observations"),
        (spaces.Text(3), TWO, "gives observations"),
        (
            spaces.Box(0, 255, (4, 84, 84, 3), np.uint8),
            TWO,
            r"expected \[height, width, channels\]",
        ),
        (spaces.Box(0, 255, (2, 2, 2, 2), np.uint8), TWO, r"expected \[height, width, channels\]"),
        (spaces.Box(0, 1, (84, 84, 3), np.float32), TWO, "images of float32 from 0 to 1.*uint8"),
        (spaces.Box(-1, 1, (3, 84, 84), np.float32), TWO, "images of float32 from -1 to 1.*uint8"),
        (spaces.Box(0, 1, (84, 84), np.float32), TWO, "images of float32"),
        (spaces.Box(0, 1, (84, 84, 1), np.uint8), TWO, "images of uint8 from 0 to 1; expected"),
        (spaces.Box(0, 999, (84, 84, 3), np.int32), TWO, "images of int32 from 0 to 999"),
        (spaces.Discrete(2**40), TWO, "observations of size 1,099,511,627,776; expected 1 to"),
        (VECTOR, spaces.Discrete(2**40), "actions of size"),
        (spaces.Box(0, 1, (0,)), TWO, "observations of size 0"),
        (VECTOR, spaces.Box(0, 1, (0,)), "actions of size 0"),
    ],
)
def test_unsupported_spaces(
    observations: gymnasium.Space[Any], actions: gymnasium.Space[Any], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        gymnasium_spec("Some-v0", observations, actions)


def test_continuous_actions_are_clipped_on_their_way_out() -> None:
    envs = GymnasiumEnvs("Pendulum-v1", 2)
    decoded = envs.decode(np.array([[7.0], [-0.5]], np.float32))
    assert decoded.tolist() == [[2.0], [-0.5]]


@pytest.mark.parametrize(
    ("actions", "chosen", "taken"),
    [
        (spaces.Discrete(2, start=5), [0, 1], [5, 6]),
        (spaces.Discrete(3, start=-1), [0, 2], [-1, 1]),
        (spaces.Box(-0.1, 0.1, (1, 2), np.float64), [[5, -5]], [[[0.1, -0.1]]]),
        (ONE_SIDED, [[-3, 3]], [[0, 2]]),
        (spaces.Box(0, 1, (), np.float32), [[7]], [1]),
    ],
)
def test_actions_are_the_spaces(actions: gymnasium.Space[Any], chosen: Any, taken: Any) -> None:
    decoded = coding(VECTOR, actions).decode(np.array(chosen))
    assert decoded.tolist() == taken
    assert decoded.dtype == actions.dtype
    assert all(
        actions.contains(action if action.shape else np.asarray(action)) for action in decoded
    )


def play_an_episode(envs: GymnasiumEnvs) -> None:
    envs.reset(0)
    for _ in range(3):
        envs.step(np.zeros(envs.num_envs, int))


FOUR = [np.zeros(3, np.float32)] * 4
NAN, INFINITE = np.array([0, np.nan, 0], np.float32), np.array([0, -np.inf, 0], np.float32)


@pytest.mark.parametrize(
    ("space", "shown", "complaint"),
    [
        (VECTOR, NAN, "a NaN observation"),
        (VECTOR, INFINITE, "an infinite observation"),
        (spaces.Box(-1, 1, (3,), np.float64), np.array([0, 1e300, 0]), "an infinite observation"),
        (VECTOR, np.zeros(4, np.float32), r"an observation of shape \[4\]; its space has \[3\]"),
        (VECTOR, None, r"an observation of shape \[\]"),
        (VECTOR, [[1], [2, 3], [4]], "rows of several lengths for an observation"),
        (spaces.Discrete(5), 5, "observation 5, not from 0 to 4"),
        (spaces.Discrete(5), -1, "observation -1, not from 0 to 4"),
        (spaces.Discrete(5), 1.5, "an observation of float64 that its space's int64 cannot hold"),
        (IMAGE, np.full((24, 24, 3), 0.5), "an observation of float64 that"),
        (BYTES, np.full(4, 256), "an observation of int64 that its space's uint8"),
    ],
)
@pytest.mark.parametrize("when", [0, 1, 3])  # at the reset, in the game, as the final observation
def test_observations_that_the_environment_cannot_mean(
    space: gymnasium.Space[Any], shown: Any, complaint: str, when: int
) -> None:
    zeros = np.zeros(space.shape or (), space.dtype)
    envs = told(space, [shown if t == when else zeros for t in range(4)], [0.0] * 3)
    with pytest.raises(EnvironmentFault, match=rf"the environment returned {complaint}.*agent 1"):
        play_an_episode(envs)


@pytest.mark.parametrize(
    ("reward", "complaint"),
    [
        (float("nan"), "a NaN reward"),
        (float("inf"), "an infinite reward"),
        (np.float64(-np.inf), "an infinite reward"),
        (1e300, "an infinite reward"),
        ("one", "the reward 'one'; expected a number"),
        ("1", "the reward '1'; expected a number"),
        (None, "the reward None; expected a number"),
        (np.zeros(2), "the reward array.*; expected a number"),
    ],
)
def test_rewards_that_the_environment_cannot_mean(reward: Any, complaint: str) -> None:
    envs = told(VECTOR, FOUR, [1.0, reward, 1.0])
    envs.reset(0)
    assert envs.step(np.zeros(2, int)).rewards.tolist() == [0, 1]
    with pytest.raises(EnvironmentFault, match=rf"the environment returned {complaint}.*agent 1"):
        envs.step(np.zeros(2, int))


@pytest.mark.parametrize(
    ("ends", "complaint"),
    [
        (("no", False), "'no' for an end; expected True or False"),
        ((False, None), "None for an end; expected True or False"),
        ((2, False), "2 for an end; expected True or False"),
        (
            (np.array([False, True]), False),
            r"array\(\[False,  True\]\) for an end; expected True or",
        ),
        ((False,), "4 values for a step; expected 5"),  # as Gym's environments had it
    ],
)
def test_ends_that_the_environment_cannot_mean(ends: tuple[Any, ...], complaint: str) -> None:
    envs = told(VECTOR, FOUR, [1.0] * 3)
    envs.reset(0)
    envs.envs[1].step = lambda _: (FOUR[1], 1.0, *ends, {})  # type: ignore[assignment, method-assign]
    with pytest.raises(EnvironmentFault, match=rf"the environment returned {complaint}.*agent 1"):
        envs.step(np.zeros(2, int))


class Older(SameArray):
    """What environments of Gym's older interface have in another way, one by one."""

    def __init__(self, differs: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.differs = differs

    def reset(self, *, seed: int | None = None, **kwargs: Any) -> Any:
        if self.differs == "own fault":
            raise ValueError("as if by accident")
        if self.differs == "own use of Gymnasium":
            self.get_wrapper_attr("as_if_by_accident")
        observation, info = super().reset(seed=seed)
        if self.differs == "list":
            return [observation, info]
        return observation if self.differs == "reset" else (observation, info)

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        older = observation, reward, terminated or truncated, info
        whole = observation, reward, terminated, truncated, info
        longer = *whole, "more"
        return {"step": older, "nothing": None, "more": longer}.get(self.differs, whole)


class Unseeded(SameArray):
    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


def begun(envs: GymnasiumEnvs) -> None:
    """A first step."""
    envs.reset(0)
    envs.step(np.zeros(1, int))


@pytest.mark.filterwarnings("ignore")  # Gymnasium says them as well
@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize(
    ("differs", "complaint"),
    [
        ("step", "(not enough values .*; expected observation, rewa|returned 4 values for a step)"),
        ("nothing", "(NoneType.*; expected observation, rewa|returned None for a step)"),
        ("more", "(; expected observation, rewa|returned 6 values for a step)"),
        ("reset", "returned ndarray for a reset; expected a tuple of observation and info"),
        ("seed", r"interface \(.*unexpected keyword argument 'seed'\); expected observation and"),
    ],
)
def test_an_environment_of_gyms_older_interface_is_one_line(
    differs: str, complaint: str, limit: int | None, checked: bool
) -> None:
    """Whichever of Gymnasium's wrappers, or we, meet its answer first."""
    kind: Any = Unseeded if differs == "seed" else Older
    words = {} if differs == "seed" else {"differs": differs}
    gymnasium.register(
        "Older-v0", kind, kwargs=words, max_episode_steps=limit, disable_env_checker=not checked
    )
    try:
        envs = GymnasiumEnvs("Older-v0", 1)
        with pytest.raises(EnvironmentFault, match=f"{complaint}.*agent 0"):
            begun(envs)
    finally:
        gymnasium.registry.pop("Older-v0")


@pytest.mark.filterwarnings("ignore")
def test_a_reset_may_answer_by_a_list() -> None:
    kind: Any = Older
    gymnasium.register("Older-v0", kind, kwargs={"differs": "list"})
    try:
        assert GymnasiumEnvs("Older-v0", 1).reset(0).tolist() == [[0]]
    finally:
        gymnasium.registry.pop("Older-v0")


@pytest.mark.parametrize(
    ("differs", "kind"),
    [("own fault", ValueError), ("own use of Gymnasium", AttributeError)],
)
def test_a_fault_of_the_environment_keeps_its_traceback(
    differs: str, kind: type[Exception]
) -> None:
    creator: Any = Older
    gymnasium.register("Older-v0", creator, kwargs={"differs": differs})
    try:
        with pytest.raises(kind, match=r"as.if.by.accident"):
            GymnasiumEnvs("Older-v0", 1).reset(0)
    finally:
        gymnasium.registry.pop("Older-v0")


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (type("NoSpaces", (gymnasium.Env,), {}), "must specify an action space"),
        (object, "must inherit from the gymnasium.Env class"),
    ],
)
def test_what_is_no_environment_cannot_be_made(kind: Any, complaint: str) -> None:
    gymnasium.register("None-v0", kind)
    try:
        with pytest.raises(InputError, match=f"None-v0 cannot be made: .*{complaint}"):
            GymnasiumEnvs("None-v0", 1)
    finally:
        gymnasium.registry.pop("None-v0")


@pytest.mark.parametrize("end", [True, 1, np.True_, np.array(True), np.int64(1), 1.0])
def test_other_ways_to_say_that_an_episode_ended(end: Any) -> None:
    envs = told(VECTOR, FOUR, [1.0] * 3)
    envs.reset(0)
    envs.envs[1].step = lambda _: (FOUR[1], 1.0, end, False, {})  # type: ignore[assignment, method-assign]
    assert envs.step(np.zeros(2, int)).terminated.tolist() == [False, True]


def test_large_rewards_are_rewards() -> None:
    envs = told(VECTOR, FOUR, [1e30, -1e30, 1.0])  # whose squares are infinite
    envs.reset(0)
    assert envs.step(np.zeros(2, int)).rewards.tolist() == [0, pytest.approx(1e30)]


def test_lists_and_other_floats_are_observations() -> None:
    envs = told(VECTOR, [[0, 1, 0.5], np.array([0.25, 0, 0]), *FOUR[2:]], [1, np.int64(2), True])
    assert envs.reset(0).tolist() == [[0, 0, 0], [0, 1, 0.5]]
    step = envs.step(np.zeros(2, int))
    assert step.observations.tolist() == [[0, 0, 0], [0.25, 0, 0]]
    assert step.rewards.dtype == np.float32


def test_all_are_closed_also_where_one_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    def close(env: SameArray) -> None:
        closed.append(env)
        raise RuntimeError(f"number {len(closed)}")

    monkeypatch.setattr(SameArray, "close", close, raising=False)
    games = GameEnvs([GymnasiumEnvs("SameArray-v0", 1) for _ in range(3)])
    for envs in (GymnasiumEnvs("SameArray-v0", 3), games):
        closed.clear()
        with pytest.raises(RuntimeError, match="number"):
            envs.close()
        assert len(closed) == 3


def failing(error: Exception) -> str:
    """The id of an environment that cannot be made."""

    def make(**kwargs: Any) -> gymnasium.Env[Any, Any]:
        raise error

    gymnasium.registry.pop("Failing-v0", None)
    gymnasium.register("Failing-v0", make)
    return "Failing-v0"


def test_what_is_missing_for_an_environment_is_one_line() -> None:
    missing = gymnasium.error.DependencyNotInstalled("it needs\n  a thing")
    with pytest.raises(InputError, match=r"^Failing-v0 cannot be made: it needs a thing$"):
        GymnasiumEnvs(failing(missing), 1)
    with pytest.raises(InputError, match=r"^Failing-v0 cannot be made: No module named 'it'$"):
        GymnasiumEnvs(failing(ModuleNotFoundError("No module named 'it'", name="it")), 1)


def test_an_error_in_the_users_code_keeps_its_traceback() -> None:
    for error in (ZeroDivisionError("by mine"), TypeError("of mine"), ValueError("mine")):
        with pytest.raises(type(error), match="mine"):  # a TypeError Gymnasium raises anew
            GymnasiumEnvs(failing(error), 1)


def test_spaces_that_differ_each_time() -> None:
    with pytest.raises(InputError, match="OtherSpaces-v0 has observation_space Discrete"):
        GymnasiumEnvs("OtherSpaces-v0", 2)


def test_faults_go_between_processes_whole() -> None:
    fault = EnvironmentFault("the environment returned a NaN reward", "agent 3")
    unreadable = Unreadable("a NaN reward", 3)
    for error in (fault, unreadable):
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), vars(again)) == (str(error), vars(error))
    assert str(fault) == "the environment returned a NaN reward (agent 3)"
