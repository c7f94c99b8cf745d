"""Any Gymnasium environment with Box or Discrete spaces."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import Any, NoReturn, TypeGuard

import gymnasium
import numpy as np
from gymnasium import spaces

from a3c.envs import classic_control
from a3c.envs.coding import Coding, Unreadable, check_finite, fits, to_float32
from a3c.envs.protocol import (
    Array,
    EnvironmentFault,
    NumpyStep,
    Spec,
    close_all,
    closed_on_failure,
)
from a3c.envs.spaces import space_of
from a3c.errors import InputError

PICTURE_SIDE = 20  # pixels; the smallest that the network `paper` reads
MOST_CHANNELS = 16  # of an image whose channels come first
ANSWERS = 5  # of a step: observation, reward, terminated, truncated, info
# What its wrappers raise where an environment's answers are none
COMPLAINTS = (AssertionError, AttributeError, TypeError, ValueError)
GYMNASIUMS = (
    "gymnasium.core",
    "gymnasium.wrappers.",
    "gymnasium.utils.",
    "gymnasium.envs.registration",
)
LARGEST = 1_000_000  # inputs or outputs of a layer, which has 64 times as many parameters


class GymnasiumEnvs:
    """N environments of a Gymnasium id, stepped one after another in this thread.

    Raises InputError where they cannot be made, or their spaces are not supported; `reset` and
    `step` raise EnvironmentFault for what has not the space's shape or cannot be of its dtype, is
    not finite, or no answer. Bounds scale integers and clip actions; nobody checks others. Nor does
    anybody look at the last observation of an episode that terminated: often it is why.
    """

    def __init__(self, env: str, num_envs: int):
        self.num_envs = num_envs
        self.envs = [made(env)]
        with closed_on_failure(self.envs):
            self.observation_space = self.envs[0].observation_space
            self.spec = gymnasium_spec(env, self.observation_space, self.envs[0].action_space)
            self.coding = Coding(self.spec)
            for _ in range(num_envs - 1):
                self.envs.append(made(env))
                check_alike(env, *self.envs[-2:])

    def reset(self, seed: int) -> Array:
        rows = self._rows()
        for i, env in enumerate(self.envs):
            self._put(rows, i, seeded_reset(env, seed + i, i))
        return self.encode(rows)

    def step(self, actions: Array) -> NumpyStep:
        # not SyncVectorEnv: it keeps references, and some environments write the first observation
        # of an episode into the array that was the last one of the episode before
        rows, finals = self._rows(), {}
        exact = np.zeros(self.num_envs)
        terminated, truncated, life_lost = np.zeros((3, self.num_envs), bool)
        for i, (env, action) in enumerate(zip(self.envs, self.decode(actions), strict=True)):
            observation, reward, *ends, _ = answer_to(env, action, i)
            put_reward(exact, i, reward)
            terminated[i], truncated[i] = (truth_of(end, i) for end in ends)
            if terminated[i] or truncated[i]:
                if not terminated[i]:
                    finals[i] = array_of(observation, i).copy()
                observation = first_observation(env, i)
            self._put(rows, i, observation)
        rewards = to_float32(exact)
        with blaming_the_environment():
            check_finite(rewards, "reward")
        final = self._final(rows, finals) if truncated.any() else None
        return NumpyStep(self.encode(rows), rewards, terminated, truncated, life_lost, final)

    def encode(self, observations: Array) -> Array:
        """The environments' observations [N, ...] as the network reads them."""
        with blaming_the_environment():
            return self.coding.encode(observations)

    def decode(self, actions: Array) -> Array:
        """The network's choices as the environments take them."""
        return self.coding.decode(actions)

    def save_state(self) -> dict[str, Array] | None:
        return classic_control.save(self.envs)

    def load_state(self, state: dict[str, Array]) -> None:
        classic_control.load(self.envs, state)

    def close(self) -> None:
        close_all(self.envs)

    def _rows(self) -> Array:
        """Room for N observations of the space."""
        space = self.observation_space
        return np.zeros((self.num_envs, *(space.shape or ())), space.dtype)

    def _put(self, rows: Array, agent: int, observation: Any) -> None:
        """Copy an agent's observation into its row."""
        array = array_of(observation, agent)
        if array.shape != rows.shape[1:]:
            raise EnvironmentFault(
                f"the environment returned an observation of shape {list(array.shape)}; "
                f"its space has {list(rows.shape[1:])}",
                f"agent {agent}",
            )
        if array.dtype != rows.dtype and not fits(array, rows.dtype):
            raise EnvironmentFault(
                f"the environment returned an observation of {array.dtype} that its space's "
                f"{rows.dtype} cannot hold",
                f"agent {agent}",
            )
        rows[agent] = array

    def _final(self, rows: Array, finals: dict[int, Array]) -> Array:
        """Final observations [N, ...], encoded; those of `rows` where there are none."""
        rows = rows.copy()
        for agent, observation in finals.items():
            self._put(rows, agent, observation)
        return self.encode(rows)


