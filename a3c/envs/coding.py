"""Coding: between an environment's language and the network's, for training and for Policy alike.

The network reads uint8 images [N, H, W, C] or float32 vectors [N, D], and chooses int64 actions [N]
from 0 on or unbounded float32 actions [N, A].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from a3c.envs.protocol import Array, Spec
from a3c.envs.spaces import Space
from a3c.errors import InputError

# Integers whose bounds are further apart are not scaled: such bounds are those of the type, which
# say nothing of the values.
UNBOUNDED = 2.0**31 - 1


class Unreadable(ValueError):
    """Values that no environment of the Spec gives, or that nothing can be learned from."""

    def __init__(self, what: str, agent: int):
        super().__init__(f"{what} (agent {agent})")
        self.what, self.agent = what, agent

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes: Exception would hand on its text alone."""
        return type(self), (self.what, self.agent)


class Coding:
    """Encodes the observations and decodes the actions of the environments of a Spec."""

    def __init__(self, spec: Spec):
        self.spec = spec
        self.observations = spec.observations or network_observations(spec)
        self.actions = spec.actions or network_actions(spec)
        self.bounds = self.actions.bounds()
        self.scaling = scaling(self.observations)
        self.dtype = np.dtype(self.observations.dtype)

    def encode(self, observations: Array) -> Array:
        """The environment's observations [N, ...], in its own shape, as the network reads them.

        Discrete ones become one-hot, integers 0 to 1 by their bounds; other numbers stay. Raises
        Unreadable for NaN, infinity, and what a Discrete space or a pixel does not have.
        """
        if self.observations.discrete:
            return self._one_hot(observations)
        if self.spec.pixels:
            return self._images(observations)
        if observations.dtype != self.dtype and self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            check_range(observations, limits.min, limits.max)
        vectors = observations.reshape(len(observations), -1)
        if self.scaling is not None:
            offset, width = self.scaling
            vectors = (vectors - offset) / width
        vectors = to_float32(vectors)  # [N, D]
        check_finite(vectors, "observation")
        return vectors

    def decode(self, actions: Array) -> Array:
        """The network's choices as the environment takes them, clipped to the space's bounds."""
        space = self.actions
        if space.discrete:
            return (actions + space.start).astype(space.dtype)
        shaped = actions.reshape(len(actions), *space.shape)
        return np.clip(shaped, *self.bounds).astype(space.dtype)

    def batch(self, observations: Any) -> tuple[Array, bool]:
        """Anything like the environment's observations as an array [N, ...], and if it was one.

        Raises InputError for another shape or kind of numbers.
        """
        array = numbers(observations, self.dtype, whole=not self.spec.pixels)
        shape = self.observations.shape
        if self.spec.stacked and array.shape[-3:] == (shape[2], *shape[:2]):
            array = np.moveaxis(array, -3, -1)  # stacks of frames come first or last
        single = array.shape == shape
        if single:
            array = array[None]
        if array.shape[1:] != shape or not len(array):
            one = "one number" if shape == () else list(shape)
            expected = ", ".join(["N", *map(str, shape)])
            given = list(array.shape) if array.ndim else "one number"
            raise InputError(f"observations are {given}; expected [{expected}], or {one}")
        return array, single

    def _one_hot(self, observations: Array) -> Array:
        space = self.observations
        index = observations.astype(np.int64) - space.start  # [N]
        check_range(observations, space.start, space.start + space.size - 1)
        vectors = np.zeros((len(index), space.size), np.float32)
        vectors[np.arange(len(index)), index] = 1
        return vectors

    def _images(self, images: Array) -> Array:
        """As [N, H, W, C] uint8."""
        if images.dtype != np.uint8:
            check_range(images, 0, 255)
            images = images.astype(np.uint8)
        if images.ndim == 3:
            return images[..., None]
        if images.shape[1:] != self.spec.observation_shape:  # [N, C, H, W]
            images = np.moveaxis(images, 1, -1)
        return np.ascontiguousarray(images)


def network_observations(spec: Spec) -> Space:
    """Images or vectors as the network reads them."""
    if spec.pixels:
        return Space(False, spec.observation_shape, "uint8", (0,), (255,))
    return Space(False, spec.observation_shape, "float32", (None,), (None,))


def network_actions(spec: Spec) -> Space:
    """Actions as the network chooses them."""
    if spec.discrete:
        return Space(True, (), "int64", (0,), (spec.num_actions - 1,))
    return Space(False, (spec.num_actions,), "float32", (None,), (None,))


def scaling(space: Space) -> tuple[Array, Array] | None:
    """Offset and width [D] float64 by which integers become 0 to 1; None for other numbers."""
    if np.dtype(space.dtype).kind not in "iub":
        return None
    low, high = (bound.ravel().astype(np.float64) for bound in space.bounds())
    bounded = (high > low) & (high - low < UNBOUNDED)
    return np.where(bounded, low, 0.0), np.where(bounded, high - low, 1.0)


def same_reading(one: Space, other: Space) -> bool:
    """Whether a network reads the same of equal observations: bounds of floats do not matter."""
    if (one.discrete, one.shape) != (other.discrete, other.shape) or one.discrete:
        return one.discrete and other.discrete
    first, second = scaling(one), scaling(other)
    if first is None or second is None:
        return first is second
    return all(map(np.array_equal, first, second))


def numbers(observations: Any, dtype: np.dtype[Any], whole: bool) -> Array:
    """As an array. Raises InputError if they cannot be read as `dtype`.

    whole: whether floats may be the integers that they are equal to, as environments give them.
    """
    try:
        array = np.asarray(observations)
    except (ValueError, TypeError, RuntimeError):
        # Rows of different lengths, the pair that reset() returns, a tensor of autograd or a GPU
        array = np.array(None)
    if array.dtype == object:
        kind = type(observations).__name__
        raise InputError(f"observations are a {kind}; expected one array of {dtype}")
    if whole and dtype.kind in "iub" and array.dtype.kind == "f" and fits(array, dtype):
        return array.astype(dtype)
    if array.dtype.kind not in ("iub" if dtype.kind in "iub" else "iubf"):
        raise InputError(f"observations are {array.dtype}; expected {dtype}")
    return array


def fits(array: Array, dtype: np.dtype[Any]) -> bool:
    """Whether a space's dtype can hold these values; floats may be rounded to others."""
    if np.can_cast(array.dtype, dtype, "same_kind" if dtype.kind == "f" else "safe"):
        return True
    with np.errstate(invalid="ignore"):  # NaN is no integer, and what becomes of it is not equal
        return array.dtype.kind in "iubf" and bool((array.astype(dtype) == array).all())


def to_float32(values: Array) -> Array:
    """A copy; what is too large becomes infinite, without NumPy's warning."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def check_range(values: Array, low: int, high: int) -> None:
    """Raise Unreadable if a value [N, ...] is not from `low` to `high`."""
    outside = (values < low) | (values > high)
    if outside.any():
        agent = int(np.argwhere(outside)[0][0])
        value = values[outside].flat[0]
        raise Unreadable(f"observation {value}, not from {low} to {high}", agent)


def check_finite(values: Array, what: str) -> None:
    """Raise Unreadable if a value [N, ...] is NaN or infinite."""
    if np.isfinite(np.vdot(values, values)):  # half the cost; an overflow only leads on
        return
    finite = np.isfinite(values)
    if not finite.all():
        agent = int(np.argwhere(~finite)[0][0])
        kind = "a NaN" if np.isnan(values[agent]).any() else "an infinite"
        raise Unreadable(f"{kind} {what}", agent)
