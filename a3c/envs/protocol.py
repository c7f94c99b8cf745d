"""The environments' protocol: what the learner needs of N agents' environments, and no more.

Agents whose episode ends are reset in the same call: `step` returns the first observation of the
next episode, and the last one of the ended episode apart from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray
from torch import Tensor

from a3c.envs.spaces import Space
from a3c.graphs import Graphs

Array = NDArray[Any]


@dataclass(frozen=True)
class Spec:
    """What a network must know about an environment."""

    observation_shape: tuple[int, ...]  # [H, W, C] of pixels, [D] of vectors
    pixels: bool
    stacked: bool  # of C frames; NumPy environments may send the newest [H, W] alone
    discrete: bool
    num_actions: int  # of Discrete actions; or the size of continuous ones
    # What the environment gives and takes. None: the network's observations and choices as they
    # are, as for Atari, and in checkpoints made before these fields.
    observations: Space | None = None
    actions: Space | None = None

    def __post_init__(self) -> None:
        """Dictionaries become spaces: in a checkpoint the fields are JSON."""
        for name in ("observations", "actions"):
            value = getattr(self, name)
            if isinstance(value, dict):
                object.__setattr__(self, name, Space(**value))


class AgentBytes(NamedTuple):
    """What the host keeps for each agent, besides what the network reads."""

    alive: int
    saved: int  # of the exact state, in a checkpoint
    alone: int = 0  # besides, where it has an environment of its own


class EnvironmentFault(RuntimeError):
    """An environment returned what nothing can be learned from, such as a NaN reward.

    Says what, and where: in which agent's environment, or in which game.
    """

    def __init__(self, what: str, where: str = ""):
        super().__init__(f"{what} ({where})" if where else what)
        self.what, self.where = what, where

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes: Exception would hand on its text alone."""
        return type(self), (self.what, self.where)


def other_version(found: str) -> EnvironmentFault:
    """What to raise for saved games that another version of the environment has left."""
    return EnvironmentFault(
        f"its saved games are of another version ({found}); --from begins a new run with the "
        "parameters"
    )


class NumpyStep(NamedTuple):
    """One agent step of N agents, as NumPy environments answer it."""

    observations: Array  # [N, ...], of the next episode where one ended
    rewards: Array  # [N] float32, unclipped
    terminated: Array  # [N] bool
    truncated: Array  # [N] bool
    life_lost: Array  # [N] bool; a life lost in a game that goes on
    # [N, ...]; valid where truncated and not terminated at least, as nobody learns from others';
    # may be None if no episode was truncated
    final_observations: Array | None


class NumpyEnvs(Protocol):
    """N environments in the host's memory; `OnDevice` makes Envs of them.

    `reset` and `step` raise EnvironmentFault for what nothing can be learned from, `load_state` for
    what another version has saved.
    """

    @property
    def num_envs(self) -> int:
        """N."""

    @property
    def spec(self) -> Spec:
        """What a network must know of them."""

    def reset(self, seed: int) -> Array:
        """Start N new episodes; returns the observations [N, ...]."""

    def step(self, actions: Array) -> NumpyStep:
        """One action for each agent: [N] int64, or [N, A] float32 not yet clipped."""

    def save_state(self) -> dict[str, Array] | None:
        """The exact state of all environments as named arrays, or None if it cannot be had."""

    def load_state(self, state: dict[str, Array]) -> None:
        """Go on from what `save_state` returned; where that was of fewer environments, of which N
        is a multiple, with copies of them: 0, 1, 2, 0, 1, 2."""

    def close(self) -> None:
        """Free what the environments hold."""


class Step(NamedTuple):
    """One agent step of N agents: tensors on the environments' device.

    Observations may lie in the same memory at every step; the others are new.
    """

    observations: Tensor  # [N, ...], of the next episode where one ended
    rewards: Tensor  # [N] float32, unclipped
    terminated: Tensor  # [N] bool
    truncated: Tensor  # [N] bool
    ended: Tensor  # [N] bool: one of the two
    life_lost: Tensor  # [N] bool; a life lost in a game that goes on
    final_observations: Tensor | None  # as of NumpyStep


class Envs(Protocol):
    """N environments of one thread. Every method is called from one thread at a time; they raise
    EnvironmentFault as NumpyEnvs do."""

    @property
    def num_envs(self) -> int:
        """N."""

    @property
    def spec(self) -> Spec:
        """What a network must know of them."""

    def reset(self, seed: int) -> Tensor:
        """Start N new episodes; returns the observations [N, ...]."""

    def record(self, graphs: Graphs) -> None:
        """Record what a step computes on CUDA, if it is to be a CUDA graph; after `reset`."""

    def step(self, actions: Tensor) -> Step:
        """One action for each agent: [N] int64, or [N, A] float32 not yet clipped.

        Waits for the device once at most: where the environments need the actions on the host.
        """

    def save_state(self) -> dict[str, Array] | None:
        """The exact state of all environments as named arrays, or None if it cannot be had."""

    def load_state(self, state: dict[str, Array], observations: Tensor) -> None:
        """Go on from what `save_state` returned, and from what the agents saw then."""

    def close(self) -> None:
        """Free what the environments hold."""


class Closable(Protocol):
    """What holds something until it is closed: environments may have threads and programs."""

    def close(self) -> Any:
        """Free it."""


@contextmanager
def closed_on_failure(made: Sequence[Closable]) -> Iterator[None]:
    """Close what is in `made` by then, where what needs it cannot be made: else a thread of an
    environment keeps the process alive. The failure is told, whatever closing says."""
    try:
        yield
    except Exception:
        for each in made:
            with suppress(Exception):
                each.close()
        raise


def close_all(made: Iterable[Closable]) -> None:
    """All of them, also where one raises."""
    with ExitStack() as stack:
        for each in made:
            stack.callback(each.close)
