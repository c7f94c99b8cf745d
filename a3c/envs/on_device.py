"""OnDevice: NumPy environments as tensors on a device, their frames stacked there.

Up go rewards and ends in one array, and whole observations or the newest frames; down come the
actions. What the agents see lies in the same memory at every step, but for images on a CPU: those
are used where the environments write them, without a copy.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor

from a3c.devices import ToDevice, ToHost
from a3c.envs.protocol import Array, NumpyEnvs, Step
from a3c.graphs import Graphed, Graphs

ENDED = 3  # the row of an outcome [5, N]: rewards, terminated, truncated, ended, life_lost


class OnDevice:
    """Envs around NumpyEnvs."""

    def __init__(self, envs: NumpyEnvs, device: torch.device):
        self.envs, self.device = envs, device
        self.spec = envs.spec
        self.in_place = self.spec.pixels and device.type == "cpu"  # images are not copied there
        self.ways: dict[tuple[object, ...], ToDevice] = {}
        self.observations: Tensor  # [N, ...], the newest
        self.frames: Tensor | None = None  # [N, H, W], as they arrived
        self.outcome: Tensor | None = None  # [5, N], see ENDED
        self.graphed_stack = Graphed(self.stack)

    @property
    def num_envs(self) -> int:
        return self.envs.num_envs

    def reset(self, seed: int) -> Tensor:
        array = self.envs.reset(seed)
        if self._complete(array):
            seen = self._up(array)
            self.observations = seen if self.in_place else seen.clone()
        else:
            self.frames = self._up(array)
            self.observations = unpacked(newest_byte(self.frames))
        return self.observations

    def record(self, graphs: Graphs) -> None:
        if self.frames is not None:
            self.outcome = torch.zeros(5, self.num_envs, device=self.device)
            self.graphed_stack.record(graphs)

    def step(self, actions: Tensor) -> Step:
        step = self.envs.step(ToHost(actions).read())  # the wait of an agent step
        ends = step.terminated, step.truncated, step.terminated | step.truncated, step.life_lost
        self.outcome = self._up(np.stack([step.rewards, *ends], dtype=np.float32), self.outcome)
        outcome = self.outcome.clone()  # [5, N]
        terminated, truncated, ended, life_lost = outcome[1:].bool().unbind()
        final = None
        if step.truncated.any():  # known on the host: no wait
            assert step.final_observations is not None
            final = self._final(step.final_observations)
        self._take_in(step.observations)
        rewards, seen = outcome[0], self.observations
        return Step(seen, rewards, terminated, truncated, ended, life_lost, final)

    def keep(self, stays: Tensor) -> None:
        """All agents but those of the numbers `stays`, int64, have left the NumPy environments."""
        self.ways.clear()  # pinned memory for N agents, of which there will never be N again
        self.observations = self.observations[stays]

    def save_state(self) -> dict[str, Array] | None:
        return self.envs.save_state()

    def load_state(self, state: dict[str, Array], observations: Tensor) -> None:
        self.envs.load_state(state)
        self.observations = observations

    def close(self) -> None:
        self.envs.close()

    def _take_in(self, array: Array) -> None:
        """Make the observations of a step, whose outcome is there, those that the agents see."""
        # On a CPU whole images are used where they lie, vectors copied, newest frames pushed
        if not self._complete(array):
            self.frames = self._up(array, self.frames)
            self.graphed_stack()
        elif self.in_place:
            self.observations = self._up(array)
        else:
            # on a GPU it is there already; on a CPU this is the copy
            self.observations.copy_(self._up(array, self.observations))

    def stack(self) -> None:
        """Push the frames that arrived; episodes that ended start with theirs. On CUDA a CUDA
        graph."""
        assert self.frames is not None
        assert self.outcome is not None
        push(packed(self.observations), newest_byte(self.frames), self.outcome[ENDED].bool())

    def _final(self, array: Array) -> Tensor:
        """Those with which episodes ended, in memory of their own."""
        if self._complete(array):
            return self._up(array)
        words = packed(self.observations).clone()
        nobody = torch.zeros(1, dtype=torch.bool, device=self.device)
        return unpacked(push(words, newest_byte(self._up(array)), nobody))

    def _complete(self, array: Array) -> bool:
        """Whether these are whole observations, not the newest frames [N, H, W] of stacks."""
        return not self.spec.stacked or array.ndim > 3

    def _up(self, array: Array, into: Tensor | None = None) -> Tensor:
        """On a GPU in the memory of `into`, if that has its shape; on a CPU where it is."""
        kind = array.shape, array.dtype
        if kind not in self.ways:
            self.ways[kind] = ToDevice(self.device)
        fits = into is not None and into.shape == array.shape
        return self.ways[kind].send(np.ascontiguousarray(array), into if fits else None)


# A pixel's four frames are the four bytes of one int32, the newest in the highest: pushing a frame
# is a shift, five times faster than concatenation; in memory the stack is [N, H, W, 4] uint8.
# An episode starts with three black frames, as in both emulators' own stacks.
NEWEST_BYTE = 24
OLDER_BYTES = 0x00FFFFFF
if sys.byteorder != "little":
    raise ImportError("a3c stacks frames as the bytes of a word and needs a little-endian machine")


def newest_byte(frames: Tensor) -> Tensor:
    """uint8 [N, H, W] -> int32, in the newest byte."""
    newest = frames.to(torch.int32)
    newest <<= NEWEST_BYTE
    return newest


def push(stacks: Tensor, newest: Tensor, started: Tensor) -> Tensor:
    """Push the newest frame onto int32 [N, H, W], in place; it stands alone where `started`."""
    stacks >>= 8
    stacks &= torch.where(started, 0, OLDER_BYTES).to(torch.int32).view(-1, 1, 1)
    stacks |= newest  # in place: twice as fast as with memory for each result
    return stacks


def packed(stack: Tensor) -> Tensor:
    """[N, H, W, 4] uint8 -> [N, H, W] int32, the same memory."""
    return stack.view(torch.int32).squeeze(-1)


def unpacked(words: Tensor) -> Tensor:
    """[N, H, W] int32 -> [N, H, W, 4] uint8, the same memory."""
    return words.unsqueeze(-1).view(torch.uint8)
