"""Space: what a checkpoint keeps of a Gymnasium space, so that the file alone tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Bounds = tuple[float | None, ...]  # one for all elements, or one each in C order; None: no bound


@dataclass(frozen=True)
class Space:
    """A Discrete space, whose bounds are its first and its last value, or a Box."""

    discrete: bool
    shape: tuple[int, ...]  # () of Discrete
    dtype: str
    low: Bounds
    high: Bounds

    def __post_init__(self) -> None:
        """Lists become tuples: in a checkpoint the fields are JSON."""
        for name in ("shape", "low", "high"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def __str__(self) -> str:
        """Short, as Gymnasium shows it: of bounds the least and the greatest."""
        if self.discrete:
            return f"Discrete({self.size}, start={self.start})"
        low, high = self.bounds()
        return f"Box({low.min():g}, {high.max():g}, {self.shape}, {self.dtype})"

    @property
    def start(self) -> int:
        """The first value of a Discrete space."""
        assert self.low[0] is not None
        return int(self.low[0])

    @property
    def size(self) -> int:
        """Number of values of a Discrete space, of elements of a Box."""
        if not self.discrete:
            return int(np.prod(self.shape))
        assert self.high[0] is not None
        return int(self.high[0]) - self.start + 1

    def bounds(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Low and high, each of the space's shape and dtype; infinite where there is no bound."""
        return self._array(self.low, -np.inf), self._array(self.high, np.inf)

    def _array(self, bounds: Bounds, without: float) -> NDArray[Any]:
        values = [without if bound is None else bound for bound in bounds]
        count = int(np.prod(self.shape))
        return np.array(values * (count if len(values) == 1 else 1), self.dtype).reshape(self.shape)


def space_of(space: spaces.Discrete | spaces.Box) -> Space:
    """What is kept of a Gymnasium space."""
    if isinstance(space, spaces.Discrete):
        first, last = int(space.start), int(space.start) + int(space.n) - 1
        return Space(True, (), str(space.dtype), (first,), (last,))
    return Space(False, space.shape, str(space.dtype), stored(space.low), stored(space.high))


def stored(bounds: NDArray[Any]) -> Bounds:
    """A Box's bounds as JSON can hold them."""
    values = [value if np.isfinite(value) else None for value in bounds.ravel().tolist()]
    return tuple(values[:1] if len(set(values)) == 1 else values)
