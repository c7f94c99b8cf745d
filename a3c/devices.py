"""Which device to compute on, in which precision, and the ways to it and back.

A thread that trains waits for its device in `wait` and nowhere else: at most once for each agent
step, when actions come down, and once for each rollout, when the figures of its updates do; and in
`ToDevice.send`, should both its buffers be still on their way. A test counts. (`synchronise` is for
set-up and checkpoints.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from a3c.config import Config
from a3c.errors import InputError


def pick_device(name: str) -> torch.device:
    """The first of `pick_devices`."""
    return pick_devices(name)[0]


def pick_devices(name: str) -> list[torch.device]:
    """auto: all CUDA devices, else the CPU; cuda: all; cuda:0,cuda:2: those, in that order.

    Raises InputError for one that is not there.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return [torch.device("cpu")]
    found = re.fullmatch("auto|cuda|cuda:[0-9]+(,cuda:[0-9]+)*", name)
    if found is None:
        raise InputError(f"--device is {name!r}; expected auto, cpu, cuda, cuda:0 or cuda:0,cuda:1")
    if not torch.cuda.is_available():
        raise InputError(f"--device is {name!r}, but torch finds no CUDA device; try --device cpu")
    there = torch.cuda.device_count()
    named = [int(index) for index in re.findall("[0-9]+", name)] or list(range(there))
    if len(set(named)) < len(named):
        raise InputError(f"--device is {name!r}; expected each device once")
    if max(named) >= there:
        last = f" to cuda:{there - 1}" if there > 1 else ""
        raise InputError(f"--device is {name!r}; expected cuda:0{last}")
    return [torch.device("cuda", index) for index in named]


def pick_precision(config: Config, device: torch.device) -> torch.dtype:
    """The torso's arithmetic. bfloat16 where the hardware multiplies it, else it is slower."""
    if config.precision != "auto":
        return getattr(torch, config.precision)
    return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether it does so itself: a GPU from Ampere on, a processor with AMX or AVX512-BF16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return cpu_multiplies_bfloat16()


def without_tf32() -> None:
    """In this process float32 is float32, in convolutions on a GPU as well.

    cuDNN would round what it multiplies to a mantissa of 10 bits.
    """
    torch.backends.cudnn.allow_tf32 = False


def cpu_multiplies_bfloat16() -> bool:
    """AMX or AVX512-BF16. (Not public in torch 2.11, which has no `get_capabilities`.)"""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@contextmanager
def room_for(config: Config, device: torch.device) -> Iterator[None]:
    """Out of a GPU's memory is an InputError: for while threads and CUDA graphs are made."""
    try:
        yield
    except RuntimeError as error:  # CUDA, cuBLAS and cuDNN have each a kind of their own
        if device.type != "cuda" or not re.search("out of memory|ALLOC_FAILED", str(error)):
            raise
        raise InputError(
            f"{config.num_threads:,} x {config.num_envs:,} agents of {config.env} do not fit "
            f"into the memory of {device}; expected fewer (--num-envs)"
        ) from None


def wait(event: torch.cuda.Event | None) -> None:
    """Wait for the device to come to `event`; None is no event, and no wait."""
    if event is not None:
        event.synchronize()


class ToHost:
    """A tensor on its way to the host. The device goes on meanwhile; `read` waits for the arrival.

    On the CPU it is there at once, in the tensor's own memory.
    """

    def __init__(self, tensor: Tensor):
        self.arriving, self.event = tensor, None
        if tensor.is_cuda:
            self.arriving = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self.arriving.copy_(tensor, non_blocking=True)
            self.event = torch.cuda.current_stream(tensor.device).record_event()

    def read(self) -> NDArray[Any]:
        """The array, once it is there."""
        wait(self.event)
        return self.arriving.numpy()


class ToDevice:
    """The way of arrays of one shape and type to a device: pinned memory, and nearly never a wait.

    Two buffers take turns, so that the host can fill one while the other is still being copied. It
    waits where both are.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.buffers: list[tuple[Tensor, torch.cuda.Event]] = []

    def send(self, array: NDArray[Any], into: Tensor | None = None) -> Tensor:
        """The array on the device: in `into`, or in new memory. On the CPU it is its own memory."""
        tensor = torch.from_numpy(array)
        if self.device.type == "cpu":
            return tensor
        if len(self.buffers) < 2:
            self.buffers.append((torch.empty_like(tensor, pin_memory=True), torch.cuda.Event()))
        else:
            self.buffers.reverse()
            if not self.buffers[-1][1].query():
                wait(self.buffers[-1][1])
        buffer, event = self.buffers[-1]
        buffer.copy_(tensor)
        sent = torch.empty_like(tensor, device=self.device) if into is None else into
        sent.copy_(buffer, non_blocking=True)
        event.record(torch.cuda.current_stream(self.device))
        return sent


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device; if it comes from another one their streams wait, not the host."""
    return tensor if tensor.device == device else tensor.to(device, non_blocking=True)


def synchronise(devices: Sequence[torch.device]) -> None:
    """Wait for all streams of all devices: setting up and copying out use another than the threads.

    At each checkpoint, and where CUDA graphs are recorded, before and after.
    """
    for device in devices:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