def made(env: str) -> gymnasium.Env[Any, Any]:
    """One environment. Raises InputError if something is missing for it, or of it."""
    try:
        return with_own_spaces(gymnasium.make(env))
    except (gymnasium.error.Error, ImportError, *COMPLAINTS) as error:
        # Gymnasium raises a creator's TypeError anew; whose it was, the first one knows
        cause = error.__cause__ if isinstance(error, TypeError) else None
        first = cause if isinstance(cause, TypeError) and cause.__traceback__ else error
        if isinstance(first, COMPLAINTS) and not is_gymnasiums(first):
            raise
        raise InputError(f"{env} cannot be made: {in_a_line(error)}") from None


def with_own_spaces(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """The environment. Where spaces are their class's, all its environments would draw from one
    generator, and each one's seed be that of the others. What has several names, or is a part of
    another space, stays one."""
    bare, copies = env.unwrapped, dict[int, Any]()
    more = [name for name, value in vars(bare).items() if isinstance(value, gymnasium.Space)]
    for name in dict.fromkeys(["observation_space", "action_space", *more]):
        with suppress(AttributeError):  # what cannot be set belongs to an instance as a rule
            setattr(bare, name, deepcopy(getattr(bare, name), copies))
    return env


def spaces_of(env: gymnasium.Env[Any, Any]) -> list[gymnasium.Space[Any]]:
    """The spaces of an environment and of its wrappers, each of them once. What a wrapper replaces
    may be missing below it."""
    layers = [env]
    while isinstance(layers[-1], gymnasium.Wrapper):
        layers.append(layers[-1].env)
    names = "observation_space", "action_space"
    found = [getattr(each, name, None) for each in layers for name in names]
    return list({id(each): each for each in found if isinstance(each, gymnasium.Space)}.values())


def seeded_reset(env: gymnasium.Env[Any, Any], seed: int, agent: int = 0) -> Any:
    """The first observation of an episode. Some environments draw from their spaces as well, which
    have seeds of their own: with the environment's they would draw the same numbers as it does."""
    for number, space in enumerate(spaces_of(env)):
        own = np.random.SeedSequence(seed, spawn_key=(number,))
        space.seed(int(own.generate_state(1)[0]))
    return first_observation(env, agent, seed=seed)


def first_observation(env: gymnasium.Env[Any, Any], agent: int, **options: Any) -> Any:
    """Of a new episode. Raises EnvironmentFault for what is no answer to a reset."""
    try:
        answer = env.reset(**options)
    except (gymnasium.error.Error, *COMPLAINTS) as error:
        raise_as_fault(error, "observation and info of a reset with a seed", agent)
    if not (isinstance(answer, tuple | list) and len(answer) == 2):
        found = f"{type(answer).__name__} for a reset"
        raise unexpected(found, "a tuple of observation and info", agent)
    return answer[0]


def answer_to(env: gymnasium.Env[Any, Any], action: Any, agent: int) -> Sequence[Any]:
    """A step's five values. Raises EnvironmentFault for what is no such answer."""
    try:
        answer = env.step(action)
    except (gymnasium.error.Error, *COMPLAINTS) as error:
        raise_as_fault(error, "observation, reward, terminated, truncated, info of a step", agent)
    if not isinstance(answer, tuple | list):
        raise unexpected(f"{answer!r} for a step", f"{ANSWERS} values", agent)
    if len(answer) != ANSWERS:
        raise unexpected(f"{len(answer)} values for a step", str(ANSWERS), agent)
    return answer


def raise_as_fault(error: Exception, expected: str, agent: int) -> NoReturn:
    """An EnvironmentFault, where the wrappers that Gymnasium puts around an environment cannot use
    what it returned: of Gym's older interface four values a step. Else the error itself."""
    if not is_gymnasiums(error):
        raise error
    what = f"the environment does not keep to Gymnasium's interface ({in_a_line(error)})"
    raise EnvironmentFault(f"{what}; expected {expected}", f"agent {agent}") from None


def is_gymnasiums(error: Exception) -> bool:
    """Whether only Gymnasium's own wrappers were at work, and nothing of the environment's, be it
    with Gymnasium's help."""
    _, *frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))  # the first is ours
    return all(str(frame.f_globals["__name__"]).startswith(GYMNASIUMS) for frame in frames)


def in_a_line(error: Exception) -> str:
    """Its words, or its name if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def check_alike(env: str, one: gymnasium.Env[Any, Any], other: gymnasium.Env[Any, Any]) -> None:
    """Raise InputError if two environments of one id have other spaces."""
    for name in ("observation_space", "action_space"):
        before, after = getattr(one, name), getattr(other, name)
        if before != after:
            raise InputError(f"{env} has {name} {before}, then {after}; expected one space")


def unexpected(found: str, expected: str, agent: int) -> EnvironmentFault:
    """What to raise for an answer that is none."""
    return EnvironmentFault(
        f"the environment returned {found}; expected {expected}", f"agent {agent}"
    )


def put_reward(rewards: Array, agent: int, reward: Any) -> None:
    """Write an agent's reward."""
    try:
        if reward is None or isinstance(reward, str):  # of which NumPy would make numbers
            raise TypeError
        rewards[agent] = reward
    except (TypeError, ValueError):
        raise unexpected(f"the reward {reward!r}", "a number", agent) from None


def truth_of(end: Any, agent: int) -> bool:
    """Whether an episode ended; also of 0 and 1, but `None` and words would be something else."""
    if end is True or end is False:  # nearly always
        return end
    number = isinstance(end, int | float | np.bool_ | np.number | np.ndarray) and not np.ndim(end)
    if not number or end not in (0, 1):
        raise unexpected(f"{end!r} for an end", "True or False", agent)
    return bool(end)


def array_of(observation: Any, agent: int) -> Array:
    try:
        return np.asarray(observation)
    except ValueError:
        raise unexpected("rows of several lengths for an observation", "an array", agent) from None


@contextmanager
def blaming_the_environment() -> Iterator[None]:
    """An Unreadable as the environment's fault."""
    try:
        yield
    except Unreadable as error:
        what = f"the environment returned {error.what}"
        raise EnvironmentFault(what, f"agent {error.agent}") from None


def gymnasium_spec(
    env: str, observations: gymnasium.Space[Any], actions: gymnasium.Space[Any]
) -> Spec:
    """The Spec of an environment's spaces. Raises InputError where they are not supported."""
    floats = isinstance(actions, spaces.Box) and np.issubdtype(actions.dtype, np.floating)
    if not (floats or isinstance(actions, spaces.Discrete)):
        raise InputError(
            f"{env} takes actions {actions}; expected Discrete or a Box of floats, as "
            "gymnasium.wrappers.TransformAction makes one"
        )
    if not isinstance(observations, spaces.Discrete | spaces.Box):
        raise InputError(
            f"{env} gives observations {observations}; expected Discrete or Box, as "
            "gymnasium.wrappers.FlattenObservation makes one"
        )
    assert isinstance(actions, spaces.Discrete | spaces.Box)
    seen, taken = space_of(observations), space_of(actions)
    check_size(env, "actions", taken.size)
    if is_picture(observations):
        pixels, shape = True, image_shape(env, observations)
    else:
        check_size(env, "observations", seen.size)
        pixels, shape = False, (seen.size,)
    return Spec(
        shape,
        pixels,
        stacked=False,
        discrete=taken.discrete,
        num_actions=taken.size,
        observations=seen,
        actions=taken,
    )


def check_size(env: str, what: str, size: int) -> None:
    """Raise InputError if a network's layer cannot have so many inputs or outputs."""
    if not 1 <= size <= LARGEST:
        raise InputError(f"{env} has {what} of size {size:,}; expected 1 to {LARGEST:,}")


def is_picture(box: gymnasium.Space[Any]) -> TypeGuard[spaces.Box[Any]]:
    """Whether the numbers lie in a plane, as pixels do. Small or unbounded ones make a vector, but
    not bytes in three dimensions, which are pixels in any size."""
    if not isinstance(box, spaces.Box) or 0 in box.shape:
        return False
    sides = sum(side >= PICTURE_SIDE for side in box.shape)
    if box.dtype == np.uint8:
        return len(box.shape) > 2 or sides == 2
    if sides < 2 or not box.is_bounded():
        return False
    # a plane of other numbers is as likely a window of a time series
    return len(box.shape) > 2 or (not box.low.any() and box.high.max() in (1, 255))


def image_shape(env: str, box: spaces.Box[Any]) -> tuple[int, ...]:
    """[height, width, channels] of images. Raises InputError if they are not of whole bytes."""
    shape = box.shape
    low, high = box.low.min(), box.high.max()
    if not (np.issubdtype(box.dtype, np.integer) and low == 0 and high == 255):
        raise InputError(
            f"{env} gives images of {box.dtype} from {low:g} to {high:g}; expected uint8, 0 to "
            "255, or a vector, as gymnasium.wrappers.FlattenObservation makes one"
        )
    if len(shape) == 2:
        return (*shape, 1)
    if len(shape) > 3:
        raise InputError(
            f"{env} gives images of shape {list(shape)}; expected [height, width, channels]: "
            "the frames of a stack are channels"
        )
    if shape[0] < min(shape[1:]) and shape[0] <= MOST_CHANNELS:
        return (*shape[1:], shape[0])
    return shape
